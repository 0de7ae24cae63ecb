//! Owns the verdict: whether a database holds exactly what the fleet's acknowledged uplinks ask for.
//!
//! The database is read in one snapshot, series by series in the order of their ids, and compared with the
//! [`Expectation`]: raw rows one by one, the merged rollups of every bucket that can no longer change, the
//! quarantine, and the daemon's own accounts. The database must have been fed by this fleet alone.
//!
//! State: the catalogue of the series, and the rows of one series at a time.

mod accounts;
mod bucket;
mod catalogue;
mod policy;
mod report;
mod stream;
mod verifier;

pub use accounts::Accounts;
pub use policy::rules;
pub use report::{Difference, DifferenceKind, Verified};
pub use stream::Row;
pub use verifier::{SeriesKey, Verifier};

use super::Expectation;
use catalogue::Catalogue;
use dataflows::model::{BucketLevel, Offset, Partition, TenantNo};
use std::time::Duration;
use tokio_postgres::{Client, IsolationLevel, Transaction};

/// How often the progress is looked at. The daemon commits several times a second.
const POLL: Duration = Duration::from_millis(100);

/// Why a database could not be verified. What is wrong in it is no error but a [`Difference`].
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database does not answer, or its schema is not weir's.
    #[error("the database cannot be read: {0}: check the connection, and that `weir migrate` has run on it")]
    Database(#[from] tokio_postgres::Error),
    /// The daemon has not got there in time.
    #[error(
        "after {waited_s} s {missing} records of the log are still not committed: is the daemon running? give it more time, \
         or look at what it logs"
    )]
    Behind {
        /// How many are missing.
        missing: u64,
        /// How long that was waited for. Unit: seconds.
        waited_s: u64,
    },
    /// There is no such tenant.
    #[error("the database has no tenant number {0}: give the one that the fleet sends for")]
    Tenant(TenantNo),
}

/// Waits until the database's progress has reached these ends of the log's partitions.
///
/// Errors: the database cannot be read, or is not there within `patience`.
pub async fn await_committed(client: &Client, ends: &[(Partition, Offset)], patience: Duration) -> Result<(), VerifyError> {
    let started = tokio::time::Instant::now();
    let partitions: Vec<i16> = ends.iter().map(|(partition, _)| partition.0.cast_signed()).collect();
    let offsets: Vec<i64> = ends.iter().map(|(_, end)| end.0.cast_signed()).collect();
    // A partition that nobody has taken yet has no row.
    let sql = "SELECT coalesce(sum(greatest(e.\"end\" - coalesce(p.\"offset\", 0), 0)), 0)::bigint \
               FROM unnest($1::int2[], $2::int8[]) AS e (\"partition\", \"end\") LEFT JOIN progress p USING (\"partition\")";
    loop {
        let missing = client.query_one(sql, &[&partitions, &offsets]).await?.try_get::<_, i64>(0)?.cast_unsigned();
        if missing == 0 {
            return Ok(());
        }
        if started.elapsed() >= patience {
            return Err(VerifyError::Behind { missing, waited_s: patience.as_secs() });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Compares the tables of a tenant with what the acknowledged uplinks ask for. The daemon must have
/// committed them, see [`await_committed`]. `done` is told now and then how many series of all three passes
/// (raw rows, hours, days) are compared.
///
/// Errors: the database cannot be read.
pub async fn verify(
    client: &mut Client,
    tenant: TenantNo,
    expectation: &Expectation,
    mut done: impl FnMut(u64),
) -> Result<Verified, VerifyError> {
    let rules = rules(client, tenant).await?;
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // One sort of all rows is all that this session does.
    snapshot.batch_execute("SET LOCAL work_mem = '256MB'; SET LOCAL statement_timeout = 0").await?;
    let class = class_suffix(&snapshot, tenant).await?;
    let catalogue = Catalogue::read(&snapshot, tenant, expectation.fleet()).await?;
    let accounts = Accounts::read(&snapshot, tenant, &class).await?;
    let mut verifier = Verifier::new(expectation, &rules, &accounts.log_times);
    stream::raw(&snapshot, &class, &catalogue, &mut verifier, &mut done).await?;
    for level in [BucketLevel::Hour, BucketLevel::Day] {
        stream::rollup(&snapshot, &class, level, &catalogue, &mut verifier, &mut done).await?;
    }
    snapshot.rollback().await?;
    Ok(verifier.finish(&catalogue.unknown, &accounts))
}

/// What the tables of the tenant's retention class have behind their names.
async fn class_suffix(snapshot: &Transaction<'_>, tenant: TenantNo) -> Result<String, VerifyError> {
    let sql = "SELECT class_no, c.name FROM tenant JOIN retention_class c USING (class_no) WHERE tenant_no = $1";
    let row = snapshot.query_opt(sql, &[&tenant.0.cast_signed()]).await?.ok_or(VerifyError::Tenant(tenant))?;
    Ok(match row.try_get(0)? {
        0i16 => String::new(),
        _ => format!("_{}", row.try_get::<_, &str>(1)?),
    })
}
