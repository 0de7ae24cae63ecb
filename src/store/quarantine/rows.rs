//! Writes rows again that the database refused. It needs no log: row and entry change hands in one transaction.
//!
//! Invariant: a row is in its table or in quarantine, never in both, never in neither.

use super::Filter;
use super::tables::{LIFT_SQL, insert_sql};
use crate::store::classes::{self, Class};
use crate::store::error::Doing;
use crate::store::level::Layout;
use crate::store::progress::number;
use crate::store::sqlstate::{Remedy, remedy, words};
use crate::store::tables::{Table, TableName};
use crate::store::timestamp::Timestamp;
use crate::store::{Store, StoreError, ranges};
use dataflows::model::Partition;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

/// Entries that change hands in one transaction. Commits of the daemon wait for it, so it is short.
const ENTRIES_AT_ONCE: usize = 200;

const DOING: &str = "the refused rows could not be written again";

/// What became of the rows that were tried again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowsRetried {
    /// Rows that are in their tables now.
    pub written: u64,
    /// Rows that stay in quarantine.
    pub refused: u64,
    /// Series whose refusal was lifted: their rows go to the tables from now on.
    pub series_lifted: u64,
    /// What was said of one of the rows that stay.
    pub example: Option<String>,
}

/// Where an entry is stored, which tells it from others of its record.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Slot {
    part: u32,
    place: String,
    log_time: Timestamp,
}

/// A row that the database refused.
struct RefusedEntry {
    slot: Slot,
    partition: Partition,
    table: TableName,
    /// As [`crate::store::rows::Row::content`] gave it.
    content: String,
    parsed: Value,
}

impl Store {
    /// Tries to write the refused rows among the entries into their tables again. Series that are refused are
    /// tried first; those that the table takes now are refused no longer.
    ///
    /// Errors: of the database, not of a row; what was written until then stays written.
    pub async fn quarantine_retry_rows(&self, filter: &Filter) -> Result<RowsRetried, StoreError> {
        let mut client = self.client().await?;
        let classes = classes::read(&client).await.doing(DOING)?;
        let mut retried = RowsRetried::default();
        let slots = slots(&client, filter).await.doing(DOING)?;
        for slots in slots.chunks(ENTRIES_AT_ONCE) {
            let entries = read(&client, slots, &classes).await?;
            if self.level.layout() == Layout::Partitions {
                make_partitions(&mut client, &entries, &classes).await.doing(DOING)?;
            }
            let outcome = change_hands(&client, &entries, &mut retried).await;
            if outcome.is_err() {
                // The connection may be gone; the error that matters is the first.
                let _ = client.batch_execute("ROLLBACK").await;
            }
            outcome.doing(DOING)?;
        }
        Ok(retried)
    }
}

async fn slots(client: &Client, filter: &Filter) -> Result<Vec<Slot>, Error> {
    let sql = format!(
        "SELECT q.tableoid, q.ctid::text, q.log_time FROM quarantine q WHERE {} AND q.reason = 'row_refused' \
         ORDER BY q.log_time, q.\"partition\", q.\"offset\"",
        Filter::CONDITION
    );
    let values = filter.values();
    let rows = client.query(&sql, &values.params()).await?;
    Ok(rows.iter().map(|row| Slot { part: row.get(0), place: row.get(1), log_time: row.get(2) }).collect())
}

/// Reads entries; those that are no more where they were are left out.
async fn read(client: &Client, slots: &[Slot], classes: &[Class]) -> Result<Vec<RefusedEntry>, StoreError> {
    let mut tables: BTreeMap<String, TableName> =
        classes::all(classes).map(|(table, _)| (table.as_str().to_owned(), table)).collect();
    tables.extend([Table::Device, Table::Series].map(|table| (table.base_name().to_owned(), TableName::shared(table))));
    let sql = "SELECT q.\"partition\", q.record FROM quarantine q \
               WHERE q.ctid = $1::text::tid AND q.tableoid = $2 AND q.log_time = $3 AND q.reason = 'row_refused'";
    let mut entries = Vec::with_capacity(slots.len());
    for slot in slots {
        let Some(row) = client.query_opt(sql, &[&slot.place, &slot.part, &slot.log_time]).await.doing(DOING)? else { continue };
        entries.push(entry(slot, &row, &tables)?);
    }
    Ok(entries)
}

fn entry(slot: &Slot, row: &Row, tables: &BTreeMap<String, TableName>) -> Result<RefusedEntry, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { what: "a row that stands in quarantine", why };
    let content = String::from_utf8(row.get(1)).map_err(|error| unreadable(error.to_string()))?;
    let parsed: Value = serde_json::from_str(&content).map_err(|error| unreadable(error.to_string()))?;
    let named = parsed["table"].as_str().unwrap_or_default();
    let table =
        tables.get(named).ok_or_else(|| unreadable(format!("it is of the table {named:?}, which weir does not write")))?;
    let partition = Partition(row.get::<_, i16>(0).cast_unsigned());
    Ok(RefusedEntry { slot: slot.clone(), partition, table: table.clone(), content, parsed })
}

