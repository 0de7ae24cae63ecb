//! `weir status`

use super::Settings;
use crate::client::Client;
use anyhow::Context;
use serde_json::Value;
use std::time::Duration;

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

/// How long those who want to know a little more wait for a daemon.
const PATIENCE: Duration = Duration::from_secs(2);

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
        for decoder in suspended(&status) {
            println!("{}", told(decoder));
        }
        if let Some(quotas) = status["quotas"].as_array().filter(|quotas| !quotas.is_empty()) {
            super::output::print(quotas, &QUOTAS, false);
        }
        super::output::print(status["partitions"].as_array().map_or(&[], Vec::as_slice), &COLUMNS, false);
        Ok(())
    }
}

/// Tells of one suspended decoder.
fn told(suspended: &Value) -> String {
    let partitions = suspended["partitions"].as_array().map_or(0, Vec::len);
    format!(
        "suspended: decoder {} of tenant {}, in {partitions} {}, after {} uplinks in a row that ran out of its limits; next trial {}: \
         mend it, then `weir quarantine retry --reason decoder_suspended`",
        suspended["decoder"].as_str().unwrap_or("?"),
        suspended["tenant"],
        if partitions == 1 { "partition" } else { "partitions" },
        suspended["failures"],
        suspended["next_trial"].as_str().unwrap_or("?"),
    )
}

/// Gives the decoders that are suspended; none where no daemon answers at the address of the settings.
pub(super) async fn decoders_suspended(settings: &Settings) -> Vec<Value> {
    let ask = async {
        let listen = settings.load_local().ok()?.http.listen;
        Client::new(&format!("http://{listen}"), None).ok()?.json("/status").await.ok()
    };
    let status: Value = tokio::time::timeout(PATIENCE, ask).await.ok().flatten().unwrap_or_default();
    suspended(&status).to_vec()
}

fn suspended(status: &Value) -> &[Value] {
    status["decoders_suspended"].as_array().map_or(&[], Vec::as_slice)
}
