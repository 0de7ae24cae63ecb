//! One measurement, phase by phase.

use super::progress::Progress;
use crate::cli::Settings;
use crate::cli::fleet::{
    await_devices, await_status, daemon_options, empty_store, is_drained, log_ends, now, patience, register_fleet,
};
use crate::client::Client;
use crate::config::Config;
use crate::load::case::{BarResult, Case, Posting, Source};
use crate::load::daemon::{Daemon, DaemonOptions};
use crate::load::fleet::Member;
use crate::load::probe::{self, Place, ProbeError, Seen, Stretch};
use crate::load::process::{Server, Usage};
use crate::load::processors::Processors;
use crate::load::reader::read_days;
use crate::load::register::Tokens;
use crate::load::report::{CommitFigures, CpuPerMillion, Figures, Latency, Machine, Report, Restart, SERIES_DAY};
use crate::load::sample::{Sample, Sampler, count};
use crate::load::sender::{Live, SendReport, Sender, Target};
use crate::load::{Due, Expectation, Fleet, backlog, checkpoints, fresh, limit, verify};
use crate::store::Store;
use anyhow::Context as _;
use dataflows::model::{EventTime, LogTime, TenantNo};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The tenant of measurements.
const TENANT: &str = "load";
/// How long a daemon may take to work off a full log, and to end.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What is not sent so long after the schedule's end never is.
const GRACE: Duration = Duration::from_secs(10);
/// Watchers pass over what of the schedule stood in the log, before the first is due.
const PREPARATION: Duration = Duration::from_secs(1);
/// How long probes are looked for behind the last commit.
const LAST_LOOKS: Duration = Duration::from_secs(2);
/// What is due so long before or behind the beginning of a checkpoint's transaction may have to wait for the checkpoint.
const NEAR_CHECKPOINT: Duration = Duration::from_secs(1);

/// A measurement under way.
pub(super) struct Run<'a> {
    settings: &'a Settings,
    case: Case,
    config: Config,
    progress: &'a Progress,
    /// What the limit is measured with, while it is.
    aside: Option<Store>,
}

/// What the run itself found, before anything is verified.
struct Measured {
    figures: Figures,
    samples: Vec<Sample>,
    expectation: Expectation,
    /// The daemon, still there, and its status behind the last commit.
    daemon: Daemon,
    status: Value,
}

/// Where a fleet's uplinks go.
#[derive(Clone, Copy)]
struct Destination<'a> {
    store: &'a Store,
    tenant: TenantNo,
    tokens: &'a Tokens,
}

/// A daemon's figures over a span of time.
struct Watched {
    sampling: JoinHandle<Vec<Sample>>,
    stop: watch::Sender<bool>,
    server: Option<Server>,
    began: Sample,
}

impl<'a> Run<'a> {
    pub(super) fn new(settings: &'a Settings, case: Case, progress: &'a Progress) -> anyhow::Result<Self> {
        let config = settings.load()?;
        Ok(Self { settings, case, config, progress, aside: None })
    }

