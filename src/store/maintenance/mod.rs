//! The upkeep of the tables: chunks ahead of time, indexes, partials merged, chunks past their retention
//! dropped, closed ones put into the columnstore. Invariant: whatever is read through the merged views is the
//! same before and after, except for what is past its retention.
//!
//! Every step is a short transaction that gives up rather than keep a commit waiting.

mod ahead;
mod compress;
mod index;
mod merge;
mod retention;

pub use index::{Filling, Indexed, Indexer};

use super::classes::{self, Class};
use super::error::Doing;
use super::level::Layout;
use super::sqlstate::{Remedy, remedy, words};
use super::{Level, Store, StoreError};
use dataflows::model::LogTime;
use std::fmt::Display;
use tokio_postgres::{Client, Error};

/// Held during the upkeep, so that only one daemon does it.
const LOCK: i64 = 0x7765_6972_0000_0002;

/// What one round of upkeep did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Partitions or chunks made ahead of time.
    pub made: u64,
    /// Partials that were merged into others.
    pub merged: u64,
    /// Partitions or chunks dropped.
    pub dropped: Vec<String>,
    /// Chunks put into the columnstore, for the first time or with late rows.
    pub compressed: Vec<String>,
    /// What could not be done now, with the server's words; the next round tries again.
    pub postponed: Vec<String>,
}

/// The connection and the facts that every step needs.
struct Round {
    client: Client,
    level: Level,
    classes: Vec<Class>,
    now: LogTime,
    report: Report,
}

/// Does one round at the time `now`. Gives none where another daemon is doing it.
///
/// Errors: a lost connection. What only one table refuses is in [`Report::postponed`].
pub async fn run_once(store: &Store, now: LogTime) -> Result<Option<Report>, StoreError> {
    let doing = "the upkeep could not begin";
    let client = store.client().await?;
    // The lock goes with the connection where this breaks off.
    if !client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.doing(doing)?.get::<_, bool>(0) {
        return Ok(None);
    }
    classes::ensure(&client, store.level.layout(), classes::Views::WhenTablesAreNew).await?;
    let classes = classes::read(&client).await.doing(doing)?;
    let mut round = Round { client, level: store.level, classes, now, report: Report::default() };
    ahead::run(&mut round).await?;
    merge::run(&mut round).await?;
    retention::run(&mut round).await?;
    compress::run(&mut round).await?;
    // The server notices a closed connection in its own time; a round that follows at once must find the lock free.
    round.client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await.doing("the upkeep could not end")?;
    Ok(Some(round.report))
}

impl Round {
    fn layout(&self) -> Layout {
        self.level.layout()
    }

    /// Gives the value of a step, or notes why it is postponed. Only a lost connection ends the round.
    fn or_postpone<T>(&mut self, what: impl Display, step: Result<T, Error>) -> Result<Option<T>, StoreError> {
        match step {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.as_db_error().is_none() && remedy(&error) == Remedy::Retry => {
                Err(StoreError::Query { doing: "the upkeep broke off", error })
            }
            Err(error) => {
                self.report.postponed.push(format!("{what}: {}", words(&error)));
                Ok(None)
            }
        }
    }
}
