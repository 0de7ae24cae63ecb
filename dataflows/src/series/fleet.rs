//! Owns the devices of one partition and knows what falls due. Invariant: a partial is emitted by
//! the first record at or after its due log time, hours before the days that they are merged into.

use super::buckets::{Buckets, Open, Summary, due};
use super::calendar::Zones;
use super::device::{DeviceState, InForce, Tracked, series};
use super::history::Arrival;
use super::seed::Seeds;
use crate::decode::Rejected;
use crate::element::{Accepted, Cause, Context};
use crate::limits::{OPEN_PARTIALS_PER_SERIES_MAX, SERIES_PER_DEVICE_MAX};
use crate::model::{
    BucketLevel, Counts, Device, DeviceNo, EventTime, HOUR_US, LogTime, Outputs, Partial, Point, Reason, SeriesId, Value,
};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

/// The devices of a partition.
///
/// State: [`Tracked`] for each device that was heard since it is in effect, and 8 bytes for each
/// device and due time.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    devices: HashMap<DeviceNo, Tracked>,
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
    by_due: BTreeMap<LogTime, Due>,
    open: usize,
}

/// Devices with hours, and devices with days.
#[derive(Debug, Default)]
struct Due {
    hours: Vec<DeviceNo>,
    days: Vec<DeviceNo>,
}

impl Due {
    fn of(&mut self, level: BucketLevel) -> &mut Vec<DeviceNo> {
        match level {
            BucketLevel::Hour => &mut self.hours,
            BucketLevel::Day => &mut self.days,
        }
    }
}

impl Agenda {
    fn opened(&mut self, level: BucketLevel, due: LogTime, device: DeviceNo) {
        self.open += 1;
        let devices = self.by_due.entry(due).or_default().of(level);
        if devices.last() != Some(&device) {
            devices.push(device);
        }
    }

    /// Takes out the devices that have something due at `now`, each once and in order.
    fn take_due(&mut self, now: LogTime) -> Option<Due> {
        let mut due = Due::default();
        while let Some(first) = self.by_due.first_entry().filter(|first| *first.key() <= now) {
            let mut more = first.remove();
            due.hours.append(&mut more.hours);
            due.days.append(&mut more.days);
        }
        for devices in [&mut due.hours, &mut due.days] {
            devices.sort_unstable();
            devices.dedup();
        }
        (!due.hours.is_empty() || !due.days.is_empty()).then_some(due)
    }
}

impl Fleet {
    /// Brings what is remembered of devices near to the processor: so they are waited for together, where otherwise each
    /// measurement waits for its series alone. Changes nothing.
    pub(crate) fn fetch(&self, devices: impl Iterator<Item = DeviceNo>) {
        let found: SmallVec<[&Tracked; 16]> = devices.filter_map(|device| self.devices.get(&device)).collect();
        // Those that lie behind a pointer are found only when that is here.
        black_box(found.iter().map(|tracked| tracked.touch()).sum::<usize>());
        black_box(found.iter().map(|tracked| tracked.touch_histories()).sum::<usize>());
    }

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
        tracked.expect_series(accepted.len());
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
            let mut closing = Closing { zones, agenda, cause, rows, horizon_us };
            let start = closing.zones.calendar(zone).hour_start(measurement.at);
            match slot.buckets.find(BucketLevel::Hour, start, class) {
                Some(open) => open.summary.merge(&summary),
                None => {
                    closing.make_room(series, BucketLevel::Hour, &mut slot.buckets);
                    let end = EventTime(start.0 + HOUR_US);
                    let due = due(end, horizon_us, cause.log_time);
                    closing.agenda.opened(BucketLevel::Hour, due, device);
                    slot.buckets.open(Open { start, end, due, summary, level: BucketLevel::Hour, class, zone });
                }
            }
        }
    }

    /// Emits what is due, in the order of (level, series, start).
    ///
    /// Cost: one comparison while nothing is due.
    pub(crate) fn close_due(&mut self, cause: &Cause, rows: &mut Outputs) {
        if let Some(due) = self.agenda.take_due(cause.log_time) {
            self.close(&due, cause.log_time, cause, rows);
        }
    }

    /// Emits all that is open of a device and forgets it.
    pub(crate) fn forget(&mut self, device: DeviceNo, cause: &Cause, rows: &mut Outputs) {
        self.close(&Due { hours: vec![device], days: vec![device] }, LogTime(i64::MAX), cause, rows);
        self.devices.remove(&device);
        self.seeds.forget(device);
    }

    fn close(&mut self, due: &Due, until: LogTime, cause: &Cause, rows: &mut Outputs) {
        let Self { devices, zones, agenda, .. } = self;
        for (level, due) in [(BucketLevel::Hour, &due.hours), (BucketLevel::Day, &due.days)] {
            for &device in due {
                let Some(Tracked { state, .. }) = devices.get_mut(&device) else { continue };
                let mut closing = Closing { zones, agenda, cause, rows, horizon_us: state.horizon_us };
                for (place, slot) in state.slots.iter_mut().enumerate() {
                    for open in slot.buckets.take_due(level, until) {
                        closing.emit(series(device, place), &open, &mut slot.buckets);
                    }
                }
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
            let open = state.slots.iter().flat_map(|slot| slot.buckets.iter());
            open.for_each(|open| agenda.opened(open.level, open.due, device));
        }
        let devices = state.devices.into_iter().map(|(device, state)| (device, Tracked::restore(state))).collect();
        Self { devices, zones: Zones::restore(state.zones), agenda, seeds: state.seeds }
    }
}

/// What the emitting of a device's partials needs beside them.
struct Closing<'a> {
    zones: &'a mut Zones,
    agenda: &'a mut Agenda,
    cause: &'a Cause,
    rows: &'a mut Outputs,
    /// The device's lateness horizon. Unit: microseconds.
    horizon_us: i64,
}

impl Closing<'_> {
    /// Emits a partial that was taken out of `buckets`; an hour is merged into its day there.
    fn emit(&mut self, series: SeriesId, open: &Open, buckets: &mut Buckets) {
        self.agenda.open -= 1;
        self.rows.partials.push(self.cause.place(open.partial(series)));
        if open.level == BucketLevel::Day {
            return;
        }
        let day = self.zones.calendar(open.zone).day(open.start);
        match buckets.find(BucketLevel::Day, day.start, open.class) {
            Some(found) => found.summary.merge(&open.summary),
            None => {
                self.make_room(series, BucketLevel::Day, buckets);
                let due = due(day.end, self.horizon_us, self.cause.log_time);
                self.agenda.opened(BucketLevel::Day, due, series.device());
                buckets.open(Open { start: day.start, end: day.end, due, level: BucketLevel::Day, ..open.clone() });
            }
        }
    }

    /// Emits the earliest partial of a level where there are as many as there may be.
    fn make_room(&mut self, series: SeriesId, level: BucketLevel, buckets: &mut Buckets) {
        if buckets.count(level) == OPEN_PARTIALS_PER_SERIES_MAX
            && let Some(earliest) = buckets.take_earliest(level)
        {
            self.emit(series, &earliest, buckets);
        }
    }
}

fn too_many_series(measurement: &Accepted) -> Rejected {
    Rejected {
        field: measurement.field.clone(),
        reason: Reason::TooManyFields,
        detail: format!("the device has {SERIES_PER_DEVICE_MAX} series: let its decoder give fewer names of fields"),
    }
}
