//! One test for each promise of the graph that random logs do not reach or do not name.

mod common;

use common::log::BEGIN_US;
use common::*;
use dataflows::graph::{Graph, Latest, PartitionState};
use dataflows::model::*;
use dataflows::oracle::Oracle;
use dataflows::*;

const P: Partition = Partition(0);

fn graph() -> Graph {
    let mut graph = Graph::new(Box::new(Scripted));
    graph.adopt(P, PartitionState::default());
    graph
}

/// A tenant with the default policy, a template without fields, and the device `d`.
fn registry() -> Vec<(i64, Record)> {
    let records = [tenant(1, Policy::default()), set_template(template(1)), set_device(device(7, "d"))];
    records.map(|record| (BEGIN_US, record)).to_vec()
}

fn x(value: f64) -> Script {
    Script::Gives(vec![number("x", value, None)], vec![])
}

/// Runs the log in one batch and record by record, and holds both against the oracle.
fn run(records: Vec<(i64, Record)>) -> (Graph, Outputs) {
    let entries = entries(records);
    let (mut whole, mut single) = (graph(), graph());
    let rows = whole.run(entries.clone());
    let mut rows_singly = Outputs::default();
    entries.iter().for_each(|entry| single.run_into(vec![entry.clone()], &mut rows_singly));
    assert_eq!(rows, rows_singly);
    assert_eq!(whole.snapshot(P), single.snapshot(P));
    let mut oracle = Oracle::default();
    assert_eq!(comparable(&rows, P), comparable(&oracle.run(&entries, &mut Scripted), P));
    assert_eq!(whole.counts(P), oracle.counts(P));
    check_equations(whole.counts(P));
    (whole, rows)
}

#[test]
fn a_registry_change_takes_effect_exactly_at_its_offset() {
    let mut kelvin = template(1);
    kelvin.fields.insert("x".into(), FieldSpec { unit: Some("K".into()), ..FieldSpec::default() });
    let mut log = vec![(BEGIN_US, uplink("d", 0, BEGIN_US, &x(1.0)))]; // 0: unknown
    log.extend(registry()); // 1, 2, 3
    let after = |seconds: i64| BEGIN_US + seconds * SECOND_US;
    log.push((after(1), uplink("d", 1, after(1), &x(1.0)))); // 4
    log.push((after(2), set_template(kelvin.clone()))); // 5
    log.push((after(3), uplink("d", 2, after(3), &x(1.0)))); // 6
    log.push((after(3), set_template(kelvin))); // 7: nothing new
    log.push((after(4), set_device(Device { provisioned: true, ..device(8, "d") }))); // 8: another device
    log.push((after(5), uplink("d", 3, after(5), &x(1.0)))); // 9
    log.push((after(6), remove_device("d"))); // 10
    log.push((after(7), uplink("d", 4, after(7), &x(1.0)))); // 11: unknown
    let (_, rows) = run(log);
    let placed: Vec<_> = rows.quarantined.iter().map(|row| (row.offset.0, row.row.reason)).collect();
    assert_eq!(placed, [(0, Reason::UnknownDevice), (11, Reason::UnknownDevice)]);
    let series = |device, field| SeriesId::new(DeviceNo(device), FieldNo(field));
    let placed: Vec<_> = rows.numbers.iter().map(|row| (row.offset.0, row.row.series)).collect();
    assert_eq!(placed, [(4, series(7, 0)), (6, series(7, 1)), (9, series(8, 0))]);
    let placed: Vec<_> = rows.series.iter().map(|row| (row.offset.0, row.row.series, row.row.unit.as_deref())).collect();
    assert_eq!(placed, [(4, series(7, 0), None), (6, series(7, 1), Some("K")), (9, series(8, 0), Some("K"))]);
    let placed: Vec<_> = rows.devices.iter().map(|row| (row.offset.0, row.row.0.no.0)).collect();
    assert_eq!(placed, [(8, 8)]);
    // What was open is emitted where its device ends: hours, then days.
    let placed: Vec<_> = rows.partials.iter().map(|row| (row.offset.0, row.row.level, row.row.series)).collect();
    let hour_and_day = |offset, of: &[SeriesId]| {
        let at = |level| of.iter().map(move |&series| (offset, level, series)).collect::<Vec<_>>();
        [at(BucketLevel::Hour), at(BucketLevel::Day)].concat()
    };
    assert_eq!(placed, [hour_and_day(8, &[series(7, 0), series(7, 1)]), hour_and_day(10, &[series(8, 0)])].concat());
}

