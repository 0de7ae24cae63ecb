//! Starts the daemon in the order that loses nothing, and stops it in the same spirit.
//!
//! Log first, then the directory from local disk, then the listening socket: from here on uplinks
//! are acknowledged, database or no database. The database is reached beside all that, for as long
//! as it takes; then partitions are taken and worked on. At the end the door closes first, and the
//! workers follow when they have committed what the log holds.

use super::crew::Crew;
use super::door::{self, Door};
use super::error::ServeError;
use super::handover::{self, Offer, Successor};
use super::pace::Pace;
use super::quota::{self, Meter};
use super::verdicts::LogVerdicts;
use super::view::View;
use super::{clock, gauges, indexing, maintenance, registry, retries, ticks};
use crate::config::Config;
use crate::decoder::Decoders;
use crate::log::{Clock, Log};
use crate::registry::Directory;
use crate::store::{Hosts, Store, StoreConfig, StoreError};
use dataflows::model::Partition;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Wait between two tries to reach the database at start.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// How a daemon begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// By itself.
    #[default]
    Alone,
    /// As the successor of the one that runs with the same data directory: it is told to stop, and hands its
    /// listening socket over. Where none runs, as [`Self::Alone`].
    TakeOver,
}

/// Runs the daemon until `shutdown` resolves, a successor takes over, or it must end. `listening` is told the address
/// once uplinks are taken.
///
/// Errors: see [`ServeError`]; what was acknowledged is in the log then.
pub async fn serve(
    config: Config,
    start: Start,
    listening: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    gauges::describe();
    let dir = &config.log.dir;
    std::fs::create_dir_all(dir).map_err(|error| ServeError::DataDirectory { path: dir.clone(), error })?;
    let handed_over = match start {
        Start::Alone => None,
        Start::TakeOver => handover::take_over(dir).await.map_err(ServeError::TakeOver)?,
    };
    // Kept until nobody here holds the log any more: a successor waits for that.
    let mut successor = None;
    let (log, recovery) = Log::open(&dir.join("log"), config.log.options(), Clock::system())?;
    tracing::info!(id = %log.id(), ?recovery, "the log is open");
    let directory = Arc::new(Directory::open(dir, log.clone())?);
    let verdicts = Arc::new(LogVerdicts(log.clone()));
    let decoders = Decoders::open(&dir.join("decoders"), config.decoders.limits(), verdicts)?;
    let view = Arc::new(View::new(log.partitions()));
    // What the log holds by now was metered when it was taken in.
    for partition in (0..log.partitions()).map(Partition) {
        view.metered(partition, log.end(partition), BTreeMap::new());
    }
    let meter = Arc::new(Meter::open(dir, Arc::clone(&directory), Arc::clone(&view), clock::event_time));
    let pace = Pace { checkpoint_records: config.runtime.checkpoint_records, ..Pace::default() };
    let mut crew = Crew::start(config.runtime.workers, pace, &log, &decoders, &view)?;

    let hosts = Hosts::new(&StoreConfig { timeline_file: Some(dir.join("timeline.json")), ..config.database.store() })?;
    let stopping = Arc::new(AtomicBool::new(false));
    let door = Door {
        directory: Arc::clone(&directory),
        log: log.clone(),
        view: Arc::clone(&view),
        meter: Arc::clone(&meter),
        memory: crew.memory(),
        stopping: Arc::clone(&stopping),
    };
    let listen = |error| ServeError::Listen { address: config.http.listen, error };
    let listener = handover::listener(config.http.listen, handed_over).map_err(listen)?;
    let offered = listener.try_clone().map_err(listen)?;
    let server = door::open(door, &config, hosts.clone(), listener)?;
    listening(server.address);

    let mut tasks = JoinSet::new();
    tasks.spawn(gauges::run(log.clone(), Arc::clone(&view), Arc::clone(&directory), Arc::clone(&meter)));
    tasks.spawn(quota::run(Arc::clone(&meter)));
    tasks.spawn(ticks::run(log.clone(), Arc::clone(&view), clock::log_time));
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        taken = until_taken_over(dir, offered) => {
            tracing::info!("a successor has the listening socket");
            successor = Some(taken);
            Ok(())
        }
        error = work(&config, &hosts, &log, &directory, &decoders, &view, &mut crew, &mut tasks) => Err(error),
    };

    stopping.store(true, Ordering::Release);
    // The door closes first: what came through it is in the log before the workers look for its end.
    server.close().await;
    let ended = match ended {
        Err(error) => {
            crew.abandon().await;
            Err(error)
        }
        Ok(()) => {
            tracing::info!("stopping: the log is worked off and committed");
            crew.stop(Instant::now() + config.runtime.shutdown_timeout).await
        }
    };
    // Waited for, so that nobody holds the log any more when this returns.
    tasks.shutdown().await;
    meter.save();
    if let Err(error) = directory.save(true).await {
        tracing::warn!(%error, "the next start scans more of the log");
    }
    drop((directory, decoders, view, meter, log, successor));
    ended
}

