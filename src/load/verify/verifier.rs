//! Owns the comparison of rows with the expectation; pure.

use super::{Accounts, DifferenceKind, Row, Verified};
use crate::load::expectation::{Bucket, BucketExpectation, SeriesExpectation};
use crate::load::kinds::Field;
use crate::load::{Expectation, Rules};
use dataflows::model::{BucketLevel, DeviceId, EventTime, LogTime, Partition};
use std::collections::HashSet;

/// Decoders may round a power, sums may be added in another order: values that are this near are equal.
const TOLERANCE: f64 = 1e-9;

/// A field of a device of the fleet: the device's number, and the field's place in the kind's list.
pub type SeriesKey = (u32, usize);

/// A verdict in the making: it is given the rows of one series after the other.
pub struct Verifier<'a> {
    expectation: &'a Expectation,
    rules: &'a Rules,
    log_times: &'a [Option<LogTime>],
    verified: Verified,
    /// What was given, by pass: raw rows, hours, days.
    given: [HashSet<SeriesKey>; 3],
}

impl<'a> Verifier<'a> {
    /// Begins. `log_times` are those of the partitions: what can no longer change is told from them.
    pub fn new(expectation: &'a Expectation, rules: &'a Rules, log_times: &'a [Option<LogTime>]) -> Self {
        let copies = expectation.copies();
        let verified = Verified::new(copies.acknowledged, copies.unanswered);
        Self { expectation, rules, log_times, verified, given: Default::default() }
    }

    /// Compares the raw rows of a series, in the order of their times.
    pub fn raw(&mut self, key: SeriesKey, rows: &[Row]) {
        self.given[0].insert(key);
        let series = Series::of(self.expectation, key);
        let expected = self.expectation.series(key.0, series.field, self.rules);
        self.verified.series += u64::from(!expected.rows.is_empty());
        series.compare_raw(&expected, rows, &mut self.verified);
    }

    /// Compares the merged buckets of a series, in the order of their starts.
    pub fn rollup(&mut self, level: BucketLevel, key: SeriesKey, merged: &[(EventTime, Bucket)]) {
        self.given[1 + usize::from(level == BucketLevel::Day)].insert(key);
        let series = Series::of(self.expectation, key);
        let expected = self.expectation.buckets(key.0, series.field, level, self.rules);
        let log_time = self.log_time_of(key.0);
        series.compare_rollup(level, &expected, log_time, merged, &mut self.verified);
    }

    /// Compares the series that no rows were given of, and the accounts, and gives the verdict.
    /// `unknown` names series that the fleet's devices should not have.
    pub fn finish(mut self, unknown: &[String], accounts: &Accounts) -> Verified {
        for (member, device) in self.expectation.fleet().members().iter().zip(0..) {
            for key in (0..member.kind.spec().fields.len()).map(|place| (device, place)) {
                if !self.given[0].contains(&key) {
                    self.raw(key, &[]);
                }
                for (pass, level) in [(1, BucketLevel::Hour), (2, BucketLevel::Day)] {
                    if !self.given[pass].contains(&key) {
                        self.rollup(level, key, &[]);
                    }
                }
            }
        }
        for series in unknown {
            let detail = || "the device's kind has no such field, or of another kind of value".to_owned();
            self.verified.differs(DifferenceKind::UnknownField, || series.clone(), detail);
        }
        accounts.compare(self.expectation, &mut self.verified);
        for (what, count) in [("acknowledged uplinks", self.verified.acknowledged), ("raw rows", self.verified.raw_rows)] {
            if count == 0 {
                let detail = || "there are none, so there is nothing to verify".to_owned();
                self.verified.differs(DifferenceKind::Nothing, || what.to_owned(), detail);
            }
        }
        self.verified
    }

    /// Log time of the partition that holds a device.
    fn log_time_of(&self, device: u32) -> Option<LogTime> {
        let partitions = u16::try_from(self.log_times.len()).ok().filter(|partitions| *partitions > 0)?;
        let Partition(partition) = Partition::of(&self.expectation.fleet().member(device).id, partitions);
        self.log_times[usize::from(partition)]
    }
}

/// One series, with the names that a reader knows.
struct Series<'a> {
    device: &'a DeviceId,
    field: &'static Field,
}

