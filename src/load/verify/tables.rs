//! Owns the reading of the tables: one read-only snapshot, so that rows and progress belong together.

use super::VerifyError;
use super::rows::Instant;
use crate::load::expectation::Bucket;
use crate::load::{FieldRule, Fleet, Rules};
use dataflows::model::{BucketLevel, Counts, EventTime, LogTime, SECOND_US, TenantNo};
use futures_util::{TryStreamExt as _, pin_mut};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, IsolationLevel, Transaction};

/// How often the progress is looked at. The daemon commits several times a second.
const POLL: Duration = Duration::from_millis(100);

/// A raw row of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Its time.
    pub at: EventTime,
    /// Its value.
    pub value: f64,
}

/// A field of a device of the fleet: the device's number, and the field's place in the kind's list.
pub type SeriesKey = (u32, usize);

/// What stands in the database of a fleet's tenant.
///
/// State: all rows; this is for fleets of a test.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The raw rows of each series, in the order of their times.
    pub raw: HashMap<SeriesKey, Vec<Row>>,
    /// The merged partials of each series.
    pub hours: HashMap<SeriesKey, BTreeMap<EventTime, Bucket>>,
    /// The same for days.
    pub days: HashMap<SeriesKey, BTreeMap<EventTime, Bucket>>,
    /// Series that the fleet's devices should not have, or of a wrong kind, as `device field (kind)`.
    pub unknown_fields: Vec<String>,
    /// How many rows the quarantine holds, by reason.
    pub quarantine: BTreeMap<String, u64>,
    /// All raw rows of all series and value types.
    pub raw_rows: u64,
    /// Log time of each partition.
    pub log_times: Vec<Option<LogTime>>,
    /// The accounts of all partitions together.
    pub counts: Counts,
}

impl Tables {
    /// Gives the merged partials of a level.
    pub fn rollups(&self, level: BucketLevel) -> &HashMap<SeriesKey, BTreeMap<EventTime, Bucket>> {
        match level {
            BucketLevel::Hour => &self.hours,
            BucketLevel::Day => &self.days,
        }
    }
}

