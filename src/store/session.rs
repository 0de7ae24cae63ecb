//! One connection that writes: begins a fenced transaction and puts rows into tables.

use super::checkpoint::{self, Checkpoint};
use super::chunks::{Chunks, OfChunk, Split};
use super::commit::{Advance, Commits, StopReason};
use super::copy::CopyEncoder;
use super::hosts::Opened;
use super::progress::{number, wire};
use super::refusals::RefusedSeries;
use super::rows::{Batch, Row};
use super::tables::{Table, TableName};
use super::timestamp::Timestamp;
use super::{Level, Store, StoreError, direct};
use bytes::Bytes;
use dataflows::model::Partition;
use futures_util::SinkExt;
use futures_util::future::{try_join, try_join_all};
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Error, Statement};

/// How much is encoded before it is sent; a little less than a buffer that doubles as it grows, for the last row goes
/// beyond. Unit: bytes.
const SEND_BYTES: usize = 255 * 1024;
/// Rows that one COPY takes. The statement timeout counts for each: were a commit's rows one COPY, a
/// server too slow for it would be tried in vain for ever.
const COPY_ROWS_MAX: usize = 60_000;
/// What one COPY takes, for rows that are large. Unit: bytes.
const COPY_BYTES_MAX: u64 = 16 << 20;

/// Why a step of a commit did not do.
#[derive(Debug)]
pub(super) enum Failure {
    /// The progress is not where this commit begins.
    Fenced(Partition),
    /// The database said no, or the connection broke.
    Server(Error),
    /// The connection broke after COMMIT was sent.
    AnswerLost(Error),
    /// The table `series` does not take these, so none of their rows may be written.
    SeriesRefused(Vec<RefusedSeries>),
    /// A chunk that rows were copied into is not the table's way any more.
    ChunkLeft,
    /// A person has to act.
    Stop(StopReason),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// A connection with its prepared statements.
pub(super) struct Session {
    pub(super) client: Client,
    notices: mpsc::Receiver<()>,
    advance: Statement,
    copies: HashMap<TableName, Statement>,
    encoder: CopyEncoder,
    /// Whether rows can be copied straight into the columnstore.
    pub(super) copies_directly: bool,
    /// The chunks that rows are copied straight into.
    pub(super) chunks: Chunks,
}

impl Session {
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let Opened { client, notices, .. } = store.open().await?;
        // The fence: no row means that this commit does not begin where the tables end, or that the
        // partition has another owner.
        let sql = "UPDATE progress SET \"offset\" = $4, counts = $5, log_time = $6, updated_at = now() \
                   WHERE \"partition\" = $1 AND \"offset\" = $2 AND owner_epoch = $3";
        let advance = match client.prepare(sql).await {
            Ok(advance) => advance,
            Err(error) if error.code().is_some_and(|state| state.code() == "42P01") => return Err(StoreError::NotMigrated),
            Err(error) => return Err(StoreError::Query { doing: "the commit could not be prepared", error }),
        };
        let copies_directly = store.level == Level::TimescaleCommunity && direct::is_offered(&client).await?;
        let chunks = Chunks::of(&client, store.level).await?;
        let (copies, encoder) = (HashMap::new(), CopyEncoder::default());
        Ok(Self { client, notices, advance, copies, encoder, copies_directly, chunks })
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        // It listens to nothing, so all that comes is the end.
        while self.notices.recv().await.is_some() {}
    }

    /// Opens the transaction and moves the progress of its partitions, in one round trip.
    pub(super) async fn begin(&self, commits: Commits<'_>) -> Result<(), Failure> {
        // Under READ COMMITTED, the update waits for an earlier one and then looks again.
        let begin = self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
        let mut in_order: Vec<&Advance> = commits.advances().collect();
        in_order.sort_unstable_by_key(|advance| advance.partition);
        // Requests go out when their futures are first polled, which is in this order.
        let moved = try_join_all(in_order.iter().map(|advance| self.advance(advance)));
        let ((), moved) = try_join(begin, moved).await?;
        match in_order.iter().zip(moved).find(|(_, moved)| *moved == 0) {
            Some((advance, _)) => Err(Failure::Fenced(advance.partition)),
            None => Ok(()),
        }
    }

