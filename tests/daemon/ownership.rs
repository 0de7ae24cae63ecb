//! One log, one database, one daemon: whoever comes second is turned away, whoever was first and lost its
//! partitions stops.

use crate::process::{Daemon, PARTITIONS};
use crate::support::database::Kind;
use crate::world::{World, get};
use dataflows::model::{Offset, Partition};
use std::time::Duration;
use weir::store::{Store, StoreConfig};

const SHORT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn daemon_two_logs_on_one_database() {
    let mut world = World::new(Kind::Timescale, 1, Duration::from_secs(3)).await;
    let first = world.start(1);
    world.caught_up(&first).await;
    world.send(first.address().await, SHORT).await;
    world.caught_up(&first).await;

    let second = Daemon::start(&world.database.url(), &world.dir("b"), 1);
    second.ended().await.refused(&["weir log adopt"]);

    world.send(first.address().await, SHORT).await;
    world.caught_up(&first).await;
    first.terminate().await.well();
    world.assert_tables().await;
}

#[tokio::test]
async fn daemon_two_on_one_log() {
    let mut world = World::new(Kind::Plain, 2, Duration::from_secs(3)).await;
    let first = world.start(1);
    world.caught_up(&first).await;

    let second = world.start(1);
    second.ended().await.refused(&["in use", &format!("process {}", first.pid())]);

    world.send(first.address().await, SHORT).await;
    world.caught_up(&first).await;
    first.terminate().await.well();
    world.assert_tables().await;
}

#[tokio::test]
async fn daemon_zombie_is_fenced() {
    let mut world = World::new(Kind::Timescale, 3, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, SHORT).await;
    world.caught_up(&daemon).await;

    // Another owner of the same log takes the partitions, as a copy of this machine would.
    let store = Store::connect(StoreConfig::new(world.database.url())).await.unwrap();
    let log = store.progress().await.unwrap()[0].log;
    let partitions: Vec<_> = (0..PARTITIONS).map(|p| (Partition(p), Offset(1 << 40))).collect();
    let taken = store.take("another", log, &partitions).await.unwrap();
    world.send(address, SHORT).await;

    daemon.ended().await.refused(&["taken over", "owner epoch"]);
    let progress = store.progress().await.unwrap();
    assert!(progress.iter().zip(&taken).all(|(now, then)| now.offset == then.offset), "the zombie has moved {progress:?}");

    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let (code, _) = get(daemon.address().await, "/readyz", "").await;
    assert_eq!(code, 200);
    daemon.terminate().await.well();
    world.assert_tables().await;
}
