//! `weir load`: measures the daemon by a case.

mod progress;
mod run;

use super::Settings;
use super::interrupts::Interrupts;
use crate::load::case::{Bars, Case, Source};
use anyhow::bail;
use progress::Progress;
use run::Run;
use std::path::PathBuf;

/// Measure the daemon: a case's uplinks through log, graph and database.
///
/// Takes an empty database and a data directory that is not there yet, and leaves both behind.
#[derive(clap::Args, Debug)]
pub(super) struct Load {
    /// The case: smoke, day, day-js, steady-10x, steady-100x, steady-100x-singly, million-series, or a folder with a case.toml.
    #[arg(long, value_name = "NAME")]
    case: String,
    /// Compare the tables with what they must hold.
    #[arg(long)]
    verify: bool,
    /// Measure how fast the same server takes the same rows by COPY alone.
    #[arg(long)]
    limit: bool,
    /// Write report.json and report.html there.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Threads of the daemon that run the graph, instead of the case's.
    #[arg(long)]
    workers: Option<usize>,
    /// Devices of the fleet, instead of the case's.
    #[arg(long)]
    devices: Option<u32>,
    /// Uplinks of a case from a full log, instead of the case's; copies included.
    #[arg(long)]
    uplinks: Option<usize>,
    /// Seconds of a case over HTTP, or of what follows a full log over HTTP, instead of the case's.
    #[arg(long)]
    seconds: Option<u64>,
}

impl Load {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let (case, baseline) = self.case()?;
        let interrupts = Interrupts::listen()?;
        let progress = Progress::default();
        let mut run = Run::new(settings, case, &progress)?;
        let measured = async {
            let mut report = run.measure(&self.case, self.verify).await?;
            report.baseline = baseline;
            if self.limit {
                run.limit(&mut report).await?;
            }
            Ok(report)
        };
        let measured = interrupts.unless(measured).await;
        run.put_away().await;
        progress.end();
        let mut report = measured?;
        report.bars = run.bars(&report)?;

        if let Some(dir) = &self.report {
            report.write(dir)?;
        }
        if self.json {
            println!("{}", report.line()?);
        } else {
            print!("{}", report.table());
        }
        if report.figures.verified == Some(false) {
            let verification = report.verification.map(|verified| serde_json::to_string_pretty(&verified)).transpose()?;
            bail!("the tables do not hold what they must: {}", verification.unwrap_or_default());
        }
        match report.missed() {
            missed if missed.is_empty() => Ok(()),
            missed => bail!("missed: {}", missed.join(", ")),
        }
    }

    /// The case, with what the command line changes.
    fn case(&self) -> anyhow::Result<(Case, Option<serde_json::Value>)> {
        let (mut case, baseline) = Case::find(&self.case)?;
        case.workers = self.workers.unwrap_or(case.workers);
        case.fleet.devices = self.devices.unwrap_or(case.fleet.devices);
        match (&mut case.source, self.uplinks) {
            (_, None) => {}
            (Source::Log { uplinks, .. }, Some(given)) => *uplinks = given,
            (Source::Http(_), Some(_)) => bail!("--uplinks is for cases from a full log; this one takes --seconds"),
        }
        match (case.source.posting_mut(), self.seconds) {
            (_, None) => {}
            (Some(posting), Some(given)) => posting.duration_s = given,
            (None, Some(_)) => bail!("--seconds is for cases over HTTP; this one takes --uplinks"),
        }
        if self.devices.is_some() || self.uplinks.is_some() || self.seconds.is_some() {
            // The other bars are for the load that the case names.
            case.bars = Bars { kept_schedule: case.bars.kept_schedule, ..Bars::default() };
        }
        Ok((case, baseline))
    }
}
