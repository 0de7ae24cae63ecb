//! `weir quarantine list|show|retry|drop`

mod choice;
mod describe;
mod tell;

use super::{Settings, output};
use crate::store::Store;
use crate::store::quarantine::{Filter, RowsRetried, Way};
use anyhow::bail;
use choice::{Choice, Place};
use clap::{Args, Subcommand};

/// What was set aside.
#[derive(Subcommand, Debug)]
pub(super) enum Quarantine {
    /// List what was set aside, newest first.
    List(List),
    /// Show the entries of one record: where it came from, its payload, why it was set aside, what to do.
    Show(Show),
    /// Show what would be tried again: with --yes, do it. Uplinks are handed to the daemon, which stores what
    /// would have been stored; rows that the database refused are written into their tables.
    Retry(Change),
    /// Show what would be deleted for good: with --yes, do it. Nothing else loses data.
    Drop(Change),
}

/// Which entries are listed, and how.
#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    choice: Choice,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(0..))]
    limit: i64,
    /// Count them by reason instead.
    #[arg(long)]
    summary: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// One record.
#[derive(Args, Debug)]
pub(super) struct Show {
    #[command(flatten)]
    place: Place,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Which entries are changed; without a filter, all.
#[derive(Args, Debug)]
pub(super) struct Change {
    #[command(flatten)]
    choice: Choice,
    /// Do it.
    #[arg(long)]
    yes: bool,
}

/// Most entries of one record that are shown.
const SHOWN_MAX: i64 = 1000;

impl Quarantine {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let store = settings.store().await?;
        match self {
            Self::List(list) => list.run(&store).await,
            Self::Show(show) => show.run(&store).await,
            Self::Retry(retry) => retry.retry(&store).await,
            Self::Drop(drop) => drop.drop(&store).await,
        }
    }
}

impl List {
    async fn run(self, store: &Store) -> anyhow::Result<()> {
        let filter = self.choice.filter(jiff::Timestamp::now())?;
        if self.summary {
            let sums: Vec<_> = store.quarantine_sums(&filter).await?.iter().map(tell::sum).collect();
            output::print(&sums, &tell::SUM_COLUMNS, self.json);
        } else {
            let entries: Vec<_> = store.quarantine(&filter, self.limit).await?.iter().map(tell::line).collect();
            output::print(&entries, &tell::LINE_COLUMNS, self.json);
        }
        Ok(())
    }
}

impl Show {
    async fn run(self, store: &Store) -> anyhow::Result<()> {
        let (partition, offset) = self.place.get();
        let filter = Filter { place: Some((partition, offset)), ..Filter::default() };
        let entries = store.quarantine(&filter, SHOWN_MAX).await?;
        if entries.is_empty() {
            bail!(
                "nothing of record {offset} of partition {partition} is in quarantine: `weir quarantine list` shows what is. An \
                 uplink that failed again stands under its last attempt"
            );
        }
        for entry in &entries {
            let described = describe::entry(entry);
            if self.json { println!("{described}") } else { println!("{}", describe::text(&described)) }
        }
        Ok(())
    }
}

impl Change {
    async fn retry(self, store: &Store) -> anyhow::Result<()> {
        let filter = self.choice.filter(jiff::Timestamp::now())?;
        let sums = store.quarantine_sums(&filter).await?;
        let of = |way: Way| sums.iter().filter(|sum| sum.way == way).map(|sum| sum.entries).sum::<u64>();
        let (through_the_log, rows) = (of(Way::Uplink) + of(Way::Field), of(Way::Row));
        output::print(&sums.iter().map(tell::sum).collect::<Vec<_>>(), &tell::SUM_COLUMNS, false);
        if of(Way::None) > 0 {
            println!("{} cannot be tried again: their records could not be read, so there is nothing to decode.", of(Way::None));
        }
        if through_the_log + rows == 0 {
            println!("There is nothing to try again.");
        } else if !self.yes {
            println!(
                "Nothing was changed. Say --yes to let the daemon try {through_the_log} uplinks and fields again, and to write {rows} \
                 refused rows into their tables again."
            );
        } else {
            if through_the_log > 0 {
                let marked = store.quarantine_mark(&filter).await?;
                println!(
                    "Marked {marked} uplinks and fields. The daemon tries them again in the order in which they came; what fails \
                     again stays, with the new reason."
                );
            }
            if rows > 0 {
                tell_rows(&store.quarantine_retry_rows(&filter).await?);
            }
        }
        Ok(())
    }

    async fn drop(self, store: &Store) -> anyhow::Result<()> {
        let filter = self.choice.filter(jiff::Timestamp::now())?;
        let sums = store.quarantine_sums(&filter).await?;
        let entries: u64 = sums.iter().map(|sum| sum.entries).sum();
        output::print(&sums.iter().map(tell::sum).collect::<Vec<_>>(), &tell::SUM_COLUMNS, false);
        if entries == 0 {
            println!("There is nothing to drop.");
        } else if !self.yes {
            println!(
                "Nothing was changed. Say --yes to delete {entries} entries for good: what they hold is stored nowhere else but in \
                 the log, as long as that keeps it."
            );
        } else {
            println!("Deleted {} entries for good.", store.quarantine_drop(&filter).await?);
        }
        Ok(())
    }
}

fn tell_rows(rows: &RowsRetried) {
    let RowsRetried { written, refused, series_lifted, example } = rows;
    println!("Wrote {written} refused rows into their tables.");
    if *series_lifted > 0 {
        println!("{series_lifted} series are refused no longer.");
    }
    if let Some(example) = example {
        println!("{refused} rows stay in quarantine, for instance: {example}");
    }
}
