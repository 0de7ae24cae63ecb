//! The calendar as a table of cases, and its invariant over random ranges of every zone that is odd.

use super::*;
use crate::query::step::Resolution;
use crate::query::zone::{Rfc3339, zone};
use proptest::prelude::*;

fn at(text: &str) -> EventTime {
    EventTime(text.parse::<Timestamp>().unwrap_or_else(|e| panic!("{text}: {e}")).as_microsecond())
}

fn step(text: &str) -> Step {
    match Resolution::parse(text) {
        Ok(Resolution::Step(step)) => step,
        other => panic!("{text}: {other:?}"),
    }
}

fn check(name: &str, text: &str, from: &str, to: &str, expected: &[&str]) {
    let zone = zone(name).unwrap();
    let buckets = Buckets::new(&zone, step(text), at(from), at(to), 100).unwrap();
    let got: Vec<String> = buckets.edges.iter().map(|edge| Rfc3339(*edge, &zone).to_string()).collect();
    assert_eq!(got, expected, "{text} in {name} from {from} to {to}");
}

#[test]
fn hours_and_minutes_follow_the_offset() {
    check(
        "UTC",
        "1h",
        "2026-01-01T00:30:00Z",
        "2026-01-01T01:00:01Z",
        &["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"],
    );
    check(
        "Asia/Kolkata",
        "1h",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:30:00Z",
        &["2026-01-01T05:00:00+05:30", "2026-01-01T06:00:00+05:30"],
    );
    check(
        "Asia/Kathmandu",
        "30m",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:30:00Z",
        &["2026-01-01T05:30:00+05:45", "2026-01-01T06:00:00+05:45", "2026-01-01T06:30:00+05:45"],
    );
    // The clock goes from 03:00 back to 02:00: that hour is there twice.
    check(
        "Europe/Paris",
        "1h",
        "2026-10-24T23:30:00Z",
        "2026-10-25T02:00:00Z",
        &["2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
    );
    // The clock goes from 02:00 to 02:30: the hour that begins there has 30 minutes left.
    check(
        "Australia/Lord_Howe",
        "1h",
        "2026-10-03T14:30:00Z",
        "2026-10-03T16:30:00Z",
        &["2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00", "2026-10-04T04:00:00+11:00"],
    );
    // The clock goes from 02:00 back to 01:30.
    check(
        "Australia/Lord_Howe",
        "1h",
        "2026-04-04T14:00:00Z",
        "2026-04-04T16:00:00Z",
        &["2026-04-05T01:00:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30", "2026-04-05T03:00:00+10:30"],
    );
    check(
        "Australia/Lord_Howe",
        "1h",
        "2026-04-04T15:10:00Z",
        "2026-04-04T15:20:00Z",
        &["2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30"],
    );
}

#[test]
fn days_have_the_length_that_the_zone_gives_them() {
    check(
        "Europe/Paris",
        "1d",
        "2026-03-28T23:00:00Z",
        "2026-03-29T22:00:01Z",
        &["2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "2026-03-31T00:00:00+02:00"],
    );
    check(
        "Asia/Kolkata",
        "1d",
        "2026-01-01T18:29:59Z",
        "2026-01-01T18:30:01Z",
        &["2026-01-01T00:00:00+05:30", "2026-01-02T00:00:00+05:30", "2026-01-03T00:00:00+05:30"],
    );
    check(
        "America/St_Johns",
        "1d",
        "2026-03-08T12:00:00Z",
        "2026-03-08T12:00:01Z",
        &["2026-03-08T00:00:00-03:30", "2026-03-09T00:00:00-02:30"],
    );
    // Until 2011 St John's set its clocks back at 00:01, into the day before, whose successor had begun.
    check(
        "America/St_Johns",
        "1d",
        "2010-11-07T03:00:00Z",
        "2010-11-07T03:00:01Z",
        &["2010-11-07T00:00:00-02:30", "2010-11-08T00:00:00-03:30"],
    );
    // Midnight does not exist on the day when Brazil's clocks went forward.
    check(
        "America/Sao_Paulo",
        "1d",
        "2018-11-04T12:00:00Z",
        "2018-11-04T12:00:01Z",
        &["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"],
    );
    // Samoa has no 30 December 2011.
    check(
        "Pacific/Apia",
        "1d",
        "2011-12-30T09:00:00Z",
        "2011-12-31T10:00:00Z",
        &["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"],
    );
    check("UTC", "10d", "1970-01-12T00:00:00Z", "1970-01-12T00:00:01Z", &["1970-01-11T00:00:00Z", "1970-01-21T00:00:00Z"]);
}

#[test]
fn several_hours_count_from_midnight() {
    check(
        "Europe/Paris",
        "6h",
        "2026-03-28T23:00:00Z",
        "2026-03-29T10:00:00Z",
        &["2026-03-29T00:00:00+01:00", "2026-03-29T06:00:00+02:00", "2026-03-29T12:00:00+02:00"],
    );
    check(
        "Europe/Paris",
        "2h",
        "2026-03-29T00:30:00Z",
        "2026-03-29T02:30:00Z",
        &["2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00", "2026-03-29T06:00:00+02:00"],
    );
    check(
        "Pacific/Apia",
        "6h",
        "2011-12-30T09:30:00Z",
        "2011-12-30T11:00:00Z",
        &["2011-12-29T18:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T06:00:00+14:00"],
    );
}

#[test]
fn weeks_months_and_years_begin_where_the_calendar_says() {
    check(
        "UTC",
        "1w",
        "2026-11-22T12:00:00Z",
        "2026-11-23T00:00:01Z",
        &["2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"],
    );
    check("UTC", "1w", "1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", &["1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"]);
    check(
        "Europe/Paris",
        "1mo",
        "2026-02-28T23:00:00Z",
        "2026-03-31T22:00:01Z",
        &["2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "2026-05-01T00:00:00+02:00"],
    );
    check("UTC", "3mo", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", &["2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
    check(
        "America/St_Johns",
        "1y",
        "2026-01-01T03:29:59Z",
        "2026-01-01T03:30:01Z",
        &["2025-01-01T00:00:00-03:30", "2026-01-01T00:00:00-03:30", "2027-01-01T00:00:00-03:30"],
    );
    check("UTC", "5y", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", &["2025-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]);
}

#[test]
fn too_many_buckets_are_refused_before_they_are_made() {
    let check = |text: &str, to: &str, max: usize, expected: Result<usize, TooMany>| {
        let got = Buckets::new(&TimeZone::UTC, step(text), at("2026-01-01T00:00:00Z"), at(to), max).map(|b| b.len());
        assert_eq!(got, expected, "{text} to {to}");
    };
    check("1h", "2026-01-01T10:00:00Z", 10, Ok(10));
    check("1h", "2026-01-01T10:00:01Z", 10, Err(TooMany));
    check("1d", "2026-01-11T00:00:00Z", 10, Ok(10));
    check("1d", "2026-01-11T00:00:01Z", 10, Err(TooMany));
    check("1s", "2199-01-01T00:00:00Z", 10, Err(TooMany));
}

const ODD_ZONES: [&str; 10] = [
    "UTC",
    "Europe/Paris",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "America/Havana",
    "Africa/Casablanca",
];
const STEPS: [&str; 12] = ["1m", "20m", "30m", "1h", "2h", "6h", "12h", "1d", "3d", "1w", "1mo", "1y"];

proptest! {
    #[test]
    fn every_time_lies_in_exactly_one_bucket(
        name in prop::sample::select(&ODD_ZONES[..]),
        text in prop::sample::select(&STEPS[..]),
        from_s in 0i64..1_900_000_000,
        length_s in 1i64..400_000,
        probe in 0.0f64..1.0,
    ) {
        let zone = zone(name).unwrap();
        let (from, to) = (EventTime(from_s * SECOND_US), EventTime((from_s + length_s) * SECOND_US));
        let buckets = Buckets::new(&zone, step(text), from, to, 100_000).unwrap();
        prop_assert!(buckets.edges.windows(2).all(|pair| pair[0] < pair[1]), "edges do not rise: {buckets:?}");
        prop_assert!(buckets.start(0) <= from && buckets.end(0) > from);
        prop_assert!(buckets.end(buckets.len() - 1) >= to && buckets.start(buckets.len() - 1) < to);
        let probe = EventTime(from.0 + ((to.0 - from.0) as f64 * probe) as i64);
        let found = buckets.find(probe).unwrap();
        prop_assert!(buckets.start(found) <= probe && probe < buckets.end(found));
        // A bucket does not depend on the range that was asked for.
        let alone = Buckets::new(&zone, step(text), probe, EventTime(probe.0 + 1), 10).unwrap();
        prop_assert_eq!((alone.start(0), alone.end(0)), (buckets.start(found), buckets.end(found)));
    }
}
