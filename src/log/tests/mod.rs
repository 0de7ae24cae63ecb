//! Tests of the log as a whole, on a simulated disk and on a real one.

mod damage;
mod faults;
mod kill;
mod memory;
mod model;
mod scan;
mod tail;

use super::identity::Identity;
use super::sim::Sim;
use super::{Clock, Log, LogOptions, NewRecord, OpenError, RawRecord, ReadError, Recovery, open};
use dataflows::model::{LogTime, Offset, Partition};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// A log with small limits, so that segments end often.
fn options() -> LogOptions {
    LogOptions {
        partitions: 3,
        segment_bytes: 2048,
        size_bytes_max: 1 << 20,
        record_bytes_max: 256,
        group_bytes_max: 512,
        append_bytes_max: 512,
        reserve_bytes: 256,
        queue_bytes_max: 4096,
        cache_bytes_max: 8192,
        on_fatal: Arc::new(|_| ()),
    }
}

/// A clock that counts its readings.
fn clock() -> Clock {
    let readings = AtomicI64::new(0);
    Clock::new(move || LogTime(readings.fetch_add(1, Ordering::Relaxed)), Duration::default)
}

fn identity() -> Identity {
    Identity { id: Uuid::from_u128(1), salt: 0x5eed_5eed_5eed_5eed, partitions: 3 }
}

fn open_with(sim: &Sim, options: LogOptions) -> Result<(Log, Recovery), OpenError> {
    open::open(Arc::new(sim.clone()), options, clock(), identity())
}

fn open_sim(sim: &Sim) -> Log {
    open_with(sim, options()).unwrap_or_else(|error| panic!("{error}")).0
}

fn record(partition: u16, body: &[u8]) -> NewRecord {
    NewRecord { partition: Partition(partition), body: body.into() }
}

/// A record that tells its place.
fn numbered(partition: u16, offset: u64) -> NewRecord {
    record(partition, format!("record {offset} of partition {partition}").as_bytes())
}

/// Appends `count` times one record to each partition, each time in a frame of its own.
fn fill(log: &Log, count: u64) {
    for _ in 0..count {
        let records = (0..3).map(|p| numbered(p, log.end(Partition(p)).0)).collect();
        log.append_blocking(records).unwrap();
    }
}

/// Reads a partition from its start, in small bites, to the end or the first error.
fn read_all(log: &Log, partition: u16) -> (Vec<RawRecord>, Option<ReadError>) {
    let mut records = vec![];
    let mut at = log.start(Partition(partition));
    loop {
        match log.read(Partition(partition), at, 100, &mut records) {
            Ok(next) if next == at => return (records, None),
            Ok(next) => at = next,
            Err(error) => return (records, Some(error)),
        }
    }
}

/// Every partition holds its numbered records up to `end`, and nothing else.
fn assert_numbered(log: &Log, end: u64) {
    for p in 0..3 {
        let (records, error) = read_all(log, p);
        assert!(error.is_none(), "partition {p}: {error:?}");
        let start = log.start(Partition(p)).0;
        assert_eq!(log.end(Partition(p)), Offset(end), "partition {p}");
        assert_eq!(records.len() as u64, end - start, "partition {p}");
        for (record, offset) in records.iter().zip(start..) {
            assert_eq!((record.offset, &record.body[..]), (Offset(offset), &numbered(p, offset).body[..]), "partition {p}");
        }
    }
}
