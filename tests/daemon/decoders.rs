//! Decoders that a machine has lost are fetched before the log is worked off.

use crate::process::PATIENCE;
use crate::support::database::Kind;
use crate::world::World;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Client;

#[tokio::test]
async fn daemon_fetches_lost_decoders_before_it_replays() {
    let mut world = World::new(Kind::Plain, 12, Duration::from_secs(60)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    let client = world.database.client().await;
    let (stop, stopped) = watch::channel(false);
    let kill = async {
        has_to_replay(&client).await;
        let ended = daemon.kill().await;
        stop.send_replace(true);
        ended
    };
    let (ended, _) = tokio::join!(kill, world.send_until(address, Duration::from_secs(60), stopped));
    ended.killed();
    let mut lost = 0;
    for entry in std::fs::read_dir(world.dir("a").join("decoders")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::remove_file(entry.path()).unwrap();
            lost += 1;
        }
    }
    assert!(lost > 0);
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let ended = daemon.terminate().await.well();
    assert!(ended.replays() > 0, "{ended:?}");
    world.assert_tables().await;
}

/// Waits until several partitions stand behind a checkpoint, so that whoever takes them has to replay.
async fn has_to_replay(client: &Client) {
    let sql = "SELECT count(*) FROM progress p WHERE p.\"offset\" > \
               (SELECT max(c.\"offset\") FROM checkpoint c WHERE c.\"partition\" = p.\"partition\" AND c.\"offset\" > 0)";
    let deadline = Instant::now() + PATIENCE;
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < 3 {
        assert!(Instant::now() < deadline, "no checkpoint was taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
