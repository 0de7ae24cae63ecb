//! Answers steps from an hour up, from days where those are enough and from hours where not.

use super::aggregate::{Aggregate, Fill};
use super::answer::{AnswerPoint, AnswerSeries};
use super::calendar::Buckets;
use super::catalogue::ClassTables;
use super::groups::Group;
use super::level::{self, LevelAsk, Tables};
use super::memory::Memory;
use super::problem::Problem;
use super::sheet::{Entry, Sheet};
use super::step::Step;
use dataflows::model::{BucketLevel, EventTime, Partition};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// What is asked of the rollups.
pub(super) struct RollupAsk<'a> {
    pub(super) partition: Partition,
    pub(super) classes: &'a [ClassTables],
    pub(super) groups: &'a [Group],
    pub(super) buckets: &'a Buckets,
    pub(super) step: Step,
    /// How long the memory may take to come as far as the tables.
    pub(super) patience: Duration,
}

/// Fills a sheet with all measurements of the buckets' range, each once.
///
/// Cost: memory for one entry for each bucket that has measurements, whatever is read.
/// Errors: when the database or the memory does not answer.
pub(super) async fn read<'a>(memory: &impl Memory, tables: &impl Tables, ask: &RollupAsk<'a>) -> Result<Sheet<'a>, Problem> {
    let mut sheet = Sheet::new(ask.buckets, ask.groups);
    let all = 0..ask.buckets.len();
    if !ask.step.is_of_days() {
        let hours = ask.level(BucketLevel::Hour, all);
        level::read(memory, tables, &hours, ask.patience, &mut |piece| sheet.hour(&piece)).await?;
        return Ok(sheet);
    }
    let days = ask.level(BucketLevel::Day, all);
    level::read(memory, tables, &days, ask.patience, &mut |piece| sheet.day(&piece)).await?;
    if let Some(mixed) = sheet.open_mixed() {
        let hours = ask.level(BucketLevel::Hour, mixed);
        level::read(memory, tables, &hours, ask.patience, &mut |piece| sheet.hour_of_mixed(&piece)).await?;
    }
    Ok(sheet)
}

impl RollupAsk<'_> {
    fn level(&self, level: BucketLevel, buckets: Range<usize>) -> LevelAsk {
        LevelAsk {
            partition: self.partition,
            level,
            series: self.groups.iter().flat_map(|group| group.series.iter().copied()).collect(),
            from: self.buckets.start(buckets.start),
            to: self.buckets.start(buckets.end),
            classes: self.classes.to_vec(),
        }
    }
}

/// Makes the series of the answer. A bucket is open while it has not ended at `now` or a partial of it is open;
/// gaps are filled up to `now`.
pub(super) fn series(
    group: Group,
    buckets: &Buckets,
    entries: &BTreeMap<usize, Entry>,
    approximate: bool,
    aggregates: &[Aggregate],
    fill: Fill,
    now: EventTime,
) -> AnswerSeries {
    let mut before = None;
    let point = |bucket: usize| {
        let entry = entries.get(&bucket);
        let values = match entry {
            Some(entry) => aggregates.iter().map(|aggregate| aggregate.of(&entry.merged)).collect(),
            None if fill == Fill::Absent || buckets.start(bucket) > now => return None,
            None => aggregates.iter().map(|aggregate| aggregate.filled(fill, before)).collect(),
        };
        before = entry.map(|entry| &entry.merged).or(before);
        let open = buckets.end(bucket) > now || entry.is_some_and(|entry| entry.open);
        Some(AnswerPoint { at: buckets.start(bucket), values, open })
    };
    let points = match fill {
        Fill::Absent => entries.keys().copied().filter_map(point).collect(),
        Fill::Null | Fill::Previous => (0..buckets.len()).filter_map(point).collect(),
    };
    AnswerSeries { field: group.field, unit: group.unit, kind: group.kind, points, approximate }
}

#[cfg(test)]
#[path = "rollup_tests.rs"]
mod tests;
