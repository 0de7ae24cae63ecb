//! Owns the report: how many differences of each kind, with examples for a reader.

use serde::Serialize;
use std::collections::BTreeMap;

/// How many examples of each kind a report shows.
const EXAMPLES_MAX: u64 = 10;

/// A kind of difference between the tables and the expectation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// A required raw row is not there.
    Lost,
    /// A raw row is there again.
    Doubled,
    /// A raw row or a bucket is there that no uplink asked for.
    Invented,
    /// A raw row has another value than the device read.
    Wrong,
    /// A series of the fleet's devices is there that their decoders should not give.
    UnknownField,
    /// A settled bucket has other aggregates, or is not there.
    Rollup,
    /// The quarantine holds more or less than the bad uplinks.
    Quarantine,
    /// The daemon's accounts do not add up, or not to what was sent.
    Accounting,
    /// Nothing was acknowledged or nothing stored, and an empty table proves nothing.
    Nothing,
}

impl DifferenceKind {
    const ALL: [Self; 9] = [
        Self::Lost,
        Self::Doubled,
        Self::Invented,
        Self::Wrong,
        Self::UnknownField,
        Self::Rollup,
        Self::Quarantine,
        Self::Accounting,
        Self::Nothing,
    ];
}

/// One difference, for a reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// What kind it is.
    pub kind: DifferenceKind,
    /// Where it is: device, field and time, or the account.
    pub place: String,
    /// What was expected, and what is there.
    pub detail: String,
}

/// The verdict on a database.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verified {
    /// Whether there is no difference at all.
    pub ok: bool,
    /// Copies of uplinks that were acknowledged.
    pub acknowledged: u64,
    /// Copies of uplinks that nobody knows about.
    pub unanswered: u64,
    /// Series that were compared.
    pub series: u64,
    /// Raw rows that were compared.
    pub raw_rows: u64,
    /// Buckets of hours and days that were compared.
    pub buckets: u64,
    /// Buckets that can still change: open, or touched by late data in this log hour.
    pub open_buckets_skipped: u64,
    /// How many differences there are of each kind.
    pub differences: BTreeMap<DifferenceKind, u64>,
    /// The first ten of each kind.
    pub examples: Vec<Difference>,
}

impl Verified {
    pub(super) fn new(acknowledged: u64, unanswered: u64) -> Self {
        Self {
            ok: true,
            acknowledged,
            unanswered,
            series: 0,
            raw_rows: 0,
            buckets: 0,
            open_buckets_skipped: 0,
            differences: DifferenceKind::ALL.iter().map(|kind| (*kind, 0)).collect(),
            examples: Vec::new(),
        }
    }

    /// Gives how many differences there are of a kind.
    pub fn count(&self, kind: DifferenceKind) -> u64 {
        self.differences[&kind]
    }

    /// Notes a difference; the texts are made for examples only.
    pub(super) fn differs(&mut self, kind: DifferenceKind, place: impl FnOnce() -> String, detail: impl FnOnce() -> String) {
        self.ok = false;
        let count = self.differences.entry(kind).or_insert(0);
        *count += 1;
        if *count <= EXAMPLES_MAX {
            self.examples.push(Difference { kind, place: place(), detail: detail() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_ten_examples_of_each_kind_and_counts_all() {
        let mut verified = Verified::new(0, 0);
        for n in 0..25 {
            verified.differs(DifferenceKind::Lost, || n.to_string(), String::new);
        }
        verified.differs(DifferenceKind::Wrong, String::new, String::new);
        assert_eq!((verified.count(DifferenceKind::Lost), verified.count(DifferenceKind::Wrong)), (25, 1));
        assert_eq!(verified.examples.len(), 11);
        assert_eq!(verified.examples[9].place, "9");
        let json = serde_json::to_value(&verified).unwrap();
        assert_eq!(json["differences"]["lost"], 25);
        assert_eq!(json["differences"]["accounting"], 0);
        assert_eq!(json["examples"][10]["kind"], "wrong");
        assert_eq!(json["ok"], false);
    }
}
