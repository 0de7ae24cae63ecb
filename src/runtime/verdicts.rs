//! The watchdog's verdicts: written into the log before the worker passes the uplink, and found ahead of
//! replaying, so that a decoder that once had to be ended is not run on that uplink again.

use crate::codec::{self, Kind};
use crate::decoder::VerdictSink;
use crate::log::{AppendError, Log, NewRecord, ReadError};
use dataflows::model::{Offset, Partition, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

/// Wait before a verdict that found no room is tried again: other partitions go on meanwhile, and so make room.
const RETRY: Duration = Duration::from_millis(500);

/// Appends verdicts to the log.
pub(super) struct LogVerdicts(pub Log);

impl VerdictSink for LogVerdicts {
    /// Waits for as long as the log has no room at all, not even what it keeps for such records, or its disk
    /// fails to write.
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        let body = codec::encode(&Record::Verdict { uplink });
        loop {
            match self.0.append_own_blocking(vec![NewRecord { partition, body: body.clone() }]) {
                Ok(_) => return Ok(()),
                Err(error @ (AppendError::Full(_) | AppendError::Write(_))) => {
                    tracing::error!(%partition, %uplink, %error, "a decoder had to be ended, and its partition waits until the log can say so");
                    std::thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Finds the uplinks on which there is a verdict from these places on.
///
/// Cost: reads the log from the first of the places to its end, once for all partitions. Only verdicts are decoded.
///
/// Errors: the log cannot be read. What was lost is passed over here; the worker tells of it.
pub(super) fn condemned(log: &Log, places: &[(Partition, Offset)]) -> Result<BTreeMap<Partition, BTreeSet<Offset>>, ReadError> {
    let mut from: Vec<Offset> = (0..log.partitions()).map(|partition| log.end(Partition(partition))).collect();
    for (partition, at) in places {
        from[usize::from(partition.0)] = *at;
    }
    let mut found: BTreeMap<Partition, BTreeSet<Offset>> = BTreeMap::new();
    log.scan(&from, |record| {
        if codec::kind(record.body) != Kind::Verdict {
            return;
        }
        // A verdict that cannot be read is set aside by the worker.
        if let Ok(Record::Verdict { uplink }) = codec::decode(record.body) {
            found.entry(record.partition).or_default().insert(uplink);
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Clock, LogOptions};

    #[test]
    fn a_verdict_gets_into_a_full_log_and_waits_where_not_even_its_own_room_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes: 64 << 10,
            size_bytes_max: 128 << 10,
            record_bytes_max: 8 << 10,
            group_bytes_max: 8 << 10,
            append_bytes_max: 8 << 10,
            reserve_bytes: 4 << 10,
            ..LogOptions::default()
        };
        let (log, _) = Log::open(dir.path(), options, Clock::system()).unwrap();
        let filled = |bytes: usize| NewRecord { partition: Partition(1), body: vec![0; bytes] };
        while log.append_blocking(vec![filled(4 << 10)]).is_ok() {}
        let verdicts = LogVerdicts(log.clone());
        verdicts.condemn(Partition(2), Offset(0)).unwrap();
        assert_eq!(log.end(Partition(2)), Offset(1));
        while log.append_own_blocking(vec![filled(100)]).is_ok() {}
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| verdicts.condemn(Partition(2), Offset(1)).map_err(|error| error.to_string()));
            log.truncate_below(&log.status().partitions.iter().map(|p| p.end).collect::<Vec<_>>()).unwrap();
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(log.end(Partition(2)), Offset(2));
    }

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
