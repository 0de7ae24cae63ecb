//! Owns what the tables must hold, given what was acknowledged.
//!
//! It is fed in any order and computes by the rules of in-order arrival. What the daemon stores depends
//! on the order of arrival in one way only: an arrival out of order, within the lateness horizon, may
//! leave rows behind that in-order arrival would not have stored. So, per series:
//!
//! - *required* rows, those of in-order arrival and every late one, must be there;
//! - any other row must be a true measurement, and there once.
//!
//! Both together say that the tables draw the step function of in-order arrival (for fields without a
//! deadband; late rows are stored as they are and stand beside it).
//!
//! An uplink without an answer may or may not be in the log. Its measurements are allowed, not required,
//! and of the others in its series those are required that are stored with and without it; see
//! [`SeriesExpectation`].

mod rollup;
mod series;

pub use rollup::{Bucket, BucketExpectation};
pub use series::{Measured, Order, SeriesExpectation};

use super::kinds::Field;
use super::uplink::Readings;
use super::{Fate, Fleet, FleetUplink, Rules};
use dataflows::model::{BucketLevel, EventTime, LogTime};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was acknowledged, and what follows from it.
///
/// State: one entry of some 64 bytes for each uplink, copies not counted.
#[derive(Clone, Debug)]
pub struct Expectation {
    fleet: Arc<Fleet>,
    /// What is known of each device's uplinks, by their frame counters.
    sent: Vec<BTreeMap<u32, Sent>>,
    copies: Copies,
}

/// How many requests ended how, copies counted one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    /// Acknowledged: they are in the log.
    pub acknowledged: u64,
    /// Sent without an answer that says: they may be in the log.
    pub unanswered: u64,
}

/// How many uplinks went which way, if all went well. Sums of the least and the most that can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpectedCounts {
    /// Uplinks that must be decoded.
    pub decoded: u64,
    /// Uplinks that may be decoded: their answer is missing.
    pub decoded_maybe: u64,
    /// Uplinks that the decoder must refuse.
    pub refused: u64,
    /// Uplinks that the decoder may refuse: their answer is missing.
    pub refused_maybe: u64,
    /// Measurements of the uplinks that must be decoded.
    pub measurements: u64,
    /// Measurements of those that may be.
    pub measurements_maybe: u64,
}

/// One uplink, with all its copies.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: EventTime,
    readings: Readings,
    fate: Fate,
    /// An upper bound of when the log took in the first copy; none where no answer came.
    by: Option<LogTime>,
}

impl Expectation {
    /// Expects nothing yet.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let sent = vec![BTreeMap::new(); fleet.members().len()];
        Self { fleet, sent, copies: Copies::default() }
    }

    /// Takes in that a copy was acknowledged; the log had it at `by` at the latest.
    pub fn acknowledged(&mut self, uplink: &FleetUplink, by: LogTime) {
        self.copies.acknowledged += 1;
        self.note(uplink, Some(by));
    }

    /// Takes in that a copy was sent and that no answer says what became of it.
    pub fn unanswered(&mut self, uplink: &FleetUplink) {
        self.copies.unanswered += 1;
        self.note(uplink, None);
    }

    fn note(&mut self, uplink: &FleetUplink, by: Option<LogTime>) {
        let sent = self.sent[uplink.device as usize].entry(uplink.fcnt).or_insert(Sent {
            at: uplink.received_at,
            readings: uplink.readings,
            fate: uplink.fate,
            by,
        });
        sent.by = [sent.by, by].into_iter().flatten().min();
    }

    /// Takes in what another expectation of the same fleet knows.
    pub fn merge(&mut self, other: Self) {
        self.copies.acknowledged += other.copies.acknowledged;
        self.copies.unanswered += other.copies.unanswered;
        for (sent, other) in self.sent.iter_mut().zip(other.sent) {
            for (fcnt, other) in other {
                let sent = sent.entry(fcnt).or_insert(other);
                sent.by = [sent.by, other.by].into_iter().flatten().min();
            }
        }
    }

    /// Gives the fleet.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Gives how the requests ended.
    pub fn copies(&self) -> Copies {
        self.copies
    }

    /// Gives how many uplinks and measurements there must be, copies not counted.
    pub fn counts(&self) -> ExpectedCounts {
        let mut counts = ExpectedCounts::default();
        for (member, sent) in self.fleet.members().iter().zip(&self.sent) {
            let fields = member.kind.spec().fields.len() as u64;
            for sent in sent.values() {
                match (sent.fate, sent.by) {
                    (Fate::Bad, Some(_)) => counts.refused += 1,
                    (Fate::Bad, None) => counts.refused_maybe += 1,
                    (_, Some(_)) => {
                        counts.decoded += 1;
                        counts.measurements += fields;
                    }
                    (_, None) => {
                        counts.decoded_maybe += 1;
                        counts.measurements_maybe += fields;
                    }
                }
            }
        }
        counts
    }

    /// Gives what the raw tables must hold of a device's field.
    pub fn series(&self, device: u32, field: &Field, rules: &Rules) -> SeriesExpectation {
        let rule = rules.of(self.fleet.member(device).kind, field);
        SeriesExpectation::in_order(self.measured(device, field, rules), rule)
    }

    /// Gives what the rollup tables must hold of a device's field, bucket by bucket, in UTC.
    pub fn buckets(&self, device: u32, field: &Field, level: BucketLevel, rules: &Rules) -> Vec<BucketExpectation> {
        rollup::buckets(self.measured(device, field, rules), level, rules.lateness_horizon_us)
    }

    /// The measurements of a field, in the order of the event times.
    fn measured(&self, device: u32, field: &Field, rules: &Rules) -> Vec<Measured> {
        let good = self.sent[device as usize].values().filter(|sent| sent.fate != Fate::Bad);
        // The fleet sends its late uplinks behind others, of which it does not know whether they were refused, as by a daemon
        // that is not there.
        let is_behind = |late: &Sent| {
            let mut in_turn = good.clone().filter(|sent| sent.fate != Fate::Late);
            in_turn.any(|sent| sent.at.0 - rules.lateness_horizon_us >= late.at.0 && sent.by.is_some() && sent.by < late.by)
        };
        let order = |sent: &Sent| match sent.fate {
            Fate::Late if is_behind(sent) => Order::Late,
            Fate::Late => Order::Unknown,
            _ => Order::InTurn,
        };
        let mut measured: Vec<Measured> = good
            .clone()
            .map(|sent| Measured {
                at: sent.at,
                value: (field.value)(sent.readings[field.reading]),
                order: order(sent),
                by: sent.by,
            })
            .collect();
        measured.sort_by_key(|measured| measured.at);
        measured
    }
}
