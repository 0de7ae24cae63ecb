//! A log of which a part is lost for good: named, passed, and nothing beside it is harmed.

use crate::expected;
use crate::gate::Gate;
use crate::process::Daemon;
use crate::support::database::Kind;
use crate::tables::{Tables, assert_equal};
use crate::world::{World, log_dir};
use std::process::Command;
use std::time::Duration;
use weir::log;

const SHORT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn daemon_goes_on_behind_what_was_set_aside() {
    let mut world = World::new(Kind::Plain, 11, Duration::from_secs(3)).await;
    let daemon = world.start(1);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    daemon.terminate().await.well();

    // Uplinks that are acknowledged and committed nowhere, and then the disk loses some of them.
    let dir = log_dir(&world.dir("a"));
    let before = log::status(&dir).unwrap().bytes;
    let gate = Gate::shut(world.database.address()).await;
    let daemon = Daemon::start(&gate.url(&world.database.url(), world.database.address()), &world.dir("a"), 1);
    let figures = world.send(daemon.address().await, SHORT).await;
    assert!(figures.acknowledged > 20, "{figures:?}");
    daemon.kill().await.killed();
    let after = log::status(&dir).unwrap().bytes;
    let segment = dir.join("000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[usize::try_from((before + after) / 2).unwrap()] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    world.start(1).ended().await.refused(&["is damaged", "weir log set-aside"]);
    let set_aside =
        Command::new(env!("CARGO_BIN_EXE_weir")).args(["log", "set-aside", "--data-dir"]).arg(world.dir("a")).output();
    let said = String::from_utf8(set_aside.unwrap().stdout).unwrap();
    assert!(said.contains("set aside:") && said.contains("lost:"), "{said}");

    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    world.bucket_due().await;
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    let lost = log::status(&dir).unwrap().lost;
    assert!(!lost.is_empty());
    let sql = "SELECT detail FROM quarantine WHERE reason = 'bad_record' ORDER BY \"partition\"";
    let told: Vec<String> = world.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let named = lost.iter().zip(&told).all(|(lost, told)| told.contains(&format!("{}..{}", lost.from, lost.to)));
    assert!(named && lost.len() == told.len(), "{lost:?} {told:?}");
    assert_equal(Tables::read(&world.client).await, expected::tables(&world.dir("a")), "behind a gap");
}
