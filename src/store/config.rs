//! How to reach the database, and what every session of weir sets.

use super::StoreError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::config::TargetSessionAttrs;

/// When a commit is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SynchronousCommit {
    /// Before it is on disk. Safe here, since `progress` tells what a crash took back and the log
    /// still has it; and much faster where commits are small.
    #[default]
    Off,
    /// When it is on disk, and on the synchronous standbys, if there are any.
    On,
}

/// How to reach the database, and what every session of weir sets.
#[derive(Clone)]
pub struct StoreConfig {
    /// `postgres://user:password@host:port,host2:port2/database`. Of several hosts, the first that
    /// accepts writes is taken. Connections are not encrypted.
    pub url: String,
    /// On a new database, add TimescaleDB where the server offers it, and use it. Default: true.
    pub timescaledb: bool,
    /// For one host. Default: 5 s.
    pub connect_timeout: Duration,
    /// For one statement, a COPY included. Default: 60 s.
    pub statement_timeout: Duration,
    /// For one lock. Default: 15 s.
    pub lock_timeout: Duration,
    /// After which the server ends a transaction that is kept open without a statement, so that a
    /// daemon that hangs or vanished does not hold its locks. Default: 30 s.
    pub idle_in_transaction_timeout: Duration,
    /// Silence after which the peer is probed; three lost probes, 5 s apart, end the connection.
    /// Default: 15 s.
    pub keepalive_idle: Duration,
    /// When a commit is answered. Default: before it is on disk.
    pub synchronous_commit: SynchronousCommit,
    /// Where the newest timeline that was seen is kept from one start to the next. Default: nowhere.
    pub timeline_file: Option<PathBuf>,
}

impl StoreConfig {
    /// Gives the defaults for a database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            timescaledb: true,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(15),
            idle_in_transaction_timeout: Duration::from_secs(30),
            keepalive_idle: Duration::from_secs(15),
            synchronous_commit: SynchronousCommit::default(),
            timeline_file: None,
        }
    }

    /// Gives how connections are made: to the first host that accepts writes, and none is kept that is dead.
    ///
    /// Errors: a URL that cannot be read.
    pub fn postgres(&self) -> Result<tokio_postgres::Config, StoreError> {
        let mut postgres: tokio_postgres::Config = self.url.parse().map_err(StoreError::Url)?;
        postgres
            .application_name("weir")
            .connect_timeout(self.connect_timeout)
            .tcp_user_timeout(self.keepalive_idle * 2)
            .keepalives(true)
            .keepalives_idle(self.keepalive_idle)
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(postgres)
    }

    /// Gives the statements that open a session.
    pub(super) fn session_sql(&self) -> String {
        let synchronous_commit = match self.synchronous_commit {
            SynchronousCommit::Off => "off",
            SynchronousCommit::On => "on",
        };
        format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SET synchronous_commit = {synchronous_commit}; SET TimeZone = 'UTC'; SET client_min_messages = warning",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            self.idle_in_transaction_timeout.as_millis(),
        )
    }
}

/// Leaves the URL out, since it may hold a password.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("synchronous_commit", &self.synchronous_commit)
            .finish_non_exhaustive()
    }
}
