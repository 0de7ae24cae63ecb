//! SIGTERM under load: the door closes, the log is worked off, and the next start has nothing to replay.

use crate::support::database::Kind;
use crate::world::World;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn daemon_sigterm_under_load() {
    let mut world = World::new(Kind::Timescale, 8, Duration::from_secs(3)).await;
    for workers in [1, 2, 4] {
        let daemon = world.start(workers);
        world.caught_up(&daemon).await;
        let address = daemon.address().await;
        let (stop, stopped) = watch::channel(false);
        let terminate = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let ended = daemon.terminate().await;
            stop.send_replace(true);
            ended
        };
        let (ended, figures) = tokio::join!(terminate, world.send_until(address, Duration::from_secs(60), stopped));
        ended.well();
        assert!(figures.acknowledged > 0, "{figures:?}");
        // The oracle's progress is the log's end.
        world.assert_tables().await;
        let behind = world
            .client
            .query(
                "SELECT p.\"partition\" FROM progress p LEFT JOIN checkpoint c USING (\"partition\", log_id) \
                 GROUP BY p.\"partition\", p.\"offset\" HAVING max(c.\"offset\") IS DISTINCT FROM p.\"offset\" AND p.\"offset\" > 0",
                &[],
            )
            .await
            .unwrap();
        assert!(behind.is_empty(), "{} partitions end behind their newest checkpoint with {workers} workers", behind.len());
    }
}
