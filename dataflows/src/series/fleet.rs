//! Owns the devices of one partition and knows what falls due. Invariant: a partial is emitted by
//! the first record at or after its due log time, hours before the days that they are merged into.

use super::agenda::{Agenda, Due};
use super::bucket_table::Bucket;
use super::buckets::Buckets;
use super::calendar::Zones;
use super::device::{InForce, Tracked, series};
use super::history::Arrival;
use super::open::{Digest, Open, PackedOpen, due};
use super::saved::{DeviceState, FleetState};
use super::seed::Seeds;
use super::slot::Slot;
use super::terms::SharedTerms;
use crate::decode::Rejected;
use crate::element::{Accepted, Cause, Context};
use crate::limits::{OPEN_PARTIALS_PER_SERIES_MAX, SERIES_PER_DEVICE_MAX};
use crate::model::{
    BucketLevel, Counts, DeviceNo, EventTime, HOUR_US, LogTime, Outputs, Partial, Point, Reason, SeriesId, Value,
};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::hint::black_box;
use std::num::NonZeroU32;
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
    terms: SharedTerms,
    seeds: Seeds,
}

/// Devices that are fetched together: what is remembered of them fits into the nearest caches.
pub(crate) const GROUP: usize = 16;

/// Brings what is remembered of devices near to the processor, with what their slots have `elsewhere`.
fn fetch(tracked: &HashMap<DeviceNo, Tracked>, devices: impl Iterator<Item = DeviceNo>, elsewhere: impl Fn(&Tracked) -> usize) {
    let found: SmallVec<[&Tracked; GROUP]> = devices.filter_map(|device| tracked.get(&device)).collect();
    // What lies behind a pointer is found only when that is here.
    black_box(found.iter().map(|tracked| tracked.touch()).sum::<usize>());
    black_box(found.iter().map(|tracked| elsewhere(tracked)).sum::<usize>());
}

/// A measurement counts one.
const ONE: NonZeroU32 = NonZeroU32::MIN;

