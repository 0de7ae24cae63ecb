//! The watchdog's verdicts go into the log before the worker passes the uplink.

use crate::codec;
use crate::decoder::VerdictSink;
use crate::log::{AppendError, Log, NewRecord};
use dataflows::model::{Offset, Partition, Record};
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
}
