//! The expectation against a straightforward simulation of a daemon: what the simulation stores, arrival
//! by arrival, is verified without a difference, and every fault put into it is found.

use crate::simulation::{Simulation, Tables};
use dataflows::model::{DAY_US, EventTime, LogTime, MINUTE_US};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use weir::load::expectation::Bucket;
use weir::load::verify::DifferenceKind::{
    self, Accounting, Doubled, Invented, Lost, Nothing, Quarantine, Rollup, UnknownField, Wrong,
};
use weir::load::verify::{Row, SeriesKey, Verified};
use weir::load::{Expectation, Fate, FieldRule, Fleet, FleetSpec, FleetUplink, Rules};

pub(crate) const START: EventTime = EventTime(20_000 * DAY_US);
const HORIZON_US: i64 = 10 * MINUTE_US;

/// One run: a fleet for an hour, the simulation it was sent to, and what was learnt of it.
pub(crate) struct Run {
    pub(crate) rules: Rules,
    pub(crate) expectation: Expectation,
    pub(crate) tables: Tables,
}

impl Run {
    /// `lost` of each ten answers are missing; half of those uplinks did not arrive.
    pub(crate) fn new(spec: FleetSpec, rules: Rules, lost: u32) -> Self {
        Self::without(0..0, spec, rules, lost)
    }

    /// As [`Run::new`], of a daemon that is not there in these minutes: who sends to it is refused, and knows it.
    fn without(minutes: Range<u64>, spec: FleetSpec, rules: Rules, lost: u32) -> Self {
        let fleet = Arc::new(Fleet::new(spec).unwrap());
        let mut expectation = Expectation::new(fleet.clone());
        let mut simulation = Simulation::new(rules.clone(), LogTime(START.0 + 9 * DAY_US));
        let dues = fleet.schedule().take_while(|due| due.due_us < 60 * MINUTE_US as u64);
        for (nth, due) in (0u32..).zip(dues).filter(|(_, due)| !minutes.contains(&(due.due_us / MINUTE_US as u64))) {
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
        self.tables.verify(&self.expectation, &self.rules)
    }
}

pub(crate) fn spec(seed: u64) -> FleetSpec {
    FleetSpec {
        devices: 4,
        seed,
        start: START,
        period_us: 30_000_000,
        out_of_order_ms_max: 240_000,
        duplicates_share: 0.2,
        out_of_order_share: 0.15,
        late_share: 0.05,
        bad_share: 0.05,
        ..FleetSpec::default()
    }
}

pub(crate) fn rules(deadband: f64, heartbeat_us: i64) -> Rules {
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
        gone in prop_oneof![Just((0, 0)), Just((0, 3)), (0..50u64, 1..20u64)],
    ) {
        let (spec, rules) = (FleetSpec { unchanged_share, ..spec(seed) }, rules(deadband, heartbeat_min * MINUTE_US));
        let run = Run::without(gone.0..gone.0 + gone.1, spec, rules, lost);
        let verified = run.verify();
        prop_assert!(verified.ok, "seed {seed}: {verified:#?}");
        prop_assert!(verified.raw_rows > 0 && (verified.buckets > 0 || lost > 0));
        prop_assert_eq!(verified.raw_rows, run.tables.accounts.raw_rows);
        prop_assert_eq!(verified.open_buckets_skipped > 0, lost > 0);
    }
}

/// The first that a daemon hears of a device may be an uplink that was late for the device, and is not for the daemon: what
/// it equals comes next, and is unchanged.
#[test]
fn what_came_late_behind_refused_uplinks_is_not_taken_for_late() {
    let spec = |seed| FleetSpec { devices: 200, unchanged_share: 0.5, late_share: 0.2, ..spec(seed) };
    for gone in [0..2, 7..17] {
        let verified = Run::without(gone.clone(), spec(1), rules(0.0, 0), 0).verify();
        assert!(verified.ok, "{gone:?}: {verified:#?}");
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
    check(|tables, _| tables.unknown.push("x y (text)".into()), &[(UnknownField, 1)]);
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
    check(|tables, _| tables.accounts.counts.uplinks -= 1, &[(Accounting, 2)]);
    check(|tables, _| tables.accounts.counts.duplicate += 1, &[(Accounting, 1)]);
    check(|tables, _| tables.accounts.counts.unchanged += 1, &[(Accounting, 1)]);
    check(|tables, _| tables.accounts.raw_rows += 1, &[(Accounting, 1)]);
    check(|tables, _| tables.accounts.quarantine.clear(), &[(Quarantine, 1)]);
    check(|tables, _| _ = tables.accounts.quarantine.insert("row_refused".into(), 1), &[(Quarantine, 1)]);
}

#[test]
fn a_whole_series_that_is_not_there_is_missed() {
    let mut run = Run::new(spec(5), rules(0.0, 0), 0);
    let buckets = run.verify().buckets;
    run.tables.raw.remove(&SERIES).unwrap();
    let field = &run.expectation.fleet().member(SERIES.0).kind.spec().fields[SERIES.1];
    let expected = run.expectation.series(SERIES.0, field, &run.rules);
    let rows = expected.rows.iter().filter(|(_, required)| *required).count() as u64;
    let lost = (run.tables.hours.remove(&SERIES).unwrap().len() + run.tables.days.remove(&SERIES).unwrap().len()) as u64;
    let verified = run.verify();
    assert_eq!((verified.count(Lost), verified.count(Rollup), verified.buckets), (rows, lost, buckets));
}

#[test]
fn where_everything_was_refused_nothing_is_verified() {
    let fleet = Arc::new(Fleet::new(spec(5)).unwrap());
    let verified = Tables::default().verify(&Expectation::new(fleet), &rules(0.0, 0));
    assert_eq!((verified.ok, verified.count(Nothing)), (false, 2), "{verified:?}");
}

#[test]
fn buckets_that_can_still_change_are_skipped() {
    let mut run = Run::new(spec(5), rules(0.0, 0), 0);
    let settled = run.verify();
    run.tables.accounts.log_times.fill(Some(LogTime(START.0 + MINUTE_US)));
    let open = run.verify();
    assert!(open.ok, "{:#?}", open.examples);
    assert_eq!((settled.open_buckets_skipped, open.buckets), (0, 0));
    assert_eq!(open.open_buckets_skipped, settled.buckets);
    run.tables.accounts.log_times.clear();
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

#[test]
fn one_answered_copy_is_enough() {
    let fleet = Run::new(spec(5), rules(0.0, 0), 0).expectation.fleet().clone();
    let copy = fleet.schedule().find(|due| due.uplink.copy == 1 && due.uplink.fate == Fate::Prompt).unwrap().uplink;
    let mut here = Expectation::new(fleet.clone());
    let mut there = Expectation::new(fleet);
    here.unanswered(&FleetUplink { copy: 0, ..copy });
    there.acknowledged(&copy, LogTime(1));
    assert_eq!((here.counts().decoded, here.counts().decoded_maybe), (0, 1));
    here.merge(there);
    assert_eq!((here.counts().decoded, here.counts().decoded_maybe), (1, 0));
}