    /// Runs the case and verifies the tables.
    pub(super) async fn measure(&mut self, name: &str, verifies: bool) -> anyhow::Result<Report> {
        fresh::directory(&self.config.log.dir)?;
        let store = empty_store(&self.config).await?;
        let client = store.client().await?;
        self.progress.phase("registering the fleet", 0);
        let fleet = self.fleet()?;
        let (tenant, tokens) = register_fleet(&store, &fleet, TENANT).await?;
        let to = Destination { store: &store, tenant, tokens: &tokens };
        let mut measured = match self.case.source.clone() {
            Source::Log { uplinks, .. } => self.work_off(to, uplinks).await?,
            Source::Http(posting) => self.send_all(to, &posting).await?,
        };
        if self.case.restart {
            let (daemon, restart) = self.restart(measured.daemon).await?;
            (measured.daemon, measured.figures.restart) = (daemon, Some(restart));
        }
        if let Source::Log { uplinks, then: Some(posting) } = self.case.source.clone() {
            measured = self.go_on(measured, to, uplinks, &posting).await?;
        }
        let ends = log_ends(&measured.status);
        measured.daemon.stop(PATIENCE).await?;

        let mut verification = None;
        if verifies {
            let fields = |member: &Member| member.kind.spec().fields.len() as u64;
            let series: u64 = measured.expectation.fleet().members().iter().map(fields).sum();
            let bar = self.progress.phase("verifying raw rows, hours, days", 3 * series);
            let mut client = store.client().await?;
            verify::await_committed(&client, &ends, Duration::from_secs(10)).await?;
            let verified = verify::verify(&mut client, tenant, &measured.expectation, |series| bar.inc(series)).await?;
            measured.figures.verified = Some(verified.ok);
            verification = Some(verified);
        }
        let version: String = client.query_one("SELECT current_setting('server_version')", &[]).await?.get(0);
        Ok(Report {
            case: name.to_owned(),
            about: self.case.about.clone(),
            version: env!("CARGO_PKG_VERSION"),
            database: format!("{}, PostgreSQL {version}", store.level()),
            machine: Machine::here(),
            at: jiff::Timestamp::now().to_string(),
            figures: measured.figures,
            bars: Vec::new(),
            limit: None,
            verification,
            baseline: None,
            samples: measured.samples,
        })
    }

    /// Measures the physical limit for the rows that are in the tables now.
    pub(super) async fn limit(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let store = Store::connect(self.config.database.store()).await?;
        self.aside = Some(store.clone());
        let dir = self.spool_dir();
        std::fs::create_dir_all(&dir)?;
        let figures = &mut report.figures;
        let sizes = (figures.commits.rows_mean, figures.measurements);
        let begun = |phase: &str| drop(self.progress.phase(phase, 0));
        let limit = limit::measure(&store, self.config.log.partitions, sizes, &dir, &limit_database(), begun).await?;
        // With a second part there are more rows in the tables than `seconds` is about.
        if let Source::Log { then: None, .. } = self.case.source {
            figures.ratio_to_limit = Some(limit.seconds / figures.seconds);
            figures.ratio_to_limit_indexed = figures.indexed_seconds.map(|seconds| limit.indexed_seconds / seconds);
        }
        report.limit = Some(limit);
        Ok(())
    }

    /// Removes what the limit was measured with, also where that was broken off.
    pub(super) async fn put_away(&mut self) {
        let Some(store) = self.aside.take() else { return };
        let dropped = async { Ok::<_, anyhow::Error>(limit::drop_database(&store.client().await?, &limit_database()).await?) };
        if let Err(error) = dropped.await {
            eprintln!("weir load: the database {} is left behind: {error:#}", limit_database());
        }
        // What cannot be removed lies within the data directory, which is left behind anyway.
        let _ = std::fs::remove_dir_all(self.spool_dir());
    }

    /// Holds the figures against the case's bars.
    pub(super) fn bars(&self, report: &Report) -> anyhow::Result<Vec<BarResult>> {
        Ok(self.case.bars.results(&serde_json::to_value(&report.figures)?))
    }

    fn spool_dir(&self) -> std::path::PathBuf {
        self.config.log.dir.join("limit")
    }

    /// The fleet, with a schedule that starts now. Who is in it does not depend on that.
    fn fleet(&self) -> anyhow::Result<Arc<Fleet>> {
        Ok(Arc::new(Fleet::new(self.case.spec(EventTime(now().0))?)?))
    }

