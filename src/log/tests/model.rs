//! Any order of appends, truncations, failures, closings and losses of power, against a model of plain lists.

use super::*;
use proptest::prelude::*;

/// What happens to the log.
#[derive(Clone, Debug)]
enum Action {
    /// Append records of these partitions and sizes.
    Append(Vec<(u16, usize)>),
    /// Give back what is below this share of each partition. Unit: percent.
    Truncate(u64),
    /// The next write is cut short.
    FailWrite,
    /// An append's sync fails; the process ends, and the log is opened again.
    FailSync(Vec<(u16, usize)>),
    /// Close it in order and open it again.
    Reopen,
    /// Kill the process.
    Kill,
    /// Cut the power in so many operations of the disk.
    Power(u32),
}

fn sizes() -> impl Strategy<Value = Vec<(u16, usize)>> {
    prop::collection::vec((0u16..3, 0usize..120), 1..5)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => sizes().prop_map(Action::Append),
        2 => sizes().prop_map(Action::FailSync),
        2 => (0u64..=100).prop_map(Action::Truncate),
        1 => Just(Action::FailWrite),
        2 => Just(Action::Reopen),
        2 => Just(Action::Kill),
        4 => (0u32..12).prop_map(Action::Power),
    ]
}

/// What must be in the log: the bodies of each partition, by offset.
#[derive(Default)]
struct Model {
    bodies: [Vec<Vec<u8>>; 3],
    starts: [u64; 3],
    /// The highest offsets up to which a truncation may have gone.
    low: [u64; 3],
    /// An append that was refused in a way that leaves its fate open.
    open: Vec<NewRecord>,
    written: u8,
}

impl Model {
    fn accept(&mut self, records: &[NewRecord]) {
        for record in records {
            self.bodies[usize::from(record.partition.0)].push(record.body.clone());
        }
    }

    fn append(&mut self, log: &Log, sizes: &[(u16, usize)]) {
        self.written = self.written.wrapping_add(1);
        let records: Vec<_> = sizes.iter().map(|(p, size)| record(*p, &vec![self.written; *size])).collect();
        match log.append_blocking(records.clone()) {
            Ok(offsets) => {
                for (record, offset) in records.iter().zip(offsets) {
                    let bodies = &mut self.bodies[usize::from(record.partition.0)];
                    assert_eq!(offset.0, bodies.len() as u64);
                    bodies.push(record.body.clone());
                }
                self.open.clear();
            }
            // Later appends of a poisoned log are never written.
            Err(_) if self.open.is_empty() => self.open = records,
            Err(_) => {}
        }
    }

    fn truncate(&mut self, log: &Log, percent: u64) {
        let low: Vec<Offset> = self.bodies.iter().map(|bodies| Offset(bodies.len() as u64 * percent / 100)).collect();
        for (most, low) in self.low.iter_mut().zip(&low) {
            *most = (*most).max(low.0);
        }
        // It may fail when the power is off.
        let _ = log.truncate_below(&low);
    }

    /// Compares the whole log with the model.
    fn check(&mut self, log: &Log) {
        let mut with_open = self.bodies.each_ref().map(Vec::len);
        self.open.iter().for_each(|record| with_open[usize::from(record.partition.0)] += 1);
        let ends = [0, 1, 2].map(|p| log.end(Partition(p)).0 as usize);
        if ends == with_open {
            let open = std::mem::take(&mut self.open);
            self.accept(&open);
        }
        self.open.clear();
        for (p, end) in ends.into_iter().enumerate() {
            let start = log.start(Partition(p as u16)).0;
            assert!(self.starts[p] <= start && start <= self.low[p].max(self.starts[p]), "partition {p} starts at {start}");
            self.starts[p] = start;
            assert_eq!(end, self.bodies[p].len(), "the end of partition {p}");
            let (records, error) = read_all(log, p as u16);
            assert!(error.is_none(), "partition {p}: {error:?}");
            assert!(records.is_sorted_by_key(|record| record.log_time), "log time went back in partition {p}");
            let read: Vec<_> = records.into_iter().map(|record| record.body).collect();
            assert!(read == self.bodies[p][start as usize..], "partition {p} from {start}");
        }
    }
}

fn run(actions: &[Action], mut seed: u64) {
    let mut random = move |below: u32| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32 % below
    };
    let mut sim = Sim::default();
    let mut log = Some(open_sim(&sim));
    let mut model = Model::default();
    let mut powered = true;
    for action in actions {
        let running = log.as_ref().expect("a log is open between actions");
        match action {
            Action::Append(sizes) => model.append(running, sizes),
            Action::Truncate(percent) => model.truncate(running, *percent),
            Action::FailWrite => {
                sim.faults(|f| f.write = true);
                if running.append_blocking(vec![record(0, &[255; 200])]).is_ok() {
                    panic!("a failed write was acknowledged");
                }
            }
            Action::Power(operations) => {
                sim.faults(|f| f.power = Some(*operations));
                powered = false;
            }
            Action::Reopen | Action::Kill | Action::FailSync(_) => {
                if let Action::FailSync(sizes) = action {
                    sim.faults(|f| f.sync = true);
                    model.append(running, sizes);
                    sim.faults(|f| f.sync = false);
                }
                let closes = matches!(action, Action::Reopen);
                let killed = sim.killed();
                drop(log.take());
                sim = match (powered, closes) {
                    (false, _) => sim.powered_off(&mut random),
                    (true, true) => sim,
                    (true, false) => killed,
                };
                powered = true;
                log = Some(open_sim(&sim));
            }
        }
        if powered {
            model.check(log.as_ref().expect("a log is open between actions"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_its_model(mut actions in prop::collection::vec(action(), 1..60), seed: u64) {
        actions.push(Action::Reopen);
        run(&actions, seed);
    }
}
