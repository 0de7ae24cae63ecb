//! What each worker has for the next commit. While a backlog is worked off, the rows of all workers go together: sorted in one
//! commit they are cheaper to write and to read than in one for each worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// How far a worker is with its next rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Readiness {
    /// It has no backlog before it: somebody may wait for its newest rows.
    CaughtUp,
    /// It works a backlog off, and has few rows as yet.
    Growing,
    /// It works a backlog off, and has rows enough for a commit.
    Ready,
}

/// What all workers have.
pub(super) struct Muster {
    workers: Vec<AtomicU8>,
    changed: Notify,
}

/// One worker's place in it.
pub(super) struct Place {
    muster: Arc<Muster>,
    worker: usize,
}

impl Muster {
    /// Starts with so many workers, none of which has anything.
    pub(super) fn new(workers: usize) -> Arc<Self> {
        let workers = (0..workers).map(|_| AtomicU8::new(Readiness::CaughtUp as u8)).collect();
        Arc::new(Self { workers, changed: Notify::new() })
    }

    /// Gives a worker its place.
    pub(super) fn place(self: &Arc<Self>, worker: usize) -> Place {
        Place { muster: Arc::clone(self), worker }
    }

    /// Whether a commit of the rows of these workers should wait for those of others. All of them have a backlog, so
    /// that nobody waits for the newest rows; and none has as much again already, so that a worker whose uplinks take
    /// long to decode does not keep the others from their work.
    pub(super) fn is_incomplete(&self, present: &[usize]) -> bool {
        let is = |worker: usize, readiness| self.workers[worker].load(Ordering::Acquire) == readiness as u8;
        let mut absent = (0..self.workers.len()).filter(|worker| !present.contains(worker));
        present.iter().all(|&worker| is(worker, Readiness::Growing)) && absent.any(|worker| !is(worker, Readiness::CaughtUp))
    }

    /// Waits until a worker's readiness has changed since this was called last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Place {
    /// Which worker it is.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    /// The worker tells how far it is.
    pub(super) fn tell(&self, readiness: Readiness) {
        let before = self.muster.workers[self.worker].swap(readiness as u8, Ordering::AcqRel);
        if before != readiness as u8 {
            self.muster.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Readiness::{CaughtUp, Growing, Ready};

    #[test]
    fn a_commit_waits_for_who_works_a_backlog_off_and_for_nobody_else() {
        let check = |states: [Readiness; 3], present: &[usize], expected| {
            let muster = Muster::new(3);
            (0..3).for_each(|worker| muster.place(worker).tell(states[worker]));
            assert_eq!(muster.is_incomplete(present), expected, "{states:?} {present:?}");
        };
        check([Growing, Growing, CaughtUp], &[0], true);
        check([Growing, Growing, CaughtUp], &[0, 1], false);
        check([Growing, Growing, Growing], &[0, 1], true);
        // It is about to hand over.
        check([Growing, Ready, CaughtUp], &[0], true);
        check([Growing, CaughtUp, CaughtUp], &[0], false);
        // Somebody may wait for the rows of the first.
        check([CaughtUp, Growing, Growing], &[0], false);
        check([CaughtUp, Growing, Growing], &[0, 1], false);
        // The first would have to stop.
        check([Ready, Growing, Growing], &[0], false);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_a_change_and_of_nothing_else() {
        let muster = Muster::new(1);
        let told = async || tokio::time::timeout(std::time::Duration::ZERO, muster.changed()).await.is_ok();
        muster.place(0).tell(Growing);
        assert!(told().await);
        muster.place(0).tell(Growing);
        assert!(!told().await);
    }
}
