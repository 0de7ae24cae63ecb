//! The steps that a request can ask for.

use dataflows::model::{HOUR_US, MINUTE_US, SECOND_US};
use std::fmt;

/// What the points of an answer stand for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resolution {
    /// The stored rows.
    Raw,
    /// Buckets.
    Step(Step),
}

/// A step of the calendar. Each starts where the clock or the calendar on the wall says so, whatever the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Divides an hour and is shorter. Unit: microseconds.
    Fine(i64),
    /// An hour.
    Hour,
    /// Hours, from midnight; divides 24.
    Hours(u8),
    /// Days, counted from 1970-01-01.
    Days(u16),
    /// Weeks, from Monday, counted from that of 1970-01-05.
    Weeks(u16),
    /// Months, counted from a January; divides 12 or is a multiple of it.
    Months(u16),
    /// Years, counted from the year 0.
    Years(u16),
}

/// Why a text is no step.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum StepError {
    /// No form fits.
    #[error("`{0}` is no step: give raw, or a number with s, m, h, d, w, mo or y, such as 15m, 1h, 1d or 1mo")]
    Unreadable(String),
    /// Does not divide the next larger unit.
    #[error("a step of {0} does not divide {1} evenly: ask for one that does")]
    Uneven(String, &'static str),
}

impl Resolution {
    /// Reads `raw`, or a number and a unit.
    ///
    /// Errors: another form, zero, minutes that do not divide an hour, or hours that do not divide a day.
    pub(super) fn parse(text: &str) -> Result<Self, StepError> {
        if text == "raw" {
            return Ok(Self::Raw);
        }
        let unreadable = || StepError::Unreadable(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let count: u16 = count.parse().map_err(|_| unreadable())?;
        if count == 0 {
            return Err(unreadable());
        }
        let step = match unit {
            "s" => fine(i64::from(count) * SECOND_US, text)?,
            "m" | "min" => fine(i64::from(count) * MINUTE_US, text)?,
            "h" if count == 1 => Step::Hour,
            "h" if count < 24 && 24 % count == 0 => Step::Hours(count as u8),
            "h" => return Err(StepError::Uneven(text.to_owned(), "a day (a whole day is 1d)")),
            "d" => Step::Days(count),
            "w" => Step::Weeks(count),
            "mo" if 12 % count == 0 || count.is_multiple_of(12) => Step::Months(count),
            "mo" => return Err(StepError::Uneven(text.to_owned(), "a year")),
            "y" => Step::Years(count),
            _ => return Err(unreadable()),
        };
        Ok(Self::Step(step))
    }
}

fn fine(us: i64, text: &str) -> Result<Step, StepError> {
    match us {
        HOUR_US => Ok(Step::Hour),
        us if us < HOUR_US && HOUR_US % us == 0 => Ok(Step::Fine(us)),
        _ => Err(StepError::Uneven(text.to_owned(), "an hour")),
    }
}

impl Step {
    /// Whether days make it up in a zone that agrees with the device's.
    pub(super) fn is_of_days(self) -> bool {
        matches!(self, Self::Days(_) | Self::Weeks(_) | Self::Months(_) | Self::Years(_))
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("raw"),
            Self::Step(step) => step.fmt(f),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fine(us) if us % MINUTE_US == 0 => write!(f, "{}m", us / MINUTE_US),
            Self::Fine(us) => write!(f, "{}s", us / SECOND_US),
            Self::Hour => f.write_str("1h"),
            Self::Hours(n) => write!(f, "{n}h"),
            Self::Days(n) => write!(f, "{n}d"),
            Self::Weeks(n) => write!(f, "{n}w"),
            Self::Months(n) => write!(f, "{n}mo"),
            Self::Years(n) => write!(f, "{n}y"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_written_back_or_refused() {
        let check = |text: &str, expected: Result<&str, &str>| match (Resolution::parse(text), expected) {
            (Ok(step), Ok(expected)) => assert_eq!(step.to_string(), expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}, expected {expected:?}"),
        };
        check("raw", Ok("raw"));
        check("30s", Ok("30s"));
        check("15m", Ok("15m"));
        check("5min", Ok("5m"));
        check("120s", Ok("2m"));
        check("60m", Ok("1h"));
        check("1h", Ok("1h"));
        check("8h", Ok("8h"));
        check("1d", Ok("1d"));
        check("10d", Ok("10d"));
        check("1w", Ok("1w"));
        check("3mo", Ok("3mo"));
        check("24mo", Ok("24mo"));
        check("1y", Ok("1y"));
        check("7m", Err("does not divide an hour"));
        check("90m", Err("does not divide an hour"));
        check("5h", Err("does not divide a day"));
        check("24h", Err("a whole day is 1d"));
        check("5mo", Err("does not divide a year"));
        check("0h", Err("is no step"));
        check("h", Err("is no step"));
        check("1", Err("is no step"));
        check("1H", Err("is no step"));
        check("99999999h", Err("is no step"));
        check("", Err("is no step"));
    }
}
