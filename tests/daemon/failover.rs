//! The primary is lost, and a replica that lagged takes its place: what it lacks is in the log.

use crate::cluster::Cluster;
use crate::gate::Gate;
use crate::process::{Daemon, PATIENCE};
use crate::support::database::{Kind, TestDatabase};
use crate::world::{World, await_status, fill, get, log_dir};
use dataflows::model::Partition;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use weir::log;
use weir::registry::TokenHash;

const SHORT: Duration = Duration::from_secs(1);

/// A primary, and a replica behind a gate that can be shut.
struct Pair {
    primary: Cluster,
    replica: Cluster,
    gate: Gate,
    url: String,
}

impl Pair {
    /// Gives it with a world in a database that both have.
    async fn new(seed: u64) -> (Self, World) {
        let primary = Cluster::create(Kind::Plain).await;
        let gate = Gate::shut(&format!("127.0.0.1:{}", primary.port())).await;
        gate.set_open(true);
        let replica = primary.replica(gate.port()).await;
        let database = TestDatabase::create_on(primary.url("postgres"), Kind::Plain, false).await;
        let url = format!("postgres://weir@127.0.0.1:{},127.0.0.1:{}/{}", primary.port(), replica.port(), database.name());
        let world = World::on(database, seed, Duration::from_secs(3)).await;
        (Self { primary, replica, gate, url }, world)
    }

    /// Waits until the replica has all that the primary has, and then lets it have no more.
    async fn part(&self) {
        let (primary, replica) = (self.primary.client("postgres").await, self.replica.client("postgres").await);
        let end: String = primary.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
        let sql = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        let deadline = Instant::now() + PATIENCE;
        while !replica.query_one(sql, &[&end]).await.unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "the replica does not follow:\n{}", self.replica.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.gate.set_open(false);
    }

    /// Starts the daemon `a`.
    fn start(&self, world: &World, workers: usize) -> Daemon {
        Daemon::start(&self.url, &world.dir("a"), workers)
    }
}

