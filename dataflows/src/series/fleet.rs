//! Owns the devices of one partition and knows what falls due. Invariant: a partial is emitted by
//! the first record at or after its due log time, hours before the days that they are merged into.

use super::buckets::{Open, Summary, due};
use super::calendar::Zones;
use super::device::{DeviceState, InForce, Tracked, series};
use super::history::Arrival;
use super::seed::Seeds;
use crate::decode::Rejected;
use crate::element::{Accepted, Cause, Context};
use crate::limits::SERIES_PER_DEVICE_MAX;
use crate::model::{
    BucketLevel, Counts, Device, DeviceNo, EventTime, HOUR_US, LogTime, Outputs, Partial, Point, Reason, SeriesId, Value,
};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The devices of a partition.
///
/// State: [`Tracked`] for each device that was heard since it is in effect, and 8 bytes for each
/// device and due time.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    devices: HashMap<DeviceNo, Tracked, std::hash::BuildHasherDefault<NumberHasher>>,
    zones: Zones,
    agenda: Agenda,
    seeds: Seeds,
}

/// [`Fleet`] to be saved, in the order of device numbers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FleetState {
    zones: Vec<String>,
    devices: BTreeMap<DeviceNo, DeviceState>,
    seeds: Seeds,
}

impl FleetState {
    /// Lets the numbering go on behind numbers that were given elsewhere. `in_effect` holds the
    /// devices by their numbers.
    pub(crate) fn seed(&mut self, mut seeds: Seeds, in_effect: &BTreeMap<DeviceNo, &Device>) {
        for (no, state) in &mut self.devices {
            if let Some(device) = in_effect.get(no) {
                seeds.join(device, state);
            }
        }
        self.seeds = seeds;
    }
}

/// Which devices have partials that fall due, by log time; and how many partials are open.
#[derive(Debug, Default)]
struct Agenda {
    by_due: BTreeMap<LogTime, Vec<DeviceNo>>,
    open: usize,
}

impl Agenda {
    fn opened(&mut self, due: LogTime, device: DeviceNo) {
        self.open += 1;
        let devices = self.by_due.entry(due).or_default();
        if devices.last() != Some(&device) {
            devices.push(device);
        }
    }

    /// Takes out the devices that have something due at `now`, each once.
    fn take_due(&mut self, now: LogTime) -> Vec<DeviceNo> {
        let mut devices = Vec::new();
        while let Some(first) = self.by_due.first_entry().filter(|first| *first.key() <= now) {
            devices.append(&mut first.remove());
        }
        devices.sort_unstable();
        devices.dedup();
        devices
    }
}

impl Fleet {
    /// Puts the measurements of one uplink into their series. What the device has no room for is
    /// added to `refused`.
    pub(crate) fn measure(
        &mut self,
        cause: &Cause,
        context: &Arc<Context>,
        accepted: &[Accepted],
        refused: &mut Vec<Rejected>,
        counts: &mut Counts,
        rows: &mut Outputs,
    ) {
        let Self { devices, zones, agenda, seeds } = self;
        let device = context.device.no;
        let tracked = devices.entry(device).or_insert_with(|| Tracked::begin(&context.device, seeds));
        let in_force = tracked.heed(context, zones);
        for (guess, measurement) in accepted.iter().enumerate() {
            let Some(place) = tracked.slot(guess, measurement, cause, rows) else {
                refused.push(too_many_series(measurement));
                continue;
            };
            let rule = tracked.rule(place);
            let slot = &mut tracked.state.slots[place];
            let series = series(device, place);
            let (arrival, stored) = slot.arrive(series, measurement.at, &measurement.value, &rule, cause, rows);
            match arrival {
                Arrival::Stored | Arrival::Late => {
                    counts.stored += 1;
                    counts.stored_afterwards += stored - 1;
                }
                Arrival::Unchanged => {
                    counts.unchanged += 1;
                    counts.stored_afterwards += stored;
                }
                Arrival::Duplicate => {
                    counts.late_duplicate += 1;
                    continue;
                }
            }
            let value = match measurement.value {
                Value::Number(number) => number,
                Value::Boolean(is) => f64::from(u8::from(is)),
                Value::Text(_) | Value::Location { .. } => continue,
            };
            let summary = Summary::of(Point { at: measurement.at, offset: cause.offset, value });
            let InForce { class, zone, horizon_us } = in_force;
            let start = zones.calendar(zone).hour_start(measurement.at);
            match slot.buckets.find(BucketLevel::Hour, start, class) {
                Some(open) => open.summary.merge(&summary),
                None => {
                    let end = EventTime(start.0 + HOUR_US);
                    let due = due(end, horizon_us, cause.log_time);
                    agenda.opened(due, device);
                    slot.buckets.open(Open { start, end, due, summary, level: BucketLevel::Hour, class, zone });
                }
            }
        }
    }

    /// Emits what is due, in the order of (level, series, start).
    ///
    /// Cost: one comparison while nothing is due.
    pub(crate) fn close_due(&mut self, cause: &Cause, rows: &mut Outputs) {
        let devices = self.agenda.take_due(cause.log_time);
        if !devices.is_empty() {
            self.close(&devices, cause.log_time, cause, rows);
        }
    }

