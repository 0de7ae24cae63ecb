//! Owns one variant: what is different in its tables, and the copying.

use super::LimitError;
use super::spool::{Piece, Spool, Spooled};
use crate::load::process::{Server, Usage};
use crate::load::processors::Processors;
use crate::store::maintenance::{Filling, Indexer};
use crate::store::{CopiedChunk, CopiedTable, STRAIGHT_ROWS_MIN, Store, StoreError, copied_tables};
use bytes::Bytes;
use futures_util::{SinkExt as _, pin_mut};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{Client, Statement};

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
    /// The same, and no rows straight into their chunks.
    ThroughTheTable,
    /// The same as weir's with B-trees from the beginning.
    BTree,
    /// The same as weir's without indexes.
    WithoutIndexes,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsWeir => "as weir's tables",
            Self::ThroughTheTable => "through the table",
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
    /// Share of the processor time wanted on this machine that its host gave to others.
    pub stolen_share: Option<f64>,
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
    let mut chunks = Vec::new();
    for Spooled { table, .. } in &spool.tables {
        let all = if variant == Variant::ThroughTheTable { Vec::new() } else { table.chunks(target, &client).await? };
        chunks.push(all);
    }
    let chunks: Arc<[Vec<CopiedChunk>]> = chunks.into();
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(target.client().await?);
    }
    let usage = || server.as_ref().map(Server::usage);
    let (before, processors, started) = (usage(), Processors::now(), Instant::now());
    let (stop, stopped) = watch::channel(false);
    let indexing =
        matches!(variant, Variant::AsWeir | Variant::ThroughTheTable).then(|| tokio::spawn(index(Indexer::new(target), stopped)));
    let next = Arc::<AtomicUsize>::default();
    let mut copying = JoinSet::new();
    for client in clients {
        copying.spawn(copy(client, Arc::clone(spool), Arc::clone(&chunks), Arc::clone(&next)));
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
    let stolen_share = Processors::now().zip(processors).map(|(after, before)| after.stolen_share_since(&before));
    drop(connected);
    let per_million = |(from, to): (Usage, Usage)| (to.cpu_s - from.cpu_s) / measurements.max(1) as f64 * 1e6;
    Ok(Outcome {
        variant,
        connections,
        seconds,
        indexed_seconds,
        rows_per_s: spool.rows as f64 / seconds,
        postgres_cpu_s_per_million: before.zip(after).map(per_million),
        stolen_share,
    })
}

/// Copies batch after batch, each in a transaction, until none is left; gives the connection back.
async fn copy(
    client: Client,
    spool: Arc<Spool>,
    chunks: Arc<[Vec<CopiedChunk>]>,
    next: Arc<AtomicUsize>,
) -> Result<Client, LimitError> {
    let mut tables = Vec::new();
    for (spooled, chunks) in spool.tables.iter().zip(&*chunks) {
        tables.push(Table::prepare(&client, spooled, chunks).await?);
    }
    loop {
        let nth = next.fetch_add(1, Relaxed);
        if nth >= spool.batches {
            return Ok(client);
        }
        client.batch_execute("BEGIN").await?;
        for table in &tables {
            table.copy(&client, nth).await?;
        }
        client.batch_execute("COMMIT").await?;
    }
}

/// The ways into one table.
struct Table<'a> {
    spooled: &'a Spooled,
    through: Statement,
    /// Those of chunks, by their times.
    straight: HashMap<(i64, i64), Statement>,
}

impl<'a> Table<'a> {
    async fn prepare(client: &Client, spooled: &'a Spooled, chunks: &[CopiedChunk]) -> Result<Self, LimitError> {
        let CopiedTable { name, columns, .. } = spooled.table;
        let prepare = async |name: &str| client.prepare(&format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)")).await;
        let mut straight = HashMap::new();
        for CopiedChunk { name, start_us, end_us } in chunks {
            straight.insert((*start_us, *end_us), prepare(name).await?);
        }
        Ok(Self { spooled, through: prepare(name).await?, straight })
    }

    /// Copies the rows of a batch, those that are many straight into their chunk, as weir does.
    async fn copy(&self, client: &Client, nth: usize) -> Result<(), LimitError> {
        let straight = |piece: &Piece| self.straight.get(&piece.chunk?).filter(|_| piece.rows >= STRAIGHT_ROWS_MIN);
        let through: Vec<&Piece> = self.spooled.pieces(nth).iter().filter(|piece| straight(piece).is_none()).collect();
        if !through.is_empty() {
            send(client, &self.through, self.spooled.stream(through)?).await?;
        }
        for piece in self.spooled.pieces(nth) {
            if let Some(statement) = straight(piece) {
                send(client, statement, self.spooled.stream([piece])?).await?;
            }
        }
        Ok(())
    }
}

async fn send(client: &Client, copy: &Statement, mut stream: Bytes) -> Result<(), LimitError> {
    let sink = client.copy_in::<_, Bytes>(copy).await?;
    pin_mut!(sink);
    while !stream.is_empty() {
        sink.feed(stream.split_to(stream.len().min(SEND_BYTES))).await?;
    }
    sink.finish().await?;
    Ok(())
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
