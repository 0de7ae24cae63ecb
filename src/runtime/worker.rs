//! A worker: one thread, one graph, the partitions that it owns.
//!
//! It reads the log, runs the graph, gathers rows, and hands them to the committer whenever its last ones are
//! committed, in a backlog when they are many: commits are small under light load and large under heavy load, with no timer.
//! It stops reading while too many rows wait, so that a slow database costs bounded memory.
//!
//! Between two runs of at most [`Pace::run_entries`] records it hears what it is told, so that nobody waits
//! for more than that. It ends when it is told to, or when nobody is left who could tell it anything.
//!
//! State: the graph, the records of one reading of each partition, the rows that wait ([`Pending`]; at
//! most [`Pace::rows_max`] and one run's more), the rows of one commit on its way, emitted partials that a running
//! query may still need, a copy of one partition's state while a checkpoint is made of it, and the stored states of
//! partitions that are yet to be taken up.

use super::checkpoint::{Beginning, CheckpointError};
use super::making::{Aside, Making};
use super::muster::{Place, Readiness};
use super::owned::{Owned, Piece};
use super::pace::Pace;
use super::pending::Pending;
use super::retained::Retained;
use super::verdicts;
use super::view::View;
use crate::codec::CodecError;
use crate::log::{Log, ReadError};
use crate::store::{Advance, Checkpoint, Commit};
use dataflows::graph::Graph;
use dataflows::model::{Offset, Outputs, Partition};
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long an idle worker sleeps at the most; every event wakes it.
const IDLE: Duration = Duration::from_secs(1);

/// What a worker is told.
pub(super) enum ToWorker {
    /// The partitions are ours, in this state; all that the worker held is void.
    Assume {
        /// Counts the times; commits are handed over with it.
        generation: u64,
        /// What is taken over.
        partitions: Vec<Assumed>,
    },
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

/// A worker's rows on their way to the committer.
pub(super) struct HandedOver {
    /// Whose.
    pub worker: usize,
    /// That of the newest [`ToWorker::Assume`] that the worker had heard.
    pub generation: u64,
    /// What is to be committed.
    pub commit: Arc<Commit>,
}

/// A worker's way to the committer.
pub(super) struct ToCommitter {
    /// Where it hands over.
    pub commits: tokio::sync::mpsc::Sender<HandedOver>,
    /// Where it tells how much it has.
    pub place: Place,
}

/// A partition as the database has it.
pub(super) struct Assumed {
    /// Which.
    pub partition: Partition,
    /// The ownership under which commits are made.
    pub owner_epoch: u64,
    /// The first record whose rows are not in the database.
    pub committed: Offset,
    /// The checkpoint: the place of the log that the state stands at, and the state as it is stored.
    pub checkpoint: (Offset, Beginning),
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

    /// Gives the worker's thread, to be unparked when there is something new in the log.
    pub(super) fn thread(&self) -> Thread {
        self.thread.clone()
    }
}

/// Why a worker cannot go on. The daemon ends: going on would lose records.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database's checkpoint cannot be used.
    #[error("partition {partition}: {error}")]
    Checkpoint {
        /// Which.
        partition: Partition,
        /// Why.
        error: CheckpointError,
    },
    /// The log holds a record without which all that follows would come out wrong.
    #[error(
        "record {offset} of partition {partition} cannot be passed over: {error}; what was acknowledged stays in the log until a \
         version that reads it goes on"
    )]
    Record {
        /// Which partition.
        partition: Partition,
        /// Where in it.
        offset: Offset,
        /// Why it cannot be read.
        error: CodecError,
    },
}

/// One worker's state.
pub(super) struct Worker {
    graph: Graph,
    pace: Pace,
    log: Log,
    view: Arc<View>,
    inbox: Receiver<ToWorker>,
    committer: ToCommitter,
    generation: u64,
    /// Partitions that are ours and wait to be taken up, each with the verdicts that lie ahead.
    coming: VecDeque<(Assumed, BTreeSet<Offset>)>,
    owned: Vec<Owned>,
    /// The partition that filled the newest run, by its place among the owned.
    latest: Option<usize>,
    /// When the newest run ended, if it came to the log's end.
    drained_at: Option<Instant>,
    /// The records of a run; empty between two, and kept for its memory.
    piece: Piece,
    pending: Pending,
    retained: Retained,
    /// Where the states of checkpoints are encoded.
    aside: Aside,
    making: Option<Making>,
    /// When the newest checkpoint was begun, of whatever partition.
    making_since: Option<Instant>,
    stopping: Option<Stopping>,
}

