//! What one tenant has used of its quotas, estimated at the door and corrected by what its decoders gave.

use super::bucket::Bucket;
use crate::registry::Quota;
use dataflows::graph::Metered;
use dataflows::model::{DAY_US, EventTime, Excess, QuotaSpan};
use serde::{Deserialize, Serialize};

/// A tenant that sends more than so many times its quota a second, for longer than a burst, is refused.
const ABUSE_FACTOR: f64 = 10.0;
/// Over how many uplinks the mean goes.
const MEAN_OF: u64 = 1000;

/// What one tenant has used.
#[derive(Debug)]
pub(super) struct Account {
    /// What stays over a restart.
    pub(super) kept: Kept,
    /// What of the quota a second is left.
    second: Bucket,
    /// What is left until it is abuse.
    patience: Bucket,
    /// Uplinks within the quotas that are charged and not decoded yet.
    open_uplinks: u64,
    /// What they were charged with. Unit: measurements.
    open_charge: f64,
}

/// What stays of an account over a restart.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Days since 1970, UTC.
    day: i64,
    /// What was used of that day. Unit: measurements.
    used: f64,
    /// Uplinks over a quota on that day.
    over: u64,
    /// Mean measurements of an uplink.
    mean: f64,
    /// How many uplinks have gone into it, up to [`MEAN_OF`].
    mean_of: u64,
}

/// What became of uplinks at the door.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(in crate::runtime) struct Charge {
    /// The first so many are within the quotas.
    pub within: usize,
    /// What the others are over, if there are any.
    pub excess: Option<Excess>,
    /// With what those within were charged. Unit: measurements.
    charged: f64,
    /// What all of them count for where it is told whether that is abuse. Unit: measurements.
    counted: f64,
}

impl Charge {
    /// Where there is no quota.
    pub(super) fn free(uplinks: usize) -> Self {
        Self { within: uplinks, ..Self::default() }
    }
}

/// An account for a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Used {
    pub(super) measurements: u64,
    pub(super) over_uplinks: u64,
}

impl Account {
    /// Begins at `kept`, or with nothing used and nothing known.
    pub(super) fn new(kept: Option<Kept>, quota: &Quota, now: EventTime) -> Self {
        let rate = quota.per_second_max.unwrap_or(0) as f64;
        Self {
            kept: kept.unwrap_or(Kept { day: day(now), used: 0.0, over: 0, mean: 1.0, mean_of: 0 }),
            second: Bucket::full(rate, now),
            patience: Bucket::full(rate * ABUSE_FACTOR, now),
            open_uplinks: 0,
            open_charge: 0.0,
        }
    }

    /// Charges uplinks with what they will hold by the tenant's mean: those that come while something is left are within
    /// the quotas, and the last of them may take more than is left.
    pub(super) fn charge(&mut self, quota: &Quota, uplinks: usize, now: EventTime) -> Charge {
        self.kept.roll(now);
        // One that gives nothing is work all the same, until it is known that it gave nothing.
        let each = self.kept.mean.max(1.0);
        let fitting = |left: f64| if left > 0.0 { (left / each).ceil() as usize } else { 0 };
        let mut limit = (uplinks, None);
        let mut narrow = |span, measurements_max: Option<u64>, left: f64| {
            if let Some(measurements_max) = measurements_max.filter(|_| fitting(left) < limit.0) {
                limit = (fitting(left), Some(Excess { span, measurements_max, treatment: quota.treatment }));
            }
        };
        let rate = quota.per_second_max.map(|max| max as f64);
        narrow(QuotaSpan::Day, quota.per_day_max, quota.per_day_max.unwrap_or(0) as f64 - self.kept.used);
        narrow(QuotaSpan::Second, quota.per_second_max, rate.map_or(0.0, |rate| self.second.level(rate, now)));
        let (within, excess) = limit;
        let (charged, counted) = (within as f64 * each, uplinks as f64 * each);
        self.take(quota, charged);
        if let Some(rate) = rate {
            self.patience.level(rate * ABUSE_FACTOR, now);
            self.patience.take(counted, rate * ABUSE_FACTOR);
        }
        self.open_uplinks += within as u64;
        self.open_charge += charged;
        self.kept.over += (uplinks - within) as u64;
        Charge { within, excess, charged, counted }
    }

    /// Takes a charge back: the log did not take the uplinks.
    pub(super) fn refund(&mut self, quota: &Quota, charge: &Charge, uplinks: usize) {
        self.take(quota, -charge.charged);
        if let Some(rate) = quota.per_second_max {
            self.patience.take(-charge.counted, rate as f64 * ABUSE_FACTOR);
        }
        self.open_uplinks = self.open_uplinks.saturating_sub(charge.within as u64);
        self.open_charge = (self.open_charge - charge.charged).max(0.0);
        self.kept.over = self.kept.over.saturating_sub((uplinks - charge.within) as u64);
    }

    /// Puts what uplinks came to in the place of what they were charged with.
    pub(super) fn settle(&mut self, quota: &Quota, metered: Metered) {
        let Metered { uplinks, measurements } = metered;
        if uplinks == 0 {
            return;
        }
        self.kept.learn(uplinks, measurements);
        // Uplinks from before the account was opened were charged nowhere.
        let charged = uplinks.min(self.open_uplinks);
        if charged == 0 {
            return;
        }
        let share = self.open_charge * (charged as f64 / self.open_uplinks as f64);
        self.open_uplinks -= charged;
        self.open_charge -= share;
        let came_to = measurements as f64 * (charged as f64 / uplinks as f64);
        self.take(quota, came_to - share);
    }

    /// Gives for how long the tenant is to wait, if it abuses its quota. Unit: seconds.
    pub(super) fn wait_s(&mut self, quota: &Quota, now: EventTime) -> Option<u32> {
        self.patience.wait_s(quota.per_second_max? as f64 * ABUSE_FACTOR, now)
    }

    /// Uses some, or gives some back where it is negative.
    fn take(&mut self, quota: &Quota, measurements: f64) {
        self.kept.used = (self.kept.used + measurements).max(0.0);
        if let Some(rate) = quota.per_second_max {
            self.second.take(measurements, rate as f64);
        }
    }
}

impl Kept {
    /// Gives what was used of today.
    pub(super) fn used(&self, now: EventTime) -> Used {
        if self.day != day(now) {
            return Used::default();
        }
        Used { measurements: self.used.round() as u64, over_uplinks: self.over }
    }

    /// Begins anew with a day. A clock that was wrong and is set right begins a day too.
    fn roll(&mut self, now: EventTime) {
        if self.day != day(now) {
            *self = Self { day: day(now), used: 0.0, over: 0, ..*self };
        }
    }

    /// Follows what an uplink holds on the mean.
    fn learn(&mut self, uplinks: u64, measurements: u64) {
        self.mean_of = (self.mean_of + uplinks).min(MEAN_OF);
        let weight = uplinks.min(self.mean_of) as f64 / self.mean_of as f64;
        self.mean += (measurements as f64 / uplinks as f64 - self.mean) * weight;
    }
}

fn day(now: EventTime) -> i64 {
    now.0.div_euclid(DAY_US)
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
