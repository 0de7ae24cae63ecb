//! What people add, list, show and remove: plain statements on the registry's tables. The daemon
//! notices by itself.

pub use super::kind::Kind;
use super::{FieldsError, QuotaChange, TokenHash, fields_from_json, tables};
use dataflows::model::{DeviceId, DeviceIdError};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The named thing is not there.
    #[error("there is no {what} {name:?}: see `weir {what} list`")]
    Absent {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It is there already.
    #[error("there is a {what} {name:?} already: remove it first, or choose another name")]
    Exists {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Several have the name.
    #[error("{} tenants have a {what} {name:?}: name one with --tenant ({})", .tenants.len(), .tenants.join(", "))]
    Ambiguous {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// Whose.
        tenants: Vec<String>,
    },
    /// Something else refers to it.
    #[error("the {what} {name:?} is still used ({detail}): remove that first")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// By what.
        detail: String,
    },
    /// The device's name.
    #[error(transparent)]
    DeviceId(#[from] DeviceIdError),
    /// The template's fields.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// The time zone.
    #[error("{0}")]
    Zone(String),
    /// The database refused. Its words stand in the message, so it is no cause to be told beside it.
    #[error("the database refused: {}", detail(.0))]
    Database(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for AdminError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

fn detail(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

/// What a new retention class is. Times as PostgreSQL writes intervals (`90 days`).
#[derive(Clone, Debug)]
pub struct NewClass {
    /// Its name, which becomes part of table names.
    pub name: String,
    /// How long measurements are kept; for ever where it is not said.
    pub raw_retention: Option<String>,
    /// How long rollups are kept; for ever where it is not said.
    pub rollup_retention: Option<String>,
    /// The width of a partition or chunk.
    pub chunk_interval: String,
    /// How long after its end a chunk goes to the columnstore, where there is one; never where it is not said.
    pub compress_after: Option<String>,
}

/// What a new tenant is.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its name.
    pub name: String,
    /// IANA name of its time zone.
    pub zone: String,
    /// Longest silence of an unchanged series, as PostgreSQL writes intervals (`1 hour`).
    pub heartbeat: String,
    /// How late a measurement may be and still be put in order (`10 minutes`).
    pub lateness_horizon: String,
    /// Name of its retention class.
    pub class: String,
    /// Its quotas, where they are not none.
    pub quota: QuotaChange,
}

/// What a new template is.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// Its name.
    pub name: String,
    /// The tenant that may use it; all may where there is none.
    pub tenant: Option<String>,
    /// `javascript` or `wasm` with the body, or nothing where the network decodes.
    pub decoder: Option<(&'static str, Vec<u8>)>,
    /// Units, deadbands and heartbeats by field.
    pub fields: Value,
}

/// What a new device is.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Its DevEUI or name.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// Its model.
    pub template: String,
    /// What people call it.
    pub name: Option<String>,
    /// Variables for its decoder.
    pub variables: Value,
    /// Overrides the tenant's time zone.
    pub zone: Option<String>,
}

/// What a new token may do.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The name under which it is listed.
    pub name: String,
    /// Whose devices it speaks for.
    pub tenant: String,
    /// It may send uplinks.
    pub may_write: bool,
    /// It may query.
    pub may_read: bool,
    /// Unknown devices are made with this template.
    pub provision: Option<String>,
}

/// Adds a retention class and gives its number. Its tables are made by `weir migrate`, or by the daemon
/// when it first needs them.
pub async fn add_class(client: &Client, new: &NewClass) -> Result<i16, AdminError> {
    let sql = "INSERT INTO retention_class (class_no, name, raw_retention, rollup_retention, chunk_interval, compress_after)
               SELECT max(class_no) + 1, $1, $2::text::interval, $3::text::interval, $4::text::interval, $5::text::interval
               FROM retention_class RETURNING class_no";
    let NewClass { name, raw_retention, rollup_retention, chunk_interval, compress_after } = new;
    one(client, "class", name, sql, &[name, raw_retention, rollup_retention, chunk_interval, compress_after]).await
}

/// Adds a tenant and gives its number.
pub async fn add_tenant(client: &Client, new: &NewTenant) -> Result<i32, AdminError> {
    tables::known_zone(Some(&new.zone)).map_err(AdminError::Zone)?;
    let class: i16 = by_name(client, "class", "SELECT class_no FROM retention_class WHERE name = $1", &new.class).await?;
    let sql = "INSERT INTO tenant (name, zone, heartbeat, lateness_horizon, class_no, measurements_per_second_max,
                                   measurements_per_day_max, over_quota, thin_interval)
               VALUES ($1, $2, $3::text::interval, $4::text::interval, $5, $6, $7, coalesce($8, 'quarantine'),
                       coalesce($9::text::interval, '15 minutes')) RETURNING tenant_no";
    let NewTenant { name, zone, heartbeat, lateness_horizon, quota, .. } = new;
    let (per_second, per_day) = (quota.per_second_max.flatten(), quota.per_day_max.flatten());
    let values: [&(dyn ToSql + Sync); 9] =
        [name, zone, heartbeat, lateness_horizon, &class, &per_second, &per_day, &quota.over_quota, &quota.thin_interval];
    one(client, "tenant", name, sql, &values).await
}

