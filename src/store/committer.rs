//! The commit: progress and rows in one transaction, and what to do when it fails.
//!
//! Invariant: whatever breaks and however often a commit is tried, its rows are in the tables once
//! or not at all, since each try begins by moving `progress` from the offset where the rows begin.

use super::bisect::{self, RefusedRow, WhollyRefused};
use super::classes::{self, Class};
use super::commit::{CommitError, Commits, Committed, Refused, StopReason, failed};
use super::direct::Direct;
use super::level::Layout;
use super::refusals::{RefusedSeries, RefusedSeriesSet};
use super::rows::{self, Batch, Batches, Row, Sweep};
use super::session::{Failure, Session};
use super::sqlstate::{Remedy, answer_lost, is_forbidden, remedy, words};
use super::{Progress, Store, StoreError, progress, ranges};
use crate::beside::beside_others;
use dataflows::model::Outputs;

/// So many rows take milliseconds to sort, in which whoever waits for an answer is to have it.
const SORTED_BESIDE_ROWS: usize = 10_000;

/// Commits on one connection, made again when it is lost.
///
/// State: the retention classes and refused series, as they were when the connection was made; what was
/// refused lately.
pub struct Committer {
    store: Store,
    /// None while a commit is under way, so that one that was dropped halfway is never continued.
    session: Option<Session>,
    classes: Vec<Class>,
    refused: RefusedSeriesSet,
    wholly_refused: WhollyRefused,
    sweep: Sweep,
    /// Columnstore or chunks did not take rows directly, for a reason that is not theirs: they are not asked again.
    only_plain: bool,
}

impl Committer {
    /// Connects when there is something to commit.
    pub fn new(store: &Store) -> Self {
        let (classes, refused, wholly_refused) = (Vec::new(), RefusedSeriesSet::default(), WhollyRefused::default());
        let (sweep, only_plain) = (Sweep::default(), false);
        Self { store: store.clone(), session: None, classes, refused, wholly_refused, sweep, only_plain }
    }

