//! Owns what counts as a time of its own: a date, an ISO 8601 text, or an epoch number.

use super::Tree;
use dataflows::model::EventTime;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::borrow::Cow;

/// The fields that may hold the time of what is beside them, the first that does counts.
const KEYS: [&str; 3] = ["timestamp", "time", "ts"];
/// Smaller numbers are not seconds since the epoch (this is July 1979).
const SECONDS_MIN: f64 = 3e8;
/// Numbers from here are milliseconds (in seconds it would be the year 5138).
const MILLISECONDS_MIN: f64 = 1e11;
/// Larger numbers are no time that is meant (in milliseconds it would be the year 5138).
const MILLISECONDS_MAX: f64 = 1e14;

/// Whether a field of that name may hold a time.
pub(super) fn is_key(key: &str) -> bool {
    KEYS.contains(&key)
}

/// Gives the time that an object has of its own, with the index of the field that holds it.
pub(super) fn own(fields: &[(Cow<'_, str>, Tree<'_>)]) -> Option<(usize, EventTime)> {
    KEYS.iter().find_map(|name| {
        let index = fields.iter().position(|(key, _)| key == name)?;
        Some((index, of(&fields[index].1)?))
    })
}

/// Reads a time; `None` for what is none.
pub(super) fn of(tree: &Tree<'_>) -> Option<EventTime> {
    match tree {
        Tree::Date(ms) if ms.is_finite() => Some(from_ms(*ms)),
        Tree::Number(number) if (SECONDS_MIN..MILLISECONDS_MIN).contains(number) => Some(from_ms(number * 1e3)),
        Tree::Number(number) if (MILLISECONDS_MIN..MILLISECONDS_MAX).contains(number) => Some(from_ms(*number)),
        Tree::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => of(&Tree::Number(text.parse().ok()?)),
        Tree::Text(text) => of_text(text),
        _ => None,
    }
}

/// Reads an ISO 8601 text; without an offset it is in UTC.
fn of_text(text: &str) -> Option<EventTime> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(EventTime(time.as_microsecond()));
    }
    let time = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(EventTime(time.timestamp().as_microsecond()))
}

fn from_ms(ms: f64) -> EventTime {
    EventTime((ms * 1e3).round() as i64)
}

/// Prints milliseconds since the epoch as JavaScript's `toISOString` does; `None` where that throws.
pub(in crate::decoder) fn iso(ms: f64) -> Option<String> {
    let time = Timestamp::from_millisecond(ms.is_finite().then_some(ms as i64)?).ok()?;
    Some(format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The begin of the year 2100. Unit: milliseconds since 1970.
    const YEAR_2100_MS: i64 = 4_102_444_800_000;

    proptest! {
        #[test]
        fn a_moment_is_the_same_in_every_form(ms in SECONDS_MIN as i64 * 1000..YEAR_2100_MS) {
            let read = |tree: &Tree<'_>| of(tree).map(|time| time.0);
            let text = iso(ms as f64).unwrap();
            let without_zone = text.trim_end_matches('Z').to_owned();
            for text in [text, without_zone, ms.to_string()] {
                prop_assert_eq!(read(&Tree::Text(text.clone().into())), Some(ms * 1000), "{}", text);
            }
            prop_assert_eq!(read(&Tree::Date(ms as f64)), Some(ms * 1000));
            prop_assert_eq!(read(&Tree::Number(ms as f64)), Some(ms * 1000));
            prop_assert_eq!(read(&Tree::Number((ms / 1000) as f64)), Some(ms / 1000 * 1_000_000));
        }

        #[test]
        fn whatever_comes_is_a_time_or_none(number in proptest::num::f64::ANY, text in ".{0,40}") {
            for tree in [Tree::Number(number), Tree::Date(number), Tree::Text(number.to_string().into()), Tree::Text(text.into())] {
                let time = of(&tree);
                prop_assert!(time.is_none() || !matches!(tree, Tree::Number(number) if !(SECONDS_MIN..MILLISECONDS_MAX).contains(&number)));
            }
            let _ = iso(number);
        }
    }
}
