//! `weir load`: how fast a full log becomes committed rows.
//!
//! First form: the fleet's uplinks are written straight into the log, with the log times of their
//! schedule; then the daemon starts and the time until its last commit counts.

use super::Settings;
use super::demo::{await_devices, register_fleet, status};
use crate::load::process::Usage;
use crate::load::verify::{self, Verified};
use crate::load::{Fleet, FleetSpec, Kind, backlog};
use crate::runtime;
use crate::store::Store;
use crate::telemetry;
use anyhow::bail;
use dataflows::model::EventTime;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Measure how fast a full log becomes committed rows.
#[derive(clap::Args, Debug)]
pub(super) struct Load {
    /// Devices of the fleet.
    #[arg(long, default_value_t = 4000)]
    devices: u32,
    /// Uplinks to work off, copies included.
    #[arg(long, default_value_t = 400_000)]
    uplinks: usize,
    /// How often each device sends. Unit: seconds.
    #[arg(long, default_value_t = 900)]
    period_s: u64,
    /// Only this kind of device, by its template's name; else all kinds.
    #[arg(long)]
    kind: Option<String>,
    /// Compare the tables with what they must hold.
    #[arg(long)]
    verify: bool,
    /// Longest time to wait. Unit: seconds.
    #[arg(long, default_value_t = 600)]
    timeout_s: u64,
}

impl Load {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let mut config = settings.load()?;
        config.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        telemetry::start()?;
        let mut store = Store::connect(config.database.store()).await?;
        store.migrate(config.log.partitions).await?;
        let mut client = store.client().await?;
        let fleet = Arc::new(Fleet::new(self.spec()?)?);
        let (tenant, _) = register_fleet(&mut client, &fleet).await?;

        // A first run brings the registry into the log.
        let daemon = Daemon::start(&config).await?;
        await_devices(&daemon.url, self.devices as usize).await?;
        daemon.stop().await?;
        let (dir, options) = (config.log.dir.join("log"), config.log.options());
        let (filled, uplinks) = (Arc::clone(&fleet), self.uplinks);
        let expectation = tokio::task::spawn_blocking(move || backlog::fill(&dir, options, &filled, tenant, uplinks)).await??;

        let (weir, postgres) = (Usage::of_this_process(), Usage::of_postgres(&client).await?);
        let started = Instant::now();
        let daemon = Daemon::start(&config).await?;
        let counts = self.await_drained(&daemon.url, started).await?;
        let seconds = started.elapsed().as_secs_f64();
        let (weir_end, postgres_end) = (Usage::of_this_process(), Usage::of_postgres(&client).await?);
        daemon.stop().await?;

        let verified = match self.verify {
            true => Some(verify::verify(&mut client, tenant, &expectation, Duration::from_secs(10)).await?),
            false => None,
        };
        let measurements = counts["measurements"].as_u64().unwrap_or(0) as f64;
        let per_million = |from: Usage, to: Usage| (to.cpu_s - from.cpu_s) / measurements * 1e6;
        let figures = Figures {
            database: store.level().to_string(),
            workers: config.runtime.workers,
            seconds,
            uplinks: self.uplinks,
            uplinks_per_s: self.uplinks as f64 / seconds,
            measurements_per_s: measurements / seconds,
            cpu_s_per_million_weir: per_million(weir, weir_end),
            cpu_s_per_million_postgres: postgres.zip(postgres_end).map(|(from, to)| per_million(from, to)),
            rss_max_bytes: weir_end.rss_max_bytes,
            counts,
            verified: verified.as_ref().map(|v| v.ok),
            verification: verified,
        };
        println!("{}", serde_json::to_string(&figures)?);
        match figures.verified {
            Some(false) => bail!("the tables do not hold what they must: see `verification`"),
            _ => Ok(()),
        }
    }

    fn spec(&self) -> anyhow::Result<FleetSpec> {
        let kinds = match &self.kind {
            None => FleetSpec::default().kinds,
            Some(name) => match Kind::of_template(name) {
                Some(kind) => vec![(kind, 1)],
                None => bail!("no kind of device is called {name:?}: see `weir load --help`"),
            },
        };
        let period_ms = self.period_s * 1000;
        // From now on: the registry's records are in the log already, and log time never goes back.
        let start = jiff::Timestamp::now().as_microsecond();
        Ok(FleetSpec {
            devices: self.devices,
            start: EventTime(start),
            period_ms,
            kinds,
            unchanged_share: 0.5,
            out_of_order_share: 0.01,
            ..FleetSpec::default()
        })
    }

    /// Waits until everything in the log is committed, and gives the counts.
    async fn await_drained(&self, url: &str, started: Instant) -> anyhow::Result<serde_json::Value> {
        loop {
            let status = status(url).await?;
            if status["ready"] == true && status["lag_records"] == 0 {
                return Ok(status["counts"].clone());
            }
            if started.elapsed() > Duration::from_secs(self.timeout_s) {
                bail!("the log is not worked off after {} s: {status}", self.timeout_s);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The daemon in this process.
struct Daemon {
    url: String,
    shutdown: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    async fn start(config: &crate::config::Config) -> anyhow::Result<Self> {
        let (shutdown, stopped) = oneshot::channel::<()>();
        let (listening, address) = oneshot::channel();
        let config = config.clone();
        let task = tokio::spawn(async move {
            let listening = |address: SocketAddr| {
                // Nobody waits for the address when the caller has given up.
                let _ = listening.send(address);
            };
            let shutdown = async {
                // Dropping the other end means the same.
                let _ = stopped.await;
            };
            Ok(runtime::serve(config, listening, shutdown).await?)
        });
        match address.await {
            Ok(address) => Ok(Self { url: format!("http://{address}"), shutdown, task }),
            Err(_) => bail!("the daemon did not start: {:?}", task.await?),
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        // It may have ended by itself; then its error is told by the task.
        let _ = self.shutdown.send(());
        self.task.await?
    }
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    database: String,
    workers: usize,
    /// From the daemon's start to the last commit.
    seconds: f64,
    uplinks: usize,
    uplinks_per_s: f64,
    measurements_per_s: f64,
    cpu_s_per_million_weir: f64,
    /// Absent where the server runs elsewhere.
    cpu_s_per_million_postgres: Option<f64>,
    /// Of this process, the filling of the log included. Unit: bytes.
    rss_max_bytes: u64,
    counts: serde_json::Value,
    verified: Option<bool>,
    verification: Option<Verified>,
}
