//! States of partitions, from which a replay begins.

use super::error::Doing;
use super::progress::{number, wire};
use super::{Store, StoreError};
use dataflows::model::{Offset, Partition};
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

/// The state of one partition, to join a commit.
#[derive(Clone, PartialEq, Debug)]
pub struct Checkpoint {
    /// The partition.
    pub partition: Partition,
    /// The first record that the state has not seen.
    pub offset: Offset,
    /// The log.
    pub log: Uuid,
    /// The version of the state's encoding.
    pub version: u32,
    /// The state, compressed.
    pub state: Vec<u8>,
}

/// A checkpoint as it was stored.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredCheckpoint {
    /// The first record that the state has not seen.
    pub offset: Offset,
    /// The version of the state's encoding.
    pub version: u32,
    /// The state, compressed.
    pub state: Vec<u8>,
}

impl Store {
    /// Gives the newest checkpoint of a partition that its progress has reached.
    pub async fn load_checkpoint(&self, partition: Partition, log: Uuid) -> Result<Option<StoredCheckpoint>, StoreError> {
        let sql = "SELECT c.\"offset\", c.version, c.state FROM checkpoint c JOIN progress p USING (\"partition\", log_id) \
                   WHERE c.\"partition\" = $1 AND c.log_id = $2 AND c.\"offset\" <= p.\"offset\" ORDER BY c.\"offset\" DESC LIMIT 1";
        let client = self.client().await?;
        let row = client.query_opt(sql, &[&number(partition), &log]).await.doing("the checkpoint could not be read")?;
        Ok(row.map(|row| StoredCheckpoint {
            offset: Offset(row.get::<_, i64>(0).cast_unsigned()),
            version: row.get::<_, i32>(1).cast_unsigned(),
            state: row.get(2),
        }))
    }

    /// Gives, for each partition that has one, the offset of the oldest checkpoint that is kept: the
    /// log may be truncated below it, and nowhere else.
    ///
    /// Cost: one synchronous commit. Commits are asynchronous by default, and a checkpoint that a
    /// crash of the database could still take back is nothing to truncate by.
    pub async fn checkpoints_low(&self) -> Result<Vec<(Partition, Offset)>, StoreError> {
        let doing = "the oldest checkpoints could not be read";
        let mut client = self.client().await?;
        let sql = "SELECT c.\"partition\", min(c.\"offset\") FROM checkpoint c JOIN progress p USING (\"partition\", log_id) \
                   WHERE c.\"offset\" <= p.\"offset\" GROUP BY 1 ORDER BY 1";
        let rows = client.query(sql, &[]).await.doing(doing)?;
        // What was visible above precedes this commit in the WAL, which is flushed up to here.
        let transaction = client.transaction().await.doing(doing)?;
        let flush = "SET LOCAL synchronous_commit = on; \
                     INSERT INTO settings (key, value) VALUES ('flushed', now()::text) \
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        transaction.batch_execute(flush).await.doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(rows
            .iter()
            .map(|row| (Partition(row.get::<_, i16>(0).cast_unsigned()), Offset(row.get::<_, i64>(1).cast_unsigned())))
            .collect())
    }
}

/// Adds a checkpoint and keeps the last two of its partition.
pub(super) async fn store(client: &Client, checkpoint: &Checkpoint) -> Result<(), Error> {
    let partition = number(checkpoint.partition);
    let insert = "INSERT INTO checkpoint (\"partition\", \"offset\", log_id, version, state) VALUES ($1, $2, $3, $4, $5) \
                  ON CONFLICT (\"partition\", \"offset\") DO UPDATE \
                  SET log_id = excluded.log_id, version = excluded.version, state = excluded.state, taken_at = now()";
    let version = checkpoint.version.cast_signed();
    client.execute(insert, &[&partition, &wire(checkpoint.offset), &checkpoint.log, &version, &checkpoint.state]).await?;
    let prune = "DELETE FROM checkpoint WHERE \"partition\" = $1 AND \"offset\" NOT IN \
                 (SELECT \"offset\" FROM checkpoint WHERE \"partition\" = $1 AND log_id = $2 ORDER BY \"offset\" DESC LIMIT 2)";
    client.execute(prune, &[&partition, &checkpoint.log]).await?;
    Ok(())
}

/// Removes a partition's checkpoints of other logs and those behind `offset`.
pub(super) async fn remove_unusable(
    transaction: &Transaction<'_>,
    partition: Partition,
    log: Uuid,
    offset: Offset,
) -> Result<u64, Error> {
    let sql = "DELETE FROM checkpoint WHERE \"partition\" = $1 AND (log_id <> $2 OR \"offset\" > $3)";
    transaction.execute(sql, &[&number(partition), &log, &wire(offset)]).await
}
