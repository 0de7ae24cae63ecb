//! Reads times as senders write them.

use super::json::Text;
use super::problem::{Problem, shorten};
use dataflows::model::EventTime;
use serde_json::value::RawValue;

/// Seconds since 1970 are smaller than this until the year 5138; milliseconds larger since March 1973.
const SECONDS_BELOW: f64 = 1e11;
/// The end of the year 9999. Unit: milliseconds since 1970.
const MILLISECONDS_BELOW: f64 = 253_402_300_800_000.0;

/// Reads a time of a network's envelope: RFC 3339, cut to the microsecond.
///
/// Errors: it is none.
pub(super) fn rfc3339(text: &str, pointer: &'static str) -> Result<EventTime, Problem> {
    parse_rfc3339(text)
        .ok_or_else(|| Problem::unusable(pointer, format!("{:?} is no time: write it as 2026-11-22T13:00:00Z", shorten(text))))
}

/// Reads a time of weir's own form: RFC 3339, or seconds or milliseconds since 1970 by their magnitude,
/// bare or as a text.
///
/// Errors: it is none of them.
pub(super) fn any(raw: &RawValue, pointer: &'static str) -> Result<EventTime, Problem> {
    let text = serde_json::from_str::<Text<'_>>(raw.get()).ok();
    let text = text.as_deref().unwrap_or(raw.get());
    parse_epoch(text).or_else(|| parse_rfc3339(text)).ok_or_else(|| {
        let what = "is no time: write it as 2026-11-22T13:00:00Z, or in seconds or milliseconds since 1970";
        Problem::unusable(pointer, format!("{} {what}", shorten(raw.get())))
    })
}

fn parse_rfc3339(text: &str) -> Option<EventTime> {
    text.parse::<jiff::Timestamp>().ok().map(|time| EventTime(time.as_microsecond()))
}

fn parse_epoch(text: &str) -> Option<EventTime> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    let microseconds = match number.abs() {
        size if size < SECONDS_BELOW => number * 1e6,
        size if size < MILLISECONDS_BELOW => number * 1e3,
        _ => return None,
    };
    Some(EventTime(microseconds.round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::tz::{Offset, TimeZone};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    #[test]
    fn own_times_are_told_apart_by_their_magnitude() {
        let check = |json: &str, expected: Option<i64>| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            assert_eq!(any(&raw, "/time").ok(), expected.map(EventTime), "{json}");
        };
        check("1555570137", Some(1_555_570_137_000_000));
        check("1555570137.25", Some(1_555_570_137_250_000));
        check("1555570137250", Some(1_555_570_137_250_000));
        check("\"1555570137\"", Some(1_555_570_137_000_000));
        check("\"2019-04-18T06:48:57Z\"", Some(1_555_570_137_000_000));
        check("\"2019-04-18T08:48:57.000001999+02:00\"", Some(1_555_570_137_000_001));
        check("0", Some(0));
        check("1555570137250000", None);
        check("1e300", None);
        check("\"NaN\"", None);
        check("\"yesterday\"", None);
        check("\"\"", None);
        check("true", None);
        check("{}", None);
    }

    #[test]
    fn network_times_are_rfc3339_cut_to_the_microsecond() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(rfc3339(text, "/received_at").ok(), expected.map(EventTime), "{text}");
        };
        check("2020-02-12T15:15:45.789585559Z", Some(1_581_520_545_789_585));
        check("2022-07-18T09:34:15.775023242+00:00", Some(1_658_136_855_775_023));
        check("1555570137", None);
        check("2020-02-12", None);
    }

    /// Up to the year 2255 a floating-point number holds each microsecond since 1970.
    const EXACT_BELOW_US: i64 = 1 << 53;

    fn read(json: &str) -> Option<i64> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        any(&raw, "/time").ok().map(|time| time.0)
    }

    proptest! {
        #[test]
        fn a_moment_is_the_same_in_every_zone_and_unit(us in 0..EXACT_BELOW_US, offset_min in -14 * 60..=14 * 60) {
            let zone = TimeZone::fixed(Offset::from_seconds(offset_min * 60).unwrap());
            let text = Timestamp::from_microsecond(us).unwrap().to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string();
            prop_assert_eq!(rfc3339(&text, "/time").ok().map(|time| time.0), Some(us), "{}", &text);
            prop_assert_eq!(read(&format!("{text:?}")), Some(us));
            let (seconds, milliseconds) = (us / 1_000_000, us / 1000);
            if (seconds as f64) < SECONDS_BELOW {
                prop_assert_eq!(read(&seconds.to_string()), Some(seconds * 1_000_000));
            }
            if (milliseconds as f64) >= SECONDS_BELOW {
                prop_assert_eq!(read(&milliseconds.to_string()), Some(milliseconds * 1000));
            }
        }

        #[test]
        fn whatever_is_a_time_lies_within_ten_thousand_years(number in proptest::num::f64::ANY, text in ".{0,40}") {
            for json in [number.to_string(), format!("{:?}", number.to_string()), serde_json::to_string(&text).unwrap()] {
                let Ok(raw) = serde_json::from_str::<Box<RawValue>>(&json) else { continue };
                if let Ok(time) = any(&raw, "/time") {
                    prop_assert!(time.0.abs() <= 377_705_116_800_000_000, "{}", json);
                }
            }
        }
    }
}
