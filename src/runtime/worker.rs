//! A worker: one thread, one graph, the partitions that it owns.
//!
//! It reads the log, runs the graph, gathers rows, and hands them to its committer whenever the
//! committer is free: commits are small under light load and large under heavy load, with no timer.
//! It stops reading while too many rows wait, so that a slow database costs bounded memory.
//!
//! State: the graph, at most [`Pace::rows_max`] rows and [`QUARANTINED_BYTES_MAX`] waiting (and one
//! batch more), the rows of one commit on its way, and emitted partials that a running query may still need.

use super::checkpoint;
use super::owned::{Owned, Unreadable};
use super::pace::Pace;
use super::retained::Retained;
use super::view::View;
use crate::log::{Log, RawRecord, ReadError};
use crate::store::{Advance, Checkpoint, Commit};
use dataflows::graph::Graph;
use dataflows::graph::PartitionState;
use dataflows::model::{DeviceId, Entry, LogTime, MINUTE_US, Offset, Outputs, Partition, Placed, Quarantined, Reason, TenantNo};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Bytes of quarantined records that may wait, for they are much larger than other rows.
const QUARANTINED_BYTES_MAX: usize = 64 << 20;
/// A partition is checkpointed when its newest checkpoint is older than this in log time, also when few
/// records have come since. Unit: microseconds.
const CHECKPOINT_AGE_US: i64 = 5 * MINUTE_US;
/// How long an idle worker sleeps at the most; every event wakes it.
const IDLE: Duration = Duration::from_secs(1);

/// What a worker is told.
pub(super) enum ToWorker {
    /// The partitions are ours, in this state; all that the worker held is void.
    Assume(Vec<Assumed>),
    /// The commit on its way has reached the database.
    Committed,
    /// Look into the graph between two runs.
    Peek(Box<dyn FnOnce(&Peek<'_>) + Send>),
    /// Work off what the log holds now, checkpoint everything, and end.
    Stop {
        /// Work is cut short then; the rest is replayed at the next start.
        deadline: Instant,
    },
}

/// A partition as the database has it.
pub(super) struct Assumed {
    /// Which.
    pub partition: Partition,
    /// The ownership under which commits are made.
    pub owner_epoch: u64,
    /// The first record whose rows are not in the database.
    pub committed: Offset,
    /// The checkpoint: the place of the log that the state stands at, and the state.
    pub checkpoint: (Offset, PartitionState),
}

/// What a look into a worker sees.
pub(super) struct Peek<'a> {
    /// The graph, between two runs.
    pub graph: &'a Graph,
    /// Rows that wait for the committer.
    pub pending: &'a Outputs,
    /// Commits on their way or so fresh that a query may not see them yet.
    pub retained: &'a Retained,
    /// The place of each partition.
    pub owned: &'a [Owned],
}

/// How others reach a worker.
#[derive(Clone)]
pub(super) struct WorkerHandle {
    sender: Sender<ToWorker>,
    thread: Thread,
}

impl WorkerHandle {
    /// Joins both halves.
    pub(super) fn new(sender: Sender<ToWorker>, thread: Thread) -> Self {
        Self { sender, thread }
    }

    /// Tells the worker something. A worker that has ended hears nothing, which is not an error.
    pub(super) fn send(&self, message: ToWorker) {
        if self.sender.send(message).is_ok() {
            self.thread.unpark();
        }
    }

    /// Wakes the worker: there is something new in the log.
    pub(super) fn wake(&self) {
        self.thread.unpark();
    }
}

/// Why a worker cannot go on. The daemon ends: going on would lose records.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// One worker's state.
pub(super) struct Worker {
    graph: Graph,
    pace: Pace,
    log: Log,
    view: Arc<View>,
    inbox: Receiver<ToWorker>,
    committer: tokio::sync::mpsc::Sender<Arc<Commit>>,
    owned: Vec<Owned>,
    pending: Outputs,
    retained: Retained,
    stopping: Option<Stopping>,
    raw: Vec<RawRecord>,
}

/// The way out: work off the log up to where it ended when the stop was asked for.
struct Stopping {
    deadline: Instant,
    ends: Vec<(Partition, Offset)>,
}

impl Worker {
    /// Starts with no partition: the committer brings them.
    pub(super) fn new(
        graph: Graph,
        pace: Pace,
        log: Log,
        view: Arc<View>,
        inbox: Receiver<ToWorker>,
        committer: tokio::sync::mpsc::Sender<Arc<Commit>>,
        retained: Retained,
    ) -> Self {
        let (owned, pending) = (Vec::new(), Outputs::default());
        Self { graph, pace, log, view, inbox, committer, owned, pending, retained, stopping: None, raw: Vec::new() }
    }