/// Waits until the progress counts `wanted` uplinks.
pub(super) async fn await_uplinks(client: &Client, wanted: u64, patience: Duration) -> Result<(), VerifyError> {
    let started = tokio::time::Instant::now();
    loop {
        let row = client.query_one("SELECT coalesce(sum((counts->>'uplinks')::bigint), 0)::bigint FROM progress", &[]).await?;
        let committed = row.try_get::<_, i64>(0)? as u64;
        if committed >= wanted {
            return Ok(());
        }
        if started.elapsed() >= patience {
            return Err(VerifyError::Behind { wanted, committed, waited_s: patience.as_secs() });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Reads what the tenant and the templates ask to be stored.
pub(super) async fn rules(client: &Client, tenant: TenantNo) -> Result<Rules, VerifyError> {
    let policy = client
        .query_opt(
            "SELECT (extract(epoch FROM lateness_horizon) * 1000000)::bigint, (extract(epoch FROM heartbeat) * 1000000)::bigint \
             FROM tenant WHERE tenant_no = $1",
            &[&(tenant.0 as i32)],
        )
        .await?
        .ok_or(VerifyError::Tenant(tenant))?;
    let default = FieldRule { deadband: 0.0, heartbeat_us: policy.try_get(1)? };
    let templates = client
        .query(
            "SELECT name, fields FROM template WHERE tenant_no = $1 OR tenant_no IS NULL ORDER BY tenant_no NULLS FIRST",
            &[&(tenant.0 as i32)],
        )
        .await?;
    let mut fields = HashMap::new();
    for template in templates {
        let name: String = template.try_get(0)?;
        let Json(specs): Json<BTreeMap<String, FieldSpec>> = template.try_get(1)?;
        for (field, spec) in specs {
            let heartbeat_us = spec.heartbeat_s.map_or(default.heartbeat_us, |s| (s * SECOND_US as f64) as i64);
            fields.insert((name.clone(), field), FieldRule { deadband: spec.deadband, heartbeat_us });
        }
    }
    Ok(Rules { lateness_horizon_us: policy.try_get(0)?, default, fields })
}

/// What `template.fields` says of one field, as far as it matters here.
#[derive(serde::Deserialize)]
struct FieldSpec {
    #[serde(default)]
    deadband: f64,
    heartbeat_s: Option<f64>,
}

/// Reads everything that there is of a fleet.
pub(super) async fn read(client: &mut Client, tenant: TenantNo, fleet: &Fleet) -> Result<Tables, VerifyError> {
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let mut tables = Tables::default();
    let class = class_suffix(&snapshot, tenant).await?;
    let series = read_series(&snapshot, tenant, fleet, &mut tables).await?;
    read_raw(&snapshot, tenant, &class, &series, &mut tables).await?;
    tables.hours = read_rollup(&snapshot, "rollup_1h", tenant, &class, &series).await?;
    tables.days = read_rollup(&snapshot, "rollup_1d", tenant, &class, &series).await?;
    read_accounts(&snapshot, tenant, &class, &mut tables).await?;
    snapshot.rollback().await?;
    Ok(tables)
}

/// What the tables of the tenant's retention class have behind their names.
async fn class_suffix(snapshot: &Transaction<'_>, tenant: TenantNo) -> Result<String, VerifyError> {
    let sql = "SELECT class_no, c.name FROM tenant JOIN retention_class c USING (class_no) WHERE tenant_no = $1";
    let row = snapshot.query_opt(sql, &[&(tenant.0 as i32)]).await?.ok_or(VerifyError::Tenant(tenant))?;
    Ok(match row.try_get(0)? {
        0i16 => String::new(),
        _ => format!("_{}", row.try_get::<_, &str>(1)?),
    })
}

/// Reads the catalogue, and gives the fleet's series by their ids.
async fn read_series(
    snapshot: &Transaction<'_>,
    tenant: TenantNo,
    fleet: &Fleet,
    tables: &mut Tables,
) -> Result<HashMap<i64, SeriesKey>, VerifyError> {
    let devices: HashMap<&str, u32> = fleet.members().iter().zip(0..).map(|(m, device)| (m.id.as_str(), device)).collect();
    let sql = "SELECT series_id, device, field, kind FROM series WHERE tenant_no = $1 ORDER BY series_id";
    let mut known = HashMap::new();
    for row in snapshot.query(sql, &[&(tenant.0 as i32)]).await? {
        let (device, field, kind): (&str, &str, &str) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let Some(number) = devices.get(device) else { continue };
        let fields = fleet.member(*number).kind.spec().fields;
        match fields.iter().position(|f| f.name == field).filter(|_| matches!(kind, "number" | "boolean")) {
            Some(place) => {
                known.insert(row.try_get(0)?, (*number, place));
            }
            None => tables.unknown_fields.push(format!("{device} {field} ({kind})")),
        }
    }
    Ok(known)
}

async fn read_raw(
    snapshot: &Transaction<'_>,
    tenant: TenantNo,
    class: &str,
    series: &HashMap<i64, SeriesKey>,
    tables: &mut Tables,
) -> Result<(), VerifyError> {
    let sql = format!(
        "SELECT m.series_id, m.ts, m.value FROM measurement{class} m JOIN series s USING (series_id) \
         WHERE s.tenant_no = $1 ORDER BY m.ts, m.value"
    );
    let tenant_no = tenant.0 as i32;
    let rows = snapshot.query_raw(&sql, [&tenant_no as &(dyn ToSql + Sync)]).await?;
    pin_mut!(rows);
    while let Some(row) = rows.try_next().await? {
        if let Some(key) = series.get(&row.try_get(0)?) {
            let Instant(at) = row.try_get(1)?;
            tables.raw.entry(*key).or_default().push(Row { at, value: row.try_get(2)? });
        }
    }
    Ok(())
}

async fn read_rollup(
    snapshot: &Transaction<'_>,
    table: &str,
    tenant: TenantNo,
    class: &str,
    series: &HashMap<i64, SeriesKey>,
) -> Result<HashMap<SeriesKey, BTreeMap<EventTime, Bucket>>, VerifyError> {
    let sql = format!(
        "SELECT r.series_id, r.bucket, sum(r.count)::bigint, sum(r.sum), min(r.min), max(r.max), \
         min(r.first_ts), (array_agg(r.first ORDER BY r.first_ts, r.first_offset))[1], \
         max(r.last_ts), (array_agg(r.last ORDER BY r.last_ts DESC, r.last_offset DESC))[1] \
         FROM {table}{class} r JOIN series s USING (series_id) WHERE s.tenant_no = $1 GROUP BY 1, 2"
    );
    let tenant_no = tenant.0 as i32;
    let rows = snapshot.query_raw(&sql, [&tenant_no as &(dyn ToSql + Sync)]).await?;
    pin_mut!(rows);
    let mut rollup: HashMap<SeriesKey, BTreeMap<EventTime, Bucket>> = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let Some(key) = series.get(&row.try_get(0)?) else { continue };
        let (Instant(start), Instant(first_at), Instant(last_at)) = (row.try_get(1)?, row.try_get(6)?, row.try_get(8)?);
        let bucket = Bucket {
            count: row.try_get::<_, i64>(2)? as u64,
            sum: row.try_get(3)?,
            min: row.try_get(4)?,
            max: row.try_get(5)?,
            first: (first_at, row.try_get(7)?),
            last: (last_at, row.try_get(9)?),
        };
        rollup.entry(*key).or_default().insert(start, bucket);
    }
    Ok(rollup)
}

/// Reads what is counted: all raw rows, the quarantine, the progress.
async fn read_accounts(
    snapshot: &Transaction<'_>,
    tenant: TenantNo,
    class: &str,
    tables: &mut Tables,
) -> Result<(), VerifyError> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM measurement{class}) + (SELECT count(*) FROM measurement_text{class}) \
         + (SELECT count(*) FROM measurement_location{class})"
    );
    tables.raw_rows = snapshot.query_one(&sql, &[]).await?.try_get::<_, i64>(0)? as u64;
    let sql = "SELECT reason, count(*) FROM quarantine WHERE tenant_no = $1 GROUP BY reason";
    for row in snapshot.query(sql, &[&(tenant.0 as i32)]).await? {
        tables.quarantine.insert(row.try_get(0)?, row.try_get::<_, i64>(1)? as u64);
    }
    for row in snapshot.query(r#"SELECT counts, log_time FROM progress ORDER BY "partition""#, &[]).await? {
        let Json(counts): Json<Counts> = row.try_get(0)?;
        tables.counts += counts;
        let log_time: Option<Instant> = row.try_get(1)?;
        tables.log_times.push(log_time.map(|Instant(at)| LogTime(at.0)));
    }
    Ok(())
}
