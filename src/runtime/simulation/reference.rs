//! What has to be true: every record that was ever readable, and what the oracle makes of them.

use super::decoder::{Plain, Reached};
use super::fleet::PARTITIONS;
use super::tables::{Tables, rows};
use crate::codec;
use crate::log::{Log, RawRecord};
use crate::store::{Advance, Commit};
use dataflows::model::*;
use dataflows::oracle::Oracle;
use std::collections::BTreeSet;

/// The records, and the rows that they mean.
pub(super) struct Reference {
    partitions: Vec<Story>,
    oracle: Oracle,
    pub reached: Reached,
}

/// One partition.
#[derive(Default)]
struct Story {
    records: Vec<RawRecord>,
    condemned: BTreeSet<Offset>,
    /// The rows of the records that the oracle has read, and the counts behind each.
    rows: Vec<(Offset, String)>,
    counts: Vec<Counts>,
}

impl Reference {
    pub(super) fn new() -> Self {
        let partitions = (0..PARTITIONS).map(|_| Story::default()).collect();
        Self { partitions, oracle: Oracle::default(), reached: Reached::default() }
    }

    /// Counts the records.
    pub(super) fn records(&self) -> usize {
        self.partitions.iter().map(|story| story.records.len()).sum()
    }

    /// Takes in what has become readable; gives it.
    pub(super) fn observe(&mut self, log: &Log) -> Vec<RawRecord> {
        let mut all = Vec::new();
        for (partition, story) in (0..).map(Partition).zip(&mut self.partitions) {
            let (mut at, mut new) = (Offset(story.records.len() as u64), Vec::new());
            assert!(
                log.end(partition) >= at,
                "partition {partition} ends at {}, and {at} records were readable",
                log.end(partition)
            );
            while at < log.end(partition) {
                at = log.read(partition, at, 1 << 20, &mut new).expect("what is durable can be read");
            }
            for raw in &new {
                if let Ok(Record::Verdict { uplink }) = codec::decode(&raw.body) {
                    assert!(uplink.0 >= story.counts.len() as u64, "a verdict on {uplink}, which was passed before");
                    story.condemned.insert(uplink);
                }
            }
            all.extend(new.iter().cloned());
            story.records.append(&mut new);
        }
        all
    }

    /// Holds a log that was just opened against what was readable before.
    pub(super) fn check_log(&self, log: &Log) {
        for (partition, story) in (0..).map(Partition).zip(&self.partitions) {
            let (mut found, mut at) = (Vec::new(), log.start(partition));
            while at < log.end(partition) {
                at = log.read(partition, at, 1 << 20, &mut found).expect("what is durable can be read");
            }
            let expected = &story.records[log.start(partition).0 as usize..];
            assert!(
                found.starts_with(expected),
                "partition {partition} is not what was readable: {} of {}",
                found.len(),
                expected.len()
            );
        }
    }

    /// Acknowledged means durable.
    pub(super) fn check_acknowledged(&self, partition: Partition, offset: Offset, body: &[u8]) {
        let record = self.partitions[usize::from(partition.0)].records.get(offset.0 as usize);
        let is_there = record.is_some_and(|record| record.body == body);
        assert!(is_there, "record {offset} of partition {partition} was acknowledged and is not in the log");
    }