    /// Works until it is stopped and all that it had to commit is committed.
    ///
    /// Errors: the log cannot be read.
    pub(super) fn run(mut self) -> Result<(), WorkerError> {
        loop {
            self.hear()?;
            self.retained.drop_seen();
            let worked = self.advance()?;
            let sent = self.commit();
            if self.is_done() {
                return Ok(());
            }
            if !worked && !sent {
                std::thread::park_timeout(IDLE);
            }
        }
    }

    fn hear(&mut self) -> Result<(), WorkerError> {
        loop {
            match self.inbox.try_recv() {
                Ok(ToWorker::Assume(partitions)) => self.assume(partitions)?,
                Ok(ToWorker::Committed) => self.committed(),
                Ok(ToWorker::Peek(look)) => {
                    look(&Peek { graph: &self.graph, pending: &self.pending, retained: &self.retained, owned: &self.owned })
                }
                Ok(ToWorker::Stop { deadline }) => {
                    let ends = self.owned.iter().map(|o| (o.partition, self.log.end(o.partition))).collect();
                    self.stopping = Some(Stopping { deadline, ends });
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Throws away what it held and starts from what the database holds.
    fn assume(&mut self, partitions: Vec<Assumed>) -> Result<(), WorkerError> {
        for owned in self.owned.drain(..) {
            self.graph.release(owned.partition);
            self.view.abandon(owned.partition);
        }
        self.pending = Outputs::default();
        self.retained.clear();
        for assumed in partitions {
            let (at, state) = assumed.checkpoint;
            let owned = Owned::assume(&self.log, assumed.partition, assumed.owner_epoch, at, assumed.committed)?;
            self.graph.adopt(owned.partition, state);
            self.view.assume(owned.partition, owned.next, owned.committed);
            self.owned.push(owned);
        }
        Ok(())
    }

    /// Reads some records of every partition and runs them through the graph. Tells whether there were any.
    fn advance(&mut self) -> Result<bool, WorkerError> {
        if self.is_full() || self.out_of_time() {
            return Ok(false);
        }
        let replays = self.owned.iter().any(Owned::is_replaying);
        let (mut entries, mut unreadable) = (Vec::<Entry>::new(), Vec::new());
        for owned in &mut self.owned {
            let from = entries.len();
            owned.read(&self.log, self.pace.read_bytes, &mut self.raw, &mut entries, &mut unreadable)?;
            let partition = owned.partition;
            self.pending.quarantined.extend(unreadable.drain(..).map(|bad| quarantine(partition, bad)));
            debug_assert!(entries[from..].is_sorted_by_key(|e| e.offset), "a partition is read in order");
        }
        if entries.is_empty() {
            return Ok(false);
        }
        let mut outputs = self.graph.run(entries);
        self.pending.append(&mut outputs);
        if replays {
            // The rows below progress are in the database; only the state had to be rebuilt.
            let committed = |partition| self.owned.iter().find(|o| o.partition == partition).map(|o| o.committed);
            self.pending.retain(|partition, offset| committed(partition).is_some_and(|committed| offset >= committed));
        }
        for owned in &self.owned {
            let (open_state, counts) = (self.graph.has_open_state(owned.partition), self.graph.counts(owned.partition));
            self.view.processed(owned.partition, owned.next, open_state, counts);
        }
        Ok(true)
    }

    fn is_full(&self) -> bool {
        let quarantined_bytes =
            || self.pending.quarantined.iter().map(|q| q.row.record.len() + q.row.detail.len()).sum::<usize>();
        self.pending.len() >= self.pace.rows_max || quarantined_bytes() >= QUARANTINED_BYTES_MAX
    }

    /// Hands what waits to the committer, if that is free. Tells whether it did.
    fn commit(&mut self) -> bool {
        if self.retained.is_in_flight() {
            return false;
        }
        let last = self.stopping.is_some() && (self.is_drained() || self.out_of_time());
        let checkpoint = self.checkpoint(last);
        // A checkpoint goes with its partition's advance, also where that is empty: it must be fenced.
        let moves = |o: &&Owned| o.next > o.committed || checkpoint.as_ref().is_some_and(|c| c.partition == o.partition);
        let advances: Vec<_> = self.owned.iter().filter(moves).map(|o| self.advance_of(o)).collect();
        if advances.is_empty() {
            return false;
        }
        let commit = Arc::new(Commit { advances, outputs: std::mem::take(&mut self.pending), checkpoint });
        self.retained.send(Arc::clone(&commit));
        if self.committer.blocking_send(commit).is_err() {
            tracing::debug!("the committer has ended");
        }
        true
    }

    fn advance_of(&self, owned: &Owned) -> Advance {
        Advance {
            partition: owned.partition,
            owner_epoch: owned.owner_epoch,
            from: owned.committed,
            to: owned.next,
            counts: self.graph.counts(owned.partition),
            log_time: owned.log_time,
        }
    }

    /// Takes the checkpoint that is most due, if one is: one partition at a time keeps commits short.
    fn checkpoint(&mut self, last: bool) -> Option<Checkpoint> {
        let log = self.log.id();
        let due = |o: &Owned| {
            let records = o.next.0.saturating_sub(o.checkpointed.0);
            let aged = o.log_time.0.saturating_sub(o.checkpointed_at.0) >= CHECKPOINT_AGE_US;
            let is_due = records >= self.pace.checkpoint_records || (records > 0 && (aged || last));
            (is_due && !o.is_replaying()).then_some(records)
        };
        let owned = self.owned.iter_mut().filter(|o| due(o).is_some()).max_by_key(|o| due(o))?;
        owned.checkpointed = owned.next;
        owned.checkpointed_at = owned.log_time;
        let state = checkpoint::encode(&self.graph.snapshot(owned.partition));
        Some(Checkpoint { partition: owned.partition, offset: owned.next, log, version: checkpoint::CHECKPOINT_VERSION, state })
    }

    fn committed(&mut self) {
        let Some(commit) = self.retained.committed() else { return };
        self.view.commit_rows(commit.outputs.len());
        for advance in &commit.advances {
            if let Some(owned) = self.owned.iter_mut().find(|o| o.partition == advance.partition) {
                owned.committed = advance.to;
            }
            self.view.committed(advance.partition, advance.to);
        }
    }

    fn out_of_time(&self) -> bool {
        self.stopping.as_ref().is_some_and(|s| Instant::now() >= s.deadline)
    }

    /// Whether all that the log held when the stop was asked for went through the graph.
    fn is_drained(&self) -> bool {
        let next = |partition| self.owned.iter().find(|o| o.partition == partition).map(|o| o.next);
        self.stopping
            .as_ref()
            .is_some_and(|s| s.ends.iter().all(|(partition, end)| next(*partition).is_some_and(|next| next >= *end)))
    }

    /// Whether it was stopped and nothing is left to commit. Past the deadline nothing waits for the database.
    fn is_done(&self) -> bool {
        let settled =
            || !self.retained.is_in_flight() && self.owned.iter().all(|o| o.next == o.committed && o.checkpointed == o.next);
        self.stopping.is_some() && ((self.is_drained() && settled()) || self.out_of_time())
    }
}

/// A record that cannot be read passes as time, and its bytes are kept.
fn quarantine(partition: Partition, bad: Unreadable) -> Placed<Quarantined> {
    let row = Quarantined {
        log_time: LogTime(bad.record.log_time.0),
        tenant: TenantNo(0),
        device: DeviceId::parse("unknown").expect("the name is well-formed"),
        field: None,
        reason: Reason::BadRecord,
        detail: bad.error.to_string(),
        record: bad.record.body.into(),
    };
    Placed { partition, offset: bad.record.offset, row }
}
