//! Owns which series of the database is which field of the fleet.

use super::{SeriesKey, VerifyError};
use crate::load::Fleet;
use dataflows::model::{SeriesId, TenantNo};
use std::collections::HashMap;
use tokio_postgres::Transaction;

/// The series of a fleet.
pub(super) struct Catalogue {
    /// In the order of their ids.
    pub(super) known: Vec<(SeriesId, SeriesKey)>,
    /// Series that the fleet's devices should not have, or of a wrong kind, as `device field (kind)`.
    pub(super) unknown: Vec<String>,
}

impl Catalogue {
    /// Reads the series of the fleet's devices.
    ///
    /// Errors: the database cannot be read.
    pub(super) async fn read(snapshot: &Transaction<'_>, tenant: TenantNo, fleet: &Fleet) -> Result<Self, VerifyError> {
        let devices: HashMap<&str, u32> = fleet.members().iter().zip(0..).map(|(m, device)| (m.id.as_str(), device)).collect();
        let sql = "SELECT series_id, device, field, kind FROM series WHERE tenant_no = $1 ORDER BY series_id";
        let mut catalogue = Self { known: Vec::new(), unknown: Vec::new() };
        for row in snapshot.query(sql, &[&tenant.0.cast_signed()]).await? {
            let (device, field, kind): (&str, &str, &str) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let Some(number) = devices.get(device) else { continue };
            let fields = fleet.member(*number).kind.spec().fields;
            match fields.iter().position(|f| f.name == field).filter(|_| matches!(kind, "number" | "boolean")) {
                Some(place) => catalogue.known.push((SeriesId(row.try_get(0)?), (*number, place))),
                None => catalogue.unknown.push(format!("{device} {field} ({kind})")),
            }
        }
        Ok(catalogue)
    }
}
