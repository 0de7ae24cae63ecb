//! What must not poison: permissions that are taken away, clocks that were never set, checkpoints of another version.

use crate::process::Daemon;
use crate::registry::Site;
use crate::support::database::Kind;
use crate::world::{World, await_status, get};
use serde_json::json;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(1);

/// It stops storing, loudly; the log stands in, and everything is there when the permission is back.
#[tokio::test]
async fn daemon_permission_revoked() {
    let mut world = World::new(Kind::Plain, 51, Duration::from_secs(3)).await;
    // A role of its own for the daemon, with all that the owner of the tables may do.
    let role = format!("{}_app", world.database.name());
    world.client.batch_execute(&format!("CREATE ROLE {role} LOGIN; GRANT weir TO {role}")).await.unwrap();
    let url = world.database.url().replace("weir@", &format!("{role}@"));
    let daemon = Daemon::start(&url, &world.dir("a"), 2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, SHORT).await;

    world.client.batch_execute("REVOKE INSERT ON measurement FROM weir").await.unwrap();
    let figures = world.send(address, SHORT).await;
    assert_eq!(figures.acknowledged, figures.sent);
    let told = |text: &str| text.contains("permission denied for table measurement (42501)");
    await_status(&daemon, |status| status["database"].as_str().is_some_and(told)).await;
    assert_eq!(get(address, "/readyz", "").await.0, 503);
    let figures = world.send(address, SHORT).await;
    assert_eq!(figures.acknowledged, figures.sent);

    world.client.batch_execute("GRANT INSERT ON measurement TO weir").await.unwrap();
    world.caught_up(&daemon).await;
    assert_eq!(get(address, "/readyz", "").await.0, 200);
    assert!(daemon.terminate().await.well().count("the database refuses to store; nothing is lost") > 0);
    world.assert_tables().await;
    world.client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn daemon_stray_clocks_on_plain_postgres() {
    let strays = "SELECT count(*) FROM pg_inherits WHERE inhparent::regclass::text ~ '^(measurement|rollup)' \
                  AND abs(to_date(substring(inhrelid::regclass::text FROM '__([0-9]{8})$'), 'YYYYMMDD') - current_date) > 400";
    stray_clocks(Kind::Plain, strays).await;
}

#[tokio::test]
async fn daemon_stray_clocks_on_timescale() {
    let strays = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name ~ '^(measurement|rollup)' \
                  AND NOT range_start BETWEEN now() - interval '400 days' AND now() + interval '400 days'";
    stray_clocks(Kind::Timescale, strays).await;
}

/// Clocks that were never set, or set wrong, make no chunks: their uplinks stand in quarantine.
async fn stray_clocks(kind: Kind, stray_chunks: &str) {
    let mut site = Site::new(kind).await;
    let daemon = site.start("a");
    site.until_stored(&daemon, "pump", &["pressure"]).await;
    site.caught_up(&daemon).await;

    let strays = ["1980-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2106-02-07T06:28:15Z", "2300-01-01T00:00:00Z"];
    for time in strays {
        let stamped = json!({ "device": "pump", "id": format!("a {time}"), "time": time, "fields": { "pressure": 1 } });
        let fields = json!([{ "field": "pressure", "value": 2, "timestamp": time }]);
        let within = json!({ "device": "pump", "id": format!("b {time}"), "fields": fields });
        site.post(&daemon, &json!([stamped, within])).await;
    }
    // What comes after them is stored.
    site.until_stored(&daemon, "pump", &["pressure"]).await;
    site.caught_up(&daemon).await;
    daemon.terminate().await.well();
    assert_eq!(site.number(stray_chunks).await, 0, "stray clocks have made chunks");
    let reasons = site.texts("SELECT DISTINCT reason FROM quarantine").await;
    assert_eq!(reasons, ["bad_time"]);
    assert_eq!(site.number("SELECT count(*) FROM quarantine").await, 2 * strays.len() as i64);
    let sent = i64::from(site.sent);
    assert_eq!(site.number("SELECT count(*) FROM measurement").await, sent);
}

/// The daemon says what it needs, and replays the log where there is no other way.
#[tokio::test]
async fn daemon_checkpoint_of_another_version() {
    let mut world = World::new(Kind::Plain, 52, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    daemon.terminate().await.well();

    world.client.batch_execute("UPDATE checkpoint SET version = 99").await.unwrap();
    let ended = world.start(2).ended().await;
    ended.refused(&["the checkpoint has format 99", "start the version that took it", "delete the row"]);
    world.client.batch_execute("DELETE FROM checkpoint").await.unwrap();
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}