/// The way out: work off the log up to where it ended when the stop was asked for.
struct Stopping {
    deadline: Instant,
    ends: Vec<(Partition, Offset)>,
}

impl Worker {
    /// Starts with no partition: the committer brings them.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the daemon, and this is where they meet")]
    pub(super) fn new(
        graph: Graph,
        pace: Pace,
        log: Log,
        view: Arc<View>,
        inbox: Receiver<ToWorker>,
        committer: ToCommitter,
        retained: Retained,
        aside: Aside,
    ) -> Self {
        let (coming, owned, pending) = (VecDeque::new(), Vec::new(), Pending::default());
        Self {
            graph,
            pace,
            log,
            view,
            inbox,
            committer,
            generation: 0,
            coming,
            owned,
            latest: None,
            drained_at: None,
            piece: Piece::default(),
            pending,
            retained,
            aside,
            making: None,
            making_since: None,
            stopping: None,
        }
    }

    /// Works until it is stopped and all that it had to commit is committed. A simulation takes the same steps one by one.
    ///
    /// Errors: the log or a checkpoint cannot be read.
    pub(super) fn run(mut self) -> Result<(), WorkerError> {
        loop {
            self.hear()?;
            let rest = self.rest();
            let worked = rest.is_zero() && self.advance()?;
            let sent = self.commit();
            if self.is_done() {
                return Ok(());
            }
            if !worked && !sent {
                std::thread::park_timeout(if rest.is_zero() { IDLE } else { rest });
            }
        }
    }

    /// Gives how long the next run is put off, see [`Pace::run_spacing`].
    fn rest(&self) -> Duration {
        match self.drained_at {
            Some(at) if self.retained.is_in_flight() => self.pace.run_spacing.saturating_sub(at.elapsed()),
            _ => Duration::ZERO,
        }
    }

