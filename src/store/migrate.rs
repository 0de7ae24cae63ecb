//! Makes the schema and brings it up to date: numbered SQL, forward only, then the tables that
//! depend on retention classes and on what the database can do.

use super::error::Doing;
use super::level::Layout;
use super::{Level, PARTITIONS_MAX, Store, StoreError, classes, columnstore, sqlstate};
use refinery::{Migration, Runner};
use tokio_postgres::Client;

/// Every file of `migrations/`, in order.
const MIGRATIONS: [(&str, &str); 6] = [
    ("V1__registry", include_str!("../../migrations/V1__registry.sql")),
    ("V2__progress", include_str!("../../migrations/V2__progress.sql")),
    ("V3__numbers_and_logs", include_str!("../../migrations/V3__numbers_and_logs.sql")),
    ("V4__quarantine_retry", include_str!("../../migrations/V4__quarantine_retry.sql")),
    ("V5__columnstore", include_str!("../../migrations/V5__columnstore.sql")),
    ("V6__quotas", include_str!("../../migrations/V6__quotas.sql")),
];

/// Held while migrating, so that daemons that start together do it one after the other.
const LOCK: i64 = 0x7765_6972_0000_0001;

impl Store {
    /// Brings the schema up to date. On a new database, fixes the number of partitions and how tables are
    /// cut by time: adds the extension timescaledb where that is wanted and the server offers it.
    ///
    /// Errors: no or more than [`PARTITIONS_MAX`] partitions; a database made for another number of them; statements that the role may not do.
    pub async fn migrate(&mut self, partitions: u16) -> Result<(), StoreError> {
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(StoreError::PartitionRange(partitions));
        }
        let mut client = self.client().await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.doing("the migration lock was not given")?;
        // The lock goes with the connection, also when a step fails.
        let migrations: Vec<Migration> =
            MIGRATIONS.into_iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect::<Result<_, _>>()?;
        Runner::new(&migrations).run_async(&mut client).await?;

        let fixed = setting(&client, "partitions", &partitions.to_string()).await?;
        let database = parse_partitions(&fixed)?;
        if database != partitions {
            return Err(StoreError::PartitionCount { database, asked: partitions });
        }
        if layout_setting(&client).await?.is_none() {
            let layout = if self.config.timescaledb {
                self.offer_timescale(&client).await?;
                Level::detect(&client).await.doing("the extensions could not be read")?.layout()
            } else {
                Layout::Partitions
            };
            setting(&client, "layout", layout.as_str()).await?;
        }
        self.level = level(&client).await?;
        classes::ensure(&client, self.level.layout(), classes::Views::Renew).await?;
        if self.level == Level::TimescaleCommunity {
            columnstore::ensure(&client).await?;
        }
        Ok(())
    }

    /// How many partitions the database was made for.
    ///
    /// Errors: [`StoreError::NotMigrated`] on an empty database.
    pub async fn partitions(&self) -> Result<u16, StoreError> {
        let client = self.client().await?;
        parse_partitions(&read_setting(&client, "partitions").await?.ok_or(StoreError::NotMigrated)?)
    }

    /// Adds the extension if the server has it. It may not: the library must be preloaded and the
    /// role allowed, and the server ends a session that tries without; so in a session of its own.
    async fn offer_timescale(&self, client: &Client) -> Result<(), StoreError> {
        let offered = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL)",
                &[],
            )
            .await
            .doing("the extensions could not be read")?;
        if offered.get(0) {
            let attempt = self.client().await?;
            if let Err(error) = attempt.batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb").await {
                tracing::warn!(
                    error = sqlstate::words(&error),
                    "timescaledb is installed but cannot be added, so plain partitions are used for good; to have hypertables, \
                     add it as a superuser to an empty database and migrate again"
                );
            }
        }
        Ok(())
    }
}

/// What the database can do for weir: what it offers, unless its tables are made otherwise already.
pub(super) async fn level(client: &Client) -> Result<Level, StoreError> {
    let offered = Level::detect(client).await.doing("the extensions could not be read")?;
    match layout_setting(client).await?.as_deref() {
        Some(word) if word == Layout::Partitions.as_str() => Ok(Level::Postgres),
        Some(_) if offered.layout() == Layout::Partitions => Err(StoreError::ExtensionGone),
        _ => Ok(offered),
    }
}

async fn layout_setting(client: &Client) -> Result<Option<String>, StoreError> {
    read_setting(client, "layout").await
}

async fn read_setting(client: &Client, key: &str) -> Result<Option<String>, StoreError> {
    let doing = "the settings could not be read";
    if !classes::exists(client, "settings").await.doing(doing)? {
        return Ok(None);
    }
    let row = client.query_opt("SELECT value FROM settings WHERE key = $1", &[&key]).await.doing(doing)?;
    Ok(row.map(|row| row.get(0)))
}

/// Writes a setting if there is none yet; gives the one that holds.
async fn setting(client: &Client, key: &str, value: &str) -> Result<String, StoreError> {
    let doing = "the settings could not be written";
    client
        .execute("INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", &[&key, &value])
        .await
        .doing(doing)?;
    Ok(client.query_one("SELECT value FROM settings WHERE key = $1", &[&key]).await.doing(doing)?.get(0))
}

fn parse_partitions(text: &str) -> Result<u16, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable { what: "the setting `partitions`", why: format!("{text:?} is no number") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, MIGRATIONS.map(|(name, _)| format!("{name}.sql")));
    }
}
