//! Gives each chunk or partition of a table with series the index that suits how it is filled.
//!
//! Invariant: what holds more than a page has an index by series within one round, and a B-tree once
//! the steady state is reached. Rows are read meanwhile, and written too, but for the seconds at the end of a backlog.
//!
//! A B-tree is the best index to read one series by, and four fifths of what PostgreSQL does for a row
//! that is copied. Few rows a second never notice; a backlog does. So a chunk that is begun while a backlog is
//! worked off has a BRIN: commits are sorted by series and large then, and each page holds few series. It speaks of
//! time too, by which rows lie in order: that is what makes the planner take it.
//! When the backlog is gone the chunk gets its B-tree at once, which takes a fifth of the time, and the BRIN goes.

use super::super::error::{Doing, StoreError};
use super::super::sqlstate::{Remedy, remedy, words};
use super::super::tables::{Table, TableName};
use super::super::{Store, classes};
use std::collections::HashMap;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

/// Held by the connection of the daemon that makes indexes.
const LOCK: i64 = 0x7765_6972_0000_0003;
/// PostgreSQL's page. Unit: bytes.
const PAGE_BYTES: i64 = 8192;
/// A chunk that has become so many times larger is analyzed again.
const ANALYZED_GROWTH: i64 = 4;
/// How much of a chunk is looked at, in PostgreSQL's measure: 3,000 rows tell how rows lie as well as the 30,000 of the default,
/// which took as long as all summaries do. The server's own analysis looks at more, in its time.
const STATISTICS_TARGET: u32 = 10;
/// How long a B-tree that is made in one go waits for those who write before it is made beside them.
const LOCK_PATIENCE: &str = "2s";
/// Up to this size a chunk gets its B-tree in one go while writers wait, which takes some ten seconds, and two thirds of the
/// work. Larger ones get theirs beside the writing. Unit: bytes.
const AT_ONCE_BYTES_MAX: i64 = 1 << 30;

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
    /// What could not be done now, with the server's words; the next round tries again.
    pub postponed: Vec<String>,
}

/// Makes the indexes, over a connection of its own.
///
/// State: the connection, which holds the lock that lets only one daemon do this; how large each chunk with a BRIN was when
/// it was analyzed.
pub struct Indexer {
    store: Store,
    connection: Option<Connection>,
    analyzed: Analyzed,
}

struct Connection {
    client: Client,
    /// Lists the chunks of a table: asked for each table after each commit of a backlog, so it is planned once.
    chunks: Statement,
}

/// The size of each chunk when the planner was told last how its rows lie. Unit: bytes. The server's own count of changes
/// does not tell: it goes on where only some columns are analyzed.
type Analyzed = HashMap<String, i64>;

impl Indexer {
    /// Connects at the first round.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), connection: None, analyzed: HashMap::new() }
    }

    /// Looks at all chunks and partitions once. Gives none where another daemon does it.
    ///
    /// Errors: the connection is lost. What only one table refuses is in [`Indexed::postponed`].
    pub async fn round(&mut self, filling: Filling) -> Result<Option<Indexed>, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) if !connection.client.is_closed() => connection,
            _ => match self.connect().await? {
                Some(connection) => connection,
                None => return Ok(None),
            },
        };
        let client = &connection.client;
        let classes = classes::read(client).await.doing("the retention classes could not be read")?;
        let mut indexed = Indexed::default();
        for class in &classes {
            for table in Table::PER_CLASS.map(|table| table.named(class)) {
                for chunk in connection.chunks(&table).await.doing("the indexes could not be read")? {
                    match chunk.tend(client, &table, filling, &mut self.analyzed).await {
                        Ok(Tended::Well) => {}
                        Ok(Tended::Built) => indexed.built.push(chunk.name),
                        Ok(Tended::Waits) => indexed.waiting += 1,
                        Err(source) if source.as_db_error().is_none() && remedy(&source) == Remedy::Retry => {
                            return Err(StoreError::Query { doing: "the making of indexes broke off", error: source });
                        }
                        Err(source) => {
                            indexed.waiting += 1;
                            indexed.postponed.push(format!("{}: {}", chunk.name, words(&source)));
                        }
                    }
                }
            }
        }
        self.connection = Some(connection);
        Ok(Some(indexed))
    }

    async fn connect(&self) -> Result<Option<Connection>, StoreError> {
        let doing = "the making of indexes could not begin";
        let client = self.store.client().await?;
        // An index takes as long as it takes, and waits for whoever reads its chunk, at nobody's expense.
        let limits =
            format!("SET statement_timeout = 0; SET lock_timeout = 0; SET default_statistics_target = {STATISTICS_TARGET}");
        client.batch_execute(&limits).await.doing(doing)?;
        let locked: bool = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.doing(doing)?.get(0);
        if !locked {
            return Ok(None);
        }
        let chunks = client.prepare(CHUNKS).await.doing(doing)?;
        Ok(Some(Connection { client, chunks }))
    }
}