    async fn advance(&self, advance: &Advance) -> Result<u64, Error> {
        let (partition, from, to) = (number(advance.partition), wire(advance.from), wire(advance.to));
        let (counts, log_time) = (Json(&advance.counts), Timestamp(advance.log_time.0));
        let epoch = advance.owner_epoch.cast_signed();
        self.client.execute(&self.advance, &[&partition, &from, &epoch, &to, &counts, &log_time]).await
    }

    /// Puts rows of one kind into their table. Gives the bytes that were copied.
    pub(super) async fn write(&mut self, table: &TableName, rows: &[Row<'_>]) -> Result<u64, Failure> {
        match table.table {
            Table::Device => Ok(self.insert_devices(rows).await.map(|()| 0)?),
            Table::Series => self.upsert_series(rows).await.map(|()| 0),
            _ => Ok(self.copy(table, rows).await?),
        }
    }

    /// Copies rows straight into the columnstore, where their table is set up for it. Gives their bytes.
    pub(super) async fn write_directly(&mut self, table: &TableName, rows: &[Row<'_>]) -> Result<u64, Failure> {
        self.client.batch_execute("SET LOCAL timescaledb.enable_direct_compress_copy = on").await?;
        let bytes = self.copy(table, rows).await?;
        self.client.batch_execute("SET LOCAL timescaledb.enable_direct_compress_copy = off").await?;
        Ok(bytes)
    }

    /// Looks for the chunks of these rows. Gives whether some can be copied straight into theirs.
    pub(super) async fn learn_chunks(&mut self, batches: &[Batch<'_>]) -> Result<bool, Error> {
        self.chunks.learn(&self.client, batches).await
    }

    /// Puts all rows into their tables, straight into the chunks that are known. Gives the bytes that were copied.
    pub(super) async fn write_to_chunks(&mut self, batches: &[Batch<'_>]) -> Result<u64, Failure> {
        let (mut bytes, mut straight) = (0, Vec::new());
        // The tables first, as whoever drops a chunk locks them first too: so none waits for the other in a circle.
        for batch in batches {
            let Split { of_chunks, rest } = self.chunks.split(batch);
            if !rest.is_empty() {
                bytes += self.write(&batch.table, &rest).await?;
            }
            straight.extend(of_chunks);
        }
        if !self.chunks.hold(&self.client, &straight).await? {
            return Err(Failure::ChunkLeft);
        }
        for OfChunk { copy, rows, .. } in &straight {
            bytes += self.copy_by(copy, rows).await?;
        }
        Ok(bytes)
    }

    async fn copy(&mut self, table: &TableName, rows: &[Row<'_>]) -> Result<u64, Error> {
        let statement = match self.copies.get(table) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(&table.table.copy_sql(table.as_str())).await?;
                self.copies.insert(table.clone(), statement.clone());
                statement
            }
        };
        self.copy_by(&statement, rows).await
    }

    /// Copies rows by as many turns of a statement as they need.
    async fn copy_by(&mut self, statement: &Statement, rows: &[Row<'_>]) -> Result<u64, Error> {
        let (mut bytes, mut rest) = (0, rows);
        while !rest.is_empty() {
            let (copied, more) = self.copy_some(statement, rest).await?;
            bytes += more;
            rest = &rest[copied..];
        }
        Ok(bytes)
    }

    /// Copies the foremost rows, as many as one statement takes. Gives how many, and their bytes.
    async fn copy_some(&mut self, statement: &Statement, rows: &[Row<'_>]) -> Result<(usize, u64), Error> {
        let sink = self.client.copy_in::<_, Bytes>(statement).await?;
        futures_util::pin_mut!(sink);
        let (mut copied, mut bytes) = (0, 0);
        // What an earlier COPY left when it failed.
        self.encoder.take();
        self.encoder.header();
        for row in rows.iter().take(COPY_ROWS_MAX) {
            row.encode(&mut self.encoder);
            copied += 1;
            if self.encoder.len() >= SEND_BYTES {
                bytes += self.encoder.len() as u64;
                sink.feed(self.encoder.take()).await?;
                if bytes >= COPY_BYTES_MAX {
                    break;
                }
            }
        }
        self.encoder.trailer();
        bytes += self.encoder.len() as u64;
        sink.feed(self.encoder.take()).await?;
        sink.finish().await?;
        Ok((copied, bytes))
    }

    /// Adds a checkpoint and prunes the older ones.
    pub(super) async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        Ok(checkpoint::store(&self.client, checkpoint).await?)
    }

    /// Gives up what the transaction did, if there is one.
    pub(super) async fn rollback(&self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }
}
