//! Random faults for minutes, under a fleet that never stops sending; then the same question as everywhere.
//!
//! `cargo xtask soak` runs it. Everything random follows from the seed, the moments of the machine aside.

use crate::cluster::{Cluster, free_port};
use crate::gate::Gate;
use crate::process::{Daemon, PATIENCE};
use crate::support::database::{Kind, TestDatabase};
use crate::tables::assert_equal;
use crate::world::World;
use crate::{expected, tables::Tables};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_postgres::Client;
use weir::load::verify::DifferenceKind;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What is done to the daemon or its database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    WeirKilled,
    WeirRestarted,
    ServerKilled,
    ServerKilledUnflushed,
    BackendsTerminated,
    PortBlocked,
    Failover,
    FailoverAndReturn,
    RegistryChanged,
}

impl Fault {
    /// Each stands here as often as it is likely.
    const ALL: [Self; 16] = [
        Self::WeirKilled,
        Self::WeirKilled,
        Self::WeirKilled,
        Self::WeirRestarted,
        Self::ServerKilled,
        Self::ServerKilledUnflushed,
        Self::ServerKilledUnflushed,
        Self::BackendsTerminated,
        Self::BackendsTerminated,
        Self::PortBlocked,
        Self::PortBlocked,
        Self::Failover,
        Self::FailoverAndReturn,
        Self::RegistryChanged,
        Self::RegistryChanged,
        Self::RegistryChanged,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::WeirKilled => "weir killed, started with 1, 2 or 4 workers",
            Self::WeirRestarted => "weir stopped in order, started likewise",
            Self::ServerKilled => "server killed, started",
            Self::ServerKilledUnflushed => "server killed with commits unflushed",
            Self::BackendsTerminated => "connections terminated",
            Self::PortBlocked => "port blocked",
            Self::Failover => "failover to a replica that lags",
            Self::FailoverAndReturn => "the same, and the old primary returns",
            Self::RegistryChanged => "devices added, renamed and removed",
        }
    }
}

/// Random figures, from a seed.
struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        xxh3_64_with_seed(&self.drawn.to_le_bytes(), self.seed) % bound
    }

    /// Evenly over the orders of magnitude.
    fn span(&mut self, least: Duration, most: Duration) -> Duration {
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        least.mul_f64((most.as_secs_f64() / least.as_secs_f64()).powf(share))
    }
}

/// Two servers, one of which is the primary, and the daemon in front of them.
struct Site {
    random: Random,
    database: String,
    dir: PathBuf,
    /// By way of these the daemon reaches the one and the other.
    gates: [Gate; 2],
    ports: [u16; 2],
    /// Which of the two is the primary.
    primary_at: usize,
    primary: Cluster,
    replica: Cluster,
    /// Between primary and replica.
    replication: Gate,
    address: SocketAddr,
    daemon: Option<Daemon>,
    devices: u64,
}

impl Site {
    async fn new(seed: u64) -> (Self, World) {
        let primary = Cluster::create(Kind::Plain).await;
        let database = TestDatabase::create_on(primary.url("postgres"), Kind::Plain, false).await;
        let name = database.name().to_owned();
        let world = World::on(database, seed, Duration::from_secs(30)).await;
        let silent =
            "INSERT INTO tenant (name) VALUES ('brewery'); INSERT INTO template (name, decoding) VALUES ('vat', 'upstream')";
        world.client.batch_execute(silent).await.unwrap();
        let (replication, replica) = follow(&primary, free_port()).await;
        let ports = [primary.port(), replica.port()];
        let gates = [gate_to(ports[0]).await, gate_to(ports[1]).await];
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let dir = world.dir("a");
        let random = Random { seed, drawn: 0 };
        let (database, primary_at, devices) = (name, 0, 0);
        let mut site = Self {
            random,
            database,
            dir,
            gates,
            ports,
            primary_at,
            primary,
            replica,
            replication,
            address,
            daemon: None,
            devices,
        };
        site.start_weir();
        (site, world)
    }

