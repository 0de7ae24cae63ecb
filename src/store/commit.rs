//! The commit: progress and rows in one transaction, and what to do when it fails.
//!
//! Invariant: whatever breaks and however often a commit is tried, its rows are in the tables once
//! or not at all, since each try begins by moving `progress` from the offset where the rows begin.

use super::level::Layout;
use super::progress::Progress;
use super::rows::{self, Batches};
use super::session::{Failure, Session};
use super::sqlstate::{Remedy, answer_lost, remedy};
use super::tables::{self, Class};
use super::{Checkpoint, Store, StoreError, bisect, ranges};
use dataflows::model::{ClassNo, Counts, LogTime, Offset, Outputs, Partition, SeriesId};

/// All that one transaction makes visible.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    /// How far each partition gets; one for each partition that has rows.
    pub advances: Vec<Advance>,
    /// The rows of the records in between.
    pub outputs: Outputs,
    /// The state of one of the partitions, at the end of its advance.
    pub checkpoint: Option<Checkpoint>,
}

/// How far one partition gets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// As [`Store::take`] gave it.
    pub owner_epoch: u64,
    /// The first record of this commit; the last one's `to`.
    pub from: Offset,
    /// The first record behind it.
    pub to: Offset,
    /// How many went which way since the log began.
    pub counts: Counts,
    /// When the log took the last record in.
    pub log_time: LogTime,
}

/// What a commit did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Rows that are in their tables.
    pub rows: u64,
    /// Bytes that were copied.
    pub bytes: u64,
    /// Rows that went to quarantine instead.
    pub refused: Vec<Refused>,
}

/// A row that the database refused; it stands in `quarantine`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The table that refused it.
    pub table: String,
    /// The partition of the record that caused it.
    pub partition: Partition,
    /// The record that caused it.
    pub offset: Offset,
    /// What was refused, and the server's words.
    pub detail: String,
}

/// Why nothing, or nothing for certain, was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The progress of a partition is not where this commit begins, or it has another owner.
    /// Nothing was written. Read the progress: with our epoch, go on from there (a commit whose
    /// answer was lost arrived after all, or the database lost its newest commits); with another
    /// epoch, the partition is no longer ours.
    #[error("partition {partition} is not where this commit begins: another daemon took it, or the database went ahead or back")]
    Fenced {
        /// The first such partition.
        partition: Partition,
    },
    /// Nothing was written. Back off, and commit the same again.
    #[error("the commit did not go through and is tried again: {0}")]
    Retry(#[source] StoreError),
    /// The connection broke while COMMIT was under way. Read the progress and ask
    /// [`Commit::landing`]; committing the same again is safe too, and is fenced if it had landed.
    #[error("the connection broke before the commit was confirmed: {0}")]
    Unknown(#[source] StoreError),
    /// Nothing was written, and trying again would not help.
    #[error("the commit cannot go through: {0}")]
    Stop(#[from] StopReason),
}

/// Why a person has to act.
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    /// Permission, space, a table that is gone, and what else does not pass by itself.
    #[error("{0}. Mend it in the database; weir goes on from where it is")]
    Database(#[source] StoreError),
    /// So many rows are refused that the tables are at fault, not the rows.
    #[error(
        "the database refuses {refused} of {rows} rows, for instance {example}. That many are not set aside one by one: \
         look for a constraint or trigger that was added lately"
    )]
    TooManyRefused {
        /// Rows refused until then.
        refused: usize,
        /// Rows of the commit.
        rows: usize,
        /// One of them with the server's words.
        example: String,
    },
    /// The table to which refused rows go refuses them.
    #[error("the table quarantine itself refuses rows: {0}. Drop the constraint or trigger that was added to it")]
    QuarantineRefuses(#[source] StoreError),
    /// A series id means something else in the table.
    #[error(
        "series {series} is {table} in the table, and {log} by the log: the state is not the one of this database. \
         Stop weir and put database and log back to where they belong together"
    )]
    SeriesTaken {
        /// The id.
        series: SeriesId,
        /// What it means in the table.
        table: String,
        /// What it means by the log.
        log: String,
    },
    /// A class without a row.
    #[error("rows are for retention class {0}, which is not in the table retention_class: put its row back")]
    ClassMissing(ClassNo),
}

/// Where a commit went whose answer was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    /// It is in the tables.
    Landed,
    /// It is not (yet): commit it again.
    Missed,
    /// The partitions have another owner, or are somewhere else: load their state again.
    Elsewhere,
}

impl Commit {
    /// Tells by the progress where the commit went.
    pub fn landing(&self, progress: &[Progress]) -> Landing {
        let stands_at = |offset: fn(&Advance) -> Offset| {
            self.advances.iter().all(|advance| {
                let mut ours = progress.iter().filter(|p| p.partition == advance.partition);
                ours.any(|p| p.owner_epoch == advance.owner_epoch && p.offset == offset(advance))
            })
        };
        if stands_at(|advance| advance.to) {
            Landing::Landed
        } else if stands_at(|advance| advance.from) {
            Landing::Missed
        } else {
            Landing::Elsewhere
        }
    }

    fn assert_consistent(&self) {
        let advance_of = |partition| self.advances.iter().find(|advance| advance.partition == partition);
        let ends_at = |checkpoint: &Checkpoint| advance_of(checkpoint.partition).is_some_and(|a| a.to == checkpoint.offset);
        debug_assert!(self.checkpoint.as_ref().is_none_or(ends_at), "a checkpoint is taken where its partition's advance ends");
        debug_assert!(
            {
                let mut outputs = self.outputs.clone();
                outputs.retain(|p, offset| advance_of(p).is_none_or(|a| offset < a.from || a.to <= offset));
                outputs.is_empty()
            },
            "every row is of a record between its partition's `from` and `to`"
        );
    }
}

