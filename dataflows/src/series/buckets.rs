//! Owns the open partials of one series. Invariant: at most one is open for each bucket and
//! retention class, and it holds what came in since it was opened.

use super::calendar::ZoneNo;
use crate::model::{BucketLevel, ClassNo, EventTime, HOUR_US, LogTime, Partial, Point, SeriesId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A partial that is not emitted yet.
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
    sum: f64,
    min: f64,
    max: f64,
    first: Point,
    last: Point,
}

impl Summary {
    /// Sums up one measurement.
    pub(crate) fn of(point: Point) -> Self {
        Self { count: 1, sum: point.value, min: point.value, max: point.value, first: point, last: point }
    }

    /// Adds what came later in the log.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
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

impl Open {
    /// Gives the row.
    pub(crate) fn partial(&self, series: SeriesId) -> Partial {
        let Summary { count, sum, min, max, first, last } = self.summary;
        let Self { class, level, start, end, .. } = *self;
        Partial { class, level, series, start, end, count, sum, min, max, first, last }
    }
}

/// Gives when a bucket that ends at `end` falls due: when log time has passed its end and the
/// horizon, or, for one that comes later than that, at the end of the log hour.
pub(crate) fn due(end: EventTime, horizon_us: i64, now: LogTime) -> LogTime {
    let in_time = end.0.saturating_add(horizon_us);
    if now.0 < in_time { LogTime(in_time) } else { LogTime((now.0.div_euclid(HOUR_US) + 1) * HOUR_US) }
}

/// The open partials of one series. The hour that was used last stands in the series itself, so
/// that a measurement usually finds it in memory that was touched already.
///
/// State: 112 bytes for each, usually the present hour and day; at most
/// [`OPEN_PARTIALS_PER_SERIES_MAX`](crate::limits::OPEN_PARTIALS_PER_SERIES_MAX) hours and as many days,
/// for which the caller makes room.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Buckets {
    hour: Option<Open>,
    others: Vec<Open>,
}

impl Buckets {
    /// Reads a little of it.
    pub(crate) fn touch(&self) -> usize {
        self.others.len() + self.hour.as_ref().map_or(0, |hour| hour.summary.count as usize)
    }

    /// Finds the open partial of a bucket.
    pub(crate) fn find(&mut self, level: BucketLevel, start: EventTime, class: ClassNo) -> Option<&mut Open> {
        let is_it = |open: &Open| open.start == start && open.level == level && open.class == class;
        if self.hour.as_ref().is_some_and(is_it) {
            return self.hour.as_mut();
        }
        let place = self.others.iter().position(is_it)?;
        match (&mut self.hour, level) {
            (Some(hour), BucketLevel::Hour) => {
                std::mem::swap(hour, &mut self.others[place]);
                Some(hour)
            }
            (none @ None, BucketLevel::Hour) => Some(none.insert(self.others.swap_remove(place))),
            (_, BucketLevel::Day) => self.others.get_mut(place),
        }
    }

    /// Opens a partial for a bucket that has none.
    pub(crate) fn open(&mut self, open: Open) {
        let other = match open.level {
            BucketLevel::Hour => self.hour.replace(open),
            BucketLevel::Day => Some(open),
        };
        if let Some(other) = other {
            self.others.reserve_exact(1);
            self.others.push(other);
        }
    }

    /// Counts the open partials of a level.
    pub(crate) fn count(&self, level: BucketLevel) -> usize {
        self.iter().filter(|open| open.level == level).count()
    }

    /// Takes out the earliest of a level.
    pub(crate) fn take_earliest(&mut self, level: BucketLevel) -> Option<Open> {
        let of_level = self.iter().filter(|open| open.level == level);
        let (start, class) = of_level.map(|open| (open.start, open.class)).min()?;
        let is_it = |open: &mut Open| open.level == level && open.start == start && open.class == class;
        self.hour.take_if(is_it).or_else(|| self.others.extract_if(.., is_it).next())
    }

    /// Gives all open partials.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.hour.iter().chain(&self.others)
    }

    /// Takes out what is due, by start and class.
    pub(crate) fn take_due(&mut self, level: BucketLevel, now: LogTime) -> SmallVec<[Open; 1]> {
        let is_due = |open: &mut Open| open.level == level && open.due <= now;
        let mut due: SmallVec<[Open; 1]> = self.hour.take_if(is_due).into_iter().collect();
        due.extend(self.others.extract_if(.., is_due));
        due.sort_unstable_by_key(|open| (open.start, open.class));
        due
    }
}
