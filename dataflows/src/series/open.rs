//! Owns one partial that is not emitted yet. Invariant: it holds what came in since it was opened.

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

    /// Reads a little of it.
    pub(crate) fn touch(&self) -> usize {
        usize::from(self.sum.is_sign_negative())
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
    pub(crate) fn pack(self, device: DeviceNo, agenda: &mut Agenda) -> SmallVec<[PackedOpen; 1]> {
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
    /// Whether so many more fit.
    pub(crate) fn has_room(&self, count: NonZeroU32) -> bool {
        self.count.checked_add(count.get()).is_some()
    }

    /// Adds what it has room for.
    pub(crate) fn add(&mut self, count: NonZeroU32, digest: &Digest) {
        self.count = self.count.checked_add(count.get()).expect("whoever adds has asked for room");
        self.digest.merge(digest);
    }

    /// Gives it with what its bucket says.
    pub(crate) fn unpack(&self, table: &BucketTable) -> Open {
        let Bucket { start, end, due, level, class, zone } = *table.get(self.bucket);
        let summary = Summary { count: self.count.get().into(), digest: self.digest };
        Open { start, end, due, summary, level, class, zone }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Offset;
    use crate::series::calendar::Zones;

    /// A partial of two measurements that claims to count so many.
    pub(crate) fn open(count: u64) -> Open {
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
    fn a_bucket_falls_due_behind_its_end_and_the_horizon_or_with_the_log_hour() {
        let check = |now, expected| assert_eq!(due(EventTime(HOUR_US), 10, LogTime(now)), LogTime(expected));
        check(0, HOUR_US + 10);
        check(HOUR_US + 9, HOUR_US + 10);
        check(HOUR_US + 10, 2 * HOUR_US);
    }
}
