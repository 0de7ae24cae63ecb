//! Reads the partials of a level from tables and memory as one.
//!
//! Invariant: every measurement up to the moment that the memory shows is in the result once. What the tables'
//! snapshot holds was emitted below its `progress`; what was emitted from there on, the memory still has, because
//! the guard was taken before the snapshot; the rest is open. So the memory must have come as far as the tables,
//! which after a restart it first has to; and the tables must not lack what the memory has forgotten, which those of
//! a replica that lags may.

use super::catalogue::ClassTables;
use super::memory::{Memory, MemoryPartials};
use super::merge::Piece;
use super::problem::Problem;
use dataflows::model::{BucketLevel, DAY_US, EventTime, HOUR_US, Offset, Partition, SeriesId};
use std::future::Future;
use std::time::Duration;

/// Which partials are read.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct LevelAsk {
    pub(super) partition: Partition,
    pub(super) level: BucketLevel,
    pub(super) series: Vec<SeriesId>,
    /// All partials that hold a measurement from here on are given, and some from before.
    pub(super) from: EventTime,
    /// Partials of buckets that start here or later may be left out.
    pub(super) to: EventTime,
    pub(super) classes: Vec<ClassTables>,
}

impl LevelAsk {
    /// Gives the earliest start of a bucket that can hold a measurement from `from` on: an hour before, or a local
    /// day, and as much again for odd zones.
    pub(super) fn buckets_from(&self) -> EventTime {
        let reach_us = match self.level {
            BucketLevel::Hour => 2 * HOUR_US,
            BucketLevel::Day => 2 * DAY_US,
        };
        EventTime(self.from.0 - reach_us)
    }
}

/// Where committed partials are read.
pub(super) trait Tables: Sync {
    /// Gives the partials to `take`, and the first offset of the partition that is not committed, of one moment.
    fn partials(
        &self,
        ask: &LevelAsk,
        take: &mut (dyn FnMut(Piece) + Send),
    ) -> impl Future<Output = Result<Offset, Problem>> + Send;
}

/// Pause between two looks at a memory that is still replaying.
const REPLAY_PAUSE: Duration = Duration::from_millis(50);

/// Gives all partials to `take`; those of the memory regardless of the range.
///
/// Errors: when the database or the memory does not answer, the memory is not as far as the tables within
/// `patience`, or the tables are older than what the memory still has.
pub(super) async fn read<M: Memory>(
    memory: &M,
    tables: &impl Tables,
    ask: &LevelAsk,
    patience: Duration,
    take: &mut (dyn FnMut(Piece) + Send),
) -> Result<(), Problem> {
    let _guard = memory.guard();
    let progress = tables.partials(ask, take).await?;
    let waited = tokio::time::timeout(patience, caught_up(memory, ask, progress)).await;
    let held = waited.unwrap_or(Err(Problem::Replaying(ask.partition)))?;
    if progress < held.floor {
        return Err(Problem::OldTables(ask.partition));
    }
    let not_committed = held.emitted.iter().filter(|partial| partial.offset >= progress);
    not_committed.for_each(|partial| take(Piece::of(&partial.row, false)));
    held.open.iter().for_each(|partial| take(Piece::of(partial, true)));
    Ok(())
}

async fn caught_up<M: Memory>(memory: &M, ask: &LevelAsk, progress: Offset) -> Result<MemoryPartials, Problem> {
    loop {
        let held = memory.partials(ask.partition, ask.series.clone(), ask.level).await?;
        if held.position >= progress {
            return Ok(held);
        }
        tokio::time::sleep(REPLAY_PAUSE).await;
    }
}

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
