//! Writes to PostgreSQL, exactly once.
//!
//! Owns the schema, the connections, progress and checkpoints, the commit, and the upkeep of the
//! tables. Invariant: the rows of a log record and the progress beyond it become visible in one
//! transaction, which only the newest owner of the record's partition can commit.
//!
//! | module | does |
//! |---|---|
//! | `hosts`, `timeline` | connect to the newest primary, and never back to an older one |
//! | `migrate`, `classes`, `tables`, `ranges` | make the schema, a set of tables for each retention class, and partitions of them |
//! | `columnstore`, `direct` | set tables up for the columnstore, where the database has one; tell which rows go there at once |
//! | `progress`, `adoption`, `checkpoint` | take partitions, tell how far the tables are, change logs, keep states |
//! | `commit`, `committer`, `session`, `catalogue`, `rows`, `copy` | sort and encode rows, write them |
//! | `chunks` | tells which rows go straight into their chunk or partition |
//! | `sqlstate`, `bisect`, `refusals` | decide about errors, set refused rows aside |
//! | `quarantine` | shows what is set aside, and what brings it out or ends it |
//! | `maintenance` | makes chunks ahead and their indexes, merges partials, drops what is past its retention, puts chunks into the columnstore |

mod adoption;
mod bisect;
mod catalogue;
mod checkpoint;
mod chunks;
mod classes;
mod columnstore;
mod commit;
mod committer;
mod config;
pub mod copy;
mod direct;
mod error;
mod hosts;
mod level;
mod listen;
pub mod maintenance;
mod migrate;
mod progress;
pub mod quarantine;
mod ranges;
mod refusals;
mod rows;
mod session;
mod sqlstate;
mod tables;
mod timeline;
mod timestamp;

pub use adoption::{Adoption, Extent, LostRange};
pub use checkpoint::{Checkpoint, StoredCheckpoint};
pub use chunks::ROWS_MIN as STRAIGHT_ROWS_MIN;
pub use commit::{Advance, Commit, CommitError, Commits, Committed, Landing, Refused, StopReason};
pub use committer::Committer;
pub use config::{StoreConfig, SynchronousCommit};
pub use error::StoreError;
pub use hosts::{Hosts, Opened};
pub use level::Level;
pub use progress::{Progress, Taken};
pub use sqlstate::{Remedy, classify};
pub use timestamp::Timestamp;

use tokio_postgres::Client;

/// Gives the tables of the standard class that commits copy rows into, in the order in which commits write them.
pub fn copied_tables() -> [CopiedTable; 5] {
    tables::Table::PER_CLASS.map(|table| CopiedTable {
        table,
        name: table.base_name(),
        columns: table.columns(),
        index_columns: table.index_columns(),
    })
}

/// A table that commits copy rows into.
#[derive(Clone, Copy, Debug)]
pub struct CopiedTable {
    table: tables::Table,
    /// Its name.
    pub name: &'static str,
    /// Its columns. The first is the time that cuts the table, the second the series.
    pub columns: &'static str,
    /// The columns of the B-tree that each of its chunks gets.
    pub index_columns: &'static str,
}

impl CopiedTable {
    /// Gives the chunks or partitions that commits may copy rows straight into.
    ///
    /// Errors: the server refuses.
    pub async fn chunks(&self, store: &Store, client: &Client) -> Result<Vec<CopiedChunk>, StoreError> {
        chunks::all(client, store.level, &tables::TableName::shared(self.table)).await
    }
}

/// A chunk or partition of such a table. Units: microseconds since the Unix epoch; the end is exclusive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopiedChunk {
    /// Its name, for SQL.
    pub name: String,
    /// Where its time begins.
    pub start_us: i64,
    /// Where its time ends.
    pub end_us: i64,
}

/// Most partitions that a database can be made for.
pub const PARTITIONS_MAX: u16 = 1024;

/// The database: how to reach it and what it can do.
///
/// State: no connection; each is made when it is asked for.
#[derive(Clone, Debug)]
pub struct Store {
    config: StoreConfig,
    hosts: Hosts,
    level: Level,
}

impl Store {
    /// Looks at the database; it may be empty.
    ///
    /// Errors: a URL that cannot be read, no host that accepts writes.
    pub async fn connect(config: StoreConfig) -> Result<Self, StoreError> {
        let hosts = Hosts::new(&config)?;
        Self::connect_to(config, hosts).await
    }

    /// Does the same over hosts that others use too.
    ///
    /// Errors: no host that accepts writes.
    pub async fn connect_to(config: StoreConfig, hosts: Hosts) -> Result<Self, StoreError> {
        let mut store = Self { config, hosts, level: Level::Postgres };
        let client = store.client().await?;
        store.level = migrate::level(&client).await?;
        Ok(store)
    }

    /// Gives another database of the same server, reached in the same way; it may be empty.
    ///
    /// Errors: as [`Self::connect`].
    pub async fn database(&self, name: &str) -> Result<Self, StoreError> {
        Self::connect_to(self.config.clone(), self.hosts.database(name)).await
    }

    /// What the database can do.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Makes a connection with weir's session settings; its task ends when the client is dropped.
    ///
    /// Errors: no host that accepts writes, or only one on an older timeline.
    pub async fn client(&self) -> Result<Client, StoreError> {
        self.open().await.map(|opened| opened.client)
    }

    /// Does the same, and gives what else there is of the connection.
    async fn open(&self) -> Result<Opened, StoreError> {
        let opened = self.hosts.open().await?;
        opened.client.batch_execute(&self.config.session_sql()).await.map_err(StoreError::Connect)?;
        Ok(opened)
    }
}