    fn daemon_options(&self) -> DaemonOptions {
        let mut options = daemon_options(self.settings, &self.config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        options.settings.push(("WEIR_RUNTIME_WORKERS", self.case.workers.to_string()));
        // The log is worked off before anything is measured behind it, however long that takes.
        options.settings.push(("WEIR_RUNTIME_SHUTDOWN_TIMEOUT", format!("{} s", PATIENCE.as_secs())));
        options
    }

    /// From a full log to committed rows.
    async fn work_off(&self, Destination { store, tenant, .. }: Destination<'_>, uplinks: usize) -> anyhow::Result<Measured> {
        let client = store.client().await?;
        // A first run brings the registry into the log.
        self.progress.phase("the registry takes effect", 0);
        let daemon = Daemon::start(&self.daemon_options()).await?;
        await_devices(&daemon, self.case.fleet.devices).await?;
        daemon.stop(PATIENCE).await?;

        let bar = self.progress.phase("filling the log", uplinks as u64);
        let (dir, options, fleet) = (self.config.log.dir.join("log"), self.config.log.options(), self.fleet()?);
        let fill = move || backlog::fill(&dir, options, &fleet, tenant, uplinks, |written| bar.set_position(written));
        let expectation = tokio::task::spawn_blocking(fill).await??;

        // Only a superuser may; without, the checkpoint of what went before falls into the measurement.
        let _ = client.batch_execute("CHECKPOINT").await;
        let bar = self.progress.phase("working off the log", uplinks as u64);
        let started = Instant::now();
        let server = Server::behind(&client).await?;
        let (postgres, processors) = (server.as_ref().map(Server::usage), Processors::now());
        let daemon = Daemon::start(&self.daemon_options()).await?;
        let mut watched = Watched::begin(&daemon, server, Arc::default(), started, move |sample: &Sample| {
            bar.set_position((uplinks as u64).saturating_sub(sample.lag_records));
        })
        .await?;
        // The process is new, so all that it used counts.
        watched.began = Sample { postgres, processors, ..Sample::default() };
        let (stop_reading, reading_stopped) = watch::channel(false);
        let (reader, fleet) = (store.client().await?, Arc::clone(expectation.fleet()));
        let reading = tokio::spawn(async move { read_days(reader, &fleet, tenant, reading_stopped).await });
        let status = await_status(&daemon, PATIENCE, is_drained).await?;
        let seconds = started.elapsed().as_secs_f64();
        stop_reading.send_replace(true);
        self.progress.phase("indexing what was written", 0);
        let status_indexed = |status: &Value| is_drained(status) && status["chunks_waiting"] == 0;
        await_status(&daemon, PATIENCE, status_indexed).await?;
        let indexed_seconds = started.elapsed().as_secs_f64();
        let (mut figures, samples) = watched.end(&daemon, &status, seconds).await?;
        figures.workers = self.case.workers;
        figures.indexed_seconds = Some(indexed_seconds);
        let read = reading.await.context("the reader broke off")?.context("one series' day could not be read")?;
        figures.latency_ms.insert(SERIES_DAY, Latency::of(&read));
        Ok(Measured { figures, samples, expectation, daemon, status })
    }

    /// Posted by the fleet.
    async fn send_all(&self, to: Destination<'_>, posting: &Posting) -> anyhow::Result<Measured> {
        self.progress.phase("the registry takes effect", 0);
        let daemon = Daemon::start(&self.daemon_options()).await?;
        await_devices(&daemon, self.case.fleet.devices).await?;
        await_status(&daemon, patience(self.case.fleet.devices), is_drained).await?;
        let fleet = self.fleet()?;
        let stretch = Stretch { started: Instant::now(), from_us: 0, span: posting.duration() };
        self.post(daemon, to, &fleet, posting, fleet.schedule(), stretch).await
    }

    /// Posts what comes behind the first `uplinks` of the fleet.
    async fn go_on(&self, behind: Measured, to: Destination<'_>, uplinks: usize, posting: &Posting) -> anyhow::Result<Measured> {
        let fleet = Arc::clone(behind.expectation.fleet());
        let mut schedule = fleet.schedule();
        schedule.by_ref().take(uplinks).for_each(drop);
        let mut schedule = schedule.peekable();
        let from_us = schedule.peek().expect("a schedule has no end").due_us;
        let stretch = Stretch { started: Instant::now() + PREPARATION, from_us, span: posting.duration() };
        let Measured { figures: then, expectation, daemon, status, .. } =
            self.post(behind.daemon, to, &fleet, posting, schedule, stretch).await?;
        let (mut figures, samples) = (behind.figures, behind.samples);
        let mut expected = behind.expectation;
        expected.merge(expectation);
        figures.rss_max_bytes = figures.rss_max_bytes.max(then.rss_max_bytes);
        figures.kept_schedule = then.kept_schedule;
        figures.counts = then.counts.clone();
        figures.then = Some(Box::new(then));
        Ok(Measured { figures, samples, expectation: expected, daemon, status })
    }

    /// Has the fleet post a stretch of its schedule, of which `schedule` is what is left.
    async fn post(
        &self,
        daemon: Daemon,
        Destination { store, tenant, tokens }: Destination<'_>,
        fleet: &Arc<Fleet>,
        posting: &Posting,
        schedule: impl Iterator<Item = Due>,
        stretch: Stretch,
    ) -> anyhow::Result<Measured> {
        let bar = self.progress.phase("sending", posting.duration_s);
        let client = store.client().await?;
        let server = Server::behind(&client).await?;
        let live = Arc::new(Live::default());
        let show = move |sample: &Sample| bar.set_position(sample.at_s as u64);
        let watched = Watched::begin(&daemon, server, Arc::clone(&live), stretch.started, show).await?;
        let (stop_probes, probes_stopped) = watch::channel(false);
        let [in_select, in_query] = [
            Place::tables(store.client().await?, tenant).await?,
            Place::Endpoint(Client::new(&daemon.url(), Some(&tokens.read))?),
        ]
        .map(|place| {
            let (fleet, stopped) = (Arc::clone(fleet), probes_stopped.clone());
            tokio::spawn(async move { probe::watch(&fleet, place, stretch, stopped).await })
        });
        let target = Target::new(&daemon.url(), &tokens.write)?;
        // The log times of a full log are those of its schedule; where that goes further than now, time stands still in the log.
        let log_end = LogTime(fleet.spec().start.0.saturating_add_unsigned(stretch.from_us));
        let clock = move || now().max(log_end);
        let sender = Sender { fleet: Arc::clone(fleet), target, options: posting.send_options(), live, clock: Arc::new(clock) };
        let sent = daemon.with(async { Ok::<_, anyhow::Error>(send(sender, stretch, schedule).await) }).await?;

        self.progress.phase("committing what is left", 0);
        let drain = Instant::now();
        let status = await_status(&daemon, PATIENCE, is_drained).await?;
        let (mut figures, samples) = watched.end(&daemon, &status, sent.elapsed.as_secs_f64()).await?;
        figures.drain_s = Some(drain.elapsed().as_secs_f64());
        let checkpoints = checkpoints::since(&client, stretch.started).await?;
        let (in_select, in_query) = (seen(in_select, &stop_probes).await?, seen(in_query, &stop_probes).await?);
        let at_checkpoints = in_select.latency_about(&checkpoints, NEAR_CHECKPOINT);
        if !at_checkpoints.is_empty() {
            figures.latency_ms.insert("visible_at_checkpoints", Latency::of(&at_checkpoints));
        }
        for (name, seen) in [("visible_in_select", in_select), ("visible_in_query", in_query)] {
            figures.latency_ms.insert(name, Latency::of(&seen.latency()));
            figures.unseen.insert(name, seen.unseen);
        }
        figures.latency_ms.extend(Latency::of_tally(&sent.tally));
        let counts = sent.tally.figures();
        figures.workers = self.case.workers;
        figures.kept_schedule = Some(counts.kept_schedule());
        figures.sent = Some(counts);
        figures.failures = sent.failures;
        Ok(Measured { figures, samples, expectation: sent.expectation, daemon, status })
    }

    /// Kills the daemon and has it catch up, then stops it in good order and has it catch up again.
    async fn restart(&self, daemon: Daemon) -> anyhow::Result<(Daemon, Restart)> {
        self.progress.phase("killing and catching up", 0);
        daemon.kill().await;
        let caught_up = async || {
            let started = Instant::now();
            let daemon = Daemon::start(&self.daemon_options()).await?;
            await_status(&daemon, PATIENCE, is_drained).await?;
            Ok::<_, anyhow::Error>((daemon, started.elapsed().as_secs_f64()))
        };
        let (daemon, after_kill_s) = caught_up().await?;
        let stopping = Instant::now();
        daemon.stop(PATIENCE).await?;
        let stop_s = stopping.elapsed().as_secs_f64();
        let (daemon, after_stop_s) = caught_up().await?;
        Ok((daemon, Restart { after_kill_s, stop_s, after_stop_s }))
    }
}

/// Sends a stretch of a schedule. What cannot be sent shortly behind it is left, and counted.
async fn send(sender: Sender, stretch: Stretch, schedule: impl Iterator<Item = Due>) -> SendReport {
    let (stop, stopped) = watch::channel(false);
    let sending = sender.send_from(stretch.started, stretch.of(schedule), stopped);
    tokio::pin!(sending);
    tokio::select! {
        report = &mut sending => return report,
        () = tokio::time::sleep_until(stretch.started + stretch.span + GRACE) => {}
    }
    stop.send_replace(true);
    sending.await
}

/// Gives what a probe's watcher has seen. When all is committed, whoever is still looking looks for what never was sent.
async fn seen(mut watching: JoinHandle<Result<Seen, ProbeError>>, stop: &watch::Sender<bool>) -> anyhow::Result<Seen> {
    let seen = match tokio::time::timeout(LAST_LOOKS, &mut watching).await {
        Ok(seen) => seen,
        Err(_) => {
            stop.send_replace(true);
            watching.await
        }
    };
    Ok(seen.context("a probe's watcher broke off")??)
}

impl Watched {
    async fn begin(
        daemon: &Daemon,
        server: Option<Server>,
        live: Arc<Live>,
        started: Instant,
        show: impl FnMut(&Sample) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut sampler = Sampler::new(&daemon.url(), daemon.pid(), server.clone(), live, started)?;
        let began = daemon.with(async { Ok::<_, anyhow::Error>(sampler.sample().await?) }).await?;
        let (stop, stopped) = watch::channel(false);
        Ok(Self { sampling: tokio::spawn(sampler.run(stopped, show)), stop, server, began })
    }

