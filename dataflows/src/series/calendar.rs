//! Knows where hours and days begin in a time zone. Invariant: the answer depends on the zone and
//! the time alone; the time zone database is bundled.

use crate::model::{DAY_US, EventTime, HOUR_US};
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// A zone of a partition, by its place in [`Zones`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ZoneNo(u16);

/// The zones that devices of a partition were ever in, in order of first appearance.
///
/// State: bounded by the number of IANA zones: unknown names are UTC.
#[derive(Debug, Default)]
pub(crate) struct Zones(Vec<Calendar>);

impl Zones {
    /// Makes the calendars of saved names.
    pub(crate) fn restore(names: Vec<String>) -> Self {
        Self(names.iter().map(|name| Calendar::new(name)).collect())
    }

    /// Gives the names, to be saved.
    pub(crate) fn save(&self) -> Vec<String> {
        self.0.iter().map(|calendar| calendar.name.clone()).collect()
    }

    /// Finds the zone of that name, letter case ignored; an unknown name means UTC.
    pub(crate) fn by_name(&mut self, name: &str) -> ZoneNo {
        let find = |zones: &Self, name: &str| zones.0.iter().position(|known| known.name.eq_ignore_ascii_case(name));
        let place = find(self, name).unwrap_or_else(|| {
            let calendar = Calendar::new(name);
            find(self, &calendar.name).unwrap_or_else(|| {
                self.0.push(calendar);
                self.0.len() - 1
            })
        });
        ZoneNo(u16::try_from(place).expect("there are fewer than 2^16 time zones"))
    }

    /// Gives the calendar of a zone.
    pub(crate) fn calendar(&mut self, zone: ZoneNo) -> &mut Calendar {
        &mut self.0[usize::from(zone.0)]
    }
}

/// The hours and days of one zone. Days that were asked for lately are remembered.
#[derive(Debug)]
pub(crate) struct Calendar {
    name: String,
    zone: TimeZone,
    days: [Day; DAYS_REMEMBERED],
}

const DAYS_REMEMBERED: usize = 4;

/// A local day, start inclusive, end exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Day {
    pub(crate) start: EventTime,
    pub(crate) end: EventTime,
    /// How far hours are shifted against UTC; none on a day on which that changes.
    shift_us: Option<i64>,
}

/// Holds no time, so that it is nowhere found.
const NO_DAY: Day = Day { start: EventTime(i64::MAX), end: EventTime(i64::MIN), shift_us: None };

impl Day {
    fn contains(&self, at: EventTime) -> bool {
        self.start <= at && at < self.end
    }
}

impl Calendar {
    fn new(name: &str) -> Self {
        let zone = TimeZoneDatabase::bundled().get(name).unwrap_or(TimeZone::UTC);
        let name = zone.iana_name().unwrap_or("UTC").to_owned();
        Self { name, zone, days: [NO_DAY; DAYS_REMEMBERED] }
    }

    /// Gives the start of the hour around `at`: full hours of UTC, shifted by the part of the
    /// zone's offset that is below an hour.
    pub(crate) fn hour_start(&mut self, at: EventTime) -> EventTime {
        let shift_us = self.day(at).shift_us.unwrap_or_else(|| self.shift_us(at));
        EventTime((at.0 + shift_us).div_euclid(HOUR_US) * HOUR_US - shift_us)
    }

    /// Gives the local day around `at`.
    pub(crate) fn day(&mut self, at: EventTime) -> Day {
        let place = at.0.div_euclid(DAY_US).rem_euclid(DAYS_REMEMBERED as i64) as usize;
        if !self.days[place].contains(at) {
            self.days[place] = self.find_day(at).unwrap_or_else(|| utc_day(at));
        }
        self.days[place]
    }

    fn find_day(&self, at: EventTime) -> Option<Day> {
        let mut date = self.zone.to_datetime(timestamp(at)?).date();
        // A clock that goes back over midnight shows a date again after the next has begun.
        while self.day_start(date)? > at {
            date = date.yesterday().ok()?;
        }
        while self.day_start(date.tomorrow().ok()?)? <= at {
            date = date.tomorrow().ok()?;
        }
        let (start, end) = (self.day_start(date)?, self.day_start(date.checked_add(1.day()).ok()?)?);
        let shift_us = self.shift_us(start);
        Some(Day { start, end, shift_us: (shift_us == self.shift_us(EventTime(end.0 - 1))).then_some(shift_us) })
    }

