//! Owns what can be asked of a fleet; a spec that breaks a promise of the schedule is refused.

use super::Kind;
use dataflows::model::{EventTime, MINUTE_US};

/// The envelope that a device's network wraps its uplinks in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Shape {
    /// A webhook of The Things Stack v3.
    Ttn,
    /// An `up` event of ChirpStack v4's HTTP integration.
    ChirpStack,
    /// weir's own JSON.
    Own,
}

/// What a fleet is like.
///
/// Shares are parts of the uplinks, from 0 to 1.
#[derive(Clone, Debug)]
pub struct FleetSpec {
    /// How many devices.
    pub devices: u32,
    /// Everything that looks random follows from it. The same seed sent twice to one daemon within its
    /// dedup window is a redelivery: all of it is a duplicate.
    pub seed: u64,
    /// The event time of the start of the schedule.
    pub start: EventTime,
    /// How often each device sends. Unit: microseconds.
    pub period_us: u64,
    /// How far an uplink may slip within its period, as a part of it: 0 to 0.9.
    pub jitter: f64,
    /// How many come a second time, through another gateway or as a retry.
    pub duplicates_share: f64,
    /// How many arrive behind later ones of their device, within the lateness horizon.
    pub out_of_order_share: f64,
    /// How much later those arrive at most. Unit: milliseconds.
    pub out_of_order_ms_max: u64,
    /// How many are older than the lateness horizon when they arrive.
    pub late_share: f64,
    /// How many lack their last byte, so that the decoder refuses them.
    pub bad_share: f64,
    /// How many readings of the good ones are the same as the reading before.
    pub unchanged_share: f64,
    /// How many devices, the first ones, are probes: each of their uplinks is prompt, comes once, and has other
    /// readings than the one before, so that it can be seen to arrive.
    pub probes: u32,
    /// The lateness horizon of the tenant. Unit: microseconds.
    pub lateness_horizon_us: i64,
    /// The kinds of devices, with their weights.
    pub kinds: Vec<(Kind, u32)>,
    /// The networks that they are in, with their weights.
    pub shapes: Vec<(Shape, u32)>,
}

impl FleetSpec {
    /// Gives the period at which so many devices send so many uplinks a second. Unit: microseconds.
    ///
    /// Errors: a rate that is no positive number, or at which the period is less than a microsecond.
    pub fn period_us(devices: u32, uplinks_per_s: f64) -> Result<u64, SpecError> {
        let period_us = (f64::from(devices) / uplinks_per_s * 1e6).round();
        // A NaN is in no range.
        if uplinks_per_s > 0.0 && (1.0..=PERIOD_US_MAX).contains(&period_us) {
            Ok(period_us as u64)
        } else {
            Err(SpecError::Rate(uplinks_per_s))
        }
    }
}

impl Default for FleetSpec {
    /// A thousand devices of all kinds in all networks, sending every five seconds.
    fn default() -> Self {
        Self {
            devices: 1_000,
            seed: 1,
            start: EventTime(0),
            period_us: 5_000_000,
            jitter: 0.2,
            duplicates_share: 0.1,
            out_of_order_share: 0.02,
            out_of_order_ms_max: 20_000,
            late_share: 0.005,
            bad_share: 0.005,
            unchanged_share: 0.6,
            probes: 0,
            lateness_horizon_us: 10 * MINUTE_US,
            kinds: Kind::OF_EACH_TEMPLATE.iter().map(|kind| (*kind, 1)).collect(),
            shapes: vec![(Shape::Ttn, 2), (Shape::ChirpStack, 1), (Shape::Own, 1)],
        }
    }
}

/// A device that is silent for longer than a century has no period. Unit: microseconds.
const PERIOD_US_MAX: f64 = 3.2e15;

