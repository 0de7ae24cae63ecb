//! Random measurements through random partials into steps, against the measurements themselves.

use super::*;
use crate::query::answer::Cell;
use crate::query::memory::{Latest, MemoryError, MemoryPartials};
use crate::query::merge::{Merged, Piece};
use crate::query::step::Resolution;
use crate::query::zone::{timestamp, zone};
use dataflows::model::{
    ClassNo, DAY_US, DeviceId, HOUR_US, MINUTE_US, Offset, Partial, Placed, Point, SeriesId, TenantNo, ValueKind,
};
use jiff::ToSpan;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const PROGRESS: Offset = Offset(1000);
const ZONES: [&str; 5] = ["UTC", "Europe/Paris", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"];
const STEPS: [&str; 7] = ["1h", "6h", "1d", "1w", "1mo", "3mo", "1y"];

/// Where a part of a bucket is when it is read.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Where {
    Committed,
    /// Committed, and not forgotten yet.
    Both,
    Emitted,
    Open,
}

/// A measurement: series, time, value, and where the part of its hour and of its day is that holds it.
#[derive(Clone, Debug)]
struct Measured {
    series: SeriesId,
    at: EventTime,
    offset: Offset,
    value: f64,
    places: [Where; 2],
}

/// Tables and memory that hold still.
#[derive(Default)]
struct Still {
    committed: Vec<Partial>,
    emitted: Vec<Placed<Partial>>,
    open: Vec<Partial>,
}

impl Tables for Still {
    async fn partials(&self, ask: &LevelAsk, take: &mut (dyn FnMut(Piece) + Send)) -> Result<Offset, Problem> {
        // As the tables are asked, by where a bucket starts.
        let asked = |p: &&Partial| p.level == ask.level && p.start >= ask.buckets_from() && p.start < ask.to;
        self.committed.iter().filter(asked).for_each(|partial| take(Piece::of(partial, false)));
        Ok(PROGRESS)
    }
}

impl Memory for Still {
    type Guard = ();

    fn guard(&self) {}

    async fn latest(&self, _: TenantNo, _: DeviceId) -> Result<Vec<Latest>, MemoryError> {
        Ok(vec![])
    }

    async fn partials(&self, _: Partition, _: Vec<SeriesId>, level: BucketLevel) -> Result<MemoryPartials, MemoryError> {
        let emitted = self.emitted.iter().filter(|partial| partial.row.level == level).cloned().collect();
        let open = self.open.iter().filter(|partial| partial.level == level).cloned().collect();
        Ok(MemoryPartials { position: PROGRESS, floor: Offset(0), open, emitted })
    }
}

fn offset_us(zone: &TimeZone, at: EventTime) -> i64 {
    i64::from(zone.to_offset(timestamp(at)).seconds()) * 1_000_000
}

/// The bucket that the dataflow puts a measurement into.
fn bucket_start(zone: &TimeZone, level: BucketLevel, at: EventTime) -> EventTime {
    match level {
        BucketLevel::Hour => EventTime(at.0 - (at.0 + offset_us(zone, at)).rem_euclid(HOUR_US)),
        BucketLevel::Day => {
            let midnight = timestamp(at).to_zoned(zone.clone()).start_of_day().unwrap();
            EventTime(midnight.timestamp().as_microsecond())
        }
    }
}

fn add(partials: &mut Vec<Partial>, partial: Partial) {
    let same = |p: &&mut Partial| (p.series, p.level, p.start) == (partial.series, partial.level, partial.start);
    let Some(known) = partials.iter_mut().find(same) else { return partials.push(partial) };
    let mut merged = Piece::of(known, false).merged;
    merged.add(&Piece::of(&partial, false).merged);
    let Merged { count, sum, min, max, first, last } = merged;
    *known = Partial { count, sum, min, max, first, last, ..partial };
}

