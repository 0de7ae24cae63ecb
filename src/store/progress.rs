//! Who owns a partition, and how far the tables hold its log.

use super::error::Doing;
use super::timestamp::Timestamp;
use super::{Store, StoreError, checkpoint};
use dataflows::model::{Counts, LogTime, Offset, Partition};
use tokio_postgres::types::Json;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

/// A partition that this process owns from now on, until another takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The partition.
    pub partition: Partition,
    /// The first record that is not committed.
    pub offset: Offset,
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

/// Records that neither the tables nor the adopted log hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostRange {
    /// The partition.
    pub partition: Partition,
    /// The log that held them.
    pub log: Uuid,
    /// The first of them.
    pub from: Offset,
    /// The first behind them; none where only the lost log could tell.
    pub to: Option<Offset>,
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
            taken.push(Taken { partition, offset: progress.offset, owner_epoch: row.get::<_, i64>(0).cast_unsigned() });
        }
        transaction.commit().await.doing(doing)?;
        Ok(taken)
    }

    /// Goes on with `log` in place of the one that the tables came from, and names what is lost.
    /// Each partition comes with the offset where `log` ends.
    ///
    /// A log that is not the one in `progress` is read from its start; one that is, but ends before
    /// `progress`, is read on from its end. Checkpoints that do not belong to the log are removed,
    /// and every partition changes hands, so that no daemon goes on with the log before.
    pub async fn adopt(&self, log: Uuid, ends: &[(Partition, Offset)]) -> Result<Vec<LostRange>, StoreError> {
        let doing = "the log could not be adopted";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.doing(doing)?;
        transaction.batch_execute("SET LOCAL synchronous_commit = on").await.doing(doing)?;
        let mut lost = Vec::new();
        for (partition, end) in in_order(ends) {
            let before = lock(&transaction, partition, "weir log adopt", log).await?;
            let (offset, range) = if before.log != log {
                (Offset(0), Some(LostRange { partition, log: before.log, from: before.offset, to: None }))
            } else if end < before.offset {
                (end, Some(LostRange { partition, log, from: end, to: Some(before.offset) }))
            } else {
                (before.offset, None)
            };
            let sql = "UPDATE progress SET log_id = $2, \"offset\" = $3, owner_epoch = owner_epoch + 1, owner = 'weir log adopt', \
                       updated_at = now() WHERE \"partition\" = $1";
            transaction.execute(sql, &[&number(partition), &log, &wire(offset)]).await.doing(doing)?;
            checkpoint::remove_unusable(&transaction, partition, log, offset).await.doing(doing)?;
            lost.extend(range);
        }
        transaction.commit().await.doing(doing)?;
        Ok(lost)
    }

    /// Reads the progress of every partition that was ever taken, by partition.
    pub async fn progress(&self) -> Result<Vec<Progress>, StoreError> {
        let client = self.client().await?;
        let rows = client
            .query(&format!("SELECT {COLUMNS} FROM progress ORDER BY \"partition\""), &[])
            .await
            .doing("the progress could not be read")?;
        Ok(rows.iter().map(from_row).collect())
    }
}

const COLUMNS: &str = "\"partition\", \"offset\", owner_epoch, owner, log_id, counts, refused, log_time";

/// Locks a partition's row, making it at offset 0 where there is none.
async fn lock(transaction: &Transaction<'_>, partition: Partition, owner: &str, log: Uuid) -> Result<Progress, StoreError> {
    let doing = "the progress could not be locked";
    let insert = "INSERT INTO progress (\"partition\", \"offset\", owner_epoch, owner, log_id, counts) \
                  VALUES ($1, 0, 0, $2, $3, $4) ON CONFLICT DO NOTHING";
    let params = (number(partition), Json(Counts::default()));
    transaction.execute(insert, &[&params.0, &owner, &log, &params.1]).await.doing(doing)?;
    let select = format!("SELECT {COLUMNS} FROM progress WHERE \"partition\" = $1 FOR UPDATE");
    Ok(from_row(&transaction.query_one(&select, &[&params.0]).await.doing(doing)?))
}

fn from_row(row: &Row) -> Progress {
    Progress {
        partition: Partition(row.get::<_, i16>(0).cast_unsigned()),
        offset: Offset(row.get::<_, i64>(1).cast_unsigned()),
        owner_epoch: row.get::<_, i64>(2).cast_unsigned(),
        owner: row.get(3),
        log: row.get(4),
        counts: row.get::<_, Json<Counts>>(5).0,
        refused: row.get::<_, i64>(6).cast_unsigned(),
        log_time: row.get::<_, Option<Timestamp>>(7).map(|at| LogTime(at.0)),
    }
}

/// In the order of partitions, in which all lock.
fn in_order(partitions: &[(Partition, Offset)]) -> Vec<(Partition, Offset)> {
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
