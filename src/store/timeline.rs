//! The newest timeline that this installation has seen, so that a failover is never undone.
//!
//! PostgreSQL begins a new timeline with every promotion. An old primary that comes back, by itself or with its
//! machine, still accepts writes on the old one: what is written there is lost when it is rebuilt. The newest
//! timeline is kept in a file beside the log, for the daemon may be restarted in between.

use super::StoreError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Client, Error};

/// A place in the history of a database cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    /// What `initdb` gave the cluster; its replicas and restored backups have it too.
    system_identifier: i64,
    /// Counts promotions.
    timeline: u32,
}

impl Place {
    /// Asks a server that is not in recovery.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        // The timeline is the first eight hex digits of a WAL file's name; that of the control file follows a
        // promotion only at the next checkpoint.
        let sql = "SELECT s.system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int \
                   FROM pg_control_system() s";
        let row = client.query_one(sql, &[]).await?;
        Ok(Self { system_identifier: row.get(0), timeline: row.get::<_, i32>(1).cast_unsigned() })
    }
}

/// The newest place that was seen.
#[derive(Debug)]
pub(super) struct Newest {
    seen: Mutex<Option<Place>>,
    /// Where it is kept from one start to the next.
    file: Option<PathBuf>,
}

impl Newest {
    /// Begins with what the file says, where there is one.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let seen = file.as_deref().and_then(|path| {
            load(path).unwrap_or_else(|error| {
                let file = path.display();
                tracing::warn!(%file, %error, "it is unknown on which timeline the database was: any is taken");
                None
            })
        });
        Self { seen: Mutex::new(seen), file }
    }

    /// Takes notice of where a host is. Another cluster begins a history of its own.
    ///
    /// Errors: the host is on an older timeline of the same cluster.
    pub(super) fn admit(&self, host: &str, found: Place) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some(seen) if seen == found => return Ok(()),
            Some(seen) if seen.system_identifier == found.system_identifier && found.timeline < seen.timeline => {
                return Err(StoreError::OlderTimeline {
                    host: host.to_owned(),
                    found: found.timeline,
                    seen: seen.timeline,
                    way_out: self.way_out(),
                });
            }
            Some(seen) => tracing::info!(host, from = seen.timeline, to = found.timeline, "the database is on another timeline"),
            None => {}
        }
        *seen = Some(found);
        if let Some(path) = &self.file
            && let Err(error) = store(path, found)
        {
            let file = path.display();
            tracing::warn!(%file, %error, "the database's timeline cannot be noted: a restart forgets it");
        }
        Ok(())
    }

    fn way_out(&self) -> String {
        match &self.file {
            Some(path) => format!("stop weir, remove {}, and start it again", path.display()),
            None => "start this again".into(),
        }
    }
}

fn load(path: &Path) -> io::Result<Option<Place>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Durable when it returns.
fn store(path: &Path, place: Place) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&place)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_timeline_is_refused_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("timeline.json");
        let place = |system_identifier, timeline| Place { system_identifier, timeline };
        let newest = Newest::open(Some(file.clone()));
        newest.admit("a", place(7, 1)).unwrap();
        newest.admit("b", place(7, 3)).unwrap();
        let refused = |newest: &Newest| {
            let error = newest.admit("a:5432", place(7, 2)).unwrap_err();
            assert!(error.is_transient() && !error.is_final());
            error.to_string()
        };
        let told = refused(&newest);
        assert!(told.contains("a:5432 is on timeline 2") && told.contains("remove ") && told.contains("timeline.json"), "{told}");

        let restarted = Newest::open(Some(file.clone()));
        refused(&restarted);
        restarted.admit("b", place(7, 3)).unwrap();
        // A database that was moved to a cluster of its own.
        restarted.admit("c", place(8, 1)).unwrap();
        Newest::open(Some(file.clone())).admit("c", place(8, 1)).unwrap();

        fs::write(&file, "{").unwrap();
        Newest::open(Some(file)).admit("a", place(7, 1)).unwrap();
    }
}
