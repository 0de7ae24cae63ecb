//! The connections to the database: few, read-only, and none is held while the memory is asked. One on which a
//! statement may still run, because its request has ended before it, is given up and the statement with it.

use super::problem::Problem;
use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Transaction};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, IsolationLevel, NoTls};

/// How long a request waits for a connection, and how long one may take to come up.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The tables, through a pool of connections.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    statement_timeout: Duration,
}

impl Database {
    /// Makes a pool of at most `connections_max` connections, of which the first is made when it is needed.
    /// `connect` makes them of `config`, or knows better where to. A statement may take `statement_timeout`.
    ///
    /// Panics: when `connections_max` is 0.
    pub fn new(config: Config, connect: impl Connect + 'static, connections_max: usize, statement_timeout: Duration) -> Self {
        assert!(connections_max > 0, "a pool has room for a connection");
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(config, connect, recycle);
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECTION_TIMEOUT))
            .create_timeout(Some(CONNECTION_TIMEOUT))
            .build()
            .expect("a pool with timeouts has a runtime");
        Self { pool, statement_timeout }
    }

    /// Takes a connection.
    ///
    /// Errors: when none comes up or free in time.
    pub(super) async fn connection(&self) -> Result<Connection, Problem> {
        let object = self.pool.get().await.map_err(|error: PoolError| {
            tracing::warn!(%error, "query: no connection to the database");
            Problem::Database
        })?;
        Ok(Connection { object: Some(object) })
    }

    /// Begins a transaction that sees one moment of the database, from its first statement that reads a table on.
    ///
    /// Errors: when the database does not answer.
    pub(super) async fn snapshot<'c>(&self, connection: &'c mut Connection) -> Result<Transaction<'c>, Problem> {
        let object = connection.object.as_mut().expect("it is there until it is released");
        let begun = object.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
        let transaction = begun.await.map_err(|e| self.problem(&e))?;
        let timeout = format!("SET LOCAL statement_timeout = {}", self.statement_timeout.as_millis());
        transaction.batch_execute(&timeout).await.map_err(|e| self.problem(&e))?;
        Ok(transaction)
    }

    /// Says what a failed statement means for the request.
    pub(super) fn problem(&self, error: &tokio_postgres::Error) -> Problem {
        if error.code() == Some(&SqlState::QUERY_CANCELED) {
            return Problem::TimedOut(self.statement_timeout.as_secs());
        }
        let cause = error.as_db_error().map(ToString::to_string);
        tracing::warn!(%error, cause, "query: the database refused a statement");
        Problem::Database
    }
}

/// A connection of the pool. Dropping it means that something was not read to its end; [`Connection::release`] gives
/// it back.
pub(super) struct Connection {
    object: Option<Object>,
}

impl Connection {
    /// Gives it back to the pool: nothing runs on it any more.
    pub(super) fn release(mut self) {
        self.object = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let running = object.cancel_token();
        let client = Object::take(object);
        // Without a runtime the process ends, and its connections with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = running.cancel_query(NoTls).await {
                    tracing::debug!(%error, "query: a statement that nobody waits for was not cancelled");
                }
                drop(client);
            });
        }
    }
}
