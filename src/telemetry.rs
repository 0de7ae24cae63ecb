//! Logs, metrics and panics of the process.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of histograms over seconds: from a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// What is logged where `RUST_LOG` does not say.
const FILTER: &str = "info,refinery_core=warn";

/// Why the process cannot tell what it does.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` cannot be read.
    #[error("RUST_LOG={given:?} is no filter of logs ({error}): write it as info or weir=debug,info")]
    Filter {
        /// What it says.
        given: String,
        /// Why it cannot be read.
        error: ParseError,
    },
}

/// Starts logs, metrics and the panic hook. Logs go to standard error: text on a terminal, else one
/// JSON object a line; `RUST_LOG` filters them (default: `info`).
///
/// Errors: `RUST_LOG` cannot be read.
/// Panics: when it is called twice.
pub fn start() -> Result<(), TelemetryError> {
    let given = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|given| !given.trim().is_empty());
    let logs = tracing_subscriber::fmt().with_env_filter(filter(given)?).with_writer(std::io::stderr);
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
    Ok(())
}

fn filter(given: Option<String>) -> Result<EnvFilter, TelemetryError> {
    let given = given.unwrap_or_else(|| FILTER.to_owned());
    EnvFilter::builder().parse(&given).map_err(|error| TelemetryError::Filter { given, error })
}

/// A panic is a broken invariant, whichever thread it is on: going on with half of the threads would hide a
/// loss. The log and the database's progress make the restart exact.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Puts what was recorded into the histograms. Must be called every few seconds: until then each recorded
/// value is kept for itself, and nobody may ever ask for the metrics.
pub fn keep_up() {
    if let Some(metrics) = METRICS.get() {
        metrics.run_upkeep();
    }
}

/// Gives all metrics in Prometheus' text format.
pub fn render() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_told() {
        assert!(filter(None).is_ok() && filter(Some("weir=debug,info".into())).is_ok());
        let error = filter(Some("weir=loud".into())).unwrap_err().to_string();
        assert!(error.contains("RUST_LOG=\"weir=loud\"") && error.contains("weir=debug,info"), "{error}");
    }
}
