//! The expectation against a straightforward simulation of a daemon: what the simulation stores, arrival
//! by arrival, is verified without a difference, and every fault put into it is found.

use dataflows::model::{Counts, DAY_US, EventTime, HOUR_US, LogTime, MINUTE_US};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use weir::load::expectation::Bucket;
use weir::load::verify::DifferenceKind::{self, Accounting, Doubled, Invented, Lost, Quarantine, Rollup, UnknownField, Wrong};
use weir::load::verify::{Row, SeriesKey, Tables, Verified, compare};
use weir::load::{Due, Expectation, Fate, FieldRule, Fleet, FleetSpec, Rules};

const START: EventTime = EventTime(20_000 * DAY_US);
const HORIZON_US: i64 = 10 * MINUTE_US;

/// A daemon for one fleet, as slow and clear as can be.
struct Simulation {
    rules: Rules,
    seen: HashSet<(u32, u32)>,
    series: HashMap<SeriesKey, Series>,
    tables: Tables,
}

/// All that ever came of a series.
#[derive(Default)]
struct Series {
    /// Measurements in time, and whether each is stored.
    in_time: BTreeMap<EventTime, (f64, bool)>,
    /// All, late ones too.
    all: BTreeMap<EventTime, f64>,
}

impl Simulation {
    fn new(rules: Rules) -> Self {
        let tables = Tables { log_times: vec![Some(LogTime(START.0 + 9 * DAY_US)); 16], ..Tables::default() };
        Self { rules, seen: HashSet::new(), series: HashMap::new(), tables }
    }

    fn take(&mut self, due: &Due) {
        let uplink = &due.uplink;
        let counts = &mut self.tables.counts;
        counts.uplinks += 1;
        if !self.seen.insert((uplink.device, uplink.fcnt)) {
            counts.duplicate += 1;
        } else if uplink.fate == Fate::Bad {
            counts.uplinks_quarantined += 1;
            *self.tables.quarantine.entry("decoder_error".into()).or_default() += 1;
        } else {
            counts.uplinks_decoded += 1;
            for (place, field) in uplink.kind.spec().fields.iter().enumerate() {
                let rule = self.rules.of(uplink.kind, field);
                let value = (field.value)(uplink.readings[field.reading]);
                let series = self.series.entry((uplink.device, place)).or_default();
                let rows = series.take(uplink.received_at, value, rule, self.rules.lateness_horizon_us, &mut self.tables.counts);
                self.tables.raw.entry((uplink.device, place)).or_default().extend(rows);
            }
        }
    }

    fn end(mut self) -> Tables {
        for rows in self.tables.raw.values_mut() {
            rows.sort_by_key(|row| row.at);
            self.tables.raw_rows += rows.len() as u64;
        }
        for (key, series) in &self.series {
            self.tables.hours.insert(*key, series.rollup(HOUR_US));
            self.tables.days.insert(*key, series.rollup(DAY_US));
        }
        self.tables
    }
}

impl Series {
    fn take(&mut self, at: EventTime, value: f64, rule: FieldRule, horizon_us: i64, counts: &mut Counts) -> Vec<Row> {
        counts.measurements += 1;
        self.all.insert(at, value);
        let newest = self.in_time.keys().next_back().copied();
        if newest.is_some_and(|newest| at.0 <= newest.0 - horizon_us) {
            counts.stored += 1;
            return vec![Row { at, value }];
        }
        self.in_time.insert(at, (value, false));
        let mut rows = Vec::new();
        let (mut before, mut selected): (Option<f64>, Option<(EventTime, f64)>) = (None, None);
        for (&this_at, (this, stored)) in &mut self.in_time {
            let select = match selected {
                None => true,
                Some((selected_at, _)) if rule.heartbeat_us > 0 && this_at.0 - selected_at.0 >= rule.heartbeat_us => true,
                Some((_, selected)) if rule.deadband > 0.0 => (*this - selected).abs() > rule.deadband,
                Some(_) => before != Some(*this),
            };
            if select {
                selected = Some((this_at, *this));
            }
            if select && !*stored {
                *stored = true;
                rows.push(Row { at: this_at, value: *this });
            }
            before = Some(*this);
        }
        let itself = rows.iter().filter(|row| row.at == at).count() as u64;
        counts.stored += itself;
        counts.unchanged += 1 - itself;
        counts.stored_afterwards += rows.len() as u64 - itself;
        rows
    }