/// Adds a decoder's body, or finds that it is there, and gives its hash.
pub async fn add_decoder(client: &Client, kind: &str, name: &str, body: &[u8]) -> Result<Vec<u8>, AdminError> {
    let hash = Sha256::digest(body).to_vec();
    let sql = "INSERT INTO decoder (hash, kind, name, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&hash, &kind, &name, &body]).await?;
    Ok(hash)
}

/// Adds a template, its decoder included, and gives its number.
pub async fn add_template(client: &Client, new: &NewTemplate) -> Result<i32, AdminError> {
    fields_from_json(&new.fields)?;
    let tenant = match &new.tenant {
        Some(tenant) => Some(tenant_no(client, tenant).await?),
        None => None,
    };
    let (decoding, hash) = match &new.decoder {
        Some((kind, body)) => (*kind, Some(add_decoder(client, kind, &new.name, body).await?)),
        None => ("upstream", None),
    };
    let sql = "INSERT INTO template (tenant_no, name, decoding, decoder_hash, fields) VALUES ($1, $2, $3, $4, $5) RETURNING template_no";
    one(client, "template", &new.name, sql, &[&tenant, &new.name, &decoding, &hash, &new.fields]).await
}

/// Adds a device and gives its number.
pub async fn add_device(client: &Client, new: &NewDevice) -> Result<i64, AdminError> {
    let id = DeviceId::parse(&new.id)?;
    tables::known_zone(new.zone.as_deref()).map_err(AdminError::Zone)?;
    let tenant = tenant_no(client, &new.tenant).await?;
    let template = template_no(client, tenant, &new.template).await?;
    let sql = "INSERT INTO device (tenant_no, id, template_no, name, variables, zone) VALUES ($1, $2, $3, $4, $5, $6) RETURNING device_no";
    one(client, "device", id.as_str(), sql, &[&tenant, &id.as_str(), &template, &new.name, &new.variables, &new.zone]).await
}

/// Adds many devices of one template, all or none, without names, variables or zones of their own.
///
/// Cost: one statement.
pub async fn add_devices(client: &Client, tenant: &str, template: &str, ids: &[&DeviceId]) -> Result<(), AdminError> {
    let tenant = tenant_no(client, tenant).await?;
    let template = template_no(client, tenant, template).await?;
    let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let sql = "INSERT INTO device (tenant_no, id, template_no) SELECT $1, id, $2 FROM unnest($3::text[]) AS id";
    match client.execute(sql, &[&tenant, &template, &names]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            let name = error.as_db_error().and_then(|db| db.detail()).unwrap_or_default().to_owned();
            Err(AdminError::Exists { what: "device", name })
        }
        Err(error) => Err(error.into()),
    }
}

/// Adds the token with this text; only its hash is kept.
pub async fn add_token(client: &Client, new: &NewToken, token: &str) -> Result<(), AdminError> {
    let tenant = tenant_no(client, &new.tenant).await?;
    let provision = match &new.provision {
        Some(template) => Some(template_no(client, tenant, template).await?),
        None => None,
    };
    let sql = "INSERT INTO api_token (token_hash, tenant_no, name, may_write, may_read, provision_template_no)
               VALUES ($1, $2, $3, $4, $5, $6) RETURNING tenant_no";
    let hash = TokenHash::of(token).0;
    let values: [&(dyn ToSql + Sync); 6] = [&hash.as_slice(), &tenant, &new.name, &new.may_write, &new.may_read, &provision];
    one::<i32>(client, "token", &new.name, sql, &values).await?;
    Ok(())
}

