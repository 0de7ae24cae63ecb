//! The database as the committer sees it, over a [`Server`] in memory. Every call takes its time, and anything may
//! happen meanwhile.

use super::server::{Answer, Server};
use super::task::{turn, turns};
use crate::runtime::database::{Database, Session};
use crate::store::{CommitError, Commits, Committed, Progress, StopReason, StoreError, StoredCheckpoint, Taken};
use dataflows::model::{CatalogueSeries, Offset, Partition};
use uuid::Uuid;

/// What a client hears when there is nobody.
fn nobody() -> StoreError {
    StoreError::Silent { host: "simulated".into(), seconds: 10 }
}

impl Server {
    async fn connect(&self) -> Result<Connection, StoreError> {
        turns(&self.fate).await;
        let id = self.state().connect().ok_or_else(nobody)?;
        turns(&self.fate).await;
        Ok(Connection { server: self.clone(), id })
    }
}

/// A connection; dropping it closes it.
struct Connection {
    server: Server,
    id: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.state().close(self.id);
    }
}

impl Connection {
    fn lives(&self) -> bool {
        self.server.state().lives(self.id)
    }

    /// Waits for the server; it may be gone then.
    async fn wait(&self) -> Result<(), StoreError> {
        turns(&self.server.fate).await;
        if self.lives() { Ok(()) } else { Err(nobody()) }
    }

    /// Whether the client takes it for closed: it may not have heard yet.
    fn is_closed(&self) -> bool {
        !self.lives() && !self.server.fate.once_in(3)
    }
}

impl Database for Server {
    type Session = Committing;

    async fn take(&self, owner: &str, log: Uuid, partitions: &[(Partition, Offset)]) -> Result<Vec<Taken>, StoreError> {
        let connection = self.connect().await?;
        let taken = {
            let mut state = self.state();
            for (partition, log_end) in partitions.iter().copied() {
                match state.tables.progress.get(&partition) {
                    Some(progress) if progress.log != log => {
                        return Err(StoreError::ForeignLog { partition, found: progress.log, ours: log });
                    }
                    Some(progress) if log_end < progress.offset => {
                        return Err(StoreError::LogBehind { partition, progress: progress.offset, log_end });
                    }
                    _ => {}
                }
            }
            partitions.iter().for_each(|(partition, _)| state.take(*partition, owner, log));
            state.flush();
            partitions.iter().map(|(partition, _)| state.tables.taken(*partition)).collect()
        };
        connection.wait().await?;
        Ok(taken)
    }

    async fn checkpoints(&self, partitions: &[Partition], _log: Uuid) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let connection = self.connect().await?;
        let newest = {
            let state = self.state();
            let newest = partitions.iter().filter_map(|partition| state.tables.newest(*partition)).cloned();
            newest
                .map(|checkpoint| StoredCheckpoint {
                    partition: checkpoint.partition,
                    offset: checkpoint.offset,
                    version: checkpoint.version,
                    state: checkpoint.state,
                    precedes_adoption: false,
                })
                .collect()
        };
        connection.wait().await?;
        Ok(newest)
    }

    async fn numbered_series(&self) -> Result<Vec<CatalogueSeries>, StoreError> {
        let connection = self.connect().await?;
        let series = self.state().tables.series.clone();
        connection.wait().await?;
        Ok(series)
    }

    async fn checkpoints_kept(&self) -> Result<Vec<(Partition, Offset, Offset)>, StoreError> {
        let connection = self.connect().await?;
        let kept = self.state().tables.kept();
        connection.wait().await?;
        self.state().flush();
        connection.wait().await?;
        Ok(kept)
    }

    fn session(&self) -> Committing {
        Committing { server: self.clone(), connection: None }
    }
}

/// A session to commit over.
pub(super) struct Committing {
    server: Server,
    connection: Option<Connection>,
}

impl Committing {
    async fn connection(&mut self) -> Result<Connection, StoreError> {
        match self.connection.take() {
            Some(connection) if !connection.is_closed() => Ok(connection),
            _ => self.server.connect().await,
        }
    }
}

impl Session for Committing {
    fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_closed())
    }

    async fn disconnected(&mut self) {
        while self.connection.as_ref().is_some_and(|connection| !connection.is_closed()) {
            turn().await;
        }
        if self.connection.is_none() {
            std::future::pending().await
        }
    }

    async fn progress(&mut self) -> Result<Vec<Progress>, StoreError> {
        let connection = self.connection().await?;
        let asked = connection.wait().await;
        let progress = self.server.state().tables.progress.values().cloned().collect();
        let answered = connection.wait().await;
        self.connection = Some(connection);
        asked.and(answered).map(|()| progress)
    }

    async fn commit(&mut self, commits: Commits<'_>) -> Result<Committed, CommitError> {
        let connection = self.connection().await?;
        connection.wait().await?;
        if self.server.state().read_only {
            return Err(CommitError::Retry(nobody()));
        }
        if self.server.fate.once_in(60) {
            self.server.fate.fault("the database refuses to store");
            return Err(StopReason::TooManyRefused { refused: 1, rows: 1, example: "a row".into() }.into());
        }
        // The fence comes first, and holds until the end.
        if let Some(partition) = self.server.state().tables.fence(commits.advances()) {
            return Err(CommitError::Fenced { partition });
        }
        connection.wait().await?;
        let number = self.server.state().receive(connection.id, commits.0.iter().map(|&commit| commit.clone()).collect());
        loop {
            turn().await;
            if !connection.lives() {
                return Err(CommitError::Unknown(nobody()));
            }
            match self.server.state().answer(number) {
                None => {}
                Some(Answer::Applied) => break,
                Some(Answer::Fenced(partition)) => return Err(CommitError::Fenced { partition }),
                Some(Answer::Aborted) => return Err(CommitError::Retry(nobody())),
            }
        }
        self.connection = Some(connection);
        Ok(Committed::default())
    }
}
