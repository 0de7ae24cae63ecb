//! What one transaction makes visible, and why it may not.

use super::progress::Progress;
use super::{Checkpoint, StoreError};
use dataflows::model::{ClassNo, Counts, LogTime, Offset, Outputs, Partition};

/// What a worker has to be made visible.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    /// How far each partition gets; one for each partition that has rows.
    pub advances: Vec<Advance>,
    /// The rows of the records in between.
    pub outputs: Outputs,
    /// The state of one of the partitions, no further than its advance reaches.
    pub checkpoint: Option<Checkpoint>,
}

/// The commits that one transaction makes visible: of several workers, which share no partition.
#[derive(Clone, Copy, Debug)]
pub struct Commits<'a>(pub &'a [&'a Commit]);

impl<'a> Commits<'a> {
    /// How far each partition gets.
    pub fn advances(self) -> impl Iterator<Item = &'a Advance> + Clone {
        self.0.iter().flat_map(|commit| &commit.advances)
    }

    /// The rows of each worker.
    pub(super) fn outputs(self) -> impl Iterator<Item = &'a Outputs> {
        self.0.iter().map(|commit| &commit.outputs)
    }

    /// The checkpoints that go with them.
    pub fn checkpoints(self) -> impl Iterator<Item = &'a Checkpoint> {
        self.0.iter().filter_map(|commit| commit.checkpoint.as_ref())
    }

    /// Tells by the progress where the commits went, when their answer was lost or they were fenced.
    ///
    /// What moves nothing but brings a checkpoint leaves no trace there: it is missed, for it may
    /// be committed twice.
    pub fn landing(self, progress: &[Progress]) -> Landing {
        let stands_at = |offset: fn(&Advance) -> Offset| {
            self.advances().all(|advance| {
                let mut ours = progress.iter().filter(|p| p.partition == advance.partition);
                ours.any(|p| p.owner_epoch == advance.owner_epoch && p.offset == offset(advance))
            })
        };
        if stands_at(|advance| advance.from) {
            Landing::Missed
        } else if stands_at(|advance| advance.to) {
            Landing::Landed
        } else {
            Landing::Elsewhere
        }
    }

    /// Panics: in debug builds, when rows and advances do not belong together.
    pub(super) fn assert_consistent(self) {
        self.0.iter().for_each(|commit| commit.assert_consistent());
        debug_assert!(
            self.advances().all(|one| self.advances().filter(|other| other.partition == one.partition).count() == 1),
            "a partition is in one of them"
        );
    }
}

/// How far one partition gets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// As [`Store::take`](super::Store::take) gave it.
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
    /// Rows that went to quarantine instead, those of refused series included.
    pub refused: Vec<Refused>,
}

/// A row that the database refused; it stands in `quarantine`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The table that refused it, or was not given it.
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
    /// [`Commits::landing`]; committing the same again is safe too, and is fenced if it had landed.
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
    /// So many commits are wholly refused that the tables are at fault, not the rows.
    #[error(
        "the database has refused all rows of {commits} commits, for instance {example}. More are not set aside one by one: \
         look for a constraint or trigger that was added lately"
    )]
    WhollyRefused {
        /// How many, one after the other.
        commits: u32,
        /// One row of the last with the server's words.
        example: String,
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
    /// Panics: in debug builds, when rows and advances do not belong together.
    fn assert_consistent(&self) {
        let advance_of = |partition| self.advances.iter().find(|advance| advance.partition == partition);
        let reaches = |checkpoint: &Checkpoint| advance_of(checkpoint.partition).is_some_and(|a| a.to >= checkpoint.offset);
        debug_assert!(
            self.checkpoint.as_ref().is_none_or(reaches),
            "a checkpoint is of what its partition's advance has reached"
        );
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

/// An error of a statement of the commit.
pub(super) fn failed(source: tokio_postgres::Error) -> StoreError {
    StoreError::Query { doing: "the commit failed", error: source }
}
