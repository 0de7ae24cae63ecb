//! Disks that are full: of the log, which then refuses; of the database, which the log then stands in for.

use crate::cluster::Cluster;
use crate::expected;
use crate::gate::Gate;
use crate::process::{Daemon, PATIENCE};
use crate::support::database::{Kind, TestDatabase};
use crate::tables::{Tables, assert_equal};
use crate::tmpfs::Tmpfs;
use crate::world::{World, await_status, fill, log_dir};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_secs(1);

/// Senders are refused, nothing that was acknowledged is harmed, and when the database is back the log makes
/// itself room: with no hand, and though no partition gets a record that would bring its checkpoint on.
#[tokio::test]
async fn daemon_log_disk_full() {
    let mut world = World::new(Kind::Plain, 31, Duration::from_secs(3)).await;
    // Two segments fit, and a part of a third; the log's own bound is far.
    let Some(_disk) = Tmpfs::mount(&log_dir(&world.dir("a")), 20 << 20) else { return };
    let gate = Gate::shut(world.database.address()).await;
    gate.set_open(true);
    let url = gate.url(&world.database.url(), world.database.address());
    let settings = [("WEIR_LOG_SIZE_BYTES_MAX", "64 MiB"), ("WEIR_RUNTIME_CHECKPOINT_RECORDS", "100000")];
    let start = |world: &World| Daemon::start_with(&url, &world.dir("a"), 2, &settings);
    let daemon = start(&world);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, SHORT).await;

    gate.set_open(false);
    assert!(!fill(&daemon, &world, 64 << 20, 500_000).await, "a disk of 20 MiB took it all");
    assert!(!fill(&daemon, &world, 1 << 20, 1000).await && !fill(&daemon, &world, 1000, 10).await);
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    let figures = world.send_until(address, SHORT, stop).await;
    assert!(figures.sent > 0 && figures.acknowledged == 0, "{figures:?}");
    // A start on a full disk is no different.
    daemon.kill().await.killed();
    let daemon = start(&world);
    daemon.address().await;
    assert!(!fill(&daemon, &world, 1000, 10).await);

    // It will be truncated, so the oracle gets a copy.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(log_dir(&world.dir("a"))).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    gate.set_open(true);
    world.caught_up(&daemon).await;
    let stored = Tables::read(&world.client).await;
    assert_equal(stored, expected::tables_of(copy.path(), &world.dir("a").join("decoders")), "of a full log");
    let deadline = Instant::now() + PATIENCE;
    while !fill(&daemon, &world, 500_000, 500_000).await {
        assert!(Instant::now() < deadline, "the log makes no room:\n{}", daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_series().await;
}

/// A quota on the database is to it what a trigger says, as those that enforce quotas do: it passes by itself.
#[tokio::test]
async fn daemon_database_quota() {
    let mut world = World::new(Kind::Plain, 33, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, SHORT).await;
    for (code, name) in [("53100", "disk_full"), ("53400", "configuration_limit_exceeded")] {
        let refuse = format!(
            "CREATE FUNCTION over_quota() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'over the quota' USING ERRCODE = '{name}'; END $$; \
             CREATE TRIGGER over_quota BEFORE INSERT ON measurement EXECUTE FUNCTION over_quota()"
        );
        world.client.batch_execute(&refuse).await.unwrap();
        let figures = world.send(address, SHORT).await;
        assert_eq!(figures.acknowledged, figures.sent);
        let told = format!("over the quota ({code})");
        await_status(&daemon, |status| {
            status["ready"] == false && status["database"].as_str().is_some_and(|words| words.contains(&told))
        })
        .await;
        world.client.batch_execute("DROP FUNCTION over_quota CASCADE").await.unwrap();
        world.caught_up(&daemon).await;
    }
    daemon.terminate().await.well();
    world.assert_tables().await;
}

/// Uplinks are acknowledged while the database cannot write a byte, and are there, once, when it can.
#[tokio::test]
async fn daemon_database_disk_full() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(&folder.path().join("disk"), 160 << 20) else { return };
    let mut cluster = Cluster::create_in(Kind::Plain, folder.path().join("disk/data"), None).await;
    let database = TestDatabase::create_on(cluster.url("postgres"), Kind::Plain, false).await;
    let mut world = World::on(database, 32, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, SHORT).await;

    let ballast = disk.fill();
    let deadline = Instant::now() + PATIENCE;
    let said = |daemon: &Daemon| daemon.log().iter().any(|line| line.contains("No space left on device"));
    while !said(&daemon) && !cluster.has_ended() {
        assert!(Instant::now() < deadline, "it still finds space:\n{}", cluster.log());
        let figures = world.send(address, SHORT).await;
        assert_eq!(figures.acknowledged, figures.sent);
    }
    await_status(&daemon, |status| status["ready"] == false && status["database_available"] == false).await;
    let figures = world.send(address, SHORT).await;
    assert_eq!(figures.acknowledged, figures.sent);

    std::fs::remove_file(ballast).unwrap();
    // A server that could not write its own log has given up.
    if cluster.has_ended() {
        cluster.start().await;
    }
    world.move_to(cluster.url("postgres")).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}
