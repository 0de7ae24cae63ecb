//! Owns the open partials of one series. Invariant: each holds what came in since it was opened, and at most one of a
//! bucket and retention class has room for more.

use super::agenda::Agenda;
use super::bucket_table::{Bucket, BucketNo, BucketTable};
use super::calendar::ZoneNo;
use crate::model::{BucketLevel, ClassNo, DeviceNo, EventTime, HOUR_US, LogTime, Partial, Point, SeriesId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// A partial that is not emitted yet, as it is saved and looked at.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) start: EventTime,
    pub(crate) end: EventTime,
    /// It is emitted by the first record at or after this log time.
    pub(crate) due: LogTime,
    pub(crate) summary: Summary,
    pub(crate) level: BucketLevel,
    pub(crate) class: ClassNo,
    /// The zone by which an hour was opened: it says to which day the hour belongs.
    pub(crate) zone: ZoneNo,
}

/// What a partial says of its measurements.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    count: u64,
    digest: Digest,
}

/// What a partial says of its measurements, beside how many they are.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Digest {
    sum: f64,
    min: f64,
    max: f64,
    first: Point,
    last: Point,
}

impl Digest {
    /// Sums up one measurement.
    pub(crate) fn of(point: Point) -> Self {
        Self { sum: point.value, min: point.value, max: point.value, first: point, last: point }
    }

    /// Adds what came later in the log.
    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if (other.first.at, other.first.offset) < (self.first.at, self.first.offset) {
            self.first = other.first;
        }
        if (other.last.at, other.last.offset) >= (self.last.at, self.last.offset) {
            self.last = other.last;
        }
    }
}

impl Summary {
    /// Adds what came later in the log.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.digest.merge(&other.digest);
    }
}

impl Open {
    /// Gives the row.
    pub(crate) fn partial(&self, series: SeriesId) -> Partial {
        let Summary { count, digest: Digest { sum, min, max, first, last } } = self.summary;
        let Self { class, level, start, end, .. } = *self;
        Partial { class, level, series, start, end, count, sum, min, max, first, last }
    }

    /// Packs it, as opened by a device. What counts too much for one is several, which merge on read like any others.
    fn pack(self, device: DeviceNo, agenda: &mut Agenda) -> SmallVec<[PackedOpen; 1]> {
        let Self { start, end, due, summary: Summary { mut count, mut digest }, level, class, zone } = self;
        let bucket = Bucket { start, end, due, level, class, zone };
        let mut packed = SmallVec::new();
        while let Some(fits) = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)) {
            packed.push(PackedOpen { bucket: agenda.opened(bucket, device), count: fits, digest });
            count -= u64::from(fits.get());
            digest.sum = 0.0;
        }
        packed
    }
}

/// Gives when a bucket that ends at `end` falls due: when log time has passed its end and the
/// horizon, or, for one that comes later than that, at the end of the log hour.
pub(crate) fn due(end: EventTime, horizon_us: i64, now: LogTime) -> LogTime {
    let in_time = end.0.saturating_add(horizon_us);
    if now.0 < in_time { LogTime(in_time) } else { LogTime((now.0.div_euclid(HOUR_US) + 1) * HOUR_US) }
}

/// A partial that is not emitted yet, as it waits for more measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedOpen {
    pub(crate) bucket: BucketNo,
    /// When no more fit, another partial is opened.
    pub(crate) count: NonZeroU32,
    pub(crate) digest: Digest,
}

impl PackedOpen {
    /// Adds as many as it was [found](Buckets::find) to have room for.
    pub(crate) fn add(&mut self, count: NonZeroU32, digest: &Digest) {
        self.count = self.count.checked_add(count.get()).expect("it was found to have room");
        self.digest.merge(digest);
    }

    /// Gives it with what its bucket says.
    pub(crate) fn unpack(&self, table: &BucketTable) -> Open {
        let Bucket { start, end, due, level, class, zone } = *table.get(self.bucket);
        let summary = Summary { count: self.count.get().into(), digest: self.digest };
        Open { start, end, due, summary, level, class, zone }
    }
}

