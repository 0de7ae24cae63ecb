//! Where the buckets of a step begin in a time zone.
//!
//! Invariant: the edges rise strictly and cover the range asked for, so that every time in it lies in exactly one
//! bucket, whatever the zone does: days of 23 or 25 hours, offsets of 30 or 45 minutes, midnights that do not
//! exist, dates that were skipped.

use super::step::Step;
use super::zone::timestamp;
use dataflows::model::{EventTime, HOUR_US, SECOND_US};
use jiff::civil::{Date, DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// The buckets that a range of time touches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Buckets {
    /// Where each begins, and at last where the last one ends.
    edges: Vec<EventTime>,
}

/// There are more buckets in the range than may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMany;

impl Buckets {
    /// Lists the buckets of `step` that overlap [`from`, `to`), whole ones at both ends.
    ///
    /// Errors: when there are more than `max`. Panics: when `from` is not before `to`.
    pub(super) fn new(zone: &TimeZone, step: Step, from: EventTime, to: EventTime, max: usize) -> Result<Self, TooMany> {
        assert!(from < to, "a range has a positive length");
        let mut edges = match step {
            Step::Fine(us) => Even::new(zone, us, from).edges(to, max),
            Step::Hour => Even::new(zone, HOUR_US, from).edges(to, max),
            _ => Civil { zone, step }.edges(from, to, max),
        };
        if edges.len() > max + 1 {
            return Err(TooMany);
        }
        edges.shrink_to_fit();
        Ok(Self { edges })
    }

    /// Counts the buckets.
    pub(super) fn len(&self) -> usize {
        self.edges.len() - 1
    }

    /// Gives the start of a bucket; that of the one behind the last is where the last one ends.
    pub(super) fn start(&self, bucket: usize) -> EventTime {
        self.edges[bucket]
    }

    /// Gives the end of a bucket, exclusive.
    pub(super) fn end(&self, bucket: usize) -> EventTime {
        self.edges[bucket + 1]
    }

    /// Finds the bucket of a time.
    pub(super) fn find(&self, at: EventTime) -> Option<usize> {
        let behind = self.edges.partition_point(|edge| *edge <= at);
        (1..self.edges.len()).contains(&behind).then(|| behind - 1)
    }
}

/// Steps of an even length, up to an hour, aligned to the zone's offset. Where a change of the offset moves the
/// alignment (by half an hour on Lord Howe Island), a bucket ends at the change.
struct Even<'a> {
    zone: &'a TimeZone,
    step_us: i64,
    start: i64,
}

impl<'a> Even<'a> {
    fn new(zone: &'a TimeZone, step_us: i64, from: EventTime) -> Self {
        let even = Self { zone, step_us, start: from.0 };
        let aligned = from.0 - (from.0 + offset_us(zone, from)).rem_euclid(step_us);
        let behind_from = timestamp(EventTime(from.0 + 1));
        let changes = zone.preceding(behind_from).map(|change| change.timestamp().as_microsecond());
        let cut = changes.take_while(|at| *at > aligned).find(|at| even.moves(*at));
        Self { start: cut.unwrap_or(aligned), ..even }
    }

    fn edges(self, to: EventTime, max: usize) -> Vec<EventTime> {
        let mut edges = vec![EventTime(self.start)];
        let mut at = self.start;
        while at < to.0 && edges.len() < max + 2 {
            let end = self.change_behind(at, to);
            let offset_us = offset_us(self.zone, EventTime(at));
            while at < to.0 && at < end && edges.len() < max + 2 {
                at = (at + self.step_us - (at + offset_us).rem_euclid(self.step_us)).min(end);
                edges.push(EventTime(at));
            }
        }
        edges
    }

    /// The next change of the alignment, if the range reaches so far.
    fn change_behind(&self, at: i64, to: EventTime) -> i64 {
        let changes = self.zone.following(timestamp(EventTime(at))).map(|change| change.timestamp().as_microsecond());
        changes.take_while(|change| *change < to.0 + self.step_us).find(|change| self.moves(*change)).unwrap_or(i64::MAX)
    }

    fn moves(&self, change: i64) -> bool {
        let (before, after) = (offset_us(self.zone, EventTime(change - 1)), offset_us(self.zone, EventTime(change)));
        (after - before) % self.step_us != 0
    }
}

