//! `weir log`

use super::{Settings, output};
use crate::log as local_log;
use crate::store::{Adoption, Extent, LostRange, Store};
use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

/// The local log.
#[derive(Subcommand, Debug)]
pub(super) enum Log {
    /// Show its identity, size, and what each partition holds.
    Status {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what it would mean that the database goes on with this log as it is now: with --yes, do it.
    Adopt {
        /// Do it.
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
        output::print(&partitions, &["partition", "start", "end", "records"], false);
        status.lost.iter().for_each(|range| println!("lost with a damaged segment: {range}"));
    }
    Ok(())
}

async fn adopt(settings: &Settings, yes: bool) -> anyhow::Result<()> {
    let config = settings.load()?;
    let dir = config.log.dir.join("log");
    // There must be a log: opening would make one.
    let status = local_log::status(&dir)?;
    let store = Store::connect(config.database.store()).await?;
    if !yes {
        let extents = extents(&status);
        print!("{}", told(status.id, &store.adoption(status.id, &extents).await?));
        println!("Nothing was changed. Say --yes to let the database go on with log {}.", status.id);
        return Ok(());
    }
    // Opening takes the log's lock, so that no daemon writes to it meanwhile.
    let (log, _) = local_log::Log::open(&dir, config.log.options(), local_log::Clock::system())?;
    let adoptions = store.adopt(log.id(), &extents(&log.status())).await?;
    print!("{}", told(log.id(), &adoptions));
    println!("The database goes on with log {}.", log.id());
    Ok(())
}

fn extents(status: &local_log::Status) -> Vec<Extent> {
    status.partitions.iter().map(|p| Extent { partition: p.partition, start: p.start, end: p.end }).collect()
}

/// Says what an adoption means, partition by partition, for a reader.
fn told(log: Uuid, adoptions: &[Adoption]) -> String {
    let mut lines = Vec::new();
    for Adoption { partition, left, offset, lost, state_begins, .. } in adoptions {
        lines.push(format!("partition {partition}: rows are written from offset {offset} of log {log} on"));
        for LostRange { log: lost_log, from, to, .. } in lost {
            lines.push(match to {
                Some(to) => format!("  lost: offsets {from}..{to} of log {lost_log}"),
                None => format!(
                    "  lost, unless that log is adopted again: what log {lost_log} holds from offset {from} on and the tables do not"
                ),
            });
        }
        if let Some(begins) = state_begins {
            lines.push(format!(
                "  the state begins anew at offset {begins}: hours and days that were open before it are not written"
            ));
        }
        if left.is_none() && lost.is_empty() && state_begins.is_none() {
            lines.push("  nothing is lost".into());
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
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
