//! Reads what is wanted from the database, in one snapshot.

use super::reconcile::Wanted;
use super::{Token, TokenHash, fields_from_json, quota};
use dataflows::model::{
    ClassNo, DecoderHash, Decoding, Device, DeviceId, DeviceNo, Offset, Partition, Policy, Template, TemplateNo, Tenant, TenantNo,
};
use futures_util::TryStreamExt;
use std::collections::BTreeMap;
use std::iter;
use std::pin::pin;
use std::sync::Arc;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};
use uuid::Uuid;

/// The channel on which the database tells that a table of the registry changed.
pub const CHANNEL: &str = "weir_registry";
/// The setting that names the log whose registry the tables are.
const REGISTRY_OF: &str = "registry_of_log";
/// The longest interval that the tables hold; longer ones, and infinite ones, are no policy.
const INTERVAL_MAX: &str = "interval '100 years'";

/// A row that cannot be used as it is. The rest of the registry is used all the same; what is in
/// effect for this row stays as it was.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{table} {key}: {problem}")]
pub struct BadRow {
    /// Which table.
    pub table: &'static str,
    /// Which row.
    pub key: String,
    /// What is wrong.
    pub problem: String,
}

/// What was read.
#[derive(Default)]
pub struct Read {
    /// What can take effect.
    pub wanted: Wanted,
    /// What cannot.
    pub bad: Vec<BadRow>,
}

/// Reads the registry's tables and `progress`. `has` tells whether a decoder's body is here:
/// templates whose decoder is not are reported, and devices keep what is in effect for them.
pub async fn read(client: &mut Client, has: impl Fn(DecoderHash) -> bool) -> Result<Read, tokio_postgres::Error> {
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let mut read = Read::default();
    read_progress(&snapshot, &mut read).await?;
    read_tenants(&snapshot, &mut read).await?;
    quota::read(&snapshot, &mut read).await?;
    read_templates(&snapshot, &mut read, has).await?;
    read_devices(&snapshot, &mut read).await?;
    read_tokens(&snapshot, &mut read).await?;
    snapshot.commit().await?;
    Ok(read)
}

/// Gives the decoders that templates name and `has` does not know: hash, kind and body.
pub async fn missing_decoders(
    client: &Client,
    has: impl Fn(DecoderHash) -> bool,
) -> Result<Vec<(DecoderHash, String, Vec<u8>)>, tokio_postgres::Error> {
    let named = client.query("SELECT DISTINCT decoder_hash FROM template WHERE decoder_hash IS NOT NULL", &[]).await?;
    let mut missing = Vec::new();
    for row in named {
        let Some(hash) = hash_of(row.get(0)) else { continue };
        if has(hash) {
            continue;
        }
        let body = client.query_opt("SELECT kind, body FROM decoder WHERE hash = $1", &[&hash.0.as_slice()]).await?;
        missing.extend(body.map(|row| (hash, row.get(0), row.get(1))));
    }
    Ok(missing)
}

/// Gives for each partition how many devices it has provisioned, as far as the tables show it: their
/// numbers must not be given again, also where the log does not know of them.
pub async fn provisioned(client: &Client) -> Result<BTreeMap<Partition, u32>, tokio_postgres::Error> {
    let (first, end) = (DeviceNo::PROVISIONED, 2 * DeviceNo::PROVISIONED);
    // The numbers of a device's series begin with its own, which their index finds.
    let (first_series, end_series) = (first << 16, end << 16);
    let used = format!(
        "SELECT device_no FROM device WHERE device_no >= {first} AND device_no < {end}
         UNION SELECT device_no FROM device_no_spent WHERE device_no >= {first} AND device_no < {end}
         UNION SELECT series_id >> 16 FROM series WHERE series_id >= {first_series} AND series_id < {end_series}"
    );
    let per_partition = format!("SELECT n >> 24 & 65535, max(n & 16777215) FROM ({used}) AS used (n) GROUP BY 1");
    let rows = client.query(&per_partition, &[]).await?;
    let count = |row: &Row| (Partition(row.get::<_, i64>(0) as u16), row.get::<_, i64>(1) as u32 + 1);
    Ok(rows.iter().map(count).collect())
}

