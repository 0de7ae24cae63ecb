//! The commit: progress and rows in one transaction, and what to do when it fails.
//!
//! Invariant: whatever breaks and however often a commit is tried, its rows are in the tables once
//! or not at all, since each try begins by moving `progress` from the offset where the rows begin.

use super::classes::{self, Class};
use super::commit::{Commit, CommitError, Committed, StopReason, failed};
use super::level::Layout;
use super::rows::{self, Batches};
use super::session::{Failure, Session};
use super::sqlstate::{Remedy, answer_lost, remedy};
use super::{Store, StoreError, bisect, ranges};

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
                self.make_partitions(session, commit, &batches).await.map_err(failed)?;
            }
            partitions_made = true;
        }
    }

    /// Sorts the rows into tables; makes those of a class that was added lately.
    async fn batches<'a>(&mut self, session: &Session, commit: &'a Commit) -> Result<Batches<'a>, CommitError> {
        if let Ok(batches) = rows::batches(&commit.outputs, &self.classes) {
            return Ok(batches);
        }
        self.read_classes(session).await?;
        rows::batches(&commit.outputs, &self.classes).map_err(|class| StopReason::ClassMissing(class).into())
    }

    /// Reads the classes, each of which then has its tables.
    async fn read_classes(&mut self, session: &Session) -> Result<(), StoreError> {
        classes::ensure(&session.client, self.store.level.layout(), classes::Views::WhenTablesAreNew).await?;
        let doing = "the retention classes could not be read";
        self.classes = classes::read(&session.client).await.map_err(|source| StoreError::Query { doing, source })?;
        Ok(())
    }

    /// Makes the partitions that rows of the commit need, each in a transaction of its own.
    /// Hypertables make their chunks themselves.
    async fn make_partitions(
        &self,
        session: &mut Session,
        commit: &Commit,
        batches: &Batches<'_>,
    ) -> Result<(), tokio_postgres::Error> {
        for (table, class) in classes::all(&self.classes) {
            let of_table = batches.tables.iter().chain([&batches.quarantine]).filter(|batch| batch.table == table);
            let mut instants: Vec<i64> = of_table.flat_map(|batch| batch.rows.iter().filter_map(rows::Row::at_us)).collect();
            if table == batches.quarantine.table {
                // Rows that may yet be refused come with the log time of their advance.
                instants.extend(commit.advances.iter().map(|advance| advance.log_time.0));
            }
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
