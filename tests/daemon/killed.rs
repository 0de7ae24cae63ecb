//! `kill -9` in the middle of what is done rarely: registry changes, migrations, adoptions, truncation.

use crate::process::{Daemon, PARTITIONS};
use crate::support::database::{Kind, TestDatabase};
use crate::world::{World, fill, log_dir};
use std::path::Path;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_postgres::Client;
use weir::log;

const SHORT: Duration = Duration::from_secs(1);

/// Moments, doubling, until something is done before it can be killed.
fn moments() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(Duration::from_millis(4)), |after| Some(after.mul_f64(1.4)))
}

/// Devices come, go and change their names while the daemon is killed again and again: at the end, what is in
/// effect is what the tables say, and the fleet's rows are none the worse.
#[tokio::test]
async fn crash_registry_changes() {
    let mut world = World::new(Kind::Plain, 61, Duration::from_secs(3)).await;
    let silent = "INSERT INTO tenant (name) VALUES ('brewery'); INSERT INTO template (name, decoding) VALUES ('vat', 'upstream')";
    world.client.batch_execute(silent).await.unwrap();
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    for round in 0..8 {
        let daemon = world.start([1, 2, 4][round % 3]);
        let address = daemon.address().await;
        let changes = format!(
            "INSERT INTO device (tenant_no, id, template_no) SELECT n.tenant_no, 'vat-{round}-' || i, t.template_no \
             FROM tenant n, template t, generate_series(1, 200) i WHERE n.name = 'brewery' AND t.name = 'vat'; \
             UPDATE device SET id = id || 'x' WHERE id LIKE 'vat-%' AND device_no % 3 = {}; \
             DELETE FROM device WHERE id LIKE 'vat-%' AND device_no % 5 = {}",
            round % 3,
            round % 5
        );
        let client = world.database.client().await;
        let disturb = async {
            client.batch_execute(&changes).await.unwrap();
            // They are heard of 50 ms later, and then written.
            tokio::time::sleep(Duration::from_millis(45 + 5 * round as u64)).await;
            daemon.kill().await.killed();
        };
        let (_go_on, stop) = tokio::sync::watch::channel(false);
        tokio::join!(disturb, world.send_until(address, SHORT / 2, stop));
    }
    let daemon = world.start(2);
    let wanted: i64 = world.client.query_one("SELECT count(*) FROM device", &[]).await.unwrap().get(0);
    assert!(wanted > 40 + 100, "{wanted} devices");
    crate::world::await_status(&daemon, |status| status["devices"] == wanted).await;
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    assert_eq!(daemon.terminate().await.well().count("cannot take effect"), 0);
    world.assert_tables().await;
}

/// A migration that is killed anywhere can be done again, and comes to the same schema.
#[tokio::test]
async fn crash_migration() {
    let whole = TestDatabase::create(Kind::Timescale).await;
    assert!(weir(&whole, Path::new("."), &["migrate"]).wait().await.unwrap().success());
    let expected = schema(&whole.client().await).await;
    assert!(expected.len() > 100, "{expected:?}");

    let (mut killed, mut finished) = (0, 0);
    for after in moments() {
        let database = TestDatabase::create(Kind::Timescale).await;
        let mut migrate = weir(&database, Path::new("."), &["migrate"]);
        tokio::time::sleep(after).await;
        match migrate.try_wait().unwrap() {
            Some(ended) => {
                assert!(ended.success());
                finished += 1;
            }
            None => {
                migrate.kill().await.unwrap();
                killed += 1;
                assert!(weir(&database, Path::new("."), &["migrate"]).wait().await.unwrap().success(), "killed after {after:?}");
            }
        }
        assert_eq!(schema(&database.client().await).await, expected, "killed after {after:?}");
        if finished > 0 {
            break;
        }
    }
    assert!(killed > 3, "it was too fast to be killed");
}

/// An adoption that is killed anywhere was done or not, and can be done again.
#[tokio::test]
async fn crash_adoption() {
    let mut world = World::new(Kind::Plain, 62, Duration::from_secs(3)).await;
    let first = world.start(1);
    world.caught_up(&first).await;
    world.send(first.address().await, SHORT).await;
    first.terminate().await.well();
    Daemon::start(&world.database.url(), &world.dir("b"), 1).ended().await.refused(&["weir log adopt"]);

    // To and fro, so that each adoption has something to do.
    let mut finished = 0;
    for (round, after) in moments().enumerate() {
        let dir = world.dir(["b", "a"][round % 2]);
        let mut adopt = weir(&world.database, &dir, &["log", "adopt", "--yes"]);
        tokio::time::sleep(after).await;
        match adopt.try_wait().unwrap() {
            Some(ended) => {
                assert!(ended.success());
                finished += 1;
            }
            None => adopt.kill().await.unwrap(),
        }
        let logs = "SELECT count(DISTINCT log_id) FROM progress";
        let logs: i64 = world.client.query_one(logs, &[]).await.unwrap().get(0);
        assert_eq!(logs, 1, "half an adoption, killed after {after:?}");
        if finished > 1 {
            break;
        }
    }
    assert!(weir(&world.database, &world.dir("a"), &["log", "adopt", "--yes"]).wait().await.unwrap().success());
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}

/// A log that is truncated at every start, and killed meanwhile, loses nothing that is not in the tables.
#[tokio::test]
async fn crash_truncation() {
    let mut world = World::new(Kind::Plain, 63, Duration::from_secs(3)).await;
    let settings = [("WEIR_LOG_RETENTION", "0 s"), ("WEIR_LOG_SIZE_BYTES_MAX", "16 MiB")];
    let start = |world: &World, workers| Daemon::start_with(&world.database.url(), &world.dir("a"), workers, &settings);
    let daemon = start(&world, 1);
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    let mut after = moments();
    let (mut rounds, mut moved) = (0, 0);
    let first = |world: &World| log::status(&log_dir(&world.dir("a"))).unwrap().partitions[0].start;
    while rounds < 6 || (moved < 2 && rounds < 12) {
        let before = first(&world);
        let daemon = start(&world, [1, 2, 4][rounds % 3]);
        world.caught_up(&daemon).await;
        assert!(fill(&daemon, &world, 3 << 20, 500_000).await);
        world.send(daemon.address().await, SHORT).await;
        world.caught_up(&daemon).await;
        daemon.terminate().await.well();
        // Truncation is the first that is done when the database is reached.
        let daemon = start(&world, 1);
        daemon.address().await;
        tokio::time::sleep(after.next().expect("there is always a later one") * 4).await;
        daemon.kill().await.killed();
        moved += usize::from(first(&world) > before);
        rounds += 1;
    }
    assert!(moved >= 2, "in {rounds} rounds the log was hardly truncated");
    let daemon = start(&world, 2);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_series().await;
}

/// Starts a command of weir's.
fn weir(database: &TestDatabase, dir: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env_remove("WEIR_CONFIG")
        .env("WEIR_DATABASE_URL", database.url())
        .env("WEIR_LOG_DIR", dir)
        .env("WEIR_LOG_PARTITIONS", PARTITIONS.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// All that a schema is made of, as text.
async fn schema(client: &Client) -> Vec<String> {
    let sql = "SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) AS what \
               FROM information_schema.columns WHERE table_schema = 'public' \
               UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
               UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
               WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 \
               UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid \
               WHERE c.relnamespace = 'public'::regnamespace AND NOT tgisinternal \
               UNION ALL SELECT viewname || definition FROM pg_views WHERE schemaname = 'public' \
               UNION ALL SELECT key || ' ' || value FROM settings ORDER BY what";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
