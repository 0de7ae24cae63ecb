//! Hours and days of a zone, asked of the time zone database each time.

use crate::model::{EventTime, HOUR_US, SECOND_US};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap_or(TimeZone::UTC)
}

fn timestamp(at: EventTime) -> Timestamp {
    Timestamp::from_microsecond(at.0).expect("the oracle is asked about years that a calendar has")
}

/// Gives the start of the hour around `at`, in a clock that shows the zone's minutes.
pub(super) fn hour_start(zone_name: &str, at: EventTime) -> EventTime {
    let offset_us = i64::from(zone(zone_name).to_offset(timestamp(at)).seconds()) * SECOND_US;
    let local = at.0 + offset_us;
    EventTime(local.div_euclid(HOUR_US) * HOUR_US - offset_us)
}

/// Gives the local day around `at`: of the midnights about it, the last that is not after it, and
/// the next.
pub(super) fn day(zone_name: &str, at: EventTime) -> (EventTime, EventTime) {
    let zone = zone(zone_name);
    let date = timestamp(at).to_zoned(zone.clone()).date();
    let midnights: Vec<EventTime> = (-2..=2)
        .map(|days| {
            let midnight = date.checked_add(Span::new().days(days)).expect("two days about it exist");
            let midnight = midnight.to_zoned(zone.clone()).expect("its midnight exists, or what comes in its place");
            EventTime(midnight.timestamp().as_microsecond())
        })
        .collect();
    let start = *midnights.iter().rfind(|&&midnight| midnight <= at).expect("a day has begun");
    let end = *midnights.iter().find(|&&midnight| midnight > at).expect("a day will begin");
    (start, end)
}
