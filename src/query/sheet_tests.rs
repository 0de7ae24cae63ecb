//! Where pieces go, by the times of their first and last measurement.

use super::*;
use crate::query::step::Step;
use dataflows::model::{DAY_US, EventTime, Offset, Point, ValueKind};
use jiff::tz::TimeZone;

const SERIES: SeriesId = SeriesId(7);

fn piece(first_h: i64, last_h: i64, open: bool) -> Piece {
    let hour = DAY_US / 24;
    let point = |h: i64| Point { at: EventTime(h * hour), offset: Offset(0), value: 1.0 };
    let (first, last) = (point(first_h), point(last_h));
    Piece { series: SERIES, merged: Merged { count: 1, sum: 1.0, min: 1.0, max: 1.0, first, last }, open }
}

/// Puts pieces (first hour, last hour) into the days of 1970-01-02 to 04, as days and then as hours where days do
/// not fit; expected are (day, count), whether it is approximate, and the buckets that were read again.
fn check(days: &[(i64, i64)], hours: &[(i64, i64)], expected: &[(usize, u64)], approximate: bool, again: Option<Range<usize>>) {
    let buckets = Buckets::new(&TimeZone::UTC, Step::Days(1), EventTime(DAY_US), EventTime(4 * DAY_US), 10).unwrap();
    let group = Group { field: "t".into(), kind: ValueKind::Number, unit: None, series: vec![SERIES] };
    let mut sheet = Sheet::new(&buckets, &[group]);
    days.iter().for_each(|(first, last)| sheet.day(&piece(*first, *last, false)));
    assert_eq!(sheet.open_mixed(), again, "{days:?}");
    hours.iter().for_each(|(first, last)| sheet.hour_of_mixed(&piece(*first, *last, false)));
    let (entries, approximated) = sheet.finish().next().unwrap();
    let counts: Vec<_> = entries.iter().map(|(bucket, entry)| (*bucket, entry.merged.count)).collect();
    assert_eq!((counts.as_slice(), approximated), (expected, approximate), "{days:?} then {hours:?}");
}

#[test]
fn days_count_where_they_fit_and_hours_where_not() {
    check(&[(24, 47), (48, 71), (60, 65)], &[], &[(0, 1), (1, 2)], false, None);
    // What lies outside is left out.
    check(&[(0, 23), (96, 120)], &[], &[], false, None);
    // A day across an edge empties both its buckets, and only they take hours.
    check(
        &[(30, 40), (47, 48), (75, 76)],
        &[(30, 30), (47, 47), (48, 48), (75, 75)],
        &[(0, 2), (1, 1), (2, 1)],
        false,
        Some(0..2),
    );
    // Across the ends of the range.
    check(&[(20, 26), (90, 99)], &[(23, 23), (24, 24), (95, 95), (96, 96)], &[(0, 1), (2, 1)], false, Some(0..3));
    // An hour across an edge goes to the bucket where it begins.
    check(&[(47, 48)], &[(47, 48)], &[(0, 1)], true, Some(0..2));
    check(&[(20, 26)], &[(23, 24)], &[], true, Some(0..1));
    // A day over everything.
    check(&[(0, 200)], &[(24, 25)], &[(0, 1)], false, Some(0..3));
}

#[test]
fn an_open_piece_opens_its_bucket() {
    let buckets = Buckets::new(&TimeZone::UTC, Step::Days(1), EventTime(0), EventTime(2 * DAY_US), 10).unwrap();
    let group = Group { field: "t".into(), kind: ValueKind::Number, unit: None, series: vec![SERIES] };
    let mut sheet = Sheet::new(&buckets, &[group]);
    [piece(1, 2, true), piece(3, 4, false), piece(25, 26, false)].iter().for_each(|piece| sheet.day(piece));
    sheet.day(&Piece { series: SeriesId(8), ..piece(25, 26, true) });
    let (entries, _) = sheet.finish().next().unwrap();
    assert_eq!(entries.values().map(|entry| entry.open).collect::<Vec<_>>(), [true, false]);
}
