//! Owns one variant: what is different in its tables, and the copying.

use super::LimitError;
use super::spool::Spool;
use crate::load::process::{Server, Usage};
use crate::store::maintenance::{Filling, Indexer};
use crate::store::{CopiedTable, Store, StoreError, copied_tables};
use bytes::Bytes;
use futures_util::{SinkExt as _, pin_mut};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;

/// How much is sent at once, as weir does. Unit: bytes.
const SEND_BYTES: usize = 256 * 1024;

/// Time between two looks at the indexes, as weir's.
const INDEX_PERIOD: Duration = Duration::from_secs(1);

/// What tables the rows are copied into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Those that weir makes, with the indexes that it gives them while rows come and afterwards.
    AsWeir,
    /// The same with B-trees from the beginning.
    BTree,
    /// The same without indexes.
    WithoutIndexes,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsWeir => "as weir's tables",
            Self::BTree => "with B-trees",
            Self::WithoutIndexes => "without indexes",
        })
    }
}

/// What a variant took.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Which.
    pub variant: Variant,
    /// Over how many connections.
    pub connections: usize,
    /// From the first BEGIN to the last COMMIT's answer.
    pub seconds: f64,
    /// The same until the last index was made; absent where none is made afterwards.
    pub indexed_seconds: Option<f64>,
    /// Rows of all tables a second.
    pub rows_per_s: f64,
    /// PostgreSQL's processor time for a million measurements of the run, stored or not; absent where it runs
    /// elsewhere. Unit: seconds.
    pub postgres_cpu_s_per_million: Option<f64>,
}

/// Copies all batches into the tables of `target`, which are empty.
pub(super) async fn run(
    target: &Store,
    spool: &Arc<Spool>,
    variant: Variant,
    connections: usize,
    measurements: u64,
) -> Result<Outcome, LimitError> {
    let client = target.client().await?;
    if variant == Variant::BTree {
        for CopiedTable { name, index_columns, .. } in copied_tables() {
            client.batch_execute(&format!("CREATE INDEX ON {name} ({index_columns})")).await?;
        }
    }
    // Only a superuser may; without, the checkpoint of what went before falls into the measurement.
    let _ = client.batch_execute("CHECKPOINT").await;
    let server = Server::behind(&client).await?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(target.client().await?);
    }
    let usage = || server.as_ref().map(Server::usage);
    let (before, started) = (usage(), Instant::now());
    let (stop, stopped) = watch::channel(false);
    let indexing = (variant == Variant::AsWeir).then(|| tokio::spawn(index(Indexer::new(target), stopped)));
    let next = Arc::<AtomicUsize>::default();
    let mut copying = JoinSet::new();
    for client in clients {
        copying.spawn(copy(client, Arc::clone(spool), Arc::clone(&next)));
    }
    // Kept until the usage is read: the server's processes end with them.
    let mut connected = Vec::new();
    while let Some(copied) = copying.join_next().await {
        connected.push(copied.expect("copying neither panics nor is aborted")?);
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut indexed_seconds = None;
    if let Some(indexing) = indexing {
        stop.send_replace(true);
        indexing.await.expect("the making of indexes neither panics nor is aborted")?;
        indexed_seconds = Some(started.elapsed().as_secs_f64());
    }
    let after = usage();
    drop(connected);
    let per_million = |(from, to): (Usage, Usage)| (to.cpu_s - from.cpu_s) / measurements.max(1) as f64 * 1e6;
    Ok(Outcome {
        variant,
        connections,
        seconds,
        indexed_seconds,
        rows_per_s: spool.rows as f64 / seconds,
        postgres_cpu_s_per_million: before.zip(after).map(per_million),
    })
}

/// Copies batch after batch, each in a transaction, until none is left; gives the connection back.
async fn copy(client: Client, spool: Arc<Spool>, next: Arc<AtomicUsize>) -> Result<Client, LimitError> {
    let mut statements = Vec::new();
    for table in &spool.tables {
        statements.push(client.prepare(&format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.table, table.columns)).await?);
    }
    loop {
        let nth = next.fetch_add(1, Relaxed);
        if nth >= spool.batches {
            return Ok(client);
        }
        client.batch_execute("BEGIN").await?;
        for (table, statement) in spool.tables.iter().zip(&statements) {
            let mut stream = table.batch(nth)?;
            if stream.is_empty() {
                continue;
            }
            let sink = client.copy_in::<_, Bytes>(statement).await?;
            pin_mut!(sink);
            while !stream.is_empty() {
                sink.feed(stream.split_to(stream.len().min(SEND_BYTES))).await?;
            }
            sink.finish().await?;
        }
        client.batch_execute("COMMIT").await?;
    }
}

/// Indexes the tables as the daemon does while a backlog lasts, and when it is gone.
async fn index(mut indexer: Indexer, mut stopped: watch::Receiver<bool>) -> Result<(), StoreError> {
    loop {
        indexer.round(Filling::Bulk).await?;
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = tokio::time::sleep(INDEX_PERIOD) => {}
        }
    }
    indexer.round(Filling::Steady).await.map(drop)
}