    fn start_weir(&mut self) {
        let workers = [1, 2, 4][self.random.below(3) as usize];
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", self.gates[0].port(), self.gates[1].port());
        let url = format!("postgres://weir@{hosts}/{}", self.database);
        let listen = self.address.to_string();
        self.daemon = Some(Daemon::start_with(&url, &self.dir, workers, &[("WEIR_HTTP_LISTEN", &listen)]));
    }

    fn stop_weir(&mut self) -> Daemon {
        self.daemon.take().expect("it runs between two faults")
    }

    async fn client(&self) -> Client {
        self.primary.client(&self.database).await
    }

    /// Lets some time pass.
    async fn pause(&mut self, most: Duration) {
        let span = self.random.span(Duration::from_millis(20), most);
        tokio::time::sleep(span).await;
    }

    async fn inflict(&mut self, fault: Fault) {
        let short = Duration::from_secs(2);
        match fault {
            Fault::WeirKilled => {
                self.stop_weir().kill().await.killed();
                self.start_weir();
            }
            Fault::WeirRestarted => {
                // Where it cannot work off its log within its time, it says so and ends all the same.
                let daemon = self.stop_weir();
                daemon.address().await;
                daemon.terminate().await.well();
                self.start_weir();
            }
            Fault::ServerKilled | Fault::ServerKilledUnflushed => {
                if fault == Fault::ServerKilledUnflushed {
                    self.primary.hold_wal_writer().await;
                    self.pause(short).await;
                }
                self.primary.kill();
                self.pause(short).await;
                self.primary.start().await;
            }
            Fault::BackendsTerminated => {
                let client = self.client().await;
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'";
                for _ in 0..=self.random.below(10) {
                    client.query(sql, &[]).await.unwrap();
                    self.pause(Duration::from_millis(200)).await;
                }
            }
            Fault::PortBlocked => {
                self.gates[self.primary_at].set_open(false);
                self.pause(2 * short).await;
                self.gates[self.primary_at].set_open(true);
            }
            Fault::Failover | Fault::FailoverAndReturn => self.fail_over(fault == Fault::FailoverAndReturn).await,
            Fault::RegistryChanged => self.change_registry().await,
        }
    }

    async fn fail_over(&mut self, returns: bool) {
        self.replication.set_open(false);
        self.pause(Duration::from_secs(2)).await;
        self.primary.kill();
        self.replica.promote().await;
        std::mem::swap(&mut self.primary, &mut self.replica);
        self.primary_at = 1 - self.primary_at;
        if returns {
            self.replica.start().await;
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'";
            self.client().await.query(sql, &[]).await.unwrap();
            self.pause(Duration::from_secs(2)).await;
            self.replica.kill();
        }
        (self.replication, self.replica) = follow(&self.primary, self.ports[1 - self.primary_at]).await;
    }

    /// Of devices that send nothing, so that the fleet's accounts stay what they are.
    async fn change_registry(&mut self) {
        let client = self.client().await;
        for _ in 0..=self.random.below(20) {
            self.devices += 1;
            let one = self.random.below(self.devices) + 1;
            let sql = match self.random.below(4) {
                0 => format!("UPDATE device SET id = id || 'x' WHERE id LIKE 'vat-{one}%'"),
                1 => format!("DELETE FROM device WHERE id LIKE 'vat-{one}%'"),
                _ => format!(
                    "INSERT INTO device (tenant_no, id, template_no) SELECT n.tenant_no, 'vat-{}-{one}', t.template_no \
                     FROM tenant n, template t WHERE n.name = 'brewery' AND t.name = 'vat' ON CONFLICT DO NOTHING",
                    self.devices
                ),
            };
            client.batch_execute(&sql).await.unwrap();
        }
    }

