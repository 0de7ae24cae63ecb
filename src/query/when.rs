//! Reads the `from` and `to` of a request: a text becomes a [`When`], and only a zone and a clock make it a time.

use dataflows::model::{DAY_US, EventTime, HOUR_US, MINUTE_US, SECOND_US};
use jiff::{Timestamp, civil, tz::TimeZone};

/// Whole numbers below this are seconds, others milliseconds: the year 5138 in the one, 1973 in the other.
const EPOCH_SECONDS_MAX: i64 = 100_000_000_000;
/// The last time that can be asked for, 2200-01-01 UTC. The first is the Unix epoch.
const LATEST: EventTime = EventTime(7_258_118_400 * SECOND_US);

/// A time as a request names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    /// So long before the clock. Unit: microseconds.
    Ago(i64),
    /// A point in time.
    At(EventTime),
    /// A reading of the clock on the wall, in the zone of the request.
    Local(civil::DateTime),
}

/// Why a text is no time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum WhenError {
    /// No form fits.
    #[error(
        "`{0}` is no time: give RFC 3339 (2026-11-22T10:00:00Z), a date, epoch seconds or milliseconds, `now`, or a span such as -24h"
    )]
    Unreadable(String),
    /// Before 1970 or after 2199.
    #[error("the time is outside 1970 to 2199: ask for one within")]
    OutOfRange,
}

impl When {
    /// Reads RFC 3339 (a `+` that became a space on its way is put right), a local date or date and time, epoch
    /// seconds or milliseconds, `now`, or a span before now (`-90s`, `-30m`, `-24h`, `-7d`, `-2w`).
    ///
    /// Errors: when no form fits.
    pub(super) fn parse(text: &str) -> Result<Self, WhenError> {
        let text = text.trim();
        if text == "now" {
            return Ok(Self::Ago(0));
        }
        if let Some(ago) = text.strip_prefix('-').and_then(span_us) {
            return Ok(Self::Ago(ago));
        }
        if let Ok(number) = text.parse::<i64>() {
            let unit_us = if number.abs() < EPOCH_SECONDS_MAX { SECOND_US } else { 1_000 };
            return number.checked_mul(unit_us).map(|us| Self::At(EventTime(us))).ok_or(WhenError::OutOfRange);
        }
        let repaired = if text.contains('T') { text.replace(' ', "+") } else { text.to_owned() };
        if let Ok(timestamp) = repaired.parse::<Timestamp>() {
            return Ok(Self::At(EventTime(timestamp.as_microsecond())));
        }
        repaired.parse().map(Self::Local).map_err(|_| WhenError::Unreadable(text.to_owned()))
    }

    /// Gives the time, for a clock that shows `now`. A local time that the zone skips is the same reading of the
    /// offset before the jump; one that it has twice is the earlier.
    ///
    /// Errors: a time before 1970 or after 2199.
    pub(super) fn resolve(self, zone: &TimeZone, now: EventTime) -> Result<EventTime, WhenError> {
        let at = match self {
            Self::Ago(us) => EventTime(now.0.saturating_sub(us)),
            Self::At(at) => at,
            Self::Local(local) => {
                let timestamp = zone.to_ambiguous_timestamp(local).compatible().map_err(|_| WhenError::OutOfRange)?;
                EventTime(timestamp.as_microsecond())
            }
        };
        if (EventTime(0)..LATEST).contains(&at) { Ok(at) } else { Err(WhenError::OutOfRange) }
    }
}

/// Reads `90s`, `30m`, `24h`, `7d` or `2w`; a day has 24 hours here.
fn span_us(text: &str) -> Option<i64> {
    let unit_us = match text.bytes().last()? {
        b's' => SECOND_US,
        b'm' => MINUTE_US,
        b'h' => HOUR_US,
        b'd' => DAY_US,
        b'w' => 7 * DAY_US,
        _ => return None,
    };
    let count: u32 = text[..text.len() - 1].parse().ok()?;
    i64::from(count).checked_mul(unit_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::zone::zone;

    #[test]
    fn every_form_is_read_and_the_rest_refused() {
        const NOW: EventTime = EventTime(1_795_356_600 * SECOND_US); // 2026-11-22T14:10:00Z
        let check = |text: &str, expected: Result<&str, &str>| {
            let paris = zone("Europe/Paris").unwrap();
            let got = When::parse(text).and_then(|when| when.resolve(&paris, NOW));
            let got = got.map(|at| Timestamp::from_microsecond(at.0).unwrap().to_string()).map_err(|e| e.to_string());
            match (&got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
                _ => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        };
        check("2026-11-22T10:00:00Z", Ok("2026-11-22T10:00:00Z"));
        check("2026-11-22T10:00:00+01:00", Ok("2026-11-22T09:00:00Z"));
        check("2026-11-22T10:00:00 01:00", Ok("2026-11-22T09:00:00Z"));
        check("2026-11-22T10:00:00.123456Z", Ok("2026-11-22T10:00:00.123456Z"));
        check("2026-11-22", Ok("2026-11-21T23:00:00Z"));
        check("2026-11-22T10:00", Ok("2026-11-22T09:00:00Z"));
        check("2026-03-29T02:30", Ok("2026-03-29T01:30:00Z"));
        check("1700000000", Ok("2023-11-14T22:13:20Z"));
        check("1700000000123", Ok("2023-11-14T22:13:20.123Z"));
        check("now", Ok("2026-11-22T14:10:00Z"));
        check("-24h", Ok("2026-11-21T14:10:00Z"));
        check("-90s", Ok("2026-11-22T14:08:30Z"));
        check("-2w", Ok("2026-11-08T14:10:00Z"));
        check("", Err("is no time"));
        check("-", Err("is no time"));
        check("-24", Err("outside 1970"));
        check("-h", Err("is no time"));
        check("-24é", Err("is no time"));
        check("yesterday", Err("`yesterday` is no time"));
        check("-9999999w", Err("outside 1970"));
        check("9223372036854775807", Err("outside 1970"));
        check("2200-01-01T00:00:00Z", Err("outside 1970"));
    }
}
