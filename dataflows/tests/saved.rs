//! However series are held in memory, their state is saved in the bytes that it always had.

mod common;

use common::log::BEGIN_US;
use common::*;
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;

const P: Partition = Partition(0);

/// Every kind of value, three uplinks within the horizon, two open hours and a day of one class and an hour of another,
/// an hour of a zone with half hours, a change of unit, a series that nobody knows any more.
fn log() -> Vec<(i64, Record)> {
    let at = |minute: i64| BEGIN_US + minute * MINUTE_US;
    let policy = |class| Policy { zone: "Europe/Berlin".into(), heartbeat_us: 20 * MINUTE_US, class, ..Policy::default() };
    let unit = |unit: &str| FieldSpec { unit: Some(unit.into()), deadband_bits: 0.25f64.to_bits(), heartbeat_us: None };
    let model = |symbol: &str| Template { fields: [("temperature".into(), unit(symbol))].into(), ..template(1) };
    let gives = |nth: i64| {
        let place = Value::Location { latitude: 47.5, longitude: 8.25, altitude: (nth % 2 == 0).then_some(nth as f64) };
        let text = Value::Text(["open", "shut"][nth as usize % 2].into());
        let of = |field: &str, value| Measurement { field: field.into(), value, at: None };
        let fields = vec![
            number("temperature", 20.0 + nth as f64 * 0.125, None),
            number("late", 1.0, (nth % 3 == 0).then(|| at(nth * 7 - 75))),
            of("motion", Value::Boolean(nth % 4 == 0)),
            of("door", text),
            of("position", place),
        ];
        Script::Gives(fields, vec![])
    };
    let mut log = vec![(at(0), tenant(1, policy(ClassNo(0)))), (at(0), set_template(model("°C")))];
    log.extend([
        (at(0), set_device(device(7, "d"))),
        (at(0), set_device(Device { zone: Some("Asia/Kolkata".into()), ..device(8, "e") })),
    ]);
    log.extend((0..30).flat_map(|nth| ["d", "e"].map(|name| (at(nth * 7), uplink(name, nth as u32, at(nth * 7), &gives(nth))))));
    log.push((at(210), set_template(model("K"))));
    log.extend((30..33).map(|nth| (at(nth * 7), uplink("d", nth as u32, at(nth * 7), &gives(nth)))));
    log.push((at(227), tenant(1, policy(ClassNo(3)))));
    log.extend((0..3).map(|nth| (at(228 + nth * 4), uplink("d", 40 + nth as u32, at(228 + nth * 4), &gives(nth)))));
    log.push((at(245), uplink("e", 40, at(243), &gives(40))));
    log
}

#[test]
fn a_state_has_the_bytes_of_format_3() {
    let series = |field, name: &str| CatalogueSeries {
        series: SeriesId::new(DeviceNo(8), FieldNo(field)),
        tenant: TenantNo(1),
        device: device_id("e"),
        field: name.into(),
        kind: ValueKind::Number,
        unit: (field == 2).then(|| "%".into()),
        class: ClassNo(0),
    };
    let mut graph = Graph::new(Box::new(Scripted));
    graph.adopt(P, PartitionState::default().seeded([series(0, "temperature"), series(2, "humidity")]));
    graph.run(entries(log()));
    // Written by a weir that held series as it saved them.
    let golden: &[u8] = include_bytes!("golden/state-v3.bin");
    let state = graph.snapshot(P);
    assert_eq!(postcard::from_bytes::<PartitionState>(golden).unwrap(), state);
    assert!(postcard::to_stdvec(&state).unwrap() == golden, "the bytes differ, though they mean the same");
    graph.release(P);
    graph.adopt(P, postcard::from_bytes(golden).unwrap());
    assert!(postcard::to_stdvec(&graph.snapshot(P)).unwrap() == golden, "the bytes differ after the state was taken up");
}
