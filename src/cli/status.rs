//! `weir status`

use super::Settings;
use crate::client::Client;
use anyhow::Context;
use serde_json::Value;

/// Show a running daemon's state.
#[derive(clap::Args, Debug)]
pub(super) struct Status {
    /// The daemon's address; else http.listen of the settings.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print the whole answer as JSON.
    #[arg(long)]
    json: bool,
}

/// The order of the table's columns.
const COLUMNS: [&str; 5] = ["partition", "assumed", "log_end", "processed", "committed"];
/// The same of the table of quotas.
const QUOTAS: [&str; 6] = ["tenant", "per_second_max", "per_day_max", "over_quota", "measurements_today", "uplinks_over_today"];

impl Status {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let url = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", settings.load_local()?.http.listen),
        };
        let unreachable = || format!("no weir answers at {url}: start it with `weir serve`, or give its address with --url");
        let status: Value = Client::new(&url, None)?.json("/status").await.with_context(unreachable)?;
        if self.json {
            println!("{status:#}");
            return Ok(());
        }
        let ready = if status["ready"] == true { "ready" } else { "not ready (replaying, or the database is away)" };
        println!("{ready}; database: {}; lag: {} records", status["database"].as_str().unwrap_or("?"), status["lag_records"]);
        let counts =
            |names: &[&str]| names.iter().map(|n| format!("{n} {}", status["counts"][*n])).collect::<Vec<_>>().join(", ");
        println!("uplinks: {}", counts(&["uplinks", "uplinks_decoded", "duplicate", "uplinks_quarantined", "thinned"]));
        println!(
            "measurements: {}",
            counts(&["measurements", "stored", "unchanged", "late_duplicate", "measurements_quarantined"])
        );
        if let Some(quotas) = status["quotas"].as_array().filter(|quotas| !quotas.is_empty()) {
            super::output::print(quotas, &QUOTAS, false);
        }
        super::output::print(status["partitions"].as_array().map_or(&[], Vec::as_slice), &COLUMNS, false);
        Ok(())
    }
}