/// The open partials of one series. The hour that was used last stands in the series itself, so
/// that a measurement usually finds it in memory that was touched already.
///
/// State: 96 bytes and 80 for each further one, usually the present day, and the hour before for as long as the lateness
/// horizon; at most [`OPEN_PARTIALS_PER_SERIES_MAX`](crate::limits::OPEN_PARTIALS_PER_SERIES_MAX) hours and as many days,
/// for which the caller makes room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    hour: Option<PackedOpen>,
    others: Box<[PackedOpen]>,
}

/// [`Buckets`] to be saved.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct BucketsState {
    hour: Option<Open>,
    others: Vec<Open>,
}

impl Buckets {
    /// Reads a little of it.
    pub(crate) fn touch(&self) -> usize {
        self.others.len() + self.hour.as_ref().map_or(0, |hour| hour.count.get() as usize)
    }

    /// Finds the open partial of a bucket with room for so many more.
    pub(crate) fn find(
        &mut self,
        table: &BucketTable,
        level: BucketLevel,
        start: EventTime,
        class: ClassNo,
        count: NonZeroU32,
    ) -> Option<&mut PackedOpen> {
        let is_it = |open: &PackedOpen| {
            let bucket = table.get(open.bucket);
            let is_there = bucket.start == start && bucket.level == level && bucket.class == class;
            is_there && open.count.checked_add(count.get()).is_some()
        };
        if self.hour.as_ref().is_some_and(is_it) {
            return self.hour.as_mut();
        }
        let place = self.others.iter().position(is_it)?;
        if level == BucketLevel::Day {
            return self.others.get_mut(place);
        }
        match &mut self.hour {
            Some(hour) => std::mem::swap(hour, &mut self.others[place]),
            None => self.hour = Some(self.change_others(|others| others.swap_remove(place))),
        }
        self.hour.as_mut()
    }

    /// Takes in a partial of a bucket that has none with room.
    pub(crate) fn open(&mut self, level: BucketLevel, open: PackedOpen) {
        let other = match level {
            BucketLevel::Hour => self.hour.replace(open),
            BucketLevel::Day => Some(open),
        };
        if let Some(other) = other {
            self.change_others(|others| {
                others.reserve_exact(1);
                others.push(other);
            });
        }
    }

    /// Counts the open partials of a level.
    pub(crate) fn count(&self, table: &BucketTable, level: BucketLevel) -> usize {
        self.iter().filter(|open| table.get(open.bucket).level == level).count()
    }

    /// Takes out the earliest of a level.
    pub(crate) fn take_earliest(&mut self, table: &BucketTable, level: BucketLevel) -> Option<PackedOpen> {
        let of_level = self.iter().map(|open| table.get(open.bucket)).filter(|bucket| bucket.level == level);
        let (start, class) = of_level.map(|bucket| (bucket.start, bucket.class)).min()?;
        let is_it = |open: &mut PackedOpen| {
            let bucket = table.get(open.bucket);
            bucket.level == level && bucket.start == start && bucket.class == class
        };
        self.hour.take_if(is_it).or_else(|| self.change_others(|others| others.extract_if(.., is_it).next()))
    }

