//! The graph says what the oracle says, row for row, however the log is cut into batches and
//! wherever its partitions are moved from one graph to another.

mod common;

use common::log::{PARTITIONS, log};
use common::{Scripted, check_equations, comparable};
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;
use dataflows::oracle::Oracle;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

fn fresh() -> Graph {
    let mut graph = Graph::new(Box::new(Scripted));
    partitions().for_each(|partition| graph.adopt(partition, PartitionState::default()));
    graph
}

fn check(rows: &Outputs, entries: &[Entry]) -> Oracle {
    let mut oracle = Oracle::default();
    let expected = oracle.run(entries, &mut Scripted);
    for partition in partitions() {
        let (got, expected) = (comparable(rows, partition), comparable(&expected, partition));
        assert_eq!(got.devices, expected.devices, "{partition:?}");
        assert_eq!(got.series, expected.series, "{partition:?}");
        assert_eq!(got.numbers, expected.numbers, "{partition:?}");
        assert_eq!(got.texts, expected.texts, "{partition:?}");
        assert_eq!(got.locations, expected.locations, "{partition:?}");
        assert_eq!(got.partials, expected.partials, "{partition:?}");
        assert_eq!(got.quarantined, expected.quarantined, "{partition:?}");
        assert_eq!(got.released, expected.released, "{partition:?}");
    }
    oracle
}

/// Cuts a log at some places.
fn batches<'a>(entries: &'a [Entry], cuts: &[Index]) -> Vec<&'a [Entry]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(entries.len() + 1)).collect();
    places.extend([0, entries.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &entries[pair[0]..pair[1]]).collect()
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, rng_seed: RngSeed::Fixed(20_261_122), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rows_and_counts_are_the_oracles(entries in log(1..250), cuts in proptest::collection::vec(any::<Index>(), 0..8)) {
        let mut graph = fresh();
        let mut rows = Outputs::default();
        for batch in batches(&entries, &cuts) {
            rows.append(&mut graph.run(batch.to_vec()));
            partitions().for_each(|partition| check_equations(graph.counts(partition)));
        }
        let oracle = check(&rows, &entries);
        for partition in partitions() {
            prop_assert_eq!(graph.counts(partition), oracle.counts(partition));
        }
    }

    #[test]
    fn a_partition_goes_on_where_its_state_goes(
        entries in log(1..250),
        cuts in proptest::collection::vec((any::<Index>(), 0..PARTITIONS), 0..8),
    ) {
        let mut graphs = [fresh(), Graph::new(Box::new(Scripted))];
        let mut owner = [0; PARTITIONS as usize];
        let mut rows = Outputs::default();
        let places: Vec<Index> = cuts.iter().map(|(cut, _)| *cut).collect();
        for (nth, batch) in batches(&entries, &places).into_iter().enumerate() {
            for (number, graph) in graphs.iter_mut().enumerate() {
                let own = batch.iter().filter(|entry| owner[usize::from(entry.partition.0)] == number);
                rows.append(&mut graph.run(own.cloned().collect()));
            }
            let Some(&(_, moved)) = cuts.get(nth) else { continue };
            let (from, partition) = (owner[usize::from(moved)], Partition(moved));
            let state = graphs[from].snapshot(partition);
            let read = postcard::from_bytes(&postcard::to_stdvec(&state).unwrap()).unwrap();
            prop_assert_eq!(&state, &read);
            let open = graphs[from].has_open_state(partition);
            graphs[from].release(partition);
            graphs[1 - from].adopt(partition, read);
            owner[usize::from(moved)] = 1 - from;
            prop_assert_eq!(graphs[1 - from].has_open_state(partition), open);
            prop_assert_eq!(graphs[1 - from].snapshot(partition), state);
        }
        let oracle = check(&rows, &entries);
        for partition in partitions() {
            prop_assert_eq!(graphs[owner[usize::from(partition.0)]].counts(partition), oracle.counts(partition));
        }
    }

    #[test]
    fn states_do_not_show_batches(entries in log(1..150), cuts in proptest::collection::vec(any::<Index>(), 0..8)) {
        let (mut whole, mut cut) = (fresh(), fresh());
        whole.run(entries.clone());
        for batch in batches(&entries, &cuts) {
            cut.run(batch.to_vec());
        }
        for partition in partitions() {
            prop_assert_eq!(whole.snapshot(partition), cut.snapshot(partition));
        }
    }
}
