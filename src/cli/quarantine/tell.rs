//! Entries and sums as lines of a table.

use crate::store::quarantine::{Entry, Sum, Way};
use dataflows::model::LogTime;
use serde_json::{Value, json};

/// The order of a list's columns.
pub(super) const LINE_COLUMNS: [&str; 9] =
    ["log_time", "partition", "offset", "tenant", "device", "field", "reason", "retry", "detail"];
/// The order of a summary's columns.
pub(super) const SUM_COLUMNS: [&str; 7] = ["reason", "of", "entries", "devices", "first", "last", "marked"];

/// An entry as a line of a list.
pub(super) fn line(entry: &Entry) -> Value {
    let Entry { log_time, partition, offset, tenant, device, field, reason, detail, is_marked, record } = entry;
    json!({
        "log_time": time(*log_time), "partition": partition.0, "offset": offset.0, "tenant": tenant, "device": device,
        "field": field, "reason": reason, "retry": is_marked.then_some("marked"), "detail": detail, "bytes": record.len(),
    })
}

/// The entries of one reason as a line of a summary.
pub(super) fn sum(sum: &Sum) -> Value {
    let Sum { reason, way, entries, devices, marked, first, last } = sum;
    json!({
        "reason": reason, "of": what(*way), "entries": entries, "devices": devices, "first": time(*first), "last": time(*last),
        "marked": Some(*marked).filter(|marked| *marked > 0),
    })
}

/// What an entry holds.
pub(super) fn what(way: Way) -> &'static str {
    match way {
        Way::Uplink => "uplinks",
        Way::Field => "fields",
        Way::Row => "rows",
        Way::None => "unreadable",
    }
}

pub(super) fn time(at: LogTime) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| format!("{} µs", at.0), |at| at.to_string())
}