#[test]
fn copies_are_known_for_the_window_and_then_forgotten() {
    let mut log = registry();
    let again = |after_us: i64| (BEGIN_US + after_us, uplink("d", 1, BEGIN_US, &x(1.0)));
    log.extend([again(0), again(1), again(DEDUP_WINDOW_US - 1), again(DEDUP_WINDOW_US)]);
    let (mut graph, _) = run(log);
    let counts = graph.counts(P);
    assert_eq!((counts.duplicate, counts.uplinks_decoded), (2, 2));
    assert_eq!(graph.held().devices_seen, 1);
    let mut tick = entries([(BEGIN_US + 3 * DEDUP_WINDOW_US, Record::Tick)]);
    tick[0].offset = Offset(100);
    graph.run(tick);
    assert_eq!(graph.held().devices_seen, 0);
}

#[test]
fn a_device_makes_the_graph_remember_so_many_uplinks_and_no_more() {
    let max = DEDUP_KEYS_PER_DEVICE_MAX as u32;
    let mut log = registry();
    log.extend((0..=max).map(|fcnt| (BEGIN_US, uplink("d", fcnt, BEGIN_US, &x(1.0)))));
    // The first was forgotten for the last; the second was not, and by coming again the first is
    // remembered in its place.
    log.extend([1, 0, 1].map(|fcnt| (BEGIN_US, uplink("d", fcnt, BEGIN_US, &x(1.0)))));
    let (graph, _) = run(log);
    assert_eq!(graph.counts(P).duplicate, 1);
}

#[test]
fn what_tells_uplinks_apart() {
    let base = Uplink {
        tenant: TenantNo(1),
        device: device_id("d"),
        received_at: EventTime(BEGIN_US),
        fport: None,
        fcnt: None,
        message_id: None,
        frame: x(1.0).frame(),
        decoded: None,
        receptions: vec![],
    };
    let check = |first: &Uplink, second: Uplink, is_copy: bool| {
        let uplinks = [first.clone(), second].map(|uplink| (BEGIN_US, Record::Uplink(Box::new(uplink))));
        let (graph, _) = run(registry().into_iter().chain(uplinks).collect());
        assert_eq!(graph.counts(P).duplicate, u64::from(is_copy));
    };
    let later = EventTime(BEGIN_US - 1);
    check(&base, base.clone(), true);
    check(&base, Uplink { received_at: later, ..base.clone() }, false);
    check(&base, Uplink { frame: x(2.0).frame(), ..base.clone() }, false);
    check(&base, Uplink { decoded: Some(String::new()), ..base.clone() }, false);
    check(&base, Uplink { tenant: TenantNo(2), ..base.clone() }, false);
    check(&base, Uplink { device: device_id("e"), ..base.clone() }, false);
    check(&base, Uplink { fcnt: Some(0), ..base.clone() }, false);
    let counted = Uplink { fcnt: Some(1), ..base.clone() };
    check(&counted, Uplink { received_at: later, message_id: Some("a".into()), ..counted.clone() }, true);
    check(&counted, Uplink { fcnt: Some(2), ..counted.clone() }, false);
    check(&counted, Uplink { frame: x(2.0).frame(), ..counted.clone() }, false);
    let named = Uplink { message_id: Some("a".into()), ..base.clone() };
    check(&named, Uplink { received_at: later, frame: x(2.0).frame(), ..named.clone() }, true);
    check(&named, Uplink { message_id: Some("b".into()), ..named.clone() }, false);
}

#[test]
fn a_removed_device_leaves_nothing() {
    let mut log = registry();
    log.push((BEGIN_US, uplink("d", 1, BEGIN_US, &x(1.0))));
    let (graph, _) = run(log.clone());
    assert!(graph.has_open_state(P));
    assert_eq!(graph.held().devices_tracked, 1);
    log.push((BEGIN_US, remove_device("d")));
    let (graph, rows) = run(log);
    assert!(!graph.has_open_state(P));
    assert_eq!((graph.held().devices_tracked, rows.partials.len()), (0, 2));
}

#[test]
fn buckets_close_when_log_time_has_passed() {
    let mut log = registry();
    let after = |minutes: i64| BEGIN_US + minutes * MINUTE_US;
    log.push((after(1), uplink("d", 1, after(1), &x(1.0))));
    log.push((after(70) - 1, Record::Tick));
    let (_, rows) = run(log.clone());
    assert_eq!(rows.partials, []);
    log.push((after(70), Record::Tick));
    let (graph, rows) = run(log.clone());
    assert_eq!((rows.partials.len(), rows.partials[0].offset), (1, Offset(5)));
    assert!(graph.has_open_state(P), "the day is open");
    // It is 20:00 when the log begins.
    log.push((after(4 * 60 + 10), Record::Tick));
    let (graph, rows) = run(log);
    assert_eq!((rows.partials.len(), rows.partials[1].row.level), (2, BucketLevel::Day));
    assert!(!graph.has_open_state(P));
}

