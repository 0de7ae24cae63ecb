//! A state that begins in front of tables with series in them goes on with their numbers.

mod common;

use common::log::BEGIN_US;
use common::*;
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;

const P: Partition = Partition(0);

/// An uplink with the fields `names`, at so many seconds.
fn sends(device: &str, second: u32, names: &[&str]) -> (i64, Record) {
    let at = BEGIN_US + i64::from(second) * SECOND_US;
    let fields = names.iter().map(|name| number(name, f64::from(second), None)).collect();
    (at, uplink(device, second, at, &Script::Gives(fields, vec![])))
}

fn registry(devices: &[(u64, &str)]) -> Vec<(i64, Record)> {
    let policy = [tenant(1, Policy::default()), set_template(template(1))].into_iter();
    policy.chain(devices.iter().map(|&(no, name)| set_device(device(no, name)))).map(|record| (BEGIN_US, record)).collect()
}

fn run(state: PartitionState, records: Vec<(i64, Record)>) -> (Graph, Outputs) {
    let mut graph = Graph::new(Box::new(Scripted));
    graph.adopt(P, state);
    let rows = graph.run(entries(records));
    (graph, rows)
}

/// The names and numbers of the series that get a row in the catalogue.
fn new_series(rows: &Outputs) -> Vec<(u64, u16, &str)> {
    rows.series.iter().map(|s| (s.row.series.device().0, s.row.series.field().0, &*s.row.field)).collect()
}

fn catalogue(rows: &Outputs) -> Vec<CatalogueSeries> {
    rows.series.iter().map(|placed| placed.row.clone()).collect()
}

/// The series of the stored numbers.
fn stored(rows: &Outputs) -> Vec<u16> {
    rows.numbers.iter().map(|row| row.row.series.field().0).collect()
}

#[test]
fn known_series_keep_their_numbers_and_new_ones_get_others() {
    let first = [registry(&[(7, "d")]), vec![sends("d", 1, &["a", "b", "c"])]].concat();
    let (_, before) = run(PartitionState::default(), first);
    assert_eq!(new_series(&before), [(7, 0, "a"), (7, 1, "b"), (7, 2, "c")]);

    let other = || [registry(&[(7, "d")]), vec![sends("d", 2, &["c", "x", "a"])]].concat();
    let (_, after) = run(PartitionState::default().seeded(catalogue(&before)), other());
    assert_eq!(new_series(&after), [(7, 3, "x")]);
    assert_eq!(stored(&after), [2, 3, 0]);
    // Nobody knows any more what had the number 1; it is given to nobody else.
    let known = catalogue(&before).into_iter().filter(|series| &*series.field != "b");
    let (_, after) =
        run(PartitionState::default().seeded(known), [registry(&[(7, "d")]), vec![sends("d", 2, &["b", "c"])]].concat());
    assert_eq!(new_series(&after), [(7, 3, "b")]);
    assert_eq!(stored(&after), [3, 2]);
    // Another kind is another series still.
    let text = CatalogueSeries { kind: ValueKind::Text, ..before.series[0].row.clone() };
    let (_, after) = run(PartitionState::default().seeded([text]), other());
    assert_eq!(new_series(&after), [(7, 1, "c"), (7, 2, "x"), (7, 3, "a")]);
}

#[test]
fn the_same_log_gives_the_same_rows_again() {
    let log = || {
        let uplinks = (1..400).map(|n| sends("d", n * 60, [&["a", "b"][..], &["c"], &["b", "c", "d"]][n as usize % 3]));
        [registry(&[(7, "d"), (8, "e")]), uplinks.collect(), vec![sends("e", 24_000, &["a"])]].concat()
    };
    let (_, first) = run(PartitionState::default(), log());
    let (_, mut again) = run(PartitionState::default().seeded(catalogue(&first)), log());
    assert_eq!(again.series, []);
    again.series.clone_from(&first.series);
    assert_eq!(again, first);
}

#[test]
fn a_number_that_stood_for_another_device_is_not_its_series() {
    let (_, before) = run(PartitionState::default(), [registry(&[(7, "d")]), vec![sends("d", 1, &["a", "b"])]].concat());
    let of_e = [registry(&[(7, "e")]), vec![sends("e", 2, &["b"])]].concat();
    let (_, after) = run(PartitionState::default().seeded(catalogue(&before)), of_e);
    assert_eq!(new_series(&after), [(7, 2, "b")]);
}

#[test]
fn a_state_that_was_left_goes_on_behind_what_came_meanwhile() {
    let log = [registry(&[(7, "d")]), vec![sends("d", 1, &["a", "b"])]].concat();
    let (left, before) = run(PartitionState::default(), log);
    let meanwhile = [registry(&[(7, "d")]), vec![sends("d", 2, &["c"])]].concat();
    let (_, other) = run(PartitionState::default().seeded(catalogue(&before)), meanwhile);
    assert_eq!(new_series(&other), [(7, 2, "c")]);
    let all = [catalogue(&before), catalogue(&other)].concat();
    let (_, after) = run(left.snapshot(P).seeded(all), vec![sends("d", 3, &["b", "x", "c"])]);
    assert_eq!(new_series(&after), [(7, 3, "x")]);
    assert_eq!(stored(&after), [1, 3, 2]);
}

#[test]
fn what_was_not_heard_yet_is_in_the_snapshot() {
    let both = [registry(&[(7, "d"), (8, "e")]), vec![sends("d", 1, &["a", "b"]), sends("e", 1, &["a", "b"])]].concat();
    let (_, before) = run(PartitionState::default(), both);
    let devices = registry(&[(7, "d"), (8, "e")]);
    let (graph, _) = run(PartitionState::default().seeded(catalogue(&before)), [devices, vec![sends("d", 2, &["b"])]].concat());
    let (_, after) = run(graph.snapshot(P), vec![sends("d", 3, &["b", "c"]), sends("e", 3, &["b", "c"])]);
    assert_eq!(new_series(&after), [(7, 2, "c"), (8, 2, "c")]);
}