impl<'a> Series<'a> {
    fn of(expectation: &'a Expectation, (device, place): SeriesKey) -> Self {
        let member = expectation.fleet().member(device);
        Self { device: &member.id, field: &member.kind.spec().fields[place] }
    }

    fn place(&self, at: EventTime) -> String {
        let time = jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |time| time.to_string());
        format!("{} {} {time}", self.device, self.field.name)
    }

    /// Walks through rows and expectation side by side, both in the order of their times.
    fn compare_raw(&self, expected: &SeriesExpectation, mut rows: &[Row], verified: &mut Verified) {
        verified.raw_rows += rows.len() as u64;
        for (measured, required) in &expected.rows {
            let before = rows.iter().take_while(|row| row.at < measured.at).count();
            let same = rows[before..].iter().take_while(|row| row.at <= measured.at).count();
            let (invented, here) = rows[..before + same].split_at(before);
            rows = &rows[before + same..];
            self.invented(invented, verified);
            match here {
                [] if *required => {
                    let detail = || format!("{} must be stored and is not there", measured.value);
                    verified.differs(DifferenceKind::Lost, || self.place(measured.at), detail);
                }
                [] => {}
                [first, more @ ..] => {
                    if !near(first.value, measured.value) {
                        let detail = || format!("{} was read, {} is stored", measured.value, first.value);
                        verified.differs(DifferenceKind::Wrong, || self.place(measured.at), detail);
                    }
                    for again in more {
                        let detail = || format!("{} is stored again", again.value);
                        verified.differs(DifferenceKind::Doubled, || self.place(measured.at), detail);
                    }
                }
            }
        }
        self.invented(rows, verified);
    }

    fn invented(&self, rows: &[Row], verified: &mut Verified) {
        for row in rows {
            let detail = || format!("{} is stored; the device sent nothing with this time", row.value);
            verified.differs(DifferenceKind::Invented, || self.place(row.at), detail);
        }
    }

    fn compare_rollup(
        &self,
        level: BucketLevel,
        expected: &[BucketExpectation],
        log_time: Option<LogTime>,
        merged: &[(EventTime, Bucket)],
        verified: &mut Verified,
    ) {
        let place = |at: EventTime| format!("{} ({level:?})", self.place(at));
        for BucketExpectation { start, bucket, settled_at } in expected {
            if settled_at.zip(log_time).is_none_or(|(settled_at, log_time)| settled_at > log_time) {
                verified.open_buckets_skipped += 1;
                continue;
            }
            verified.buckets += 1;
            let found = merged.binary_search_by_key(start, |(start, _)| *start).ok().map(|at| &merged[at].1);
            if !found.is_some_and(|found| alike(found, bucket)) {
                let detail = || format!("expected {bucket:?}, found {found:?}");
                verified.differs(DifferenceKind::Rollup, || place(*start), detail);
            }
        }
        for (start, _) in merged.iter().filter(|(start, _)| expected.binary_search_by_key(start, |e| e.start).is_err()) {
            let detail = || "the device sent nothing in this bucket".to_owned();
            verified.differs(DifferenceKind::Invented, || place(*start), detail);
        }
    }
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * one.abs().max(other.abs())
}

/// A sum may cancel to nearly nothing; how exact it is depends on what was added.
fn sums_near(one: &Bucket, other: &Bucket) -> bool {
    let largest = [one.min, one.max, other.min, other.max].into_iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    (one.sum - other.sum).abs() <= TOLERANCE * (one.sum.abs() + one.count as f64 * largest)
}

fn alike(one: &Bucket, other: &Bucket) -> bool {
    one.count == other.count
        && (one.first.0, one.last.0) == (other.first.0, other.last.0)
        && sums_near(one, other)
        && [(one.min, other.min), (one.max, other.max), (one.first.1, other.first.1), (one.last.1, other.last.1)]
            .into_iter()
            .all(|(one, other)| near(one, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_cancel_may_differ_by_what_rounding_leaves() {
        let bucket =
            |sum: f64| Bucket { count: 4, sum, min: -1e6, max: 1e6, first: (EventTime(0), 1e6), last: (EventTime(1), -1e6) };
        assert!(alike(&bucket(0.0), &bucket(1e-9)));
        assert!(!alike(&bucket(0.0), &bucket(0.1)));
        assert!(!near(0.0, 1e-9));
    }
}