/// Notes that the registry's tables are those of this log. From then on they may be emptied, and what
/// was in effect goes with them.
pub async fn note_log(client: &Client, log: Uuid) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    client.execute(sql, &[&REGISTRY_OF, &log.to_string()]).await?;
    Ok(())
}

/// Sees to it that the database gives these numbers to no device. It does so by itself for devices that it
/// has seen go.
pub async fn spend(client: &Client, numbers: &[DeviceNo]) -> Result<(), tokio_postgres::Error> {
    if !numbers.is_empty() {
        let numbers: Vec<i64> = numbers.iter().map(|no| no.0.cast_signed()).collect();
        let sql = "INSERT INTO device_no_spent SELECT unnest($1::int8[]) ON CONFLICT DO NOTHING";
        client.execute(sql, &[&numbers]).await?;
    }
    Ok(())
}

async fn read_progress(snapshot: &Transaction<'_>, read: &mut Read) -> Result<(), tokio_postgres::Error> {
    for row in snapshot.query(r#"SELECT "partition", "offset", log_id FROM progress"#, &[]).await? {
        let (partition, offset): (i16, i64) = (row.get(0), row.get(1));
        read.wanted.progress.insert(Partition(partition as u16), Offset(offset as u64));
        read.wanted.logs.insert(row.get(2));
    }
    let noted = snapshot.query_opt("SELECT value FROM settings WHERE key = $1", &[&REGISTRY_OF]).await?;
    read.wanted.registry_of = noted.and_then(|row| row.get::<_, &str>(0).parse().ok());
    Ok(())
}

async fn read_tenants(snapshot: &Transaction<'_>, read: &mut Read) -> Result<(), tokio_postgres::Error> {
    // The checks of the tables may have been dropped; what is out of bounds reads as null.
    let us = |column: &str| {
        format!(
            "CASE WHEN {column} BETWEEN interval '0' AND {INTERVAL_MAX} THEN (extract(epoch FROM {column}) * 1000000)::int8 END"
        )
    };
    let sql = format!(
        "SELECT t.tenant_no, t.zone, {}, {}, t.class_no, {}, c.raw_retention IS NULL
         FROM tenant t JOIN retention_class c USING (class_no)",
        us("t.lateness_horizon"),
        us("t.heartbeat"),
        us("c.raw_retention")
    );
    for row in snapshot.query(&sql, &[]).await? {
        let no = TenantNo(row.get::<_, i32>(0) as u32);
        let policy = match policy(&row) {
            Ok(policy) => policy,
            Err(problem) => {
                read.wanted.kept_tenants.insert(no);
                read.bad.push(BadRow { table: "tenant", key: no.to_string(), problem });
                continue;
            }
        };
        read.wanted.tenants.insert(no, Tenant { no, policy });
    }
    Ok(())
}

fn policy(row: &Row) -> Result<Policy, String> {
    known_zone(Some(row.get(1)))?;
    let bounded = |column: usize, name: &str| {
        row.get::<_, Option<i64>>(column).ok_or_else(|| format!("its {name} is out of bounds: give 0 to 100 years"))
    };
    let kept_for_ever: bool = row.get(6);
    Ok(Policy {
        zone: row.get(1),
        lateness_horizon_us: bounded(2, "lateness_horizon")?,
        heartbeat_us: bounded(3, "heartbeat")?,
        class: ClassNo(row.get::<_, i16>(4) as u16),
        raw_retention_us: if kept_for_ever { None } else { Some(bounded(5, "retention class's raw_retention")?) },
    })
}

async fn read_templates(
    snapshot: &Transaction<'_>,
    read: &mut Read,
    has: impl Fn(DecoderHash) -> bool,
) -> Result<(), tokio_postgres::Error> {
    let rows = snapshot.query("SELECT template_no, name, decoding, decoder_hash, fields FROM template", &[]).await?;
    for row in rows {
        match template(&row, &has) {
            Ok(template) => {
                read.wanted.templates.insert(template.no, template);
            }
            Err(problem) => {
                read.wanted.kept_templates.insert(TemplateNo(row.get::<_, i32>(0) as u32));
                read.bad.push(BadRow { table: "template", key: row.get(1), problem });
            }
        }
    }
    Ok(())
}

