//! Gives each chunk or partition of a table with series the index that suits how it is filled.
//!
//! Invariant: what holds more than a page has an index by series within one round, and a B-tree once
//! the steady state is reached. Rows are read and written meanwhile: nothing here keeps them waiting.
//!
//! A B-tree is the best index to read one series by, and four fifths of what PostgreSQL does for a row
//! that is copied. Few rows a second never notice; a backlog does. So a chunk that is begun while a backlog is
//! worked off has a BRIN: commits are sorted by series and large then, and each page holds few series. The planner takes
//! it only if it knows that, and autovacuum may be too late to tell: the chunk is analyzed while it grows.
//! When the backlog is gone it gets its B-tree at once, which takes a fifth of the time, and the BRIN goes.

use super::super::error::{Doing, StoreError};
use super::super::sqlstate::{Remedy, remedy, words};
use super::super::tables::{Table, TableName};
use super::super::{Store, classes};
use std::collections::HashMap;
use tokio_postgres::{Client, Error};

/// Held by the connection of the daemon that makes indexes.
const LOCK: i64 = 0x7765_6972_0000_0003;
/// Pages of a BRIN range. Fewer make the index slow to walk, more make too many rows to look at.
const BRIN_PAGES: i64 = 2;
/// PostgreSQL's page. Unit: bytes.
const PAGE_BYTES: i64 = 8192;

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
/// State: the connection, which holds the lock that lets only one daemon do this, and how far each BRIN was summarized.
pub struct Indexer {
    store: Store,
    client: Option<Client>,
    summarized: Summarized,
}

/// The pages of a BRIN's table that it speaks of, by the index.
type Summarized = HashMap<String, i64>;

impl Indexer {
    /// Connects at the first round.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), client: None, summarized: HashMap::new() }
    }

    /// Looks at all chunks and partitions once. Gives none where another daemon does it.
    ///
    /// Errors: the connection is lost. What only one table refuses is in [`Indexed::postponed`].
    pub async fn round(&mut self, filling: Filling) -> Result<Option<Indexed>, StoreError> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => match self.connect().await? {
                Some(client) => client,
                None => return Ok(None),
            },
        };
        let classes = classes::read(&client).await.doing("the retention classes could not be read")?;
        let mut indexed = Indexed::default();
        for class in &classes {
            for table in Table::PER_CLASS.map(|table| table.named(class)) {
                for chunk in chunks(&client, &table).await.doing("the indexes could not be read")? {
                    match chunk.tend(&client, &table, filling, &mut self.summarized).await {
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
        self.client = Some(client);
        Ok(Some(indexed))
    }

    async fn connect(&self) -> Result<Option<Client>, StoreError> {
        let doing = "the making of indexes could not begin";
        let client = self.store.client().await?;
        // An index takes as long as it takes, and waits for whoever reads its chunk, at nobody's expense.
        client.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").await.doing(doing)?;
        let locked: bool = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.doing(doing)?.get(0);
        Ok(locked.then_some(client))
    }
}

/// A chunk or partition with its indexes by series.
struct Chunk {
    name: String,
    bytes: i64,
    /// Half of its rows or more are news to the planner.
    is_unknown: bool,
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

/// Reads the chunks or partitions of a table: both kinds inherit from it.
async fn chunks(client: &Client, table: &TableName) -> Result<Vec<Chunk>, Error> {
    let sql = "SELECT c.oid::regclass::text, pg_relation_size(c.oid), \
                      2 * pg_stat_get_mod_since_analyze(c.oid) > pg_stat_get_live_tuples(c.oid), \
                      coalesce(bool_or(x.valid AND x.tree), false), \
                      coalesce(array_agg(x.name) FILTER (WHERE x.valid AND NOT x.tree), '{}'), \
                      coalesce(array_agg(x.name) FILTER (WHERE NOT x.valid), '{}') \
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' \
               LEFT JOIN (SELECT indrelid, indexrelid::regclass::text AS name, indisvalid AS valid, \
                                 strpos(pg_get_indexdef(indexrelid), ' USING btree (' || $2) > 0 AS tree, \
                                 strpos(pg_get_indexdef(indexrelid), ' USING brin (series_id)') > 0 AS brin \
                          FROM pg_index WHERE indpred IS NULL) x ON x.indrelid = c.oid AND (x.tree OR x.brin) \
               WHERE i.inhparent = to_regclass($1) GROUP BY c.oid ORDER BY c.oid";
    let rows = client.query(sql, &[&table.as_str(), &table.table.index_columns()]).await?;
    let chunk = |row: tokio_postgres::Row| Chunk {
        name: row.get(0),
        bytes: row.get(1),
        is_unknown: row.get(2),
        has_tree: row.get(3),
        brins: row.get(4),
        invalid: row.get(5),
    };
    Ok(rows.into_iter().map(chunk).collect())
}

impl Chunk {
    /// Does what is due. Nothing of it can be part of a transaction.
    async fn tend(
        &self,
        client: &Client,
        table: &TableName,
        filling: Filling,
        summarized: &mut Summarized,
    ) -> Result<Tended, Error> {
        for index in &self.invalid {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
        }
        let (name, columns) = (&self.name, table.table.index_columns());
        match filling {
            _ if self.has_tree => self.drop_brins(client, summarized).await.map(|()| Tended::Well),
            // One page needs no index.
            _ if self.bytes <= PAGE_BYTES => Ok(Tended::Well),
            Filling::Steady => {
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY ON {name} ({columns})")).await?;
                self.drop_brins(client, summarized).await.map(|()| Tended::Built)
            }
            Filling::Bulk if self.brins.is_empty() => {
                let with = format!("WITH (pages_per_range = {BRIN_PAGES})");
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY ON {name} USING brin (series_id) {with}")).await?;
                self.analyze(client, columns).await.map(|()| Tended::Waits)
            }
            Filling::Bulk => {
                for index in &self.brins {
                    self.summarize(client, index, summarized).await?;
                }
                if self.is_unknown {
                    self.analyze(client, columns).await?;
                }
                Ok(Tended::Waits)
            }
        }
    }

    /// Summarizes the pages that came since: those that no summary speaks of are read by everybody. All ranges are walked
    /// only the first time, since that takes longer than the work itself once they are many.
    async fn summarize(&self, client: &Client, index: &String, summarized: &mut Summarized) -> Result<(), Error> {
        let pages = self.bytes / PAGE_BYTES;
        match summarized.insert(index.clone(), pages) {
            Some(before) if before == pages => {}
            Some(before) => {
                let begun = before - before % BRIN_PAGES;
                let sql = "SELECT count(brin_summarize_range($1::text::regclass, page)) \
                           FROM generate_series($2::bigint, $3::bigint - 1, $4::bigint) page";
                client.execute(sql, &[index, &begun, &pages, &BRIN_PAGES]).await?;
            }
            None => {
                client.execute("SELECT brin_summarize_new_values($1::text::regclass)", &[index]).await?;
            }
        }
        Ok(())
    }

    /// Tells the planner how rows lie, without which it does not choose the BRIN.
    async fn analyze(&self, client: &Client, columns: &str) -> Result<(), Error> {
        client.batch_execute(&format!("ANALYZE {} ({columns})", self.name)).await
    }

    async fn drop_brins(&self, client: &Client, summarized: &mut Summarized) -> Result<(), Error> {
        for index in &self.brins {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
            summarized.remove(index);
        }
        Ok(())
    }
}
