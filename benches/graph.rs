//! What does one uplink cost in the graph, and which stage takes it?
//!
//! Input: 10,000 devices in turns, every ten minutes of log time, five values an uplink, runs of 1,024 uplinks, a
//! decoder that costs next to nothing. All of it goes through the graph's door; the stages differ in how far an
//! uplink comes:
//! - `dedup`: copies, which end there;
//! - `dedup, lookup`: uplinks of unknown devices, which end there as rows for the quarantine;
//! - `all, unchanged`: every value is counted and rolled up, none is stored but by the heartbeat;
//! - `all, changed`: every value becomes a row.

mod common;

use common::Fed;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dataflows::model::Entry;

const DEVICES: u64 = 10_000;
const RUN: usize = 1_024;

/// Makes the next run's entries.
type Next = Box<dyn FnMut(&mut Fed) -> Vec<Entry>>;

fn graph(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("graph");
    group.throughput(Throughput::Elements(RUN as u64)).sample_size(20);
    let mut bench = |name: &str, mut fed: Fed, mut next: Next| {
        // Both closures need the graph, one after the other.
        let fed = std::cell::RefCell::new(&mut fed);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || next(&mut fed.borrow_mut()),
                |entries| fed.borrow_mut().graph.run(entries),
                BatchSize::PerIteration,
            );
        });
    };
    let mut copied = Fed::new(DEVICES);
    let first = copied.uplinks(RUN, |_| 0);
    copied.graph.run(first.clone());
    bench("dedup", copied, Box::new(move |fed| fed.again(&first)));
    bench("dedup, lookup", Fed::new(DEVICES), Box::new(|fed| fed.strangers(RUN)));
    bench("all, unchanged", Fed::new(DEVICES), Box::new(|fed| fed.uplinks(RUN, |_| 0)));
    bench("all, changed", Fed::new(DEVICES), Box::new(|fed| fed.uplinks(RUN, |round| round as u8)));
    group.finish();
}

criterion_group!(benches, graph);
criterion_main!(benches);
