//! Partials that a running query may not see in the tables yet.
//!
//! A query holds a [`Guard`] from before its snapshot. The partials of a commit that is confirmed while a
//! guard is held stay in memory until that guard is gone; the query tells by the `progress` in its
//! snapshot which of them it has in rows already. Below the [floor](Retained::floor) they are in the
//! tables only: a snapshot that is older than that, as of a replica that lags, cannot be completed.

use crate::store::Commit;
use dataflows::model::{Offset, Partial, Partition, Placed};
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

/// A worker's commit that is on its way, and partials that a running query may not see in the tables.
pub(super) struct Retained {
    guards: Arc<Guards>,
    in_flight: Option<Arc<Commit>>,
    confirmed: VecDeque<(u64, Vec<Placed<Partial>>)>,
    /// For each partition, the offset behind the newest partial that was forgotten.
    floors: BTreeMap<Partition, Offset>,
}

impl Retained {
    /// Starts empty.
    pub(super) fn new(guards: Arc<Guards>) -> Self {
        Self { guards, in_flight: None, confirmed: VecDeque::new(), floors: BTreeMap::new() }
    }

    /// Forgets everything: the worker starts anew.
    pub(super) fn clear(&mut self) {
        self.in_flight = None;
        self.confirmed.clear();
        self.floors.clear();
    }

    /// A partition was taken over, of which so much is in the tables.
    pub(super) fn assume(&mut self, partition: Partition, committed: Offset) {
        self.floors.insert(partition, committed);
    }

    /// A commit is handed to the committer.
    pub(super) fn send(&mut self, commit: Arc<Commit>) {
        debug_assert!(self.in_flight.is_none(), "one commit at a time");
        self.in_flight = Some(commit);
    }

    /// The commit on its way was confirmed. Of its rows, only partials that a query may miss are kept.
    pub(super) fn committed(&mut self) -> Option<Arc<Commit>> {
        let commit = self.in_flight.take()?;
        let partials = &commit.outputs.partials;
        if !partials.is_empty() {
            let number = self.guards.confirm();
            if self.guards.is_seen_by_all(number) {
                forget(&mut self.floors, partials);
            } else {
                self.confirmed.push_back((number, partials.clone()));
            }
        }
        Some(commit)
    }

    /// Whether a commit is on its way.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Drops the partials that every running query sees in the tables.
    pub(super) fn drop_seen(&mut self) {
        while let Some((_, partials)) = self.confirmed.pop_front_if(|(number, _)| self.guards.is_seen_by_all(*number)) {
            forget(&mut self.floors, &partials);
        }
    }

    /// Gives the partials that it holds.
    pub(super) fn partials(&self) -> impl Iterator<Item = &Placed<Partial>> {
        let in_flight = self.in_flight.iter().map(|commit| &commit.outputs.partials);
        self.confirmed.iter().map(|(_, partials)| partials).chain(in_flight).flatten()
    }

    /// Gives the offset from which on all emitted partials of a partition are still held.
    pub(super) fn floor(&self, partition: Partition) -> Offset {
        self.floors.get(&partition).copied().unwrap_or(Offset(0))
    }
}

fn forget(floors: &mut BTreeMap<Partition, Offset>, partials: &[Placed<Partial>]) {
    for partial in partials {
        let floor = floors.entry(partial.partition).or_insert(Offset(0));
        *floor = (*floor).max(Offset(partial.offset.0 + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{BucketLevel, ClassNo, EventTime, HOUR_US, Outputs, Point, SeriesId};

    fn commit(offset: u64) -> Arc<Commit> {
        let point = Point { at: EventTime(0), offset: Offset(offset), value: 1.0 };
        let row = Partial {
            class: ClassNo(0),
            level: BucketLevel::Hour,
            series: SeriesId(1),
            start: EventTime(0),
            end: EventTime(HOUR_US),
            count: 1,
            sum: 1.0,
            min: 1.0,
            max: 1.0,
            first: point,
            last: point,
        };
        let partials = vec![Placed { partition: Partition(3), offset: Offset(offset), row }];
        Arc::new(Commit { advances: Vec::new(), outputs: Outputs { partials, ..Outputs::default() }, checkpoint: None })
    }

    #[test]
    fn partials_are_kept_while_a_query_that_began_before_their_commit_runs() {
        let guards = Arc::new(Guards::default());
        let mut retained = Retained::new(Arc::clone(&guards));
        retained.assume(Partition(3), Offset(5));
        let mut confirm = |offset| {
            retained.send(commit(offset));
            retained.drop_seen();
            assert!(Arc::strong_count(&retained.committed().unwrap()) == 1, "of its rows, only partials are kept");
            (retained.partials().map(|p| p.offset.0).collect::<Vec<_>>(), retained.floor(Partition(3)))
        };
        assert_eq!(confirm(7), (vec![], Offset(8)), "nobody asks");
        let before = guards.begin();
        assert_eq!(confirm(9), (vec![9], Offset(8)));
        let after = guards.begin();
        drop(before);
        assert_eq!(confirm(12), (vec![12], Offset(10)), "the later query's snapshot holds the earlier commit");
        drop(after);
        retained.drop_seen();
        assert_eq!((retained.partials().count(), retained.floor(Partition(3))), (0, Offset(13)));
    }
}
