//! The figures that ingest gives, by name.

use super::answer::Status;
use super::shape::Shape;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use std::time::Duration;

/// Requests, by `route` and HTTP `code`.
pub const REQUESTS: &str = "weir_ingest_requests_total";
/// Items of requests, by `shape` and `outcome`: `accepted`, `skipped` or `rejected`.
pub const UPLINKS: &str = "weir_ingest_uplinks_total";
/// Accepted items that are over a quota of their tenant.
pub const OVER_QUOTA: &str = "weir_ingest_over_quota_total";
/// From the head of a request to its answer, the fsync included. Unit: seconds.
pub const SECONDS: &str = "weir_ingest_seconds";
/// Bodies, after decompression. Unit: bytes.
pub const BYTES: &str = "weir_ingest_bytes_total";

/// Tells the recorder what the figures mean. Once, after it is installed.
pub fn describe() {
    describe_counter!(REQUESTS, "Requests to the ingest routes, by route and HTTP code");
    describe_counter!(UPLINKS, "Items of ingest requests, by shape and outcome");
    describe_counter!(OVER_QUOTA, "Accepted items that are over a quota of their tenant");
    describe_histogram!(SECONDS, Unit::Seconds, "From the head of an ingest request to its answer");
    describe_counter!(BYTES, Unit::Bytes, "Bodies of ingest requests, after decompression");
}

pub(super) fn request(route: &'static str, code: u16, took: Duration) {
    counter!(REQUESTS, "route" => route, "code" => code.to_string()).increment(1);
    histogram!(SECONDS, "route" => route).record(took.as_secs_f64());
}

pub(super) fn body(bytes: usize) {
    counter!(BYTES).increment(bytes as u64);
}

pub(super) fn items(shape: Shape, outcome: Status, count: usize) {
    if count > 0 {
        counter!(UPLINKS, "shape" => shape.as_str(), "outcome" => outcome.as_str()).increment(count as u64);
    }
}

pub(super) fn over_quota(count: usize) {
    if count > 0 {
        counter!(OVER_QUOTA).increment(count as u64);
    }
}
