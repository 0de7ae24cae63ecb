//! Puts closed chunks into the columnstore, where the database has one: a while after their end
//! (`retention_class.compress_after`), when they take no more rows but late ones.
//!
//! Late rows are taken beside the columnstore and are read as ever; a few times a day they are put into it.

use super::super::Level;
use super::super::columnstore::{self, Chunk, State};
use super::super::error::{Doing, StoreError};
use super::super::tables::{Table, TableName};
use super::super::timestamp::Timestamp;
use super::{Round, merge};
use dataflows::model::HOUR_US;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error};

/// Once a round has taken so long, it begins with no further chunk, since other chores wait.
const ROUND_MAX: Duration = Duration::from_secs(30);
/// How often late rows are put into the columnstore. Unit: microseconds.
const AGAIN_US: i64 = 6 * HOUR_US;

pub(super) async fn run(round: &mut Round) -> Result<(), StoreError> {
    if round.level != Level::TimescaleCommunity {
        return Ok(());
    }
    // The time that the rows have reached: while a long log is worked off, days are written that are past by the clock.
    let sql = "SELECT max(log_time) FROM progress";
    let newest = round.client.query_one(sql, &[]).await.doing("the newest log time could not be read")?;
    let Some(newest) = newest.get::<_, Option<Timestamp>>(0) else { return Ok(()) };
    let now_us = round.now.0.min(newest.0);
    let closed_us = now_us - merge::open_us(&round.client).await?;
    let begun = Instant::now();
    let tables: Vec<_> = columnstore::tables(&round.classes).collect();
    for (table, after_us) in tables {
        let until_us = closed_us.min(now_us - after_us);
        let due = due(&round.client, &table, now_us, until_us).await;
        let Some(due) = round.or_postpone(&table, due)? else { continue };
        let mut complete = true;
        for chunk in &due.chunks {
            complete &= begun.elapsed() < ROUND_MAX && one(round, &table, chunk).await?;
        }
        if complete && due.with_mixed {
            let noted = note_again(&round.client, &table, now_us).await;
            round.or_postpone(&table, noted)?;
        }
    }
    Ok(())
}

/// Puts one chunk into the columnstore if that makes it smaller; gives whether it is as it should be.
async fn one(round: &mut Round, table: &TableName, chunk: &Chunk) -> Result<bool, StoreError> {
    if chunk.state == State::Rows {
        let is_worth_it = columnstore::is_worth_it(&round.client, &chunk.name).await;
        match round.or_postpone(&chunk.name, is_worth_it)? {
            Some(true) => {}
            Some(false) => return Ok(true),
            None => return Ok(false),
        }
    }
    if Table::ROLLUPS.contains(&table.table) && chunk.state != State::Mixed {
        // Partials are not merged any more once they are in the columnstore.
        let merged = merge::all_of(&mut round.client, table, chunk.range.start_us..chunk.range.end_us).await;
        let Some(merged) = round.or_postpone(&chunk.name, merged)? else { return Ok(false) };
        round.report.merged += merged.merged;
        if !merged.finished {
            return Ok(false);
        }
    }
    let compressed = columnstore::compress(&mut round.client, &chunk.name).await;
    let done = round.or_postpone(&chunk.name, compressed)?.is_some();
    if done {
        round.report.compressed.push(chunk.name.clone());
    }
    Ok(done)
}

struct Due {
    chunks: Vec<Chunk>,
    /// Those with late rows are among them.
    with_mixed: bool,
}

/// Gives the chunks of a table that end by `until_us` and are to be put into the columnstore now.
async fn due(client: &Client, table: &TableName, now_us: i64, until_us: i64) -> Result<Due, Error> {
    if !columnstore::is_ours(client, table).await? {
        return Ok(Due { chunks: Vec::new(), with_mixed: false });
    }
    let row = client.query_opt("SELECT value::bigint FROM settings WHERE key = $1", &[&key(table)]).await?;
    let with_mixed = row.is_none_or(|row| now_us >= row.get::<_, i64>(0).saturating_add(AGAIN_US));
    let is_due = |chunk: &Chunk| {
        chunk.range.end_us <= until_us
            && match chunk.state {
                State::New => false,
                State::Rows => true,
                State::Mixed => with_mixed,
            }
    };
    let mut chunks = columnstore::chunks(client, table).await?;
    chunks.retain(is_due);
    Ok(Due { chunks, with_mixed })
}

/// Notes when late rows were put into the columnstore.
async fn note_again(client: &Client, table: &TableName, now_us: i64) -> Result<u64, Error> {
    let sql = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    client.execute(sql, &[&key(table), &now_us.to_string()]).await
}

fn key(table: &TableName) -> String {
    format!("compressed_{table}")
}