    /// Gives all open partials.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PackedOpen> {
        self.hour.iter().chain(&self.others)
    }

    /// Takes out what is due, by start and class.
    pub(crate) fn take_due(&mut self, table: &BucketTable, level: BucketLevel, now: LogTime) -> SmallVec<[PackedOpen; 1]> {
        let is_due = |open: &PackedOpen| {
            let bucket = table.get(open.bucket);
            bucket.level == level && bucket.due <= now
        };
        let mut due: SmallVec<[PackedOpen; 1]> = self.hour.take_if(|hour| is_due(hour)).into_iter().collect();
        if self.others.iter().any(is_due) {
            // What stays gets memory of its own: an allocator may leave half of a list where the whole was.
            let (out, kept): (Vec<_>, Vec<_>) = self.others.iter().partition(|open| is_due(open));
            due.extend(out);
            self.others = kept.into_boxed_slice();
        }
        due.sort_unstable_by_key(|open| {
            let bucket = table.get(open.bucket);
            (bucket.start, bucket.class)
        });
        due
    }

    fn change_others<R>(&mut self, change: impl FnOnce(&mut Vec<PackedOpen>) -> R) -> R {
        let mut others = std::mem::take(&mut self.others).into_vec();
        let result = change(&mut others);
        self.others = others.into_boxed_slice();
        result
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self, table: &BucketTable) -> BucketsState {
        let unpack = |open: &PackedOpen| open.unpack(table);
        BucketsState { hour: self.hour.as_ref().map(unpack), others: self.others.iter().map(unpack).collect() }
    }

    /// Takes up what was saved of a device's series.
    pub(crate) fn restore(BucketsState { hour, others }: BucketsState, device: DeviceNo, agenda: &mut Agenda) -> Self {
        let mut hours = hour.map(|hour| hour.pack(device, agenda)).unwrap_or_default();
        let hour = hours.pop();
        let others = others.into_iter().flat_map(|open| open.pack(device, agenda));
        let others: SmallVec<[PackedOpen; 4]> = hours.into_iter().chain(others).collect();
        Self { hour, others: others.as_slice().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;
    use crate::series::calendar::Zones;

    fn open(count: u64) -> Open {
        let (start, end) = (EventTime(0), EventTime(HOUR_US));
        let mut digest = Digest::of(Point { at: start, offset: Offset(1), value: 2.0 });
        digest.merge(&Digest::of(Point { at: EventTime(1), offset: Offset(2), value: 3.0 }));
        let zone = Zones::default().by_name("UTC");
        Open {
            start,
            end,
            due: LogTime(HOUR_US),
            summary: Summary { count, digest },
            level: BucketLevel::Hour,
            class: ClassNo(0),
            zone,
        }
    }

    #[test]
    fn as_many_measurements_as_there_may_be_are_counted() {
        let mut agenda = Agenda::default();
        let mut buckets = Buckets::default();
        let find = |buckets: &mut Buckets, agenda: &Agenda, count| {
            let count = NonZeroU32::new(count).unwrap();
            let found = buckets.find(agenda.buckets(), BucketLevel::Hour, EventTime(0), ClassNo(0), count);
            found.map(|open| open.add(count, &Digest::of(Point { at: EventTime(2), offset: Offset(3), value: 1.0 }))).is_some()
        };
        buckets.open(BucketLevel::Hour, open(u64::from(u32::MAX) - 1).pack(DeviceNo(0), &mut agenda)[0]);
        assert!(!find(&mut buckets, &agenda, 2), "there is room for one more");
        assert!(find(&mut buckets, &agenda, 1));
        assert!(!find(&mut buckets, &agenda, 1));
        buckets.open(BucketLevel::Hour, open(1).pack(DeviceNo(0), &mut agenda)[0]);
        assert!(find(&mut buckets, &agenda, 1));
        let counts: Vec<_> = buckets.iter().map(|open| open.count.get()).collect();
        assert_eq!(counts, [2, u32::MAX]);
    }

    #[test]
    fn what_counts_more_than_fits_comes_back_in_parts() {
        let mut agenda = Agenda::default();
        let saved = BucketsState { hour: Some(open(3 << 32)), others: vec![open(2)] };
        let buckets = Buckets::restore(saved.clone(), DeviceNo(0), &mut agenda);
        let BucketsState { hour, others } = buckets.save(agenda.buckets());
        let (mut whole, last) = (hour.unwrap(), others.last().cloned());
        others[..others.len() - 1].iter().for_each(|part| whole.summary.merge(&part.summary));
        assert_eq!((Some(whole), last), (saved.hour, saved.others.last().cloned()));
    }

    #[test]
    fn what_is_emitted_leaves_no_room_behind() {
        let mut agenda = Agenda::default();
        let day = Open { level: BucketLevel::Day, due: LogTime(2 * HOUR_US), ..open(1) };
        let saved = BucketsState { hour: None, others: vec![open(1), day.clone()] };
        let mut buckets = Buckets::restore(saved, DeviceNo(0), &mut agenda);
        let due = buckets.take_due(agenda.buckets(), BucketLevel::Hour, LogTime(HOUR_US));
        assert_eq!(due.iter().map(|due| due.unpack(agenda.buckets())).collect::<Vec<_>>(), [open(1)]);
        assert_eq!(buckets.save(agenda.buckets()), BucketsState { hour: None, others: vec![day] });
    }
}
