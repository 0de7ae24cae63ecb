//! A registered fleet in front of a database, and the memory of what was acknowledged to it.

use crate::expected;
use crate::process::{Daemon, PARTITIONS, PATIENCE};
use crate::support::database::{Kind, TestDatabase};
use crate::tables::{Tables, assert_equal};
use dataflows::model::{EventTime, HOUR_US, LogTime, SECOND_US, TenantNo};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Client;
use weir::load::register::{Tokens, register};
use weir::load::sender::{Figures, Live, SendOptions, Sender, Target};
use weir::load::verify::{DifferenceKind, Verified, verify};
use weir::load::{Due, Expectation, Fleet, FleetSpec};
use weir::registry::QuotaChange;
use weir::registry::admin::NewTenant;
use weir::store::{Store, StoreConfig};

/// The daemons that have a data directory.
const DAEMONS: [&str; 2] = ["a", "b"];
/// How many devices the fleet has.
const DEVICES: u32 = 40;
/// How often each sends. Unit: microseconds.
const PERIOD_US: u64 = 300_000;

/// A database with a registered fleet, a data directory, and what was acknowledged so far.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) client: Client,
    pub(crate) tokens: Tokens,
    pub(crate) tenant: TenantNo,
    pub(crate) expectation: Expectation,
    /// When the partials of the fleet's first hour are due.
    bucket_due: LogTime,
    dir: TempDir,
    fleet: Arc<Fleet>,
    /// How much of the schedule was sent.
    taken: usize,
}

impl World {
    /// Registers a fleet in a new database. The tenant's lateness horizon is such that the fleet's first
    /// hour becomes due `bucket_due_in` from now, for log time is the machine's time.
    pub(crate) async fn new(kind: Kind, seed: u64, bucket_due_in: Duration) -> Self {
        Self::on(TestDatabase::create(kind).await, seed, bucket_due_in).await
    }

    /// Does the same in a database that is there.
    pub(crate) async fn on(database: TestDatabase, seed: u64, bucket_due_in: Duration) -> Self {
        let artifacts = artifacts();
        let mut store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
        store.migrate(PARTITIONS).await.unwrap();
        let due_in_us = i64::try_from(bucket_due_in.as_micros()).unwrap();
        let bucket_due = LogTime(now().0 + due_in_us);
        // The fleet may hold uplinks back for seconds, which must be far less than the horizon.
        let bucket_end = (bucket_due.0 - due_in_us - 90 * SECOND_US).div_euclid(HOUR_US) * HOUR_US;
        let lateness_horizon_us = bucket_due.0 - bucket_end;
        let spec = FleetSpec {
            devices: DEVICES,
            seed,
            start: EventTime(bucket_end - due_in_us / 4),
            period_us: PERIOD_US,
            duplicates_share: 0.15,
            out_of_order_share: 0.05,
            out_of_order_ms_max: 4_000,
            late_share: 0.01,
            bad_share: 0.02,
            lateness_horizon_us,
            ..FleetSpec::default()
        };
        let fleet = Arc::new(Fleet::new(spec).unwrap());
        let tenant = NewTenant {
            name: "waterworks".into(),
            zone: "UTC".into(),
            heartbeat: "1 hour".into(),
            lateness_horizon: format!("{lateness_horizon_us} microseconds"),
            class: "standard".into(),
            quota: QuotaChange::default(),
        };
        let tokens = Tokens { write: "weir_write".into(), read: "weir_read".into() };
        let mut client = database.client().await;
        let tenant = register(&mut client, &fleet, &tenant, &tokens).await.unwrap();
        let expectation = Expectation::new(Arc::clone(&fleet));
        let dir = tempfile::tempdir().unwrap();
        for daemon in DAEMONS {
            let decoders = dir.path().join(daemon).join("decoders");
            std::fs::create_dir_all(&decoders).unwrap();
            std::os::unix::fs::symlink(artifacts, decoders.join("artifacts")).unwrap();
        }
        Self { database, client, tokens, tenant, expectation, bucket_due, dir, fleet, taken: 0 }
    }

