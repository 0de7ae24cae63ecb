//! Commits that a running query may not see in the tables yet.
//!
//! A query holds a [`Guard`] from before its snapshot. A commit that is confirmed while a guard is
//! held stays in memory until that guard is gone; the query tells by the `progress` in its snapshot
//! which of those partials it has in rows already.

use crate::store::Commit;
use dataflows::model::{Partial, Placed};
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
    pub(super) fn partials(&self) -> impl Iterator<Item = &Placed<Partial>> {
        self.confirmed.iter().map(|(_, commit)| commit).chain(&self.in_flight).flat_map(|commit| &commit.outputs.partials)
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