    /// Gives the figures of the span that ends now, in which the uplinks came in within `seconds`.
    async fn end(self, daemon: &Daemon, status: &Value, seconds: f64) -> anyhow::Result<(Figures, Vec<Sample>)> {
        let (weir, postgres) = (Usage::of(daemon.pid()), self.server.as_ref().map(Server::usage));
        let processors = self.began.processors.zip(Processors::now());
        self.stop.send_replace(true);
        let samples = self.sampling.await.context("the sampler broke off")?;
        let last = samples.last().context("the daemon did not answer once")?;
        let since = |name: &str, before: u64| count(status, name).saturating_sub(before);
        let (uplinks, measurements) = (since("uplinks", self.began.uplinks), since("measurements", self.began.measurements));
        let per_million = |from: f64, to: f64| (to - from) / measurements.max(1) as f64 * 1e6;
        let of_weir = per_million(self.began.weir.cpu_s, weir.cpu_s);
        let of_postgres = self.began.postgres.zip(postgres).map(|(from, to)| per_million(from.cpu_s, to.cpu_s));
        let figures = Figures {
            seconds,
            uplinks,
            uplinks_per_s: uplinks as f64 / seconds,
            measurements,
            measurements_per_s: measurements as f64 / seconds,
            cpu_s_per_million: CpuPerMillion { weir: of_weir, postgres: of_postgres, both: of_postgres.map(|cpu| cpu + of_weir) },
            stolen_share: processors.map(|(from, to)| to.stolen_share_since(&from)),
            rss_max_bytes: weir.rss_max_bytes,
            lag_records_max: samples.iter().map(|sample| sample.lag_records).max().unwrap_or(0),
            commits: CommitFigures::of(&last.commits.since(&self.began.commits)),
            counts: status["counts"].clone(),
            ..Figures::default()
        };
        Ok((figures, samples))
    }
}

/// The database that the limit is measured in: one of this process.
fn limit_database() -> String {
    format!("weir_limit_{}", std::process::id())
}
