//! What does a partition's checkpoint cost: to take it from the graph, to encode it, and to decode it?
//!
//! Input: 10,000 devices with five series each, two hours of uplinks every ten minutes, so that every series has
//! history, an open hour and an open day.

#[expect(dead_code, reason = "other benchmarks need more of it")]
mod common;

use common::{FIELDS, Fed, PARTITION};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir::runtime::checkpoint::{CHECKPOINT_VERSION, decode, encode};

const DEVICES: usize = 10_000;
const ROUNDS: usize = 12;

fn checkpoint(criterion: &mut Criterion) {
    let mut fed = Fed::new(DEVICES as u64);
    for _ in 0..ROUNDS {
        let entries = fed.uplinks(DEVICES, |round| round as u8);
        fed.graph.run(entries);
    }
    let series = (DEVICES * FIELDS) as u64;
    let state = fed.graph.snapshot(PARTITION);
    let bytes = encode(&state);
    eprintln!("{} bytes, {:.1} a series", bytes.len(), bytes.len() as f64 / series as f64);
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Elements(series)).sample_size(10);
    group.bench_function("snapshot", |bencher| bencher.iter(|| fed.graph.snapshot(PARTITION)));
    group.bench_function("encode", |bencher| bencher.iter(|| encode(&state)));
    group.bench_function("decode", |bencher| bencher.iter(|| decode(CHECKPOINT_VERSION, &bytes).expect("it was just encoded")));
    group.finish();
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
