//! The buckets of an answer while partials are put into them.
//!
//! A partial knows the times of its first and last measurement, so it is certain where it belongs when both lie in
//! one bucket, however its own bounds were drawn. Where they do not, the bucket is *mixed*: days that span one of
//! its edges are then read again as hours, and an hour that does is assigned to the bucket of its first measurement.

use super::calendar::Buckets;
use super::groups::Group;
use super::merge::{Merged, Piece};
use dataflows::model::SeriesId;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// What is known of a bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Entry {
    pub(super) merged: Merged,
    /// Whether one of its partials is open.
    pub(super) open: bool,
}

/// All buckets of all groups.
pub(super) struct Sheet<'a> {
    buckets: &'a Buckets,
    group_of: HashMap<SeriesId, usize>,
    /// One map for each group, by bucket.
    entries: Vec<BTreeMap<usize, Entry>>,
    /// For each group, whether an hour that spans an edge was assigned whole.
    approximate: Vec<bool>,
    /// For each bucket, whether a day spans one of its edges.
    mixed: Vec<bool>,
}

impl<'a> Sheet<'a> {
    /// Makes an empty sheet.
    pub(super) fn new(buckets: &'a Buckets, groups: &[Group]) -> Self {
        let numbered = groups.iter().enumerate();
        Self {
            buckets,
            group_of: numbered.flat_map(|(group, g)| g.series.iter().map(move |series| (*series, group))).collect(),
            entries: vec![BTreeMap::new(); groups.len()],
            approximate: vec![false; groups.len()],
            mixed: vec![false; buckets.len()],
        }
    }

    /// Takes a day, or marks the buckets that it spans.
    pub(super) fn day(&mut self, piece: &Piece) {
        match self.place(piece) {
            Place::Outside => {}
            Place::In(bucket) => self.put(bucket, piece),
            Place::Across(buckets) => self.mixed[buckets].fill(true),
        }
    }

    /// Empties the mixed buckets for hours, and gives a range that holds them all.
    pub(super) fn open_mixed(&mut self) -> Option<Range<usize>> {
        let first = self.mixed.iter().position(|mixed| *mixed)?;
        let last = self.mixed.iter().rposition(|mixed| *mixed)?;
        for entries in &mut self.entries {
            entries.retain(|bucket, _| !self.mixed[*bucket]);
        }
        Some(first..last + 1)
    }

    /// Takes an hour, into mixed buckets only.
    pub(super) fn hour_of_mixed(&mut self, piece: &Piece) {
        self.hour_where(piece, |mixed| mixed);
    }

    /// Takes an hour.
    pub(super) fn hour(&mut self, piece: &Piece) {
        self.hour_where(piece, |_| true);
    }

    fn hour_where(&mut self, piece: &Piece, wanted: impl Fn(bool) -> bool) {
        let bucket = match self.place(piece) {
            Place::Outside => return,
            Place::In(bucket) => Some(bucket),
            Place::Across(_) => {
                if let Some(group) = self.group_of.get(&piece.series) {
                    self.approximate[*group] = true;
                }
                self.buckets.find(piece.merged.first.at)
            }
        };
        if let Some(bucket) = bucket.filter(|bucket| wanted(self.mixed[*bucket])) {
            self.put(bucket, piece);
        }
    }

    fn place(&self, piece: &Piece) -> Place {
        let (first, last) = (piece.merged.first.at, piece.merged.last.at);
        let (start, end) = (self.buckets.start(0), self.buckets.end(self.buckets.len() - 1));
        if last < start || first >= end {
            return Place::Outside;
        }
        match (self.buckets.find(first), self.buckets.find(last)) {
            (Some(from), Some(to)) if from == to => Place::In(from),
            (from, to) => Place::Across(from.unwrap_or(0)..to.map_or(self.buckets.len(), |to| to + 1)),
        }
    }

    fn put(&mut self, bucket: usize, piece: &Piece) {
        let Some(group) = self.group_of.get(&piece.series) else { return };
        let entries = &mut self.entries[*group];
        let new = Entry { merged: piece.merged, open: piece.open };
        let known = entries.entry(bucket);
        known.and_modify(|entry| entry.take(&new)).or_insert(new);
    }

    /// Gives the buckets of each group that have measurements, and whether some were assigned whole.
    pub(super) fn finish(self) -> impl Iterator<Item = (BTreeMap<usize, Entry>, bool)> {
        self.entries.into_iter().zip(self.approximate)
    }
}

enum Place {
    Outside,
    In(usize),
    Across(Range<usize>),
}

impl Entry {
    fn take(&mut self, other: &Self) {
        self.merged.add(&other.merged);
        self.open |= other.open;
    }
}

#[cfg(test)]
#[path = "sheet_tests.rs"]
mod tests;
