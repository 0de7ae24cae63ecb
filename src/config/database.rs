//! `[database]`

use super::Url;
use super::reader::Reader;
use crate::store::{StoreConfig, SynchronousCommit};
use std::fmt;
use std::time::Duration;

/// How to reach the database.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// `url`: `postgres://user:password@host:port,host2:port2/database`. Required; also `DATABASE_URL`.
    pub url: String,
    /// `migrate`: bring the schema up to date at start. Default: true.
    pub migrate: bool,
    /// `timescaledb`: on a new database, add the extension where the server offers it and use it; else
    /// plain partitions, for good. Default: true.
    pub timescaledb: bool,
    /// `connect_timeout`: for one host. Default: 5 s.
    pub connect_timeout: Duration,
    /// `statement_timeout`: for one statement, a COPY included. Default: 60 s.
    pub statement_timeout: Duration,
    /// `synchronous_commit`: wait until commits are on the database's disk. Not needed: progress
    /// tells what a crash took back, and the log still has it. Default: false.
    pub synchronous_commit: bool,
    /// `query_connections`: connections of the query endpoint. Default: 4.
    pub query_connections: usize,
}

impl Database {
    pub(super) fn read(mut reader: Reader<'_>, need: Url) -> Self {
        let shared = reader.shared("DATABASE_URL");
        let url = match (reader.optional("url"), shared) {
            (Some(url), _) | (None, Some(url)) => url,
            (None, None) if need == Url::Optional => String::new(),
            (None, None) => reader.required("url", "DATABASE_URL", String::new()),
        };
        let database = Self {
            url,
            migrate: reader.or("migrate", true),
            timescaledb: reader.or("timescaledb", true),
            connect_timeout: reader.or("connect_timeout", Duration::from_secs(5)),
            statement_timeout: reader.or("statement_timeout", Duration::from_secs(60)),
            synchronous_commit: reader.or("synchronous_commit", false),
            query_connections: reader.or("query_connections", 4),
        };
        if database.query_connections == 0 {
            reader.refuse("query_connections", "give at least 1");
        }
        database
    }

    /// Gives the same for the store.
    pub fn store(&self) -> StoreConfig {
        StoreConfig {
            timescaledb: self.timescaledb,
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
            synchronous_commit: if self.synchronous_commit { SynchronousCommit::On } else { SynchronousCommit::Off },
            ..StoreConfig::new(&self.url)
        }
    }
}

/// Leaves the URL out, since it may hold a password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("migrate", &self.migrate).finish_non_exhaustive()
    }
}
