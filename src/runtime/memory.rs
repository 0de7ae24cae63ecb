//! The workers' memory as the query endpoint reads it: open partials, and those that were emitted
//! so recently that a query's snapshot of the tables may not hold them.
//!
//! A query holds a [`Guard`] from before its snapshot. A commit that is confirmed while a guard is
//! held stays in memory until that guard is gone; the query tells by the `progress` in its snapshot
//! which of those partials it has in rows already.

use super::worker::{Peek, ToWorker, WorkerHandle};
use crate::query::{Latest, Memory, MemoryError, MemoryPartials};
use crate::store::Commit;
use dataflows::model::{BucketLevel, DeviceId, Offset, Partial, Partition, Placed, SeriesId, TenantNo};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts commits and the queries that run, so that memory is dropped when nobody needs it.
#[derive(Default)]
pub(super) struct Guards {
    state: Mutex<GuardState>,
}

#[derive(Default)]
struct GuardState {
    /// Commits that were confirmed so far, by all workers.
    commits: u64,
    /// How many queries began when so many commits were confirmed.
    running: BTreeMap<u64, usize>,
}

impl Guards {
    fn state(&self) -> MutexGuard<'_, GuardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a query that begins now.
    pub(super) fn begin(self: &Arc<Self>) -> Guard {
        let mut state = self.state();
        let began = state.commits;
        *state.running.entry(began).or_default() += 1;
        Guard { guards: Arc::clone(self), began }
    }

    /// Counts a commit that is confirmed now, and gives its number.
    fn confirm(&self) -> u64 {
        let mut state = self.state();
        state.commits += 1;
        state.commits
    }

    /// Tells whether every query that runs began after that commit.
    fn is_seen_by_all(&self, commit: u64) -> bool {
        self.state().running.first_key_value().is_none_or(|(began, _)| commit <= *began)
    }
}

/// A running query. Released when it is dropped.
pub(super) struct Guard {
    guards: Arc<Guards>,
    began: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.guards.state();
        if let Some(count) = state.running.get_mut(&self.began) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&self.began);
            }
        }
    }
}

/// A worker's commits that are on their way, or that a running query may not see in the tables.
pub(super) struct Retained {
    guards: Arc<Guards>,
    in_flight: Option<Arc<Commit>>,
    confirmed: VecDeque<(u64, Arc<Commit>)>,
}

impl Retained {
    /// Starts empty.
    pub(super) fn new(guards: Arc<Guards>) -> Self {
        Self { guards, in_flight: None, confirmed: VecDeque::new() }
    }

    /// A commit is handed to the committer.
    pub(super) fn send(&mut self, commit: Arc<Commit>) {
        debug_assert!(self.in_flight.is_none(), "one commit at a time");
        self.in_flight = Some(commit);
    }

    /// The commit on its way was confirmed.
    pub(super) fn committed(&mut self) -> Option<Arc<Commit>> {
        let commit = self.in_flight.take()?;
        if !commit.outputs.partials.is_empty() {
            self.confirmed.push_back((self.guards.confirm(), Arc::clone(&commit)));
        }
        Some(commit)
    }

    /// Whether a commit is on its way.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Drops the commits that every running query sees in the tables.
    pub(super) fn drop_seen(&mut self) {
        while self.confirmed.front().is_some_and(|(number, _)| self.guards.is_seen_by_all(*number)) {
            self.confirmed.pop_front();
        }
    }

    /// Forgets everything: the worker starts anew.
    pub(super) fn clear(&mut self) {
        self.in_flight = None;
        self.confirmed.clear();
    }

    /// Gives the partials that it holds.
    fn partials(&self) -> impl Iterator<Item = &Placed<Partial>> {
        self.confirmed.iter().map(|(_, commit)| commit).chain(&self.in_flight).flat_map(|commit| &commit.outputs.partials)
    }
}

/// Reads the memory of all workers.
pub(super) struct WorkersMemory {
    /// The worker of partition p is `workers[p % workers.len()]`.
    workers: Vec<WorkerHandle>,
    guards: Arc<Guards>,
    partitions: u16,
}

impl WorkersMemory {
    /// Reads from `workers`, whose commits are counted by `guards`.
    pub(super) fn new(workers: Vec<WorkerHandle>, guards: Arc<Guards>, partitions: u16) -> Self {
        Self { workers, guards, partitions }
    }

    async fn look<T: Send + 'static>(
        &self,
        partition: Partition,
        look: impl FnOnce(&Peek<'_>) -> T + Send + 'static,
    ) -> Result<T, MemoryError> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let worker = &self.workers[usize::from(partition.0) % self.workers.len()];
        worker.send(ToWorker::Peek(Box::new(move |peek| {
            let assumed = peek.owned.iter().any(|o| o.partition == partition);
            // The query may have given up meanwhile.
            let _ = sender.send(assumed.then(|| look(peek)));
        })));
        answer.await.ok().flatten().ok_or(MemoryError::NotReady(partition))
    }
}

impl Memory for WorkersMemory {
    type Guard = Guard;

    fn guard(&self) -> Guard {
        self.guards.begin()
    }

    async fn latest(&self, tenant: TenantNo, device: DeviceId) -> Result<Vec<Latest>, MemoryError> {
        let partition = Partition::of(&device, self.partitions);
        self.look(partition, move |peek| peek.graph.latest(tenant, &device)).await
    }

    async fn partials(
        &self,
        partition: Partition,
        series: Vec<SeriesId>,
        level: BucketLevel,
    ) -> Result<MemoryPartials, MemoryError> {
        self.look(partition, move |peek| {
            let position = peek.owned.iter().find(|o| o.partition == partition).map_or(Offset(0), |o| o.next);
            let wanted =
                |p: &&Placed<Partial>| p.partition == partition && p.row.level == level && series.contains(&p.row.series);
            let emitted = peek.retained.partials().chain(&peek.pending.partials).filter(wanted).cloned().collect();
            MemoryPartials { position, open: peek.graph.open_partials(&series, level), emitted }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_kept_while_a_query_that_began_before_it_runs() {
        let guards = Arc::new(Guards::default());
        let before = guards.begin();
        let commit = guards.confirm();
        let after = guards.begin();
        assert!(!guards.is_seen_by_all(commit));
        drop(before);
        assert!(guards.is_seen_by_all(commit), "the later query's snapshot holds the commit");
        drop(after);
        assert!(guards.is_seen_by_all(commit));
    }
}