fn offset_us(zone: &TimeZone, at: EventTime) -> i64 {
    i64::from(zone.to_offset(timestamp(at)).seconds()) * SECOND_US
}

/// Steps of several hours up to years, numbered along the local calendar.
struct Civil<'a> {
    zone: &'a TimeZone,
    step: Step,
}

impl Civil<'_> {
    fn edges(&self, from: EventTime, to: EventTime, max: usize) -> Vec<EventTime> {
        let mut number = self.number(timestamp(from).to_zoned(self.zone.clone()).datetime());
        // A clock that was set back over midnight shows a date again whose successor has begun already.
        while self.start(number + 1) <= from {
            number += 1;
        }
        while self.start(number) > from {
            number -= 1;
        }
        let mut edges = vec![self.start(number)];
        while edges.last().is_some_and(|edge| *edge < to) && edges.len() < max + 2 {
            number += 1;
            let edge = self.start(number);
            if edges.last().is_some_and(|last| *last < edge) {
                edges.push(edge);
            }
        }
        edges
    }

    fn number(&self, local: DateTime) -> i64 {
        let day = days(local.date());
        match self.step {
            Step::Hours(n) => day * (24 / i64::from(n)) + i64::from(local.hour()) / i64::from(n),
            Step::Days(n) => day.div_euclid(i64::from(n)),
            Step::Weeks(n) => (day - FIRST_MONDAY).div_euclid(7 * i64::from(n)),
            Step::Months(n) => (i64::from(local.year()) * 12 + i64::from(local.month()) - 1).div_euclid(i64::from(n)),
            Step::Years(n) => i64::from(local.year()).div_euclid(i64::from(n)),
            Step::Fine(_) | Step::Hour => unreachable!("steps up to an hour are even"),
        }
    }

    fn start(&self, number: i64) -> EventTime {
        let midnight = |date: Date| first_instant(self.zone, date.at(0, 0, 0, 0));
        match self.step {
            Step::Hours(n) => {
                let a_day = 24 / i64::from(n);
                let hour = number.rem_euclid(a_day) * i64::from(n);
                first_instant(self.zone, day_of(number.div_euclid(a_day)).at(hour as i8, 0, 0, 0))
            }
            Step::Days(n) => midnight(day_of(number * i64::from(n))),
            Step::Weeks(n) => midnight(day_of(number * 7 * i64::from(n) + FIRST_MONDAY)),
            Step::Months(n) => midnight(month_of(number * i64::from(n))),
            Step::Years(n) => midnight(month_of(number * i64::from(n) * 12)),
            Step::Fine(_) | Step::Hour => unreachable!("steps up to an hour are even"),
        }
    }
}

/// 1970-01-05, counted from the epoch.
const FIRST_MONDAY: i64 = 4;

fn days(day: Date) -> i64 {
    i64::from((day - date(1970, 1, 1)).get_days())
}

/// Dates beyond jiff's years 1 to 9999 become its first or last.
fn day_of(days: i64) -> Date {
    date(1970, 1, 1).saturating_add(days.clamp(-700_000, 3_000_000).days())
}

fn month_of(months: i64) -> Date {
    let months = months.clamp(12, 9999 * 12 + 11);
    date(months.div_euclid(12) as i16, months.rem_euclid(12) as i8 + 1, 1)
}

/// Gives the first instant at which the zone's clock shows `local` or later, in the run of the calendar.
fn first_instant(zone: &TimeZone, local: DateTime) -> EventTime {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let instant = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => at_offset(offset, local),
        // The first of the two.
        AmbiguousOffset::Fold { before, .. } => at_offset(before, local),
        // The clock jumps over it: the jump itself.
        AmbiguousOffset::Gap { before, .. } => {
            let behind = at_offset(before, local);
            let jump = zone.preceding(timestamp(EventTime(behind.as_microsecond() + 1))).next();
            jump.map_or(behind, |jump| jump.timestamp())
        }
    };
    EventTime(instant.as_microsecond())
}

fn at_offset(offset: Offset, local: DateTime) -> Timestamp {
    offset.to_timestamp(local).unwrap_or(if local.year() > 1970 { Timestamp::MAX } else { Timestamp::MIN })
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
