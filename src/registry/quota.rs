//! How much a tenant may send: wanted by its row, in force at the door as soon as it was read.
//!
//! A quota is no part of what the log says is in effect. What the door made of it stands in the record of each uplink that
//! was over it, so the graph need not know it, and a replay does the same whatever it is by then.

use super::Wanted;
use super::admin::AdminError;
use super::tables::{BadRow, Read};
use dataflows::THIN_INTERVAL_MAX_US;
use dataflows::model::{TenantNo, Treatment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio_postgres::{Client, Row, Transaction};

/// The quotas of all tenants that have one.
pub type Quotas = BTreeMap<TenantNo, Quota>;

/// What one tenant may send.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quota {
    /// The tenant's name, for whoever reads figures.
    pub tenant: String,
    /// Unit: measurements.
    pub per_second_max: Option<u64>,
    /// Each day in UTC. Unit: measurements.
    pub per_day_max: Option<u64>,
    /// What becomes of what is over.
    pub treatment: Treatment,
}

/// What is to change of a tenant's quotas; what is not said stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuotaChange {
    /// Unit: measurements. `Some(None)` lifts the quota.
    pub per_second_max: Option<Option<i64>>,
    /// Unit: measurements. `Some(None)` lifts the quota.
    pub per_day_max: Option<Option<i64>>,
    /// `quarantine` or `thin`.
    pub over_quota: Option<String>,
    /// As PostgreSQL writes intervals (`15 minutes`).
    pub thin_interval: Option<String>,
}

impl QuotaChange {
    /// Changes the quotas of a tenant.
    ///
    /// Errors: there is no such tenant, or the database refuses a value.
    pub async fn apply(&self, client: &Client, tenant: &str) -> Result<(), AdminError> {
        let sql = "UPDATE tenant SET
                       measurements_per_second_max = CASE WHEN $2 THEN $3::int8 ELSE measurements_per_second_max END,
                       measurements_per_day_max = CASE WHEN $4 THEN $5::int8 ELSE measurements_per_day_max END,
                       over_quota = coalesce($6::text, over_quota),
                       thin_interval = coalesce($7::text::interval, thin_interval)
                   WHERE name = $1";
        let Self { per_second_max, per_day_max, over_quota, thin_interval } = self;
        let (second, day) = (per_second_max.is_some(), per_day_max.is_some());
        let (per_second_max, per_day_max) = (per_second_max.flatten(), per_day_max.flatten());
        let changed =
            client.execute(sql, &[&tenant, &second, &per_second_max, &day, &per_day_max, &over_quota, &thin_interval]).await?;
        if changed == 0 { Err(AdminError::Absent { what: "tenant", name: tenant.to_owned() }) } else { Ok(()) }
    }
}

/// Takes the quotas that are wanted, and of those in force `now` the ones that are to stay.
pub(super) fn in_force(now: &Quotas, wanted: &mut Wanted) -> Quotas {
    let mut quotas = std::mem::take(&mut wanted.quotas);
    quotas.extend(wanted.kept_quotas.iter().filter_map(|no| Some((*no, now.get(no)?.clone()))));
    quotas
}

/// Reads the quotas that are wanted.
pub(super) async fn read(snapshot: &Transaction<'_>, read: &mut Read) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "SELECT tenant_no, name, measurements_per_second_max, measurements_per_day_max, over_quota,
                CASE WHEN thin_interval > interval '0' AND thin_interval <= interval '{THIN_INTERVAL_MAX_US} microseconds'
                     THEN (extract(epoch FROM thin_interval) * 1000000)::int8 END
         FROM tenant WHERE measurements_per_second_max IS NOT NULL OR measurements_per_day_max IS NOT NULL"
    );
    for row in snapshot.query(&sql, &[]).await? {
        let no = TenantNo(row.get::<_, i32>(0).cast_unsigned());
        match quota(&row) {
            Ok(quota) => drop(read.wanted.quotas.insert(no, quota)),
            Err(problem) => {
                read.wanted.kept_quotas.insert(no);
                read.bad.push(BadRow { table: "tenant", key: no.to_string(), problem });
            }
        }
    }
    Ok(())
}

/// The checks of the table may have been dropped.
fn quota(row: &Row) -> Result<Quota, String> {
    let max = |column: usize, name: &str| match row.get::<_, Option<i64>>(column).map(u64::try_from) {
        None => Ok(None),
        Some(Ok(max @ 1..)) => Ok(Some(max)),
        Some(_) => Err(format!("its {name} is not positive: give 1 or more, or null for no quota")),
    };
    let thin_interval: Option<i64> = row.get(5);
    let treatment = match (row.get(4), thin_interval) {
        ("quarantine", _) => Treatment::Quarantine,
        ("thin", Some(interval_us)) => Treatment::Thin { interval_us },
        ("thin", None) => return Err("its thin_interval is out of bounds: give up to a day".into()),
        (other, _) => return Err(format!("its over_quota is {other:?}: use quarantine or thin")),
    };
    Ok(Quota {
        tenant: row.get(1),
        per_second_max: max(2, "measurements_per_second_max")?,
        per_day_max: max(3, "measurements_per_day_max")?,
        treatment,
    })
}
