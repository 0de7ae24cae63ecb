//! The committer task of a worker: all of its talk with the database.
//!
//! It takes the worker's partitions, brings their checkpoints, and then commits what the worker
//! hands over, one transaction at a time. When a commit fails it asks the database where it stands:
//! the commit may have been applied (a lost answer), or not (try again), or the database may be
//! older than we left it (a crash, a failover): then everything starts again from what it holds.

use super::checkpoint::{self, CheckpointError};
use super::gauges;
use super::worker::{Assumed, ToWorker, WorkerHandle};
use crate::log::Log;
use crate::store::{Commit, CommitError, Committer, Landing, Progress, Store, StoreError};
use dataflows::graph::PartitionState;
use dataflows::model::{Offset, Partition};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// First wait after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why the daemon must end.
#[derive(Debug, thiserror::Error)]
pub enum CommitLoopError {
    /// The database belongs to another log, or has more than this log.
    #[error(transparent)]
    Refused(StoreError),
    /// Another daemon owns the partition now.
    #[error(
        "partition {partition} was taken over by another weir (owner epoch {found}, ours was {ours}): this daemon stops; what it \
         acknowledged is in its log. Let only one daemon write to a database"
    )]
    TakenOver {
        /// Which.
        partition: Partition,
        /// The epoch in the database.
        found: u64,
        /// The epoch under which we committed.
        ours: u64,
    },
    /// The database's checkpoint cannot be used.
    #[error("partition {partition}: {error}")]
    Checkpoint {
        /// Which.
        partition: Partition,
        /// Why.
        error: CheckpointError,
    },
    /// The log starts behind the place from which the database wants to be replayed.
    #[error(
        "partition {partition} must be replayed from offset {needed}, but the log starts at {start}: {} records are missing. Restore \
         the log, or accept the loss with `weir log adopt`", start.0 - needed.0
    )]
    LogTruncated {
        /// Which.
        partition: Partition,
        /// Where the database's checkpoint stands.
        needed: Offset,
        /// Where the log starts.
        start: Offset,
    },
}

/// One worker's committer.
pub(super) struct CommitLoop {
    /// The database.
    pub store: Store,
    /// The log, for its identity and extent.
    pub log: Log,
    /// The name under which partitions are owned.
    pub owner: String,
    /// The worker's partitions, in order.
    pub partitions: Vec<Partition>,
    /// The worker.
    pub worker: WorkerHandle,
    /// What the worker hands over.
    pub commits: Receiver<Arc<Commit>>,
}

impl CommitLoop {
    /// Runs until the worker ends.
    ///
    /// Errors: the daemon must end, see [`CommitLoopError`].
    pub(super) async fn run(mut self) -> Result<(), CommitLoopError> {
        let mut backoff = Backoff::default();
        loop {
            match self.take().await {
                Ok(assumed) => {
                    backoff = Backoff::default();
                    self.worker.send(ToWorker::Assume(assumed));
                    if self.commit_all().await? == End::Finished {
                        return Ok(());
                    }
                    // Elsewhere: take again.
                }
                Err(Retry::Never(error)) => return Err(error),
                Err(Retry::Later(error)) => {
                    tracing::warn!(%error, retry_in = ?backoff.next, "the database is not available; the log goes on taking uplinks");
                    if self.commits.is_closed() {
                        return Ok(());
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    /// Takes the partitions and loads their states.
    async fn take(&self) -> Result<Vec<Assumed>, Retry> {
        let ends: Vec<_> = self.partitions.iter().map(|p| (*p, self.log.end(*p))).collect();
        let taken = self.store.take(&self.owner, self.log.id(), &ends).await?;
        let mut assumed = Vec::with_capacity(taken.len());
        for taken in taken {
            let partition = taken.partition;
            let stored = self.store.load_checkpoint(partition, self.log.id()).await?;
            let checkpoint = match stored {
                None => (Offset(0), PartitionState::default()),
                Some(stored) => {
                    let state = checkpoint::decode(stored.version, &stored.state)
                        .map_err(|error| Retry::Never(CommitLoopError::Checkpoint { partition, error }))?;
                    (stored.offset, state)
                }
            };
            let start = self.log.start(partition);
            if checkpoint.0 < start {
                return Err(Retry::Never(CommitLoopError::LogTruncated { partition, needed: checkpoint.0, start }));
            }
            tracing::info!(%partition, committed = %taken.offset, replay_from = %checkpoint.0, "took the partition");
            assumed.push(Assumed { partition, owner_epoch: taken.owner_epoch, committed: taken.offset, checkpoint });
        }
        Ok(assumed)
    }

    /// Commits what the worker hands over until it ends, or the database turns out to be elsewhere.
    async fn commit_all(&mut self) -> Result<End, CommitLoopError> {
        let mut connection = None;
        while let Some(commit) = self.commits.recv().await {
            let mut backoff = Backoff::default();
            loop {
                match self.try_commit(&mut connection, &commit).await {
                    Ok(()) => break,
                    Err(CommitError::Stop(reason)) => {
                        tracing::error!(%reason, "the database refuses to store; nothing is lost, and weir tries again");
                    }
                    Err(error) => tracing::warn!(%error, retry_in = ?backoff.next, "a commit failed"),
                }
                connection = None;
                backoff.wait().await;
                match self.landing(&commit).await {
                    Ok(Landing::Landed) => break,
                    Ok(Landing::Missed) => {}
                    Ok(Landing::Elsewhere) => return Ok(End::Elsewhere),
                    Err(Retry::Never(error)) => return Err(error),
                    Err(Retry::Later(error)) => tracing::warn!(%error, "the database is not available"),
                }
                if self.commits.is_closed() {
                    return Ok(End::Finished);
                }
            }
            self.worker.send(ToWorker::Committed);
        }
        Ok(End::Finished)
    }

    async fn try_commit(&self, connection: &mut Option<Committer>, commit: &Commit) -> Result<(), CommitError> {
        let started = Instant::now();
        let committer = match connection {
            Some(committer) => committer,
            None => connection.insert(Committer::connect(&self.store).await?),
        };
        let committed = committer.commit(commit).await?;
        gauges::commit(&committed, commit.checkpoint.is_some(), started.elapsed());
        Ok(())
    }

    /// Asks the database what became of a commit.
    async fn landing(&self, commit: &Commit) -> Result<Landing, Retry> {
        let progress = self.store.progress().await?;
        taken_over(commit, &progress).map_err(Retry::Never)?;
        Ok(commit.landing(&progress))
    }
}

/// A higher epoch than ours is another daemon's: taking the partition back would only start a quarrel.
fn taken_over(commit: &Commit, progress: &[Progress]) -> Result<(), CommitLoopError> {
    for advance in &commit.advances {
        let found = progress.iter().find(|p| p.partition == advance.partition).map_or(0, |p| p.owner_epoch);
        if found > advance.owner_epoch {
            return Err(CommitLoopError::TakenOver { partition: advance.partition, found, ours: advance.owner_epoch });
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Elsewhere,
}

enum Retry {
    Later(StoreError),
    Never(CommitLoopError),
}

impl From<StoreError> for Retry {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { Self::Later(error) } else { Self::Never(CommitLoopError::Refused(error)) }
    }
}

/// Waits that double, with jitter from the clock's last digits: many daemons must not come back at once.
struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: BACKOFF_MIN }
    }
}

impl Backoff {
    async fn wait(&mut self) {
        let jitter = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos() % 256);
        tokio::time::sleep(self.next.mul_f64(0.75 + f64::from(jitter) / 512.0)).await;
        self.next = (self.next * 2).min(BACKOFF_MAX);
    }
}