#[test]
fn a_series_has_so_many_partials_open_and_no_more() {
    let mut log = registry();
    // Three months of hours, the latest first, in one hour of log time.
    let history = |nth: i64| {
        let hours = (0..200).map(|hour| number("x", 1.0, Some(BEGIN_US - (nth * 200 + hour) * HOUR_US)));
        Script::Gives(hours.collect(), vec![])
    };
    log.extend((0..11).map(|nth| (BEGIN_US, uplink("d", nth as u32, BEGIN_US, &history(nth)))));
    let (graph, rows) = run(log);
    let open = |level| graph.open_partials(&[SeriesId::new(DeviceNo(7), FieldNo(0))], level).len();
    assert_eq!(open(BucketLevel::Hour), OPEN_PARTIALS_PER_SERIES_MAX);
    assert!(open(BucketLevel::Day) <= OPEN_PARTIALS_PER_SERIES_MAX + 2, "those that are open, merged with the open hours'");
    let emitted = |level| rows.partials.iter().filter(|row| row.row.level == level).map(|row| row.row.count).sum::<u64>();
    assert_eq!(emitted(BucketLevel::Hour), 2_200 - OPEN_PARTIALS_PER_SERIES_MAX as u64);
    assert!(emitted(BucketLevel::Day) > 0);
}

#[test]
fn an_uplink_of_an_unknown_device_may_come_again() {
    let again = |seconds: i64| (BEGIN_US + seconds * SECOND_US, uplink("d", 1, BEGIN_US, &x(1.0)));
    let mut log = vec![again(0), again(1)];
    log.extend(registry());
    log.extend([again(2), again(3)]);
    let (graph, _) = run(log);
    let counts = graph.counts(P);
    assert_eq!((counts.uplinks_quarantined, counts.uplinks_decoded, counts.duplicate), (2, 1, 1));
}

#[test]
fn the_arrangement_holds_what_is_in_effect_and_not_what_was() {
    let mut graph = graph();
    graph.run(entries(registry()));
    for round in 0..2_000u64 {
        let changed = Device { variables: [("round".to_owned(), round.to_string())].into(), ..device(7, "d") };
        let mut change = entries([(BEGIN_US, set_device(changed))]);
        change[0].offset = Offset(10 + round);
        graph.run(change);
    }
    let held = graph.held().context_updates;
    assert!(held <= 16, "one device is in effect and {held} updates are held");
    graph.release(P);
    (0..40).for_each(|_| drop(graph.run(vec![])));
    assert_eq!(graph.held(), Default::default());
}

#[test]
fn a_series_remembers_so_many_measurements_and_no_more() {
    let mut log = registry();
    log[0].1 = tenant(1, Policy { lateness_horizon_us: HOUR_US, ..Policy::default() });
    let after = |seconds: i64| BEGIN_US + seconds * SECOND_US;
    let count = HISTORY_PER_SERIES_MAX as i64 + 100;
    log.extend((0..count).map(|nth| (after(nth * 2), uplink("d", nth as u32, after(nth * 2), &x(1.0)))));
    // Unchanged where the history reaches, stored as it is where it does not.
    let late = |fcnt, seconds| (after(count * 2), uplink("d", fcnt, after(seconds), &x(1.0)));
    log.extend([late(9_000, 205), late(9_001, 195)]);
    let (graph, rows) = run(log);
    assert_eq!(rows.numbers.len(), 2, "the first, and what came before all that is remembered");
    assert_eq!(graph.counts(P).unchanged, count as u64);
}

#[test]
fn a_longer_horizon_does_not_bring_back_what_is_in_order_for_good() {
    let mut log = registry();
    log[0].1 = tenant(1, Policy { lateness_horizon_us: 0, ..Policy::default() });
    let after = |seconds: i64| BEGIN_US + seconds * SECOND_US;
    log.push((after(60), uplink("d", 1, after(60), &x(1.0))));
    log.push((after(60), tenant(1, Policy { lateness_horizon_us: HOUR_US, ..Policy::default() })));
    log.push((after(61), uplink("d", 2, after(30), &x(1.0))));
    log.push((after(62), uplink("d", 3, after(62), &x(1.0))));
    let (_, rows) = run(log);
    let stored: Vec<_> = rows.numbers.iter().map(|row| row.row.at.0).collect();
    assert_eq!(stored, [after(60), after(30)], "the second is late, and stored as it is; the third is unchanged");
}

