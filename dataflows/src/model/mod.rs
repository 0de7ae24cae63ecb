//! The words of weir as types: what a log record holds, what is in effect, what is written.
//!
//! Everything here is plain data. Times are microseconds since the Unix epoch in UTC
//! (PostgreSQL's resolution), durations are microseconds too, and say so in their names.

mod devices;
mod ids;
mod output;
mod quota;
mod record;
mod registry;
mod retry;
mod time;
mod value;

pub use devices::Devices;
pub use ids::{
    ClassNo, DecoderHash, DeviceId, DeviceIdError, DeviceNo, FieldNo, Offset, Partition, SeriesId, TemplateNo, TenantNo,
};
pub use output::{
    BucketLevel, CatalogueDevice, CatalogueSeries, Counts, LocationRow, NumberRow, Outputs, Partial, Placed, Point, Quarantined,
    Reason, Released, Stored, TextRow,
};
pub use quota::{Excess, OverQuota, QuotaSpan, Treatment};
pub use record::{Entry, Reception, Record, Uplink};
pub use registry::{Decoding, Device, FieldSpec, Policy, RegistryChange, Template, Tenant};
pub use retry::{Attempt, NoRetry, Retry};
pub use time::{DAY_US, EventTime, HOUR_US, LogTime, MINUTE_US, SECOND_US};
pub use value::{FieldName, Measurement, ShortText, Value, ValueKind};
