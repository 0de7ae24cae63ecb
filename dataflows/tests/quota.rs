//! Uplinks over a quota: set aside whole, or thinned out to one of each device in an interval; and what those within
//! came to.

mod common;

use common::log::BEGIN_US;
use common::*;
use dataflows::graph::{Graph, Metered, PartitionState, StateOfVersion2};
use dataflows::model::*;
use dataflows::{DEDUP_WINDOW_US, THIN_INTERVAL_MAX_US};
use std::collections::BTreeMap;

const P: Partition = Partition(0);
const QUARTER_US: i64 = 15 * MINUTE_US;

/// The uplink of a device that brings its counter, a second apart from any other.
fn sent(name: &str, fcnt: u32) -> Record {
    let at = BEGIN_US + i64::from(fcnt) * SECOND_US;
    uplink(name, fcnt, at, &Script::Gives(vec![number("x", f64::from(fcnt), None)], vec![]))
}

fn over(treatment: Treatment, record: Record) -> Record {
    let Record::Uplink(uplink) = record else { panic!("{record:?} is no uplink") };
    let excess = Excess { span: QuotaSpan::Day, measurements_max: 500, treatment };
    Record::OverQuota(Box::new(OverQuota { excess, uplink: *uplink }))
}

fn thinned(record: Record) -> Record {
    over(Treatment::Thin { interval_us: QUARTER_US }, record)
}

/// A registry for the devices `a` and `b`, and records behind it, each so many microseconds after the beginning.
fn log(records: impl IntoIterator<Item = (i64, Record)>) -> Vec<Entry> {
    let registry = [
        tenant(1, Policy { lateness_horizon_us: 30 * DAY_US, ..Policy::default() }),
        set_template(template(1)),
        set_device(device(1, "a")),
        set_device(device(2, "b")),
    ];
    entries(registry.map(|record| (0, record)).into_iter().chain(records).map(|(after_us, record)| (BEGIN_US + after_us, record)))
}

fn fresh() -> Graph {
    let mut graph = Graph::new(Box::new(Scripted));
    graph.adopt(P, PartitionState::default());
    graph
}

fn run(entries: &[Entry]) -> (Graph, Outputs) {
    let mut graph = fresh();
    let rows = graph.run(entries.to_vec());
    check_equations(graph.counts(P));
    (graph, rows)
}

/// The counters of the uplinks whose measurements are stored.
fn stored(rows: &Outputs) -> Vec<f64> {
    rows.numbers.iter().map(|row| row.row.value).collect()
}

#[test]
fn one_uplink_of_each_device_passes_in_an_interval() {
    let log = log([
        (0, sent("a", 1)),                           // Within the quota: it does not count here.
        (1, thinned(sent("a", 2))),                  // The first one over it.
        (2, thinned(sent("a", 3))),                  // Thinned.
        (3, thinned(sent("b", 4))),                  // Another device.
        (4, sent("a", 5)),                           // Within the quota again.
        (QUARTER_US, thinned(sent("a", 6))),         // A microsecond too early.
        (QUARTER_US + 1, thinned(sent("a", 7))),     // The interval is over.
        (QUARTER_US + 2, thinned(sent("a", 7))),     // A copy of what passed.
        (QUARTER_US + 3, thinned(sent("a", 6))),     // A copy of what was thinned.
        (QUARTER_US + 4, thinned(sent("other", 8))), // Nobody knows it.
    ]);
    let (graph, rows) = run(&log);
    assert_eq!(stored(&rows), [1.0, 2.0, 4.0, 5.0, 7.0]);
    let counts = graph.counts(P);
    assert_eq!((counts.uplinks, counts.uplinks_decoded, counts.duplicate, counts.thinned), (10, 5, 2, 2));
    assert_eq!(rows.quarantined.iter().map(|row| row.row.reason).collect::<Vec<_>>(), [Reason::UnknownDevice]);
    assert_eq!(graph.held().devices_thinned, 2, "whoever thinks up names takes no memory");
}