/// A chunk or partition with its indexes by series.
struct Chunk {
    name: String,
    bytes: i64,
    has_tree: bool,
    brins: Vec<String>,
    /// What a broken-off making left.
    invalid: Vec<String>,
}

enum Tended {
    /// There was nothing to do, or nothing that anybody waits for.
    Well,
    /// The B-tree was made.
    Built,
    /// The B-tree is to be made in the steady state.
    Waits,
}

/// The chunks or partitions of a table with their indexes by series: both kinds inherit from it.
const CHUNKS: &str = "SELECT c.oid::regclass::text, pg_relation_size(c.oid), \
              coalesce(bool_or(x.valid AND x.tree), false), \
              coalesce(array_agg(x.name) FILTER (WHERE x.valid AND NOT x.tree), '{}'), \
              coalesce(array_agg(x.name) FILTER (WHERE NOT x.valid), '{}') \
       FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' \
       LEFT JOIN (SELECT indrelid, indexrelid::regclass::text AS name, indisvalid AS valid, \
                         strpos(pg_get_indexdef(indexrelid), ' USING btree (' || $2) > 0 AS tree, \
                         strpos(pg_get_indexdef(indexrelid), ' USING brin (series_id') > 0 AS brin \
                  FROM pg_index WHERE indpred IS NULL) x ON x.indrelid = c.oid AND (x.tree OR x.brin) \
       WHERE i.inhparent = to_regclass($1) GROUP BY c.oid ORDER BY c.oid";

impl Connection {
    async fn chunks(&self, table: &TableName) -> Result<Vec<Chunk>, Error> {
        let rows = self.client.query(&self.chunks, &[&table.as_str(), &table.table.index_columns()]).await?;
        let chunk = |row: tokio_postgres::Row| Chunk {
            name: row.get(0),
            bytes: row.get(1),
            has_tree: row.get(2),
            brins: row.get(3),
            invalid: row.get(4),
        };
        Ok(rows.into_iter().map(chunk).collect())
    }
}

impl Chunk {
    /// Does what is due. Nothing of it can be part of a transaction.
    async fn tend(&self, client: &Client, table: &TableName, filling: Filling, analyzed: &mut Analyzed) -> Result<Tended, Error> {
        for index in &self.invalid {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
        }
        let (name, columns) = (&self.name, table.table.index_columns());
        match filling {
            _ if self.has_tree => self.drop_brins(client, analyzed).await.map(|()| Tended::Well),
            // One page needs no index.
            _ if self.bytes <= PAGE_BYTES => Ok(Tended::Well),
            Filling::Steady => {
                self.plant(client, columns).await?;
                self.drop_brins(client, analyzed).await.map(|()| Tended::Built)
            }
            Filling::Bulk if self.brins.is_empty() => {
                let with = format!("WITH (pages_per_range = {})", table.table.brin_pages());
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY ON {name} USING brin ({columns}) {with}")).await?;
                self.analyze(client, columns, analyzed).await.map(|()| Tended::Waits)
            }
            Filling::Bulk => {
                for index in &self.brins {
                    // Pages that no summary speaks of are read by everybody.
                    client.execute("SELECT brin_summarize_new_values($1::text::regclass)", &[index]).await?;
                }
                if analyzed.get(name).is_none_or(|bytes| self.bytes >= bytes * ANALYZED_GROWTH) {
                    self.analyze(client, columns, analyzed).await?;
                }
                Ok(Tended::Waits)
            }
        }
    }

    /// Makes the B-tree.
    async fn plant(&self, client: &Client, columns: &str) -> Result<(), Error> {
        let name = &self.name;
        if self.brins.is_empty() || self.bytes > AT_ONCE_BYTES_MAX {
            return client.batch_execute(&format!("CREATE INDEX CONCURRENTLY ON {name} ({columns})")).await;
        }
        // Who is kept from writing waits for no longer than the index takes: a transaction that stays open must not add to that.
        let at_once = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_PATIENCE}'; CREATE INDEX ON {name} ({columns}); COMMIT");
        match client.batch_execute(&at_once).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                client.batch_execute("ROLLBACK").await?;
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY ON {name} ({columns})")).await
            }
            Err(error) => {
                client.batch_execute("ROLLBACK").await?;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells the planner how rows lie, without which it does not choose the BRIN.
    async fn analyze(&self, client: &Client, columns: &str, analyzed: &mut Analyzed) -> Result<(), Error> {
        analyzed.insert(self.name.clone(), self.bytes);
        client.batch_execute(&format!("ANALYZE {} ({columns})", self.name)).await
    }

    async fn drop_brins(&self, client: &Client, analyzed: &mut Analyzed) -> Result<(), Error> {
        analyzed.remove(&self.name);
        for index in &self.brins {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
        }
        Ok(())
    }
}