impl RefusedEntry {
    /// The time that decides which partition of the table takes the row. Unit: microseconds.
    fn at_us(&self) -> Option<i64> {
        self.parsed["row"].get("ts_us").or_else(|| self.parsed["row"].get("bucket_us"))?.as_i64()
    }

    fn series(&self) -> Option<i64> {
        self.parsed["row"]["series_id"].as_i64()
    }
}

async fn make_partitions(client: &mut Client, entries: &[RefusedEntry], classes: &[Class]) -> Result<(), Error> {
    for (table, class) in classes::all(classes) {
        let instants: Vec<i64> = entries.iter().filter(|entry| entry.table == table).filter_map(RefusedEntry::at_us).collect();
        if instants.is_empty() {
            continue;
        }
        let existing = ranges::existing(client, Layout::Partitions, &table).await?;
        for range in ranges::missing(&existing, instants, table.table.interval_us(class)) {
            ranges::make(client, Layout::Partitions, &table, range).await?;
        }
    }
    Ok(())
}

/// Writes what can be written, in one transaction.
async fn change_hands(client: &Client, entries: &[RefusedEntry], retried: &mut RowsRetried) -> Result<(), Error> {
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET CONSTRAINTS ALL IMMEDIATE").await?;
    // First of all and in the order of partitions, as commits do: no two wait for each other in a circle.
    let partitions: BTreeSet<i16> = entries.iter().map(|entry| number(entry.partition)).collect();
    let partitions: Vec<i16> = partitions.into_iter().collect();
    let lock = "SELECT FROM progress WHERE \"partition\" = ANY ($1) ORDER BY \"partition\" FOR UPDATE";
    client.query(lock, &[&partitions]).await?;
    let mut done = RowsRetried::default();
    let series: BTreeSet<i64> = entries.iter().filter_map(RefusedEntry::series).collect();
    for series in series {
        // One that its table still refuses is told of by its rows.
        if let Ok(lifted) = attempt(client, LIFT_SQL, &[&vec![series]]).await? {
            done.series_lifted += lifted;
        }
    }
    let mut written: BTreeMap<i16, i64> = BTreeMap::new();
    for entry in entries {
        let Slot { part, place, log_time } = &entry.slot;
        let locked = "SELECT FROM quarantine q WHERE q.ctid = $1::text::tid AND q.tableoid = $2 AND q.log_time = $3 FOR UPDATE";
        if client.query_opt(locked, &[place, part, log_time]).await?.is_none() {
            // Somebody else has dealt with it meanwhile.
            continue;
        }
        let why = match attempt(client, &insert_sql(&entry.table), &[&entry.content]).await? {
            Ok(1..) => None,
            Ok(0) => Some("its series is refused, or is not in the table series any more".to_owned()),
            Err(error) => Some(words(&error)),
        };
        let this = "q.ctid = $1::text::tid AND q.tableoid = $2 AND q.log_time = $3";
        match why {
            None => {
                client.execute(&format!("DELETE FROM quarantine q WHERE {this}"), &[place, part, log_time]).await?;
                *written.entry(number(entry.partition)).or_default() += 1;
                done.written += 1;
            }
            Some(why) => {
                let detail = format!("the table {} refused its row again: {why}", entry.table);
                let update = format!("UPDATE quarantine q SET detail = $4 WHERE {this}");
                client.execute(&update, &[place, part, log_time, &detail]).await?;
                done.refused += 1;
                done.example.get_or_insert(detail);
            }
        }
    }
    for (partition, written) in written {
        let sql = "UPDATE progress SET refused = greatest(refused - $2, 0) WHERE \"partition\" = $1";
        client.execute(sql, &[&partition, &written]).await?;
    }
    client.batch_execute("COMMIT").await?;
    retried.written += done.written;
    retried.refused += done.refused;
    retried.series_lifted += done.series_lifted;
    retried.example = retried.example.take().or(done.example);
    Ok(())
}

/// Runs a statement, or leaves the transaction as if it had not: then gives what is wrong with the row.
///
/// Errors: what is not the row's fault.
async fn attempt(client: &Client, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Result<u64, Error>, Error> {
    client.batch_execute("SAVEPOINT row").await?;
    let outcome = client.execute(sql, params).await;
    let end = match &outcome {
        Ok(_) => "RELEASE row",
        Err(error) if matches!(remedy(error), Remedy::Bisect | Remedy::MakePartition) => "ROLLBACK TO row; RELEASE row",
        Err(_) => return outcome.map(Ok),
    };
    client.batch_execute(end).await?;
    Ok(outcome)
}
