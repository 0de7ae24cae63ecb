//! The watchdog's verdicts: written into the log before the worker passes the uplink, and found ahead of
//! replaying, so that a decoder that once had to be ended is not run on that uplink again.

use crate::codec::{self, Kind};
use crate::decoder::VerdictSink;
use crate::log::{Log, NewRecord, ReadError};
use dataflows::model::{LogTime, Offset, Partition, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

/// Bytes of bodies that are read of a partition at once. Small, so that partitions stay in step.
const READ_BYTES: usize = 256 << 10;

/// Appends verdicts to the log.
pub(super) struct LogVerdicts(pub Log);

impl VerdictSink for LogVerdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        let body = codec::encode(&Record::Verdict { uplink });
        self.0.append_blocking(vec![NewRecord { partition, body }])?;
        Ok(())
    }
}

/// A partition on its way to the log's end.
struct Scan {
    partition: Partition,
    at: Offset,
    end: Offset,
    log_time: LogTime,
}

/// Finds the uplinks on which there is a verdict from these places on.
///
/// Cost: reads the log from the first of the places to its end, once for all partitions: their records lie
/// side by side, and the one that is furthest behind in time reads next, so that blocks are still at hand.
/// Only verdicts are decoded.
///
/// Errors: the log cannot be read. What was lost is passed over here; the worker tells of it.
pub(super) fn condemned(log: &Log, places: &[(Partition, Offset)]) -> Result<BTreeMap<Partition, BTreeSet<Offset>>, ReadError> {
    let scan =
        |&(partition, at): &(Partition, Offset)| Scan { partition, at, end: log.end(partition), log_time: LogTime(i64::MIN) };
    let mut scans: Vec<_> = places.iter().map(scan).filter(|scan| scan.at < scan.end).collect();
    let mut found: BTreeMap<Partition, BTreeSet<Offset>> = BTreeMap::new();
    let mut records = Vec::new();
    while let Some((index, scan)) = scans.iter_mut().enumerate().min_by_key(|(_, scan)| scan.log_time) {
        records.clear();
        scan.at = match log.read(scan.partition, scan.at, READ_BYTES, &mut records) {
            Err(ReadError::Gap { to, .. }) => to,
            read => read?,
        };
        for record in records.iter().filter(|record| codec::kind(&record.body) == Kind::Verdict) {
            // A verdict that cannot be read is set aside by the worker.
            if let Ok(Record::Verdict { uplink }) = codec::decode(&record.body) {
                found.entry(scan.partition).or_default().insert(uplink);
            }
        }
        scan.log_time = records.last().map_or(scan.log_time, |record| record.log_time);
        if scan.at >= scan.end {
            scans.swap_remove(index);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Clock, LogOptions};

    #[test]
    fn verdicts_ahead_are_found_in_every_partition() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(dir.path(), LogOptions { partitions: 3, ..LogOptions::default() }, Clock::system()).unwrap();
        let append = |partition, record: &Record| {
            let record = NewRecord { partition: Partition(partition), body: codec::encode(record) };
            log.append_blocking(vec![record]).unwrap();
        };
        append(0, &Record::Verdict { uplink: Offset(0) });
        for uplink in [5, 7] {
            append(0, &Record::Tick);
            append(0, &Record::Verdict { uplink: Offset(uplink) });
            append(2, &Record::Verdict { uplink: Offset(uplink + 1) });
        }
        let places = [(Partition(0), Offset(1)), (Partition(1), Offset(0)), (Partition(2), Offset(0))];
        let set = |offsets: &[u64]| offsets.iter().copied().map(Offset).collect::<BTreeSet<_>>();
        let expected = BTreeMap::from([(Partition(0), set(&[5, 7])), (Partition(2), set(&[6, 8]))]);
        assert_eq!(condemned(&log, &places).unwrap(), expected);
    }

    /// A log that is much larger than what readers keep in memory is read once, not once a partition.
    #[test]
    fn partitions_are_read_in_step() {
        const PARTITIONS: u16 = 8;
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { partitions: PARTITIONS, cache_bytes_max: 4 << 20, ..LogOptions::default() };
        let (log, _) = Log::open(dir.path(), options, Clock::system()).unwrap();
        for _ in 0..128 {
            let body = vec![0; 64 << 10];
            let records = (0..PARTITIONS).map(|p| NewRecord { partition: Partition(p), body: body.clone() }).collect();
            log.append_blocking(records).unwrap();
        }
        let places: Vec<_> = (0..PARTITIONS).map(|p| (Partition(p), Offset(0))).collect();
        let read_before = bytes_read();
        condemned(&log, &places).unwrap();
        let read = bytes_read() - read_before;
        let held = log.status().bytes;
        assert!(read < 3 * held, "{read} bytes were read of a log of {held}");
    }

    /// What this thread has read so far.
    fn bytes_read() -> u64 {
        let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }
}
