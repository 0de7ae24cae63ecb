//! How much a worker takes at a time. Changes how fast it goes, never what it writes.

/// How much a worker takes at a time, and how far it lets a replay grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Log that a partition gives to one run of the graph; one record at least. Unit: bytes. Default: 256 KiB.
    pub read_bytes: usize,
    /// Rows that may wait for the committer before the worker stops reading. Default: 200000.
    pub rows_max: usize,
    /// A partition is checkpointed when replaying it would read at least so many records. Default: 100000.
    pub checkpoint_records: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { read_bytes: 256 << 10, rows_max: 200_000, checkpoint_records: 100_000 }
    }
}
