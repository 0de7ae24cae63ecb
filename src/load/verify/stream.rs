//! Owns the reading of rows: one series after the other, in the order of their ids.

use super::bucket::{Partial, merge};
use super::catalogue::Catalogue;
use super::{SeriesKey, Verifier, VerifyError};
use crate::load::expectation::Bucket;
use crate::store::Timestamp;
use dataflows::model::{BucketLevel, EventTime, SeriesId};
use futures_util::{TryStreamExt as _, pin_mut};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row as DatabaseRow, Transaction};

/// A raw row of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Its time.
    pub at: EventTime,
    /// Its value.
    pub value: f64,
}

/// How many series are compared between two words about it.
const SERIES_A_WORD: u64 = 1_000;

/// Compares the raw rows of all series.
pub(super) async fn raw(
    snapshot: &Transaction<'_>,
    class: &str,
    catalogue: &Catalogue,
    verifier: &mut Verifier<'_>,
    done: &mut impl FnMut(u64),
) -> Result<(), VerifyError> {
    let sql = format!("SELECT series_id, ts, value FROM measurement{class} ORDER BY series_id, ts, value");
    let read = |row: &DatabaseRow| Ok(Row { at: time(row, 1)?, value: row.try_get(2)? });
    let compare = |key, rows: &mut Vec<Row>| {
        verifier.raw(key, rows);
        rows.clear();
    };
    by_series(snapshot, &sql, catalogue, read, compare, done).await
}

/// Compares the merged partials of all series.
pub(super) async fn rollup(
    snapshot: &Transaction<'_>,
    class: &str,
    level: BucketLevel,
    catalogue: &Catalogue,
    verifier: &mut Verifier<'_>,
    done: &mut impl FnMut(u64),
) -> Result<(), VerifyError> {
    let table = match level {
        BucketLevel::Hour => "rollup_1h",
        BucketLevel::Day => "rollup_1d",
    };
    let sql = format!(
        "SELECT series_id, bucket, count, sum, min, max, first_ts, first, first_offset, last_ts, last, last_offset \
         FROM {table}{class} ORDER BY series_id, bucket"
    );
    let read = |row: &DatabaseRow| {
        let bucket = Bucket {
            count: row.try_get::<_, i64>(2)?.cast_unsigned(),
            sum: row.try_get(3)?,
            min: row.try_get(4)?,
            max: row.try_get(5)?,
            first: (time(row, 6)?, row.try_get(7)?),
            last: (time(row, 9)?, row.try_get(10)?),
        };
        Ok(Partial { start: time(row, 1)?, bucket, offsets: (row.try_get(8)?, row.try_get(11)?) })
    };
    let compare = |key, partials: &mut Vec<Partial>| {
        verifier.rollup(level, key, &merge(partials));
        partials.clear();
    };
    by_series(snapshot, &sql, catalogue, read, compare, done).await
}

fn time(row: &DatabaseRow, column: usize) -> Result<EventTime, tokio_postgres::Error> {
    row.try_get(column).map(|Timestamp(us)| EventTime(us))
}

/// Gathers the rows of each series of the catalogue, none where it has none, and has them compared.
/// Rows of other series are others' and passed over.
async fn by_series<T>(
    snapshot: &Transaction<'_>,
    sql: &str,
    catalogue: &Catalogue,
    read: impl Fn(&DatabaseRow) -> Result<T, tokio_postgres::Error>,
    mut compare: impl FnMut(SeriesKey, &mut Vec<T>),
    done: &mut impl FnMut(u64),
) -> Result<(), VerifyError> {
    let rows = snapshot.query_raw(sql, std::iter::empty::<&(dyn ToSql + Sync)>()).await?;
    pin_mut!(rows);
    let mut gathered = Vec::new();
    let mut next = rows.try_next().await?;
    for (nth, (series, key)) in (1u64..).zip(&catalogue.known) {
        while let Some(row) = &next {
            let of = SeriesId(row.try_get(0)?);
            if of > *series {
                break;
            }
            if of == *series {
                gathered.push(read(row)?);
            }
            next = rows.try_next().await?;
        }
        compare(*key, &mut gathered);
        if nth.is_multiple_of(SERIES_A_WORD) {
            done(SERIES_A_WORD);
        }
    }
    // The answer is read to its end, so that the next statement finds the connection free.
    while next.is_some() {
        next = rows.try_next().await?;
    }
    Ok(())
}