    /// Emits all that is open of a device and forgets it.
    pub(crate) fn forget(&mut self, device: DeviceNo, cause: &Cause, rows: &mut Outputs) {
        self.close(&[device], LogTime(i64::MAX), cause, rows);
        self.devices.remove(&device);
        self.seeds.forget(device);
    }

    fn close(&mut self, devices: &[DeviceNo], until: LogTime, cause: &Cause, rows: &mut Outputs) {
        for (series, hour) in self.take_due(devices, BucketLevel::Hour, until) {
            rows.partials.push(cause.place(hour.partial(series)));
            self.merge_into_day(series, &hour, cause);
        }
        for (series, day) in self.take_due(devices, BucketLevel::Day, until) {
            rows.partials.push(cause.place(day.partial(series)));
        }
    }

    fn take_due(&mut self, devices: &[DeviceNo], level: BucketLevel, until: LogTime) -> Vec<(SeriesId, Open)> {
        let mut taken = Vec::new();
        for &device in devices {
            let slots = self.devices.get_mut(&device).map_or(&mut [][..], |tracked| &mut tracked.state.slots);
            for (place, slot) in slots.iter_mut().enumerate() {
                taken.extend(slot.buckets.take_due(level, until).map(|open| (series(device, place), open)));
            }
        }
        taken.sort_unstable_by_key(|(series, open)| (*series, open.start, open.class));
        self.agenda.open -= taken.len();
        taken
    }

    fn merge_into_day(&mut self, series: SeriesId, hour: &Open, cause: &Cause) {
        let device = series.device();
        let state = &mut self.devices.get_mut(&device).expect("a device has a bucket for as long as it is tracked").state;
        let horizon_us = state.horizon_us;
        let buckets = &mut state.slots[usize::from(series.field().0)].buckets;
        let day = self.zones.calendar(hour.zone).day(hour.start);
        match buckets.find(BucketLevel::Day, day.start, hour.class) {
            Some(open) => open.summary.merge(&hour.summary),
            None => {
                let due = due(day.end, horizon_us, cause.log_time);
                self.agenda.opened(due, device);
                buckets.open(Open { start: day.start, end: day.end, due, level: BucketLevel::Day, ..hour.clone() });
            }
        }
    }

    /// Whether some bucket is open.
    pub(crate) fn has_open(&self) -> bool {
        self.agenda.open > 0
    }

    /// Counts the devices that are remembered.
    pub(crate) fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Gives what is remembered of a device.
    pub(crate) fn device(&self, device: DeviceNo) -> Option<&DeviceState> {
        self.devices.get(&device).map(|tracked| &tracked.state)
    }

    /// Gives the open partials of a series: hours as they are, days merged with their open hours.
    pub(crate) fn open_partials(&mut self, series: SeriesId, level: BucketLevel) -> Vec<Partial> {
        let Some(tracked) = self.devices.get(&series.device()) else { return Vec::new() };
        let Some(slot) = tracked.state.slots.get(usize::from(series.field().0)) else { return Vec::new() };
        let mut open: Vec<Open> = slot.buckets.iter().filter(|open| open.level == level).cloned().collect();
        if level == BucketLevel::Day {
            let mut hours: Vec<&Open> = slot.buckets.iter().filter(|open| open.level == BucketLevel::Hour).collect();
            hours.sort_by_key(|hour| (hour.start, hour.class));
            for hour in hours {
                let day = self.zones.calendar(hour.zone).day(hour.start);
                match open.iter_mut().find(|open| open.start == day.start && open.class == hour.class) {
                    Some(open) => open.summary.merge(&hour.summary),
                    None => open.push(Open { start: day.start, end: day.end, level, ..hour.clone() }),
                }
            }
        }
        open.sort_by_key(|open| (open.start, open.class));
        open.iter().map(|open| open.partial(series)).collect()
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self) -> FleetState {
        let devices = self.devices.iter().map(|(&device, tracked)| (device, tracked.state.clone())).collect();
        FleetState { zones: self.zones.save(), devices, seeds: self.seeds.clone() }
    }

    /// Takes up a saved state.
    pub(crate) fn restore(state: FleetState) -> Self {
        let mut agenda = Agenda::default();
        for (&device, state) in &state.devices {
            state.slots.iter().flat_map(|slot| slot.buckets.iter()).for_each(|open| agenda.opened(open.due, device));
        }
        let devices = state.devices.into_iter().map(|(device, state)| (device, Tracked::restore(state))).collect();
        Self { devices, zones: Zones::restore(state.zones), agenda, seeds: state.seeds }
    }
}

fn too_many_series(measurement: &Accepted) -> Rejected {
    Rejected {
        field: measurement.field.clone(),
        reason: Reason::TooManyFields,
        detail: format!("the device has {SERIES_PER_DEVICE_MAX} series: let its decoder give fewer names of fields"),
    }
}

/// Spreads device numbers, which are mostly in sequence, over the table.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl std::hash::Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only device numbers are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}
