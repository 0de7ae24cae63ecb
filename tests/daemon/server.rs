//! The database server dies under the daemon, and comes back older, elsewhere, or as one that takes no writes.

use crate::cluster::{Cluster, free_port};
use crate::process::{Daemon, PATIENCE};
use crate::support::database::{Kind, TestDatabase};
use crate::world::{World, await_status, get};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_secs(1);

/// How far the tables hold the log, over all partitions.
async fn progress(world: &World) -> i64 {
    world.client.query_one("SELECT sum(\"offset\")::int8 FROM progress", &[]).await.unwrap().get(0)
}

/// What the metrics say of the database.
async fn available(address: SocketAddr) -> bool {
    let metrics = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    metrics.lines().any(|line| line == "weir_database_available 1")
}

/// Has the server lose what the daemon has committed lately, by `kill -9` under load. Nobody but the log knows of
/// it then.
async fn lose(world: &mut World, daemon: &Daemon, cluster: &mut Cluster) -> i64 {
    let address = daemon.address().await;
    world.caught_up(daemon).await;
    cluster.hold_wal_writer().await;
    world.send(address, SHORT).await;
    world.caught_up(daemon).await;
    let before = progress(world).await;
    let kill = async {
        tokio::time::sleep(SHORT / 2).await;
        cluster.kill();
        // It tells that it waits, and goes on taking uplinks.
        await_status(daemon, |status| status["ready"] == false && status["database_available"] == false).await;
        assert_eq!(get(address, "/readyz", "").await.0, 503);
    };
    let ((), figures) = tokio::join!(kill, world.send(address, 2 * SHORT));
    assert_eq!(figures.acknowledged, figures.sent);
    let deadline = Instant::now() + PATIENCE;
    while available(address).await {
        assert!(Instant::now() < deadline, "the metrics do not tell");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    before
}

/// The database has less than the daemon knew, and gets it again.
async fn regain(world: &mut World, daemon: &Daemon, cluster: &Cluster) {
    world.move_to(cluster.url("postgres")).await;
    world.caught_up(daemon).await;
    assert_eq!(get(daemon.address().await, "/readyz", "").await.0, 200);
    assert!(available_again(daemon.address().await).await);
}

async fn available_again(address: SocketAddr) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if available(address).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn daemon_server_killed_on_plain_postgres() {
    server_killed(Kind::Plain).await;
}

#[tokio::test]
async fn daemon_server_killed_on_timescale() {
    server_killed(Kind::Timescale).await;
}

async fn server_killed(kind: Kind) {
    let mut cluster = Cluster::create(kind).await;
    let database = TestDatabase::create_on(cluster.url("postgres"), kind, false).await;
    let (port, other) = (cluster.port(), free_port());
    let url = format!("postgres://weir@127.0.0.1:{port},127.0.0.1:{other}/{}", database.name());
    let mut world = World::on(database, 41, Duration::from_secs(3)).await;
    let daemon = Daemon::start(&url, &world.dir("a"), 2);
    world.caught_up(&daemon).await;

    // It comes back where it was.
    let before = lose(&mut world, &daemon, &mut cluster).await;
    cluster.start().await;
    regain(&mut world, &daemon, &cluster).await;
    assert!(progress(&world).await > before);

    // As the other host of the URL.
    lose(&mut world, &daemon, &mut cluster).await;
    cluster.set_port(other);
    cluster.start().await;
    regain(&mut world, &daemon, &cluster).await;

    // As one that takes no writes, at first.
    lose(&mut world, &daemon, &mut cluster).await;
    cluster.configure("default_transaction_read_only = on\n");
    cluster.start().await;
    let refused = |text: &str| text.contains("does not allow writes");
    await_status(&daemon, |status| status["database"].as_str().is_some_and(refused)).await;
    let address = daemon.address().await;
    assert_eq!(get(address, "/readyz", "").await.0, 503);
    cluster.configure("default_transaction_read_only = off\n");
    cluster.client("postgres").await.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    regain(&mut world, &daemon, &cluster).await;

    // While nothing is sent at all: what it lost is missed without a next record.
    cluster.hold_wal_writer().await;
    world.send(address, SHORT).await;
    world.caught_up(&daemon).await;
    let before = progress(&world).await;
    cluster.kill();
    cluster.start().await;
    world.move_to(cluster.url("postgres")).await;
    let deadline = Instant::now() + PATIENCE;
    while progress(&world).await < before {
        assert!(Instant::now() < deadline, "what the server lost is still missing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = daemon.terminate().await.well();
    assert!(ended.count("took the partition") >= 5 * 8, "the server lost nothing: the test shows nothing");
    world.assert_tables().await;
}

/// Connections are thrown out while a COPY runs, and while a COMMIT does.
#[tokio::test]
async fn daemon_thrown_out_in_the_middle() {
    let mut world = World::new(Kind::Plain, 42, Duration::from_secs(3)).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END'; \
                CREATE TRIGGER slow AFTER INSERT ON measurement FOR EACH STATEMENT EXECUTE FUNCTION slow(); \
                CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON progress DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                WHEN (NEW.\"partition\" < 2) EXECUTE FUNCTION slow()";
    world.client.batch_execute(slow).await.unwrap();
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    let killer = world.database.client().await;
    let throw_out = async {
        for doing in ["COPY measurement %", "COMMIT", "COPY measurement %", "COMMIT"] {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir' \
                       AND datname = current_database() AND state = 'active' AND wait_event = 'PgSleep' AND query LIKE $1";
            let deadline = Instant::now() + PATIENCE;
            while killer.query(sql, &[&doing]).await.unwrap().is_empty() {
                assert!(Instant::now() < deadline, "no {doing} was met");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let (go_on, stop) = tokio::sync::watch::channel(false);
    let send = world.send_until(address, PATIENCE, stop);
    let (figures, ()) = tokio::join!(send, async {
        throw_out.await;
        go_on.send_replace(true);
    });
    assert_eq!(figures.acknowledged, figures.sent);
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}
