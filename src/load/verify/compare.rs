//! Owns the comparison of the tables with the expectation; pure.

use super::tables::SeriesKey;
use super::{DifferenceKind, Row, Tables, Verified};
use crate::load::expectation::{Bucket, BucketExpectation, SeriesExpectation};
use crate::load::kinds::Field;
use crate::load::{Expectation, Rules};
use dataflows::model::{BucketLevel, Counts, EventTime, LogTime, Partition, Reason};
use std::ops::RangeInclusive;

/// Decoders may round a power, sums may be added in another order: values that are this near are equal.
const TOLERANCE: f64 = 1e-9;

/// Compares tables with what the acknowledged uplinks ask for.
pub fn compare(expectation: &Expectation, rules: &Rules, tables: &Tables) -> Verified {
    let copies = expectation.copies();
    let mut verified = Verified::new(copies.acknowledged, copies.unanswered);
    let fleet = expectation.fleet();
    for (member, device) in fleet.members().iter().zip(0..) {
        let settled = log_time_of(tables, &member.id);
        for (place, field) in member.kind.spec().fields.iter().enumerate() {
            let series = Series { key: (device, place), device: member.id.as_str(), field };
            let expected = expectation.series(device, field, rules);
            verified.series += u64::from(!expected.rows.is_empty());
            series.compare_raw(&expected, tables, &mut verified);
            for level in [BucketLevel::Hour, BucketLevel::Day] {
                let expected = expectation.buckets(device, field, level, rules);
                series.compare_rollup(level, &expected, settled, tables, &mut verified);
            }
        }
    }
    for series in &tables.unknown_fields {
        let detail = || "the device's kind has no such field, or of another kind of value".to_owned();
        verified.differs(DifferenceKind::UnknownField, || series.clone(), detail);
    }
    compare_accounts(expectation, tables, &mut verified);
    verified
}

/// Log time of the partition that holds a device.
fn log_time_of(tables: &Tables, device: &dataflows::model::DeviceId) -> Option<LogTime> {
    let partitions = u16::try_from(tables.log_times.len()).ok().filter(|partitions| *partitions > 0)?;
    let Partition(partition) = Partition::of(device, partitions);
    tables.log_times[usize::from(partition)]
}

/// One series, with the names that a reader knows.
struct Series<'a> {
    key: SeriesKey,
    device: &'a str,
    field: &'a Field,
}

impl Series<'_> {
    fn place(&self, at: EventTime) -> String {
        let time = jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |time| time.to_string());
        format!("{} {} {time}", self.device, self.field.name)
    }

    /// Walks through rows and expectation side by side, both in the order of their times.
    fn compare_raw(&self, expected: &SeriesExpectation, tables: &Tables, verified: &mut Verified) {
        let mut rows = tables.raw.get(&self.key).map_or(&[][..], Vec::as_slice);
        verified.raw_rows += rows.len() as u64;
        for (measured, required) in &expected.rows {
            let before = rows.partition_point(|row| row.at < measured.at);
            let same = rows.partition_point(|row| row.at <= measured.at);
            let (invented, here) = rows[..same].split_at(before);
            rows = &rows[same..];
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
        tables: &Tables,
        verified: &mut Verified,
    ) {
        let place = |at: EventTime| format!("{} ({level:?})", self.place(at));
        let merged = tables.rollups(level).get(&self.key);
        for BucketExpectation { start, bucket, settled_at } in expected {
            if settled_at.zip(log_time).is_none_or(|(settled_at, log_time)| settled_at > log_time) {
                verified.open_buckets_skipped += 1;
                continue;
            }
            verified.buckets += 1;
            let found = merged.and_then(|merged| merged.get(start));
            if !found.is_some_and(|found| alike(found, bucket)) {
                let detail = || format!("expected {bucket:?}, found {found:?}");
                verified.differs(DifferenceKind::Rollup, || place(*start), detail);
            }
        }
        let starts = merged.into_iter().flat_map(|merged| merged.keys());
        for start in starts.filter(|start| expected.binary_search_by_key(*start, |e| e.start).is_err()) {
            let detail = || "the device sent nothing in this bucket".to_owned();
            verified.differs(DifferenceKind::Invented, || place(*start), detail);
        }
    }
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * one.abs().max(other.abs())
}

fn alike(one: &Bucket, other: &Bucket) -> bool {
    one.count == other.count
        && (one.first.0, one.last.0) == (other.first.0, other.last.0)
        && [
            (one.sum, other.sum),
            (one.min, other.min),
            (one.max, other.max),
            (one.first.1, other.first.1),
            (one.last.1, other.last.1),
        ]
        .into_iter()
        .all(|(one, other)| near(one, other))
}

/// Holds the daemon's accounts against each other and against what was sent.
fn compare_accounts(expectation: &Expectation, tables: &Tables, verified: &mut Verified) {
    let expected = expectation.counts();
    let copies = expectation.copies();
    let Counts {
        uplinks,
        duplicate,
        uplinks_quarantined,
        uplinks_decoded,
        measurements,
        stored,
        unchanged,
        late_duplicate,
        measurements_quarantined,
        stored_afterwards,
    } = tables.counts;
    let logical = expected.decoded + expected.refused;
    let logical_maybe = expected.decoded_maybe + expected.refused_maybe;

    let mut account = |name: &str, found: u64, expected: RangeInclusive<u64>| {
        if !expected.contains(&found) {
            let detail = || match (expected.start(), expected.end()) {
                (least, most) if least == most => format!("expected {least}, found {found}"),
                (least, most) => format!("expected {least} to {most}, found {found}"),
            };
            verified.differs(DifferenceKind::Accounting, || name.to_owned(), detail);
        }
    };
    let exactly = |figure: u64| figure..=figure;
    let or_more = |figure: u64, maybe: u64| figure..=figure + maybe;
    account("uplinks", uplinks, or_more(copies.acknowledged, copies.unanswered));
    account("uplinks_decoded", uplinks_decoded, or_more(expected.decoded, expected.decoded_maybe));
    account("uplinks_quarantined", uplinks_quarantined, or_more(expected.refused, expected.refused_maybe));
    account("uplinks_decoded + uplinks_quarantined", uplinks_decoded + uplinks_quarantined, or_more(logical, logical_maybe));
    account(
        "uplinks_decoded + duplicate + uplinks_quarantined",
        uplinks_decoded + duplicate + uplinks_quarantined,
        exactly(uplinks),
    );
    account("measurements", measurements, or_more(expected.measurements, expected.measurements_maybe));
    let accounted = stored + unchanged + late_duplicate + measurements_quarantined;
    account("stored + unchanged + late_duplicate + measurements_quarantined", accounted, exactly(measurements));
    account("late_duplicate", late_duplicate, exactly(0));
    account("measurements_quarantined", measurements_quarantined, exactly(0));
    account("raw rows", tables.raw_rows, exactly(stored + stored_afterwards));

    let refused = expected.refused..=expected.refused + expected.refused_maybe;
    let reasons = [(Reason::DecoderError.as_str(), 0)].into_iter();
    let found = tables.quarantine.iter().map(|(reason, rows)| (reason.as_str(), *rows));
    let mut quarantine: std::collections::BTreeMap<&str, u64> = reasons.collect();
    quarantine.extend(found);
    for (reason, rows) in quarantine {
        let expected = if reason == Reason::DecoderError.as_str() { refused.clone() } else { 0..=0 };
        if !expected.contains(&rows) {
            let detail = || format!("expected {} to {} rows, found {rows}", expected.start(), expected.end());
            verified.differs(DifferenceKind::Quarantine, || reason.to_owned(), detail);
        }
    }
}
