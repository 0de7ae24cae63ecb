//! Series that the tables do not take: their rows go to quarantine, commit after commit, and
//! everything beside them goes on.
//!
//! Invariant: no row of a series is written whose row in `series` is missing or means another one.
//! What is refused stands in `series_refused`, written by the commit that found it out.

use super::bisect::RefusedRow;
use super::catalogue::numbered;
use super::commit::Commits;
use super::copy::clean;
use super::error::{Doing, StoreError};
use super::rows::Row;
use super::session::Session;
use dataflows::model::{CatalogueSeries, SeriesId};
use std::collections::HashMap;
use tokio_postgres::{Client, Error};

/// A series whose rows go to quarantine.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RefusedSeries {
    pub(super) series: CatalogueSeries,
    pub(super) why: String,
}

/// All of them, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct RefusedSeriesSet(HashMap<SeriesId, RefusedSeries>);

impl RefusedSeriesSet {
    /// Reads the table `series_refused`.
    pub(super) async fn read(client: &Client) -> Result<Self, StoreError> {
        let sql = "SELECT series_id, tenant_no, device, field, kind, unit, class_no, why FROM series_refused";
        let rows = client.query(sql, &[]).await.doing("the refused series could not be read")?;
        let refused = |row| Some(RefusedSeries { series: numbered(row)?, why: row.get(7) });
        Ok(rows.iter().filter_map(refused).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was found.
    pub(super) fn extend(&mut self, found: impl IntoIterator<Item = RefusedSeries>) {
        self.0.extend(found.into_iter().map(|refused| (refused.series.series, refused)));
    }

    /// Makes a row for quarantine of a row whose series is among these.
    pub(super) fn set_aside(&self, commits: Commits<'_>, table: &str, row: &Row<'_>) -> Option<RefusedRow> {
        let refused = self.0.get(&row.series()?)?;
        let CatalogueSeries { series, tenant, device, field, .. } = &refused.series;
        let detail = format!(
            "the table {table} was not given {}: series {series} is refused, since {}. Mend that, then retry; or remove the device \
             and add it again: it then has new series",
            row.describe(),
            refused.why
        );
        let whose = (Some(tenant.0.cast_signed()), Some(device.to_string()), Some(field.to_string()));
        Some(RefusedRow::new(commits, table, row, whose, detail))
    }
}

impl FromIterator<RefusedSeries> for RefusedSeriesSet {
    fn from_iter<I: IntoIterator<Item = RefusedSeries>>(found: I) -> Self {
        let mut set = Self::default();
        set.extend(found);
        set
    }
}

impl Session {
    /// Remembers refused series, within the transaction.
    pub(super) async fn remember(&self, refused: &[RefusedSeries]) -> Result<(), Error> {
        let sql = "INSERT INTO series_refused (series_id, tenant_no, device_no, device, field, kind, unit, class_no, why) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (series_id) DO UPDATE SET why = excluded.why";
        for RefusedSeries { series: s, why } in refused {
            let (tenant, device_no, class) =
                (s.tenant.0.cast_signed(), s.series.device().0.cast_signed(), s.class.0.cast_signed());
            let (field, unit) = (clean(&s.field), s.unit.as_deref().map(clean));
            let (device, kind) = (s.device.as_str(), s.kind.as_str());
            self.client.execute(sql, &[&s.series.0, &tenant, &device_no, &device, &field, &kind, &unit, &class, why]).await?;
        }
        Ok(())
    }
}
