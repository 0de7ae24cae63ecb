//! Owns the outcomes of a schedule: one place for all connections, so that nothing of it is kept twice.

use super::{Keep, Live, Outcome, Sender};
use crate::load::{Due, Expectation};
use dataflows::model::LogTime;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Requests whose outcomes may wait for the ledger; it is faster than any connection.
const NOTES_MAX: usize = 1_024;
/// More different texts are not kept.
const FAILURE_TEXTS_MAX: usize = 20;

/// Where outcomes are told.
pub(super) type Notes = mpsc::Sender<Note>;

/// What became of the uplinks of one request.
pub(super) enum Note {
    /// They were sent.
    Done {
        dues: Vec<Due>,
        /// One for each.
        outcomes: Vec<Outcome>,
        posted: Instant,
        answered: Instant,
        /// What the machine's clock said behind the answer.
        by: LogTime,
    },
    /// They were due and are left.
    Unsent { dues: Vec<Due>, at: Instant },
}

pub(super) struct Ledger {
    started: Instant,
    live: Arc<Live>,
    keep: Keep,
    notes: mpsc::Receiver<Note>,
    expectation: Expectation,
    failures: BTreeMap<String, u64>,
}

impl Ledger {
    pub(super) fn new(sender: &Sender, started: Instant) -> (Self, Notes) {
        let (tell, notes) = mpsc::channel(NOTES_MAX);
        let expectation = Expectation::new(Arc::clone(&sender.fleet));
        let live = Arc::clone(&sender.live);
        (Self { started, live, keep: sender.options.keep, notes, expectation, failures: BTreeMap::new() }, tell)
    }

    /// Takes notes until nobody is left who could write one; gives what the tables must hold, and why
    /// uplinks were not acknowledged.
    pub(super) async fn keep(mut self) -> (Expectation, BTreeMap<String, u64>) {
        while let Some(note) = self.notes.recv().await {
            match note {
                Note::Done { dues, outcomes, posted, answered, by } => self.done(&dues, &outcomes, (posted, answered), by),
                Note::Unsent { dues, at } => {
                    let mut tally = self.live.lock();
                    dues.iter().for_each(|due| tally.unsent(self.since_due(due, at)));
                }
            }
        }
        (self.expectation, self.failures)
    }

    fn since_due(&self, due: &Due, at: Instant) -> Duration {
        at.saturating_duration_since(self.started + Duration::from_micros(due.due_us))
    }

    fn done(&mut self, dues: &[Due], outcomes: &[Outcome], (posted, answered): (Instant, Instant), by: LogTime) {
        let mut tally = self.live.lock();
        for (due, outcome) in dues.iter().zip(outcomes) {
            tally.answered(outcome, self.since_due(due, posted), self.since_due(due, answered));
        }
        drop(tally);
        for (due, outcome) in dues.iter().zip(outcomes) {
            match outcome {
                Outcome::Acknowledged if self.keep == Keep::Expectation => self.expectation.acknowledged(&due.uplink, by),
                Outcome::Unanswered(_) if self.keep == Keep::Expectation => self.expectation.unanswered(&due.uplink),
                _ => {}
            }
            if let Outcome::Refused(text) | Outcome::Unanswered(text) = outcome {
                self.failed(text);
            }
        }
    }

    fn failed(&mut self, text: &str) {
        if let Some(count) = self.failures.get_mut(text) {
            *count += 1;
        } else if self.failures.len() < FAILURE_TEXTS_MAX {
            self.failures.insert(text.to_owned(), 1);
        }
    }
}
