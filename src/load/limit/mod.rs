//! Owns the physical limit: how fast the same server takes the very rows that weir wrote, with nothing to do
//! but COPY.
//!
//! The rows are read back from the tables in the order in which they lie there, cut into batches of the size
//! of weir's mean commit, each sorted by chunk, series and time as weir copies them, encoded beforehand and spooled to files.
//! Then each [`Variant`] copies them into fresh tables of a database of its own, made by weir's own store code.

mod run;
mod spool;

pub use run::{Outcome, Variant};

use crate::store::{Store, StoreError, maintenance};
use dataflows::model::{DAY_US, LogTime};
use serde::Serialize;
use spool::Spool;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::Client;

/// Why the limit is not known.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A statement.
    #[error("the limit cannot be measured: {}", words(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A spool file.
    #[error("the rows cannot be spooled: {0}")]
    Spool(#[from] std::io::Error),
    /// A stream that is not as PostgreSQL writes it.
    #[error("the server's COPY stream cannot be read: {0}")]
    Stream(&'static str),
    /// There is nothing to measure.
    #[error("the tables hold no rows, so there is no limit to measure")]
    Nothing,
}

fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// What the server can do at best.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Rows that were copied, of all tables.
    pub rows: u64,
    /// Transactions that they were copied in.
    pub batches: usize,
    /// The better time of one and two connections into tables as weir's, to the last COMMIT. Unit: seconds.
    pub seconds: f64,
    /// The same to the last index. Unit: seconds.
    pub indexed_seconds: f64,
    /// Each variant.
    pub variants: Vec<Outcome>,
}

/// Measures the limit for the rows in `store`'s tables. `measurements` is what figures are given for a million
/// of; `dir` takes the spool files; `name` is a database that is made, and dropped by [`drop_database`].
///
/// Errors: the server or the disk refuses.
pub async fn measure(
    store: &Store,
    partitions: u16,
    (rows_a_commit, measurements): (f64, u64),
    dir: &Path,
    name: &str,
    mut begun: impl FnMut(&str),
) -> Result<Limit, LimitError> {
    let client = store.client().await?;
    begun("reading weir's rows back");
    let spool = Arc::new(Spool::fill(store, &client, dir, rows_a_commit).await?);
    if spool.batches == 0 {
        return Err(LimitError::Nothing);
    }
    let mut variants = Vec::new();
    let mut seconds = [f64::INFINITY; 2];
    let mut indexed_seconds = f64::INFINITY;
    let for_information = [Variant::ThroughTheTable, Variant::BTree, Variant::WithoutIndexes].map(|variant| (variant, 0));
    for (variant, connections) in [(Variant::AsWeir, 1), (Variant::AsWeir, 2)].into_iter().chain(for_information) {
        // Those for information take what was better before.
        let connections = match connections {
            0 if seconds[1] < seconds[0] => 2,
            0 => 1,
            given => given,
        };
        begun(&format!("limit: {variant}, {connections} connection(s)"));
        let outcome = one(store, &client, partitions, name, &spool, (variant, connections), measurements).await?;
        if variant == Variant::AsWeir {
            seconds[connections - 1] = outcome.seconds;
            indexed_seconds = indexed_seconds.min(outcome.indexed_seconds.unwrap_or(f64::INFINITY));
        }
        variants.push(outcome);
    }
    let seconds = seconds[0].min(seconds[1]);
    Ok(Limit { rows: spool.rows, batches: spool.batches, seconds, indexed_seconds, variants })
}

/// Measures one variant in a database of its own.
async fn one(
    store: &Store,
    client: &Client,
    partitions: u16,
    name: &str,
    spool: &Arc<Spool>,
    (variant, connections): (Variant, usize),
    measurements: u64,
) -> Result<Outcome, LimitError> {
    drop_database(client, name).await?;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let mut target = store.database(name).await?;
    target.migrate(partitions).await?;
    // A round makes what two days from its time on need.
    let mut at_us = spool.first_us;
    while at_us <= spool.last_us + DAY_US {
        maintenance::run_once(&target, LogTime(at_us)).await?;
        at_us += DAY_US;
    }
    let outcome = run::run(&target, spool, variant, connections, measurements).await?;
    drop_database(client, name).await?;
    Ok(outcome)
}

/// Drops the database of a measurement, if it is there.
///
/// Errors: the server refuses.
pub async fn drop_database(client: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
}
