//! What a device has: its zone, its series, and which sets of tables may hold their rows.
//!
//! Invariant: everything is looked up by tenant and name together, so a device of another tenant does not exist.

use super::database::Database;
use super::problem::Problem;
use dataflows::model::{DeviceId, SeriesId, TenantNo, ValueKind};
use tokio_postgres::Row;

/// A device, as the tables know it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Catalogue {
    /// The name of its zone, or of its tenant's.
    pub(super) zone: String,
    /// Its series, by field and then by number.
    pub(super) series: Vec<CatalogueSeries>,
    /// The table sets. All are read: the rows of a series stay where they are when its class changes.
    pub(super) classes: Vec<ClassTables>,
}

/// A series of the device.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct CatalogueSeries {
    pub(super) series: SeriesId,
    pub(super) field: String,
    pub(super) kind: ValueKind,
    pub(super) unit: Option<String>,
}

/// The tables of a retention class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClassTables {
    /// What the class adds to their names: lower-case letters and digits only.
    suffix: String,
}

impl ClassTables {
    /// Gives the name of one of the tables.
    pub(super) fn name(&self, base: &str) -> String {
        format!("{base}{}", self.suffix)
    }
}

const DEVICE: &str = "SELECT coalesce(d.zone, t.zone), d.id IS NOT NULL FROM tenant t \
    LEFT JOIN device d ON d.tenant_no = t.tenant_no AND d.id = $2 WHERE t.tenant_no = $1";
const SERIES: &str = "SELECT series_id, field, kind, unit FROM series \
    WHERE tenant_no = $1 AND device = $2 ORDER BY field, series_id";
/// A class gets its tables a moment after its row.
const CLASSES: &str = "SELECT suffix FROM retention_class, \
    LATERAL (SELECT CASE class_no WHEN 0 THEN '' ELSE '_' || name END AS suffix) s \
    WHERE to_regclass('measurement' || suffix) IS NOT NULL ORDER BY class_no";

impl Database {
    /// Looks up a device of a tenant.
    ///
    /// Errors: a device that neither is registered nor has ever been, under this tenant.
    pub(super) async fn catalogue(&self, tenant: TenantNo, device: &DeviceId) -> Result<Catalogue, Problem> {
        let mut connection = self.connection().await?;
        let snapshot = self.snapshot(&mut connection).await?;
        let tenant_no = tenant.0.cast_signed();
        let of_device: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&tenant_no, &device.as_str()];
        let (found, series, classes) = tokio::try_join!(
            snapshot.query_opt(DEVICE, &of_device),
            snapshot.query(SERIES, &of_device),
            snapshot.query(CLASSES, &[]),
        )
        .map_err(|e| self.problem(&e))?;
        drop(snapshot);
        connection.release();
        let (zone, registered) = found.map_or(("UTC".into(), false), |row| (row.get(0), row.get(1)));
        if !registered && series.is_empty() {
            return Err(Problem::UnknownDevice(device.clone()));
        }
        let classes = classes.iter().map(|row| ClassTables { suffix: row.get(0) }).collect();
        Ok(Catalogue { zone, series: series.iter().map(catalogue_series).collect(), classes })
    }
}

fn catalogue_series(row: &Row) -> CatalogueSeries {
    let kind = match row.get(2) {
        "number" => ValueKind::Number,
        "boolean" => ValueKind::Boolean,
        "text" => ValueKind::Text,
        "location" => ValueKind::Location,
        other => unreachable!("a check of the table allows no kind {other}"),
    };
    CatalogueSeries { series: SeriesId(row.get(0)), field: row.get(1), kind, unit: row.get(3) }
}
