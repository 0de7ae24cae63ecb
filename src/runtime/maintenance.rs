//! The slow chores: tables' upkeep, truncation of the log, the registry's local copy.

use super::database::Database;
use crate::log::{Log, TruncateError, Truncated};
use crate::registry::Directory;
use crate::store::{Store, StoreError, maintenance};
use dataflows::model::{HOUR_US, LogTime, Offset, Partition};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often the chores are done.
const PERIOD: Duration = Duration::from_secs(60);
/// How soon a log that refuses senders is truncated, once there is something to truncate.
const FULL_PERIOD: Duration = Duration::from_secs(2);
/// The share of its size bound from which the log is truncated to the oldest checkpoint, retention or not.
const FULL: f64 = 0.8;

/// Remembers how far the log went at which time, to find what is older than the log's retention.
/// After a restart it starts anew, so that the log is kept longer, never shorter.
#[derive(Default)]
struct Extents {
    taken: VecDeque<(LogTime, Vec<Offset>)>,
}

impl Extents {
    /// Remembers the log's ends, once an hour at the most.
    fn take(&mut self, now: LogTime, ends: Vec<Offset>) {
        if self.taken.back().is_none_or(|(at, _)| now.0 - at.0 >= HOUR_US) {
            self.taken.push_back((now, ends));
        }
    }

    /// Gives the newest extent that is older than `retention_us`, and forgets those before it.
    fn older_than(&mut self, now: LogTime, retention_us: i64) -> Option<&[Offset]> {
        while self.taken.get(1).is_some_and(|(at, _)| now.0 - at.0 >= retention_us) {
            self.taken.pop_front();
        }
        self.taken.front().filter(|(at, _)| now.0 - at.0 >= retention_us).map(|(_, ends)| ends.as_slice())
    }
}

/// How much of the log is kept.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    /// For so long behind the newest checkpoint. Unit: microseconds.
    pub retention_us: i64,
    /// The log's size bound. Unit: bytes.
    pub size_bytes_max: u64,
}

/// Does the chores until it is dropped.
pub(super) async fn run(store: Store, log: Log, directory: Arc<Directory>, keep: Keep, clock: impl Fn() -> LogTime) {
    let mut extents = Extents::default();
    let mut period = tokio::time::interval(PERIOD);
    let mut full = tokio::time::interval(FULL_PERIOD);
    full.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            _ = full.tick() => {
                if log.is_full()
                    && let Err(error) = truncate(&store, &log, &mut extents, clock(), keep).await
                {
                    tracing::warn!(%error, "the log is full, and is truncated later");
                }
                continue;
            }
        }
        let now = clock();
        extents.take(now, (0..log.partitions()).map(|p| log.end(Partition(p))).collect());
        if let Err(error) = maintenance::run_once(&store, now).await {
            tracing::warn!(%error, "the tables' upkeep is tried again later");
        }
        if let Err(error) = truncate(&store, &log, &mut extents, now, keep).await {
            tracing::warn!(%error, "the log is truncated later");
        }
        // Saved even when nothing changed, so that the next start scans little of the log.
        if let Err(error) = directory.save(true).await {
            tracing::warn!(%error, "the registry's local copy is old; a start without the database scans more of the log");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum TruncateProblem {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] TruncateError),
}

/// Truncates the log below what any checkpoint needs, and no further than its retention says.
///
/// Where senders are refused for want of space and that gives none back, the older checkpoints are given up too:
/// no record comes any more that would make them move on.
async fn truncate(
    database: &impl Database,
    log: &Log,
    extents: &mut Extents,
    now: LogTime,
    keep: Keep,
) -> Result<(), TruncateProblem> {
    // The disk may be full long before the log's own bound is reached.
    let full = log.is_full() || log.status().bytes as f64 >= FULL * keep.size_bytes_max as f64;
    let old = extents.older_than(now, keep.retention_us).map(<[Offset]>::to_vec);
    if !full && old.is_none() {
        return Ok(());
    }
    let checkpoints = database.checkpoints_kept().await?;
    let room = Room::of(&checkpoints, log.partitions(), old.as_deref().filter(|_| !full));
    let truncated = truncate_below(log, room.usual).await?;
    if truncated.segments == 0 && log.is_full() {
        let truncated = truncate_below(log, room.utmost).await?;
        if truncated.segments > 0 {
            tracing::warn!(
                bytes = truncated.bytes,
                "the log was full: it is truncated to the newest checkpoints, and does not reach back to an older database now"
            );
        }
    }
    Ok(())
}

/// How far the log can be truncated, partition by partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Room {
    /// As far as any checkpoint that is kept does not need it, and its retention is over.
    pub(super) usual: Vec<Offset>,
    /// As far as the newest checkpoints do not need it.
    pub(super) utmost: Vec<Offset>,
}

impl Room {
    /// Finds it by the checkpoints that are kept: oldest and newest of each partition. `old` is the extent whose retention
    /// is over, where that counts.
    pub(super) fn of(checkpoints: &[(Partition, Offset, Offset)], partitions: u16, old: Option<&[Offset]>) -> Self {
        let of = |p: u16| checkpoints.iter().find(|(partition, ..)| partition.0 == p);
        let oldest = |p| of(p).map_or(Offset(0), |(_, oldest, _)| *oldest);
        let newest = |p| of(p).map_or(Offset(0), |(.., newest)| *newest);
        let usual = |p| old.map_or(oldest(p), |old| oldest(p).min(old[usize::from(p)]));
        Self { usual: (0..partitions).map(usual).collect(), utmost: (0..partitions).map(newest).collect() }
    }
}

async fn truncate_below(log: &Log, low: Vec<Offset>) -> Result<Truncated, TruncateError> {
    let log = log.clone();
    tokio::task::spawn_blocking(move || log.truncate_below(&low)).await.expect("truncating does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_extent_beyond_the_retention_is_found() {
        let hour = |h: i64| LogTime(h * HOUR_US);
        let mut extents = Extents::default();
        for h in 0..10 {
            extents.take(hour(h), vec![Offset(h as u64)]);
            extents.take(LogTime(h * HOUR_US + 1), vec![Offset(99)]);
        }
        assert_eq!(extents.older_than(hour(9), 100 * HOUR_US), None);
        assert_eq!(extents.older_than(hour(9), 4 * HOUR_US), Some([Offset(5)].as_slice()));
        assert_eq!(extents.older_than(hour(9), 4 * HOUR_US), Some([Offset(5)].as_slice()), "it is kept");
    }
}
