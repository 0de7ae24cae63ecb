//! Gives each chunk or partition of a table with series the index that suits how it is filled.
//!
//! Invariant: what holds more than a page has an index by series within one round, and a B-tree once
//! the steady state is reached. Rows are read meanwhile, and written too, but for the seconds in which their chunk gets its B-tree.
//!
//! A B-tree is the best index to read one series by, and four fifths of what PostgreSQL does for a row
//! that is copied. Few rows a second never notice; a backlog does. So a chunk that is begun while a backlog is
//! worked off has a BRIN: commits are sorted by series and large then, and each page holds few series. It speaks of
//! time too, by which rows lie in order: that is what makes the planner take it.
//! When the chunk has come to rest, or the backlog is gone, it gets its B-tree at once, which takes a fifth of the time, and
//! the BRIN goes. At the end of a backlog two are made at a time, each by one process of PostgreSQL: that takes a fifth less time
//! than one after the other with parallel workers, which wait for their leader most of the time, and a quarter less of the
//! processors.

mod chunk;

use super::super::error::{Doing, StoreError};
use super::super::sqlstate::words;
use super::super::tables::Table;
use super::super::{Store, classes};
use chunk::{Chunk, Chunks, Growth, Tended, is_lost};
use futures_util::future;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_postgres::{CancelToken, Client, Error, NoTls};

/// Held by the connections of the daemon that makes indexes, one each, so that no other makes any before both are gone.
const LOCKS: [i64; LANES] = [0x7765_6972_0000_0003, 0x7765_6972_0000_0004];
/// B-trees that are made at a time.
const LANES: usize = 2;
/// How much of a chunk is looked at, in PostgreSQL's measure: 3,000 rows tell how rows lie as well as the 30,000 of the default,
/// which took as long as all summaries do. The server's own analysis looks at more, in its time.
const STATISTICS_TARGET: u32 = 10;

/// How rows come at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filling {
    /// A backlog is worked off: commits are large.
    Bulk,
    /// As the devices send.
    Steady,
}

/// What one round did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Indexed {
    /// Chunks or partitions that got their B-tree.
    pub built: Vec<String>,
    /// Chunks or partitions that hold rows and wait for their B-tree.
    pub waiting: usize,
    /// What could not be done now, with the server's words; a later round tries again.
    pub postponed: Vec<String>,
}

/// Makes the indexes, over connections of its own.
///
/// State: the connections, which hold the locks that let only one daemon do this; how large each chunk was.
pub struct Indexer {
    store: Store,
    lanes: Option<Lanes>,
    growth: HashMap<String, Growth>,
    /// While a backlog is worked off, over the second connection: rounds go on over the first, though a chunk that is begun
    /// meanwhile waits with its BRIN.
    planting: Option<Planting>,
}

struct Lanes {
    clients: [Arc<Client>; LANES],
    /// For the first of them.
    chunks: Chunks,
}

/// The making of the B-tree of a chunk at rest; broken off when it is dropped.
struct Planting {
    chunk: String,
    made: JoinSet<Result<(), Error>>,
    running: CancelToken,
}

impl Drop for Planting {
    fn drop(&mut self) {
        // The server would go on, for hours where somebody keeps the chunk open, and hold the lock of its connection.
        if !self.made.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            let running = self.running.clone();
            runtime.spawn(async move {
                if let Err(error) = running.cancel_query(NoTls).await {
                    tracing::debug!(%error, "the making of an index was not broken off");
                }
            });
        }
    }
}

