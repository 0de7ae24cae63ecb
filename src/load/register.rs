//! Makes a fleet known to a database: its tenant, the templates of its kinds, its devices, two tokens.

use super::Fleet;
use crate::decoder::templates;
use crate::registry::admin::{self, AdminError, NewTemplate, NewTenant, NewToken};
use dataflows::model::{DeviceId, TenantNo};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Devices that one statement adds.
const DEVICES_A_STATEMENT: usize = 20_000;

/// The texts of a fleet's tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// May send uplinks.
    pub write: String,
    /// May query.
    pub read: String,
}

/// Registers a fleet as the devices of a new tenant, and gives the tenant's number.
///
/// Errors: the tenant or one of the templates is there already, or the database refuses.
///
/// Panics: when a kind's template does not ship with weir.
pub async fn register(client: &mut Client, fleet: &Fleet, tenant: &NewTenant, tokens: &Tokens) -> Result<TenantNo, AdminError> {
    let transaction = client.transaction().await?;
    let client = transaction.client();
    let tenant_no = admin::add_tenant(client, tenant).await?;
    let mut members: BTreeMap<&'static str, Vec<&DeviceId>> = BTreeMap::new();
    for member in fleet.members() {
        members.entry(member.kind.spec().template).or_default().push(&member.id);
    }
    for (name, devices) in members {
        let builtin = templates::builtin(name).expect("the kinds are those of which templates ship with weir");
        let decoder = builtin.decoder.map(|(kind, body)| (kind.as_str(), body.to_vec()));
        admin::add_template(client, &NewTemplate { name: name.into(), tenant: None, decoder, fields: builtin.fields() }).await?;
        for devices in devices.chunks(DEVICES_A_STATEMENT) {
            admin::add_devices(client, &tenant.name, name, devices).await?;
        }
    }
    for (use_of, token, may_write) in [("write", &tokens.write, true), ("read", &tokens.read, false)] {
        let name = format!("{}-{use_of}", tenant.name);
        let new = NewToken { name, tenant: tenant.name.clone(), may_write, may_read: !may_write, provision: None };
        admin::add_token(client, &new, token).await?;
    }
    transaction.commit().await?;
    Ok(TenantNo(tenant_no.cast_unsigned()))
}
