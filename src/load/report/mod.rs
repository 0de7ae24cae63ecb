//! Owns what a run found: the figures, for programs as JSON and for people as a table and a page with plots.

mod html;
mod plot;
mod table;

use super::case::BarResult;
use super::limit::Limit;
use super::sample::Sample;
use super::sender::{Figures as SendFigures, Tally};
use super::verify::Verified;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The latency of reading one series' day, by its name in [`Figures::latency_ms`].
pub const SERIES_DAY: &str = "series_day_read";

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The case's name.
    pub case: String,
    /// What it shows.
    pub about: String,
    /// The program's version.
    pub version: &'static str,
    /// What the database can do, and its version.
    pub database: String,
    /// The machine that all of it ran on.
    pub machine: Machine,
    /// When the run ended, RFC 3339.
    pub at: String,
    /// What was measured.
    #[serde(flatten)]
    pub figures: Figures,
    /// How the case's bars held.
    pub bars: Vec<BarResult>,
    /// What the physical limit is; absent unless asked for.
    pub limit: Option<Limit>,
    /// What was compared; absent unless asked for.
    pub verification: Option<Verified>,
    /// The committed figures of an earlier run.
    pub baseline: Option<Value>,
    /// One moment after the other.
    pub samples: Vec<Sample>,
}

/// The machine that all of it ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors that this program may use.
    pub cores: usize,
    /// Their model, where the system tells.
    pub processor: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.map_or_else(|| "unknown".into(), |(_, model)| model.to_owned()),
        }
    }
}

/// The figures of a run. Those that it did not measure are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Whether the tables hold exactly what they must.
    pub verified: Option<bool>,
    /// Threads of the daemon that ran the graph.
    pub workers: usize,
    /// From a full log: from the daemon's start to the last commit. Over HTTP: from the first uplink due to the
    /// last answer. Unit: seconds.
    pub seconds: f64,
    /// From a full log: until every chunk had its index. Unit: seconds.
    pub indexed_seconds: Option<f64>,
    /// Uplinks that came in, copies included.
    pub uplinks: u64,
    /// The same in a second.
    pub uplinks_per_s: f64,
    /// Measurements that decoders gave.
    pub measurements: u64,
    /// The same in a second.
    pub measurements_per_s: f64,
    /// Share of the speed that the server has when it only copies weir's rows; from a full log only.
    pub ratio_to_limit: Option<f64>,
    /// The same until every chunk has its index, on both sides.
    pub ratio_to_limit_indexed: Option<f64>,
    /// Processor time for a million measurements. Unit: seconds.
    pub cpu_s_per_million: CpuPerMillion,
    /// Share of the processor time wanted on this machine that its host gave to others. A run with a large one says little
    /// about latencies; absent where there is no `/proc`.
    pub stolen_share: Option<f64>,
    /// Largest resident set of the daemon. Unit: bytes.
    pub rss_max_bytes: u64,
    /// Whether the load was the one that was asked for; over HTTP only.
    pub kept_schedule: Option<bool>,
    /// How many uplinks ended how; over HTTP only.
    pub sent: Option<SendFigures>,
    /// What was said about uplinks that were not acknowledged, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Latencies: of uplinks, each from due; of reading one series' day while a log is worked off.
    pub latency_ms: BTreeMap<&'static str, Latency>,
    /// Uplinks of probes that were not seen within a minute, by where they were looked for.
    pub unseen: BTreeMap<&'static str, u64>,
    /// Largest number of records acknowledged and not committed.
    pub lag_records_max: u64,
    /// Over HTTP: from the last answer to the last commit. Unit: seconds.
    pub drain_s: Option<f64>,
    /// The daemon's commits.
    pub commits: CommitFigures,
    /// How the daemon came back; only where the case asks.
    pub restart: Option<Restart>,
    /// The daemon's counts at the end.
    pub counts: Value,
    /// The second part, in which the fleet goes on over HTTP behind a full log; only where the case asks. Samples and plots
    /// are of the first.
    pub then: Option<Box<Figures>>,
}

/// Processor time for a million measurements. Unit: seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CpuPerMillion {
    /// Of the daemon.
    pub weir: f64,
    /// Of the database server; absent where it runs elsewhere.
    pub postgres: Option<f64>,
    /// Of both.
    pub both: Option<f64>,
}

/// Quantiles of a latency. Unit: milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half are faster.
    pub p50: f64,
    /// Nine in ten are faster.
    pub p90: f64,
    /// 99 in a hundred are faster.
    pub p99: f64,
    /// 999 in a thousand are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Reads the quantiles of a histogram over microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |q| histogram.value_at_quantile(q) as f64 / 1e3;
        Self {
            count: histogram.len(),
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }

    /// Gives those of a sender's outcomes that there are.
    pub fn of_tally(tally: &Tally) -> BTreeMap<&'static str, Self> {
        let all = [
            ("acknowledged", &tally.acknowledged),
            ("refused", &tally.refused),
            ("unanswered", &tally.unanswered),
            ("unsent", &tally.unsent),
            ("behind", &tally.behind),
        ];
        all.into_iter().filter(|(_, histogram)| !histogram.is_empty()).map(|(name, of)| (name, Self::of(of))).collect()
    }
}

/// The daemon's commits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CommitFigures {
    /// How many.
    pub count: u64,
    /// Rows of a mean one.
    pub rows_mean: f64,
    /// Mean time of those without a checkpoint. Unit: milliseconds.
    pub without_checkpoint_mean_ms: Option<f64>,
    /// How many had one.
    pub with_checkpoint: u64,
    /// Mean time of those. Unit: milliseconds.
    pub with_checkpoint_mean_ms: Option<f64>,
}

impl CommitFigures {
    /// Computes them.
    pub fn of(commits: &super::sample::Commits) -> Self {
        let mean_ms = |(count, seconds): (u64, f64)| (count > 0).then(|| seconds / count as f64 * 1e3);
        Self {
            count: commits.count,
            rows_mean: commits.rows_mean(),
            without_checkpoint_mean_ms: mean_ms(commits.without_checkpoint),
            with_checkpoint: commits.with_checkpoint.0,
            with_checkpoint_mean_ms: mean_ms(commits.with_checkpoint),
        }
    }
}

/// How the daemon came back. Unit: seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Restart {
    /// From the start after `kill -9` to caught up: every partition held, all that was committed replayed, no lag.
    pub after_kill_s: f64,
    /// From SIGTERM to the end.
    pub stop_s: f64,
    /// From the start after that to caught up.
    pub after_stop_s: f64,
}

impl Report {
    /// Gives the figures without the samples, on one line.
    pub fn line(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Self { samples: Vec::new(), ..self.clone() })
    }

    /// Gives the figures as a table for people.
    pub fn table(&self) -> String {
        table::table(self)
    }

    /// Writes `report.json` and `report.html` into a directory, which is made.
    ///
    /// Errors: the disk.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let json = serde_json::to_vec_pretty(self)?;
        std::fs::write(dir.join("report.json"), json)?;
        std::fs::write(dir.join("report.html"), html::page(self))
    }

    /// The bars that were missed.
    pub fn missed(&self) -> Vec<&'static str> {
        self.bars.iter().filter(|bar| bar.pass == Some(false)).map(|bar| bar.bar).collect()
    }
}
