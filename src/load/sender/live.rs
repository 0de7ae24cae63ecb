//! Owns the figures that can be watched while a schedule is being sent.

use super::Outcome;
use hdrhistogram::Histogram;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time that is told apart. Unit: microseconds.
const TIME_US_MAX: u64 = 600_000_000;

/// The figures of a sender at work. They only grow.
#[derive(Debug, Default)]
pub struct Live(Mutex<Tally>);

/// All figures at one moment.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From due to acknowledged. Unit of this and the others: microseconds.
    pub acknowledged: Histogram<u64>,
    /// From due to refused.
    pub refused: Histogram<u64>,
    /// From due to the moment at which no answer was waited for any more.
    pub unanswered: Histogram<u64>,
    /// The age at the end of what was due and never sent, because the schedule could not be kept.
    pub unsent: Histogram<u64>,
    /// From due to the beginning of the request: what the sender, its queues and its connections added.
    pub behind: Histogram<u64>,
}

/// The counts at one moment. They count uplinks, each copy for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Figures {
    /// All that were sent, with whatever outcome.
    pub sent: u64,
    /// Those that the daemon took in.
    pub acknowledged: u64,
    /// Those that are certainly not in the log.
    pub refused: u64,
    /// Those that may be in the log.
    pub unanswered: u64,
    /// Those that were due and never sent.
    pub unsent: u64,
    /// By how much requests began too late at most. Unit: milliseconds.
    pub behind_ms_max: u64,
    /// By how much the latest hundredth of the requests began too late at least. Unit: milliseconds.
    pub behind_ms_p99: u64,
}

/// A load whose requests begin later than this, one in a hundred, is not the load that was asked for.
const BEHIND_MS_MAX: u64 = 100;

impl Figures {
    /// Whether the load was the one that was asked for.
    pub fn kept_schedule(&self) -> bool {
        self.unsent == 0 && self.behind_ms_p99 <= BEHIND_MS_MAX
    }
}

impl Default for Tally {
    fn default() -> Self {
        let new = || Histogram::new_with_max(TIME_US_MAX, 3).expect("three digits up to ten minutes can be told apart");
        Self { acknowledged: new(), refused: new(), unanswered: new(), unsent: new(), behind: new() }
    }
}

impl Tally {
    /// Gives the counts.
    pub fn figures(&self) -> Figures {
        let [acknowledged, refused, unanswered] = [&self.acknowledged, &self.refused, &self.unanswered].map(Histogram::len);
        Figures {
            sent: acknowledged + refused + unanswered,
            acknowledged,
            refused,
            unanswered,
            unsent: self.unsent.len(),
            behind_ms_max: self.behind.max() / 1_000,
            behind_ms_p99: self.behind.value_at_quantile(0.99) / 1_000,
        }
    }

    pub(super) fn answered(&mut self, outcome: &Outcome, behind: Duration, latency: Duration) {
        let of_outcome = match outcome {
            Outcome::Acknowledged => &mut self.acknowledged,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::Unanswered(_) => &mut self.unanswered,
        };
        of_outcome.saturating_record(micros(latency));
        self.behind.saturating_record(micros(behind));
    }

    pub(super) fn unsent(&mut self, age: Duration) {
        self.unsent.saturating_record(micros(age));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Live {
    /// Gives all figures so far. For those of a span of time subtract what was given at its start.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_kept_when_all_is_sent_about_when_it_is_due() {
        let check = |behind_ms: [u64; 2], unsent: bool, expected: bool| {
            let mut tally = Tally::default();
            for nth in 0..100 {
                let behind = Duration::from_millis(behind_ms[usize::from(nth >= 98)]);
                tally.answered(&Outcome::Acknowledged, behind, behind);
            }
            if unsent {
                tally.unsent(Duration::from_secs(1));
            }
            assert_eq!(tally.figures().kept_schedule(), expected, "{behind_ms:?} {unsent}");
        };
        check([0, 0], false, true);
        check([0, 99], false, true);
        check([0, 150], false, false);
        check([0, 0], true, false);
    }
}
