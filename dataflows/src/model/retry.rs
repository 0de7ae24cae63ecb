//! What brings an uplink, or a field of one, out of quarantine: a record that names its entry and carries it.
//!
//! Invariant: an entry tells all that its retry needs, however often it was tried before.

use super::{FieldName, LogTime, Offset, Reason, Record, Uplink};
use serde::{Deserialize, Serialize};

/// An uplink that was set aside, to be tried again where this record stands in the log: with what is in
/// effect there, its own time of reception, and its measurements as late as they are by now.
///
/// What its entry of quarantine held goes, and its rows come, or a new entry: in the same commit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Retry {
    /// The attempt that set it aside.
    pub last: Attempt,
    /// The uplink as it came.
    pub uplink: Uplink,
}

/// An attempt at an uplink, or at one field of it, that ended in quarantine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The record, in the same partition, that was set aside: the uplink, or an earlier retry of it.
    pub offset: Offset,
    /// When the log took that record in.
    pub log_time: LogTime,
    /// The field, where only that was set aside: then only that is stored of the uplink.
    pub field: Option<FieldName>,
    /// When the log took the uplink in at first. No event time is believed that was too far ahead then.
    pub arrived: LogTime,
    /// When an attempt passed dedup for the last time: the copy of the uplink that is remembered from then
    /// is itself. None while its device was never in effect, and for a field.
    pub passed: Option<LogTime>,
}

/// Why an entry of quarantine cannot be tried again by way of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRetry {
    /// Its record cannot be read.
    #[error("it holds no uplink: the record could not be read, or was lost with a damaged segment of the log")]
    NoUplink,
    /// It is a row that the database refused.
    #[error("it holds a row that the database refused, which goes to its table without passing the log again")]
    Row,
}

impl Retry {
    /// Makes the retry of an entry of quarantine from what stands there: the offset and log time of the
    /// record that was set aside, the field, the reason, and the record.
    ///
    /// Errors: the entry holds no uplink.
    pub fn of_entry(
        offset: Offset,
        log_time: LogTime,
        field: Option<FieldName>,
        reason: Reason,
        record: &[u8],
    ) -> Result<Self, NoRetry> {
        match reason {
            Reason::RowRefused => return Err(NoRetry::Row),
            Reason::BadRecord => return Err(NoRetry::NoUplink),
            _ => {}
        }
        let (uplink, before) = match postcard::from_bytes(record) {
            Ok(Record::Uplink(uplink)) => (*uplink, None),
            Ok(Record::Retry(retry)) => (retry.uplink, Some(retry.last)),
            _ => return Err(NoRetry::NoUplink),
        };
        let arrived = before.as_ref().map_or(log_time, |before| before.arrived);
        let passed = match (&field, reason) {
            (Some(_), _) => None,
            // Without a device in effect, an uplink does not get as far as dedup.
            (None, Reason::UnknownDevice) => before.and_then(|before| before.passed),
            (None, _) => Some(log_time),
        };
        Ok(Self { last: Attempt { offset, log_time, field, arrived, passed }, uplink })
    }
}
