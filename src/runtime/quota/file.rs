//! What tenants have used of their day, in a file beside the log.
//!
//! It is replaced as a whole and not synced: a killed process loses what was used since it was written last, a second's
//! worth, and a machine that loses its power may lose the day's. Both let a tenant send that much more.

use super::account::Kept;
use dataflows::model::TenantNo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file, in a data directory.
pub(super) struct File(PathBuf);

/// What stands in it.
#[derive(Serialize, Deserialize)]
struct Content {
    tenants: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    tenant_no: u32,
    #[serde(flatten)]
    kept: Kept,
}

impl File {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.join("quotas.json"))
    }

    /// Gives what was used; nothing, where there is no file or none that can be read.
    pub(super) fn load(&self) -> BTreeMap<TenantNo, Kept> {
        let content = match fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            Err(error) => Err(error),
        };
        match content {
            Ok(Content { tenants }) => tenants.into_iter().map(|entry| (TenantNo(entry.tenant_no), entry.kept)).collect(),
            Err(error) => {
                let file = self.0.display();
                tracing::warn!(%file, %error, "it is unknown what tenants have used of their quotas today: they begin anew");
                BTreeMap::new()
            }
        }
    }

    /// Replaces the file.
    pub(super) fn save(&self, tenants: &BTreeMap<TenantNo, Kept>) -> io::Result<()> {
        let tenants = tenants.iter().map(|(tenant, kept)| Entry { tenant_no: tenant.0, kept: *kept }).collect();
        let new = self.0.with_extension("new");
        fs::write(&new, serde_json::to_vec(&Content { tenants })?)?;
        fs::rename(&new, &self.0)
    }
}
