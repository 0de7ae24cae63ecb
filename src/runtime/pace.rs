//! How much a worker takes at a time. Changes how fast it goes, never what it writes.

use std::time::Duration;

/// How much a worker takes at a time, and how far it lets a replay grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Log that is read of a partition at once; one record at least. Unit: bytes. Default: 64 KiB.
    pub read_bytes: usize,
    /// Records that run through the graph at once. Between two runs the worker listens. Default: 256, so that what a run makes
    /// and drops stays in pages that the allocator keeps: with four times as many, fresh pages were half of all page faults.
    pub run_entries: usize,
    /// Shortest time from a run that came to the log's end to the next, while a commit is on its way: a run takes as long for
    /// a hundred records as for one, and the rows have to wait for that commit. Default: 10 ms.
    pub run_spacing: Duration,
    /// Rows that may wait for the committer before workers stop reading, all workers together: each has its
    /// share of the series too, so that a commit holds as many rows of each whatever their number. A partial counts as
    /// three rows. Default: 500000.
    pub rows_max: usize,
    /// With so many records to be read, a worker gathers half of [`Self::rows_max`] before it hands them over. Default: 16384.
    pub backlog_records: u64,
    /// A partition is checkpointed when replaying it would read at least so many records. Default: 100000.
    pub checkpoint_records: u64,
    /// A partition that is worked off to the log's end is checkpointed when its newest checkpoint is so
    /// old, also when few records have come since: the log is kept from there on. Default: 5 min.
    pub checkpoint_age: Duration,
}

impl Pace {
    /// Gives the pace of one of so many workers.
    pub(super) fn of_one_of(self, workers: usize) -> Self {
        Self { rows_max: self.rows_max.div_ceil(workers), ..self }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            read_bytes: 64 << 10,
            run_entries: 256,
            run_spacing: Duration::from_millis(10),
            rows_max: 500_000,
            backlog_records: 16_384,
            checkpoint_records: 100_000,
            checkpoint_age: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_rows_that_may_wait() {
        let rows_max = |workers| Pace { rows_max: 10, ..Pace::default() }.of_one_of(workers).rows_max;
        assert_eq!([1, 3, 10, 100].map(rows_max), [10, 4, 1, 1]);
    }
}
