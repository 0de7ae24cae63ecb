//! `weir demo`: the daemon with a simulated fleet in front of it, in one process.
//!
//! Everything is real: webhooks over HTTP, the fsynced log, decoders in wasm, the database. At the end
//! the tables are compared with what the fleet's seed says they must hold.

use super::{Settings, http, registry::new_token};
use crate::config::Config;
use crate::load::process::Usage;
use crate::load::register::{Tokens, register};
use crate::load::sender::{Live, SendOptions, SendReport, Sender, Target};
use crate::load::verify::{self, Verified};
use crate::load::{Fleet, FleetSpec};
use crate::registry::admin::NewTenant;
use crate::runtime;
use crate::store::Store;
use crate::telemetry;
use anyhow::{Context, bail};
use dataflows::model::{EventTime, LogTime, TenantNo};
use serde::Serialize;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_postgres::Client;

/// The demo's tenant.
const TENANT: &str = "demo";
/// How long the daemon may take to see the demo's devices, and to commit what is left at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Run the daemon with a simulated fleet, and show what it does.
#[derive(clap::Args, Debug)]
pub(super) struct Demo {
    /// Devices of the fleet.
    #[arg(long, default_value_t = 1000)]
    devices: u32,
    /// Uplinks a second, without the copies.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// End after so many seconds and compare the tables with what they must hold; else run until Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Print one JSON object at the end instead of the live line.
    #[arg(long)]
    json: bool,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to listen.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
}

impl Demo {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let mut config = settings.load()?;
        config.http.listen = self.listen;
        telemetry::start()?;
        let mut store = Store::connect(config.database.store()).await?;
        store.migrate(config.log.partitions).await?;
        let mut client = store.client().await?;
        let mut fleet = Arc::new(Fleet::new(self.spec(EventTime(0)))?);
        let (tenant, tokens) = register_fleet(&mut client, &fleet).await?;

        let (shutdown, stopped) = oneshot::channel::<()>();
        let (listening, address) = oneshot::channel();
        let daemon = tokio::spawn(run_daemon(config.clone(), listening, stopped));
        let Ok(address) = address.await else { return daemon.await? };
        let url = format!("http://{address}");
        await_devices(&url, self.devices as usize).await?;
        if !self.json {
            print_hints(&fleet, &url, &tokens, &config);
        }

        // The fleet's clock starts when it starts to send, so that its uplinks are fresh.
        fleet = Arc::new(Fleet::new(self.spec(EventTime(now().0)))?);
        let report = self.send(&fleet, &url, &tokens.write).await?;
        let verified = match self.seconds {
            Some(_) => Some(verify::verify(&mut client, tenant, &report.expectation, PATIENCE).await?),
            None => None,
        };
        let status = status(&url).await?;
        // The daemon may have ended by itself; then its own error is told below.
        let _ = shutdown.send(());
        daemon.await??;
        self.conclude(&report, &status, verified.as_ref(), &store.level().to_string())
    }

    fn spec(&self, start: EventTime) -> FleetSpec {
        let period_ms = (f64::from(self.devices) / self.rate * 1000.0) as u64;
        FleetSpec { devices: self.devices, seed: self.seed, start, period_ms, ..FleetSpec::default() }
    }

    /// Sends until the time is over or Ctrl-C, and shows what happens each second.
    async fn send(&self, fleet: &Arc<Fleet>, url: &str, token: &str) -> anyhow::Result<SendReport> {
        let live = Arc::new(Live::default());
        let sender = Sender {
            fleet: Arc::clone(fleet),
            target: Target::new(url, token)?,
            options: SendOptions::default(),
            live: Arc::clone(&live),
            clock: Arc::new(now),
        };
        let (stop, stopped) = watch::channel(false);
        let its_fleet = Arc::clone(fleet);
        let sending = tokio::spawn(async move { sender.send(its_fleet.schedule(), stopped).await });
        let end = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut before = None;
        loop {
            tokio::select! {
                _ = second.tick() => {}
                _ = tokio::signal::ctrl_c() => break,
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            if !self.json {
                let now = status(url).await?;
                print_line(&live, &now, before.as_ref());
                before = Some(now);
            }
        }
        stop.send_replace(true);
        Ok(sending.await?)
    }

    fn conclude(&self, report: &SendReport, status: &Value, verified: Option<&Verified>, level: &str) -> anyhow::Result<()> {
        let figures = Figures::new(report, status, verified, level);
        if self.json {
            println!("{}", serde_json::to_string(&figures)?);
        } else {
            println!("\n{}", serde_json::to_string_pretty(&figures)?);
        }
        match verified {
            Some(verified) if !verified.ok => bail!("the tables do not hold what they must: see `differences`"),
            _ => Ok(()),
        }
    }
}

async fn run_daemon(
    config: Config,
    listening: oneshot::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let listening = |address| {
        // Nobody waits for the address when the demo has given up.
        let _ = listening.send(address);
    };
    let shutdown = async {
        // Dropping the other end means the same.
        let _ = stopped.await;
    };
    Ok(runtime::serve(config, listening, shutdown).await?)
}