#[test]
fn a_device_has_so_many_series_and_no_more() {
    let mut log = registry();
    log.extend((0..5).map(|nth| (BEGIN_US, uplink("d", u32::from(nth), BEGIN_US, &Script::Many(nth * 250, 250)))));
    log.push((BEGIN_US, uplink("d", 9, BEGIN_US, &Script::Many(0, 257))));
    let (graph, rows) = run(log);
    assert_eq!(rows.series.len(), SERIES_PER_DEVICE_MAX);
    let counts = graph.counts(P);
    assert_eq!((counts.uplinks_quarantined, counts.measurements_quarantined), (1, 1250 - SERIES_PER_DEVICE_MAX as u64));
    let of_fields = rows.quarantined.iter().filter(|row| row.row.field.is_some()).count();
    assert_eq!(of_fields, REFUSED_ROWS_PER_UPLINK_MAX);
}

#[test]
fn the_last_row_of_quarantine_tells_of_the_rest() {
    let rejected = (0..20).map(|nth| format!("f{nth}")).collect();
    let script = Script::Gives(vec![number("x", f64::INFINITY, None), number("y", 1.0, None)], rejected);
    let mut log = registry();
    log.push((BEGIN_US, uplink("d", 1, BEGIN_US, &script)));
    let (graph, rows) = run(log);
    let details: Vec<_> = rows.quarantined.iter().map(|row| row.row.detail.as_str()).collect();
    assert_eq!(details[..15], ["no"; 15]);
    assert_eq!(details[15..], ["no (5 more fields of this uplink were refused)"]);
    assert_eq!((graph.counts(P).measurements, graph.counts(P).measurements_quarantined), (22, 21));
}

#[test]
fn peeks_see_the_latest_and_what_is_open() {
    let mut log = registry();
    let after = |minutes: i64| BEGIN_US + minutes * MINUTE_US;
    let script = Script::Gives(vec![number("x", 3.0, None), number("x", 5.0, Some(after(-5)))], vec![]);
    log.push((after(10), uplink("d", 1, after(10), &script)));
    log.push((after(75), uplink("d", 2, after(75), &x(4.0))));
    let (graph, _) = run(log);
    let series = SeriesId::new(DeviceNo(7), FieldNo(0));
    let newest = Latest { series, field: "x".into(), unit: None, at: EventTime(after(75)), value: Value::Number(4.0) };
    assert_eq!(graph.latest(TenantNo(1), &device_id("d")), [newest]);
    assert_eq!(graph.latest(TenantNo(2), &device_id("d")), []);
    let brief = |level| {
        let open = graph.open_partials(&[series, SeriesId(1)], level);
        open.into_iter().map(|p| (p.start.0, p.count, p.sum, p.first.value, p.last.value)).collect::<Vec<_>>()
    };
    assert_eq!(brief(BucketLevel::Hour), [(after(60), 1, 4.0, 4.0, 4.0)]);
    assert_eq!(brief(BucketLevel::Day), [(after(-20 * 60), 3, 12.0, 5.0, 4.0)]);
}

#[test]
fn zero_has_no_sign() {
    let place = Value::Location { latitude: -0.0, longitude: -0.0, altitude: Some(-0.0) };
    let location = Measurement { field: "position".into(), value: place, at: None };
    let mut log = registry();
    log.push((BEGIN_US, uplink("d", 1, BEGIN_US, &Script::Gives(vec![number("x", -0.0, None), location], vec![]))));
    let (_, rows) = run(log);
    let (latitude, longitude, altitude) = rows.locations[0].row.value;
    let zeros = [rows.numbers[0].row.value, latitude, longitude, altitude.unwrap()];
    assert_eq!(zeros.map(f64::to_bits), [0; 4]);
}

#[test]
fn a_killed_decoder_is_told_of_as_its_verdict_is_at_a_replay() {
    let log = [registry(), vec![(BEGIN_US, uplink("d", 0, BEGIN_US, &Script::Killed))]].concat();
    let mut entries = entries(log);
    let live = graph().run(entries.clone());
    entries.last_mut().unwrap().condemned = true;
    assert_eq!(live, graph().run(entries));
    assert_eq!(live.quarantined[0].row.reason, Reason::DecoderKilled);
}
