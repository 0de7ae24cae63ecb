//! Owns the verdict: whether a database holds exactly what the fleet's acknowledged uplinks ask for.
//!
//! The database is read in one snapshot and compared with the [`Expectation`]: raw rows one by one, the
//! merged rollups of every bucket that can no longer change, the quarantine, and the daemon's own
//! accounts. The database must have been fed by this fleet alone.

mod compare;
mod report;
mod rows;
mod tables;

pub use compare::compare;
pub use report::{Difference, DifferenceKind, Verified};
pub use tables::{Row, SeriesKey, Tables};

use super::{Expectation, Rules};
use dataflows::model::TenantNo;
use std::time::Duration;
use tokio_postgres::Client;

/// Why a database could not be verified. What is wrong in it is no error but a [`Difference`].
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database does not answer, or its schema is not weir's.
    #[error("the database cannot be read: {0}: check the connection, and that `weir migrate` has run on it")]
    Database(#[from] tokio_postgres::Error),
    /// The daemon has not got there in time.
    #[error(
        "of {wanted} acknowledged uplinks only {committed} are committed after {waited_s} s: \
         is the daemon running? give it more time, or look at its log"
    )]
    Behind {
        /// How many were acknowledged.
        wanted: u64,
        /// How many the progress counts.
        committed: u64,
        /// How long that was waited for. Unit: seconds.
        waited_s: u64,
    },
    /// There is no such tenant.
    #[error("the database has no tenant number {0}: give the one that the fleet sends for")]
    Tenant(TenantNo),
}

/// Waits until the database's progress counts every acknowledged uplink, then compares.
///
/// Errors: the database cannot be read, or is not there within `patience`.
pub async fn verify(
    client: &mut Client,
    tenant: TenantNo,
    expectation: &Expectation,
    patience: Duration,
) -> Result<Verified, VerifyError> {
    let wanted = expectation.copies().acknowledged;
    tables::await_uplinks(client, wanted, patience).await?;
    let rules = tables::rules(client, tenant).await?;
    let tables = tables::read(client, tenant, expectation.fleet()).await?;
    Ok(compare(expectation, &rules, &tables))
}

/// Reads the rules that a tenant's tables set for the fleet.
///
/// Errors: the database cannot be read, or has no such tenant.
pub async fn rules(client: &Client, tenant: TenantNo) -> Result<Rules, VerifyError> {
    tables::rules(client, tenant).await
}