    /// Gives the data directory of one of the [`DAEMONS`].
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        assert!(DAEMONS.contains(&name));
        self.dir.path().join(name)
    }

    /// Starts the daemon `a`.
    pub(crate) fn start(&self, workers: usize) -> Daemon {
        Daemon::start(&self.database.url(), &self.dir("a"), workers)
    }

    /// Goes on with the copy of the database on another server.
    pub(crate) async fn move_to(&mut self, server: String) {
        self.database = self.database.on(server);
        self.client = self.database.client().await;
    }

    /// Waits until the daemon has the fleet's devices and has committed all of its log.
    pub(crate) async fn caught_up(&self, daemon: &Daemon) {
        let devices = Some(u64::from(DEVICES));
        let caught_up = |s: &Value| s["ready"] == true && s["lag_records"] == 0 && s["devices"].as_u64() >= devices;
        await_status(daemon, caught_up).await;
    }

    /// Waits until the partials of the fleet's first hour are due; the next record of a partition brings them.
    pub(crate) async fn bucket_due(&self) {
        let left_us = u64::try_from(self.bucket_due.0 - now().0).unwrap_or(0);
        tokio::time::sleep(Duration::from_micros(left_us)).await;
    }

    /// Sends what the fleet has for the next `span`, and waits for the answers.
    ///
    /// Panics: when nothing is acknowledged, for then the test shows nothing.
    pub(crate) async fn send(&mut self, address: SocketAddr, span: Duration) -> Figures {
        let (_go_on, stop) = watch::channel(false);
        let figures = self.send_until(address, span, stop).await;
        assert!(figures.acknowledged > 0, "{figures:?}");
        figures
    }

    /// Does the same, but ends at once when it is stopped.
    pub(crate) async fn send_until(&mut self, address: SocketAddr, span: Duration, stop: watch::Receiver<bool>) -> Figures {
        let fleet = Arc::clone(&self.fleet);
        let mut schedule = fleet.schedule().skip(self.taken).peekable();
        let from_us = schedule.peek().expect("a schedule has no end").due_us;
        let span_us = u64::try_from(span.as_micros()).unwrap();
        let taken = &mut self.taken;
        let dues = schedule
            .map(|due| Due { due_us: due.due_us - from_us, ..due })
            .take_while(|due| due.due_us < span_us)
            .inspect(|_| *taken += 1);
        let sender = Sender {
            fleet: Arc::clone(&fleet),
            target: Target::new(&format!("http://{address}"), &self.tokens.write).unwrap(),
            options: SendOptions::default(),
            live: Arc::new(Live::default()),
            clock: Arc::new(now),
        };
        let report = sender.send(dues, stop).await;
        self.expectation.merge(report.expectation);
        report.tally.figures()
    }

    /// Holds the tables against what was acknowledged.
    pub(crate) async fn verified(&mut self) -> Verified {
        verify(&mut self.client, self.tenant, &self.expectation, |_| ()).await.unwrap()
    }

    /// Panics: unless the tables hold all that was acknowledged, once and right.
    pub(crate) async fn assert_verified(&mut self) {
        let verified = self.verified().await;
        if !verified.ok {
            panic!("{:#?}\n{:#?}\nset aside: {:#?}", verified.differences, verified.examples, self.set_aside().await);
        }
    }

    /// Gives what was set aside beside payloads that are meant to be bad: what is missing may be there.
    async fn set_aside(&self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', log_time, device, field, reason, detail) FROM quarantine ORDER BY log_time LIMIT 200";
        self.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Panics: unless the fleet's series hold what was acknowledged, once and right; others may have sent too, which
    /// the daemon's accounts do not tell apart.
    pub(crate) async fn assert_series(&mut self) {
        let verified = self.verified().await;
        let of_series = |kind: &DifferenceKind| !matches!(kind, DifferenceKind::Accounting | DifferenceKind::Quarantine);
        let differs = verified.differences.iter().any(|(kind, count)| of_series(kind) && *count > 0);
        assert!(!differs, "{:#?}\n{:#?}", verified.differences, verified.examples);
    }

    /// Panics: unless the tables hold what the oracle makes of the log of the daemon `a`, which has ended,
    /// and what was acknowledged.
    pub(crate) async fn assert_tables(&mut self) -> Tables {
        let stored = self.assert_oracle().await;
        self.assert_verified().await;
        stored
    }

    /// Panics: unless the tables hold what the oracle makes of the log. Others than the fleet may have sent, too.
    pub(crate) async fn assert_oracle(&self) -> Tables {
        let stored = Tables::read(&self.client).await;
        assert!(stored.count("measurement") > 0, "there is nothing to compare");
        assert_equal(stored.clone(), expected::tables(&self.dir("a")), "of the fleet's log");
        stored
    }
}

/// Compiled decoders that all daemons of these tests share: the JavaScript engine takes seconds to compile.
/// They are there when this returns.
pub(crate) fn artifacts() -> &'static Path {
    static ARTIFACTS: OnceLock<PathBuf> = OnceLock::new();
    ARTIFACTS.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decoders");
        expected::decoders(&dir);
        dir.join("artifacts")
    })
}

/// Waits until the daemon has taken its partitions and committed something.
pub(crate) async fn commits(daemon: &Daemon) {
    let mut at_start = None;
    let more = |status: &Value| {
        let partitions = status["partitions"].as_array().expect("the status lists the partitions");
        let committed: u64 = partitions.iter().filter_map(|partition| partition["committed"].as_u64()).sum();
        status["ready"] == true && committed > *at_start.get_or_insert(committed)
    };
    await_status(daemon, more).await;
}

pub(crate) async fn await_status(daemon: &Daemon, mut wanted: impl FnMut(&Value) -> bool) {
    let address = daemon.address().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, status) = get(address, "/status", "").await;
        if wanted(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "{status}\n{}", daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has the log take so many bytes, in uplinks of a device that nobody has registered, of which a request has
/// `request_bytes`. Tells whether it took them all; it is full otherwise.
pub(crate) async fn fill(daemon: &Daemon, world: &World, bytes: usize, request_bytes: usize) -> bool {
    let (url, client) = (format!("http://{}/v1/uplinks", daemon.address().await), reqwest::Client::new());
    let text = "x".repeat(request_bytes.min(50_000));
    for request in 0..bytes.div_ceil(request_bytes) {
        let uplinks: Vec<_> = (0..request_bytes / text.len())
            .map(|nth| json!({ "device": "stranger", "id": format!("{request} {nth}"), "fields": { "text": text } }))
            .collect();
        let answer = client.post(&url).bearer_auth(&world.tokens.write).json(&uplinks).send().await.unwrap();
        let (status, told) = (answer.status(), answer.text().await.unwrap());
        if status == 503 && told.contains("log_full") {
            return false;
        }
        assert!(status.is_success(), "{told}");
    }
    true
}

/// Gets a page: its status, and its JSON where it is some.
pub(crate) async fn get(address: SocketAddr, path: &str, token: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(format!("http://{address}{path}")).bearer_auth(token).timeout(PATIENCE);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

/// The machine's clock, which is the log's.
pub(crate) fn now() -> LogTime {
    LogTime(jiff::Timestamp::now().as_microsecond())
}

/// Gives the log's folder within a data directory.
pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}