impl Still {
    fn of(zone: &TimeZone, measured: &[Measured]) -> Self {
        let mut still = Self::default();
        let (mut both, mut emitted) = (Vec::new(), Vec::new());
        for one in measured {
            for (level, place) in [BucketLevel::Hour, BucketLevel::Day].into_iter().zip(one.places) {
                let start = bucket_start(zone, level, one.at);
                let end = EventTime(start.0 + if level == BucketLevel::Hour { HOUR_US } else { DAY_US });
                let point = Point { at: one.at, offset: one.offset, value: one.value };
                let (class, series) = (ClassNo(0), one.series);
                let (sum, min, max, first, last) = (one.value, one.value, one.value, point, point);
                let partial = Partial { class, level, series, start, end, count: 1, sum, min, max, first, last };
                match place {
                    Where::Committed => add(&mut still.committed, partial),
                    Where::Both => add(&mut both, partial),
                    Where::Emitted => add(&mut emitted, partial),
                    Where::Open => add(&mut still.open, partial),
                }
            }
        }
        still.committed.extend(both.iter().cloned());
        let placed = |offset: u64| move |row| Placed { partition: Partition(0), offset: Offset(offset), row };
        still.emitted.extend(both.into_iter().map(placed(PROGRESS.0 - 1)));
        still.emitted.extend(emitted.into_iter().map(placed(PROGRESS.0)));
        still
    }
}

/// Names the bucket of a time: what two times share exactly when one bucket holds both.
fn name(zone: &TimeZone, step: &str, at: EventTime) -> (i64, i64) {
    let local = timestamp(at).to_zoned(zone.clone());
    let day = |date: jiff::civil::Date| i64::from((date - jiff::civil::date(2000, 1, 1)).get_days());
    let (year, month) = (i64::from(local.year()), i64::from(local.month()));
    match step {
        "1h" => (bucket_start(zone, BucketLevel::Hour, at).0, 0),
        "6h" => (day(local.date()), i64::from(local.hour() / 6)),
        "1d" => (day(local.date()), 0),
        "1w" => (day(local.date() - i64::from(local.weekday().to_monday_zero_offset()).days()), 0),
        "1mo" => (year, month),
        "3mo" => (year, (month - 1) / 3),
        _ => (year, 0),
    }
}

/// Computes the buckets from the measurements, without partials.
fn direct(zone: &TimeZone, step: &str, measured: &[Measured], from: EventTime, to: EventTime) -> Vec<Merged> {
    let (first, last) = (name(zone, step, from), name(zone, step, EventTime(to.0 - 1)));
    let mut names: Vec<_> = measured.iter().map(|one| name(zone, step, one.at)).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| (first..=last).contains(name));
    let bucket = |wanted: (i64, i64)| {
        let mut within: Vec<_> = measured.iter().filter(|one| name(zone, step, one.at) == wanted).collect();
        within.sort_by_key(|one| (one.at, one.offset));
        let point = |one: &Measured| Point { at: one.at, offset: one.offset, value: one.value };
        let values = || within.iter().map(|one| one.value);
        Merged {
            count: within.len() as u64,
            sum: values().sum(),
            min: values().fold(f64::INFINITY, f64::min),
            max: values().fold(f64::NEG_INFINITY, f64::max),
            first: point(within[0]),
            last: point(within[within.len() - 1]),
        }
    };
    names.into_iter().map(bucket).collect()
}

fn step(text: &str) -> Step {
    match Resolution::parse(text) {
        Ok(Resolution::Step(step)) => step,
        other => panic!("{text}: {other:?}"),
    }
}

fn measurements() -> impl Strategy<Value = Vec<Measured>> {
    let place = || prop::sample::select(&[Where::Committed, Where::Both, Where::Emitted, Where::Open][..]);
    // Around the changes of clocks in spring and autumn 2026, in minutes since 2026-01-01, and anywhere in a year.
    let minute = prop_oneof![133_000i64..136_000, 124_000i64..128_000, 426_000i64..430_000, 395_000i64..399_000, 0i64..525_600];
    let one = (1i64..3, minute, -1000i64..1000, place(), place());
    prop::collection::vec(one, 1..60).prop_map(|all| {
        let year_us = 1_767_225_600_000_000;
        let measured = |(offset, (series, minute, value, hour, day)): (usize, (i64, i64, i64, Where, Where))| Measured {
            series: SeriesId(series),
            at: EventTime(year_us + minute * MINUTE_US),
            offset: Offset(offset as u64),
            value: value as f64,
            places: [hour, day],
        };
        all.into_iter().enumerate().map(measured).collect()
    })
}

