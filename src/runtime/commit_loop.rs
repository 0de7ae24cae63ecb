//! The committer: a task that has all of the workers' talk with the database.
//!
//! It takes all partitions, brings the workers their checkpoints, and then commits what the workers
//! hand over, one transaction at a time. While a backlog is worked off the rows of all workers go into one,
//! see [`Muster`](super::muster::Muster); else what is there when it is free. A commit of which nothing was
//! written is tried again, for as long as it takes. When its answer was lost or it was fenced, the database is asked where it stands:
//! the commit may have been applied, or not (try again), or the database may be older than we left it
//! (a crash, a failover): then everything starts again from what it holds. It is asked the same whenever the
//! connection had to be made anew, commit or no commit: what a crash took back of a silent partition would
//! otherwise be missing until that is heard of again.

use super::backoff::{Backoff, Pauses};
use super::checkpoint::Beginning;
use super::database::{Database, Session};
use super::gauges;
use super::pool::{Seat, Workers};
use super::standing::Standing;
use super::trouble::Trouble;
use super::view::View;
use super::worker::{Assumed, ToWorker};
use crate::log::Log;
use crate::store::{Commit, CommitError, Commits, Landing, StoreError, StoredCheckpoint, Taken};
use dataflows::model::{CatalogueSeries, Offset, Partition};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time from one commit to the next. Uplinks that come singly would be committed singly, at many times
/// the cost; who sends one in a while does not wait.
const SPACING: Duration = Duration::from_millis(20);

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
    /// The log starts behind the place from which the database wants to be replayed.
    #[error(
        "partition {partition} must be replayed from offset {needed}, but the log starts at {start}: {} records are missing. Restore \
         the log, or accept the loss: `weir log adopt` shows what it is", start.0 - needed.0
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

/// The workers' committer.
pub(super) struct CommitLoop<D> {
    /// The database.
    pub database: D,
    /// The log, for its identity and extent.
    pub log: Log,
    /// The name under which partitions are owned.
    pub owner: String,
    /// The workers.
    pub workers: Workers,
    /// Where it tells of commits.
    pub view: Arc<View>,
    /// Where it tells what keeps it from its work.
    pub trouble: Trouble,
    /// How it waits.
    pub pauses: Pauses,
}

impl<D: Database> CommitLoop<D> {
    /// Runs until the workers end.
    ///
    /// Errors: the daemon must end, see [`CommitLoopError`].
    pub(super) async fn run(mut self) -> Result<(), CommitLoopError> {
        let (mut backoff, mut generation) = (Backoff::default(), 0);
        loop {
            match self.take().await {
                Ok(assumed) => {
                    backoff = Backoff::default();
                    generation += 1;
                    self.trouble.clear();
                    let standing = Standing::new(&assumed);
                    self.drop_void();
                    self.assume(generation, assumed);
                    if self.commit_all(generation, standing).await? == End::Finished {
                        return Ok(());
                    }
                    // Elsewhere: take again.
                }
                Err(Retry::Never(error)) => return Err(error),
                Err(Retry::Later(error)) => {
                    told(&error, &backoff);
                    self.trouble.set(&error);
                    if self.workers.commits.is_closed() {
                        return Ok(());
                    }
                    backoff.wait(&self.pauses).await;
                }
            }
        }
    }

    /// Takes the partitions and loads their states.
    async fn take(&self) -> Result<Vec<Assumed>, Retry> {
        let partitions: Vec<_> = (0..self.log.partitions()).map(Partition).collect();
        let ends: Vec<_> = partitions.iter().map(|p| (*p, self.log.end(*p))).collect();
        let taken = self.database.take(&self.owner, self.log.id(), &ends).await?;
        let checkpoints = self.database.checkpoints(&partitions, self.log.id()).await?;
        let mut checkpoints: HashMap<Partition, StoredCheckpoint> = checkpoints.into_iter().map(|c| (c.partition, c)).collect();
        let mut catalogue = Catalogue::default();
        let mut assumed = Vec::with_capacity(taken.len());
        for Taken { partition, offset: committed, begins, owner_epoch } in taken {
            let stored = checkpoints.remove(&partition);
            let needed = stored.as_ref().map_or(begins, |stored| stored.offset);
            let start = self.log.start(partition);
            if needed < start {
                return Err(Retry::Never(CommitLoopError::LogTruncated { partition, needed, start }));
            }
            let knows_all_series = stored.as_ref().is_some_and(|stored| !stored.precedes_adoption);
            let numbered = match knows_all_series {
                true => Vec::new(),
                false => catalogue.of(partition, &self.database, &self.log).await?,
            };
            tracing::info!(%partition, %committed, replay_from = %needed, "took the partition");
            assumed.push(Assumed { partition, owner_epoch, committed, checkpoint: (needed, Beginning { stored, numbered }) });
        }
        Ok(assumed)
    }

    /// Forgets what was handed over before: the workers start anew and forget it too.
    fn drop_void(&mut self) {
        while self.workers.commits.try_recv().is_ok() {}
    }

    /// Gives each worker its partitions.
    fn assume(&self, generation: u64, mut assumed: Vec<Assumed>) {
        for Seat { partitions, worker } in &self.workers.seats {
            let partitions = assumed.extract_if(.., |assumed| partitions.contains(&assumed.partition)).collect();
            worker.send(ToWorker::Assume { generation, partitions });
        }
    }

