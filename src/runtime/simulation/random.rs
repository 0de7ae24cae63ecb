//! The one source of every decision in a run, and the trace of what was decided.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many of the newest events a failing run shows.
const SHOWN: usize = 60;

/// Fate: numbers from a seed, with a trace of all that happened. Clones are the same.
#[derive(Clone)]
pub(super) struct Fate(Arc<Mutex<State>>);

struct State {
    seed: u64,
    state: u64,
    hash: u64,
    events: u64,
    newest: VecDeque<String>,
    faults: BTreeMap<&'static str, u64>,
    work: BTreeMap<&'static str, u64>,
}

impl Fate {
    pub(super) fn new(seed: u64) -> Self {
        let (newest, faults, work) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State { seed, state: seed, hash: 0, events: 0, newest, faults, work })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a number below `n`.
    pub(super) fn below(&self, n: u64) -> u64 {
        let mut state = self.state();
        // SplitMix64.
        state.state = state.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Gives a number of a range.
    pub(super) fn within(&self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// Says yes once in `n` times.
    pub(super) fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Picks one.
    pub(super) fn one_of<T: Copy>(&self, among: &[T]) -> T {
        among[self.below(among.len() as u64) as usize]
    }

    /// Picks an index by its weight.
    pub(super) fn pick(&self, weights: &[u64]) -> usize {
        let mut at = self.below(weights.iter().sum());
        let past = |weight: &u64| match at.checked_sub(*weight) {
            Some(left) => {
                at = left;
                false
            }
            None => true,
        };
        weights.iter().position(past).expect("the number is below the sum")
    }

    /// Writes an event into the trace.
    pub(super) fn note(&self, event: impl Display) {
        let mut state = self.state();
        let line = format!("{} {event}", state.events);
        state.events += 1;
        state.hash = xxh3_64_with_seed(line.as_bytes(), state.hash);
        if state.newest.len() == SHOWN {
            state.newest.pop_front();
        }
        state.newest.push_back(line);
    }

    /// Writes a fault into the trace, and counts it.
    pub(super) fn fault(&self, kind: &'static str) {
        *self.state().faults.entry(kind).or_default() += 1;
        self.note(kind);
    }

    /// Counts what is done between faults: a run in which nothing is done shows nothing.
    pub(super) fn count(&self, what: &'static str) {
        *self.state().work.entry(what).or_default() += 1;
    }

    /// Gives these counts.
    pub(super) fn work(&self) -> BTreeMap<&'static str, u64> {
        self.state().work.clone()
    }

    /// Gives the seed.
    pub(super) fn seed(&self) -> u64 {
        self.state().seed
    }

    /// Gives what stands for the whole trace, and the number of its events.
    pub(super) fn trace(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash, state.events)
    }

    /// Gives the newest events, for who looks into a failing run.
    pub(super) fn newest(&self) -> String {
        Vec::from(self.state().newest.clone()).join("\n  ")
    }

    /// Counts the faults by their kind.
    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state().faults.clone()
    }
}
