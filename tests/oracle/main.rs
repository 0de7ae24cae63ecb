//! The tables hold what the oracle says of the log, row for row: for any number of workers, any
//! pace, and wherever a run was cut off and taken up again.
//!
//! The way from the log to the tables is the real one: a log on disk, decoders in wasm, workers,
//! committers, a server. Every log is written from a seed, which a failure prints.

#[path = "../support/columnstore.rs"]
mod columnstore;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../support/database.rs"]
mod database;
#[path = "../../src/load/random.rs"]
mod random;

mod arrival;
mod filled_log;
mod frames;
mod models;
mod run;
mod scenario;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../support/tables.rs"]
mod tables;

use columnstore::compress_all;
use database::Kind;
use dataflows::model::{Counts, Outputs, Partition, Placed, Quarantined, Released};
use dataflows::oracle::Oracle;
use filled_log::FilledLog;
use models::Models;
use run::Target;
use std::time::Duration;
use tables::{Tables, assert_equal};
use weir::codec;
use weir::log::Log;
use weir::runtime::Pace;

/// Records of a log.
const RECORDS: usize = 1200;
/// One record a commit, and a checkpoint as often as one is made.
const RECORD_BY_RECORD: Pace = Pace {
    read_bytes: 1,
    run_entries: 1,
    run_spacing: Duration::ZERO,
    rows_max: 1,
    backlog_records: 1,
    checkpoint_records: 1,
    checkpoint_age: Duration::ZERO,
};
/// A few records a run, some runs a commit.
const SOME: Pace = Pace {
    read_bytes: 2000,
    run_entries: 16,
    run_spacing: Duration::from_millis(1),
    rows_max: 100,
    backlog_records: 20,
    checkpoint_records: 50,
    checkpoint_age: Duration::ZERO,
};

/// A log from a seed, with what the oracle says of it.
struct Story {
    seed: u64,
    log: Log,
    models: Models,
    /// Holds log and decoders.
    _dir: tempfile::TempDir,
}

impl Story {
    /// Writes the log; `WEIR_ORACLE_SEED` takes the place of the seed.
    fn write(seed: u64) -> Self {
        let seed = seed_or(seed);
        let dir = tempfile::tempdir().unwrap();
        let models = Models::open(&dir.path().join("decoders"));
        let mut log = FilledLog::open(&dir.path().join("log"));
        scenario::write(&mut log, &models, seed, RECORDS);
        Self { seed, log: log.finish(), models, _dir: dir }
    }

    /// What the tables must hold.
    fn expected(&self) -> Tables {
        let (entries, unreadable) = filled_log::read(&self.log);
        let mut oracle = Oracle::default();
        let mut tables = Tables::default();
        let outputs = oracle.run(&entries, &mut self.models.decoders.worker());
        assert_retried(&outputs);
        tables.add_outputs(&outputs);
        for (partition, raw) in &unreadable {
            let error = codec::decode(&raw.body).expect_err("it was set aside because it cannot be read");
            tables.add_unreadable(*partition, raw, error.to_string());
        }
        let mut sum = Counts::default();
        for partition in (0..self.log.partitions()).map(Partition) {
            let counts = oracle.counts(partition);
            let log_time = entries.iter().rfind(|entry| entry.partition == partition).map(|entry| entry.log_time);
            tables.add_progress(partition, self.log.end(partition).0, log_time, counts);
            sum += counts;
        }
        assert_eventful(&tables, &outputs, sum);
        tables
    }

    fn run(&self, kind: Kind, how: &str) -> String {
        format!("on {kind:?}, {how}, {}", repeat(self.seed))
    }
}

/// Gives the seed that the environment asks for, or the test's own.
fn seed_or(seed: u64) -> u64 {
    std::env::var("WEIR_ORACLE_SEED").map_or(seed, |seed| seed.parse().expect("WEIR_ORACLE_SEED is a number"))
}

/// Says how a run is repeated.
fn repeat(seed: u64) -> String {
    format!("seed {seed}; repeat with WEIR_ORACLE_SEED={seed} cargo xtask test --fast -E 'binary(oracle)'")
}

