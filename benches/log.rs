//! The local log: how many records a second can be acknowledged by 64 senders at once, one record in each
//! append, and how fast can all partitions be read in turns? Input: bodies of 225 bytes, 16 partitions.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataflows::model::{Offset, Partition};
use std::time::{Duration, Instant};
use weir::log::{Clock, Log, LogOptions, NewRecord};

const BODY: [u8; 225] = [0x5a; 225];
const SENDERS: u64 = 64;
const RECORDS_READ: u64 = 1_000_000;

fn record(n: u64) -> NewRecord {
    NewRecord { partition: Partition((n % 16) as u16), body: BODY.to_vec() }
}

fn open(dir: &tempfile::TempDir) -> Log {
    Log::open(dir.path(), LogOptions::default(), Clock::system()).expect("a new directory holds a log").0
}

/// Gives the time for `count` appends by all senders together, and tells how long the slowest hundredth took.
fn append(log: &Log, count: u64) -> Duration {
    let begun = Instant::now();
    let send = |sender: u64| {
        let each = |n| {
            let begun = Instant::now();
            log.append_blocking(vec![record(sender + n)]).expect("the disk has space");
            begun.elapsed()
        };
        (0..count.div_ceil(SENDERS)).map(each).collect::<Vec<_>>()
    };
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(move || send(sender))).collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("a sender does not panic")).collect()
    });
    let took = begun.elapsed();
    latencies.sort_unstable();
    eprintln!("{} appends, p99 {:?}", latencies.len(), latencies[latencies.len() * 99 / 100]);
    took
}

fn appends(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a directory for temporary files");
    let log = open(&dir);
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    group.bench_function("append, 64 senders", |b| b.iter_custom(|count| append(&log, count)));
    group.finish();
}

fn reads(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a directory for temporary files");
    let log = open(&dir);
    for n in 0..RECORDS_READ / 1000 {
        log.append_blocking((0..1000).map(|i| record(n * 1000 + i)).collect()).expect("the disk has space");
    }
    let read = || {
        let mut ats = [Offset(0); 16];
        let mut records = Vec::new();
        let mut count = 0;
        while count < RECORDS_READ {
            for (p, at) in (0..).zip(&mut ats) {
                records.clear();
                *at = log.read(Partition(p), *at, 64 << 10, &mut records).expect("the log is whole");
                count += records.len() as u64;
            }
        }
        count
    };
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(RECORDS_READ)).sample_size(10);
    group.bench_function("read, 16 partitions in turns", |b| b.iter(read));
    group.finish();
}

criterion_group!(benches, appends, reads);
criterion_main!(benches);
