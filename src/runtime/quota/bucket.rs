//! A token bucket: so many a second, and a few seconds' worth at once. The clock comes in as an argument.

use dataflows::model::{EventTime, SECOND_US};

/// How many seconds' worth may come at once.
pub(super) const BURST_S: f64 = 10.0;

/// What is left of a rate that may differ each time it is looked at.
///
/// Invariant: it holds at most [`BURST_S`] of the rate and owes at most as much, so nobody waits for longer than that.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Bucket {
    level: f64,
    at: EventTime,
}

impl Bucket {
    /// Begins full.
    pub(super) fn full(per_second: f64, now: EventTime) -> Self {
        Self { level: per_second * BURST_S, at: now }
    }

    /// Lets time pass, and gives what may be taken; nothing, where it is negative.
    pub(super) fn level(&mut self, per_second: f64, now: EventTime) -> f64 {
        let seconds = now.0.saturating_sub(self.at.0).max(0) as f64 / SECOND_US as f64;
        let burst = per_second * BURST_S;
        self.level = (self.level + seconds * per_second).clamp(-burst, burst);
        self.at = now;
        self.level
    }

    /// Takes some, or gives some back where it is negative. Time has passed by [`Bucket::level`].
    pub(super) fn take(&mut self, count: f64, per_second: f64) {
        let burst = per_second * BURST_S;
        self.level = (self.level - count).clamp(-burst, burst);
    }

    /// Gives how long it takes until something may be taken again, if nothing may now. Unit: seconds.
    pub(super) fn wait_s(&mut self, per_second: f64, now: EventTime) -> Option<u32> {
        let level = self.level(per_second, now);
        (level <= 0.0).then(|| (-level / per_second).floor() as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let at = |seconds: f64| EventTime((seconds * SECOND_US as f64) as i64);
        let mut bucket = Bucket::full(5.0, at(0.0));
        assert_eq!(bucket.level(5.0, at(100.0)), 50.0, "no more than a burst");
        bucket.take(49.0, 5.0);
        assert_eq!(bucket.wait_s(5.0, at(100.0)), None);
        bucket.take(3.0, 5.0);
        assert_eq!(bucket.wait_s(5.0, at(100.0)), Some(1));
        assert_eq!(bucket.level(5.0, at(101.0)), 3.0);
        bucket.take(1e9, 5.0);
        assert_eq!(bucket.wait_s(5.0, at(101.0)), Some(11), "no more is owed than a burst");
        assert_eq!(bucket.level(5.0, at(90.0)), -50.0, "a clock that goes back gives nothing");
        assert_eq!(bucket.level(5.0, at(100.0)), 0.0);
        bucket.take(-1e9, 5.0);
        assert_eq!(bucket.level(1.0, at(100.0)), 10.0, "a lower quota counts at once");
    }
}
