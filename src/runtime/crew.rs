//! The workers and their committer: all that stands between the log and the tables.
//!
//! Knows no door, no clock and no registry tables: what it writes depends on the log alone.

use super::backoff::Pauses;
use super::commit_loop::{CommitLoop, CommitLoopError};
use super::error::ServeError;
use super::memory::WorkersMemory;
use super::pace::Pace;
use super::pool::WorkerPool;
use super::retained::Guards;
use super::view::View;
use crate::decoder::Decoders;
use crate::log::Log;
use crate::store::Store;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::{JoinError, JoinSet};

/// The workers of a log, and their committer once there is a database.
pub struct Crew {
    log: Log,
    view: Arc<View>,
    pool: WorkerPool,
    guards: Arc<Guards>,
    /// One at most.
    committer: JoinSet<Result<(), CommitLoopError>>,
}

impl Crew {
    /// Starts so many workers; they wait for the committer. `view` is told how far they get.
    ///
    /// Errors: the operating system gives no thread.
    pub fn start(workers: usize, pace: Pace, log: &Log, decoders: &Decoders, view: &Arc<View>) -> Result<Self, ServeError> {
        let guards = Arc::new(Guards::default());
        let pool = WorkerPool::start(workers, pace, log, decoders, view, &guards).map_err(ServeError::Thread)?;
        Ok(Self { log: log.clone(), view: Arc::clone(view), pool, guards, committer: JoinSet::new() })
    }

    /// Starts the committer, once: it takes all partitions under the name `owner`.
    pub fn commit_to(&mut self, store: &Store, owner: &str) {
        self.view.reached(store.level().to_string());
        let Some(workers) = self.pool.take_workers() else { return };
        let (database, log, owner) = (store.clone(), self.log.clone(), owner.to_owned());
        let (view, trouble) = (Arc::clone(&self.view), self.view.trouble("committer"));
        let pauses = Pauses::system();
        self.committer.spawn(CommitLoop { database, log, owner, workers, view, trouble, pauses }.run());
    }

    /// Waits for something that makes the daemon end; for ever, where nothing does.
    pub async fn failure(&mut self) -> ServeError {
        tokio::select! {
            error = self.pool.failure() => error.into(),
            Some(result) = self.committer.join_next() => match failure(result) {
                Err(error) => error,
                // The committer ends well only after the workers, and no worker was told to.
                Ok(()) => self.pool.failure().await.into(),
            },
        }
    }

    /// Works off what the log holds now, commits and checkpoints it, and ends. What is not done by
    /// `deadline` is replayed at the next start.
    ///
    /// Errors: a worker or the committer, that could not go on.
    pub async fn stop(mut self, deadline: Instant) -> Result<(), ServeError> {
        self.pool.stop(deadline);
        let ended = self.finish().await;
        self.abandon().await;
        ended
    }

    /// Waits until every worker has ended, or the committer finds that they cannot end well.
    async fn finish(&mut self) -> Result<(), ServeError> {
        loop {
            tokio::select! {
                result = self.pool.join() => return Ok(result?),
                Some(result) = self.committer.join_next() => failure(result)?,
            }
        }
    }

    /// Ends committer and workers where they are. Waited for, so that they hold the log no more.
    pub(super) async fn abandon(mut self) {
        self.committer.shutdown().await;
        self.pool.stop(Instant::now());
        self.pool.ended().await;
    }

    /// Gives the workers' memory, for queries.
    pub(super) fn memory(&self) -> WorkersMemory {
        WorkersMemory::new(self.pool.handles(), Arc::clone(&self.guards), self.log.partitions())
    }
}

fn failure(result: Result<Result<(), CommitLoopError>, JoinError>) -> Result<(), ServeError> {
    Ok(result??)
}
