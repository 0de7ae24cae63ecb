//! `weir log`

use super::{Settings, output};
use crate::log as local_log;
use crate::store::Store;
use anyhow::bail;
use clap::Subcommand;
use dataflows::model::Partition;
use serde_json::json;

/// The local log.
#[derive(Subcommand, Debug)]
pub(super) enum Log {
    /// Show its identity, size, and what each partition holds.
    Status {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make the database go on with this log, and name what is lost by that.
    Adopt {
        /// Do it; else it is only said what would be lost.
        #[arg(long)]
        yes: bool,
    },
    /// Move damaged segments away, so that the log can be opened, and name what is lost by that.
    SetAside,
}

impl Log {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self {
            Self::Status { json } => status(settings, json),
            Self::Adopt { yes } => adopt(settings, yes).await,
            Self::SetAside => set_aside(settings),
        }
    }
}

fn status(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let status = local_log::status(&settings.load_local()?.log.dir.join("log"))?;
    let partitions: Vec<_> = status
        .partitions
        .iter()
        .map(|p| json!({ "partition": p.partition.0, "start": p.start.0, "end": p.end.0, "records": p.end.0 - p.start.0 }))
        .collect();
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("log {}: {} bytes in {} segments", status.id, status.bytes, status.segments);
        output::print(&partitions, false);
        status.lost.iter().for_each(|range| println!("lost with a damaged segment: {range}"));
    }
    Ok(())
}

async fn adopt(settings: &Settings, yes: bool) -> anyhow::Result<()> {
    let config = settings.load()?;
    // Opening takes the log's lock, so that no daemon writes to it meanwhile.
    let (log, _) = local_log::Log::open(&config.log.dir.join("log"), config.log.options(), local_log::Clock::system())?;
    let store = Store::connect(config.database.store()).await?;
    let ends: Vec<_> = (0..log.partitions()).map(Partition).map(|p| (p, log.end(p))).collect();
    if !yes {
        bail!(
            "this makes the database forget its other log; what was acknowledged there and not committed is lost. Say --yes to do it"
        );
    }
    let lost = store.adopt(log.id(), &ends).await?;
    if lost.is_empty() {
        println!("The database goes on with log {}. Nothing is missing between its tables and this log.", log.id());
    }
    for range in lost {
        let to = range.to.map_or_else(|| "its unknown end".to_owned(), |to| to.to_string());
        println!("lost: partition {} of log {}, offsets {}..{to}", range.partition, range.log, range.from);
    }
    Ok(())
}

fn set_aside(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.load_local()?;
    let damages = local_log::set_aside(&config.log.dir.join("log"))?;
    if damages.is_empty() {
        println!("Nothing is damaged.");
    }
    for damage in damages {
        println!("set aside: {damage}");
    }
    Ok(())
}
