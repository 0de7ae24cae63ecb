//! Drops partitions or chunks that are wholly past the retention of their class. `quarantine` is
//! kept as long as the raw rows of the standard class.

use super::super::error::Doing;
use super::super::level::Layout;
use super::super::ranges::{self, Range};
use super::super::tables::TableName;
use super::super::timestamp::Timestamp;
use super::super::{StoreError, classes};
use super::Round;
use dataflows::model::DAY_US;
use tokio_postgres::Error;

/// How far the machine's clock may be ahead of the newest record that is committed. Unit: microseconds.
const AHEAD_MAX_US: i64 = DAY_US;

pub(super) async fn run(round: &mut Round) -> Result<(), StoreError> {
    // A clock that is wrong must not drop what is kept; nothing is due either where nothing was ever committed.
    let sql = "SELECT max(log_time) FROM progress";
    let newest = round.client.query_one(sql, &[]).await.doing("the newest log time could not be read")?;
    let Some(newest) = newest.get::<_, Option<Timestamp>>(0) else { return Ok(()) };
    let now_us = round.now.0.min(newest.0.saturating_add(AHEAD_MAX_US));
    let limited: Vec<_> =
        classes::all(&round.classes).filter_map(|(table, class)| Some((table.table.retention_us(class)?, table))).collect();
    for (retention_us, table) in limited {
        let kept_from_us = now_us - retention_us;
        let ranges = ranges::partitions(&round.client, round.layout(), &table).await;
        for (name, range) in round.or_postpone(&table, ranges)?.unwrap_or_default() {
            if range.end_us <= kept_from_us {
                let dropped = drop(round, &table, &name, range).await;
                if round.or_postpone(&name, dropped)?.is_some() {
                    round.report.dropped.push(name);
                }
            }
        }
    }
    Ok(())
}

async fn drop(round: &mut Round, table: &TableName, name: &str, range: Range) -> Result<(), Error> {
    let layout = round.layout();
    let transaction = round.client.transaction().await?;
    transaction.batch_execute("SET LOCAL lock_timeout = '3s'").await?;
    match layout {
        Layout::Partitions => transaction.batch_execute(&format!("DROP TABLE {name}")).await?,
        Layout::Hypertables => {
            // In the order of time, so that this takes the one chunk.
            let sql = "SELECT drop_chunks($1::text::regclass, older_than => $2::timestamptz)";
            transaction.execute(sql, &[&table.as_str(), &Timestamp(range.end_us)]).await?;
        }
    }
    transaction.commit().await
}