impl Fleet {
    /// Brings what is remembered of devices near to the processor: so they are waited for together, where otherwise each
    /// measurement waits for its series alone. Changes nothing.
    pub(crate) fn fetch(&self, devices: impl Iterator<Item = DeviceNo>) {
        fetch(&self.devices, devices, Tracked::touch_histories);
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
        let Self { devices, zones, agenda, terms, seeds } = self;
        let device = context.device.no;
        let tracked = devices.entry(device).or_insert_with(|| {
            let state = DeviceState { horizon_us: 0, slots: seeds.take(&context.device, 0).collect() };
            Tracked::restore(state, device, terms, agenda)
        });
        let in_force = tracked.heed(context, zones, terms);
        tracked.expect_series(accepted.len());
        for (guess, measurement) in accepted.iter().enumerate() {
            let Some(place) = tracked.slot(guess, measurement, cause, terms, rows) else {
                refused.push(too_many_series(measurement));
                continue;
            };
            let rule = tracked.rule(place);
            let slot = &mut tracked.slots[place];
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
            let digest = Digest::of(Point { at: measurement.at, offset: cause.offset, value });
            let InForce { class, zone, horizon_us } = in_force;
            let mut closing = Closing { zones, agenda, cause, rows, horizon_us };
            let start = closing.zones.calendar(zone).hour_start(measurement.at);
            match slot.buckets.find(closing.agenda.buckets(), BucketLevel::Hour, start, class, ONE) {
                Some(open) => open.add(ONE, &digest),
                None => {
                    closing.make_room(series, BucketLevel::Hour, &mut slot.buckets);
                    let end = EventTime(start.0 + HOUR_US);
                    let due = due(end, horizon_us, cause.log_time);
                    let hour = Bucket { start, end, due, level: BucketLevel::Hour, class, zone };
                    let bucket = closing.agenda.opened(hour, device);
                    slot.buckets.open(BucketLevel::Hour, PackedOpen { bucket, count: ONE, digest });
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
            for group in due.chunks(GROUP) {
                fetch(devices, group.iter().copied(), Tracked::touch_others);
                for &device in group {
                    let Some(Tracked { slots, horizon_us, .. }) = devices.get_mut(&device) else { continue };
                    let mut closing = Closing { zones, agenda, cause, rows, horizon_us: *horizon_us };
                    for (place, slot) in slots.iter_mut().enumerate() {
                        for open in slot.buckets.take_due(closing.agenda.buckets(), level, until) {
                            closing.emit(series(device, place), &open, &mut slot.buckets);
                        }
                    }
                }
            }
        }
    }

    /// Whether some bucket is open.
    pub(crate) fn has_open(&self) -> bool {
        self.agenda.has_open()
    }

    /// Counts the devices that are remembered.
    pub(crate) fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Gives the series of a device, in the order of their numbers.
    pub(crate) fn slots(&self, device: DeviceNo) -> &[Slot] {
        self.devices.get(&device).map_or(&[], |tracked| &tracked.slots)
    }

    /// Gives the open partials of a series: hours as they are, days merged with their open hours.
    pub(crate) fn open_partials(&mut self, series: SeriesId, level: BucketLevel) -> Vec<Partial> {
        let Some(slot) = self.slots(series.device()).get(usize::from(series.field().0)) else { return Vec::new() };
        let unpacked = slot.buckets.iter().map(|open| open.unpack(self.agenda.buckets()));
        let (mut open, mut others): (Vec<Open>, Vec<Open>) = unpacked.partition(|open| open.level == level);
        if level == BucketLevel::Day {
            others.sort_by_key(|hour| (hour.start, hour.class));
            for hour in others {
                let day = self.zones.calendar(hour.zone).day(hour.start);
                match open.iter_mut().find(|open| open.start == day.start && open.class == hour.class) {
                    Some(open) => open.summary.merge(&hour.summary),
                    None => open.push(Open { start: day.start, end: day.end, level, ..hour }),
                }
            }
        }
        open.sort_by_key(|open| (open.start, open.class));
        open.iter().map(|open| open.partial(series)).collect()
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self) -> FleetState {
        let devices = self.devices.iter().map(|(&device, tracked)| (device, tracked.save(self.agenda.buckets()))).collect();
        FleetState { zones: self.zones.save(), devices, seeds: self.seeds.clone() }
    }

    /// Takes up a saved state.
    pub(crate) fn restore(state: FleetState) -> Self {
        let FleetState { zones, devices: saved, seeds } = state;
        let (mut agenda, mut terms) = (Agenda::default(), SharedTerms::default());
        let restored = |(device, state)| (device, Tracked::restore(state, device, &mut terms, &mut agenda));
        let devices = saved.into_iter().map(restored).collect();
        Self { devices, zones: Zones::restore(zones), agenda, terms, seeds }
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
    fn emit(&mut self, series: SeriesId, packed: &PackedOpen, buckets: &mut Buckets) {
        let open = packed.unpack(self.agenda.buckets());
        self.agenda.closed(packed.bucket);
        self.rows.partials.push(self.cause.place(open.partial(series)));
        if open.level == BucketLevel::Day {
            return;
        }
        let day = self.zones.calendar(open.zone).day(open.start);
        match buckets.find(self.agenda.buckets(), BucketLevel::Day, day.start, open.class, packed.count) {
            Some(found) => found.add(packed.count, &packed.digest),
            None => {
                self.make_room(series, BucketLevel::Day, buckets);
                let due = due(day.end, self.horizon_us, self.cause.log_time);
                let Open { class, zone, .. } = open;
                let day = Bucket { start: day.start, end: day.end, due, level: BucketLevel::Day, class, zone };
                let bucket = self.agenda.opened(day, series.device());
                buckets.open(BucketLevel::Day, PackedOpen { bucket, ..*packed });
            }
        }
    }

    /// Emits the earliest partial of a level where there are as many as there may be.
    fn make_room(&mut self, series: SeriesId, level: BucketLevel, buckets: &mut Buckets) {
        let table = self.agenda.buckets();
        if buckets.count(table, level) >= OPEN_PARTIALS_PER_SERIES_MAX
            && let Some(earliest) = buckets.take_earliest(table, level)
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
