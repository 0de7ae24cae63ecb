//! What the daemon serves: ingest, query, health, status and metrics on one socket.

use super::clock;
use super::error::ServeError;
use super::intake::LogIntake;
use super::memory::WorkersMemory;
use super::quota::Meter;
use super::server::{Bounds, Server};
use super::view::{Status, View};
use crate::config::{Config, Database};
use crate::log::Log;
use crate::query::{Query, ReadAccess, Readers};
use crate::registry::Directory;
use crate::store::{Hosts, Opened, StoreError};
use crate::{ingest, query, telemetry};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Wait between two looks for a host.
const RETRY: Duration = Duration::from_secs(1);

/// A client and what carries its connection.
type Connected = (tokio_postgres::Client, JoinHandle<()>);

/// What the server needs of the daemon.
pub(super) struct Door {
    /// Tokens and devices.
    pub directory: Arc<Directory>,
    /// Where uplinks go.
    pub log: Log,
    /// The daemon's figures.
    pub view: Arc<View>,
    /// What tenants use of their quotas.
    pub meter: Arc<Meter>,
    /// The workers' memory.
    pub memory: WorkersMemory,
    /// Set when the daemon ends: uplinks are refused.
    pub stopping: Arc<AtomicBool>,
}

/// Serves what comes to the listening socket.
///
/// Errors: it is none.
pub(super) fn open(door: Door, config: &Config, hosts: Hosts, listener: std::net::TcpListener) -> Result<Server, ServeError> {
    let listen = |error| ServeError::Listen { address: config.http.listen, error };
    let address = listener.local_addr().map_err(listen)?;
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    let bounds = Bounds { connections_max: config.http.connections_max, idle_timeout: config.http.idle_timeout };
    Ok(Server::start(listener, address, router(door, config, hosts), bounds))
}

#[derive(Clone)]
struct Health {
    view: Arc<View>,
    log: Log,
    directory: Arc<Directory>,
    meter: Arc<Meter>,
}

impl Health {
    fn status(&self) -> Status {
        let status = self.view.status(|partition| self.log.end(partition), self.directory.devices());
        Status { quotas: self.meter.status(), ..status }
    }
}

/// The directory's tokens, for the query endpoint.
struct DirectoryReaders(Arc<Directory>);

impl Readers for DirectoryReaders {
    fn authenticate(&self, token: &str) -> Option<ReadAccess> {
        let token = self.0.token(token)?;
        Some(ReadAccess { tenant: token.tenant, may_read: token.may_read })
    }
}

/// The store's way to the database, for the query endpoint: it must not read from a host that a failover has
/// left behind.
struct ReadHosts(Hosts);

impl Connect for ReadHosts {
    fn connect(&self, _: &tokio_postgres::Config) -> BoxFuture<'_, Result<Connected, tokio_postgres::Error>> {
        Box::pin(async {
            loop {
                match self.0.open().await {
                    Ok(Opened { client, task, .. }) => return Ok((client, task)),
                    Err(StoreError::Connect(error) | StoreError::Query { error, .. }) => return Err(error),
                    // No error of the client; the pool ends the waiting.
                    Err(error) => tracing::warn!(%error, "query: no connection to the database"),
                }
                tokio::time::sleep(RETRY).await;
            }
        })
    }
}

fn router(door: Door, config: &Config, hosts: Hosts) -> Router {
    let (directory, meter) = (Arc::clone(&door.directory), Arc::clone(&door.meter));
    let health = Health { view: door.view, log: door.log.clone(), directory, meter };
    let health = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/status", get(async |State(health): State<Health>| Json(health.status())))
        .route("/metrics", get(async || telemetry::render()))
        .with_state(health);
    let intake = Arc::new(LogIntake::new(Arc::clone(&door.directory), door.log.clone(), door.meter, door.stopping));
    let ingest = ingest::router(intake, config.http.limits(), Arc::new(clock::event_time));
    let Database { query_connections, statement_timeout, .. } = config.database;
    let query = Query {
        memory: door.memory,
        readers: DirectoryReaders(door.directory),
        database: query::Database::new(tokio_postgres::Config::new(), ReadHosts(hosts), query_connections, statement_timeout),
        partitions: door.log.partitions(),
        limits: query::Limits::default(),
        clock: Arc::new(clock::event_time),
    };
    let query = query::router(query);
    ingest.merge(query).merge(health)
}

/// 200 when queries see everything that is committed; uplinks are taken either way.
async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let status = health.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(status))
}