/// Registers the demo's fleet.
pub(super) async fn register_fleet(client: &mut Client, fleet: &Fleet) -> anyhow::Result<(TenantNo, Tokens)> {
    let tenant = NewTenant {
        name: TENANT.into(),
        zone: "UTC".into(),
        heartbeat: "1 hour".into(),
        lateness_horizon: "10 minutes".into(),
        class: "standard".into(),
    };
    let tokens = Tokens { write: new_token(), read: new_token() };
    let tenant = register(client, fleet, &tenant, &tokens).await.context("the demo needs a database of its own")?;
    Ok((tenant, tokens))
}

pub(super) async fn status(url: &str) -> anyhow::Result<Value> {
    http::get(&format!("{url}/status"), None).await
}

/// Waits until the daemon is ready and has taken the devices in.
pub(super) async fn await_devices(url: &str, devices: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(url).await?;
        if status["ready"] == true && status["devices"].as_u64() >= Some(devices as u64) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the daemon is not ready after {} s: {status}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn now() -> LogTime {
    LogTime(jiff::Timestamp::now().as_microsecond())
}

fn print_hints(fleet: &Fleet, url: &str, tokens: &Tokens, config: &Config) {
    let device = &fleet.members()[0].id;
    println!("\nweir takes uplinks at {url}/v1/ttn, /v1/chirpstack and /v1/uplinks. Try, in another terminal:\n");
    println!("  curl -s -H 'Authorization: Bearer {}' '{url}/v1/latest?device={device}'", tokens.read);
    println!("  curl -s -H 'Authorization: Bearer {}' '{url}/v1/query?device={device}&from=-1h&step=raw'", tokens.read);
    println!("  psql '{}' -c 'SELECT * FROM measurement_named ORDER BY ts DESC LIMIT 10'\n", config.database.url);
}

/// One line: what came in, what became of it, and how far the database is behind.
fn print_line(live: &Live, now: &Value, before: Option<&Value>) {
    let count = |name: &str| now["counts"][name].as_u64().unwrap_or(0);
    let rate = |name: &str| count(name) - before.map_or_else(|| count(name), |b| b["counts"][name].as_u64().unwrap_or(0));
    let latency = live.latency();
    println!(
        "uplinks/s {:>6}  measurements/s {:>7}  stored {}  unchanged {}  duplicates {}  quarantined {}  lag {}  rows/commit {}  ack p99 {:.1} ms",
        rate("uplinks"),
        rate("measurements"),
        count("stored"),
        count("unchanged"),
        count("duplicate"),
        count("uplinks_quarantined") + count("measurements_quarantined"),
        now["lag_records"],
        now["last_commit_rows"],
        latency.value_at_quantile(0.99) as f64 / 1000.0,
    );
}

/// What a demo found out.
#[derive(Serialize)]
struct Figures<'a> {
    database: &'a str,
    seconds: f64,
    uplinks_sent: u64,
    uplinks_acknowledged: u64,
    uplinks_refused: u64,
    uplinks_unanswered: u64,
    uplinks_per_s: f64,
    /// From due to acknowledged. Unit: milliseconds.
    acknowledged_p50_ms: f64,
    acknowledged_p99_ms: f64,
    /// By how much the sender itself was late at most. Unit: milliseconds.
    sender_behind_max_ms: u64,
    counts: &'a Value,
    /// Of this process, fleet and daemon together. Unit: seconds.
    cpu_s: f64,
    /// Of this process. Unit: bytes.
    rss_max_bytes: u64,
    failures: &'a std::collections::BTreeMap<String, u64>,
    verified: Option<bool>,
    verification: Option<&'a Verified>,
}

impl<'a> Figures<'a> {
    fn new(report: &'a SendReport, status: &'a Value, verified: Option<&'a Verified>, level: &'a str) -> Self {
        let seconds = report.elapsed.as_secs_f64();
        let quantile_ms = |q| report.latency.value_at_quantile(q) as f64 / 1000.0;
        let usage = Usage::of_this_process();
        Self {
            database: level,
            seconds,
            uplinks_sent: report.figures.sent,
            uplinks_acknowledged: report.figures.acknowledged,
            uplinks_refused: report.figures.refused,
            uplinks_unanswered: report.figures.unanswered,
            uplinks_per_s: report.figures.acknowledged as f64 / seconds,
            acknowledged_p50_ms: quantile_ms(0.5),
            acknowledged_p99_ms: quantile_ms(0.99),
            sender_behind_max_ms: report.figures.behind_ms_max,
            counts: &status["counts"],
            cpu_s: usage.cpu_s,
            rss_max_bytes: usage.rss_max_bytes,
            failures: &report.failures,
            verified: verified.map(|v| v.ok),
            verification: verified,
        }
    }
}
