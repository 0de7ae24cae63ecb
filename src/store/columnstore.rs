//! The columnstore of TimescaleDB Community: how tables are set up for it, and which of their chunks are not in it yet.
//!
//! Invariant: what a person set up there stays. A table that is set up already keeps its settings, and
//! one with a columnstore policy is left to the policy.

use super::StoreError;
use super::classes::{self, Class};
use super::error::Doing;
use super::ranges::Range;
use super::tables::{Table, TableName};
use super::timestamp::Timestamp;
use tokio_postgres::{Client, Error};

/// A segment with fewer rows than these takes more room than they do: 350 bytes for measurements, 1000 for partials.
const ROWS_OF_SERIES_MIN: f64 = 10.0;

/// A chunk that is not, or not wholly, in the columnstore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) name: String,
    pub(super) range: Range,
    pub(super) state: State,
}

/// Where the rows of such a chunk are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// All of them came within the last hour: more may be on their way, as when history is imported.
    New,
    /// In rows.
    Rows,
    /// In the columnstore, and some that came later beside it.
    Mixed,
}

/// Gives the tables of these classes that go to the columnstore, with how long after the end of a chunk.
/// Unit: microseconds. `quarantine` does not: rows are taken out of it.
pub(super) fn tables(classes: &[Class]) -> impl Iterator<Item = (TableName, i64)> {
    let with_columns = classes::all(classes).filter(|(table, _)| table.table != Table::Quarantine);
    with_columns.filter_map(|(table, class)| Some((table, class.compress_after_us?)))
}

/// Sets up the tables of all classes. Doing it again changes nothing.
pub(super) async fn ensure(client: &Client) -> Result<(), StoreError> {
    let doing = "the columnstore could not be set up";
    for (table, _) in tables(&classes::read(client).await.doing(doing)?) {
        is_ours(client, &table).await.doing(doing)?;
    }
    Ok(())
}

/// Whether weir does the upkeep of the table's chunks: sets the table up where nobody did, and looks for a policy.
pub(super) async fn is_ours(client: &Client, table: &TableName) -> Result<bool, Error> {
    let sql = "SELECT h.compression_enabled, EXISTS (\
                   SELECT FROM timescaledb_information.jobs j WHERE j.proc_name = 'policy_compression' \
                   AND (j.hypertable_schema, j.hypertable_name) = (h.hypertable_schema, h.hypertable_name)) \
               FROM timescaledb_information.hypertables h \
               WHERE to_regclass(format('%I.%I', h.hypertable_schema, h.hypertable_name)) = to_regclass($1)";
    let row = client.query_one(sql, &[&table.as_str()]).await?;
    let (is_set_up, has_policy): (bool, bool) = (row.get(0), row.get(1));
    if !is_set_up {
        set_up(client, table).await?;
    }
    Ok(!has_policy)
}

async fn set_up(client: &Client, table: &TableName) -> Result<(), Error> {
    let time = table.table.time_column();
    // A segment is what one series has in a chunk, which is what is read of it.
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '3s'; \
             ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = 'series_id', \
             timescaledb.compress_orderby = '{time}'); COMMIT"
        ))
        .await
}

/// Gives the chunks that are not wholly in the columnstore, in the order of time. Frozen ones are left out.
pub(super) async fn chunks(client: &Client, table: &TableName) -> Result<Vec<Chunk>, Error> {
    // The bits of a status: 1 in the columnstore, 2 in no order there, 4 frozen, 8 some rows are beside it.
    let sql = "SELECT format('%I.%I', i.chunk_schema, i.chunk_name), i.range_start, i.range_end, c.status & 1 = 1, \
                      i.chunk_creation_time > now() - interval '1 hour' \
               FROM timescaledb_information.chunks i \
               JOIN _timescaledb_catalog.chunk c ON (c.schema_name, c.table_name) = (i.chunk_schema, i.chunk_name) \
               WHERE to_regclass(format('%I.%I', i.hypertable_schema, i.hypertable_name)) = to_regclass($1) \
                 AND c.status <> 1 AND c.status & 4 = 0 ORDER BY i.range_start";
    let chunk = |row: tokio_postgres::Row| {
        let (start, end): (Timestamp, Timestamp) = (row.get(1), row.get(2));
        let state = match (row.get(3), row.get(4)) {
            (true, _) => State::Mixed,
            (false, true) => State::New,
            (false, false) => State::Rows,
        };
        Chunk { name: row.get(0), range: Range { start_us: start.0, end_us: end.0 }, state }
    };
    Ok(client.query(sql, &[&table.as_str()]).await?.into_iter().map(chunk).collect())
}

/// Whether a chunk that is in rows has so many of a series that it becomes smaller. Empty ones do not.
///
/// Cost: none but the first time, when the server looks at a sample of the chunk.
pub(super) async fn is_worth_it(client: &Client, chunk: &str) -> Result<bool, Error> {
    // Negative: the share of the rows that are of different series.
    let sql = "SELECT pg_relation_size(c.oid) > 0, \
                      CASE WHEN s.n_distinct < 0 THEN -1 / s.n_distinct ELSE c.reltuples / nullif(s.n_distinct, 0) END::float8 \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_stats s ON (s.schemaname, s.tablename, s.attname) = (n.nspname, c.relname, 'series_id') \
               WHERE c.oid = $1::text::regclass";
    let read = async || Ok::<_, Error>(client.query_one(sql, &[&chunk]).await?);
    let mut row = read().await?;
    if row.get(0) && row.get::<_, Option<f64>>(1).is_none() {
        client.batch_execute(&format!("ANALYZE {chunk}")).await?;
        row = read().await?;
    }
    Ok(row.get::<_, Option<f64>>(1).is_some_and(|rows_of_series| rows_of_series >= ROWS_OF_SERIES_MIN))
}

/// Puts all rows of a chunk into the columnstore. Whoever reads or writes the chunk meanwhile may wait.
pub(super) async fn compress(client: &mut Client, chunk: &str) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    // A large chunk takes longer than any other statement may.
    transaction.batch_execute("SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '30min'").await?;
    transaction.execute("SELECT compress_chunk($1::text::regclass)", &[&chunk]).await?;
    transaction.commit().await
}
