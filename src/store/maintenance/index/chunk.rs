//! One chunk or partition with its indexes by series: what is due for it, and the statements that do it.

use super::super::super::sqlstate::{Remedy, remedy};
use super::super::super::tables::{Table, TableName};
use super::Filling;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

/// PostgreSQL's page. Unit: bytes.
const PAGE_BYTES: i64 = 8192;
/// A chunk that has become so many times larger is analyzed again.
const ANALYZED_GROWTH: i64 = 4;
/// A chunk rests when it has not grown in so many rounds in which others of its table did.
const ROUNDS_AT_REST: u32 = 8;
/// How long a B-tree that is made in one go waits for those who write before it is made beside them.
const LOCK_PATIENCE: &str = "2s";
/// Up to this size a chunk gets its B-tree in one go while writers wait, which takes some ten seconds (3.7 to 5.6 s for 361 MB), and
/// two thirds of the work. Larger ones get theirs beside the writing: a commit gives up after fifteen seconds. Unit: bytes.
const AT_ONCE_BYTES_MAX: i64 = 768 << 20;

/// The chunks or partitions of a table with their indexes by series: both kinds inherit from it. From the catalogue's tables
/// alone: `pg_get_indexdef` fails where an index is being dropped.
const CHUNKS: &str = "SELECT c.oid::regclass::text, coalesce(pg_relation_size(c.oid), 0), \
              coalesce(bool_or(x.valid AND x.tree), false), \
              coalesce(array_agg(x.name) FILTER (WHERE x.valid AND NOT x.tree), '{}'), \
              coalesce(array_agg(x.name) FILTER (WHERE NOT x.valid), '{}') \
       FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' \
       LEFT JOIN (SELECT n.indrelid, n.indexrelid::regclass::text AS name, n.indisvalid AS valid, \
                         m.amname = 'btree' AND starts_with(k.columns, $2 || ', ') AS tree, \
                         m.amname = 'brin' AND starts_with(k.columns, 'series_id, ') AS brin \
                  FROM pg_index n JOIN pg_class o ON o.oid = n.indexrelid JOIN pg_am m ON m.oid = o.relam \
                  CROSS JOIN LATERAL (SELECT string_agg(coalesce(a.attname, '?') || ', ', '' ORDER BY u.nth) AS columns \
                                      FROM unnest(n.indkey::int2[]) WITH ORDINALITY u (no, nth) \
                                      LEFT JOIN pg_attribute a ON a.attrelid = n.indrelid AND a.attnum = u.no) k \
                  WHERE n.indpred IS NULL) x ON x.indrelid = c.oid AND (x.tree OR x.brin) \
       WHERE i.inhparent = to_regclass($1) GROUP BY c.oid ORDER BY c.oid";

/// Lists the chunks of a table: asked for each table after each commit of a backlog, so it is planned once.
pub(super) struct Chunks(Statement);

impl Chunks {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        client.prepare(CHUNKS).await.map(Self)
    }

    pub(super) async fn of(&self, client: &Client, table: &TableName) -> Result<Vec<Chunk>, Error> {
        let rows = client.query(&self.0, &[&table.as_str(), &table.table.index_columns()]).await?;
        let chunk = |row: tokio_postgres::Row| Chunk {
            name: row.get(0),
            table: table.table,
            bytes: row.get(1),
            has_tree: row.get(2),
            brins: row.get(3),
            invalid: row.get(4),
        };
        Ok(rows.into_iter().map(chunk).collect())
    }
}

pub(super) struct Chunk {
    pub(super) name: String,
    table: Table,
    pub(super) bytes: i64,
    has_tree: bool,
    brins: Vec<String>,
    /// What a broken-off making left.
    invalid: Vec<String>,
}

/// What is remembered of a chunk from round to round. Unit: bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Growth {
    bytes: i64,
    /// How large it was when the planner was told last how its rows lie. The server's own count of changes does not tell: it
    /// goes on where only some columns are analyzed.
    analyzed: i64,
    rounds_at_rest: u32,
}

impl Growth {
    /// Whether the chunk is larger than it was.
    pub(super) fn has_grown(&self, chunk: &Chunk) -> bool {
        self.bytes < chunk.bytes
    }

