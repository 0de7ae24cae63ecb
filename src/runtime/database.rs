//! What the daemon's own loops ask of a database, and what they may rely on: the contract between what decides
//! and what does I/O. [`Store`] keeps it over connections; a simulation keeps it in memory, with faults.
//!
//! The contract:
//! - Taking a partition raises its `owner_epoch`, durably before it is told.
//! - What is committed together is applied whole or not at all, and only where each of its advances begins at the partition's
//!   `progress`, under its epoch. [`CommitError::Unknown`] says that it may be applied even later; every other
//!   error that it never will be.
//! - What is committed may be taken back by a crash, or by a failover to a server that lags: always a tail of all
//!   that was ever committed. What `checkpoints_kept` told, and all before it, outlives a crash, not a failover.
//! - Where it took something back, every connection from before is dead.

use crate::store::{CommitError, Commits, Committed, Committer, Progress, Store, StoreError, StoredCheckpoint, Taken};
use dataflows::model::{CatalogueSeries, Offset, Partition};
use std::future::Future;
use uuid::Uuid;

/// A database that can be reached.
pub(super) trait Database: Send + Sync {
    /// A connection to commit over.
    type Session: Session;

    /// Takes partitions, of which each comes with the end of `log`; see [`Store::take`].
    fn take(
        &self,
        owner: &str,
        log: Uuid,
        partitions: &[(Partition, Offset)],
    ) -> impl Future<Output = Result<Vec<Taken>, StoreError>> + Send;

    /// Gives the newest checkpoint of each partition that has one; see [`Store::load_checkpoints`].
    fn checkpoints(
        &self,
        partitions: &[Partition],
        log: Uuid,
    ) -> impl Future<Output = Result<Vec<StoredCheckpoint>, StoreError>> + Send;

    /// Gives the series that have numbers; see [`Store::numbered_series`].
    fn numbered_series(&self) -> impl Future<Output = Result<Vec<CatalogueSeries>, StoreError>> + Send;

    /// Gives the oldest and the newest checkpoint of each partition, durably; see [`Store::checkpoints_kept`].
    fn checkpoints_kept(&self) -> impl Future<Output = Result<Vec<(Partition, Offset, Offset)>, StoreError>> + Send;

    /// Gives a session that connects when it is used first.
    fn session(&self) -> Self::Session;
}

/// A connection to commit over, made again when it is lost; see [`Committer`].
pub(super) trait Session: Send {
    /// Whether there is a connection, as far as is known.
    fn is_connected(&self) -> bool;

    /// Waits until the connection has ended; does not, where there is none.
    fn disconnected(&mut self) -> impl Future<Output = ()> + Send;

    /// Reads the progress of every partition, over the connection that the next commit goes over.
    fn progress(&mut self) -> impl Future<Output = Result<Vec<Progress>, StoreError>> + Send;

    /// Makes all of some commits visible, which share no partition, or nothing.
    fn commit(&mut self, commits: Commits<'_>) -> impl Future<Output = Result<Committed, CommitError>> + Send;
}

impl Database for Store {
    type Session = Committer;

    async fn take(&self, owner: &str, log: Uuid, partitions: &[(Partition, Offset)]) -> Result<Vec<Taken>, StoreError> {
        Store::take(self, owner, log, partitions).await
    }

    async fn checkpoints(&self, partitions: &[Partition], log: Uuid) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.load_checkpoints(partitions, log).await
    }

    async fn numbered_series(&self) -> Result<Vec<CatalogueSeries>, StoreError> {
        Store::numbered_series(self).await
    }

    async fn checkpoints_kept(&self) -> Result<Vec<(Partition, Offset, Offset)>, StoreError> {
        Store::checkpoints_kept(self).await
    }

    fn session(&self) -> Committer {
        Committer::new(self)
    }
}

impl Session for Committer {
    fn is_connected(&self) -> bool {
        Committer::is_connected(self)
    }

    async fn disconnected(&mut self) {
        Committer::disconnected(self).await;
    }

    async fn progress(&mut self) -> Result<Vec<Progress>, StoreError> {
        Committer::progress(self).await
    }

    async fn commit(&mut self, commits: Commits<'_>) -> Result<Committed, CommitError> {
        Committer::commit(self, commits).await
    }
}
