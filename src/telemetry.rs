//! Logs, metrics and panics of the process.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of histograms over seconds: from a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Starts logs, metrics and the panic hook. Logs go to standard error: text on a terminal, else one
/// JSON object a line; `RUST_LOG` filters them (default: `info`).
///
/// Panics: when it is called twice.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).init();
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Suffix("_seconds".into()), &SECONDS)
        .expect("the bounds are not empty")
        .install_recorder()
        .expect("metrics are started once");
    METRICS.get_or_init(|| recorder);
    abort_on_panic();
}

/// A panic is a broken invariant: going on with half of the threads would hide a loss. The log and
/// the database's progress make the restart exact.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name().is_some_and(|name| name.starts_with("weir-")) {
            std::process::abort();
        }
    }));
}

/// Gives all metrics in Prometheus' text format.
pub fn render() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
