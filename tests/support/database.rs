//! A database of its own for each test, dropped at the test's end.

use std::time::{SystemTime, UNIX_EPOCH};
use tokio_postgres::{Client, NoTls};

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// PostgreSQL alone.
    Plain,
    /// PostgreSQL with TimescaleDB, Apache edition.
    Timescale,
    /// PostgreSQL with TimescaleDB, Community edition.
    Community,
}

impl Kind {
    /// The variable with the URL of such a server.
    fn variable(self) -> &'static str {
        match self {
            Self::Plain => "WEIR_TEST_PG_URL",
            Self::Timescale => "WEIR_TEST_TIMESCALE_URL",
            Self::Community => "WEIR_TEST_TSL_URL",
        }
    }

    /// Gives the URL of the server that all tests share.
    ///
    /// Panics: without it in the environment; `cargo xtask test` sets it.
    pub(crate) fn server(self) -> String {
        let variable = self.variable();
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"))
    }

    /// The Community edition, where there is a server of it. No Debian package has it, so `cargo xtask test`
    /// starts none; who has one names it. The others are never missing.
    pub(crate) fn community() -> Option<Self> {
        let named = std::env::var_os(Self::Community.variable()).is_some();
        if !named {
            println!("not run: {} names no server with TimescaleDB Community", Self::Community.variable());
        }
        named.then_some(Self::Community)
    }
}

/// An empty database.
pub(crate) struct TestDatabase {
    server: String,
    name: String,
    /// Whether the server outlives the test.
    shared: bool,
}

impl TestDatabase {
    /// Makes a database of random name.
    ///
    /// Panics: without the server's URL in the environment; `cargo xtask test` sets it.
    pub(crate) async fn create(kind: Kind) -> Self {
        Self::create_on(kind.server(), kind, true).await
    }

    /// Makes one on a server; one that is not `shared` is thrown away with it.
    pub(crate) async fn create_on(server: String, kind: Kind, shared: bool) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let name = format!("weir_test_{}_{nanos}", std::process::id());
        let database = Self { server, name, shared };
        let client = connect(&database.server).await;
        client.batch_execute(&format!("CREATE DATABASE {}", database.name)).await.unwrap();
        if kind != Kind::Plain {
            database.client().await.batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb").await.unwrap();
        }
        database
    }

    /// Gives the same database on another server, to which it was copied.
    pub(crate) fn on(&self, server: String) -> Self {
        Self { server, name: self.name.clone(), shared: false }
    }

    /// Gives its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gives the database's URL.
    pub(crate) fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("the server's URL ends in a database");
        format!("{server}/{}", self.name)
    }

    /// Gives the server's host and port.
    pub(crate) fn address(&self) -> &str {
        let (_, rest) = self.server.rsplit_once('@').expect("the server's URL names a user");
        rest.split('/').next().expect("a split gives at least one part")
    }

    /// Opens a connection, with no settings but the server's.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !self.shared {
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime is blocked here, so another one does it.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&server).await;
                client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
            });
        })
        .join();
        // A second panic would hide the first.
        assert!(dropped.is_ok() || std::thread::panicking(), "the test's database could not be dropped");
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
