//! What the uplinks within their tenants' quotas came to, for whoever meters them. No part of the state: it is counted from
//! an offset that the meter names, so that what is replayed is not metered twice.

use crate::element::Cause;
use crate::model::{Offset, TenantNo};
use std::collections::BTreeMap;

/// What the uplinks of one tenant came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metered {
    /// Uplink records within the quotas: decoded, set aside, or copies of earlier ones.
    pub uplinks: u64,
    /// What their decoders gave, refused measurements included. Unit: measurements.
    pub measurements: u64,
}

/// The running tally of one partition.
///
/// State: an entry for each tenant that was heard since it was taken last.
#[derive(Debug)]
pub(crate) struct Tally {
    from: Offset,
    tenants: BTreeMap<TenantNo, Metered>,
}

impl Default for Tally {
    /// Counts nothing.
    fn default() -> Self {
        Self { from: Offset(u64::MAX), tenants: BTreeMap::new() }
    }
}

impl Tally {
    /// Begins to count at an offset.
    pub(crate) fn from(from: Offset) -> Self {
        Self { from, ..Self::default() }
    }

    /// Counts an uplink of a tenant that gave so many measurements.
    pub(crate) fn count(&mut self, cause: &Cause, tenant: TenantNo, measurements: u64) {
        if cause.offset >= self.from {
            let metered = self.tenants.entry(tenant).or_default();
            metered.uplinks += 1;
            metered.measurements += measurements;
        }
    }

    /// Gives what was counted since it was taken last.
    pub(crate) fn take(&mut self) -> BTreeMap<TenantNo, Metered> {
        std::mem::take(&mut self.tenants)
    }
}