fn template(row: &Row, has: impl Fn(DecoderHash) -> bool) -> Result<Template, String> {
    let hash = row.get::<_, Option<&[u8]>>(3).and_then(hash_of);
    let here = || hash.filter(|h| has(*h)).ok_or_else(|| "its decoder is missing: add it with `weir decoder add`".to_owned());
    let decoding = match row.get(2) {
        "upstream" => Decoding::Upstream,
        "javascript" => Decoding::JavaScript(here()?),
        "wasm" => Decoding::Wasm(here()?),
        other => return Err(format!("decoding is {other:?}: use upstream, javascript or wasm")),
    };
    let fields = fields_from_json(&row.get(4)).map_err(|error| error.to_string())?;
    Ok(Template { no: TemplateNo(row.get::<_, i32>(0) as u32), name: row.get(1), decoding, fields })
}

async fn read_devices(snapshot: &Transaction<'_>, read: &mut Read) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT device_no, tenant_no, id, template_no, variables, zone, provisioned,
                      EXISTS (SELECT FROM device_no_spent s WHERE s.device_no = d.device_no) FROM device d";
    // Row by row: a fleet's rows take more memory than what is kept of them.
    let mut rows = pin!(snapshot.query_raw(sql, iter::empty::<&str>()).await?);
    let mut devices = Vec::new();
    while let Some(row) = rows.try_next().await? {
        match device(&row) {
            Ok(device) => devices.push(Arc::new(device)),
            Err(problem) => {
                let tenant = TenantNo(row.get::<_, i32>(1) as u32);
                read.wanted.kept_devices.extend(DeviceId::parse(row.get(2)).ok().map(|id| (tenant, id)));
                read.bad.push(BadRow { table: "device", key: row.get(2), problem });
            }
        }
    }
    read.wanted.devices = devices.into_iter().collect();
    Ok(())
}

fn device(row: &Row) -> Result<Device, String> {
    let text: &str = row.get(2);
    let id = DeviceId::parse(text).map_err(|error| error.to_string())?;
    if id.as_str() != text {
        return Err(format!("write its id as {id}"));
    }
    known_zone(row.get(5))?;
    let no: i64 = row.get(0);
    if !u64::try_from(no).is_ok_and(|no| (1..=DeviceNo::MAX).contains(&no)) {
        return Err(format!("its device_no {no} leaves no room for fields: add it without a device_no"));
    }
    if row.get(7) {
        return Err(format!("its device_no {no} stood for another device before: add it without a device_no"));
    }
    let variables: BTreeMap<String, String> =
        serde_json::from_value(row.get(4)).map_err(|error| format!("its variables are not an object of texts ({error})"))?;
    Ok(Device {
        no: DeviceNo(no as u64),
        tenant: TenantNo(row.get::<_, i32>(1) as u32),
        id,
        template: TemplateNo(row.get::<_, i32>(3) as u32),
        variables,
        zone: row.get(5),
        provisioned: row.get(6),
    })
}

async fn read_tokens(snapshot: &Transaction<'_>, read: &mut Read) -> Result<(), tokio_postgres::Error> {
    let rows = snapshot
        .query("SELECT token_hash, tenant_no, name, may_write, may_read, provision_template_no FROM api_token", &[])
        .await?;
    for row in rows {
        let Some(DecoderHash(hash)) = hash_of(row.get(0)) else { continue };
        let token = Token {
            tenant: TenantNo(row.get::<_, i32>(1) as u32),
            name: row.get(2),
            may_write: row.get(3),
            may_read: row.get(4),
            provision: row.get::<_, Option<i32>>(5).map(|no| TemplateNo(no as u32)),
        };
        read.wanted.tokens.insert(TokenHash(hash), token);
    }
    Ok(())
}

/// Refuses a name that the bundled time zone database does not have.
pub fn known_zone(name: Option<&str>) -> Result<(), String> {
    match name.map(|name| (name, jiff::tz::TimeZoneDatabase::bundled().get(name))) {
        Some((name, Err(_))) => Err(format!("the time zone {name:?} is not known: use an IANA name such as Europe/Paris")),
        _ => Ok(()),
    }
}

fn hash_of(bytes: &[u8]) -> Option<DecoderHash> {
    bytes.try_into().ok().map(DecoderHash)
}
