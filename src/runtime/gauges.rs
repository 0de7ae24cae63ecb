//! What the runtime measures of itself. Every metric name of this module is listed here.

use super::quota::Meter;
use super::view::{Status, View};
use crate::log::Log;
use crate::registry::Directory;
use crate::store::Committed;
use crate::telemetry;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::sync::Arc;
use std::time::Duration;

/// How often the figures are read.
const PERIOD: Duration = Duration::from_secs(1);

const COMMITS: &str = "weir_commits_total";
const COMMIT_ROWS: &str = "weir_commit_rows";
const COMMIT_SECONDS: &str = "weir_commit_seconds";
const ROWS_REFUSED: &str = "weir_rows_refused_total";
const LAG: &str = "weir_lag_records";
const READY: &str = "weir_ready";
const DATABASE: &str = "weir_database_available";
const DEVICES: &str = "weir_devices";
const DECODERS_SUSPENDED: &str = "weir_decoders_suspended";
const CHUNKS_WAITING: &str = "weir_chunks_waiting_for_index";
const LOG_BYTES: &str = "weir_log_bytes";
const UPLINKS: &str = "weir_uplinks_total";
const MEASUREMENTS: &str = "weir_measurements_total";
const TENANT_MEASUREMENTS: &str = "weir_tenant_measurements_today";
const TENANT_OVER: &str = "weir_tenant_uplinks_over_quota_today";

/// Describes the metrics to the exporter.
pub(super) fn describe() {
    describe_counter!(COMMITS, "Commits that reached the database.");
    describe_histogram!(COMMIT_ROWS, Unit::Count, "Rows in a commit.");
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time from the beginning of a commit to its confirmation, with and without a checkpoint in it."
    );
    describe_counter!(ROWS_REFUSED, "Rows that the database refused and that went to quarantine.");
    describe_gauge!(LAG, "Records that are acknowledged and not committed.");
    describe_gauge!(READY, "1 when all partitions are held and caught up with the database, and it takes commits.");
    describe_gauge!(DATABASE, "1 while the database can be reached and takes commits.");
    describe_gauge!(DEVICES, "Devices in effect.");
    describe_gauge!(DECODERS_SUSPENDED, "Decoders that are not run for a while, each counted for each tenant.");
    describe_gauge!(
        CHUNKS_WAITING,
        "Chunks or partitions that get their B-tree when they have come to rest or the backlog is worked off."
    );
    describe_gauge!(LOG_BYTES, Unit::Bytes, "Size of the log on disk.");
    describe_counter!(
        UPLINKS,
        "Uplinks since the log began, by outcome: received = decoded + duplicate + quarantined + thinned. One that is tried again counts again."
    );
    describe_counter!(
        MEASUREMENTS,
        "Measurements since the log began, by outcome: received = stored + unchanged + late_duplicate + quarantined."
    );
    describe_gauge!(
        TENANT_MEASUREMENTS,
        "Measurements of today in UTC that were within the quotas, of each tenant that has one."
    );
    describe_gauge!(TENANT_OVER, "Uplinks of today in UTC that were over a quota, of each tenant that has one.");
}

/// A commit reached the database.
pub(super) fn commit(committed: &Committed, has_checkpoint: bool, took: Duration) {
    counter!(COMMITS).increment(1);
    histogram!(COMMIT_ROWS).record(committed.rows as f64);
    let checkpoint = if has_checkpoint { "with" } else { "without" };
    histogram!(COMMIT_SECONDS, "checkpoint" => checkpoint).record(took.as_secs_f64());
    counter!(ROWS_REFUSED).increment(committed.refused.len() as u64);
}

/// Publishes the daemon's figures and keeps all metrics bounded, until it is dropped.
pub(super) async fn run(log: Log, view: Arc<View>, directory: Arc<Directory>, meter: Arc<Meter>) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        telemetry::keep_up();
        let now = view.status(|partition| log.end(partition), directory.devices());
        status(&Status { quotas: meter.status(), ..now }, log.status().bytes);
    }
}

fn status(status: &Status, log_bytes: u64) {
    let counts = &status.counts;
    gauge!(LAG).set(status.lag_records as f64);
    gauge!(READY).set(f64::from(u8::from(status.ready)));
    gauge!(DATABASE).set(f64::from(u8::from(status.database_available)));
    gauge!(CHUNKS_WAITING).set(status.chunks_waiting as f64);
    gauge!(LOG_BYTES).set(log_bytes as f64);
    gauge!(DEVICES).set(status.devices as f64);
    gauge!(DECODERS_SUSPENDED).set(status.decoders_suspended.len() as f64);
    for quota in &status.quotas {
        gauge!(TENANT_MEASUREMENTS, "tenant" => quota.tenant.clone()).set(quota.measurements_today as f64);
        gauge!(TENANT_OVER, "tenant" => quota.tenant.clone()).set(quota.uplinks_over_today as f64);
    }
    for (outcome, count) in [
        ("received", counts.uplinks),
        ("decoded", counts.uplinks_decoded),
        ("duplicate", counts.duplicate),
        ("quarantined", counts.uplinks_quarantined),
        ("thinned", counts.thinned),
    ] {
        counter!(UPLINKS, "outcome" => outcome).absolute(count);
    }
    for (outcome, count) in [
        ("received", counts.measurements),
        ("stored", counts.stored),
        ("unchanged", counts.unchanged),
        ("late_duplicate", counts.late_duplicate),
        ("quarantined", counts.measurements_quarantined),
        ("stored_afterwards", counts.stored_afterwards),
    ] {
        counter!(MEASUREMENTS, "outcome" => outcome).absolute(count);
    }
}
