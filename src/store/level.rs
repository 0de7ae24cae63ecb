//! What the database is able to do, found at start-up.

use std::fmt;
use tokio_postgres::{Client, Error};

/// What the database is able to do. The tables and queries are the same at every level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// PostgreSQL alone: declarative partitions, made and dropped by weir.
    Postgres,
    /// TimescaleDB under the Apache licence: hypertables and `drop_chunks`.
    TimescaleApache,
    /// TimescaleDB Community: the columnstore too.
    TimescaleCommunity,
}

impl Level {
    /// Asks the database.
    pub(super) async fn detect(client: &Client) -> Result<Self, Error> {
        // Not the version but the licence decides: both editions have the same functions, which
        // only refuse under the Apache licence.
        let row = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'), \
                        current_setting('timescaledb.license', true)",
                &[],
            )
            .await?;
        Ok(match (row.get(0), row.get::<_, Option<&str>>(1)) {
            (false, _) => Self::Postgres,
            (true, Some("timescale")) => Self::TimescaleCommunity,
            (true, _) => Self::TimescaleApache,
        })
    }

    /// Gives how tables are cut by time at this level.
    pub(super) fn layout(self) -> Layout {
        match self {
            Self::Postgres => Layout::Partitions,
            Self::TimescaleApache | Self::TimescaleCommunity => Layout::Hypertables,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::TimescaleApache => "TimescaleDB (Apache edition)",
            Self::TimescaleCommunity => "TimescaleDB (Community edition)",
        })
    }
}

/// How the tables are cut by time; decided once, when the database is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Declarative range partitions.
    Partitions,
    /// Hypertables with chunks.
    Hypertables,
}

impl Layout {
    /// The word in `settings`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Partitions => "partitions",
            Self::Hypertables => "hypertables",
        }
    }
}
