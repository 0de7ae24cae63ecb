//! Owns what waits for the writer, within a bound: an append beyond it is refused at once.

use super::NewRecord;
use super::error::AppendError;
use super::frame::RECORD_OVERHEAD_BYTES;
use dataflows::model::Offset;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// What an append is answered.
pub(super) type Answer = Result<Vec<Offset>, AppendError>;

/// Whose records an append holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Author {
    /// Anyone's: refused when there is no room, and while the clock is not believed.
    Sender,
    /// The daemon's own, which it cannot go on without: they have room of their own.
    Daemon,
}

/// An append that waits.
pub(super) struct Job {
    pub(super) author: Author,
    pub(super) records: Vec<NewRecord>,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Answer>,
    /// What whoever appends has set aside for it.
    pub(super) held: Option<Held>,
}

/// Something that is dropped when an append is done with, whether or not anybody waits for its answer.
pub type Held = Box<dyn Send>;

impl Job {
    /// Tells its author what became of it; who no longer waits does not want the answer.
    pub(super) fn answer(self, answer: Answer) {
        drop(self.held);
        let _ = self.answer.send(answer);
    }
}

/// Appends in the order in which they came.
pub(super) struct Queue {
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, waiting: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts an append at the end. The daemon's own always fit: few wait, for who appends one waits for its answer.
    ///
    /// Errors: `Busy` if it does not fit, `Closed`.
    pub(super) fn push(
        &self,
        author: Author,
        records: Vec<NewRecord>,
        held: Option<Held>,
    ) -> Result<oneshot::Receiver<Answer>, AppendError> {
        let bytes = bytes(&records);
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(AppendError::Closed);
        }
        if author == Author::Sender && waiting.bytes + bytes > self.bytes_max {
            return Err(AppendError::Busy { queued_bytes: waiting.bytes });
        }
        let (answer, receiver) = oneshot::channel();
        waiting.bytes += bytes;
        waiting.jobs.push_back(Job { author, records, bytes, answer, held });
        self.changed.notify_one();
        Ok(receiver)
    }

    /// Waits for appends and takes those that fit in a group together, or one that is larger. None: the queue
    /// is closed and empty.
    pub(super) fn take(&self, group_bytes_max: usize) -> Option<Vec<Job>> {
        let mut waiting = self.waiting();
        while waiting.jobs.is_empty() && !waiting.closed {
            waiting = self.changed.wait(waiting).expect(UNPOISONED);
        }
        let first = waiting.jobs.pop_front()?;
        waiting.bytes -= first.bytes;
        let mut room = group_bytes_max.saturating_sub(first.bytes);
        let mut group = vec![first];
        while let Some(job) = waiting.jobs.pop_front_if(|job| job.bytes <= room) {
            room -= job.bytes;
            waiting.bytes -= job.bytes;
            group.push(job);
        }
        Some(group)
    }

    /// Takes no more appends. Those that wait are still handed out.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more appends, and answers those that wait with `Closed`.
    pub(super) fn abandon(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.jobs.clear();
    }

    /// Gives what waits. Unit: bytes.
    pub(super) fn bytes(&self) -> usize {
        self.waiting().bytes
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds the queue";

/// What records take in a group. Unit: bytes.
pub(super) fn bytes(records: &[NewRecord]) -> usize {
    records.iter().map(|record| record.body.len() + RECORD_OVERHEAD_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::Partition;
    use std::sync::Arc;

    #[test]
    fn what_is_held_for_an_append_is_held_until_it_is_done_with_though_its_sender_has_gone() {
        let queue = Queue::new(1000);
        let held = Arc::new(());
        let push = || {
            let record = NewRecord { partition: Partition(0), body: vec![0; 10] };
            drop(queue.push(Author::Sender, vec![record], Some(Box::new(Arc::clone(&held)))).unwrap());
        };
        push();
        assert_eq!(Arc::strong_count(&held), 2);
        let jobs = queue.take(1000).unwrap();
        assert_eq!(Arc::strong_count(&held), 2, "it is being written");
        jobs.into_iter().for_each(|job| job.answer(Ok(vec![])));
        assert_eq!(Arc::strong_count(&held), 1);
        push();
        queue.abandon();
        assert_eq!(Arc::strong_count(&held), 1, "it will never be written");
    }
}