    /// What is committed is what the oracle says, of just these records.
    pub(super) fn check_commit(&mut self, commit: &Commit) {
        let mut found = rows(&commit.outputs);
        for advance in &commit.advances {
            let Advance { partition, from, to, counts, log_time, .. } = *advance;
            self.read_to(partition, to);
            let story = &self.partitions[usize::from(partition.0)];
            let mut ours: Vec<_> =
                found.extract_if(.., |(of, ..)| *of == partition).map(|(_, offset, row)| (offset, row)).collect();
            let mut expected: Vec<_> = story.rows.iter().filter(|(at, _)| from <= *at && *at < to).cloned().collect();
            ours.sort();
            expected.sort();
            same_rows(partition, &ours, &expected);
            if let Some(last) = to.0.checked_sub(1) {
                assert_eq!(log_time, story.records[last as usize].log_time, "log time of partition {partition} at {to}");
                assert_eq!(counts, story.counts[last as usize], "counts of partition {partition} at {to}");
            }
            let Counts { uplinks, duplicate, uplinks_quarantined, uplinks_decoded, .. } = counts;
            assert_eq!(uplinks, uplinks_decoded + duplicate + uplinks_quarantined, "the account of partition {partition}");
            let Counts { measurements, stored, unchanged, late_duplicate, measurements_quarantined, .. } = counts;
            let become_of = stored + unchanged + late_duplicate + measurements_quarantined;
            assert_eq!(measurements, become_of, "the account of partition {partition}");
            let mut reached = self.reached.lock().unwrap();
            let reached = reached.entry(partition).or_insert(to);
            *reached = to.max(*reached);
        }
        assert!(found.is_empty(), "rows of a partition that does not advance: {found:?}");
        if let Some(checkpoint) = &commit.checkpoint {
            let is_reached = |a: &Advance| a.partition == checkpoint.partition && a.to >= checkpoint.offset;
            assert!(
                commit.advances.iter().any(is_reached),
                "the checkpoint of partition {} stands at {}",
                checkpoint.partition,
                checkpoint.offset
            );
        }
    }

    /// The tables are what the oracle says of the log up to their progress.
    pub(super) fn check_tables(&mut self, tables: &Tables) {
        for partition in (0..PARTITIONS).map(Partition) {
            let to = tables.progress.get(&partition).map_or(Offset(0), |progress| progress.offset);
            self.read_to(partition, to);
            let mut found = tables.rows.get(&partition).cloned().unwrap_or_default();
            let story = &self.partitions[usize::from(partition.0)];
            let mut expected: Vec<_> = story.rows.iter().filter(|(at, _)| *at < to).cloned().collect();
            found.sort();
            expected.sort();
            same_rows(partition, &found, &expected);
        }
    }

    /// Lets the oracle read on. The verdicts on what it reads have to be in the log.
    fn read_to(&mut self, partition: Partition, to: Offset) {
        let story = &mut self.partitions[usize::from(partition.0)];
        assert!(to.0 as usize <= story.records.len(), "{to} of partition {partition} is beyond the log");
        while story.counts.len() < to.0 as usize {
            let RawRecord { offset, log_time, body } = story.records[story.counts.len()].clone();
            let mut unreadable = Outputs::default();
            let record = codec::decode(&body).unwrap_or_else(|_| {
                let row = Quarantined {
                    log_time,
                    tenant: TenantNo(0),
                    device: DeviceId::parse("unknown").expect("the name is well-formed"),
                    field: None,
                    reason: Reason::BadRecord,
                    detail: String::new(),
                    record: body.to_vec(),
                };
                unreadable.quarantined.push(Placed { partition, offset, row });
                Record::Tick
            });
            let condemned = story.condemned.contains(&offset);
            let mut outputs = self.oracle.run(&[Entry { partition, offset, log_time, condemned, record }], &mut Plain);
            outputs.append(&mut unreadable);
            story.rows.extend(rows(&outputs).into_iter().map(|(_, offset, row)| (offset, row)));
            story.counts.push(self.oracle.counts(partition));
        }
    }
}

fn same_rows(partition: Partition, found: &[(Offset, String)], expected: &[(Offset, String)]) {
    if found == expected {
        return;
    }
    let surplus = found.iter().find(|row| count(found, row) > count(expected, row));
    let missing = expected.iter().find(|row| count(expected, row) > count(found, row));
    panic!("partition {partition} has {} rows, not {}; surplus: {surplus:?}, missing: {missing:?}", found.len(), expected.len());
}

fn count(rows: &[(Offset, String)], row: &(Offset, String)) -> usize {
    rows.iter().filter(|other| *other == row).count()
}