    /// Waits until the daemon has caught up with everything.
    async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let client = reqwest::Client::new();
        loop {
            let asked = client.get(format!("http://{}/status", self.address)).timeout(PATIENCE).send().await;
            let status = match asked {
                Ok(answer) => answer.json::<serde_json::Value>().await.unwrap_or_default(),
                Err(_) => serde_json::Value::Null,
            };
            // It lags by what is on its way, since the fleet goes on.
            if status["ready"] == true && status["lag_records"].as_u64().is_some_and(|lag| lag < 100) {
                return;
            }
            let log = || self.daemon.as_ref().map_or(String::new(), |daemon| daemon.log().join("\n"));
            assert!(Instant::now() < deadline, "{status}\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Makes a replica of a primary, that listens on `port`, and the gate between them.
async fn follow(primary: &Cluster, port: u16) -> (Gate, Cluster) {
    let gate = gate_to(primary.port()).await;
    let replica = primary.replica_at(gate.port(), port).await;
    (gate, replica)
}

async fn gate_to(port: u16) -> Gate {
    let gate = Gate::shut(&format!("127.0.0.1:{port}")).await;
    gate.set_open(true);
    gate
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo xtask soak` runs it"]
async fn soak() {
    let minutes: f64 = setting("WEIR_SOAK_MINUTES", 5.0);
    let seed: u64 = setting("WEIR_SOAK_SEED", u64::from(std::process::id()) ^ 0x5eed);
    println!("soak: {minutes} minutes, seed {seed}; to repeat: cargo xtask soak --minutes {minutes} --seed {seed}");
    let (mut site, mut world) = Site::new(seed).await;
    site.ready().await;
    let span = Duration::from_secs_f64(60.0 * minutes);
    let (address, started) = (site.address, Instant::now());
    let (go_on, stop) = watch::channel(false);
    let mut survived = BTreeMap::<Fault, u64>::new();
    let faults = async {
        while started.elapsed() < span {
            let fault = Fault::ALL[site.random.below(Fault::ALL.len() as u64) as usize];
            println!("{:6.1} s: {}", started.elapsed().as_secs_f64(), fault.name());
            site.inflict(fault).await;
            *survived.entry(fault).or_default() += 1;
            // Half of the faults meet the next one before they are mended.
            if site.random.below(2) == 0 {
                site.ready().await;
            }
            site.pause(Duration::from_secs(3)).await;
        }
        site.ready().await;
        go_on.send_replace(true);
    };
    let (figures, ()) = tokio::join!(world.send_until(address, 10 * span, stop), faults);

    world.move_to(site.primary.url("postgres")).await;
    world.bucket_due().await;
    world.send(address, Duration::from_secs(1)).await;
    let daemon = site.stop_weir();
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    let verified = world.verified().await;
    let count = |kind| verified.differences.get(&kind).copied().unwrap_or_default();
    let copies = world.expectation.copies();
    println!("\n{:48} survived", "fault");
    for (fault, times) in &survived {
        println!("{:48} {times:8}", fault.name());
    }
    println!(
        "{:48} {:8}\n\nuplinks sent {}, acknowledged {}, without an answer {}, refused {}\nraw rows {}, lost {}, duplicated {}, \
         other differences {}\nto repeat: cargo xtask soak --minutes {minutes} --seed {seed}",
        "all",
        survived.values().sum::<u64>(),
        figures.sent,
        copies.acknowledged,
        copies.unanswered,
        figures.refused,
        verified.raw_rows,
        count(DifferenceKind::Lost),
        count(DifferenceKind::Doubled),
        verified.differences.values().sum::<u64>() - count(DifferenceKind::Lost) - count(DifferenceKind::Doubled),
    );
    assert_equal(Tables::read(&world.client).await, expected::tables(&world.dir("a")), "of the soak");
    println!("the tables are, row for row, what the sequential oracle makes of the log");
    world.assert_verified().await;
}
