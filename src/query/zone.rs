//! Time zones by name, from the database that is built in, so that an answer does not depend on the machine.

use dataflows::model::EventTime;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::fmt;
use std::sync::LazyLock;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Finds a zone by its IANA name.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    ZONES.get(name).ok()
}

/// Gives jiff's form of a time. Requests are bounded to 1970 to 2199 and bucket edges lie next to them; what a
/// table holds beyond jiff's years is shown as the first or last time that it knows.
pub(super) fn timestamp(at: EventTime) -> Timestamp {
    Timestamp::from_microsecond(at.0).unwrap_or(if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Writes a time as RFC 3339 with the zone's offset, and with `Z` in UTC.
pub(super) struct Rfc3339<'a>(pub(super) EventTime, pub(super) &'a TimeZone);

impl fmt::Display for Rfc3339<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = timestamp(self.0);
        if *self.1 == TimeZone::UTC {
            return at.fmt(f);
        }
        at.display_with_offset(self.1.to_offset(at)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::SECOND_US;

    #[test]
    fn times_are_written_with_the_offset_of_their_zone() {
        let check = |seconds: i64, name: &str, expected: &str| {
            let text = Rfc3339(EventTime(seconds * SECOND_US), &zone(name).unwrap()).to_string();
            assert_eq!(text, expected, "{name}");
        };
        check(1_700_000_000, "UTC", "2023-11-14T22:13:20Z");
        check(1_700_000_000, "Europe/Paris", "2023-11-14T23:13:20+01:00");
        check(1_700_000_000, "Asia/Kolkata", "2023-11-15T03:43:20+05:30");
        check(1_700_000_000, "America/St_Johns", "2023-11-14T18:43:20-03:30");
        check(i64::MAX / SECOND_US, "UTC", "9999-12-30T22:00:00.999999999Z");
        assert!(zone("Mars/Olympus").is_none());
    }
}
