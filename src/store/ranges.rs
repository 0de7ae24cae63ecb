//! Ranges of time that a table is cut into: partitions or chunks.
//!
//! Invariant: what this module asks for never overlaps what exists, also after the interval of a
//! table was changed.

use super::level::Layout;
use super::tables::TableName;
use super::timestamp::Timestamp;
use dataflows::model::{DAY_US, SECOND_US};
use std::collections::BTreeSet;
use tokio_postgres::{Client, Error};

/// A stretch of time. Unit: microseconds since the Unix epoch; the end is exclusive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Range {
    pub(super) start_us: i64,
    pub(super) end_us: i64,
}

impl Range {
    /// Names a partition by its start: `20261122`, or `20261122_143000` where days are cut.
    fn name(self) -> String {
        let start = jiff::Timestamp::from_microsecond(self.start_us).expect("partitions are made from 1900 to 2200 only");
        let format = if self.start_us % DAY_US == 0 { "%Y%m%d" } else { "%Y%m%d_%H%M%S" };
        start.strftime(format).to_string()
    }
}

/// 1900-01-01: no device measured before. Earlier instants get no partition made.
const EARLIEST_US: i64 = -2_208_988_800 * SECOND_US;
/// 2200-01-01: nor will one of ours after.
const LATEST_US: i64 = 7_258_118_400 * SECOND_US;

/// Gives the ranges that take `instants` (microseconds) and do not exist, in order; each aligned to
/// the interval from the epoch, cut short where a neighbour exists.
pub(super) fn missing(existing: &[Range], instants: impl IntoIterator<Item = i64>, interval_us: i64) -> Vec<Range> {
    let mut sorted = existing.to_vec();
    sorted.sort_unstable();
    let mut wanted = BTreeSet::new();
    for at in instants.into_iter().filter(|at| (EARLIEST_US..LATEST_US).contains(at)) {
        let behind = sorted.partition_point(|range| range.start_us <= at);
        let before = behind.checked_sub(1).map(|i| sorted[i]);
        if before.is_some_and(|range| at < range.end_us) {
            continue;
        }
        let start_us = at.div_euclid(interval_us) * interval_us;
        wanted.insert(Range {
            start_us: before.map_or(start_us, |range| start_us.max(range.end_us)),
            end_us: sorted.get(behind).map_or(start_us + interval_us, |range| range.start_us.min(start_us + interval_us)),
        });
    }
    wanted.into_iter().collect()
}

/// Reads the ranges of a table, in order.
pub(super) async fn existing(client: &Client, layout: Layout, table: &TableName) -> Result<Vec<Range>, Error> {
    Ok(partitions(client, layout, table).await?.into_iter().map(|(_, range)| range).collect())
}

/// Reads the ranges of a table with the names of what holds them, in order.
pub(super) async fn partitions(client: &Client, layout: Layout, table: &TableName) -> Result<Vec<(String, Range)>, Error> {
    let sql = match layout {
        Layout::Partitions => {
            "SELECT c.oid::regclass::text, \
                    (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz AS start, \
                    (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)''\\)'))[1]::timestamptz \
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = to_regclass($1) AND c.relpartbound IS NOT NULL \
               AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' ORDER BY start NULLS FIRST"
        }
        Layout::Hypertables => {
            "SELECT format('%I.%I', chunk_schema, chunk_name), range_start, range_end FROM timescaledb_information.chunks \
             WHERE to_regclass(format('%I.%I', hypertable_schema, hypertable_name)) = to_regclass($1) ORDER BY range_start"
        }
    };
    let rows = client.query(sql, &[&table.as_str()]).await?;
    // MINVALUE and MAXVALUE, in partitions that somebody made by hand, are no literals.
    let range = |start: Option<Timestamp>, end: Option<Timestamp>| Range {
        start_us: start.map_or(i64::MIN, |at| at.0),
        end_us: end.map_or(i64::MAX, |at| at.0),
    };
    Ok(rows.iter().map(|row| (row.get(0), range(row.get(1), row.get(2)))).collect())
}

/// Makes one range, in a transaction of its own, since it holds locks until its end. Gives whether
/// it was made; another daemon may have been first.
pub(super) async fn make(client: &mut Client, layout: Layout, table: &TableName, range: Range) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    // This lock stops neither readers nor writers, only others who do the same.
    let lock = format!("SET LOCAL lock_timeout = '3s'; LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE");
    transaction.batch_execute(&lock).await?;
    let existing = partitions(transaction.client(), layout, table).await?;
    if existing.iter().any(|(_, other)| other.start_us < range.end_us && range.start_us < other.end_us) {
        return Ok(false);
    }
    match layout {
        Layout::Partitions => {
            let instant = |us: i64| format!("timestamptz 'epoch' + {us} * interval '1 microsecond'");
            let (name, start, end) = (range.name(), instant(range.start_us), instant(range.end_us));
            // Attached, not created as a partition, which would stop everybody at the table.
            let sql = format!(
                "CREATE TABLE {table}__{name} (LIKE {table} INCLUDING ALL); \
                 ALTER TABLE {table} ATTACH PARTITION {table}__{name} FOR VALUES FROM ({start}) TO ({end})"
            );
            transaction.batch_execute(&sql).await?;
        }
        Layout::Hypertables => {
            // The Apache edition makes chunks by itself only. A row that comes and goes leaves one.
            let [insert, delete] = table.probe_sql();
            transaction.execute(&insert, &[&Timestamp(range.start_us)]).await?;
            transaction.execute(&delete, &[&Timestamp(range.start_us)]).await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(existing: &[(i64, i64)], instants: &[i64], expected: &[(i64, i64)]) {
        let ranges =
            |pairs: &[(i64, i64)]| -> Vec<Range> { pairs.iter().map(|&(start_us, end_us)| Range { start_us, end_us }).collect() };
        assert_eq!(missing(&ranges(existing), instants.iter().copied(), 10), ranges(expected), "{existing:?} {instants:?}");
    }

    #[test]
    fn partitions_are_named_by_their_start() {
        let name = |start_us| Range { start_us, end_us: start_us + 1 }.name();
        assert_eq!([name(0), name(DAY_US / 2), name(-DAY_US)], ["19700101", "19700101_120000", "19691231"]);
    }

    #[test]
    fn ranges_are_aligned_and_never_overlap() {
        check(&[], &[], &[]);
        check(&[], &[0, 9, 10, -1], &[(-10, 0), (0, 10), (10, 20)]);
        check(&[(0, 10)], &[5], &[]);
        check(&[(0, 10)], &[10], &[(10, 20)]);
        // The interval was longer before, and shorter.
        check(&[(0, 25)], &[27], &[(25, 30)]);
        check(&[(14, 16)], &[11, 17], &[(10, 14), (16, 20)]);
        check(&[(-7, -5), (3, 4)], &[0, -1], &[(-5, 0), (0, 3)]);
        // Somebody made partitions without bounds.
        check(&[(i64::MIN, 0), (20, i64::MAX)], &[-5, 5, 25], &[(0, 10)]);
        check(&[], &[i64::MAX, i64::MIN, EARLIEST_US - 1, LATEST_US], &[]);
    }
}