    /// Opens the connection.
    pub async fn connect(store: &Store) -> Result<Self, StoreError> {
        let mut committer = Self::new(store);
        committer.session = Some(committer.open().await?);
        Ok(committer)
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.client.is_closed())
    }

    /// Waits until the connection has ended; does not, where there is none.
    pub async fn disconnected(&mut self) {
        if let Some(session) = &mut self.session {
            session.ended().await;
        }
    }

    /// Reads the progress over the connection that the next commit goes over, and makes it if need be: the
    /// database may be older than it was left, or another one.
    pub async fn progress(&mut self) -> Result<Vec<Progress>, StoreError> {
        let session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => self.open().await?,
        };
        let progress = progress::read(&session.client).await;
        self.session = Some(session);
        progress
    }

    async fn open(&mut self) -> Result<Session, StoreError> {
        let session = Session::open(&self.store).await?;
        self.read_classes(&session).await?;
        self.refused = RefusedSeriesSet::read(&session.client).await?;
        Ok(session)
    }

    /// Makes all of some commits visible, which share no partition, or nothing of them. Rows that the database refuses
    /// go to quarantine, within limits; missing partitions are made.
    pub async fn commit(&mut self, commits: Commits<'_>) -> Result<Committed, CommitError> {
        commits.assert_consistent();
        let mut session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => self.open().await?,
        };
        let outcome = self.commit_on(&mut session, commits).await;
        if outcome.is_ok() {
            self.session = Some(session);
            self.sweep = self.sweep.back();
        } else {
            // Its locks go now. The connection goes too: a COPY that could not begin breaks it a little later.
            let _ = session.rollback().await;
        }
        outcome
    }

    async fn commit_on(&mut self, session: &mut Session, commits: Commits<'_>) -> Result<Committed, CommitError> {
        let mut partitions_made = false;
        // Series that this commit finds to be refused.
        let mut found = Vec::new();
        let mut batches = self.batches(session, commits, &found).await?;
        if !batches.set_aside.is_empty() {
            // A person may have lifted a refusal since.
            self.refused = RefusedSeriesSet::read(&session.client).await?;
            batches = self.batches(session, commits, &found).await?;
        }
        let asks = session.copies_directly && !self.only_plain;
        let is_direct = asks && batches.tables.iter().any(|batch| self.split(commits, batch).is_some());
        let mut care = if is_direct {
            Care::Direct
        } else if !self.only_plain && session.learn_chunks(&batches.tables).await? {
            Care::Chunks
        } else {
            Care::Whole
        };
        loop {
            let source = match self.attempt(session, commits, &batches, &found, care).await {
                Ok(committed) => {
                    tell(&found);
                    self.refused.extend(found);
                    return Ok(committed);
                }
                Err(Failure::SeriesRefused(more)) => {
                    session.rollback().await.map_err(failed)?;
                    found.extend(more);
                    batches = self.batches(session, commits, &found).await?;
                    continue;
                }
                Err(Failure::ChunkLeft) => {
                    session.chunks.forget();
                    session.rollback().await.map_err(failed)?;
                    care = Care::Whole;
                    continue;
                }
                Err(Failure::Fenced(partition)) => return Err(CommitError::Fenced { partition }),
                Err(Failure::Stop(reason)) => return Err(reason.into()),
                Err(Failure::AnswerLost(source)) => return Err(CommitError::Unknown(failed(source))),
                Err(Failure::Server(source)) => source,
            };
            let was_straight = care == Care::Chunks;
            if was_straight {
                session.chunks.forget();
                care = Care::Whole;
            }
            match remedy(&source) {
                Remedy::MakePartition if !partitions_made => {}
                Remedy::Bisect | Remedy::MakePartition if care != Care::Halves => care = Care::Halves,
                Remedy::Stop if was_straight && is_forbidden(&source) => {
                    tracing::warn!(error = words(&source), "no rows are copied straight into chunks any more");
                    self.only_plain = true;
                    return Err(CommitError::Retry(failed(source)));
                }
                // What the direct way cannot do may be done the plain way; if not, that says what is amiss.
                Remedy::Stop if care == Care::Direct => {
                    tracing::warn!(
                        error = words(&source),
                        "no rows are copied straight into the columnstore any more; they go there later"
                    );
                    self.only_plain = true;
                    return Err(CommitError::Retry(failed(source)));
                }
                Remedy::Retry => return Err(CommitError::Retry(failed(source))),
                _ => return Err(StopReason::Database(failed(source)).into()),
            }
            session.rollback().await.map_err(failed)?;
            // Before rows are judged one by one too: those that only lack a partition are good.
            if !partitions_made && self.store.level.layout() == Layout::Partitions {
                self.make_partitions(session, commits, &batches).await.map_err(failed)?;
            }
            partitions_made = true;
        }
    }

    /// Sorts the rows into tables; makes those of a class that was added lately.
    async fn batches<'a>(
        &mut self,
        session: &Session,
        commits: Commits<'a>,
        found: &[RefusedSeries],
    ) -> Result<Batches<'a>, CommitError> {
        let mut refused = self.refused.clone();
        refused.extend(found.iter().cloned());
        let sort = || rows::batches(commits, &self.classes, &refused, self.sweep);
        let rows: usize = commits.outputs().map(Outputs::len).sum();
        let sorted = if rows > SORTED_BESIDE_ROWS { beside_others(sort) } else { sort() };
        if let Ok(batches) = sorted {
            return Ok(batches);
        }
        self.read_classes(session).await?;
        rows::batches(commits, &self.classes, &refused, self.sweep).map_err(|class| StopReason::ClassMissing(class).into())
    }

    /// Reads the classes, each of which then has its tables.
    async fn read_classes(&mut self, session: &Session) -> Result<(), StoreError> {
        classes::ensure(&session.client, self.store.level.layout(), classes::Views::WhenTablesAreNew).await?;
        let doing = "the retention classes could not be read";
        self.classes = classes::read(&session.client).await.map_err(|error| StoreError::Query { doing, error })?;
        Ok(())
    }

    /// Makes the partitions that rows of the commit need, each in a transaction of its own.
    /// Hypertables make their chunks themselves.
    async fn make_partitions(
        &self,
        session: &mut Session,
        commits: Commits<'_>,
        batches: &Batches<'_>,
    ) -> Result<(), tokio_postgres::Error> {
        for (table, class) in classes::all(&self.classes) {
            let of_table = batches.tables.iter().chain([&batches.quarantine]).filter(|batch| batch.table == table);
            let mut instants: Vec<i64> = of_table.flat_map(|batch| batch.rows.iter().filter_map(Row::at_us)).collect();
            if table == batches.quarantine.table {
                // Rows that are refused come with the log time of their advance.
                instants.extend(commits.advances().map(|advance| advance.log_time.0));
            }
            let existing = ranges::existing(&session.client, Layout::Partitions, &table).await?;
            for range in ranges::missing(&existing, instants, table.table.interval_us(class)) {
                ranges::make(&mut session.client, Layout::Partitions, &table, range).await?;
            }
        }
        Ok(())
    }

    /// Tries the whole transaction once.
    async fn attempt(
        &mut self,
        session: &mut Session,
        commits: Commits<'_>,
        batches: &Batches<'_>,
        found: &[RefusedSeries],
        care: Care,
    ) -> Result<Committed, Failure> {
        session.begin(commits).await?;
        let mut committed = Committed::default();
        let refused = match care {
            Care::Direct => self.write_directly(session, commits, batches, &mut committed).await?,
            Care::Chunks => write_to_chunks(session, batches, &mut committed).await?,
            Care::Whole => write_whole(session, batches, &mut committed).await?,
            Care::Halves => bisect::write(session, commits, batches, &mut self.wholly_refused, &mut committed).await?,
        };
        let refused: Vec<&RefusedRow> = batches.set_aside.iter().chain(&refused).collect();
        session.remember(found).await?;
        match write_quarantine(session, batches, &refused, &mut committed).await {
            Err(Failure::Server(source)) if care == Care::Halves && remedy(&source) == Remedy::Bisect => {
                let doing = "the quarantine was not written";
                return Err(Failure::Stop(StopReason::QuarantineRefuses(StoreError::Query { doing, error: source })));
            }
            written => written?,
        }
        // Behind the quarantine's rows: a replay may bring an entry and its retry in one commit.
        for outputs in commits.outputs() {
            session.release(&outputs.released).await?;
        }
        for checkpoint in commits.checkpoints() {
            session.checkpoint(checkpoint).await?;
        }
        match session.client.batch_execute("COMMIT").await {
            Ok(()) => {}
            Err(error) if answer_lost(&error) => return Err(Failure::AnswerLost(error)),
            Err(error) => return Err(error.into()),
        }
        if care == Care::Chunks {
            session.chunks.were_right();
        }
        if care != Care::Halves && committed.rows > batches.quarantine.rows.len() as u64 {
            self.wholly_refused = WhollyRefused::default();
        }
        Ok(committed)
    }

    /// Writes all tables but the quarantine, rows that suit straight into the columnstore.
    async fn write_directly(
        &self,
        session: &mut Session,
        commits: Commits<'_>,
        batches: &Batches<'_>,
        committed: &mut Committed,
    ) -> Result<Vec<RefusedRow>, Failure> {
        for batch in &batches.tables {
            let Batch { table, rows, .. } = batch;
            committed.bytes += match self.split(commits, batch) {
                None => session.write(table, rows).await?,
                Some((as_ever, direct)) => session.write(table, &as_ever).await? + session.write_directly(table, &direct).await?,
            };
            committed.rows += rows.len() as u64;
        }
        Ok(Vec::new())
    }

    /// Splits the rows of a table as [`Direct::split`] does.
    fn split<'a>(&self, commits: Commits<'_>, Batch { table, rows, .. }: &Batch<'a>) -> Option<(Vec<Row<'a>>, Vec<Row<'a>>)> {
        let reached_us = commits.advances().map(|advance| advance.log_time.0).max()?;
        let class = self.classes.iter().find(|class| table.table.named(class) == *table)?;
        Direct::of(table.table, class, reached_us)?.split(rows)
    }
}

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Care {
    /// A table at once, in part straight into the columnstore.
    Direct,
    /// A table at once, in part straight into its chunks.
    Chunks,
    /// A table at once.
    Whole,
    /// By halves, setting aside the rows that the database refuses.
    Halves,
}

