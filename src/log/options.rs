//! Owns the log's limits: every size is stated here, and checked before the log is opened.

use super::frame;
use super::header::Header;
use std::io;
use std::sync::Arc;

/// Limits of a log, and what to do when it can no longer promise anything.
#[derive(Clone)]
pub struct LogOptions {
    /// Partitions. Fixed when the log is made. Default: 16.
    pub partitions: u16,
    /// Size at which a new segment is begun. Unit: bytes. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Largest size of all segments together; appends are refused beyond. Unit: bytes. Default: 16 GiB.
    pub size_bytes_max: u64,
    /// Largest record. Unit: bytes. Default: 1 MiB.
    pub record_bytes_max: usize,
    /// What one fsync makes durable together, of appends that are smaller. Unit: bytes. Default: 4 MiB.
    pub group_bytes_max: usize,
    /// Largest append; one that is larger than a group has an fsync of its own. Unit: bytes. Default: 16 MiB,
    /// so that the largest body that ingest takes is appended as a whole.
    pub append_bytes_max: usize,
    /// The end of each segment that only the daemon's own records may fill (see [`super::Log::append_own`]),
    /// so that they find room while senders are refused. Unit: bytes. Default: 1 MiB, thousands of them.
    pub reserve_bytes: u64,
    /// What may wait for the writer before appends are told to come back. Unit: bytes. Default: 32 MiB.
    pub queue_bytes_max: usize,
    /// Memory for blocks that readers share. Unit: bytes. Default: 8 MiB, what
    /// four workers need that read 16 partitions in turn.
    pub cache_bytes_max: usize,
    /// Called once when an fsync failed: from then on nothing that is in memory can be trusted to be on
    /// disk, so the daemon has to end. Default: aborts the process.
    pub on_fatal: Arc<dyn Fn(&io::Error) + Send + Sync>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            partitions: 16,
            segment_bytes: 64 << 20,
            size_bytes_max: 16 << 30,
            record_bytes_max: 1 << 20,
            group_bytes_max: 4 << 20,
            append_bytes_max: 16 << 20,
            reserve_bytes: 1 << 20,
            queue_bytes_max: 32 << 20,
            cache_bytes_max: 8 << 20,
            on_fatal: Arc::new(|_| std::process::abort()),
        }
    }
}

impl LogOptions {
    /// Positions in a segment are kept in 32 bits.
    const SEGMENT_BYTES_MAX: u64 = 1 << 30;

    /// Tells the first option that does not fit the others.
    pub(super) fn check(&self) -> Result<(), String> {
        let append_bytes = frame::bytes_max(self.partitions, self.append_bytes_max);
        let segment_bytes_min = (Header::bytes(self.partitions) + append_bytes) as u64 + self.reserve_bytes;
        if self.partitions == 0 {
            return Err("partitions is 0: give at least 1".into());
        }
        if self.record_bytes_max > self.group_bytes_max {
            let (record, group) = (self.record_bytes_max, self.group_bytes_max);
            return Err(format!("record_bytes_max ({record}) is larger than group_bytes_max ({group})"));
        }
        if self.group_bytes_max > self.append_bytes_max {
            let (group, append) = (self.group_bytes_max, self.append_bytes_max);
            return Err(format!("group_bytes_max ({group}) is larger than append_bytes_max ({append})"));
        }
        if self.append_bytes_max > self.queue_bytes_max {
            let (append, queue) = (self.append_bytes_max, self.queue_bytes_max);
            return Err(format!("append_bytes_max ({append}) is larger than queue_bytes_max ({queue})"));
        }
        if !(segment_bytes_min..=Self::SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            let (given, max) = (self.segment_bytes, Self::SEGMENT_BYTES_MAX);
            return Err(format!(
                "segment_bytes ({given}) must be from {segment_bytes_min} (one append and the reserve) to {max}"
            ));
        }
        if self.size_bytes_max < 2 * self.segment_bytes {
            let (size, segment) = (self.size_bytes_max, self.segment_bytes);
            return Err(format!("size_bytes_max ({size}) must hold at least two segments of {segment} bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let check = |change: fn(&mut LogOptions), expected: Option<&str>| {
            let mut options = LogOptions::default();
            change(&mut options);
            let got = options.check().err();
            assert_eq!(got.as_deref().map(|e| e.split(' ').next().unwrap()), expected, "{got:?}");
        };
        check(|_| (), None);
        check(|o| o.partitions = 0, Some("partitions"));
        check(|o| o.record_bytes_max = 5 << 20, Some("record_bytes_max"));
        check(|o| o.group_bytes_max = 17 << 20, Some("group_bytes_max"));
        check(|o| o.queue_bytes_max = 1 << 20, Some("append_bytes_max"));
        check(|o| o.segment_bytes = 17 << 20, Some("segment_bytes"));
        check(|o| o.segment_bytes = 2 << 30, Some("segment_bytes"));
        check(|o| o.size_bytes_max = 100 << 20, Some("size_bytes_max"));
    }
}
