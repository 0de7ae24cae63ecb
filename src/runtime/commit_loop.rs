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
use crate::store::{Commit, CommitError, Committer, Progress, Store, StoreError};
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
        found: i64,
        /// The epoch under which we committed.
        ours: i64,
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

/// What a failed commit turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// The database has it.
    Applied,
    /// The database is where it was before.
    NotApplied,
    /// The database is elsewhere: it is older than we left it.
    Elsewhere,
}

/// One worker's committer.
pub struct CommitLoop {
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
    pub async fn run(mut self) -> Result<(), CommitLoopError> {
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
                    Err(CommitError::Stop { detail }) => {
                        tracing::error!(%detail, "the database refuses to store; nothing is lost, weir tries again");
                    }
                    Err(error) => tracing::warn!(%error, retry_in = ?backoff.next, "a commit failed"),
                }
                connection = None;
                backoff.wait().await;
                match self.standing(&commit).await {
                    Ok(Standing::Applied) => break,
                    Ok(Standing::Elsewhere) => return Ok(End::Elsewhere),
                    Ok(Standing::NotApplied) => {}
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
        gauges::commit(&committed, started.elapsed());
        Ok(())
    }

    /// Asks the database what became of a commit.
    async fn standing(&self, commit: &Commit) -> Result<Standing, Retry> {
        let partitions: Vec<_> = commit.advances.iter().map(|a| a.partition).collect();
        let progress = self.store.progress(&partitions).await?;
        Ok(judge(commit, &progress).map_err(Retry::Never)?)
    }
}

/// Tells from the database's `progress` what became of a commit. A commit is applied as a whole or not at all.
fn judge(commit: &Commit, progress: &[Progress]) -> Result<Standing, CommitLoopError> {
    let mut standing = None;
    for advance in &commit.advances {
        let Some(found) = progress.iter().find(|p| p.partition == advance.partition) else { return Ok(Standing::Elsewhere) };
        if found.owner_epoch > advance.owner_epoch {
            let (found, ours) = (found.owner_epoch, advance.owner_epoch);
            return Err(CommitLoopError::TakenOver { partition: advance.partition, found, ours });
        }
        let this = match found.offset {
            _ if found.owner_epoch < advance.owner_epoch => Standing::Elsewhere,
            offset if offset == advance.to => Standing::Applied,
            offset if offset == advance.from => Standing::NotApplied,
            _ => Standing::Elsewhere,
        };
        if standing.is_some_and(|other| other != this) {
            return Ok(Standing::Elsewhere);
        }
        standing = Some(this);
    }
    // A commit without advances holds a checkpoint only: storing it again changes nothing.
    Ok(standing.unwrap_or(Standing::NotApplied))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Advance;
    use dataflows::model::{Counts, LogTime, Outputs};

    fn commit() -> Commit {
        let advance = |p, from, to| Advance {
            partition: Partition(p),
            owner_epoch: 5,
            from: Offset(from),
            to: Offset(to),
            counts: Counts::default(),
            log_time: LogTime(0),
        };
        Commit { advances: vec![advance(0, 10, 20), advance(1, 30, 40)], outputs: Outputs::default(), checkpoint: None }
    }

    fn found(rows: &[(u16, u64, i64)]) -> Result<Standing, CommitLoopError> {
        let progress: Vec<_> = rows
            .iter()
            .map(|(p, offset, epoch)| Progress { partition: Partition(*p), offset: Offset(*offset), owner_epoch: *epoch })
            .collect();
        judge(&commit(), &progress)
    }

    #[test]
    fn progress_tells_what_became_of_a_commit() {
        assert_eq!(found(&[(0, 20, 5), (1, 40, 5)]).unwrap(), Standing::Applied);
        assert_eq!(found(&[(0, 10, 5), (1, 30, 5)]).unwrap(), Standing::NotApplied);
        assert_eq!(found(&[(0, 7, 5), (1, 30, 5)]).unwrap(), Standing::Elsewhere, "an older database");
        assert_eq!(found(&[(0, 20, 4), (1, 40, 4)]).unwrap(), Standing::Elsewhere, "a database from before we took it");
        assert_eq!(found(&[(0, 20, 5)]).unwrap(), Standing::Elsewhere, "a database without the partition");
        assert!(matches!(found(&[(0, 20, 6), (1, 40, 5)]), Err(CommitLoopError::TakenOver { .. })));
    }
}
