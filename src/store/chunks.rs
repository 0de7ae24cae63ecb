//! What a connection knows of the chunks or partitions of its tables, so that rows are copied straight into them.
//!
//! Invariant: what is known may be out of date, and no row is misplaced by it. A chunk refuses rows that are not its
//! own; and before a commit copies into chunks, it locks them, so that they stay as they are, and asks the server whether
//! each is still what a COPY into its table would come to, with nothing on the table that would be passed by.

use super::CopiedChunk;
use super::error::{Doing, StoreError};
use super::level::{Layout, Level};
use super::ranges::{self, Range};
use super::rows::{Batch, Row};
use super::sqlstate::{Remedy, remedy};
use super::tables::{Table, TableName};
use futures_util::future::try_join;
use std::borrow::Cow;
use std::collections::HashMap;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

/// Fewest rows of a commit for one chunk that are copied straight into it: fewer do not make up for the question.
pub const ROWS_MIN: usize = 1_000;
/// To tell whether many rows are of a chunk that is not known, one in so many is looked at; a prime, as rows come in patterns.
const SAMPLE: usize = 17;
/// Most chunks of one table that are known.
const KNOWN_MAX: usize = 64;
/// A look in vain doubles the commits until the next, up to 2 to the power of this.
const PAUSE_BITS_MAX: u32 = 8;

/// What is known on one connection, for each table.
///
/// State: at most [`KNOWN_MAX`] chunks a table, each with a prepared statement.
pub(super) struct Chunks {
    layout: Layout,
    /// Asks which chunks are sound. None where no rows are copied straight.
    sound: Option<Statement>,
    tables: HashMap<TableName, Known>,
}

/// What is known of one table.
#[derive(Default)]
struct Known {
    /// In the order in which they were found.
    chunks: Vec<Chunk>,
    /// Looks, one after the other, of which nothing came.
    in_vain: u32,
    /// The latest look found chunks that have not served yet.
    is_unproven: bool,
    /// How many commits are not to look.
    pause: u32,
}

/// A chunk or partition that rows may be copied into.
struct Chunk {
    name: String,
    range: Range,
    copy: Statement,
}

/// The rows of one table: those for its chunks, and those for itself.
pub(super) struct Split<'b, 'a> {
    pub(super) of_chunks: Vec<OfChunk<'b, 'a>>,
    pub(super) rest: Cow<'b, [Row<'a>]>,
}

/// The rows for one chunk.
pub(super) struct OfChunk<'b, 'a> {
    table: TableName,
    chunk: String,
    pub(super) copy: Statement,
    pub(super) rows: Cow<'b, [Row<'a>]>,
}

impl Chunks {
    /// Begins knowing nothing. So it stays on TimescaleDB Community, where rows beside the columnstore have to come
    /// through their table, which keeps account of them.
    pub(super) async fn of(client: &Client, level: Level) -> Result<Self, StoreError> {
        let layout = level.layout();
        let sound = match level {
            Level::TimescaleCommunity => None,
            Level::Postgres | Level::TimescaleApache => Some(client.prepare(&sound_sql(layout)).await),
        };
        let sound = sound.transpose().doing("the question about chunks could not be prepared")?;
        Ok(Self { layout, sound, tables: HashMap::new() })
    }

