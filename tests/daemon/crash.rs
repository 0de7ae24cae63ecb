//! `kill -9` at any moment, again and again: at start, while it replays, under load.

use crate::support::database::Kind;
use crate::world::{World, commits};
use std::time::Duration;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Everything random follows from it; `WEIR_TEST_SEED` gives another.
const SEED: u64 = 20_261_122;

#[tokio::test]
async fn crash_kill_on_timescale() {
    crash_kill(Kind::Timescale, 30, Duration::from_secs(45)).await;
}

#[tokio::test]
async fn crash_kill_on_timescale_community() {
    if let Some(kind) = Kind::community() {
        crash_kill(kind, 9, Duration::from_secs(25)).await;
    }
}

#[tokio::test]
async fn crash_kill_on_plain_postgres() {
    crash_kill(Kind::Plain, 9, Duration::from_secs(25)).await;
}

/// The moment of a round's `kill -9`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// So long after the start, whatever it is doing: opening, migrating, taking, replaying.
    Starting(Duration),
    /// So long after it has begun to take uplinks.
    Loaded(Duration),
    /// So long after it has begun to commit, which the next start finds ahead of its checkpoints.
    Committing(Duration),
}

impl Moment {
    fn of(seed: u64, round: usize) -> Self {
        let random = xxh3_64_with_seed(&round.to_le_bytes(), seed);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        // Evenly over the orders of magnitude, from 3 ms to a second.
        let after = Duration::from_secs_f64(0.003 * 300f64.powf(share));
        match round % 4 {
            0 => Self::Starting(after),
            1 => Self::Loaded(after),
            _ => Self::Committing(after),
        }
    }
}

async fn crash_kill(kind: Kind, rounds: usize, bucket_due_in: Duration) {
    let seed = std::env::var("WEIR_TEST_SEED").map_or(SEED, |seed| seed.parse().expect("WEIR_TEST_SEED is a whole number"));
    // Shown when the test fails.
    println!("seed {seed}");
    let mut world = World::new(kind, seed, bucket_due_in).await;
    // A calm beginning: the registry takes effect, and every device is heard of.
    let daemon = world.start(1);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, Duration::from_secs(1)).await;
    daemon.terminate().await.well();

    // A slow machine may need more rounds until the test has shown something.
    let shown = |world: &World, replays| replays >= rounds / 3 && world.expectation.copies().acknowledged > 10 * rounds as u64;
    let (mut replays, mut round) = (0, 0);
    while round < rounds || (round < 3 * rounds && !shown(&world, replays)) {
        let moment = Moment::of(seed, round);
        let daemon = world.start([1, 2, 4][round % 3]);
        let listening = daemon.listening();
        let (stop, stopped) = watch::channel(false);
        let kill = async {
            let after = match moment {
                Moment::Starting(after) => after,
                Moment::Loaded(after) => {
                    daemon.address().await;
                    after
                }
                Moment::Committing(after) => {
                    commits(&daemon).await;
                    after
                }
            };
            tokio::time::sleep(after).await;
            let ended = daemon.kill().await;
            stop.send_replace(true);
            ended.killed()
        };
        let load = async {
            if let Some(address) = listening.await {
                world.send_until(address, Duration::from_secs(60), stopped).await;
            }
        };
        let (ended, ()) = tokio::join!(kill, load);
        replays += ended.replays();
        round += 1;
    }

    let daemon = world.start(2);
    // The first hour's partials are due by the clock, and some uplinks tell the log what time it is.
    world.bucket_due().await;
    world.send(daemon.address().await, Duration::from_secs(1)).await;
    world.caught_up(&daemon).await;
    daemon.terminate().await.well();
    let stored = world.assert_tables().await;
    let copies = world.expectation.copies();
    println!("{round} rounds, {copies:?}, {replays} replays of partitions");
    assert!(
        shown(&world, replays),
        "in {round} rounds hardly anything was acknowledged, or had to be replayed from a checkpoint"
    );
    for table in ["measurement", "rollup_1h", "quarantine"] {
        println!("{table}: {} rows", stored.count(table));
        assert!(stored.count(table) > 0, "{table} is empty: the test shows nothing of it");
    }
}
