//! Who owns a partition, and how far the tables hold its log.

use super::error::Doing;
use super::sqlstate::words;
use super::timestamp::Timestamp;
use super::{Store, StoreError};
use dataflows::model::{Counts, LogTime, Offset, Partition};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

/// A partition that this process owns from now on, until another takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The partition.
    pub partition: Partition,
    /// The first record that is not committed.
    pub offset: Offset,
    /// Where a replay without a checkpoint begins.
    pub begins: Offset,
    /// What each commit has to show.
    pub owner_epoch: u64,
}

/// A row of `progress`.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress {
    /// The partition.
    pub partition: Partition,
    /// The first record that is not committed.
    pub offset: Offset,
    /// Where a replay without a checkpoint begins: 0, but for what `weir log adopt` gave up.
    pub begins: Offset,
    /// How many times the partition was taken.
    pub owner_epoch: u64,
    /// Who took it last.
    pub owner: String,
    /// The log that the rows came from.
    pub log: Uuid,
    /// How many went which way since that log began.
    pub counts: Counts,
    /// Rows that the database refused.
    pub refused: u64,
    /// When the log took the last committed record in; none before the first commit.
    pub log_time: Option<LogTime>,
}

impl Store {
    /// Takes partitions for `owner`, all or none: from then on, commits of earlier owners are fenced.
    /// Each partition comes with the offset where `log` ends. On a new database, all begin at 0.
    ///
    /// Errors: [`StoreError::ForeignLog`] and [`StoreError::LogBehind`], where nothing is taken.
    pub async fn take(&self, owner: &str, log: Uuid, partitions: &[(Partition, Offset)]) -> Result<Vec<Taken>, StoreError> {
        let doing = "the partitions could not be taken";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.doing(doing)?;
        // An epoch must not be given twice, so this commit is on disk before it counts.
        transaction.batch_execute("SET LOCAL synchronous_commit = on").await.doing(doing)?;
        let mut taken = Vec::with_capacity(partitions.len());
        for (partition, log_end) in in_order(partitions) {
            let progress = lock(&transaction, partition, owner, log).await?;
            if progress.log != log {
                return Err(StoreError::ForeignLog { partition, found: progress.log, ours: log });
            }
            if log_end < progress.offset {
                return Err(StoreError::LogBehind { partition, progress: progress.offset, log_end });
            }
            let sql = "UPDATE progress SET owner_epoch = owner_epoch + 1, owner = $2, updated_at = now() WHERE \"partition\" = $1 \
                       RETURNING owner_epoch";
            let row = transaction.query_one(sql, &[&number(partition), &owner]).await.doing(doing)?;
            let owner_epoch = row.get::<_, i64>(0).cast_unsigned();
            taken.push(Taken { partition, offset: progress.offset, begins: progress.begins, owner_epoch });
        }
        transaction.commit().await.doing(doing)?;
        Ok(taken)
    }

    /// Reads the progress of every partition that was ever taken, by partition.
    pub async fn progress(&self) -> Result<Vec<Progress>, StoreError> {
        read(&self.client().await?).await
    }
}

/// As [`Store::progress`], over a connection.
pub(super) async fn read(client: &Client) -> Result<Vec<Progress>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM progress ORDER BY \"partition\"");
    let rows = client.query(&sql, &[]).await.doing("the progress could not be read")?;
    rows.iter().map(from_row).collect()
}

/// What [`from_row`] reads.
pub(super) const COLUMNS: &str = "\"partition\", \"offset\", owner_epoch, owner, log_id, counts, refused, log_time, begins";

/// Locks a partition's row, making it at offset 0 where there is none.
pub(super) async fn lock(
    transaction: &Transaction<'_>,
    partition: Partition,
    owner: &str,
    log: Uuid,
) -> Result<Progress, StoreError> {
    let doing = "the progress could not be locked";
    let insert = "INSERT INTO progress (\"partition\", \"offset\", owner_epoch, owner, log_id, counts) \
                  VALUES ($1, 0, 0, $2, $3, $4) ON CONFLICT DO NOTHING";
    let params = (number(partition), Json(Counts::default()));
    transaction.execute(insert, &[&params.0, &owner, &log, &params.1]).await.doing(doing)?;
    let select = format!("SELECT {COLUMNS} FROM progress WHERE \"partition\" = $1 FOR UPDATE");
    from_row(&transaction.query_one(&select, &[&params.0]).await.doing(doing)?)
}

/// Reads a row of [`COLUMNS`].
pub(super) fn from_row(row: &Row) -> Result<Progress, StoreError> {
    Ok(Progress {
        partition: Partition(row.get::<_, i16>(0).cast_unsigned()),
        offset: offset_of(row, 1),
        owner_epoch: row.get::<_, i64>(2).cast_unsigned(),
        owner: row.get(3),
        log: row.get(4),
        counts: read_counts(row, 5)?,
        refused: row.get::<_, i64>(6).cast_unsigned(),
        log_time: row.get::<_, Option<Timestamp>>(7).map(|at| LogTime(at.0)),
        begins: offset_of(row, 8),
    })
}

/// Reads a column that holds an offset.
pub(super) fn offset_of(row: &Row, column: usize) -> Offset {
    Offset(row.get::<_, i64>(column).cast_unsigned())
}

/// Reads a column that holds counts.
pub(super) fn read_counts(row: &Row, column: usize) -> Result<Counts, StoreError> {
    let counts = row.try_get::<_, Json<Counts>>(column).map(|counts| counts.0);
    counts.map_err(|error| StoreError::Unreadable { what: "the counts of a partition's progress", why: words(&error) })
}

/// In the order of partitions, in which all lock.
pub(super) fn in_order<T: Ord + Copy>(partitions: &[T]) -> Vec<T> {
    let mut sorted = partitions.to_vec();
    sorted.sort_unstable();
    sorted
}

/// A partition as its column holds it.
pub(super) fn number(partition: Partition) -> i16 {
    i16::try_from(partition.0).expect("a database has at most 1024 partitions")
}

/// An offset as its columns hold it.
pub(super) fn wire(offset: Offset) -> i64 {
    i64::try_from(offset.0).expect("no log reaches 2^63 records")
}
