//! The rows of `device` and `series`, which may be there already.

use super::copy::clean;
use super::error::Doing;
use super::refusals::RefusedSeries;
use super::rows::Row;
use super::session::{Failure, Session};
use super::tables::Table;
use super::{Store, StoreError};
use dataflows::model::{CatalogueDevice, CatalogueSeries, ClassNo, DeviceId, SeriesId, TenantNo, ValueKind};
use std::collections::HashMap;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, Row as Read};

/// Rows of one statement: a connection keeps room for its largest ever after.
const ROWS_AT_ONCE: usize = 8192;

impl Session {
    /// A device that is there already stays as it is: somebody else added it in the meantime. One that
    /// was there and was removed stays away: a replay brings it again.
    pub(super) async fn insert_devices(&self, rows: &[Row<'_>]) -> Result<(), Error> {
        for rows in rows.chunks(ROWS_AT_ONCE) {
            self.insert_some_devices(rows).await?;
        }
        Ok(())
    }

    async fn insert_some_devices(&self, rows: &[Row<'_>]) -> Result<(), Error> {
        let devices = || rows.iter().filter_map(|row| if let Row::Device(placed) = row { Some(&placed.row) } else { None });
        let column = |of: fn(&CatalogueDevice) -> i32| devices().map(of).collect::<Vec<_>>();
        let numbers: Vec<i64> = devices().map(|device| device.0.no.0.cast_signed()).collect();
        let tenants = column(|device| device.0.tenant.0.cast_signed());
        let ids: Vec<&str> = devices().map(|device| device.0.id.as_str()).collect();
        let templates = column(|device| device.0.template.0.cast_signed());
        let variables: Vec<_> = devices().map(|device| Json(&device.0.variables)).collect();
        let zones: Vec<Option<&str>> = devices().map(|device| device.0.zone.as_deref()).collect();
        let sql = format!(
            "INSERT INTO device ({}) \
             SELECT n, t, i, m, v, z, true FROM unnest($1::int8[], $2::int4[], $3::text[], $4::int4[], $5::jsonb[], $6::text[]) \
             AS u (n, t, i, m, v, z) WHERE NOT EXISTS (SELECT FROM device_no_spent s WHERE s.device_no = u.n) \
             ON CONFLICT DO NOTHING",
            Table::Device.columns()
        );
        self.client.execute(&sql, &[&numbers, &tenants, &ids, &templates, &variables, &zones]).await?;
        Ok(())
    }

    /// Only the class of a series may change. An id that means another series is refused, or rows of
    /// two series would be mixed.
    pub(super) async fn upsert_series(&self, rows: &[Row<'_>]) -> Result<(), Failure> {
        let series: Vec<&CatalogueSeries> =
            rows.iter().filter_map(|row| if let Row::Series(placed) = row { Some(&placed.row) } else { None }).collect();
        let mut refused = Vec::new();
        for some in series.chunks(ROWS_AT_ONCE) {
            if self.upsert_some_series(some).await? < some.len() as u64 {
                refused.extend(self.other_meanings(some).await?);
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Failure::SeriesRefused(refused)) }
    }

    /// Gives how many rows were written.
    async fn upsert_some_series(&self, series: &[&CatalogueSeries]) -> Result<u64, Error> {
        let ids: Vec<i64> = series.iter().map(|s| s.series.0).collect();
        let tenants: Vec<i32> = series.iter().map(|s| s.tenant.0.cast_signed()).collect();
        let device_numbers: Vec<i64> = series.iter().map(|s| s.series.device().0.cast_signed()).collect();
        let devices: Vec<&str> = series.iter().map(|s| s.device.as_str()).collect();
        let fields: Vec<_> = series.iter().map(|s| clean(&s.field)).collect();
        let kinds: Vec<&str> = series.iter().map(|s| s.kind.as_str()).collect();
        let units: Vec<_> = series.iter().map(|s| s.unit.as_deref().map(clean)).collect();
        let classes: Vec<i16> = series.iter().map(|s| s.class.0.cast_signed()).collect();
        let sql = format!(
            "INSERT INTO series AS s ({}) SELECT * FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::text[], $5::text[], \
             $6::text[], $7::text[], $8::int2[]) ON CONFLICT (series_id) DO UPDATE SET class_no = excluded.class_no \
             WHERE (s.tenant_no, s.device, s.field, s.kind) = (excluded.tenant_no, excluded.device, excluded.field, excluded.kind) \
             AND s.unit IS NOT DISTINCT FROM excluded.unit",
            Table::Series.columns()
        );
        self.client.execute(&sql, &[&ids, &tenants, &device_numbers, &devices, &fields, &kinds, &units, &classes]).await
    }

    /// Finds the series that the table does not hold with the meaning that they have here.
    async fn other_meanings(&self, ours: &[&CatalogueSeries]) -> Result<Vec<RefusedSeries>, Error> {
        let ids: Vec<i64> = ours.iter().map(|s| s.series.0).collect();
        let sql = "SELECT series_id, tenant_no, device, field, kind, unit FROM series WHERE series_id = ANY ($1)";
        let rows = self.client.query(sql, &[&ids]).await?;
        let meaning = |tenant: i32, device: &str, field: &str, kind: &str, unit: Option<&str>| {
            format!("{field} ({kind}, {}) of device {device} of tenant {tenant}", unit.unwrap_or("no unit"))
        };
        let theirs: HashMap<SeriesId, String> = rows
            .iter()
            .map(|row| (SeriesId(row.get(0)), meaning(row.get(1), row.get(2), row.get(3), row.get(4), row.get(5))))
            .collect();
        let refused = |ours: &&CatalogueSeries| {
            let (tenant, device) = (ours.tenant.0.cast_signed(), ours.device.as_str());
            let unit = ours.unit.as_deref().map(clean);
            let log = meaning(tenant, device, &clean(&ours.field), ours.kind.as_str(), unit.as_deref());
            let why = match theirs.get(&ours.series) {
                Some(table) if *table == log => return None,
                Some(table) => format!("its number stands for {table} in the table series, and for {log} by the log"),
                None => format!("the table series does not keep the row of {log}: look for a trigger on it"),
            };
            Some(RefusedSeries { series: (*ours).clone(), why })
        };
        Ok(ours.iter().filter_map(refused).collect())
    }
}

impl Store {
    /// Reads all series that have a number, those too whose rows go to quarantine.
    ///
    /// Cost: reads the whole table `series`.
    pub async fn numbered_series(&self) -> Result<Vec<CatalogueSeries>, StoreError> {
        let columns = "series_id, tenant_no, device, field, kind, unit, class_no";
        let sql = format!(
            "SELECT {columns} FROM series UNION ALL \
             SELECT {columns} FROM series_refused r WHERE NOT EXISTS (SELECT FROM series s WHERE s.series_id = r.series_id)"
        );
        let client = self.client().await?;
        let rows = client.query(&sql, &[]).await.doing("the series could not be read")?;
        Ok(rows.iter().filter_map(numbered).collect())
    }
}

/// Reads a series; none where its device or kind is nothing that weir writes.
pub(super) fn numbered(row: &Read) -> Option<CatalogueSeries> {
    Some(CatalogueSeries {
        series: SeriesId(row.get(0)),
        tenant: TenantNo(row.get::<_, i32>(1).cast_unsigned()),
        device: DeviceId::parse(row.get(2)).ok()?,
        field: row.get::<_, &str>(3).into(),
        kind: ValueKind::parse(row.get(4))?,
        unit: row.get(5),
        class: ClassNo(row.get::<_, i16>(6).cast_unsigned()),
    })
}
