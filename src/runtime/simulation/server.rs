//! A database server in memory, with a WAL: what is committed is visible at once and durable later. It is as the
//! contract in `database` says, and no better.

use super::random::Fate;
use super::tables::{Committed, Tables};
use crate::store::Commit;
use dataflows::model::{Offset, Partition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// A server; clones are the same.
#[derive(Clone)]
pub(super) struct Server {
    pub fate: Fate,
    /// A transaction whose connection is gone is looked at once in so many times.
    lingering: u64,
    state: Arc<Mutex<State>>,
}

/// What it is and holds.
#[derive(Default)]
pub(super) struct State {
    pub up: bool,
    pub read_only: bool,
    /// Everything committed, in order; how much of it is durable; and what it makes of the tables.
    pub history: Vec<Committed>,
    flushed: usize,
    pub tables: Tables,
    /// Connections that live.
    connections: BTreeSet<u64>,
    opened: u64,
    /// Transactions whose COMMIT was received, by their number.
    received: BTreeMap<u64, Received>,
    answers: BTreeMap<u64, Answer>,
    numbers: u64,
}

struct Received {
    connection: u64,
    commits: Arc<[Commit]>,
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It is in the tables.
    Applied,
    /// It was rolled back, for the partition is not where it begins.
    Fenced(Partition),
    /// It was rolled back, as servers do now and then.
    Aborted,
}

impl Server {
    pub(super) fn new(fate: &Fate) -> Self {
        let state = State { up: true, ..State::default() };
        Self { fate: fate.clone(), lingering: fate.one_of(&[1, 10, 40]), state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on one of the transactions that it received. One whose connection is gone it may still bring to its end,
    /// whenever it likes.
    pub(super) fn work(&self) {
        let mut state = self.state();
        let waiting: Vec<u64> = state.received.keys().copied().collect();
        if waiting.is_empty() {
            return;
        }
        let number = self.fate.one_of(&waiting);
        let abandoned = !state.connections.contains(&state.received[&number].connection);
        if abandoned && !self.fate.once_in(self.lingering) {
            return;
        }
        let Received { commits, .. } = state.received.remove(&number).expect("it was just listed");
        let answer = match state.tables.fence(commits.iter().flat_map(|commit| &commit.advances)) {
            _ if self.fate.once_in(if abandoned { 2 } else { 30 }) => Answer::Aborted,
            Some(partition) => Answer::Fenced(partition),
            None => {
                state.write(Committed::Rows(commits));
                Answer::Applied
            }
        };
        self.fate.note(format_args!("transaction {number}: {answer:?}"));
        state.answers.insert(number, answer);
    }

    /// Makes some more of the WAL durable.
    pub(super) fn flush_some(&self) {
        let mut state = self.state();
        let (from, to) = (state.flushed, state.history.len());
        state.flushed = self.fate.within(from as u64..=to as u64) as usize;
    }

    /// Crashes: what was not flushed may be gone, from its end.
    pub(super) fn crash(&self) {
        let mut state = self.state();
        let kept = self.fate.within(state.flushed as u64..=state.history.len() as u64) as usize;
        self.fate.note(format_args!("the server lost {} transactions", state.history.len() - kept));
        state.begin_anew(kept);
        state.up = false;
    }

    /// A replica that lags takes its place. It does not lag so far that a log which begins at `start` could not go on.
    pub(super) fn fail_over(&self, start: impl Fn(Partition) -> Offset) {
        let mut state = self.state();
        let all = state.history.len();
        let mut kept = all - self.fate.below(all.min(12) as u64 + 1) as usize;
        while kept < all && !Tables::after(&state.history[..kept]).go_on_with(&start) {
            kept += 1;
        }
        self.fate.note(format_args!("the replica lacks {} transactions", all - kept));
        state.begin_anew(kept);
        state.up = true;
        state.read_only = self.fate.once_in(2);
    }

    /// Starts after a crash.
    pub(super) fn start(&self) {
        self.state().up = true;
    }

    /// Lets a connection break.
    pub(super) fn cut_one(&self) {
        let mut state = self.state();
        let live: Vec<u64> = state.connections.iter().copied().collect();
        if !live.is_empty() {
            state.connections.remove(&self.fate.one_of(&live));
        }
    }

    /// Another weir takes a partition.
    pub(super) fn intrude(&self, partition: Partition) {
        let mut state = self.state();
        if let Some(log) = state.tables.progress.get(&partition).map(|progress| progress.log) {
            state.take(partition, "another weir", log);
            state.flush();
        }
    }
}

impl State {
    fn write(&mut self, committed: Committed) {
        self.tables.apply(&committed);
        self.history.push(committed);
    }

    /// Takes a partition for somebody.
    pub(super) fn take(&mut self, partition: Partition, owner: &str, log: Uuid) {
        self.write(Committed::Taking { partition, owner: owner.into(), log });
    }

    /// Makes all of the WAL durable, as a synchronous commit does.
    pub(super) fn flush(&mut self) {
        self.flushed = self.history.len();
    }

    /// Gives the tables as a crash would leave them at worst.
    pub(super) fn durable(&self) -> Tables {
        Tables::after(&self.history[..self.flushed])
    }

    fn begin_anew(&mut self, kept: usize) {
        self.history.truncate(kept);
        self.flushed = kept;
        self.tables = Tables::after(&self.history);
        self.connections.clear();
        self.received.clear();
    }

    /// Opens a connection, where the server takes any that may write.
    pub(super) fn connect(&mut self) -> Option<u64> {
        if !self.up || self.read_only {
            return None;
        }
        self.opened += 1;
        self.connections.insert(self.opened);
        Some(self.opened)
    }

    /// Whether a connection lives.
    pub(super) fn lives(&self, connection: u64) -> bool {
        self.connections.contains(&connection)
    }

    /// Ends a connection from the client's side.
    pub(super) fn close(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    /// Receives a COMMIT; gives the transaction's number.
    pub(super) fn receive(&mut self, connection: u64, commits: Arc<[Commit]>) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        self.received.insert(number, Received { connection, commits });
        number
    }

    /// Gives what became of a transaction, once it is known.
    pub(super) fn answer(&self, number: u64) -> Option<Answer> {
        self.answers.get(&number).copied()
    }
}