impl Indexer {
    /// Connects at the first round.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), lanes: None, growth: HashMap::new(), planting: None }
    }

    /// Looks at all chunks and partitions once. Gives none where another daemon does it.
    ///
    /// Errors: a connection is lost. What only one table refuses is in [`Indexed::postponed`].
    pub async fn round(&mut self, filling: Filling) -> Result<Option<Indexed>, StoreError> {
        // Those that are of no use any more go before others are made, for they may hold a lock.
        let usable = self.lanes.take().filter(|lanes| !lanes.clients.iter().any(|client| client.is_closed()));
        let lanes = match usable {
            Some(lanes) => lanes,
            None => {
                self.planting = None;
                match self.connect().await? {
                    Some(lanes) => lanes,
                    None => return Ok(None),
                }
            }
        };
        let mut indexed = Indexed::default();
        self.note_planted(filling, &mut indexed).await?;
        let mut bare = self.tend(&lanes, filling, &mut indexed).await?;
        match filling {
            Filling::Steady => {
                for (chunk, planted) in lanes.plant(&mut bare).await {
                    indexed.waiting += usize::from(planted.is_err());
                    indexed.note(&chunk.name, planted)?;
                }
            }
            Filling::Bulk => {
                indexed.waiting += bare.len();
                if self.planting.is_none() && !bare.is_empty() {
                    self.planting = Some(lanes.plant_beside(bare.swap_remove(0)));
                }
            }
        }
        self.lanes = Some(lanes);
        Ok(Some(indexed))
    }

    async fn connect(&self) -> Result<Option<Lanes>, StoreError> {
        let doing = "the making of indexes could not begin";
        // An index takes as long as it takes, and waits for whoever reads its chunk, at nobody's expense.
        let limits = format!(
            "SET statement_timeout = 0; SET lock_timeout = 0; SET default_statistics_target = {STATISTICS_TARGET}; \
             SET max_parallel_maintenance_workers = 0"
        );
        let mut clients = Vec::new();
        for lock in LOCKS {
            let client = self.store.client().await?;
            client.batch_execute(&limits).await.doing(doing)?;
            let locked: bool = client.query_one("SELECT pg_try_advisory_lock($1)", &[&lock]).await.doing(doing)?.get(0);
            if !locked {
                return Ok(None);
            }
            clients.push(Arc::new(client));
        }
        let clients: [_; LANES] = clients.try_into().expect("each lock has its connection");
        let chunks = Chunks::prepare(&clients[0]).await.doing(doing)?;
        Ok(Some(Lanes { clients, chunks }))
    }

    /// Notes what became of the chunk at rest. The steady state waits for it: then both connections are free.
    async fn note_planted(&mut self, filling: Filling, indexed: &mut Indexed) -> Result<(), StoreError> {
        let Some(planting) = &mut self.planting else { return Ok(()) };
        let made = match filling {
            Filling::Steady => planting.made.join_next().await,
            Filling::Bulk => planting.made.try_join_next(),
        };
        let Some(made) = made else { return Ok(()) };
        let chunk = std::mem::take(&mut planting.chunk);
        self.planting = None;
        if let Some(growth) = self.growth.get_mut(&chunk) {
            growth.rest_anew();
        }
        match made {
            Ok(planted) => indexed.note(&chunk, planted),
            // The runtime ends.
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Does what is due for each chunk, and gives those that are to get their B-tree now.
    async fn tend(&mut self, lanes: &Lanes, filling: Filling, indexed: &mut Indexed) -> Result<Vec<Chunk>, StoreError> {
        let client = &lanes.clients[0];
        let classes = classes::read(client).await.doing("the retention classes could not be read")?;
        let (mut bare, mut growths) = (Vec::new(), HashMap::new());
        for class in &classes {
            for table in Table::PER_CLASS.map(|table| table.named(class)) {
                let chunks = lanes.chunks.of(client, &table).await.doing("the indexes could not be read")?;
                let known: Vec<Growth> =
                    chunks.iter().map(|chunk| self.growth.get(&chunk.name).copied().unwrap_or_default()).collect();
                let any_grew = chunks.iter().zip(&known).any(|(chunk, growth)| growth.has_grown(chunk));
                for (chunk, mut growth) in chunks.into_iter().zip(known) {
                    growth.see(&chunk, any_grew);
                    let name = chunk.name.clone();
                    if self.planting.as_ref().is_some_and(|planting| planting.chunk == name) {
                        // Whatever is done to it waits for its B-tree.
                        indexed.waiting += 1;
                    } else {
                        match chunk.tend(client, filling, &mut growth).await {
                            Ok(Tended::Well) => {}
                            Ok(Tended::Waits) => indexed.waiting += 1,
                            Ok(Tended::Due) => bare.push(chunk),
                            Err(error) => {
                                indexed.waiting += 1;
                                indexed.note(&name, Err(error))?;
                            }
                        }
                    }
                    growths.insert(name, growth);
                }
            }
        }
        self.growth = growths;
        Ok(bare)
    }
}

impl Lanes {
    /// Gives each chunk its B-tree, the largest first, each over the connection that is free next. Ends when all have been tried.
    async fn plant<'a>(&self, bare: &'a mut [Chunk]) -> Vec<(&'a Chunk, Result<(), Error>)> {
        bare.sort_by_key(|chunk| Reverse(chunk.bytes));
        let (bare, next) = (&*bare, AtomicUsize::new(0));
        let in_lane = async |client: &Arc<Client>| {
            let mut planted = Vec::new();
            while let Some(chunk) = bare.get(next.fetch_add(1, Relaxed)) {
                planted.push((chunk, chunk.plant(client).await));
            }
            planted
        };
        future::join_all(self.clients.iter().map(in_lane)).await.into_iter().flatten().collect()
    }

    /// Begins to give a chunk its B-tree over the second connection.
    fn plant_beside(&self, bare: Chunk) -> Planting {
        let (chunk, client, mut made) = (bare.name.clone(), Arc::clone(&self.clients[1]), JoinSet::new());
        let running = client.cancel_token();
        made.spawn(async move { bare.plant(&client).await });
        Planting { chunk, made, running }
    }
}

impl Indexed {
    /// Takes down what became of the B-tree of a chunk, or why something was not done.
    ///
    /// Errors: the connection is lost.
    fn note(&mut self, chunk: &str, done: Result<(), Error>) -> Result<(), StoreError> {
        match done {
            Ok(()) => self.built.push(chunk.to_owned()),
            Err(error) if is_lost(&error) => {
                return Err(StoreError::Query { doing: "the making of indexes broke off", error });
            }
            Err(error) => self.postponed.push(format!("{chunk}: {}", words(&error))),
        }
        Ok(())
    }
}