    /// Takes notice of the size in a round in which any chunk of the table grew or none.
    pub(super) fn see(&mut self, chunk: &Chunk, any_grew: bool) {
        if self.has_grown(chunk) {
            self.rounds_at_rest = 0;
        } else if any_grew {
            self.rounds_at_rest += 1;
        }
        self.bytes = chunk.bytes;
    }

    /// Has it rest once more before its B-tree is tried again.
    pub(super) fn rest_anew(&mut self) {
        self.rounds_at_rest = 0;
    }
}

/// How a chunk is left.
pub(super) enum Tended {
    /// There was nothing to do, or nothing that anybody waits for.
    Well,
    /// The B-tree is to be made now.
    Due,
    /// The B-tree is to be made when rows come no more, or few at a time.
    Waits,
}

impl Chunk {
    /// Does what is due, but for the B-tree. Nothing of it can be part of a transaction.
    pub(super) async fn tend(&self, client: &Client, filling: Filling, growth: &mut Growth) -> Result<Tended, Error> {
        match filling {
            _ if self.has_tree => {
                drop_indexes(client, &self.invalid).await?;
                drop_indexes(client, &self.brins).await.map(|()| Tended::Well)
            }
            // One page needs no index.
            _ if self.bytes <= PAGE_BYTES => Ok(Tended::Well),
            Filling::Steady => Ok(Tended::Due),
            Filling::Bulk if self.brins.is_empty() => {
                let (name, columns, pages) = (&self.name, self.table.index_columns(), self.table.brin_pages());
                let with = format!("WITH (pages_per_range = {pages})");
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY ON {name} USING brin ({columns}) {with}")).await?;
                self.analyze(client, growth).await.map(|()| Tended::Waits)
            }
            Filling::Bulk if growth.rounds_at_rest >= ROUNDS_AT_REST => Ok(Tended::Due),
            Filling::Bulk => {
                for index in &self.brins {
                    // Pages that no summary speaks of are read by everybody.
                    client.execute("SELECT brin_summarize_new_values($1::text::regclass)", &[index]).await?;
                }
                if self.bytes >= growth.analyzed * ANALYZED_GROWTH {
                    self.analyze(client, growth).await?;
                }
                Ok(Tended::Waits)
            }
        }
    }

    /// Makes the B-tree, which takes the place of a BRIN and of what a broken-off making left: that waits, like the making, for
    /// whoever keeps the chunk open.
    pub(super) async fn plant(&self, client: &Client) -> Result<(), Error> {
        drop_indexes(client, &self.invalid).await?;
        self.make_tree(client).await?;
        drop_indexes(client, &self.brins).await
    }

    async fn make_tree(&self, client: &Client) -> Result<(), Error> {
        // Hardly two rows are of one series and time: looking for equal keys is a tenth of the work, and for nothing.
        let of = format!("ON {} ({}) WITH (deduplicate_items = off)", self.name, self.table.index_columns());
        let beside = format!("CREATE INDEX CONCURRENTLY {of}");
        if self.brins.is_empty() || self.bytes > AT_ONCE_BYTES_MAX {
            return client.batch_execute(&beside).await;
        }
        // Who is kept from writing waits for no longer than the index takes: a transaction that stays open must not add to that.
        let at_once = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_PATIENCE}'; CREATE INDEX {of}; COMMIT");
        let Err(error) = client.batch_execute(&at_once).await else { return Ok(()) };
        client.batch_execute("ROLLBACK").await?;
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) { client.batch_execute(&beside).await } else { Err(error) }
    }

    /// Tells the planner how rows lie, without which it does not choose the BRIN.
    async fn analyze(&self, client: &Client, growth: &mut Growth) -> Result<(), Error> {
        growth.analyzed = self.bytes;
        client.batch_execute(&format!("ANALYZE {} ({})", self.name, self.table.index_columns())).await
    }
}

async fn drop_indexes(client: &Client, names: &[String]) -> Result<(), Error> {
    for name in names {
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
    }
    Ok(())
}

/// Whether the connection is gone, rather than the statement refused.
pub(super) fn is_lost(error: &Error) -> bool {
    error.as_db_error().is_none() && remedy(error) == Remedy::Retry
}
