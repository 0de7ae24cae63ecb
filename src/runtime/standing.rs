//! Where the committer's partitions stand, as far as it knows, and what the database says about that.

use super::commit_loop::CommitLoopError;
use super::worker::Assumed;
use crate::store::{Commits, Landing, Progress};
use dataflows::model::{Offset, Partition};
use std::collections::BTreeMap;

/// The epoch under which each partition is owned, and the first of its records that is not committed.
pub(super) struct Standing(BTreeMap<Partition, (u64, Offset)>);

impl Standing {
    /// Starts with what was taken.
    pub(super) fn new(assumed: &[Assumed]) -> Self {
        Self(assumed.iter().map(|assumed| (assumed.partition, (assumed.owner_epoch, assumed.committed))).collect())
    }

    /// A commit reached the database.
    pub(super) fn moved(&mut self, commits: Commits<'_>) {
        for advance in commits.advances() {
            self.0.insert(advance.partition, (advance.owner_epoch, advance.to));
        }
    }

    /// Tells what became of commits, where there are any. A partition that they do not move and that stands
    /// elsewhere means that the database is not as it was left.
    pub(super) fn landing(&self, commits: Commits<'_>, progress: &[Progress]) -> Landing {
        let moves = |partition| commits.advances().any(|a| a.partition == partition);
        let stays = |(partition, stands): (&Partition, &(u64, Offset))| {
            moves(*partition) || progress.iter().any(|p| p.partition == *partition && (p.owner_epoch, p.offset) == *stands)
        };
        match commits {
            _ if !self.0.iter().all(stays) => Landing::Elsewhere,
            Commits([]) => Landing::Landed,
            commits => commits.landing(progress),
        }
    }

    /// Errors: a partition has a higher epoch than ours, which is another daemon's. Taking it back would only
    /// start a quarrel.
    pub(super) fn taken_over(&self, progress: &[Progress]) -> Result<(), CommitLoopError> {
        for (partition, (ours, _)) in &self.0 {
            let found = progress.iter().find(|p| p.partition == *partition).map_or(0, |p| p.owner_epoch);
            if found > *ours {
                return Err(CommitLoopError::TakenOver { partition: *partition, found, ours: *ours });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::checkpoint::Beginning;
    use crate::store::{Advance, Commit};
    use dataflows::model::{Counts, LogTime};
    use uuid::Uuid;

    fn progress(partition: u16, owner_epoch: u64, offset: u64) -> Progress {
        Progress {
            partition: Partition(partition),
            offset: Offset(offset),
            begins: Offset(0),
            owner_epoch,
            owner: String::new(),
            log: Uuid::nil(),
            counts: Counts::default(),
            refused: 0,
            log_time: None,
        }
    }

    fn commit(from: u64, to: u64) -> Commit {
        let (from, to, partition) = (Offset(from), Offset(to), Partition(1));
        let advance = Advance { partition, owner_epoch: 5, from, to, counts: Counts::default(), log_time: LogTime(0) };
        Commit { advances: vec![advance], ..Commit::default() }
    }

    #[test]
    fn a_partition_that_a_commit_does_not_move_has_to_be_where_it_was() {
        let assumed = [(1, 10), (3, 20)].map(|(partition, committed)| Assumed {
            partition: Partition(partition),
            owner_epoch: 5,
            committed: Offset(committed),
            checkpoint: (Offset(0), Beginning::default()),
        });
        let mut standing = Standing::new(&assumed);
        let moving = commit(10, 15);
        let check = |standing: &Standing, commits: &[&Commit], of_first: (u64, u64), of_second: (u64, u64), expected| {
            let found = [progress(0, 9, 99), progress(1, of_first.0, of_first.1), progress(3, of_second.0, of_second.1)];
            assert_eq!(standing.landing(Commits(commits), &found), expected, "{found:?}");
        };
        check(&standing, &[&moving], (5, 10), (5, 20), Landing::Missed);
        check(&standing, &[&moving], (5, 15), (5, 20), Landing::Landed);
        check(&standing, &[], (5, 10), (5, 20), Landing::Landed);
        // The database came back older: the commit would go through, and the other partition lack its rows.
        check(&standing, &[&moving], (5, 10), (5, 18), Landing::Elsewhere);
        check(&standing, &[&moving], (5, 10), (4, 20), Landing::Elsewhere);
        check(&standing, &[&moving], (5, 8), (5, 20), Landing::Elsewhere);
        check(&standing, &[], (5, 10), (5, 18), Landing::Elsewhere);
        assert_eq!(standing.landing(Commits(&[]), &[]), Landing::Elsewhere);

        standing.moved(Commits(&[&moving]));
        check(&standing, &[], (5, 15), (5, 20), Landing::Landed);
        check(&standing, &[], (5, 10), (5, 20), Landing::Elsewhere);
        assert!(standing.taken_over(&[progress(1, 5, 0), progress(3, 4, 0)]).is_ok());
        assert!(standing.taken_over(&[progress(1, 5, 0), progress(3, 6, 0)]).is_err());
    }
}