    fn day_start(&self, date: Date) -> Option<EventTime> {
        let start = date.to_datetime(jiff::civil::Time::midnight());
        Some(EventTime(self.zone.to_timestamp(start).ok()?.as_microsecond()))
    }

    fn shift_us(&self, at: EventTime) -> i64 {
        let offset = timestamp(at).map_or(0, |at| self.zone.to_offset(at).seconds());
        (i64::from(offset) * crate::model::SECOND_US).rem_euclid(HOUR_US)
    }
}

fn timestamp(at: EventTime) -> Option<Timestamp> {
    Timestamp::from_microsecond(at.0).ok()
}

/// The day around a time that is beyond the calendar's years.
fn utc_day(at: EventTime) -> Day {
    let start = at.0.div_euclid(DAY_US) * DAY_US;
    Day { start: EventTime(start), end: EventTime(start.saturating_add(DAY_US)), shift_us: Some(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a zone and a time: where its hour starts, where its day starts and ends.
    fn check(zone: &str, at: &str, expected: [&str; 3]) {
        let micros = |text: &str| EventTime(text.parse::<Timestamp>().unwrap().as_microsecond());
        let mut zones = Zones::default();
        let zone_no = zones.by_name(zone);
        let calendar = zones.calendar(zone_no);
        let day = calendar.day(micros(at));
        let got = [calendar.hour_start(micros(at)), day.start, day.end];
        assert_eq!(got, expected.map(micros), "{zone} {at}");
    }

    #[test]
    fn hours_and_days_follow_the_zone() {
        check("UTC", "2026-03-29T12:34:56Z", ["2026-03-29T12:00Z", "2026-03-29T00:00Z", "2026-03-30T00:00Z"]);
        // The clock goes forward: 23 hours. Back: 25.
        check("Europe/Berlin", "2026-03-29T12:34:56Z", ["2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"]);
        check("Europe/Berlin", "2026-10-25T00:30:00Z", ["2026-10-25T00:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"]);
        check("Asia/Kolkata", "2026-01-01T18:29:59Z", ["2026-01-01T17:30Z", "2025-12-31T18:30Z", "2026-01-01T18:30Z"]);
        check("Asia/Kolkata", "2026-01-01T18:30:00Z", ["2026-01-01T18:30Z", "2026-01-01T18:30Z", "2026-01-02T18:30Z"]);
        // Half an hour of daylight saving: hours are full and half on one day.
        check("Australia/Lord_Howe", "2026-10-03T15:20:00Z", ["2026-10-03T14:30Z", "2026-10-03T13:30Z", "2026-10-04T13:00Z"]);
        check("Australia/Lord_Howe", "2026-10-03T15:40:00Z", ["2026-10-03T15:00Z", "2026-10-03T13:30Z", "2026-10-04T13:00Z"]);
        // The clock went back over midnight, at 00:01: the day had begun.
        check("America/St_Johns", "2010-11-07T02:45:00Z", ["2010-11-07T02:30Z", "2010-11-07T02:30Z", "2010-11-08T03:30Z"]);
        // A day that was skipped.
        check("Pacific/Apia", "2011-12-30T09:00:00Z", ["2011-12-30T09:00Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"]);
        check("Nowhere/Atlantis", "2026-03-29T12:34:56Z", ["2026-03-29T12:00Z", "2026-03-29T00:00Z", "2026-03-30T00:00Z"]);
        check("europe/berlin", "2026-01-01T12:00:00Z", ["2026-01-01T12:00Z", "2025-12-31T23:00Z", "2026-01-01T23:00Z"]);
    }

    #[test]
    fn what_is_remembered_does_not_show() {
        let mut used = Calendar::new("Australia/Lord_Howe");
        for step in 0..2_000 {
            let at = EventTime(1_790_000_000_000_000 + step * 3_571 * crate::model::SECOND_US % (40 * DAY_US));
            let mut fresh = Calendar::new("Australia/Lord_Howe");
            assert_eq!((used.hour_start(at), used.day(at)), (fresh.hour_start(at), fresh.day(at)), "{at:?}");
        }
    }
}
