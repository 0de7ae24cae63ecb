//! Owns the promise that a measurement or demo spoils nothing: it takes only an empty database and a data
//! directory that is not there.

use std::path::{Path, PathBuf};
use tokio_postgres::Client;

/// Why a database or directory is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotFresh {
    /// It may be somebody's.
    #[error(
        "the database has a tenant already ({0:?}), so it may be in use: make an empty database for this, and drop it afterwards"
    )]
    Database(String),
    /// It may be somebody's.
    #[error("{} is there already: name a directory that is not, it will be made", .0.display())]
    Directory(PathBuf),
    /// The database does not answer.
    #[error("the database cannot be looked at: {0}")]
    Unreadable(#[from] tokio_postgres::Error),
}

/// Looks whether a database has no tenant; it need not have weir's tables.
///
/// Errors: it has one, or does not answer.
pub async fn database(client: &Client) -> Result<(), NotFresh> {
    if client.query_one("SELECT to_regclass('tenant') IS NULL", &[]).await?.get(0) {
        return Ok(());
    }
    match client.query_opt("SELECT name FROM tenant LIMIT 1", &[]).await? {
        Some(tenant) => Err(NotFresh::Database(tenant.get(0))),
        None => Ok(()),
    }
}

/// Looks whether a data directory is not there.
///
/// Errors: it is.
pub fn directory(dir: &Path) -> Result<(), NotFresh> {
    if dir.exists() { Err(NotFresh::Directory(dir.into())) } else { Ok(()) }
}
