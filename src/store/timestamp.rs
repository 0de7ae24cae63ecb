//! Microseconds since the Unix epoch as PostgreSQL's `timestamptz`, which counts from the year 2000.

use bytes::{BufMut, BytesMut};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// From the Unix epoch to 2000-01-01. Unit: microseconds.
const YEAR_2000_US: i64 = 946_684_800_000_000;

/// A point in time. Unit: microseconds since the Unix epoch, UTC.
///
/// `i64::MAX` and `i64::MIN` are PostgreSQL's `infinity` and `-infinity`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Gives the eight bytes' worth that PostgreSQL's binary format takes.
    pub fn to_wire(self) -> i64 {
        match self.0 {
            i64::MAX | i64::MIN => self.0,
            // What is too early for PostgreSQL must not become an infinity; so the server refuses it.
            unix_us => unix_us.saturating_sub(YEAR_2000_US).max(i64::MIN + 1),
        }
    }

    /// Reads what PostgreSQL's binary format gives.
    pub fn from_wire(wire_us: i64) -> Self {
        match wire_us {
            i64::MIN => Self(i64::MIN),
            wire_us => Self(wire_us.saturating_add(YEAR_2000_US)),
        }
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.to_wire());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::from_wire(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_year_2000_is_the_origin() {
        let check = |unix_us: i64, wire_us: i64| {
            assert_eq!(Timestamp(unix_us).to_wire(), wire_us);
            assert_eq!(Timestamp::from_wire(wire_us), Timestamp(unix_us));
        };
        check(YEAR_2000_US, 0);
        check(0, -YEAR_2000_US);
        check(i64::MAX, i64::MAX);
        check(i64::MIN, i64::MIN);
        assert_eq!(Timestamp(i64::MIN + 1).to_wire(), i64::MIN + 1);
    }

    proptest! {
        #[test]
        fn the_order_of_times_is_that_of_the_wire(a in any::<i64>(), b in any::<i64>()) {
            prop_assert!(Timestamp(a.min(b)).to_wire() <= Timestamp(a.max(b)).to_wire());
            // What PostgreSQL can hold (4713 BC to 294276) comes back as it was.
            let held = a.clamp(-210_866_803_200_000_000, 9_223_371_331_200_000_000);
            prop_assert_eq!(Timestamp::from_wire(Timestamp(held).to_wire()), Timestamp(held));
        }
    }
}
