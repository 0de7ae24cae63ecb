//! The claim of store-on-change: while every measurement comes in less than the horizon behind the
//! newest of its series, the rows contain those of in-order arrival, and without a deadband both
//! draw the same step function.

mod common;

use common::log::BEGIN_US;
use common::*;
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;
use dataflows::oracle::in_order;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const HORIZON_US: i64 = 10 * MINUTE_US;

/// Values with their event times in the order in which they come in, none too late.
fn arrivals() -> impl Strategy<Value = Vec<(EventTime, Value)>> {
    let step = (0..6i64, 0..20i64, prop_oneof![Just(1.0), Just(1.4), Just(2.0), Just(3.0)]);
    proptest::collection::vec(step, 1..120).prop_map(|steps| {
        let mut newest = BEGIN_US;
        let mut arrivals = Vec::new();
        for (minutes, half_minutes_back, value) in steps {
            let at = newest + minutes * MINUTE_US - half_minutes_back * 30 * SECOND_US;
            if arrivals.is_empty() || at > newest - HORIZON_US {
                newest = newest.max(at);
                arrivals.push((EventTime(at), Value::Number(value)));
            }
        }
        arrivals
    })
}

fn stored(arrivals: &[(EventTime, Value)], deadband: f64, heartbeat_us: i64) -> Vec<(EventTime, Value)> {
    let mut model = template(1);
    model.fields.insert("x".into(), FieldSpec { deadband_bits: deadband.to_bits(), ..FieldSpec::default() });
    let policy = Policy { lateness_horizon_us: HORIZON_US, heartbeat_us, ..Policy::default() };
    let registry = [tenant(1, policy), set_template(model), set_device(device(7, "d"))];
    let uplinks = arrivals.iter().enumerate().map(|(nth, (at, value))| {
        let measurement = Measurement { field: "x".into(), value: value.clone(), at: Some(*at) };
        uplink("d", nth as u32, at.0, &Script::Gives(vec![measurement], vec![]))
    });
    let last = arrivals.iter().map(|(at, _)| at.0).max().unwrap();
    let mut graph = Graph::new(Box::new(Scripted));
    graph.adopt(Partition(0), PartitionState::default());
    let rows = graph.run(entries(registry.into_iter().chain(uplinks).map(|record| (last, record))));
    let mut rows: Vec<_> = rows.numbers.into_iter().map(|row| (row.row.at, Value::Number(row.row.value))).collect();
    rows.sort_by_key(|(at, _)| *at);
    rows
}

/// The value at each time, of the last row at or before it.
fn step_function(rows: &[(EventTime, Value)], at: EventTime) -> Option<&Value> {
    rows.iter().rfind(|(from, _)| *from <= at).map(|(_, value)| value)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(20_261_122), ..ProptestConfig::default() })]

    #[test]
    fn stored_rows_contain_those_of_in_order_arrival(
        arrivals in arrivals(),
        deadband in prop_oneof![Just(0.0), Just(0.5)],
        heartbeat_us in prop_oneof![Just(0), Just(7 * MINUTE_US), Just(HOUR_US)],
    ) {
        let got = stored(&arrivals, deadband, heartbeat_us);
        let expected = in_order(&arrivals, deadband, heartbeat_us);
        for row in &expected {
            prop_assert!(got.contains(row), "{row:?} is missing in {got:?}");
        }
        if deadband == 0.0 {
            for (at, _) in &arrivals {
                prop_assert_eq!(step_function(&got, *at), step_function(&expected, *at), "{:?}", at);
            }
        }
    }
}
