//! Answers with stored rows, and steps below an hour with what those rows draw.

use super::aggregate::{Aggregate, Fill};
use super::answer::{AnswerPoint, AnswerSeries, Cell};
use super::calendar::Buckets;
use super::catalogue::ClassTables;
use super::database::Database;
use super::groups::Group;
use super::problem::Problem;
use super::tables::{RawAsk, RawRow};
use super::weighted::{Held, StepFunction};
use dataflows::model::{EventTime, SeriesId, ValueKind};
use smallvec::smallvec;
use std::collections::HashMap;

/// Reads rows of [`from`, `to`), at most `limit` in all, and says where to go on if that cut the answer.
///
/// The cut lies between two times: a next request from there neither misses nor repeats a row. So that it goes
/// forward, as many rows as there are series are always allowed.
///
/// Errors: when the database does not answer in time, or the rows hold more than `text_bytes_max` of text.
pub(super) async fn rows(
    database: &Database,
    classes: Vec<ClassTables>,
    groups: Vec<Group>,
    (from, to): (EventTime, EventTime),
    (limit, text_bytes_max): (usize, usize),
) -> Result<(Vec<AnswerSeries>, Option<EventTime>), Problem> {
    let series: Vec<_> = groups.iter().flat_map(|group| group.series.iter().map(|id| (*id, group.kind))).collect();
    let limit = limit.max(series.len());
    let ask = RawAsk { series, from, to, limit: limit + 1, text_bytes_max, classes };
    let mut rows = database.rows(&ask).await?;
    let next_from = cut(&mut rows, limit);
    Ok((distribute(groups, rows), next_from))
}

/// Sorts the rows by time and cuts them in front of the first time of which not all fit.
fn cut(rows: &mut Vec<RawRow>, limit: usize) -> Option<EventTime> {
    rows.sort_by_key(|row| (row.at, row.series));
    let next_from = rows.get(limit)?.at;
    rows.retain(|row| row.at < next_from);
    Some(next_from)
}

fn distribute(groups: Vec<Group>, rows: Vec<RawRow>) -> Vec<AnswerSeries> {
    let numbered = groups.iter().enumerate();
    let group_of: HashMap<SeriesId, usize> =
        numbered.flat_map(|(group, g)| g.series.iter().map(move |series| (*series, group))).collect();
    let empty = |g: Group| AnswerSeries { field: g.field, unit: g.unit, kind: g.kind, points: Vec::new(), approximate: false };
    let mut series: Vec<AnswerSeries> = groups.into_iter().map(empty).collect();
    for RawRow { at, series: id, value } in rows {
        let Some(group) = group_of.get(&id) else { continue };
        let series = &mut series[*group];
        let value = match (series.kind, value) {
            (ValueKind::Boolean, Cell::Number(number)) => Cell::Boolean(number != 0.0),
            (_, value) => value,
        };
        series.points.push(AnswerPoint { at, values: smallvec![value], open: false });
    }
    series
}

/// Reads the step function of a group over buckets below an hour.
///
/// Errors: when the database does not answer in time.
pub(super) async fn fine(
    database: &Database,
    classes: Vec<ClassTables>,
    group: &Group,
    buckets: &Buckets,
    now: EventTime,
) -> Result<Vec<Option<Held>>, Problem> {
    let (from, to) = (buckets.start(0), buckets.end(buckets.len() - 1));
    let series = group.series.iter().map(|id| (*id, group.kind)).collect();
    let ask = RawAsk { series, from, to, limit: usize::MAX, text_bytes_max: 0, classes };
    let mut function = StepFunction::new(buckets, now);
    database.changes(&ask, &mut |at, value| function.row(at, value)).await?;
    Ok(function.finish())
}

/// Makes the series of the answer. There are no gaps but before the first row, which `fill` can make null.
pub(super) fn fine_series(
    group: Group,
    buckets: &Buckets,
    held: &[Option<Held>],
    aggregates: &[Aggregate],
    fill: Fill,
    now: EventTime,
) -> AnswerSeries {
    let point = |(bucket, held): (usize, &Option<Held>)| {
        let values = match held {
            Some(held) => aggregates.iter().map(|aggregate| held.pick(*aggregate)).collect(),
            None if fill == Fill::Absent || buckets.start(bucket) > now => return None,
            None => aggregates.iter().map(|aggregate| aggregate.filled(fill, None)).collect(),
        };
        Some(AnswerPoint { at: buckets.start(bucket), values, open: buckets.end(bucket) > now })
    };
    let points = held.iter().enumerate().filter_map(point).collect();
    AnswerSeries { field: group.field, unit: group.unit, kind: group.kind, points, approximate: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_lies_between_two_times() {
        /// Rows as (time, series).
        fn check(rows: &[(i64, i64)], limit: usize, expected: usize, next_from: Option<i64>) {
            let row = |&(at, id): &(i64, i64)| RawRow { at: EventTime(at), series: SeriesId(id), value: Cell::Null };
            let mut cut_rows: Vec<_> = rows.iter().map(row).collect();
            let next = cut(&mut cut_rows, limit);
            assert_eq!((cut_rows.len(), next), (expected, next_from.map(EventTime)), "{rows:?} to {limit}");
        }
        check(&[], 2, 0, None);
        check(&[(1, 1), (2, 1)], 2, 2, None);
        check(&[(1, 1), (2, 1), (3, 1)], 2, 2, Some(3));
        check(&[(3, 1), (1, 1), (2, 1)], 2, 2, Some(3));
        // Two series at one time stay together.
        check(&[(1, 1), (2, 1), (2, 2), (3, 1)], 2, 1, Some(2));
        check(&[(1, 1), (1, 2), (2, 1)], 2, 2, Some(2));
    }
}
