//! Drops partitions or chunks that are wholly past the retention of their class. `quarantine` is
//! kept as long as the raw rows of the standard class.

use super::super::level::Layout;
use super::super::ranges::{self, Range};
use super::super::tables::TableName;
use super::super::timestamp::Timestamp;
use super::super::{StoreError, classes};
use super::Round;
use tokio_postgres::Error;

pub(super) async fn run(round: &mut Round) -> Result<(), StoreError> {
    let limited: Vec<_> =
        classes::all(&round.classes).filter_map(|(table, class)| Some((table.table.retention_us(class)?, table))).collect();
    for (retention_us, table) in limited {
        let kept_from_us = round.now.0 - retention_us;
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