/// Why a fleet cannot be simulated.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SpecError {
    /// A fleet without devices, kinds, networks or a period sends nothing.
    #[error("the fleet has no {0}: give at least one")]
    None(&'static str),
    /// A rate that no period gives.
    #[error("{0} uplinks a second cannot be sent: give a number above 0 and below a million for each device")]
    Rate(f64),
    /// A share that is no part of a whole.
    #[error("{name} is {value}: give a number from 0 to {max}")]
    Share {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The largest that makes sense.
        max: f64,
    },
    /// An uplink has one fate: late, out of order, bad or prompt.
    #[error("late, out-of-order and bad uplinks together are {0} of all: give shares whose sum is at most 1")]
    Fates(f64),
    /// Out-of-order uplinks would be late ones.
    #[error(
        "uplinks out of order by up to {delay_ms} ms leave no minute to the lateness horizon of {horizon_ms} ms: \
         lower the delay or raise the horizon"
    )]
    Delay {
        /// The delay that was asked for.
        delay_ms: u64,
        /// The horizon.
        horizon_ms: i64,
    },
}

impl FleetSpec {
    /// Errors: see [`SpecError`].
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        let none = [
            ("devices", self.devices == 0),
            ("period", self.period_us == 0 || self.period_us as f64 > PERIOD_US_MAX),
            ("kinds", self.kinds.iter().all(|(_, weight)| *weight == 0)),
            ("networks", self.shapes.iter().all(|(_, weight)| *weight == 0)),
        ];
        if let Some((what, _)) = none.into_iter().find(|(_, missing)| *missing) {
            return Err(SpecError::None(what));
        }
        let shares = [
            ("jitter", self.jitter, 0.9),
            ("the share of duplicates", self.duplicates_share, 1.0),
            ("the share out of order", self.out_of_order_share, 1.0),
            ("the late share", self.late_share, 1.0),
            ("the bad share", self.bad_share, 1.0),
            ("the unchanged share", self.unchanged_share, 1.0),
        ];
        if let Some((name, value, max)) = shares.into_iter().find(|(_, value, max)| !(0.0..=*max).contains(value)) {
            return Err(SpecError::Share { name, value, max });
        }
        let fates = self.late_share + self.out_of_order_share + self.bad_share;
        if fates > 1.0 {
            return Err(SpecError::Fates(fates));
        }
        let delay_us = i64::try_from(self.out_of_order_ms_max).unwrap_or(i64::MAX).saturating_mul(1_000);
        if self.out_of_order_share > 0.0 && delay_us.saturating_add(MINUTE_US) > self.lateness_horizon_us {
            return Err(SpecError::Delay { delay_ms: self.out_of_order_ms_max, horizon_ms: self.lateness_horizon_us / 1_000 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_that_cannot_be_kept_are_refused() {
        let check = |change: fn(&mut FleetSpec), expected: Result<(), SpecError>| {
            let mut spec = FleetSpec::default();
            change(&mut spec);
            assert_eq!(spec.check(), expected);
        };
        check(|_| (), Ok(()));
        check(|s| s.devices = 0, Err(SpecError::None("devices")));
        check(|s| s.period_us = 0, Err(SpecError::None("period")));
        check(|s| s.kinds.clear(), Err(SpecError::None("kinds")));
        check(|s| s.shapes = vec![(Shape::Own, 0)], Err(SpecError::None("networks")));
        check(|s| s.jitter = 1.0, Err(SpecError::Share { name: "jitter", value: 1.0, max: 0.9 }));
        check(|s| s.late_share = -0.5, Err(SpecError::Share { name: "the late share", value: -0.5, max: 1.0 }));
        check(|s| (s.late_share, s.bad_share, s.out_of_order_share) = (0.5, 0.5, 0.25), Err(SpecError::Fates(1.25)));
        check(|s| s.out_of_order_ms_max = 540_001, Err(SpecError::Delay { delay_ms: 540_001, horizon_ms: 600_000 }));
        check(|s| s.out_of_order_ms_max = 540_000, Ok(()));
    }

    #[test]
    fn a_rate_gives_its_period_to_the_microsecond() {
        assert_eq!(FleetSpec::period_us(10, 3_000.0), Ok(3_333));
        assert_eq!(FleetSpec::period_us(1_000, 200.0), Ok(5_000_000));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e9] {
            assert!(FleetSpec::period_us(10, rate).is_err(), "{rate}");
        }
    }
}
