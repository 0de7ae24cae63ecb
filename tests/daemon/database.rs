//! The database under the daemon: silent, away, thrown out, put back to an older state.

use crate::gate::Gate;
use crate::process::{Daemon, PATIENCE};
use crate::support::database::Kind;
use crate::support::proxy::Proxy;
use crate::world::{World, get};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

const SHORT: Duration = Duration::from_secs(1);
const THROW_OUT: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir' AND datname = current_database()";

#[tokio::test]
async fn daemon_lost_commit_answer_on_timescale() {
    lost_commit_answer(Kind::Timescale).await;
}

#[tokio::test]
async fn daemon_lost_commit_answer_on_plain_postgres() {
    lost_commit_answer(Kind::Plain).await;
}

/// COMMITs whose answer is lost were done, and the daemon finds that out.
async fn lost_commit_answer(kind: Kind) {
    let mut world = World::new(kind, 4, Duration::from_secs(3)).await;
    let proxy = Proxy::start(world.database.address()).await;
    let url = proxy.url(&world.database.url(), world.database.address());
    let daemon = Daemon::start(&url, &world.dir("a"), 2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    let losing = async {
        // The next COMMIT may be the upkeep's, which does not count.
        while daemon.count("a commit failed") < 3 {
            proxy.lose_next_commit_answer();
            world.send(address, SHORT / 2).await;
        }
    };
    timeout(PATIENCE, losing).await.expect("three commits are left without an answer within a minute");
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}

/// Uplinks are acknowledged while there is no database, by what the last run left on the local disk.
#[tokio::test]
async fn daemon_database_away() {
    let mut world = World::new(Kind::Timescale, 5, Duration::from_secs(3)).await;
    let daemon = world.start(1);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, SHORT).await;
    daemon.terminate().await.well();

    let gate = Gate::shut(world.database.address()).await;
    let url = gate.url(&world.database.url(), world.database.address());
    let daemon = Daemon::start(&url, &world.dir("a"), 2);
    let address = daemon.address().await;
    let figures = world.send(address, SHORT).await;
    assert!(figures.acknowledged > 0 && figures.acknowledged == figures.sent, "{figures:?}");
    assert_eq!(get(address, "/readyz", "").await.0, 503);
    gate.set_open(true);
    world.caught_up(&daemon).await;
    assert_eq!(get(address, "/readyz", "").await.0, 200);

    // It goes away while the daemon works, and comes back.
    gate.set_open(false);
    let figures = world.send(address, SHORT).await;
    assert!(figures.acknowledged > 0 && figures.acknowledged == figures.sent, "{figures:?}");
    gate.set_open(true);
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}

/// A database that refuses with words of its own (here 55000) is waited for as one that is away.
#[tokio::test]
async fn daemon_database_that_refuses() {
    let mut world = World::new(Kind::Plain, 8, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, SHORT).await;

    let url = world.database.url();
    let (server, name) = url.rsplit_once('/').unwrap();
    let (admin, connection) = tokio_postgres::connect(&format!("{server}/postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    let admit = async |admitted: bool| {
        let close = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {admitted}")).await.unwrap();
        admin.batch_execute(&close).await.unwrap();
    };
    admit(false).await;
    let figures = world.send(address, 2 * SHORT).await;
    assert!(figures.acknowledged > 0 && figures.acknowledged == figures.sent, "{figures:?}");
    admit(true).await;
    world.caught_up(&daemon).await;
    assert!(daemon.terminate().await.well().count("not currently accepting connections") > 0);

    // At the start, too.
    admit(false).await;
    let daemon = world.start(2);
    let figures = world.send(daemon.address().await, 2 * SHORT).await;
    assert!(figures.acknowledged > 0 && figures.acknowledged == figures.sent, "{figures:?}");
    admit(true).await;
    world.caught_up(&daemon).await;
    assert!(daemon.terminate().await.well().count("the database cannot be used") > 0);
    world.client = world.database.client().await;
    world.assert_tables().await;
}

/// An administrator throws the daemon's connections out, again and again.
#[tokio::test]
async fn daemon_backends_terminated() {
    let mut world = World::new(Kind::Timescale, 6, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    let killer = world.database.client().await;
    let mut thrown_out = 0;
    let throw_out = async {
        loop {
            thrown_out += killer.query(THROW_OUT, &[]).await.unwrap().len();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        figures = world.send(address, 3 * SHORT) => assert_eq!(figures.acknowledged, figures.sent),
        () = throw_out => unreachable!("it goes on for as long as uplinks are sent"),
    }
    assert!(thrown_out > 5, "only {thrown_out} connections were there to be thrown out");
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}

/// A database that comes back older than it was left, as after a failover to a replica that lagged: what
/// it lacks is in the log.
#[tokio::test]
async fn daemon_older_database() {
    let mut world = World::new(Kind::Plain, 7, Duration::from_secs(3)).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, 2 * SHORT).await;
    daemon.terminate().await.well();

    let url = world.database.url();
    let (server, name) = url.rsplit_once('/').unwrap();
    // Databases are copied and renamed from another one.
    let (admin, connection) = tokio_postgres::connect(&format!("{server}/postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    let (copy, newer) = (format!("{name}_copy"), format!("{name}_newer"));
    let refuse = |name: &str| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    let close = |name: &str| format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.batch_execute(&close(name)).await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {copy} TEMPLATE {name}")).await.unwrap();

    let daemon = world.start(2);
    let address = daemon.address().await;
    world.caught_up(&daemon).await;
    world.send(address, SHORT).await;
    world.caught_up(&daemon).await;

    admin.batch_execute(&refuse(name)).await.unwrap();
    admin.batch_execute(&close(name)).await.unwrap();
    let swap = format!("ALTER DATABASE {name} RENAME TO {newer}; ALTER DATABASE {copy} RENAME TO {name}");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = admin.batch_execute(&swap).await {
        // The server has not let go of the last connection yet.
        assert!(error.code() == Some(&SqlState::OBJECT_IN_USE) && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.client = world.database.client().await;
    world.send(address, SHORT).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    admin.batch_execute(&format!("DROP DATABASE {newer}")).await.unwrap();
    world.assert_tables().await;
}