/// A story in which nothing happens would show nothing.
fn assert_eventful(tables: &Tables, outputs: &Outputs, counts: Counts) {
    let all =
        ["device", "measurement", "measurement_location", "measurement_text", "progress", "rollup_1d", "rollup_1h", "series"];
    assert_eq!(tables.filled(), all);
    let Counts { duplicate, unchanged, late_duplicate, stored_afterwards, thinned, .. } = counts;
    assert!(thinned > 0 && duplicate > 0 && unchanged > 0 && late_duplicate > 0 && stored_afterwards > 0, "{counts:?}");
    // Those too of what came out again.
    let mut reasons = tables.reasons();
    reasons.extend(outputs.quarantined.iter().map(|q| q.row.reason.as_str()));
    let every = [
        "unknown_device",
        "nothing_decoded",
        "decoder_error",
        "decoder_steps",
        "decoder_killed",
        "bad_value",
        "bad_time",
        "too_many_fields",
        "bad_record",
        "over_quota",
    ];
    let absent: Vec<_> = every.iter().filter(|reason| !reasons.contains(*reason)).collect();
    assert!(absent.is_empty(), "no {absent:?} in quarantine");
}

/// Some of what was set aside was tried again; some of that came out, some failed again.
fn assert_retried(outputs: &Outputs) {
    let is_released = |q: &&Placed<Quarantined>| {
        let entry = Released { offset: q.offset, log_time: q.row.log_time, field: q.row.field.clone() };
        outputs.released.iter().any(|released| released.partition == q.partition && released.row == entry)
    };
    let released = outputs.quarantined.iter().filter(is_released).count();
    let is_retry = |q: &&Placed<Quarantined>| outputs.released.iter().any(|r| (r.partition, r.offset) == (q.partition, q.offset));
    let failed_again = outputs.quarantined.iter().filter(is_retry).count();
    assert!(released > 10 && failed_again > 5, "{released} entries were tried again, {failed_again} retries failed");
}

/// Runs one log with so many workers, at every pace, each into a database of its own.
async fn check(kind: Kind, workers: usize, seed: u64) {
    let story = tokio::task::spawn_blocking(move || Story::write(seed)).await.unwrap();
    let expected = story.expected();
    for pace in [RECORD_BY_RECORD, SOME, Pace::default()] {
        let target = Target::create(kind, story.log.partitions()).await;
        target.work_off(&story.log, &story.models.decoders, workers, pace).await;
        let run = story.run(kind, &format!("{workers} workers, {pace:?}"));
        assert_equal(Tables::read(&target.client).await, expected.clone(), &run);
    }
}

/// Cuts a run off twice; each next one has another number of workers and another pace.
async fn check_cut(kind: Kind, seed: u64) {
    let story = tokio::task::spawn_blocking(move || Story::write(seed)).await.unwrap();
    let (log, decoders) = (&story.log, &story.models.decoders);
    let records: u64 = (0..log.partitions()).map(|p| log.end(Partition(p)).0).sum();
    let target = Target::create(kind, log.partitions()).await;
    let mut committed = 0;
    for (workers, pace, lag) in [(2, SOME, records * 2 / 3), (4, RECORD_BY_RECORD, records / 3)] {
        target.work_until(log, decoders, workers, pace, lag).await;
        if kind == Kind::Community {
            // What is written from now on joins rows of the columnstore.
            assert!(compress_all(&target.client).await > 0);
        }
        let before = std::mem::replace(&mut committed, target.committed().await);
        assert!(
            before < committed && committed < records,
            "it was not cut off in the middle: {before}, {committed} of {records}"
        );
    }
    target.work_off(log, decoders, 1, SOME).await;
    if kind == Kind::Community {
        compress_all(&target.client).await;
    }
    let run = story.run(kind, "cut off twice");
    assert_equal(Tables::read(&target.client).await, story.expected(), &run);
}

macro_rules! on_every_server {
    ($($name:ident: $check:path [$($argument:expr),*];)+) => {
        mod plain {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { $check(Kind::Plain, $($argument),*).await; })+
        }
        mod timescale {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { $check(Kind::Timescale, $($argument),*).await; })+
        }
        mod community {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                if let Some(kind) = Kind::community() {
                    $check(kind, $($argument),*).await;
                }
            })+
        }
    };
}

on_every_server! {
    one_worker: check [1, 1];
    two_workers: check [2, 2];
    four_workers: check [4, 3];
    runs_that_were_cut_off: check_cut [4];
    order_of_arrival: arrival::check [5];
}
