//! What a database holds, as a function of all that was ever committed.

use crate::store::{Advance, Checkpoint, Commit, Progress, Taken};
use dataflows::model::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use uuid::Uuid;

/// Something that was committed.
#[derive(Clone)]
pub(super) enum Committed {
    /// A partition was taken.
    Taking { partition: Partition, owner: String, log: Uuid },
    /// Rows came.
    Rows(Arc<[Commit]>),
}

/// The tables.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub progress: BTreeMap<Partition, Progress>,
    /// The last two of each partition, the older one first.
    pub checkpoints: BTreeMap<Partition, Vec<Checkpoint>>,
    /// Every row, with the record that caused it.
    pub rows: BTreeMap<Partition, Vec<(Offset, String)>>,
    pub series: Vec<CatalogueSeries>,
}

impl Tables {
    /// Gives the tables after all of this.
    pub(super) fn after(history: &[Committed]) -> Self {
        let mut tables = Self::default();
        history.iter().for_each(|committed| tables.apply(committed));
        tables
    }

    /// Applies what was committed next.
    pub(super) fn apply(&mut self, committed: &Committed) {
        match committed {
            Committed::Taking { partition, owner, log } => {
                let progress = self.progress.entry(*partition).or_insert_with(|| untouched(*partition, *log));
                progress.owner_epoch += 1;
                progress.owner.clone_from(owner);
            }
            Committed::Rows(commits) => commits.iter().for_each(|commit| self.add(commit)),
        }
    }

    fn add(&mut self, commit: &Commit) {
        for Advance { partition, to, counts, log_time, .. } in &commit.advances {
            let progress = self.progress.get_mut(partition).expect("a fence lets only taken partitions pass");
            (progress.offset, progress.counts, progress.log_time) = (*to, *counts, Some(*log_time));
        }
        for (partition, offset, row) in rows(&commit.outputs) {
            self.rows.entry(partition).or_default().push((offset, row));
        }
        self.series.extend(commit.outputs.series.iter().map(|placed| placed.row.clone()));
        if let Some(checkpoint) = &commit.checkpoint {
            let kept = self.checkpoints.entry(checkpoint.partition).or_default();
            kept.retain(|other| other.offset != checkpoint.offset);
            kept.push(checkpoint.clone());
            kept.sort_by_key(|checkpoint| checkpoint.offset);
            kept.drain(..kept.len().saturating_sub(2));
        }
    }

    /// Gives the first partition that does not stand where it is to be moved from, under its epoch.
    pub(super) fn fence<'a>(&self, advances: impl IntoIterator<Item = &'a Advance>) -> Option<Partition> {
        let stands = |advance: &Advance| {
            let progress = self.progress.get(&advance.partition);
            progress.is_some_and(|progress| progress.offset == advance.from && progress.owner_epoch == advance.owner_epoch)
        };
        advances.into_iter().filter(|advance| !stands(advance)).map(|advance| advance.partition).min()
    }

    /// Tells how a partition was taken last.
    pub(super) fn taken(&self, partition: Partition) -> Taken {
        let Progress { offset, begins, owner_epoch, .. } = self.progress[&partition];
        Taken { partition, offset, begins, owner_epoch }
    }

    /// Gives the newest checkpoint of a partition that its progress has reached.
    pub(super) fn newest(&self, partition: Partition) -> Option<&Checkpoint> {
        let reached = self.progress.get(&partition)?.offset;
        self.checkpoints.get(&partition)?.iter().rev().find(|checkpoint| checkpoint.offset <= reached)
    }

    /// Gives oldest and newest checkpoint of each partition.
    pub(super) fn kept(&self) -> Vec<(Partition, Offset, Offset)> {
        let ends =
            |(partition, kept): (&Partition, &Vec<Checkpoint>)| Some((*partition, kept.first()?.offset, kept.last()?.offset));
        self.checkpoints.iter().filter_map(ends).collect()
    }

    /// Whether a log that begins here has all behind the oldest checkpoint of each partition.
    pub(super) fn are_reached_by(&self, start: impl Fn(Partition) -> Offset) -> bool {
        let oldest = |partition| self.checkpoints.get(&partition).and_then(|kept| Some(kept.first()?.offset));
        (0..super::fleet::PARTITIONS).map(Partition).all(|partition| start(partition) <= oldest(partition).unwrap_or(Offset(0)))
    }

    /// Whether a log that begins here brings them on, partition by partition.
    pub(super) fn go_on_with(&self, start: impl Fn(Partition) -> Offset) -> bool {
        let needed = |partition| self.newest(partition).map_or(Offset(0), |checkpoint| checkpoint.offset);
        (0..super::fleet::PARTITIONS).map(Partition).all(|partition| start(partition) <= needed(partition))
    }
}

fn untouched(partition: Partition, log: Uuid) -> Progress {
    Progress {
        partition,
        offset: Offset(0),
        begins: Offset(0),
        owner_epoch: 0,
        owner: String::new(),
        log,
        counts: Counts::default(),
        refused: 0,
        log_time: None,
    }
}

/// Gives all rows as text, each with the record that caused it. What is said to a reader of quarantine is left out,
/// for the oracle does not say it.
pub(super) fn rows(outputs: &Outputs) -> Vec<(Partition, Offset, String)> {
    fn add<T: Debug>(rows: &mut Vec<(Partition, Offset, String)>, table: &str, placed: &[Placed<T>]) {
        rows.extend(placed.iter().map(|Placed { partition, offset, row }| (*partition, *offset, format!("{table} {row:?}"))));
    }
    let mut rows = Vec::new();
    let Outputs { devices, series, numbers, texts, locations, partials, quarantined, released } = outputs;
    add(&mut rows, "device", devices);
    add(&mut rows, "series", series);
    add(&mut rows, "measurement", numbers);
    add(&mut rows, "measurement_text", texts);
    add(&mut rows, "measurement_location", locations);
    add(&mut rows, "rollup", partials);
    add(&mut rows, "released", released);
    let unsaid = |placed: &Placed<Quarantined>| Placed {
        row: Quarantined { detail: String::new(), ..placed.row.clone() },
        ..placed.clone()
    };
    add(&mut rows, "quarantine", &quarantined.iter().map(unsaid).collect::<Vec<_>>());
    rows
}
