//! States of partitions, from which a replay begins.

use super::error::Doing;
use super::progress::{number, offset_of, wire};
use super::{Store, StoreError};
use dataflows::model::{Offset, Partition};
use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};
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
    /// The partition.
    pub partition: Partition,
    /// The first record that the state has not seen.
    pub offset: Offset,
    /// The version of the state's encoding.
    pub version: u32,
    /// The state, compressed.
    pub state: Vec<u8>,
    /// It was taken before its log was adopted (again): other logs may have numbered series since.
    pub precedes_adoption: bool,
}

impl Store {
    /// Gives, for each partition that has one, the newest checkpoint that its progress has reached.
    pub async fn load_checkpoints(&self, partitions: &[Partition], log: Uuid) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let sql = "SELECT DISTINCT ON (c.\"partition\") c.\"partition\", c.\"offset\", c.version, c.state, \
                   p.adopted_at IS NOT NULL AND c.taken_at <= p.adopted_at \
                   FROM checkpoint c JOIN progress p USING (\"partition\", log_id) \
                   WHERE c.\"partition\" = ANY ($1) AND c.log_id = $2 AND c.\"offset\" <= p.\"offset\" \
                   ORDER BY c.\"partition\", c.\"offset\" DESC";
        let client = self.client().await?;
        let partitions: Vec<i16> = partitions.iter().map(|partition| number(*partition)).collect();
        let parameters: [&(dyn ToSql + Sync); 2] = [&partitions, &log];
        let doing = "the checkpoints could not be read";
        // One by one: each is copied out of its row.
        let rows = client.query_raw(sql, parameters).await.doing(doing)?;
        let stored = |row: tokio_postgres::Row| StoredCheckpoint {
            partition: Partition(row.get::<_, i16>(0).cast_unsigned()),
            offset: offset_of(&row, 1),
            version: row.get::<_, i32>(2).cast_unsigned(),
            state: row.get(3),
            precedes_adoption: row.get(4),
        };
        rows.map_ok(stored).try_collect().await.doing(doing)
    }

    /// Gives, for each partition that has one, the offsets of the oldest checkpoint that is kept and of the
    /// newest: the log may be truncated below the oldest, and only in need up to the newest.
    ///
    /// Cost: one synchronous commit. Commits are asynchronous by default, and a checkpoint that a
    /// crash of the database could still take back is nothing to truncate by.
    pub async fn checkpoints_kept(&self) -> Result<Vec<(Partition, Offset, Offset)>, StoreError> {
        let doing = "the oldest checkpoints could not be read";
        let mut client = self.client().await?;
        let sql = "SELECT c.\"partition\", min(c.\"offset\"), max(c.\"offset\") FROM checkpoint c JOIN progress p USING (\"partition\", log_id) \
                   WHERE c.\"offset\" <= p.\"offset\" GROUP BY 1 ORDER BY 1";
        let rows = client.query(sql, &[]).await.doing(doing)?;
        // What was visible above precedes this commit in the WAL, which is flushed up to here.
        let transaction = client.transaction().await.doing(doing)?;
        let flush = "SET LOCAL synchronous_commit = on; \
                     INSERT INTO settings (key, value) VALUES ('flushed', now()::text) \
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        transaction.batch_execute(flush).await.doing(doing)?;
        transaction.commit().await.doing(doing)?;
        let partition = |row: &tokio_postgres::Row| Partition(row.get::<_, i16>(0).cast_unsigned());
        Ok(rows.iter().map(|row| (partition(row), offset_of(row, 1), offset_of(row, 2))).collect())
    }
}

/// Adds a checkpoint and keeps the last two of its partition and log.
pub(super) async fn store(client: &Client, checkpoint: &Checkpoint) -> Result<(), Error> {
    let partition = number(checkpoint.partition);
    let insert = "INSERT INTO checkpoint (\"partition\", \"offset\", log_id, version, state) VALUES ($1, $2, $3, $4, $5) \
                  ON CONFLICT (\"partition\", log_id, \"offset\") DO UPDATE \
                  SET version = excluded.version, state = excluded.state, taken_at = now()";
    let version = checkpoint.version.cast_signed();
    client.execute(insert, &[&partition, &wire(checkpoint.offset), &checkpoint.log, &version, &checkpoint.state]).await?;
    // Those of a log that was left stay, for it may be adopted again.
    let prune = "DELETE FROM checkpoint WHERE \"partition\" = $1 AND log_id = $2 AND \"offset\" NOT IN \
                 (SELECT \"offset\" FROM checkpoint WHERE \"partition\" = $1 AND log_id = $2 ORDER BY \"offset\" DESC LIMIT 2)";
    client.execute(prune, &[&partition, &checkpoint.log]).await?;
    Ok(())
}
