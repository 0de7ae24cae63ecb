//! A real log in a passing folder, with a clock of its own, and what stands in it.

use dataflows::model::{Entry, LogTime, Offset, Partition, Record, SECOND_US};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use weir::codec;
use weir::log::{Clock, Log, LogOptions, NewRecord, RawRecord};

/// An evening before a change of the clock in Europe: 2026-03-28T20:00:00Z.
pub(crate) const BEGIN_US: i64 = 1_774_728_000 * SECOND_US;
const PARTITIONS: u16 = 5;

/// A log that is written group by group, each at a time of its own.
pub(crate) struct FilledLog {
    log: Log,
    clock_us: Arc<AtomicI64>,
    group: Vec<NewRecord>,
    ends: [u64; PARTITIONS as usize],
}

impl FilledLog {
    pub(crate) fn open(dir: &Path) -> Self {
        let clock_us = Arc::new(AtomicI64::new(0));
        let (wall, running) = (Arc::clone(&clock_us), Arc::clone(&clock_us));
        let clock = Clock::new(
            move || LogTime(BEGIN_US + wall.load(Ordering::Relaxed)),
            move || Duration::from_micros(running.load(Ordering::Relaxed).unsigned_abs()),
        );
        let options = LogOptions { partitions: PARTITIONS, ..LogOptions::default() };
        let (log, _) = Log::open(dir, options, clock).unwrap();
        Self { log, clock_us, group: Vec::new(), ends: [0; PARTITIONS as usize] }
    }

    /// Writes what was added, and lets time pass.
    pub(crate) fn pass(&mut self, us: i64) {
        self.log.append_blocking(std::mem::take(&mut self.group)).unwrap();
        self.clock_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn add(&mut self, partition: Partition, record: &Record) {
        self.add_body(partition, codec::encode(record));
    }

    pub(crate) fn add_body(&mut self, partition: Partition, body: Vec<u8>) {
        self.ends[usize::from(partition.0)] += 1;
        self.group.push(NewRecord { partition, body });
    }

    pub(crate) fn now_us(&self) -> i64 {
        BEGIN_US + self.clock_us.load(Ordering::Relaxed)
    }

    pub(crate) fn partitions(&self) -> u16 {
        PARTITIONS
    }

    /// The offset of the next record of a partition.
    pub(crate) fn next(&self, partition: Partition) -> Offset {
        Offset(self.ends[usize::from(partition.0)])
    }

    /// How many records were added.
    pub(crate) fn records(&self) -> usize {
        self.ends.iter().sum::<u64>() as usize
    }

    /// Ends the writing.
    pub(crate) fn finish(mut self) -> Log {
        self.pass(0);
        self.log
    }
}

/// Reads a log as the oracle takes it: whole, with each verdict at its uplink, and time in place of
/// what cannot be read; that is given beside.
pub(crate) fn read(log: &Log) -> (Vec<Entry>, Vec<(Partition, RawRecord)>) {
    let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
    for partition in (0..log.partitions()).map(Partition) {
        let (mut raw, mut at) = (Vec::new(), Offset(0));
        while at < log.end(partition) {
            at = log.read(partition, at, 1 << 20, &mut raw).unwrap();
        }
        let records: Vec<_> = raw.iter().map(|raw| codec::decode(&raw.body)).collect();
        let condemned: BTreeSet<Offset> =
            records.iter().filter_map(|r| if let Ok(Record::Verdict { uplink }) = r { Some(*uplink) } else { None }).collect();
        for (raw, record) in raw.into_iter().zip(records) {
            let (offset, log_time) = (raw.offset, raw.log_time);
            let record = record.unwrap_or_else(|_| {
                unreadable.push((partition, raw));
                Record::Tick
            });
            entries.push(Entry { partition, offset, log_time, condemned: condemned.contains(&offset), record });
        }
    }
    (entries, unreadable)
}