/// Writes all tables but the quarantine.
async fn write_whole(
    session: &mut Session,
    batches: &Batches<'_>,
    committed: &mut Committed,
) -> Result<Vec<RefusedRow>, Failure> {
    for batch in &batches.tables {
        committed.bytes += session.write(&batch.table, &batch.rows).await?;
        committed.rows += batch.rows.len() as u64;
    }
    Ok(Vec::new())
}

/// Does the same, rows straight into their chunks where those are known.
async fn write_to_chunks(
    session: &mut Session,
    batches: &Batches<'_>,
    committed: &mut Committed,
) -> Result<Vec<RefusedRow>, Failure> {
    committed.bytes += session.write_to_chunks(&batches.tables).await?;
    committed.rows += batches.tables.iter().map(|batch| batch.rows.len() as u64).sum::<u64>();
    Ok(Vec::new())
}

/// Writes the quarantine: what the graph set aside, and what the tables refuse.
async fn write_quarantine(
    session: &mut Session,
    batches: &Batches<'_>,
    refused: &[&RefusedRow],
    committed: &mut Committed,
) -> Result<(), Failure> {
    if !refused.is_empty() {
        bisect::count(session, refused).await?;
    }
    let rows: Vec<Row<'_>> =
        batches.quarantine.rows.iter().copied().chain(refused.iter().map(|refused| Row::Refused(refused))).collect();
    if !rows.is_empty() {
        committed.bytes += session.write(&batches.quarantine.table, &rows).await?;
    }
    committed.rows += batches.quarantine.rows.len() as u64;
    let of_row = |row: &&RefusedRow| Refused {
        table: row.table.clone(),
        partition: row.partition,
        offset: row.offset,
        detail: row.detail.clone(),
    };
    committed.refused = refused.iter().map(of_row).collect();
    Ok(())
}

/// A person has to look at each of them, once.
fn tell(found: &[RefusedSeries]) {
    for RefusedSeries { series, why } in found {
        tracing::error!(
            series = %series.series, device = %series.device, tenant = %series.tenant, field = %series.field, %why,
            "a series is refused: its rows go to quarantine from now on. Mend the cause, then `weir quarantine retry --reason row_refused`; or remove the device and add it again to give it new series"
        );
    }
}