    fn rollup(&self, width_us: i64) -> BTreeMap<EventTime, Bucket> {
        let start = |at: EventTime| EventTime(at.0 - at.0.rem_euclid(width_us));
        let starts: HashSet<EventTime> = self.all.keys().map(|at| start(*at)).collect();
        let bucket = |of: EventTime| {
            let inside: Vec<(EventTime, f64)> =
                self.all.iter().filter(|(at, _)| start(**at) == of).map(|(at, value)| (*at, *value)).collect();
            let values = || inside.iter().map(|(_, value)| *value);
            Bucket {
                count: inside.len() as u64,
                // In another order than the expectation's: sums are equal but for rounding.
                sum: values().rev().sum(),
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
                first: inside[0],
                last: inside[inside.len() - 1],
            }
        };
        starts.into_iter().map(|of| (of, bucket(of))).collect()
    }
}

/// One run: a fleet for an hour, the simulation it was sent to, and what was learnt of it.
struct Run {
    rules: Rules,
    expectation: Expectation,
    tables: Tables,
}

impl Run {
    /// `lost` of each ten answers are missing; half of those uplinks did not arrive.
    fn new(spec: FleetSpec, rules: Rules, lost: u32) -> Self {
        let fleet = Arc::new(Fleet::new(spec).unwrap());
        let mut expectation = Expectation::new(fleet.clone());
        let mut simulation = Simulation::new(rules.clone());
        let dues = fleet.schedule().take_while(|due| due.due_us < 60 * MINUTE_US as u64);
        for (nth, due) in (0u32..).zip(dues) {
            let lot = nth.wrapping_mul(2_654_435_761) >> 16;
            if lot % 10 >= lost {
                simulation.take(&due);
                expectation.acknowledged(&due.uplink, LogTime(START.0 + due.due_us as i64 + 500_000));
            } else {
                if (lot / 10) % 2 == 0 {
                    simulation.take(&due);
                }
                expectation.unanswered(&due.uplink);
            }
        }
        Self { rules, expectation, tables: simulation.end() }
    }

    fn verify(&self) -> Verified {
        compare(&self.expectation, &self.rules, &self.tables)
    }
}

fn spec(seed: u64) -> FleetSpec {
    FleetSpec {
        devices: 4,
        seed,
        start: START,
        period_ms: 30_000,
        out_of_order_ms_max: 240_000,
        duplicates_share: 0.2,
        out_of_order_share: 0.15,
        late_share: 0.05,
        bad_share: 0.05,
        ..FleetSpec::default()
    }
}