/// Waits for a successor; for ever, where none can come.
async fn until_taken_over(dir: &Path, listener: TcpListener) -> Successor {
    match Offer::new(dir, listener) {
        Ok(offer) => offer.taken().await,
        Err(error) => {
            tracing::warn!(%error, "no successor can take over; the next start refuses connections for a moment");
            std::future::pending().await
        }
    }
}

/// Reaches the database and works until something makes it end; gives what that was.
#[expect(clippy::too_many_arguments, reason = "each is a part of the daemon, and this is where they meet")]
async fn work(
    config: &Config,
    hosts: &Hosts,
    log: &Log,
    directory: &Arc<Directory>,
    decoders: &Decoders,
    view: &Arc<View>,
    crew: &mut Crew,
    tasks: &mut JoinSet<()>,
) -> ServeError {
    let store = match reach(config, hosts, log.partitions(), view).await {
        Ok(store) => store,
        Err(error) => return error.into(),
    };
    tracing::info!(level = %store.level(), "the database is reached");
    let retention_us = i64::try_from(config.log.retention.as_micros()).unwrap_or(i64::MAX);
    let keep = maintenance::Keep { retention_us, size_bytes_max: config.log.size_bytes_max };
    registry::fetch_decoders(&store, decoders).await;
    let comparisons = registry::Comparisons::default();
    tasks.spawn(registry::run(store.clone(), log.id(), Arc::clone(directory), decoders.clone(), comparisons.clone()));
    tasks.spawn(retries::run(store.clone(), log.clone(), comparisons));
    tasks.spawn(maintenance::run(store.clone(), log.clone(), Arc::clone(directory), keep, clock::log_time));
    tasks.spawn(indexing::run(store.clone(), log.clone(), Arc::clone(view)));
    crew.commit_to(&store, &config.runtime.owner);
    crew.failure().await
}

/// Waits for the database, for as long as it takes.
async fn reach(config: &Config, hosts: &Hosts, partitions: u16, view: &View) -> Result<Store, StoreError> {
    let trouble = view.trouble("start");
    loop {
        let reached = async {
            let mut store = Store::connect_to(config.database.store(), hosts.clone()).await?;
            if config.database.migrate {
                store.migrate(partitions).await?;
            }
            Ok::<_, StoreError>(store)
        };
        let error = match reached.await {
            Ok(store) => return Ok(store),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => error,
        };
        if error.is_transient() {
            tracing::warn!(%error, "the database is not available; the log takes uplinks meanwhile");
        } else {
            tracing::error!(%error, "the database cannot be used; the log takes uplinks meanwhile, and weir tries again");
        }
        trouble.set(&error);
        tokio::time::sleep(DATABASE_RETRY).await;
    }
}
