//! What does it cost to encode a row for binary COPY?
//!
//! Input: 10,000 rows of `measurement` (3 columns), and of `rollup_1h` (12 columns), into a buffer that is used
//! again, as the store does.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use weir::store::Timestamp;
use weir::store::copy::CopyEncoder;

const ROWS: i64 = 10_000;
const AT: Timestamp = Timestamp(1_795_352_400_000_000);

fn measurement(encoder: &mut CopyEncoder, nth: i64) {
    encoder.row(3);
    encoder.timestamp(AT);
    encoder.int8(nth);
    encoder.float8(21.5);
}

fn rollup(encoder: &mut CopyEncoder, nth: i64) {
    encoder.row(12);
    encoder.timestamp(AT);
    encoder.int8(nth);
    encoder.int8(4);
    (0..3).for_each(|_| encoder.float8(21.5));
    for _ in 0..2 {
        encoder.float8(21.5);
        encoder.timestamp(AT);
        encoder.int8(nth);
    }
}

fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, row) in [("measurement", measurement as fn(&mut CopyEncoder, i64)), ("rollup_1h", rollup)] {
        let mut encoder = CopyEncoder::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                encoder.header();
                (0..ROWS).for_each(|nth| row(&mut encoder, black_box(nth)));
                encoder.trailer();
                encoder.take()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, copy);
criterion_main!(benches);
