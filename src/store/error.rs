//! Errors of everything but the commit, which has its own.
//!
//! Each tells the server's words itself, so none gives the client's error as its source: who prints the whole
//! chain would tell them twice.

use super::sqlstate::{Remedy, remedy, words};
use dataflows::model::{Offset, Partition};
use uuid::Uuid;

/// Why the database could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be read.
    #[error("the database URL cannot be read ({}): write it as postgres://user:password@host:5432/database", words(.0))]
    Url(tokio_postgres::Error),
    /// No host took the connection.
    #[error("no connection to the database: {}. Look whether it runs, takes connections from here and accepts writes", words(.0))]
    Connect(tokio_postgres::Error),
    /// The URL names no host.
    #[error("the database URL names no host: write it as postgres://user:password@host:5432/database")]
    NoHost,
    /// A host took the connection, and nothing more came of it.
    #[error("the database host {host} took the connection and did not answer for {seconds} s: look whether it hangs")]
    Silent {
        /// Which.
        host: String,
        /// For how long.
        seconds: u64,
    },
    /// A host that was left behind by a failover.
    #[error(
        "the database host {host} is on timeline {found}, and the database was on {seen} before: a failover left this host \
         behind, and what is written there is lost. Take it out of the URL, or make it a replica of the new primary. If the \
         database was meant to be put back, {way_out}"
    )]
    OlderTimeline {
        /// Which.
        host: String,
        /// Its timeline.
        found: u32,
        /// The newest timeline that was seen.
        seen: u32,
        /// How to take the host nevertheless.
        way_out: String,
    },
    /// A statement failed.
    #[error("{doing}: {}", words(.error))]
    Query {
        /// What weir was doing.
        doing: &'static str,
        /// What the server said.
        error: tokio_postgres::Error,
    },
    /// The schema could not be brought up to date.
    #[error(
        "the schema could not be brought up to date: {0}. Nothing after the failed step was done; mend it and run `weir migrate`"
    )]
    Migration(#[from] refinery::Error),
    /// The tables are not there.
    #[error("the database has no weir schema: run `weir migrate`")]
    NotMigrated,
    /// The database was made for another number of partitions.
    #[error(
        "the database was made for {database} partitions, not {asked}: the number is fixed, since it decides where a device's \
         records stand. Ask for {database}"
    )]
    PartitionCount {
        /// What the database has.
        database: u16,
        /// What was asked for.
        asked: u16,
    },
    /// A number of partitions that cannot be.
    #[error("{0} partitions cannot be: ask for 1 to {max}; 16 suit most fleets", max = super::PARTITIONS_MAX)]
    PartitionRange(u16),
    /// The tables are hypertables, and TimescaleDB is gone.
    #[error("the tables are hypertables, but the extension timescaledb is not in this database: install the extension again")]
    ExtensionGone,
    /// The progress is that of another log.
    #[error(
        "partition {partition} holds what came from log {found}, and this log is {ours}. Look whether database and data directory \
         belong together. If the other log is lost for good, `weir log adopt` shows what going on with this one would lose"
    )]
    ForeignLog {
        /// The partition.
        partition: Partition,
        /// The log that the database knows.
        found: Uuid,
        /// The log of this daemon.
        ours: Uuid,
    },
    /// The log ends before the progress.
    #[error(
        "partition {partition} is committed up to offset {progress}, but the log ends at {log_end}: the log lost its end or is \
         an old copy. Bring the right log back, or go on with this one: `weir log adopt` shows what that would lose"
    )]
    LogBehind {
        /// The partition.
        partition: Partition,
        /// The first offset that is not committed.
        progress: Offset,
        /// Where the log ends, exclusive.
        log_end: Offset,
    },
    /// What weir wrote itself cannot be read back.
    #[error("{what} cannot be read: {why}. Only weir writes it; if somebody else did, put it back from a backup")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl StoreError {
    /// Whether it may pass by itself: back off, then try again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) | Self::Query { error, .. } => remedy(error) == Remedy::Retry,
            Self::OlderTimeline { .. } | Self::Silent { .. } => true,
            _ => false,
        }
    }

    /// Whether nothing that is done in the database can mend it: the daemon was given the wrong log or
    /// settings. Everything else is tried again for as long as it takes, since ingest does not need
    /// the database meanwhile.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Url(_)
                | Self::NoHost
                | Self::PartitionCount { .. }
                | Self::PartitionRange(_)
                | Self::ForeignLog { .. }
                | Self::LogBehind { .. }
        )
    }
}

/// Says what weir was doing when a statement failed.
pub(super) trait Doing<T> {
    /// `doing` begins the sentence: "the progress could not be read".
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Query { doing, error })
    }
}
