//! Lets the first copy of each uplink pass. Invariant: what is a copy depends on the partition's
//! records alone, and what lies further back than the window is forgotten.
//!
//! A copy is told by its content, never by `fcnt <= last`: counters are reset, devices rejoin. An
//! uplink of a device that is not in effect is no copy of anything: names that anybody can think up
//! must not be remembered, and once its device is registered the sender may send it again.
//!
//! The retry of an uplink is no copy of its own last attempt, but of any other one that passed since: the
//! sender sent it again, or it was tried again already. That of a single field is a copy only of another
//! retry of the same entry, for the uplink itself had passed.

mod keys;

use self::keys::Keys;
use super::{Elements, Shared, each_after};
use crate::element::{Arrived, Body, DeviceKey, Element, Known};
use crate::limits::DEDUP_WINDOW_US;
use crate::model::{Attempt, LogTime, Partition, Uplink};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use xxhash_rust::xxh3::xxh3_64;

/// Turns uplinks that came in before into [`Body::Duplicate`].
///
/// State: [`Seen`], per partition. Cost: one hash of the frame and one map lookup an uplink.
pub(crate) fn dedup<'scope>(elements: Elements<'scope, Known>, seen: Shared<Seen>) -> Elements<'scope, Known> {
    let ahead = seen.clone();
    let fetch = move |elements: &[Element<Known>]| fetch(&ahead.borrow(), elements);
    each_after(fetch, elements, "Dedup", move |mut element| {
        let mut seen = seen.borrow_mut();
        let seen = seen.get_mut(&element.cause.partition).expect("records of partitions that are not owned never enter");
        seen.pass(element.cause.log_time);
        if let Body::Uplink(Known { arrived, context: Some(_) }) = &element.body
            && !seen.first(arrived, element.retried.as_deref(), element.cause.log_time)
        {
            element.body = Body::Duplicate;
        }
        element
    })
}

/// Brings the keys of the elements' devices near to the processor, to wait for them together.
fn fetch(seen: &BTreeMap<Partition, Seen>, elements: &[Element<Known>]) {
    let keys = |element: &Element<Known>| match &element.body {
        Body::Uplink(Known { arrived, .. }) => seen.get(&element.cause.partition)?.devices.get(&arrived.key),
        _ => None,
    };
    let found: SmallVec<[_; 16]> = elements.iter().filter_map(keys).collect();
    black_box(found.into_iter().fold(0, |all, keys: &Keys| all ^ keys.touch()));
}

/// A hash of what tells an uplink from the others of its tenant. It is compared with at most
/// [`DEDUP_KEYS_PER_DEVICE_MAX`](crate::limits::DEDUP_KEYS_PER_DEVICE_MAX) others, so that 64 bits tell them
/// apart: one uplink in 10^17 is taken for another.
type Digest = u64;

/// The uplinks of a partition that were seen within the window.
///
/// State: [`Keys`] for each device in effect that was heard within two windows.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    devices: HashMap<DeviceKey, Keys>,
    next_sweep: LogTime,
    scratch: Vec<u8>,
}

/// [`Seen`] in the order of its keys.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SeenState {
    devices: BTreeMap<DeviceKey, VecDeque<(LogTime, Digest)>>,
    next_sweep: LogTime,
}

impl Seen {
    /// Lets log time pass: once a window, devices that were not heard for a window are dropped.
    fn pass(&mut self, now: LogTime) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = LogTime((now.0.div_euclid(DEDUP_WINDOW_US) + 1) * DEDUP_WINDOW_US);
        self.devices.retain(|_, keys| keys.is_live(now));
    }

    /// Remembers an uplink and tells whether it is the first of its kind, but for itself when it was tried
    /// before.
    fn first(&mut self, arrived: &Arrived, retried: Option<&Attempt>, now: LogTime) -> bool {
        let key = match retried.and_then(|last| Some((last, last.field.as_deref()?))) {
            None => digest(&arrived.uplink, &mut self.scratch),
            Some((last, field)) => digest_of_field(last, field, &mut self.scratch),
        };
        let passed_before = retried.and_then(|last| last.passed);
        let keys = self.devices.entry(arrived.key).or_default();
        keys.expire(now);
        if let Some((place, passed)) = keys.find(key) {
            if Some(passed) != passed_before {
                return false;
            }
            keys.remove(place);
        }
        keys.push(now, key);
        true
    }

    /// Counts the devices that are remembered.
    pub(crate) fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self) -> SeenState {
        let devices = self.devices.iter().map(|(device, keys)| (*device, keys.iter().collect())).collect();
        SeenState { devices, next_sweep: self.next_sweep }
    }

    /// Takes up a saved state.
    pub(crate) fn restore(state: SeenState) -> Self {
        let devices = state.devices.into_iter().map(|(device, keys)| (device, Keys::restore(keys))).collect();
        Self { devices, next_sweep: state.next_sweep, scratch: Vec::new() }
    }
}

/// Whether an uplink seen at `at` still makes copies of later ones.
fn is_live(at: LogTime, now: LogTime) -> bool {
    now.0.saturating_sub(at.0) < DEDUP_WINDOW_US
}

fn sized(scratch: &mut Vec<u8>, bytes: &[u8]) {
    scratch.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    scratch.extend_from_slice(bytes);
}

/// Hashes the device and what tells one uplink of it from another. Texts and frames are preceded
/// by their length, and each kind of key by a number of its own, so that no two run into one.
///
/// `scratch` is overwritten; it is passed in to keep its memory.
fn digest(uplink: &Uplink, scratch: &mut Vec<u8>) -> Digest {
    scratch.clear();
    sized(scratch, uplink.device.as_str().as_bytes());
    match (uplink.fcnt, &uplink.message_id) {
        (Some(fcnt), _) => {
            scratch.push(0);
            scratch.extend_from_slice(&fcnt.to_le_bytes());
            sized(scratch, &uplink.frame);
        }
        (None, Some(message_id)) => {
            scratch.push(1);
            sized(scratch, message_id.as_bytes());
        }
        (None, None) => {
            scratch.extend_from_slice(&[2, u8::from(uplink.decoded.is_some())]);
            scratch.extend_from_slice(&uplink.received_at.0.to_le_bytes());
            sized(scratch, &uplink.frame);
            sized(scratch, uplink.decoded.as_deref().unwrap_or_default().as_bytes());
        }
    }
    xxh3_64(scratch)
}

/// Hashes what tells the retry of one field from all else of its device.
fn digest_of_field(last: &Attempt, field: &str, scratch: &mut Vec<u8>) -> Digest {
    scratch.clear();
    scratch.push(3);
    scratch.extend_from_slice(&last.offset.0.to_le_bytes());
    scratch.extend_from_slice(&last.log_time.0.to_le_bytes());
    sized(scratch, field.as_bytes());
    xxh3_64(scratch)
}