#[test]
fn no_device_is_silent_for_longer_than_may_be_and_none_is_remembered_for_much_longer() {
    let longer = |fcnt| over(Treatment::Thin { interval_us: i64::MAX }, sent("a", fcnt));
    let begin = (0, longer(1));
    let early = (THIN_INTERVAL_MAX_US - 1, longer(2));
    let (mut graph, rows) = run(&log([begin.clone(), early, (THIN_INTERVAL_MAX_US, longer(3))]));
    assert_eq!(stored(&rows), [1.0, 3.0]);
    assert_eq!(graph.held().devices_thinned, 1);
    // Another device's uplink over the quota, a day and an hour later, is what lets it be forgotten.
    let mut later =
        log([begin.clone(), begin.clone(), begin, (2 * THIN_INTERVAL_MAX_US + DEDUP_WINDOW_US, thinned(sent("b", 9)))]);
    graph.run(later.split_off(later.len() - 1));
    assert_eq!(graph.held().devices_thinned, 1);
}

#[test]
fn what_is_set_aside_tells_why_and_its_retry_is_outside_the_quota() {
    let aside = |record| over(Treatment::Quarantine, record);
    let mut log = log([(0, aside(sent("a", 1))), (1, aside(sent("a", 1))), (2, aside(sent("other", 2)))]);
    let (mut graph, rows) = run(&log);
    let [over, unknown] = &rows.quarantined[..] else { panic!("{rows:?}") };
    assert_eq!((over.row.reason, unknown.row.reason), (Reason::OverQuota, Reason::UnknownDevice));
    assert!(over.row.detail.contains("500 measurements a day was used up") && over.row.detail.contains("raise it"), "{over:?}");
    assert_eq!(graph.counts(P).duplicate, 1, "a copy is a copy, over the quota or not");
    assert_eq!(graph.counts(P).measurements, 0, "it was not decoded");

    let Quarantined { log_time, field, reason, record, .. } = over.row.clone();
    let retry = Retry::of_entry(over.offset, log_time, field, reason, &record).unwrap();
    let offset = Offset(log.len() as u64);
    log.push(Entry { offset, record: Record::Retry(Box::new(retry)), ..log.last().unwrap().clone() });
    let rows = graph.run(log.split_off(log.len() - 1));
    assert_eq!((stored(&rows), rows.released.len()), (vec![1.0], 1));
    check_equations(graph.counts(P));
}

#[test]
fn what_is_within_the_quota_is_metered_once_from_an_offset_on() {
    let aside = over(Treatment::Quarantine, sent("a", 4));
    let three = Script::Gives(vec![number("x", 9.0, None), number("y", 9.0, None)], vec!["z".into()]);
    let log = log([
        (0, sent("a", 1)),
        (1, sent("a", 2)),                     // Offset 5: the first that is metered.
        (2, uplink("b", 3, BEGIN_US, &three)), // Refused measurements count, for they were decoded.
        (3, sent("a", 2)),                     // A copy gives nothing.
        (4, sent("other", 5)),                 // Nor does what nobody knows.
        (5, thinned(sent("a", 6))),            // What is over the quota was not charged.
        (6, aside),
    ]);
    let mut graph = fresh();
    graph.meter_from(P, Offset(5));
    graph.run(log.clone());
    let metered = Metered { uplinks: 4, measurements: 4 };
    assert_eq!(graph.take_metered(P), BTreeMap::from([(TenantNo(1), metered)]));
    assert_eq!(graph.take_metered(P), BTreeMap::new());
    let mut unasked = fresh();
    unasked.run(log);
    assert_eq!(unasked.take_metered(P), BTreeMap::new());
    assert_eq!(unasked.snapshot(P), graph.snapshot(P), "the meter is no part of the state");
}

#[test]
fn a_state_from_before_there_were_quotas_goes_on() {
    let temperature = Script::Gives(vec![number("temperature", 21.5, None)], vec!["humidity".into()]);
    let records = [
        tenant(1, Policy::default()),
        set_template(template(1)),
        set_device(device(7, "d")),
        uplink("d", 1, BEGIN_US, &temperature),
        uplink("d", 1, BEGIN_US, &temperature),
        uplink("d", 2, BEGIN_US + MINUTE_US, &temperature),
        uplink("stranger", 1, BEGIN_US, &temperature),
    ];
    let mut graph = fresh();
    graph.run(entries((0..).map(|second| BEGIN_US + second * SECOND_US).zip(records)));
    // Written by the last weir without quotas, from the same records.
    let earlier: StateOfVersion2 = postcard::from_bytes(include_bytes!("golden/state-v2.bin")).unwrap();
    assert_eq!(PartitionState::from(earlier), graph.snapshot(P));
}