    /// Takes in all that it was told.
    ///
    /// Errors: the log cannot be read.
    pub(super) fn hear(&mut self) -> Result<(), WorkerError> {
        loop {
            match self.inbox.try_recv() {
                Ok(ToWorker::Assume { generation, partitions }) => {
                    self.generation = generation;
                    self.assume(partitions)?;
                }
                Ok(ToWorker::Committed) => self.committed(),
                Ok(ToWorker::Peek(look)) => {
                    look(&Peek { graph: &self.graph, pending: self.pending.rows(), retained: &self.retained, owned: &self.owned })
                }
                Ok(ToWorker::Stop { deadline }) => self.stop(deadline),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.stop(Instant::now());
                    break;
                }
            }
        }
        self.retained.drop_seen();
        Ok(())
    }

    fn stop(&mut self, deadline: Instant) {
        let coming = self.coming.iter().map(|(assumed, _)| assumed.partition);
        let partitions = self.owned.iter().map(|o| o.partition).chain(coming);
        let ends = partitions.map(|partition| (partition, self.log.end(partition))).collect();
        self.stopping = Some(Stopping { deadline, ends });
    }

    /// Throws away what it held, to start from what the database holds.
    ///
    /// Errors: the log cannot be read.
    fn assume(&mut self, partitions: Vec<Assumed>) -> Result<(), WorkerError> {
        for owned in self.owned.drain(..) {
            self.graph.release(owned.partition);
            self.view.abandon(owned.partition);
        }
        self.pending = Pending::default();
        self.retained.clear();
        self.making = None;
        self.latest = None;
        let places: Vec<_> = partitions.iter().map(|assumed| (assumed.partition, assumed.checkpoint.0)).collect();
        let mut condemned = verdicts::condemned(&self.log, &places)?;
        let coming = partitions.into_iter().map(|assumed| {
            let condemned = condemned.remove(&assumed.partition).unwrap_or_default();
            (assumed, condemned)
        });
        self.coming = coming.collect();
        Ok(())
    }

    /// Takes a partition up.
    ///
    /// Errors: its checkpoint cannot be read.
    fn take_up(&mut self, mut assumed: Assumed, condemned: BTreeSet<Offset>) -> Result<(), WorkerError> {
        let partition = assumed.partition;
        let state = std::mem::take(&mut assumed.checkpoint.1).state();
        let state = state.map_err(|error| WorkerError::Checkpoint { partition, error })?;
        let owned = Owned::assume(&assumed, state.log_time, condemned, Instant::now());
        self.graph.adopt(partition, state);
        self.graph.meter_from(partition, self.view.metered_to(partition));
        self.retained.assume(partition, owned.committed);
        // Also where no record comes for long: open buckets need ticks to be closed.
        self.tell(&owned);
        self.view.assume(partition, owned.next, owned.committed);
        self.owned.push(owned);
        Ok(())
    }

    /// Takes up the next partition that is ours, or else runs some records through the graph, from one partition after the
    /// other. Tells whether there was anything to do.
    ///
    /// Errors: the log or a checkpoint cannot be read.
    pub(super) fn advance(&mut self) -> Result<bool, WorkerError> {
        if let Some((assumed, condemned)) = self.coming.pop_front() {
            self.take_up(assumed, condemned)?;
            return Ok(true);
        }
        if self.pending.is_full(self.pace.rows_max) || self.out_of_time() {
            return Ok(false);
        }
        let is_replaying = self.owned.iter().any(Owned::is_replaying);
        self.take_piece()?;
        if self.piece.is_empty() {
            return Ok(false);
        }
        let Piece { entries, set_aside } = &mut self.piece;
        let is_drained = entries.len() < self.pace.run_entries;
        if is_replaying {
            let mut rows = Outputs::default();
            self.graph.run_into(entries.drain(..), &mut rows);
            rows.quarantined.append(set_aside);
            self.drop_committed(&mut rows);
            self.pending.add(|waiting| waiting.append(&mut rows));
        } else {
            self.pending.add(|waiting| {
                self.graph.run_into(entries.drain(..), waiting);
                waiting.quarantined.append(set_aside);
            });
        }
        self.drained_at = is_drained.then(Instant::now);
        self.owned.iter().for_each(|owned| self.tell(owned));
        Ok(true)
    }

    /// Tells how far the graph is in a partition, and what it holds.
    fn tell(&self, owned: &Owned) {
        let (open_state, counts) = (self.graph.has_open_state(owned.partition), self.graph.counts(owned.partition));
        self.view.processed(owned.partition, owned.next, open_state, counts);
        self.view.suspended(owned.partition, self.graph.suspended(owned.partition));
        self.view.metered(owned.partition, owned.next, self.graph.take_metered(owned.partition));
    }

    /// Takes what comes next, of the partition first that is furthest behind by log time: their records lie side by side in
    /// the log, and what has been read for one is there for all as long as they keep together. None fills two runs in a row
    /// while others have records: one whose uplinks take long to decode, and which so stays behind, leaves them half of the runs.
    fn take_piece(&mut self) -> Result<(), WorkerError> {
        let mut in_turn: SmallVec<[usize; 16]> = (0..self.owned.len()).collect();
        in_turn.sort_unstable_by_key(|&at| (self.latest == Some(at), self.owned[at].log_time, at));
        self.latest = None;
        for at in in_turn {
            self.owned[at].take(&self.log, &self.pace, &mut self.piece)?;
            if self.piece.entries.len() >= self.pace.run_entries {
                self.latest = Some(at);
                break;
            }
        }
        Ok(())
    }

    /// The rows below progress are in the database; only the state had to be rebuilt.
    fn drop_committed(&self, outputs: &mut Outputs) {
        let committed = |partition| self.owned.iter().find(|o| o.partition == partition).map(|o| o.committed);
        outputs.retain(|partition, offset| committed(partition).is_some_and(|committed| offset >= committed));
    }

    /// Hands what waits to the committer, if that is free, with the checkpoint that is made by now; tells how much waits, and
    /// begins the next checkpoint. Gives whether it handed something over.
    pub(super) fn commit(&mut self) -> bool {
        let readiness = self.readiness();
        if self.retained.is_in_flight() || self.out_of_time() || readiness == Readiness::Growing {
            self.committer.place.tell(readiness);
            return false;
        }
        // What comes next has yet to grow; told before, so that the committer, who then hears of this, does not see less.
        self.committer.place.tell(if readiness == Readiness::Ready { Readiness::Growing } else { readiness });
        let made = self.making.as_ref().and_then(Making::ready);
        self.making.take_if(|_| made.is_some());
        let (checkpoint, state) = made.unzip();
        // A checkpoint goes with its partition's advance, also where that is empty: it must be fenced.
        let moves = |o: &&Owned| o.next > o.committed || checkpoint.as_ref().is_some_and(|c| c.partition == o.partition);
        let advances: Vec<_> = self.owned.iter().filter(moves).map(|o| self.advance_of(o)).collect();
        let hands_over = !advances.is_empty();
        if hands_over {
            self.hand_over(advances, checkpoint);
        }
        // Behind the rows, which then do not wait for it. One at a time, whose copy of the state is all the memory that is taken.
        drop(state);
        if self.making.is_none() {
            self.making = self.begin_checkpoint(self.is_drained());
        }
        hands_over
    }

    fn hand_over(&mut self, advances: Vec<Advance>, checkpoint: Option<Checkpoint>) {
        self.owned.iter_mut().for_each(|o| o.handed_over = o.handed_over.max(o.next));
        let commit = Arc::new(Commit { advances, outputs: self.pending.take(), checkpoint });
        self.retained.send(Arc::clone(&commit));
        let handed_over = HandedOver { worker: self.committer.place.worker(), generation: self.generation, commit };
        if self.committer.commits.blocking_send(handed_over).is_err() {
            tracing::debug!("the committer has ended");
        }
    }

    /// Tells whether the next commit should hold more. While a backlog is worked off nobody waits for the newest rows,
    /// and rows are the cheaper to write and to read the more of them are sorted together.
    fn readiness(&self) -> Readiness {
        let records = |count: fn(&Owned, &Log) -> u64| self.owned.iter().map(|o| count(o, &self.log)).sum::<u64>();
        if self.stopping.is_some()
            || records(|o, log| log.end(o.partition).0.saturating_sub(o.next.0)) < self.pace.backlog_records
        {
            Readiness::CaughtUp
        } else if self.pending.is_full(self.pace.rows_max / 2)
            || records(|o, _| o.next.0.saturating_sub(o.handed_over.0)) >= self.pace.checkpoint_records
        {
            Readiness::Ready
        } else {
            Readiness::Growing
        }
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

    /// Begins the checkpoint that is most due, if one is.
    fn begin_checkpoint(&mut self, last: bool) -> Option<Making> {
        let now = Instant::now();
        // A full log can be truncated as far as there are checkpoints, and nothing more comes that would make them due.
        let full = self.log.is_full();
        // All partitions were taken up together, and their checkpoints grow old together. None of those is in a hurry, and one
        // behind the other they would take both the processor and the disk from the rows.
        let spacing = self.pace.checkpoint_age / (2 * self.owned.len() as u32).max(1);
        let is_spaced = self.making_since.is_none_or(|since| now.duration_since(since) >= spacing);
        let due = |o: &&mut Owned| {
            let end = self.log.end(o.partition);
            o.is_due(&self.pace, end, is_spaced.then_some(now), last || (full && o.next == end))
        };
        let owned = self.owned.iter_mut().filter(due).max_by_key(|o| o.next.0 - o.checkpointed.0)?;
        owned.checkpointed = owned.next;
        owned.checkpointed_at = now;
        self.making_since = Some(now);
        let (partition, offset) = (owned.partition, owned.next);
        Some(Making::begin(&self.aside, self.log.id(), partition, offset, self.graph.snapshot(partition)))
    }

    fn committed(&mut self) {
        let Some(commit) = self.retained.committed() else { return };
        for advance in &commit.advances {
            if let Some(owned) = self.owned.iter_mut().find(|o| o.partition == advance.partition) {
                owned.committed = advance.to;
            }
        }
        if let Some(commit) = Arc::into_inner(commit) {
            self.pending.reuse(commit.outputs);
        }
    }

    fn out_of_time(&self) -> bool {
        self.stopping.as_ref().is_some_and(|s| Instant::now() >= s.deadline)
    }

    /// Whether a stop was asked for, and all that the log held then went through the graph.
    fn is_drained(&self) -> bool {
        let next = |partition| self.owned.iter().find(|o| o.partition == partition).map(|o| o.next);
        self.stopping
            .as_ref()
            .is_some_and(|s| s.ends.iter().all(|(partition, end)| next(*partition).is_some_and(|next| next >= *end)))
    }

    /// Whether it was stopped and nothing is left to commit. Past the deadline nothing waits for the database.
    pub(super) fn is_done(&self) -> bool {
        let is_settled = |o: &Owned| o.next == o.committed && o.checkpointed == o.next;
        let settled = || !self.retained.is_in_flight() && self.making.is_none() && self.owned.iter().all(is_settled);
        self.stopping.is_some() && ((self.is_drained() && settled()) || self.out_of_time())
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
