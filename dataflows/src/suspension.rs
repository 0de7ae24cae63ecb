//! Owns which decoders rest because they kept running out of their limits. Invariant: that depends on the partition's
//! records and their order alone, so a replay lets the same uplinks run.
//!
//! An uplink that runs out of steps or memory, or that the watchdog ends, costs a worker a thousand times what others
//! cost. After [`OUT_OF_LIMITS_MAX`] of them in a row the decoder is suspended: its uplinks are set aside without
//! being run. When it has rested, one is run; if that runs out of the limits too, the decoder rests twice as long.
//! Measurements end the row. What is set aside for another reason changes nothing, for it says nothing of the cost.
//!
//! Tenants are told apart: what the devices of one send must not suspend a decoder for the others.

use crate::element::Retired;
use crate::limits::{OUT_OF_LIMITS_DECODERS_MAX, OUT_OF_LIMITS_MAX, SUSPENSION_MAX_US, SUSPENSION_MIN_US};
use crate::model::{Decoding, LogTime, Reason, TenantNo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose decoder.
type Key = (TenantNo, Decoding);

/// A decoder that is not run, for a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspended {
    /// For whose devices.
    pub tenant: TenantNo,
    /// Which decoder.
    pub decoding: Decoding,
    /// How many uplinks in a row ran out of its limits.
    pub failures: u32,
    /// The first uplink from then on is run.
    pub until: LogTime,
}

/// The decoders of a partition that ran out of their limits the last time that they were run.
///
/// State: about 60 bytes for each, at most [`OUT_OF_LIMITS_DECODERS_MAX`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Suspensions {
    failing: BTreeMap<Key, Failing>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Failing {
    /// Uplinks in a row.
    failures: u32,
    /// The time of the last one, and the rest that it brought.
    until: LogTime,
}

impl Suspensions {
    /// Whether the decoder must not be run now.
    pub(crate) fn is_resting(&self, key: Key, now: LogTime) -> bool {
        self.failing.get(&key).is_some_and(|failing| now < failing.until)
    }

    /// The decoder gave measurements.
    pub(crate) fn succeeded(&mut self, key: Key) {
        self.failing.remove(&key);
    }

    /// The decoder was run, and the uplink is set aside.
    pub(crate) fn failed(&mut self, key: Key, reason: Reason, now: LogTime) {
        if !matches!(reason, Reason::DecoderSteps | Reason::DecoderMemory | Reason::DecoderKilled) {
            return;
        }
        if self.failing.len() == OUT_OF_LIMITS_DECODERS_MAX && !self.failing.contains_key(&key) {
            let earliest = self.failing.iter().min_by_key(|(_, failing)| failing.until).map(|(key, _)| *key);
            earliest.map(|key| self.failing.remove(&key));
        }
        let failing = self.failing.entry(key).or_insert(Failing { failures: 0, until: now });
        failing.failures = failing.failures.saturating_add(1);
        failing.until = LogTime(now.0.saturating_add(rest_us(failing.failures)));
    }

    /// Forgets what is in effect no more.
    pub(crate) fn forget(&mut self, retired: Retired) {
        self.failing.retain(|&(tenant, decoding), _| match retired {
            Retired::Tenant(no) => tenant != no,
            Retired::Decoder(gone) => decoding != gone,
        });
    }

    /// Gives the decoders that are suspended, or run next as a trial.
    pub(crate) fn suspended(&self) -> impl Iterator<Item = Suspended> {
        let suspended = self.failing.iter().filter(|(_, failing)| failing.failures >= OUT_OF_LIMITS_MAX);
        suspended.map(|(&(tenant, decoding), &Failing { failures, until })| Suspended { tenant, decoding, failures, until })
    }
}

/// How long a decoder rests after so many failures in a row. Unit: microseconds.
fn rest_us(failures: u32) -> i64 {
    let Some(trials) = failures.checked_sub(OUT_OF_LIMITS_MAX) else { return 0 };
    let doubled = SUSPENSION_MIN_US.checked_mul(1 << trials.min(32));
    doubled.map_or(SUSPENSION_MAX_US, |rest| rest.min(SUSPENSION_MAX_US))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DecoderHash, MINUTE_US};

    fn key(no: u32) -> Key {
        (TenantNo(no), Decoding::JavaScript(DecoderHash([0; 32])))
    }

    #[test]
    fn a_rest_doubles_up_to_an_hour() {
        let minutes = |failures| rest_us(failures) / MINUTE_US;
        let rests: Vec<_> = (9..19).chain([100, u32::MAX]).map(minutes).collect();
        assert_eq!(rests, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn of_too_many_the_one_that_failed_longest_ago_is_forgotten() {
        let mut suspensions = Suspensions::default();
        let count = OUT_OF_LIMITS_DECODERS_MAX as u32;
        (0..count).for_each(|no| suspensions.failed(key(no), Reason::DecoderSteps, LogTime(1000 + i64::from(no))));
        suspensions.failed(key(0), Reason::DecoderSteps, LogTime(5000));
        suspensions.failed(key(count), Reason::DecoderMemory, LogTime(5001));
        assert_eq!(suspensions.failing.len(), OUT_OF_LIMITS_DECODERS_MAX);
        assert!(!suspensions.failing.contains_key(&key(1)));
        assert_eq!(suspensions.failing[&key(0)], Failing { failures: 2, until: LogTime(5000) });
    }
}
