//! Lets time pass in quiet partitions, by tick records. One that holds an open bucket and gets no uplinks
//! gets a tick, so that its buckets close. One that is silent for long gets a tick, so that its
//! checkpoints move on: partitions share the log's segments, and the log is kept from the older of the
//! last two checkpoints on, so that a partition where nothing happens would hold all others' records.

use super::view::View;
use crate::codec;
use crate::log::{Log, NewRecord};
use dataflows::model::{HOUR_US, LogTime, MINUTE_US, Partition, Record};
use std::sync::Arc;
use std::time::Duration;

/// How often the partitions are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a partition is quiet before it gets a tick. Unit: microseconds.
const QUIET_US: i64 = MINUTE_US;
/// How long a partition of which the log keeps records is silent before it gets a tick. Unit: microseconds.
const SILENT_US: i64 = HOUR_US;

/// Appends ticks until it is dropped.
pub(super) async fn run(log: Log, view: Arc<View>, clock: impl Fn() -> LogTime) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        let now = clock();
        let seen = (0..log.partitions()).map(Partition).map(|p| Seen {
            partition: p,
            last: log.last_log_time(p),
            has_open_state: view.has_open_state(p),
            is_kept: log.start(p) < log.end(p),
        });
        let due: Vec<_> = seen.filter(|seen| seen.is_due(now)).map(|seen| seen.partition).collect();
        if due.is_empty() {
            continue;
        }
        let ticks = due.into_iter().map(|partition| NewRecord { partition, body: codec::encode(&Record::Tick) }).collect();
        if let Err(error) = log.append_own(ticks).await {
            tracing::warn!(%error, "buckets of quiet devices close later");
        }
    }
}

/// A partition as far as it matters here.
struct Seen {
    partition: Partition,
    /// When its last record came.
    last: LogTime,
    has_open_state: bool,
    /// Whether the log keeps any of its records.
    is_kept: bool,
}

impl Seen {
    fn is_due(&self, now: LogTime) -> bool {
        let quiet_us = now.0.saturating_sub(self.last.0);
        (self.has_open_state && quiet_us >= QUIET_US) || (self.is_kept && quiet_us >= SILENT_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_partitions_with_open_buckets_and_silent_ones_with_records_get_a_tick() {
        let is_due = |last_us, has_open_state, is_kept| {
            let now = LogTime(2 * HOUR_US);
            Seen { partition: Partition(0), last: LogTime(last_us), has_open_state, is_kept }.is_due(now)
        };
        assert!(is_due(2 * HOUR_US - QUIET_US, true, true));
        assert!(!is_due(2 * HOUR_US - QUIET_US + 1, true, true));
        assert!(!is_due(2 * HOUR_US - QUIET_US, false, true));
        assert!(is_due(HOUR_US, false, true));
        assert!(!is_due(HOUR_US, false, false), "it holds nothing");
    }
}
