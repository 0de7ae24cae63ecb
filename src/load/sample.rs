//! Owns the watching of a run: once a second, what the daemon, the database and the sender are at.

use super::process::{Server, Usage};
use super::processors::Processors;
use super::sender::{Live, Tally};
use crate::client::{Client, ClientError};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often.
const PERIOD: Duration = Duration::from_secs(1);

/// One moment of a run.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Sample {
    /// Since the run began. Unit: seconds.
    pub at_s: f64,
    /// Uplinks that went through the graph so far, copies included.
    pub uplinks: u64,
    /// Measurements that did.
    pub measurements: u64,
    /// Records that are acknowledged and not committed.
    pub lag_records: u64,
    /// Commits so far, and their rows.
    pub commits: Commits,
    /// What the daemon has used.
    pub weir: Usage,
    /// What the database server has used; absent where it runs elsewhere.
    pub postgres: Option<Usage>,
    /// What the machine's processors did; absent where there is no `/proc`.
    pub processors: Option<Processors>,
    /// Uplinks acknowledged so far by the sender.
    pub acknowledged: u64,
    /// From due to acknowledged, of those acknowledged since the sample before. Unit: milliseconds.
    pub acknowledged_p50_ms: Option<f64>,
    /// The same.
    pub acknowledged_p99_ms: Option<f64>,
}

/// The daemon's commits, from its metrics.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Commits {
    /// How many.
    pub count: u64,
    /// Rows in all of them.
    pub rows: u64,
    /// Those without a checkpoint: how many, and the time that they took together in seconds.
    pub without_checkpoint: (u64, f64),
    /// Those with one.
    pub with_checkpoint: (u64, f64),
}

impl Commits {
    /// Reads them from Prometheus' text.
    pub fn parse(text: &str) -> Self {
        let value = |series: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0)
        };
        let seconds = |checkpoint: &str| {
            let of = |part: &str| value(&format!("weir_commit_seconds_{part}{{checkpoint=\"{checkpoint}\"}}"));
            (of("count") as u64, of("sum"))
        };
        Self {
            count: value("weir_commits_total") as u64,
            rows: value("weir_commit_rows_sum") as u64,
            without_checkpoint: seconds("without"),
            with_checkpoint: seconds("with"),
        }
    }

    /// Gives those since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let part = |(count, seconds): (u64, f64), before: (u64, f64)| (count.saturating_sub(before.0), seconds - before.1);
        Self {
            count: self.count.saturating_sub(before.count),
            rows: self.rows.saturating_sub(before.rows),
            without_checkpoint: part(self.without_checkpoint, before.without_checkpoint),
            with_checkpoint: part(self.with_checkpoint, before.with_checkpoint),
        }
    }

    /// Gives the rows of a mean commit.
    pub fn rows_mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.rows as f64 / self.count as f64 }
    }
}

/// What watches a run.
pub struct Sampler {
    daemon: Client,
    pid: u32,
    server: Option<Server>,
    live: Arc<Live>,
    began: Instant,
    before: Tally,
}

impl Sampler {
    /// Watches the daemon at `url` with the process number `pid`, the server, and a sender's figures.
    ///
    /// Errors: an address without a host.
    pub fn new(url: &str, pid: u32, server: Option<Server>, live: Arc<Live>, began: Instant) -> Result<Self, ClientError> {
        Ok(Self { daemon: Client::new(url, None)?, pid, server, live, began, before: Tally::default() })
    }

    /// Samples now.
    ///
    /// Errors: the daemon does not answer.
    pub async fn sample(&mut self) -> Result<Sample, ClientError> {
        let status = self.daemon.json("/status").await?;
        let commits = Commits::parse(&String::from_utf8_lossy(&self.daemon.text("/metrics").await?));
        let tally = self.live.tally();
        let mut latency = tally.acknowledged.clone();
        latency.subtract(&self.before.acknowledged).expect("a histogram that only grows holds what it held before");
        let quantile_ms = |q| (!latency.is_empty()).then(|| latency.value_at_quantile(q) as f64 / 1e3);
        let sample = Sample {
            at_s: self.began.elapsed().as_secs_f64(),
            uplinks: count(&status, "uplinks"),
            measurements: count(&status, "measurements"),
            lag_records: status["lag_records"].as_u64().unwrap_or(0),
            commits,
            weir: Usage::of(self.pid),
            postgres: self.server.as_ref().map(Server::usage),
            processors: Processors::now(),
            acknowledged: tally.acknowledged.len(),
            acknowledged_p50_ms: quantile_ms(0.5),
            acknowledged_p99_ms: quantile_ms(0.99),
        };
        self.before = tally;
        Ok(sample)
    }

    /// Samples once a second until it is stopped or the daemon does not answer, and once more; each sample is
    /// shown to `seen`.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>, mut seen: impl FnMut(&Sample)) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut period = tokio::time::interval(PERIOD);
        loop {
            let is_last = tokio::select! {
                // An error says that nobody can stop it any more.
                _ = stop.wait_for(|stop| *stop) => true,
                _ = period.tick() => false,
            };
            // A daemon that ended is noticed by who waits for it.
            let Ok(sample) = self.sample().await else { return samples };
            seen(&sample);
            samples.push(sample);
            if is_last {
                return samples;
            }
        }
    }
}

/// Gives one of the counts of a status.
pub fn count(status: &Value, name: &str) -> u64 {
    status["counts"][name].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_from_metrics() {
        let text = "# TYPE weir_commits_total counter\nweir_commits_total 8\n\
                    weir_commit_rows{quantile=\"0.5\"} 3\nweir_commit_rows_sum 200\nweir_commit_rows_count 8\n\
                    weir_commit_seconds_bucket{checkpoint=\"with\",le=\"0.1\"} 2\nweir_commit_seconds_sum{checkpoint=\"with\"} 0.5\n\
                    weir_commit_seconds_count{checkpoint=\"with\"} 2\nweir_commit_seconds_sum{checkpoint=\"without\"} 0.25\n\
                    weir_commit_seconds_count{checkpoint=\"without\"} 6\n";
        let expected = Commits { count: 8, rows: 200, without_checkpoint: (6, 0.25), with_checkpoint: (2, 0.5) };
        assert_eq!(Commits::parse(text), expected);
        assert_eq!((expected.rows_mean(), Commits::parse("").rows_mean()), (25.0, 0.0));
    }
}