/// How far the tables hold the log, over all partitions; and how often they were taken.
async fn progress(client: &Client) -> (i64, i64) {
    let sql = "SELECT sum(\"offset\")::int8, sum(owner_epoch)::int8 FROM progress";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn caught_up_on(world: &mut World, daemon: &Daemon, server: &Cluster) {
    world.move_to(server.url("postgres")).await;
    world.caught_up(daemon).await;
}

#[tokio::test]
async fn daemon_failover_to_a_replica_that_lagged() {
    let (mut pair, mut world) = Pair::new(21).await;
    let daemon = pair.start(&world, 2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, 2 * SHORT).await;
    world.caught_up(&daemon).await;

    // What the replica will never see: uplinks, and the devices of another tenant with their first uplinks.
    pair.part().await;
    let lost = "INSERT INTO tenant (name) VALUES ('brewery'); INSERT INTO template (name, decoding) VALUES ('vat', 'upstream'); \
                INSERT INTO device (tenant_no, id, template_no) SELECT (SELECT tenant_no FROM tenant WHERE name = 'brewery'), \
                'vat-' || n, (SELECT template_no FROM template WHERE name = 'vat') FROM generate_series(1, 70) n";
    world.client.batch_execute(lost).await.unwrap();
    let token = "INSERT INTO api_token (token_hash, tenant_no, name, may_write) \
                 SELECT $1, tenant_no, 'brewery', true FROM tenant WHERE name = 'brewery'";
    world.client.execute(token, &[&TokenHash::of("weir_brewery").0.as_slice()]).await.unwrap();
    let numbers = "SELECT max(device_no) FROM device";
    let highest: i64 = world.client.query_one(numbers, &[]).await.unwrap().get(0);
    await_status(&daemon, |status| status["devices"] == 110).await;
    let uplinks: Vec<_> =
        (1..=70).map(|n| json!({ "device": format!("vat-{n}"), "id": "1", "fields": { "level": n } })).collect();
    let request = reqwest::Client::new().post(format!("http://{address}/v1/uplinks")).bearer_auth("weir_brewery").json(&uplinks);
    assert!(request.send().await.unwrap().status().is_success());
    world.send(address, SHORT).await;
    world.caught_up(&daemon).await;
    let before = progress(&world.client).await;

    // The replica takes over in the middle of everything.
    let lose = async {
        tokio::time::sleep(SHORT / 2).await;
        pair.primary.kill();
        // Read while it takes no writes: once it is promoted, the daemon makes up for what it lacks.
        let older = progress(&pair.replica.client(world_database(&pair.url)).await).await;
        pair.replica.promote().await;
        older
    };
    let (older, figures) = tokio::join!(lose, world.send(address, 2 * SHORT));
    assert_eq!(figures.acknowledged, figures.sent);
    assert!(older.0 < before.0, "the replica has all that the primary had: the test shows nothing");
    caught_up_on(&mut world, &daemon, &pair.replica).await;

    // The registry follows the database, and what it lost is given to nobody else.
    await_status(&daemon, |status| status["devices"] == 40).await;
    let late = "INSERT INTO device (tenant_no, id, template_no) SELECT tenant_no, 'late', template_no FROM device LIMIT 1 \
                RETURNING device_no";
    let number: i64 = world.client.query_one(late, &[]).await.unwrap().get(0);
    assert!(number > highest, "{number} was the number of a device that the failover lost");

    // The old primary comes back. It takes writes, and stands first in the URL.
    pair.primary.start().await;
    let left = pair.primary.client(world.database.name()).await;
    let stands = progress(&left).await;
    let throw_out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'";
    assert!(!world.client.query(throw_out, &[]).await.unwrap().is_empty());
    world.send(address, SHORT).await;
    world.caught_up(&daemon).await;
    let device = world.expectation.fleet().members()[0].id.clone();
    let (code, answer) = get(address, &format!("/v1/query?device={device}&from=-6h&to=now&step=1h"), &world.tokens.read).await;
    assert_eq!(code, 200, "{answer}");
    let ended = daemon.terminate().await.well();
    assert!(ended.count("is on timeline 1, and the database was on 2 before") > 0, "{ended:?}");

    // A restart has not forgotten it, also when there is no other host.
    pair.replica.stop();
    let daemon = pair.start(&world, 1);
    let address = daemon.address().await;
    await_status(&daemon, |status| status["database"].as_str().is_some_and(|text| text.contains("remove "))).await;
    world.send(address, SHORT).await;
    assert_eq!(get(address, "/readyz", "").await.0, 503);
    assert_eq!(progress(&left).await, stands, "the old primary was written to");
    pair.replica.start().await;
    caught_up_on(&mut world, &daemon, &pair.replica).await;
    daemon.terminate().await.well();
    assert_eq!(progress(&left).await, stands, "the old primary was written to");
    world.assert_oracle().await;
}

fn world_database(url: &str) -> &str {
    url.rsplit_once('/').expect("a URL ends in its database").1
}

/// The log does not reach back to where the promoted server stands: the daemon says what is missing, and ends.
#[tokio::test]
async fn daemon_failover_behind_the_log() {
    let (mut pair, mut world) = Pair::new(22).await;
    // Nothing is kept behind the oldest checkpoint, and segments are small.
    let settings = [("WEIR_LOG_RETENTION", "0 s"), ("WEIR_LOG_SIZE_BYTES_MAX", "16 MiB")];
    let start = |pair: &Pair, world: &World| Daemon::start_with(&pair.url, &world.dir("a"), 1, &settings);
    let daemon = start(&pair, &world);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    pair.part().await;

    // Two checkpoints of each partition, each behind more than a segment.
    for _ in 0..2 {
        assert!(fill(&daemon, &world, 5 << 20, 500_000).await);
        world.send(daemon.address().await, 2 * SHORT).await;
        world.caught_up(&daemon).await;
    }
    daemon.terminate().await.well();
    let daemon = start(&pair, &world);
    world.caught_up(&daemon).await;
    let dir = log_dir(&world.dir("a"));
    let deadline = Instant::now() + PATIENCE;
    while log::status(&dir).unwrap().partitions.iter().any(|partition| partition.start.0 == 0) {
        assert!(Instant::now() < deadline, "nothing was truncated: {:?}", log::status(&dir));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.primary.kill();
    pair.replica.promote().await;
    let ended = daemon.ended().await;
    // The first partition whose records are missing.
    let start = log::status(&dir).unwrap().partitions[0].start;
    let sql = "SELECT coalesce(max(c.\"offset\"), 0) FROM progress p LEFT JOIN checkpoint c USING (\"partition\", log_id) \
               WHERE p.\"partition\" = $1 AND c.\"offset\" <= p.\"offset\"";
    let client = pair.replica.client(world.database.name()).await;
    let needed: i64 = client.query_one(sql, &[&(Partition(0).0.cast_signed())]).await.unwrap().get(0);
    let missing = start.0 - needed.cast_unsigned();
    ended.refused(&[
        &format!(
            "partition 0 must be replayed from offset {needed}, but the log starts at {start}: {missing} records are missing"
        ),
        "weir log adopt",
    ]);
}
