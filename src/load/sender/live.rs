//! Owns the figures that can be watched while a schedule is being sent.

use super::Outcome;
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest latency that is told apart. Unit: microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Counters of a sender at work. They only grow.
#[derive(Debug)]
pub struct Live {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    behind_us_max: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

/// The counters at one moment. They count uplinks, each copy for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Figures {
    /// All that are done, in one way or another.
    pub sent: u64,
    /// Those that the daemon took in.
    pub acknowledged: u64,
    /// Those that are certainly not in the log.
    pub refused: u64,
    /// Those that may be in the log.
    pub unanswered: u64,
    /// By how much the sender itself was late at most. More than a few milliseconds: the load was not
    /// what was asked for. Unit: milliseconds.
    pub behind_ms_max: u64,
}

impl Default for Live {
    fn default() -> Self {
        let latency = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("three digits up to a minute can be told apart");
        Self {
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            behind_us_max: AtomicU64::new(0),
            latency: Mutex::new(latency),
        }
    }
}

impl Live {
    /// Gives the counters.
    pub fn figures(&self) -> Figures {
        let [acknowledged, refused, unanswered] =
            [&self.acknowledged, &self.refused, &self.unanswered].map(|counter| counter.load(Relaxed));
        Figures {
            sent: acknowledged + refused + unanswered,
            acknowledged,
            refused,
            unanswered,
            behind_ms_max: self.behind_us_max.load(Relaxed) / 1_000,
        }
    }

    /// Gives the latencies so far, from due to acknowledged, in microseconds. For those of a span of time
    /// subtract what was given at its start.
    pub fn latency(&self) -> Histogram<u64> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn answered(&self, outcome: &Outcome, latency: Duration) {
        let counter = match outcome {
            Outcome::Acknowledged => {
                let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(latency_us);
                &self.acknowledged
            }
            Outcome::Refused(_) => &self.refused,
            Outcome::Unanswered(_) => &self.unanswered,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn behind(&self, behind: Duration) {
        self.behind_us_max.fetch_max(u64::try_from(behind.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}
