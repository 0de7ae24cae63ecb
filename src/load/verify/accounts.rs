//! Owns the daemon's own accounts: what it says it did, held against itself and against what was sent.

use super::{DifferenceKind, Verified, VerifyError};
use crate::load::Expectation;
use crate::store::Timestamp;
use dataflows::model::{Counts, LogTime, Reason, TenantNo};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use tokio_postgres::Transaction;
use tokio_postgres::types::Json;

/// What is counted in a database.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Accounts {
    /// How many rows the quarantine holds, by reason.
    pub quarantine: BTreeMap<String, u64>,
    /// All raw rows of all series and value types.
    pub raw_rows: u64,
    /// Log time of each partition.
    pub log_times: Vec<Option<LogTime>>,
    /// The accounts of all partitions together.
    pub counts: Counts,
}

impl Accounts {
    /// Reads what is counted: all raw rows, the quarantine, the progress.
    ///
    /// Errors: the database cannot be read.
    pub(super) async fn read(snapshot: &Transaction<'_>, tenant: TenantNo, class: &str) -> Result<Self, VerifyError> {
        let mut accounts = Self::default();
        let sql = format!(
            "SELECT (SELECT count(*) FROM measurement{class}) + (SELECT count(*) FROM measurement_text{class}) \
             + (SELECT count(*) FROM measurement_location{class})"
        );
        accounts.raw_rows = snapshot.query_one(&sql, &[]).await?.try_get::<_, i64>(0)?.cast_unsigned();
        let sql = "SELECT reason, count(*) FROM quarantine WHERE tenant_no = $1 GROUP BY reason";
        for row in snapshot.query(sql, &[&tenant.0.cast_signed()]).await? {
            accounts.quarantine.insert(row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned());
        }
        for row in snapshot.query(r#"SELECT counts, log_time FROM progress ORDER BY "partition""#, &[]).await? {
            let Json(counts): Json<Counts> = row.try_get(0)?;
            accounts.counts += counts;
            let log_time: Option<Timestamp> = row.try_get(1)?;
            accounts.log_times.push(log_time.map(|Timestamp(us)| LogTime(us)));
        }
        Ok(accounts)
    }

    /// Holds the accounts against each other and against what was sent.
    pub(super) fn compare(&self, expectation: &Expectation, verified: &mut Verified) {
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
            thinned,
        } = self.counts;
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
            "uplinks_decoded + duplicate + uplinks_quarantined + thinned",
            uplinks_decoded + duplicate + uplinks_quarantined + thinned,
            exactly(uplinks),
        );
        // The fleet has no quota.
        account("thinned", thinned, exactly(0));
        account("measurements", measurements, or_more(expected.measurements, expected.measurements_maybe));
        let accounted = stored + unchanged + late_duplicate + measurements_quarantined;
        account("stored + unchanged + late_duplicate + measurements_quarantined", accounted, exactly(measurements));
        account("late_duplicate", late_duplicate, exactly(0));
        account("measurements_quarantined", measurements_quarantined, exactly(0));
        account("raw rows", self.raw_rows, exactly(stored + stored_afterwards));
        self.compare_quarantine(expected.refused..=expected.refused + expected.refused_maybe, verified);
    }

    fn compare_quarantine(&self, refused: RangeInclusive<u64>, verified: &mut Verified) {
        let mut quarantine = BTreeMap::from([(Reason::DecoderError.as_str(), 0)]);
        quarantine.extend(self.quarantine.iter().map(|(reason, rows)| (reason.as_str(), *rows)));
        for (reason, rows) in quarantine {
            let expected = if reason == Reason::DecoderError.as_str() { refused.clone() } else { 0..=0 };
            if !expected.contains(&rows) {
                let detail = || format!("expected {} to {} rows, found {rows}", expected.start(), expected.end());
                verified.differs(DifferenceKind::Quarantine, || reason.to_owned(), detail);
            }
        }
    }
}
