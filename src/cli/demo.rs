//! `weir demo`: the daemon with a simulated fleet in front of it.
//!
//! Everything is real: webhooks over HTTP, the fsynced log, decoders in wasm, the database. At the end
//! the tables are compared with what the fleet's seed says they must hold.

use super::Settings;
use super::fleet::{await_devices, daemon_options, empty_store, log_ends, now, patience, register_fleet};
use super::interrupts::Interrupts;
use crate::client::Client;
use crate::config::Config;
use crate::load::daemon::Daemon;
use crate::load::process::Usage;
use crate::load::register::Tokens;
use crate::load::sender::{Keep, Live, SendOptions, SendReport, Sender, Target};
use crate::load::verify::{self, Verified};
use crate::load::{Fleet, FleetSpec};
use crate::store::Store;
use anyhow::bail;
use dataflows::model::{EventTime, TenantNo};
use serde::Serialize;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The demo's tenant.
const TENANT: &str = "demo";

/// Run the daemon with a simulated fleet, and show what it does.
///
/// Takes an empty database.
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

/// What the demo found out, before it is put into figures.
struct Shown {
    report: SendReport,
    status: Value,
    weir: Usage,
    verified: Option<Verified>,
}

impl Demo {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let config = settings.load()?;
        let interrupts = Interrupts::listen()?;
        let fleet = Fleet::new(self.spec(EventTime(0))?)?;
        let store = empty_store(&config).await?;
        let (tenant, tokens) = register_fleet(&store, &fleet, TENANT).await?;

        let started = async {
            let daemon = Daemon::start(&daemon_options(settings, &config, self.listen)).await?;
            await_devices(&daemon, self.devices).await?;
            Ok(daemon)
        };
        let daemon = interrupts.unless(started).await?;
        if !self.json {
            print_hints(&fleet, &daemon.url(), &tokens, &config);
        }
        // The first signal ends the sending. From then on, one more ends the demo.
        let report = daemon.with(self.send(&daemon.url(), &tokens.write, &interrupts)).await?;
        let shown = interrupts.unless(self.verify(&store, tenant, &daemon, report)).await?;
        interrupts.unless(async { Ok(daemon.stop(patience(self.devices)).await?) }).await?;
        self.conclude(&shown, &store.level().to_string())
    }

    fn spec(&self, start: EventTime) -> anyhow::Result<FleetSpec> {
        let period_us = FleetSpec::period_us(self.devices, self.rate)?;
        Ok(FleetSpec { devices: self.devices, seed: self.seed, start, period_us, ..FleetSpec::default() })
    }

    /// Sends until the time is over or a signal comes, and shows what happens each second.
    async fn send(&self, url: &str, token: &str, interrupts: &Interrupts) -> anyhow::Result<SendReport> {
        // The fleet's clock starts when it starts to send, so that its uplinks are fresh.
        let fleet = Arc::new(Fleet::new(self.spec(EventTime(now().0))?)?);
        let live = Arc::new(Live::default());
        // Without an end nothing is compared, and what was sent would be remembered for nothing.
        let keep = if self.seconds.is_some() { Keep::Expectation } else { Keep::Figures };
        let sender = Sender {
            fleet: Arc::clone(&fleet),
            target: Target::new(url, token)?,
            options: SendOptions { keep, ..SendOptions::default() },
            live: Arc::clone(&live),
            clock: Arc::new(now),
        };
        let (stop, stopped) = watch::channel(false);
        let sending = tokio::spawn(async move { sender.send(fleet.schedule(), stopped).await });
        let end = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut client = Client::new(url, None)?;
        let mut before = None;
        let interrupted = interrupts.next();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                _ = second.tick() => {}
                () = &mut interrupted => break,
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            if !self.json {
                let now = client.json("/status").await?;
                print_line(&live, &now, before.as_ref());
                before = Some(now);
            }
        }
        stop.send_replace(true);
        Ok(sending.await?)
    }

    /// Compares the tables with what was acknowledged, where an end was asked for.
    async fn verify(&self, store: &Store, tenant: TenantNo, daemon: &Daemon, report: SendReport) -> anyhow::Result<Shown> {
        let ends = log_ends(&Client::new(&daemon.url(), None)?.json("/status").await?);
        let mut verified = None;
        if self.seconds.is_some() {
            let mut client = store.client().await?;
            daemon
                .with(async { Ok::<_, anyhow::Error>(verify::await_committed(&client, &ends, patience(self.devices)).await?) })
                .await?;
            verified = Some(verify::verify(&mut client, tenant, &report.expectation, |_| ()).await?);
        }
        let status = Client::new(&daemon.url(), None)?.json("/status").await?;
        Ok(Shown { report, status, weir: Usage::of(daemon.pid()), verified })
    }

    fn conclude(&self, shown: &Shown, level: &str) -> anyhow::Result<()> {
        let figures = Figures::new(shown, level);
        if self.json {
            println!("{}", serde_json::to_string(&figures)?);
        } else {
            println!("\n{}", serde_json::to_string_pretty(&figures)?);
        }
        if shown.verified.as_ref().is_some_and(|verified| !verified.ok) {
            bail!("the tables do not hold what they must: see `differences`");
        }
        match figures.uplinks_refused {
            0 => Ok(()),
            refused => bail!("{refused} uplinks were refused, and nothing should have been: see `failures`"),
        }
    }
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
    let latency = live.tally().acknowledged;
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
    /// Due at the end and not sent, because the schedule could not be kept.
    uplinks_unsent: u64,
    uplinks_per_s: f64,
    /// From due to acknowledged. Unit: milliseconds.
    acknowledged_p50_ms: f64,
    acknowledged_p99_ms: f64,
    /// By how much the sender itself was late at most. Unit: milliseconds.
    sender_behind_max_ms: u64,
    counts: &'a Value,
    /// Of the daemon. Unit: seconds.
    cpu_s: f64,
    /// Of the daemon. Unit: bytes.
    rss_max_bytes: u64,
    failures: &'a std::collections::BTreeMap<String, u64>,
    verified: Option<bool>,
    verification: Option<&'a Verified>,
}

impl<'a> Figures<'a> {
    fn new(shown: &'a Shown, level: &'a str) -> Self {
        let Shown { report, status, weir, verified } = shown;
        let sent = report.tally.figures();
        let seconds = report.elapsed.as_secs_f64();
        let quantile_ms = |q| report.tally.acknowledged.value_at_quantile(q) as f64 / 1000.0;
        Self {
            database: level,
            seconds,
            uplinks_sent: sent.sent,
            uplinks_acknowledged: sent.acknowledged,
            uplinks_refused: sent.refused,
            uplinks_unanswered: sent.unanswered,
            uplinks_unsent: sent.unsent,
            uplinks_per_s: sent.acknowledged as f64 / seconds,
            acknowledged_p50_ms: quantile_ms(0.5),
            acknowledged_p99_ms: quantile_ms(0.99),
            sender_behind_max_ms: sent.behind_ms_max,
            counts: &status["counts"],
            cpu_s: weir.cpu_s,
            rss_max_bytes: weir.rss_max_bytes,
            failures: &report.failures,
            verified: verified.as_ref().map(|verified| verified.ok),
            verification: verified.as_ref(),
        }
    }
}