/// Commits on one connection, made again when it is lost.
pub struct Committer {
    store: Store,
    /// None while a commit is under way, so that one that was dropped halfway is never continued.
    session: Option<Session>,
    classes: Vec<Class>,
}

impl Committer {
    /// Opens the connection.
    pub async fn connect(store: &Store) -> Result<Self, StoreError> {
        let session = Session::open(store).await?;
        let mut committer = Self { store: store.clone(), session: None, classes: Vec::new() };
        committer.read_classes(&session).await?;
        committer.session = Some(session);
        Ok(committer)
    }

    /// Makes all of `commit` visible, or nothing of it. Rows that the database refuses go to
    /// quarantine, within limits; missing partitions are made.
    pub async fn commit(&mut self, commit: &Commit) -> Result<Committed, CommitError> {
        commit.assert_consistent();
        let mut session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => Session::open(&self.store).await?,
        };
        let outcome = self.commit_on(&mut session, commit).await;
        if outcome.is_ok() || session.rollback().await.is_ok() {
            self.session = Some(session);
        }
        outcome
    }

    async fn commit_on(&mut self, session: &mut Session, commit: &Commit) -> Result<Committed, CommitError> {
        let batches = self.batches(session, commit).await?;
        let mut care = Care::Whole;
        let mut partitions_made = false;
        loop {
            let source = match attempt(session, commit, &batches, care).await {
                Ok(committed) => return Ok(committed),
                Err(Failure::Fenced(partition)) => return Err(CommitError::Fenced { partition }),
                Err(Failure::Stop(reason)) => return Err(reason.into()),
                Err(Failure::AnswerLost(source)) => return Err(CommitError::Unknown(failed(source))),
                Err(Failure::Server(source)) => source,
            };
            match remedy(&source) {
                Remedy::MakePartition if !partitions_made => {}
                Remedy::Bisect | Remedy::MakePartition if care == Care::Whole => care = Care::Halves,
                Remedy::Retry => return Err(CommitError::Retry(failed(source))),
                _ => return Err(StopReason::Database(failed(source)).into()),
            }
            session.rollback().await.map_err(failed)?;
            // Before rows are judged one by one too: those that only lack a partition are good.
            if !partitions_made && self.store.level.layout() == Layout::Partitions {
                self.make_partitions(session, &batches).await.map_err(failed)?;
            }
            partitions_made = true;
        }
    }

    /// Sorts the rows into tables; makes those of a class that was added lately.
    async fn batches<'a>(&mut self, session: &Session, commit: &'a Commit) -> Result<Batches<'a>, CommitError> {
        if let Ok(batches) = rows::batches(&commit.outputs, &self.classes) {
            return Ok(batches);
        }
        tables::ensure(&session.client, self.store.level.layout(), tables::Views::WhenTablesAreNew).await?;
        self.read_classes(session).await?;
        rows::batches(&commit.outputs, &self.classes).map_err(|class| StopReason::ClassMissing(class).into())
    }

    async fn read_classes(&mut self, session: &Session) -> Result<(), StoreError> {
        let doing = "the retention classes could not be read";
        self.classes = tables::classes(&session.client).await.map_err(|source| StoreError::Query { doing, source })?;
        Ok(())
    }

    /// Makes the partitions that rows of the commit need, each in a transaction of its own.
    /// Hypertables make their chunks themselves.
    async fn make_partitions(&self, session: &mut Session, batches: &Batches<'_>) -> Result<(), tokio_postgres::Error> {
        for (table, class) in tables::all(&self.classes) {
            let of_table = batches.tables.iter().chain([&batches.quarantine]).filter(|batch| batch.table == table);
            let instants: Vec<i64> = of_table.flat_map(|batch| batch.rows.iter().filter_map(rows::Row::at_us)).collect();
            let existing = ranges::existing(&session.client, Layout::Partitions, &table).await?;
            for range in ranges::missing(&existing, instants, table.table.interval_us(class)) {
                ranges::make(&mut session.client, Layout::Partitions, &table, range).await?;
            }
        }
        Ok(())
    }
}

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Care {
    /// A table at once.
    Whole,
    /// By halves, setting aside the rows that the database refuses.
    Halves,
}

async fn attempt(session: &mut Session, commit: &Commit, batches: &Batches<'_>, care: Care) -> Result<Committed, Failure> {
    session.begin(&commit.advances).await?;
    let mut committed = Committed::default();
    match care {
        Care::Whole => {
            for batch in batches.tables.iter().chain([&batches.quarantine]).filter(|batch| !batch.rows.is_empty()) {
                committed.bytes += session.write(&batch.table, &batch.rows).await?;
                committed.rows += batch.rows.len() as u64;
            }
        }
        Care::Halves => committed = bisect::write(session, commit, batches).await?,
    }
    if let Some(checkpoint) = &commit.checkpoint {
        session.checkpoint(checkpoint).await?;
    }
    match session.client.batch_execute("COMMIT").await {
        Ok(()) => Ok(committed),
        Err(error) if answer_lost(&error) => Err(Failure::AnswerLost(error)),
        Err(error) => Err(error.into()),
    }
}

fn failed(source: tokio_postgres::Error) -> StoreError {
    StoreError::Query { doing: "the commit failed", source }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { Self::Retry(error) } else { StopReason::Database(error).into() }
    }
}

impl From<tokio_postgres::Error> for CommitError {
    fn from(source: tokio_postgres::Error) -> Self {
        failed(source).into()
    }
}
