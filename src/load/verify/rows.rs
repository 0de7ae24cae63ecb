//! Owns how a `timestamptz` is read: as the microseconds that the server stores, without rounding.

use dataflows::model::EventTime;
use std::error::Error;
use tokio_postgres::types::{FromSql, Type};

/// PostgreSQL counts from 2000-01-01. Unit: microseconds since the Unix epoch.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A `timestamptz` of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(pub(super) EventTime);

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        // `infinity` and its opposite are the ends of the range and stay there.
        Ok(Self(EventTime(since_2000.saturating_add(POSTGRES_EPOCH_US))))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_to_the_microsecond() {
        let check = |raw: i64, expected: i64| {
            let instant = Instant::from_sql(&Type::TIMESTAMPTZ, &raw.to_be_bytes()).unwrap();
            assert_eq!(instant.0, EventTime(expected));
        };
        check(0, POSTGRES_EPOCH_US);
        check(-POSTGRES_EPOCH_US - 1, -1);
        check(i64::MAX, i64::MAX);
        assert!(Instant::from_sql(&Type::TIMESTAMPTZ, &[0; 4]).is_err());
    }
}