fn group(series: &[i64]) -> Group {
    let series = series.iter().map(|id| SeriesId(*id)).collect();
    Group { field: "t".into(), kind: ValueKind::Number, unit: None, series }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn steps_are_what_the_measurements_say(
        measured in measurements(),
        device_zone in prop::sample::select(&ZONES[..]),
        query_zone in prop::sample::select(&ZONES[..]),
        text in prop::sample::select(&STEPS[..]),
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (device, query) = (zone(device_zone).unwrap(), zone(query_zone).unwrap());
        let still = Still::of(&device, &measured);
        let (one, two) = (ends.0.get(&measured).at, ends.1.get(&measured).at);
        let (from, to) = (one.min(two), EventTime(one.max(two).0 + 1));
        let buckets = Buckets::new(&query, step(text), from, to, 10_000).unwrap();
        let groups = [group(&[1]), group(&[2])];
        let patience = Duration::ZERO;
        let ask = RollupAsk { partition: Partition(0), classes: &[], groups: &groups, buckets: &buckets, step: step(text), patience };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let sheet = runtime.block_on(read(&still, &still, &ask)).unwrap();
        for (group, (entries, approximate)) in groups.iter().zip(sheet.finish()) {
            let of_group: Vec<_> = measured.iter().filter(|one| one.series == group.series[0]).cloned().collect();
            let expected = direct(&query, text, &of_group, from, to);
            let got: Vec<_> = entries.values().map(|entry| entry.merged).collect();
            // Hours are cut alike in zones that differ by whole hours.
            let alike = |name: &str| if matches!(name, "UTC" | "Europe/Paris") { "whole" } else { name }.to_owned();
            if alike(device_zone) == alike(query_zone) {
                prop_assert!(!approximate);
            }
            if approximate {
                let whole_year = from.0 <= measured.iter().map(|one| one.at.0).min().unwrap();
                prop_assert!(!whole_year || got.len() <= expected.len() + 1);
            } else {
                prop_assert_eq!(got, expected);
            }
        }
    }
}

#[test]
fn gaps_are_filled_up_to_now_and_open_buckets_marked() {
    let hour = |n: i64| EventTime(n * HOUR_US);
    let buckets = Buckets::new(&TimeZone::UTC, Step::Hour, hour(0), hour(6), 10).unwrap();
    let entry = |n: i64, value: f64, open: bool| {
        let point = Point { at: hour(n), offset: Offset(0), value };
        let merged = Merged { count: 2, sum: 2.0 * value, min: value, max: value, first: point, last: point };
        (n as usize, Entry { merged, open })
    };
    let entries = BTreeMap::from([entry(1, 10.0, true), entry(3, 30.0, false)]);
    let check = |fill: Fill, expected: &[(i64, [Cell; 3], bool)]| {
        let aggregates = [Aggregate::Mean, Aggregate::Count, Aggregate::Sum];
        let now = EventTime(4 * HOUR_US + 1);
        let got = series(group(&[1]), &buckets, &entries, false, &aggregates, fill, now);
        let got: Vec<_> = got.points.iter().map(|p| (p.at, p.values.to_vec(), p.open)).collect();
        let expected: Vec<_> = expected.iter().map(|(n, values, open)| (hour(*n), values.to_vec(), *open)).collect();
        assert_eq!(got, expected, "{fill:?}");
    };
    let some = |value: f64| [Cell::Number(value), Cell::Count(2), Cell::Number(2.0 * value)];
    let none = [Cell::Null, Cell::Count(0), Cell::Null];
    let held = |value: f64| [Cell::Number(value), Cell::Count(0), Cell::Null];
    check(Fill::Absent, &[(1, some(10.0), true), (3, some(30.0), false)]);
    check(
        Fill::Null,
        &[
            (0, none.clone(), false),
            (1, some(10.0), true),
            (2, none.clone(), false),
            (3, some(30.0), false),
            (4, none.clone(), true),
        ],
    );
    check(
        Fill::Previous,
        &[(0, none, false), (1, some(10.0), true), (2, held(10.0), false), (3, some(30.0), false), (4, held(30.0), true)],
    );
}
