//! A deterministic simulation of log, dataflow and store: the real code of log, workers, graph and committer on one
//! thread, with fakes for disk and database only. A seed decides every fault and every interleaving.
//!
//! | module | is |
//! |---|---|
//! | `random`, `task` | the one source of decisions, with the trace; tasks that are polled by it |
//! | `fleet`, `decoder` | what stands in the log; what a frame means, and the watchdog |
//! | `server`, `tables`, `session` | the database: a WAL, what it makes of the tables, and the contract of `database` over it |
//! | `daemon`, `world` | one life of the daemon; everything that happens to it |
//! | `reference` | what has to be true |
//! | `contract` | the fake database and a real one answer the same |
//!
//! `WEIR_SIMULATION_FIRST` and `WEIR_SIMULATION_SEEDS` choose the seeds; `cargo xtask simulate` sets them.

mod contract;
mod daemon;
mod decoder;
mod fleet;
mod random;
mod reference;
mod server;
mod session;
mod tables;
mod task;
mod world;

use random::Fate;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;
use world::World;

/// Seeds of a run of the test suite.
const SEEDS: u64 = 64;

/// Lives through one seed; gives its fate.
///
/// Panics: something is not as it has to be.
fn run(seed: u64) -> Fate {
    let fate = Fate::new(seed);
    let lived = catch_unwind(AssertUnwindSafe(|| World::new(&fate).run()));
    if let Err(panic) = lived {
        let (_, events) = fate.trace();
        eprintln!("seed {seed} failed after {events} events, of which the newest are\n  {}", fate.newest());
        eprintln!("repeat it with: cargo xtask simulate --first {seed} --seeds 1");
        resume_unwind(panic);
    }
    fate
}

#[test]
fn seeds() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("the variable holds a number"));
    let (first, seeds) = (number("WEIR_SIMULATION_FIRST").unwrap_or(0), number("WEIR_SIMULATION_SEEDS").unwrap_or(SEEDS));
    let (begun, mut faults, mut work, mut events) = (Instant::now(), BTreeMap::new(), BTreeMap::new(), 0);
    for seed in first..first + seeds {
        let fate = run(seed);
        events += fate.trace().1;
        add(&mut faults, fate.faults());
        add(&mut work, fate.work());
    }
    let (total, seconds) = (faults.values().sum::<u64>(), begun.elapsed().as_secs_f64());
    println!("{seeds} seeds from {first}: {total} faults among {events} events survived in {seconds:.1} s");
    work.iter().chain(&faults).for_each(|(what, count)| println!("{count:8} {what}"));
    for what in ["commits of several workers", "checkpoints of before their commit's end"] {
        assert!(work.contains_key(what) || seeds < SEEDS, "there were no {what}");
    }
}

fn add(sums: &mut BTreeMap<&'static str, u64>, counts: BTreeMap<&'static str, u64>) {
    counts.into_iter().for_each(|(what, count)| *sums.entry(what).or_default() += count);
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed).trace(), run(seed).trace(), "seed {seed}");
    }
}
