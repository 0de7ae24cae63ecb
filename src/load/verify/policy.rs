//! Owns what the tenant and the templates of a database ask to be stored.

use super::VerifyError;
use crate::load::{FieldRule, Rules};
use dataflows::model::{SECOND_US, TenantNo};
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::Client;
use tokio_postgres::types::Json;

/// What `template.fields` says of one field, as far as it matters here.
#[derive(serde::Deserialize)]
struct FieldSpec {
    #[serde(default)]
    deadband: f64,
    heartbeat_s: Option<f64>,
}

/// Reads the rules that a tenant's tables set for the fleet.
///
/// Errors: the database cannot be read, or has no such tenant.
pub async fn rules(client: &Client, tenant: TenantNo) -> Result<Rules, VerifyError> {
    let policy = client
        .query_opt(
            "SELECT (extract(epoch FROM lateness_horizon) * 1000000)::bigint, (extract(epoch FROM heartbeat) * 1000000)::bigint \
             FROM tenant WHERE tenant_no = $1",
            &[&tenant.0.cast_signed()],
        )
        .await?
        .ok_or(VerifyError::Tenant(tenant))?;
    let default = FieldRule { deadband: 0.0, heartbeat_us: policy.try_get(1)? };
    let templates = client
        .query(
            "SELECT name, fields FROM template WHERE tenant_no = $1 OR tenant_no IS NULL ORDER BY tenant_no NULLS FIRST",
            &[&tenant.0.cast_signed()],
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
