//! Which rows of a commit are copied straight into the columnstore of TimescaleDB Community.
//!
//! Invariant: only rows of chunks that are closed, many of a series together, so that each becomes a segment
//! worth having. History that is imported comes like that. With the one row of a series that a fleet's commit
//! brings, it takes twice the processor time of a B-tree and three times its room.

use super::classes::Class;
use super::error::{Doing, StoreError};
use super::rows::Row;
use super::tables::Table;
use tokio_postgres::Client;

/// Fewest rows of a series in a chunk that are copied directly.
const RUN_ROWS_MIN: usize = 100;
/// The first version of TimescaleDB whose direct COPY looks at the checks of the table.
const VERSION_MIN: [u32; 3] = [2, 28, 1];

/// Whether the server can: the same for all of a session.
pub(super) async fn is_offered(client: &Client) -> Result<bool, StoreError> {
    let sql = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb' \
               AND current_setting('timescaledb.enable_direct_compress_copy', true) IS NOT NULL";
    let row = client.query_opt(sql, &[]).await.doing("the version of TimescaleDB could not be read")?;
    Ok(row.is_some_and(|row| is_new_enough(row.get(0))))
}

fn is_new_enough(version: &str) -> bool {
    // `2.29.0-dev` is before 2.29.0, which is no matter here.
    let number = |part: &str| part.split('-').next().and_then(|digits| digits.parse::<u32>().ok());
    let parts: Option<Vec<u32>> = version.split('.').map(number).collect();
    parts.is_some_and(|parts| parts.as_slice() >= VERSION_MIN.as_slice())
}

/// What of one table may be copied directly. Units: microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Direct {
    chunk_us: i64,
    before_us: i64,
}

impl Direct {
    /// For a table whose commit has reached this log time. None where the columnstore is not for it, or not yet:
    /// partials are merged in rows first.
    pub(super) fn of(table: Table, class: &Class, reached_us: i64) -> Option<Self> {
        let is_raw = matches!(table, Table::Measurement | Table::MeasurementText | Table::MeasurementLocation);
        let (after_us, chunk_us) = (class.compress_after_us.filter(|_| is_raw)?, table.interval_us(class));
        // A row's chunk ends a whole interval behind it at the latest.
        Some(Self { chunk_us, before_us: reached_us.saturating_sub(after_us).saturating_sub(chunk_us) })
    }

    /// Splits rows, sorted by series and time, into those that are copied as ever and those that are copied
    /// directly. None where the latter would be none, which is nearly always.
    pub(super) fn split<'a>(self, rows: &[Row<'a>]) -> Option<(Vec<Row<'a>>, Vec<Row<'a>>)> {
        let run = |row: &Row<'_>| (row.series(), row.at_us().map(|at_us| at_us.div_euclid(self.chunk_us)));
        let is_direct = |rows: &[Row<'_>]| {
            let newest_us = rows.last().and_then(Row::at_us);
            rows.len() >= RUN_ROWS_MIN && newest_us.is_some_and(|at_us| at_us < self.before_us)
        };
        let runs = || rows.chunk_by(|a, b| run(a) == run(b));
        if !runs().any(is_direct) {
            return None;
        }
        let (direct, as_ever): (Vec<_>, Vec<_>) = runs().partition(|rows| is_direct(rows));
        Some((as_ever.concat(), direct.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{ClassNo, DAY_US, DeviceNo, EventTime, FieldNo, Offset, Partition, Placed, SeriesId, Stored};

    #[test]
    fn versions_are_compared_by_number() {
        let check = |version, expected| assert_eq!(is_new_enough(version), expected, "{version}");
        check("2.9.9", false);
        check("2.28.0", false);
        check("2.28.1", true);
        check("2.29.0-dev", true);
        check("3.0.0", true);
        check("", false);
    }

    /// Rows as (field, day, how many), of which so many are copied directly.
    fn check(rows: &[(u16, i64, usize)], direct: usize) {
        let row = |field: u16, at_us: i64| {
            let series = SeriesId::new(DeviceNo(1), FieldNo(field));
            let row = Stored { class: ClassNo(0), series, at: EventTime(at_us), value: 0.0 };
            Placed { partition: Partition(0), offset: Offset(0), row }
        };
        let placed: Vec<_> =
            rows.iter().flat_map(|&(field, day, many)| (0..many as i64).map(move |nth| row(field, day * DAY_US + nth))).collect();
        let numbers: Vec<_> = placed.iter().map(Row::Number).collect();
        let found = Direct { chunk_us: DAY_US, before_us: 10 * DAY_US }.split(&numbers);
        let counts = found.map(|(as_ever, direct)| (as_ever.len(), direct.len()));
        let expected = (direct > 0).then_some((numbers.len() - direct, direct));
        assert_eq!(counts, expected, "{rows:?}");
    }

    #[test]
    fn many_rows_of_a_series_in_a_chunk_that_is_closed_are_copied_directly() {
        check(&[], 0);
        check(&[(0, 0, 99)], 0);
        check(&[(0, 0, 100)], 100);
        check(&[(0, 0, 60), (0, 1, 60)], 0);
        check(&[(0, 0, 60), (1, 0, 60)], 0);
        check(&[(0, 9, 100), (0, 10, 100)], 100);
        check(&[(0, 0, 200), (0, 1, 10), (1, 0, 10), (1, 3, 150)], 350);
    }

    #[test]
    fn a_chunk_is_closed_a_while_after_its_end() {
        let (day, after) = (DAY_US, 2 * DAY_US);
        let class = |compress_after_us| Class {
            no: ClassNo(0),
            name: "standard".into(),
            raw_retention_us: None,
            rollup_retention_us: None,
            chunk_interval_us: day,
            compress_after_us,
        };
        let of = |table, after_us| Direct::of(table, &class(after_us), 10 * day);
        assert_eq!(of(Table::MeasurementText, Some(after)), Some(Direct { chunk_us: day, before_us: 7 * day }));
        assert_eq!(
            (of(Table::Measurement, None), of(Table::Rollup1h, Some(after)), of(Table::Series, Some(after))),
            (None, None, None)
        );
    }
}
