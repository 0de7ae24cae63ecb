//! Keeps the directory in step with the tables: woken by NOTIFY and by time, decided by comparison.

use crate::decoder::{DecoderKind, Decoders};
use crate::registry::tables::{self, BadRow};
use crate::registry::{Directory, DirectoryError};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use uuid::Uuid;

/// The tables are compared at least this often, whether or not anybody says that they changed.
const PERIOD: Duration = Duration::from_secs(300);
/// Notifications that come this close together cause one comparison.
const GATHER: Duration = Duration::from_millis(50);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Comparisons that somebody waits for, counted.
#[derive(Clone, Default)]
pub(super) struct Comparisons {
    asked: Arc<watch::Sender<u64>>,
    done: Arc<watch::Sender<u64>>,
}

impl Comparisons {
    /// Waits until what the tables say now is in the log: as long as it takes, should they be refused.
    pub(super) async fn one_from_now_on(&self) {
        let mut ours = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            ours = *asked;
        });
        let mut done = self.done.subscribe();
        // The sender lives as long as this does.
        let _ = done.wait_for(|done| *done >= ours).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the registry cannot be read from the database ({0})")]
    Read(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Keeps `directory` in step with the database until it is dropped.
pub(super) async fn run(store: Store, log: Uuid, directory: Arc<Directory>, decoders: Decoders, comparisons: Comparisons) {
    let mut told = Vec::new();
    loop {
        if let Err(problem) = follow(&store, log, &directory, &decoders, &comparisons, &mut told).await {
            match problem {
                // Somebody has to look; all else passes.
                Problem::Directory(error) => tracing::error!(%error, "what is in effect stays as it is"),
                problem => tracing::warn!(error = %problem, "what is in effect stays as it is"),
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Brings the decoders here that the tables name and this machine does not have. Waits for the database as long
/// as it takes: a worker that met an uplink of such a decoder could not go on.
pub(super) async fn fetch_decoders(store: &Store, decoders: &Decoders) {
    let fetch = async || -> Result<(), Problem> {
        let client = store.client().await?;
        put_missing(&client, decoders).await
    };
    while let Err(problem) = fetch().await {
        tracing::warn!(error = %problem, "the log is worked off when the decoders are here");
        tokio::time::sleep(RETRY).await;
    }
}

async fn put_missing(client: &tokio_postgres::Client, decoders: &Decoders) -> Result<(), Problem> {
    for (hash, kind, body) in tables::missing_decoders(client, |hash| decoders.has(hash)).await? {
        let decoders = decoders.clone();
        let kind = if kind == "wasm" { DecoderKind::Wasm } else { DecoderKind::JavaScript };
        let put = tokio::task::spawn_blocking(move || decoders.put(kind, &body)).await.expect("storing a decoder does not panic");
        if let Err(error) = put {
            tracing::error!(decoder = %hash, %error, "the decoder cannot be used");
        }
    }
    Ok(())
}

/// Follows over one connection, until it fails.
async fn follow(
    store: &Store,
    log: Uuid,
    directory: &Directory,
    decoders: &Decoders,
    comparisons: &Comparisons,
    told: &mut Vec<BadRow>,
) -> Result<(), Problem> {
    let (mut client, mut notices) = store.listen(tables::CHANNEL).await?;
    directory.never_again(&tables::provisioned(&client).await?);
    let mut asks = comparisons.asked.subscribe();
    loop {
        let asked = *asks.borrow_and_update();
        put_missing(&client, decoders).await?;
        let read = tables::read(&mut client, |hash| decoders.has(hash)).await?;
        directory.check(&read.wanted)?;
        if !read.wanted.is_empty() && read.wanted.registry_of != Some(log) {
            tables::note_log(&client, log).await?;
        }
        // Before the log forgets them: what it knows under these numbers must not become another device's.
        tables::spend(&client, &directory.numbers_gone(&read.wanted)).await?;
        let mut reconciled = directory.reconcile(read.wanted).await?;
        if reconciled.changes > 0 {
            tracing::info!(changes = reconciled.changes, "registry changes are in the log");
        }
        reconciled.bad.extend(read.bad);
        tell(&reconciled.bad, told);
        directory.save(false).await?;
        comparisons.done.send_replace(asked);
        if wait(&mut notices, &mut asks).await.is_none() {
            return Ok(());
        }
    }
}

/// Waits for a notification, for somebody to ask, or for the period to pass; `None` when the connection is gone.
async fn wait(notices: &mut Receiver<()>, asks: &mut watch::Receiver<u64>) -> Option<()> {
    tokio::select! {
        notice = notices.recv() => {
            notice?;
            tokio::time::sleep(GATHER).await;
        }
        Ok(()) = asks.changed() => {}
        () = tokio::time::sleep(PERIOD) => {}
    }
    while notices.try_recv().is_ok() {}
    Some(())
}

/// Reports rows that cannot be used, each once.
fn tell(bad: &[BadRow], told: &mut Vec<BadRow>) {
    for row in bad.iter().filter(|row| !told.contains(row)) {
        tracing::error!(table = row.table, key = %row.key, problem = %row.problem, "a row of the registry cannot take effect");
    }
    told.clear();
    told.extend_from_slice(bad);
}
