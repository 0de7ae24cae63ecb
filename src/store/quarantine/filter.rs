//! Which entries are meant.

use crate::store::progress::{number, wire};
use crate::store::timestamp::Timestamp;
use dataflows::model::{DeviceId, LogTime, Offset, Partition, Reason};
use tokio_postgres::types::ToSql;

/// Which entries are meant: those that fit all that is said. The default means all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Filter {
    /// Those of the tenant of this name.
    pub tenant: Option<String>,
    /// Those of devices of this name.
    pub device: Option<DeviceId>,
    /// Those set aside for this reason.
    pub reason: Option<Reason>,
    /// Those whose record the log took in at this time or later.
    pub since: Option<LogTime>,
    /// Those whose record the log took in before this time.
    pub until: Option<LogTime>,
    /// Those of one record.
    pub place: Option<(Partition, Offset)>,
}

/// The values of [`Filter::CONDITION`].
pub(super) struct Values {
    tenant: Option<String>,
    device: Option<String>,
    reason: Option<&'static str>,
    since: Timestamp,
    until: Timestamp,
    partition: Option<i16>,
    offset: Option<i64>,
}

impl Filter {
    /// Whether an entry `q` is meant; `$1` to `$7` are [`Filter::values`].
    ///
    /// Entries without a tenant are those of records that could not be read.
    pub(super) const CONDITION: &str = "($1::text IS NULL OR q.tenant_no = (SELECT t.tenant_no FROM tenant t WHERE t.name = $1)) \
         AND ($2::text IS NULL OR q.device = $2) AND ($3::text IS NULL OR q.reason = $3) \
         AND q.log_time >= $4 AND q.log_time < $5 \
         AND ($6::int2 IS NULL OR q.\"partition\" = $6) AND ($7::int8 IS NULL OR q.\"offset\" = $7)";

    /// Gives the values of the condition.
    pub(super) fn values(&self) -> Values {
        Values {
            tenant: self.tenant.clone(),
            device: self.device.as_ref().map(|device| device.as_str().to_owned()),
            reason: self.reason.map(Reason::as_str),
            since: Timestamp(self.since.map_or(i64::MIN, |at| at.0)),
            until: Timestamp(self.until.map_or(i64::MAX, |at| at.0)),
            partition: self.place.map(|(partition, _)| number(partition)),
            offset: self.place.map(|(_, offset)| wire(offset)),
        }
    }
}

impl Values {
    /// Gives them as parameters.
    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let Self { tenant, device, reason, since, until, partition, offset } = self;
        vec![tenant, device, reason, since, until, partition, offset]
    }
}
