//! Merges the partials of closed buckets: late data left more than one row for a bucket and series.
//!
//! Each round looks at the newest closed window, where late data mostly falls, and at one older
//! window further on, so that all of a table is looked at in turn.

use super::super::classes::Class;
use super::super::error::{Doing, StoreError};
use super::super::tables::{MERGED, Table, TableName};
use super::super::timestamp::Timestamp;
use super::super::{Level, ranges};
use super::Round;
use dataflows::model::{DAY_US, HOUR_US};
use std::ops::Range;
use tokio_postgres::{Client, Error};

/// Buckets that one transaction merges.
const BATCH_BUCKETS: i64 = 10_000;
/// Transactions for one window in one round.
const BATCHES_MAX: usize = 20;

pub(super) async fn run(round: &mut Round) -> Result<(), StoreError> {
    let closed_us = round.now.0 - open_us(&round.client).await?;
    let tables: Vec<_> = round
        .classes
        .iter()
        .flat_map(|class: &Class| Table::ROLLUPS.map(|table| (table.named(class), table.interval_us(class))))
        .collect();
    for (table, chunk_us) in tables {
        let merged = merge_table(&mut round.client, round.level, &table, closed_us, chunk_us).await;
        round.report.merged += round.or_postpone(&table, merged)?.unwrap_or(0);
    }
    Ok(())
}

/// How long behind its end a bucket is open: then nothing but late data can still come. Unit: microseconds.
pub(super) async fn open_us(client: &Client) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce((extract(epoch FROM max(lateness_horizon)) * 1000000)::int8, 0) FROM tenant";
    let horizon_us: i64 = client.query_one(sql, &[]).await.doing("the lateness horizons could not be read")?.get(0);
    Ok(2 * horizon_us + HOUR_US)
}

/// Merges all buckets of a stretch that is closed.
pub(super) async fn all_of(client: &mut Client, table: &TableName, buckets: Range<i64>) -> Result<Window, Error> {
    let mut all = Window { merged: 0, finished: true };
    let mut from_us = buckets.start;
    while all.finished && from_us < buckets.end {
        let to_us = (from_us + DAY_US).min(buckets.end);
        let window = merge_window(client, table, from_us..to_us).await?;
        all = Window { merged: all.merged + window.merged, finished: window.finished };
        from_us = to_us;
    }
    Ok(all)
}

async fn merge_table(client: &mut Client, level: Level, table: &TableName, closed_us: i64, chunk_us: i64) -> Result<u64, Error> {
    // The longest local day has 25 hours.
    let (window_us, bucket_us) = if table.table == Table::Rollup1h { (DAY_US, HOUR_US) } else { (chunk_us, 25 * HOUR_US) };
    let end_us = closed_us - bucket_us;
    let Some(first) = ranges::existing(client, level.layout(), table).await?.first().copied() else { return Ok(0) };
    let first_us = first.start_us.max(compressed_until_us(client, level, table).await?);

    let newest = merge_window(client, table, first_us.max(end_us - window_us)..end_us).await?;

    let key = format!("merged_{table}");
    let row = client.query_opt("SELECT value::bigint FROM settings WHERE key = $1", &[&key]).await?;
    let reached_us: i64 = row.map_or(first_us, |row| row.get(0));
    let from_us = if (first_us..end_us).contains(&reached_us) { reached_us } else { first_us };
    let to_us = (from_us + window_us).min(end_us);
    let older = merge_window(client, table, from_us..to_us).await?;
    let next_us = if older.finished { to_us } else { from_us };
    let sql = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    client.execute(sql, &[&key, &next_us.to_string()]).await?;
    Ok(newest.merged + older.merged)
}

/// What was done in a stretch of time.
pub(super) struct Window {
    /// Partials that are gone.
    pub(super) merged: u64,
    /// Whether no bucket has two any more.
    pub(super) finished: bool,
}

/// Replaces the partials of each bucket and series by the merged one, batch by batch. A partial that
/// is committed meanwhile is not seen, and stays beside it.
async fn merge_window(client: &mut Client, table: &TableName, buckets: Range<i64>) -> Result<Window, Error> {
    let columns = table.table.columns();
    let bucket_end = if table.table == Table::Rollup1d { ", max(bucket_end)" } else { "" };
    let sql = format!(
        "WITH doubled AS (\
             SELECT bucket AS b, series_id AS s FROM {table} WHERE bucket >= $1 AND bucket < $2 \
             GROUP BY 1, 2 HAVING count(*) > 1 LIMIT {BATCH_BUCKETS}), \
         gone AS (\
             DELETE FROM {table} USING doubled WHERE bucket = b AND series_id = s AND bucket >= $1 AND bucket < $2 \
             RETURNING {columns}), \
         merged AS (\
             INSERT INTO {table} ({columns}) SELECT {MERGED}{bucket_end} FROM gone GROUP BY bucket, series_id RETURNING 1) \
         SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM merged)"
    );
    let mut window = Window { merged: 0, finished: true };
    for _ in 0..BATCHES_MAX {
        if buckets.is_empty() {
            break;
        }
        let row = client.query_one(&sql, &[&Timestamp(buckets.start), &Timestamp(buckets.end)]).await?;
        let (gone, kept): (i64, i64) = (row.get(0), row.get(1));
        window.merged += (gone - kept).cast_unsigned();
        window.finished = kept < BATCH_BUCKETS;
        if window.finished {
            break;
        }
    }
    Ok(window)
}

/// Until when chunks are compressed, which are not merged: deleting from them decompresses.
async fn compressed_until_us(client: &Client, level: Level, table: &TableName) -> Result<i64, Error> {
    if level != Level::TimescaleCommunity {
        return Ok(i64::MIN);
    }
    let sql = "SELECT coalesce(max(range_end), '-infinity') FROM timescaledb_information.chunks \
               WHERE to_regclass(format('%I.%I', hypertable_schema, hypertable_name)) = to_regclass($1) AND is_compressed";
    Ok(client.query_one(sql, &[&table.as_str()]).await?.get::<_, Timestamp>(0).0)
}