fn rules(deadband: f64, heartbeat_us: i64) -> Rules {
    Rules { lateness_horizon_us: HORIZON_US, default: FieldRule { deadband, heartbeat_us }, ..Rules::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_daemon_stores_is_verified(
        seed in any::<u64>(),
        deadband in prop_oneof![Just(0.0), Just(0.5), Just(3.0)],
        heartbeat_min in prop_oneof![Just(0i64), Just(4), Just(60)],
        unchanged_share in 0.0..1.0,
        lost in prop_oneof![Just(0u32), Just(0), Just(1), Just(5)],
    ) {
        let run = Run::new(FleetSpec { unchanged_share, ..spec(seed) }, rules(deadband, heartbeat_min * MINUTE_US), lost);
        let verified = run.verify();
        prop_assert!(verified.ok, "seed {seed}: {verified:#?}");
        prop_assert!(verified.raw_rows > 0 && verified.buckets > 0);
        prop_assert_eq!(verified.raw_rows, run.tables.raw_rows);
        prop_assert_eq!(verified.open_buckets_skipped > 0, lost > 0);
    }
}

/// Puts a fault into the tables of a good run, and expects exactly the differences that it makes.
fn check(fault: impl FnOnce(&mut Tables, &Expectation), expected: &[(DifferenceKind, u64)]) {
    let mut run = Run::new(spec(5), rules(0.0, 0), 0);
    assert!(run.verify().ok);
    fault(&mut run.tables, &run.expectation);
    let verified = run.verify();
    let found: Vec<(DifferenceKind, u64)> = verified.differences.iter().map(|(k, n)| (*k, *n)).filter(|(_, n)| *n > 0).collect();
    assert_eq!(found, expected, "{:#?}", verified.examples);
    assert!(!verified.ok);
}

/// A series of the first device.
const SERIES: SeriesKey = (0, 1);

fn rows(tables: &mut Tables) -> &mut Vec<Row> {
    tables.raw.get_mut(&SERIES).unwrap()
}

#[test]
fn faults_in_raw_rows_are_found() {
    check(|tables, _| _ = rows(tables).remove(0), &[(Lost, 1)]);
    let doubled = |tables: &mut Tables, _: &Expectation| {
        let row = rows(tables)[0];
        rows(tables).insert(0, row);
    };
    check(doubled, &[(Doubled, 1)]);
    check(|tables, _| rows(tables)[1].value += 0.1, &[(Wrong, 1)]);
    check(|tables, _| rows(tables).insert(0, Row { at: EventTime(0), value: 1.0 }), &[(Invented, 1)]);
    check(|tables, _| rows(tables).push(Row { at: EventTime(i64::MAX), value: 1.0 }), &[(Invented, 1)]);
    check(|tables, _| tables.unknown_fields.push("x y (text)".into()), &[(UnknownField, 1)]);
}

#[test]
fn faults_in_rollups_are_found() {
    let hour = |change: fn(&mut Bucket)| {
        move |tables: &mut Tables, _: &Expectation| {
            change(tables.hours.get_mut(&SERIES).unwrap().values_mut().next().unwrap());
        }
    };
    check(hour(|bucket| bucket.count += 1), &[(Rollup, 1)]);
    check(hour(|bucket| bucket.sum *= 1.000_001), &[(Rollup, 1)]);
    check(hour(|bucket| bucket.min -= 0.1), &[(Rollup, 1)]);
    check(hour(|bucket| bucket.max += 0.1), &[(Rollup, 1)]);
    check(hour(|bucket| bucket.first.1 += 0.1), &[(Rollup, 1)]);
    check(hour(|bucket| bucket.last.0.0 += 1), &[(Rollup, 1)]);
    check(|tables, _| _ = tables.days.get_mut(&SERIES).unwrap().pop_first(), &[(Rollup, 1)]);
    check(
        |tables, _| {
            let days = tables.days.get_mut(&SERIES).unwrap();
            let (_, day) = days.first_key_value().unwrap();
            days.insert(EventTime(0), *day);
        },
        &[(Invented, 1)],
    );
}

#[test]
fn faults_in_the_accounts_are_found() {
    check(|tables, _| tables.counts.uplinks -= 1, &[(Accounting, 2)]);
    check(|tables, _| tables.counts.duplicate += 1, &[(Accounting, 1)]);
    check(|tables, _| tables.counts.unchanged += 1, &[(Accounting, 1)]);
    check(|tables, _| tables.raw_rows += 1, &[(Accounting, 1)]);
    check(|tables, _| tables.quarantine.clear(), &[(Quarantine, 1)]);
    check(|tables, _| _ = tables.quarantine.insert("row_refused".into(), 1), &[(Quarantine, 1)]);
}

#[test]
fn buckets_that_can_still_change_are_skipped() {
    let mut run = Run::new(spec(5), rules(0.0, 0), 0);
    let settled = run.verify();
    run.tables.log_times.fill(Some(LogTime(START.0 + MINUTE_US)));
    let open = run.verify();
    assert!(open.ok, "{:#?}", open.examples);
    assert_eq!((settled.open_buckets_skipped, open.buckets), (0, 0));
    assert_eq!(open.open_buckets_skipped, settled.buckets);
    run.tables.log_times.clear();
    assert_eq!(run.verify().buckets, 0);
}

#[test]
fn parts_of_an_expectation_merge_to_the_whole() {
    let whole = Run::new(spec(5), rules(0.0, 0), 3);
    let fleet = whole.expectation.fleet().clone();
    let mut parts = [Expectation::new(fleet.clone()), Expectation::new(fleet.clone()), Expectation::new(fleet.clone())];
    for (nth, due) in fleet.schedule().take_while(|due| due.due_us < 60 * MINUTE_US as u64).enumerate() {
        parts[nth % 3].acknowledged(&due.uplink, LogTime(nth as i64));
    }
    let [mut merged, second, third] = parts;
    merged.merge(third);
    merged.merge(second);
    let all = whole.expectation.copies();
    assert_eq!(merged.copies().acknowledged, all.acknowledged + all.unanswered);
    let (counts, maybe) = (merged.counts(), whole.expectation.counts());
    assert_eq!(counts.decoded, maybe.decoded + maybe.decoded_maybe);
    assert_eq!(counts.refused, maybe.refused + maybe.refused_maybe);
}
