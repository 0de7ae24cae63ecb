//! Lets one uplink of each device pass in an interval while its tenant is over a quota that is thinned. Invariant: no
//! device of such a tenant falls silent for longer than the interval, however much the others send.
//!
//! Only uplinks over the quota are looked at, and only those are remembered that passed here: what is within the
//! quota costs nothing, and nothing is known of devices whose tenants have none.

use super::{Elements, Shared, each};
use crate::element::{Body, DeviceKey, Known};
use crate::limits::THIN_INTERVAL_MAX_US;
use crate::model::{HOUR_US, LogTime, Treatment};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Turns uplinks over a quota that is thinned into [`Body::Thinned`], but one of each device in effect in an interval.
///
/// State: [`Passed`], per partition. Cost: one map lookup for an uplink over a quota, none for any other.
pub(crate) fn thin<'scope>(elements: Elements<'scope, Known>, passed: Shared<Passed>) -> Elements<'scope, Known> {
    each(elements, "Thin", move |mut element| {
        if let Body::Uplink(Known { arrived, context: Some(_) }) = &element.body
            && let Some(Treatment::Thin { interval_us }) = arrived.excess.as_ref().map(|excess| excess.treatment)
        {
            let mut passed = passed.borrow_mut();
            let passed = passed.get_mut(&element.cause.partition).expect("records of partitions that are not owned never enter");
            if !passed.passes(arrived.key, interval_us, element.cause.log_time) {
                element.body = Body::Thinned;
            }
        }
        element
    })
}

/// When devices last passed although they were over a quota.
///
/// State: 24 bytes for each device in effect that was thinned out within the longest interval and an hour.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    devices: HashMap<DeviceKey, LogTime>,
    next_sweep: LogTime,
}

/// [`Passed`] in the order of its keys.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PassedState {
    devices: BTreeMap<DeviceKey, LogTime>,
    next_sweep: LogTime,
}

impl Passed {
    /// Tells whether an uplink passes, and remembers it then.
    fn passes(&mut self, device: DeviceKey, interval_us: i64, now: LogTime) -> bool {
        self.sweep(now);
        let interval_us = interval_us.min(THIN_INTERVAL_MAX_US);
        let passes = self.devices.get(&device).is_none_or(|at| now.0.saturating_sub(at.0) >= interval_us);
        if passes {
            self.devices.insert(device, now);
        }
        passes
    }

    /// Once an hour, drops the devices that would pass whatever the interval.
    fn sweep(&mut self, now: LogTime) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = LogTime((now.0.div_euclid(HOUR_US) + 1) * HOUR_US);
        self.devices.retain(|_, at| now.0.saturating_sub(at.0) < THIN_INTERVAL_MAX_US);
    }

    /// Counts the devices that are remembered.
    pub(crate) fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self) -> PassedState {
        PassedState { devices: self.devices.iter().map(|(device, at)| (*device, *at)).collect(), next_sweep: self.next_sweep }
    }

    /// Takes up a saved state.
    pub(crate) fn restore(state: PassedState) -> Self {
        Self { devices: state.devices.into_iter().collect(), next_sweep: state.next_sweep }
    }
}