    /// Looks for chunks of rows that are many and whose chunk is not known. Gives whether there are rows to copy straight.
    ///
    /// Errors: a lost connection. What the server cannot tell is not known.
    pub(super) async fn learn(&mut self, client: &Client, batches: &[Batch<'_>]) -> Result<bool, Error> {
        let Some(sound) = &self.sound else { return Ok(false) };
        let mut any = false;
        for batch in batches.iter().filter(|batch| Table::PER_CLASS.contains(&batch.table.table)) {
            let Batch { table, rows, .. } = batch;
            if rows.len() < ROWS_MIN {
                continue;
            }
            let known = self.tables.entry(table.clone()).or_default();
            if known.of_all(batch).is_some() {
                any = true;
                continue;
            }
            let sample: Vec<Row<'_>> = rows.iter().step_by(SAMPLE).copied().collect();
            let (_, unknown) = split(&known.ranges(), &sample, 0);
            if unknown.len() >= ROWS_MIN / SAMPLE && known.is_to_look() {
                let found = find(client, self.layout, sound, table, &unknown).await;
                known.add(match found {
                    Err(error) if error.as_db_error().is_none() => return Err(error),
                    found => found.unwrap_or_default(),
                });
            }
            any |= !known.chunks.is_empty();
        }
        Ok(any)
    }

    /// Splits the rows of one table, which are sorted; they stay so within each chunk.
    ///
    /// Cost: none where all are of one chunk, as those of a backlog mostly are; else a look at each row.
    pub(super) fn split<'b, 'a>(&self, batch: &'b Batch<'a>) -> Split<'b, 'a> {
        let Batch { table, rows, .. } = batch;
        let Some(known) = self.tables.get(table) else {
            return Split { of_chunks: Vec::new(), rest: rows.into() };
        };
        let named = |nth: usize, rows| {
            let Chunk { name, copy, .. } = &known.chunks[nth];
            OfChunk { table: table.clone(), chunk: name.clone(), copy: copy.clone(), rows }
        };
        if let Some(nth) = known.of_all(batch).filter(|_| rows.len() >= ROWS_MIN) {
            return Split { of_chunks: vec![named(nth, rows.into())], rest: Cow::default() };
        }
        let (of_chunks, rest) = split(&known.ranges(), rows, ROWS_MIN);
        let of_chunks = of_chunks.into_iter().map(|(nth, rows)| named(nth, rows.into())).collect();
        Split { of_chunks, rest: rest.into() }
    }

    /// Locks the chunks of these rows for the rest of the transaction. Gives whether all may be copied into; where not,
    /// the transaction may be broken.
    ///
    /// Errors: what passes by itself.
    pub(super) async fn hold(&self, client: &Client, straight: &[OfChunk<'_, '_>]) -> Result<bool, Error> {
        let Some(sound) = self.sound.as_ref().filter(|_| !straight.is_empty()) else { return Ok(true) };
        let (tables, chunks): (Vec<&str>, Vec<&str>) =
            straight.iter().map(|rows| (rows.table.as_str(), rows.chunk.as_str())).unzip();
        // Not left to the COPY: one that cannot begin breaks the connection.
        let lock = format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", chunks.join(", ONLY "));
        let parameters: [&(dyn ToSql + Sync); 2] = [&tables, &chunks];
        match try_join(client.batch_execute(&lock), client.query(sound, &parameters)).await {
            Ok(((), sound)) => Ok(sound.len() == chunks.len()),
            Err(error) if error.as_db_error().is_none() || remedy(&error) == Remedy::Retry => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Notes that rows were copied straight, and committed.
    pub(super) fn were_right(&mut self) {
        for known in self.tables.values_mut().filter(|known| known.is_unproven) {
            (known.in_vain, known.pause, known.is_unproven) = (0, 0, false);
        }
    }

    /// Forgets all chunks: one of them is not what it was, or refused rows.
    pub(super) fn forget(&mut self) {
        for known in self.tables.values_mut() {
            known.chunks.clear();
            known.is_unproven = false;
        }
    }
}

impl Known {
    fn ranges(&self) -> Vec<Range> {
        self.chunks.iter().map(|chunk| chunk.range).collect()
    }

    /// Gives the chunk that takes all rows of a batch, if one that is known does.
    fn of_all(&self, batch: &Batch<'_>) -> Option<usize> {
        let span_us = batch.span_us.as_ref()?;
        let takes = |Range { start_us, end_us }: Range| start_us <= *span_us.start() && *span_us.end() < end_us;
        self.chunks.iter().position(|chunk| takes(chunk.range))
    }

    /// Counts the commits between two looks.
    fn is_to_look(&mut self) -> bool {
        let is_over = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_over
    }

    /// Adds what a look found, which counts as one in vain until it has served.
    fn add(&mut self, mut found: Vec<Chunk>) {
        self.pause = (1 << self.in_vain.min(PAUSE_BITS_MAX)) - 1;
        self.in_vain += 1;
        self.is_unproven = !found.is_empty();
        found.truncate(KNOWN_MAX);
        if self.chunks.len() + found.len() > KNOWN_MAX {
            self.chunks.clear();
        }
        self.chunks.append(&mut found);
    }
}

/// Finds the chunks that take many of these rows, which are a sample, and may be copied into.
async fn find(
    client: &Client,
    layout: Layout,
    sound: &Statement,
    table: &TableName,
    rows: &[Row<'_>],
) -> Result<Vec<Chunk>, Error> {
    let (names, ranges): (Vec<String>, Vec<Range>) = ranges::partitions(client, layout, table).await?.into_iter().unzip();
    let wanted: Vec<usize> = split(&ranges, rows, ROWS_MIN / SAMPLE).0.into_iter().map(|(nth, _)| nth).collect();
    let chunks: Vec<&str> = wanted.iter().map(|&nth| names[nth].as_str()).collect();
    let tables = vec![table.as_str(); chunks.len()];
    let sound: Vec<String> = client.query(sound, &[&tables, &chunks]).await?.iter().map(|row| row.get(0)).collect();
    let mut found = Vec::new();
    for (name, range) in wanted.into_iter().map(|nth| (&names[nth], ranges[nth])).filter(|(name, _)| sound.contains(name)) {
        found.push(Chunk { name: name.clone(), range, copy: client.prepare(&table.table.copy_sql(name)).await? });
    }
    Ok(found)
}

/// Gives the chunks of a table that rows may be copied straight into, as far as the level decides.
pub(super) async fn all(client: &Client, level: Level, table: &TableName) -> Result<Vec<CopiedChunk>, StoreError> {
    if level == Level::TimescaleCommunity {
        return Ok(Vec::new());
    }
    let chunks = ranges::partitions(client, level.layout(), table).await.doing("the chunks could not be read")?;
    let chunk = |(name, Range { start_us, end_us })| CopiedChunk { name, start_us, end_us };
    Ok(chunks.into_iter().map(chunk).collect())
}

/// Asks which of these chunks ($2) of these tables ($1) take a COPY just as the table would.
fn sound_sql(layout: Layout) -> String {
    // A chunk that is more than a heap, or one of several for a time, is the business of TimescaleDB.
    let of_timescale = match layout {
        Layout::Partitions => "",
        Layout::Hypertables => {
            "JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN _timescaledb_catalog.chunk k ON (k.schema_name, k.table_name) = (n.nspname, c.relname) AND k.status = 0 \
             JOIN _timescaledb_catalog.hypertable h ON h.id = k.hypertable_id AND h.num_dimensions = 1"
        }
    };
    // Triggers of statements, defaults and policies of the table are passed by, or the chunk's own come instead.
    format!(
        "SELECT u.chunk FROM unnest($1::text[], $2::text[]) AS u(parent, chunk) \
         JOIN pg_class p ON p.oid = to_regclass(u.parent) JOIN pg_class c ON c.oid = to_regclass(u.chunk) \
         JOIN pg_inherits i ON (i.inhrelid, i.inhparent) = (c.oid, p.oid) AND NOT i.inhdetachpending {of_timescale} \
         WHERE c.relkind = 'r' AND NOT p.relrowsecurity AND NOT c.relrowsecurity \
           AND has_table_privilege(p.oid, 'INSERT') AND has_table_privilege(c.oid, 'INSERT') \
           AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid IN (p.oid, c.oid) AND NOT t.tgisinternal \
                           AND t.tgname <> 'ts_insert_blocker') \
           AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid IN (p.oid, c.oid) AND a.attnum > 0 \
                           AND (a.atthasdef OR a.attidentity <> ''))"
    )
}

/// Splits rows into those of ranges that have `many`, with the range's place in `ranges`, and the rest.
fn split<'a>(ranges: &[Range], rows: &[Row<'a>], many: usize) -> (Vec<(usize, Vec<Row<'a>>)>, Vec<Row<'a>>) {
    let mut of_ranges = vec![Vec::new(); ranges.len()];
    let mut rest = Vec::new();
    // Neighbours mostly go to the same one.
    let mut latest = 0;
    for row in rows {
        let takes = |range: &Range| row.at_us().is_some_and(|at_us| (range.start_us..range.end_us).contains(&at_us));
        if !ranges.get(latest).is_some_and(takes) {
            latest = ranges.iter().position(takes).unwrap_or(ranges.len());
        }
        of_ranges.get_mut(latest).unwrap_or(&mut rest).push(*row);
    }
    let (of_many, few): (Vec<_>, Vec<_>) = of_ranges.into_iter().enumerate().partition(|(_, rows)| rows.len() >= many);
    rest.extend(few.into_iter().flat_map(|(_, rows)| rows));
    (of_many, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{ClassNo, DeviceNo, EventTime, FieldNo, Offset, Partition, Placed, SeriesId, Stored};

    /// Rows as (time, how many), the ranges that get some of them, and how many are left.
    fn check(ranges: &[(i64, i64)], rows: &[(i64, usize)], of_ranges: &[(usize, usize)], rest: usize) {
        let row = |at: i64| {
            let row = Stored { class: ClassNo(0), series: SeriesId::new(DeviceNo(1), FieldNo(0)), at: EventTime(at), value: 0.0 };
            Placed { partition: Partition(0), offset: Offset(0), row }
        };
        let placed: Vec<_> = rows.iter().flat_map(|&(at, many)| (0..many).map(move |_| row(at))).collect();
        let numbers: Vec<_> = placed.iter().map(Row::Number).collect();
        let ranges: Vec<_> = ranges.iter().map(|&(start_us, end_us)| Range { start_us, end_us }).collect();
        let (found, left) = split(&ranges, &numbers, ROWS_MIN);
        let counts: Vec<_> = found.iter().map(|(nth, rows)| (*nth, rows.len())).collect();
        assert_eq!((counts, left.len()), (of_ranges.to_vec(), rest), "{rows:?}");
        let is_its_own = |(nth, rows): &(usize, Vec<Row<'_>>)| {
            rows.iter().all(|row| row.at_us().is_some_and(|at| ranges[*nth].start_us <= at && at < ranges[*nth].end_us))
        };
        assert!(found.iter().all(is_its_own), "{rows:?}");
    }

    #[test]
    fn rows_go_to_the_range_of_their_time_where_they_are_many() {
        check(&[], &[(0, 2 * ROWS_MIN)], &[], 2 * ROWS_MIN);
        check(&[(0, 10)], &[(0, ROWS_MIN), (10, ROWS_MIN), (-1, 1)], &[(0, ROWS_MIN)], ROWS_MIN + 1);
        check(&[(0, 10)], &[(9, ROWS_MIN - 1)], &[], ROWS_MIN - 1);
        let turns = [(5, ROWS_MIN), (15, 1), (5, 1), (15, ROWS_MIN), (25, 3)];
        check(&[(10, 20), (0, 10), (20, 30)], &turns, &[(0, ROWS_MIN + 1), (1, ROWS_MIN + 1)], 3);
        check(&[(i64::MIN, 0), (0, i64::MAX)], &[(-5, ROWS_MIN), (5, ROWS_MIN)], &[(0, ROWS_MIN), (1, ROWS_MIN)], 0);
    }

    #[test]
    fn looks_in_vain_become_rare_and_never_end() {
        let mut known = Known::default();
        let mut looks = Vec::new();
        for commit in 0..1_000 {
            if known.is_to_look() {
                looks.push(commit);
                known.add(Vec::new());
            }
        }
        assert_eq!(looks, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 767]);
    }
}