/// Lists things, one JSON object each, at most `limit`; of one tenant, where one is named.
pub async fn list(client: &Client, kind: Kind, tenant: Option<&str>, limit: i64) -> Result<Vec<Value>, AdminError> {
    let sql = format!(
        "SELECT to_jsonb(x) - 'key' FROM ({}) x WHERE $1::text IS NULL OR x.tenant = $1 ORDER BY x.tenant, x.key LIMIT $2",
        kind.listing()
    );
    Ok(client.query(&sql, &[&tenant, &limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Shows the things of one name.
///
/// Errors: there is none.
pub async fn show(client: &Client, kind: Kind, tenant: Option<&str>, name: &str) -> Result<Vec<Value>, AdminError> {
    let name = canonical(kind, name)?;
    let sql = format!(
        "SELECT to_jsonb(x) - 'key' FROM ({}) x WHERE x.key = $2 AND ($1::text IS NULL OR x.tenant = $1) ORDER BY x.tenant",
        kind.listing()
    );
    let found: Vec<_> = client.query(&sql, &[&tenant, &name]).await?.iter().map(|row| row.get(0)).collect();
    if found.is_empty() { Err(AdminError::Absent { what: kind.word(), name }) } else { Ok(found) }
}

/// Removes the thing of one name. Rows that were stored stay.
///
/// Errors: there is none, several tenants have one and none is named, or something refers to it.
pub async fn remove(client: &Client, kind: Kind, tenant: Option<&str>, name: &str) -> Result<(), AdminError> {
    let name = canonical(kind, name)?;
    let sql = format!(
        "SELECT x.tenant FROM ({}) x WHERE x.key = $2 AND ($1::text IS NULL OR x.tenant = $1) ORDER BY 1",
        kind.listing()
    );
    let mut owners: Vec<Option<String>> = client.query(&sql, &[&tenant, &name]).await?.iter().map(|row| row.get(0)).collect();
    if owners.len() > 1 {
        let tenants = owners.into_iter().map(|owner| owner.unwrap_or_else(|| "shared by all".into())).collect();
        return Err(AdminError::Ambiguous { what: kind.word(), name, tenants });
    }
    let Some(owner) = owners.pop() else { return Err(AdminError::Absent { what: kind.word(), name }) };
    match client.execute(kind.removal(), &[&name, &owner]).await {
        // Somebody else was faster.
        Ok(0) => Err(AdminError::Absent { what: kind.word(), name }),
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            let detail = error.as_db_error().and_then(|db| db.detail()).unwrap_or("by another table").to_owned();
            Err(AdminError::InUse { what: kind.word(), name, detail })
        }
        Err(error) => Err(error.into()),
    }
}

fn canonical(kind: Kind, name: &str) -> Result<String, DeviceIdError> {
    Ok(if kind == Kind::Device { DeviceId::parse(name)?.as_str().to_owned() } else { name.to_owned() })
}

async fn tenant_no(client: &Client, name: &str) -> Result<i32, AdminError> {
    by_name(client, "tenant", "SELECT tenant_no FROM tenant WHERE name = $1", name).await
}

/// The tenant's own template of that name, else the one that all share.
async fn template_no(client: &Client, tenant: i32, name: &str) -> Result<i32, AdminError> {
    let sql = "SELECT template_no FROM template WHERE name = $1 AND (tenant_no = $2 OR tenant_no IS NULL) ORDER BY tenant_no NULLS LAST LIMIT 1";
    let row = client.query_opt(sql, &[&name, &tenant]).await?;
    row.map(|row| row.get(0)).ok_or_else(|| AdminError::Absent { what: "template", name: name.to_owned() })
}

async fn by_name<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Client,
    what: &'static str,
    sql: &str,
    name: &str,
) -> Result<T, AdminError> {
    let row: Option<Row> = client.query_opt(sql, &[&name]).await?;
    row.map(|row| row.get(0)).ok_or_else(|| AdminError::Absent { what, name: name.to_owned() })
}

/// Inserts one row and gives its number.
async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Client,
    what: &'static str,
    name: &str,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<T, AdminError> {
    match client.query_one(sql, values).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            Err(AdminError::Exists { what, name: name.to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}