    /// Commits what the workers hand over until they end, or the database turns out to be elsewhere.
    ///
    /// Whenever the connection is made anew, the database is asked first: also about the partitions that the
    /// commit at hand does not move, and while there is no commit at all.
    async fn commit_all(&mut self, generation: u64, mut standing: Standing) -> Result<End, CommitLoopError> {
        let mut session = self.database.session();
        loop {
            if !session.is_connected() && self.landing(&mut session, &standing, Commits(&[])).await? == Landing::Elsewhere {
                return Ok(End::Elsewhere);
            }
            let first = tokio::select! {
                biased;
                first = self.workers.commits.recv() => first,
                () = session.disconnected() => continue,
            };
            let Some(first) = first else { return Ok(End::Finished) };
            if first.generation != generation {
                // The worker had not heard yet that it starts anew.
                continue;
            }
            let handed_over = self.workers.gather(first, &self.pauses).await;
            let begun = Instant::now();
            let commits: Vec<&Commit> = handed_over.iter().map(|handed_over| &*handed_over.commit).collect();
            let commits = Commits(&commits);
            match self.commit(&mut session, &standing, commits).await? {
                Some(end) => return Ok(end),
                None => standing.moved(commits),
            }
            commits.advances().for_each(|advance| self.view.committed(advance.partition, advance.to));
            self.view.commit_rows(handed_over.iter().map(|handed_over| handed_over.commit.outputs.len()).sum());
            // The workers take the rows' memory back.
            let workers: Vec<usize> = handed_over.into_iter().map(|handed_over| handed_over.worker).collect();
            self.pauses.pause(SPACING.saturating_sub(begun.elapsed())).await;
            workers.into_iter().for_each(|worker| self.workers.seats[worker].worker.send(ToWorker::Committed));
        }
    }

    /// Commits, for as long as it takes; gives the end where it does not come to that.
    async fn commit(
        &self,
        session: &mut D::Session,
        standing: &Standing,
        commits: Commits<'_>,
    ) -> Result<Option<End>, CommitLoopError> {
        let mut backoff = Backoff::default();
        let mut ask = !session.is_connected();
        loop {
            if ask {
                match self.landing(session, standing, commits).await? {
                    Landing::Landed => return Ok(None),
                    Landing::Missed => {}
                    Landing::Elsewhere => return Ok(Some(End::Elsewhere)),
                }
            }
            ask = match try_commit(session, commits).await {
                Ok(()) => {
                    self.trouble.clear();
                    return Ok(None);
                }
                Err(error @ CommitError::Stop(_)) => {
                    tracing::error!(%error, retry_in = ?backoff.next, "the database refuses to store; nothing is lost, and weir tries again");
                    self.trouble.set(&error);
                    false
                }
                Err(error) => {
                    tracing::warn!(%error, retry_in = ?backoff.next, "a commit failed");
                    self.trouble.set(&error);
                    matches!(error, CommitError::Unknown(_) | CommitError::Fenced { .. })
                }
            };
            ask |= !session.is_connected();
            backoff.wait(&self.pauses).await;
            if self.workers.commits.is_closed() {
                return Ok(Some(End::Finished));
            }
        }
    }

    /// Asks the database where it stands and what became of commits, where there are any, until it answers or nobody
    /// waits any more.
    async fn landing(
        &self,
        session: &mut D::Session,
        standing: &Standing,
        commits: Commits<'_>,
    ) -> Result<Landing, CommitLoopError> {
        let mut backoff = Backoff::default();
        loop {
            match session.progress().await {
                Ok(progress) => {
                    self.trouble.clear();
                    standing.taken_over(&progress)?;
                    return Ok(standing.landing(commits, &progress));
                }
                Err(error) => {
                    told(&error, &backoff);
                    self.trouble.set(&error);
                }
            }
            if self.workers.commits.is_closed() {
                return Ok(Landing::Missed);
            }
            backoff.wait(&self.pauses).await;
        }
    }
}

async fn try_commit(session: &mut impl Session, commits: Commits<'_>) -> Result<(), CommitError> {
    let started = Instant::now();
    let committed = session.commit(commits).await?;
    gauges::commit(&committed, commits.checkpoints().next().is_some(), started.elapsed());
    if let Some(refused) = committed.refused.first() {
        let (rows, partition, offset) = (committed.refused.len(), refused.partition, refused.offset);
        tracing::warn!(rows, %partition, %offset, example = refused.detail, "the database refused rows: they are in quarantine");
    }
    Ok(())
}

/// The series that have numbers, by partition; read when the first partition asks.
#[derive(Default)]
struct Catalogue {
    by_partition: Option<HashMap<Partition, Vec<CatalogueSeries>>>,
}

impl Catalogue {
    /// Takes out those of a partition.
    async fn of<D: Database>(
        &mut self,
        partition: Partition,
        database: &D,
        log: &Log,
    ) -> Result<Vec<CatalogueSeries>, StoreError> {
        if self.by_partition.is_none() {
            let mut by_partition = HashMap::<_, Vec<_>>::new();
            for series in database.numbered_series().await? {
                by_partition.entry(Partition::of(&series.device, log.partitions())).or_default().push(series);
            }
            self.by_partition = Some(by_partition);
        }
        Ok(self.by_partition.as_mut().and_then(|all| all.remove(&partition)).unwrap_or_default())
    }
}

/// Says what keeps the committer from its work: what passes by itself, or what a person has to mend.
fn told(error: &StoreError, backoff: &Backoff) {
    if error.is_transient() {
        tracing::warn!(%error, retry_in = ?backoff.next, "the database is not available; the log goes on taking uplinks");
    } else {
        tracing::error!(%error, retry_in = ?backoff.next, "the database cannot be used; the log goes on taking uplinks, and weir tries again");
    }
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
        if error.is_final() { Self::Never(CommitLoopError::Refused(error)) } else { Self::Later(error) }
    }
}
