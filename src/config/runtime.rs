//! `[runtime]`

use super::reader::Reader;
use std::time::Duration;

/// Threads and how the daemon ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Runtime {
    /// `workers`: threads that run the graph. Results do not depend on it. Default: 1.
    pub workers: usize,
    /// `owner`: the name under which partitions are owned, for people. Default: the host's name.
    pub owner: String,
    /// `shutdown_timeout`: how long SIGTERM waits for the log to be worked off and committed; the
    /// rest is replayed at the next start. Default: 30 s.
    pub shutdown_timeout: Duration,
    /// `checkpoint_records`: a partition is checkpointed when replaying it would read at least so many
    /// records; less makes starts faster and commits larger. Default: 100000.
    pub checkpoint_records: u64,
}

impl Runtime {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let host =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "weir".into(), |name| name.trim().to_owned());
        let runtime = Self {
            workers: reader.or("workers", 1),
            owner: reader.optional("owner").unwrap_or_else(host),
            shutdown_timeout: reader.or("shutdown_timeout", Duration::from_secs(30)),
            checkpoint_records: reader.or("checkpoint_records", 100_000),
        };
        if runtime.workers == 0 {
            reader.refuse("workers", "give at least 1");
        }
        if runtime.checkpoint_records == 0 {
            reader.refuse("checkpoint_records", "give at least 1");
        }
        runtime
    }
}
