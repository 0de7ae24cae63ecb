//! Lets time pass in quiet partitions: one that holds an open bucket and gets no uplinks gets a tick
//! record, so that its buckets close.

use super::view::View;
use crate::codec;
use crate::log::{Log, NewRecord};
use dataflows::model::{LogTime, MINUTE_US, Partition, Record};
use std::sync::Arc;
use std::time::Duration;

/// How often the partitions are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a partition is quiet before it gets a tick. Unit: microseconds.
const QUIET_US: i64 = MINUTE_US;

/// Appends ticks until it is dropped.
pub(super) async fn run(log: Log, view: Arc<View>, clock: impl Fn() -> LogTime) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        let now = clock();
        let due = quiet(log.partitions(), now, |p| log.last_log_time(p), |p| view.has_open_state(p));
        if due.is_empty() {
            continue;
        }
        let ticks = due.into_iter().map(|partition| NewRecord { partition, body: codec::encode(&Record::Tick) }).collect();
        if let Err(error) = log.append_own(ticks).await {
            tracing::warn!(%error, "buckets of quiet devices close later");
        }
    }
}

/// Gives the partitions that need a tick.
fn quiet(
    partitions: u16,
    now: LogTime,
    last: impl Fn(Partition) -> LogTime,
    has_open_state: impl Fn(Partition) -> bool,
) -> Vec<Partition> {
    (0..partitions).map(Partition).filter(|p| has_open_state(*p) && now.0.saturating_sub(last(*p).0) >= QUIET_US).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quiet_partitions_with_open_buckets_get_a_tick() {
        let last = [0, 50, 0, 30].map(|s| LogTime(s * 1_000_000));
        let open = [true, true, false, true];
        let due = quiet(4, LogTime(90_000_000), |p| last[usize::from(p.0)], |p| open[usize::from(p.0)]);
        assert_eq!(due, [Partition(0), Partition(3)]);
    }
}
