//! Owns one variant: what is different in its tables, and the copying.

use super::LimitError;
use super::spool::Spool;
use crate::load::process::{Server, Usage};
use crate::store::{Store, copied_tables};
use bytes::Bytes;
use futures_util::{SinkExt as _, pin_mut};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;

/// How much is sent at once, as weir does. Unit: bytes.
const SEND_BYTES: usize = 256 * 1024;

/// What tables the rows are copied into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Those that weir makes.
    AsWeir,
    /// The same without indexes.
    WithoutIndexes,
    /// The same with BRIN in place of the B-trees.
    Brin,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsWeir => "as weir's tables",
            Self::WithoutIndexes => "without indexes",
            Self::Brin => "with BRIN",
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
    index(&client, variant).await?;
    // Only a superuser may; without, the checkpoint of what went before falls into the measurement.
    let _ = client.batch_execute("CHECKPOINT").await;
    let server = Server::behind(&client).await?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(target.client().await?);
    }
    let usage = || server.as_ref().map(Server::usage);
    let (before, started) = (usage(), Instant::now());
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
    let after = usage();
    drop(connected);
    let per_million = |(from, to): (Usage, Usage)| (to.cpu_s - from.cpu_s) / measurements.max(1) as f64 * 1e6;
    Ok(Outcome {
        variant,
        connections,
        seconds,
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

/// Gives the tables the indexes of a variant. Those of a table with partitions or chunks go to all of them.
async fn index(client: &Client, variant: Variant) -> Result<(), LimitError> {
    if variant == Variant::AsWeir {
        return Ok(());
    }
    for (table, columns) in copied_tables() {
        let sql = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = to_regclass($1)";
        for index in client.query(sql, &[&table]).await? {
            client.batch_execute(&format!("DROP INDEX {}", index.get::<_, &str>(0))).await?;
        }
        if variant == Variant::Brin {
            let (time, rest) = columns.split_once(", ").ok_or(LimitError::Stream("a table has one column"))?;
            let (series, _) = rest.split_once(", ").ok_or(LimitError::Stream("a table has two columns"))?;
            client.batch_execute(&format!("CREATE INDEX ON {table} USING brin ({series}, {time})")).await?;
        }
    }
    Ok(())
}
