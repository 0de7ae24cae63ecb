//! A decoder that keeps running out of its limits is suspended: when, for whom, for how long, and what ends it.

mod common;

use common::log::{BEGIN_US, log};
use common::*;
use dataflows::graph::{Graph, PartitionState, Suspended};
use dataflows::model::*;
use dataflows::oracle::Oracle;
use dataflows::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{RngSeed, TestRunner};

const P: Partition = Partition(0);
const LOOPS: Script = Script::Loops { memory: false };
const BAD: Decoding = Decoding::JavaScript(DecoderHash([1; 32]));
const MENDED: Decoding = Decoding::Wasm(DecoderHash([2; 32]));

/// A log under way, and what the graph and the oracle make of it.
struct Run {
    graph: Graph,
    entries: Vec<Entry>,
    rows: Outputs,
    now_us: i64,
    fcnt: u32,
}

impl Run {
    /// Begins with two tenants that have one template in common: `a` and `b` are devices of the first,
    /// `other` of the second.
    fn new() -> Self {
        let mut graph = Graph::new(Box::new(Scripted));
        graph.adopt(P, PartitionState::default());
        let mut run = Self { graph, entries: vec![], rows: Outputs::default(), now_us: BEGIN_US, fcnt: 0 };
        run.record(tenant(1, Policy::default()));
        run.record(tenant(2, Policy::default()));
        run.decoding(BAD);
        run.record(set_device(device(1, "a")));
        run.record(set_device(device(2, "b")));
        run.record(set_device(Device { tenant: TenantNo(2), ..device(3, "other") }));
        run
    }

    fn record(&mut self, record: Record) {
        self.condemned(record, false);
    }

    fn condemned(&mut self, record: Record, condemned: bool) {
        let offset = Offset(self.entries.len() as u64);
        let entry = Entry { partition: P, offset, log_time: LogTime(self.now_us), condemned, record };
        self.graph.run_into(vec![entry.clone()], &mut self.rows);
        self.entries.push(entry);
    }

    fn decoding(&mut self, decoding: Decoding) {
        self.record(set_template(Template { decoding, ..template(1) }));
    }

    /// Sends an uplink a second later and gives why it was set aside, if it was.
    fn send(&mut self, device: &str, script: &Script) -> Option<Reason> {
        self.sent(device, script, false)
    }

    fn sent(&mut self, device: &str, script: &Script, condemned: bool) -> Option<Reason> {
        self.now_us += SECOND_US;
        self.fcnt += 1;
        let Record::Uplink(mut uplink) = uplink(device, self.fcnt, self.now_us, script) else { unreachable!() };
        uplink.tenant = TenantNo(if device == "other" { 2 } else { 1 });
        let before = self.rows.quarantined.len();
        self.condemned(Record::Uplink(uplink), condemned);
        self.rows.quarantined.get(before).map(|row| row.row.reason)
    }

    fn send_many(&mut self, count: u32, reason: Reason) {
        (0..count).for_each(|nth| assert_eq!(self.send("a", &LOOPS), Some(reason), "uplink {nth}"));
    }

    fn until_suspended(&mut self) {
        self.send_many(OUT_OF_LIMITS_MAX, Reason::DecoderSteps);
    }

    fn suspended(&self) -> Vec<Suspended> {
        self.graph.suspended(P)
    }
}

/// At the end of each test: the oracle says the same, and so does one batch.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut oracle = Oracle::default();
        let expected = oracle.run(&self.entries, &mut Scripted);
        assert_eq!(comparable(&self.rows, P), comparable(&expected, P));
        assert_eq!(self.graph.counts(P), oracle.counts(P));
        check_equations(self.graph.counts(P));
        let mut whole = Graph::new(Box::new(Scripted));
        whole.adopt(P, PartitionState::default());
        assert_eq!(whole.run(self.entries.clone()), self.rows);
        assert_eq!(whole.snapshot(P), self.graph.snapshot(P));
    }
}

fn x() -> Script {
    Script::Gives(vec![number("x", 1.0, None)], vec![])
}

#[test]
fn a_decoder_that_keeps_running_out_is_not_run_until_it_has_rested() {
    let mut run = Run::new();
    run.until_suspended();
    let until = |run: &Run, us| LogTime(run.now_us + us);
    let failures = OUT_OF_LIMITS_MAX;
    let expected = Suspended { tenant: TenantNo(1), decoding: BAD, failures, until: until(&run, SUSPENSION_MIN_US) };
    assert_eq!(run.suspended(), [expected]);
    // Neither of them is run, also not the one that would do no harm.
    run.send_many(30, Reason::DecoderSuspended);
    assert_eq!(run.send("b", &x()), Some(Reason::DecoderSuspended));
    assert_eq!(run.suspended(), [expected], "what is not run says nothing");
    // A trial, and the rest is twice as long.
    run.now_us = expected.until.0 - SECOND_US;
    assert_eq!(run.send("a", &LOOPS), Some(Reason::DecoderSteps), "on the moment");
    assert_eq!(run.suspended()[0].until, until(&run, 2 * SUSPENSION_MIN_US));
    assert_eq!(run.send("a", &x()), Some(Reason::DecoderSuspended));
    for _ in 0..20 {
        run.now_us = run.suspended()[0].until.0;
        assert_eq!(run.send("a", &LOOPS), Some(Reason::DecoderSteps));
        assert_eq!(run.send("a", &x()), Some(Reason::DecoderSuspended));
    }
    run.now_us -= SECOND_US;
    assert_eq!(run.suspended()[0].until, until(&run, SUSPENSION_MAX_US));
    // A trial that is well ends it for all.
    run.now_us = run.suspended()[0].until.0;
    assert_eq!(run.send("b", &x()), None);
    assert_eq!(run.suspended(), []);
    run.until_suspended();
}

#[test]
fn only_a_row_of_them_counts_and_other_failures_are_not_of_it() {
    let mut run = Run::new();
    run.send_many(OUT_OF_LIMITS_MAX - 1, Reason::DecoderSteps);
    assert_eq!(run.send("b", &x()), None);
    run.send_many(OUT_OF_LIMITS_MAX - 1, Reason::DecoderSteps);
    (0..50).for_each(|_| assert_eq!(run.send("a", &Script::Fails), Some(Reason::DecoderError)));
    assert_eq!(run.suspended(), []);
    // What threw says nothing of what a loop costs: the row goes on behind it.
    assert_eq!(run.send("a", &Script::Loops { memory: true }), Some(Reason::DecoderMemory));
    assert_eq!(run.suspended().len(), 1);
    assert_eq!(run.send("a", &Script::Fails), Some(Reason::DecoderSuspended));
    // Nor does it end a trial, and the next uplink is one.
    run.now_us = run.suspended()[0].until.0;
    assert_eq!(run.send("a", &Script::Fails), Some(Reason::DecoderError));
    assert_eq!(run.send("a", &LOOPS), Some(Reason::DecoderSteps));
    assert_eq!(run.suspended()[0].failures, OUT_OF_LIMITS_MAX + 1);
}

/// The second time there is only the verdict, and the decoder must be suspended at the same place.
#[test]
fn what_the_watchdog_ended_counts_at_first_and_at_a_replay() {
    let runs = [(Script::Killed, false), (x(), true)].map(|(script, condemned)| {
        let mut run = Run::new();
        (0..OUT_OF_LIMITS_MAX).for_each(|_| assert_eq!(run.sent("a", &script, condemned), Some(Reason::DecoderKilled)));
        assert_eq!(run.suspended().len(), 1);
        assert_eq!(run.send("a", &x()), Some(Reason::DecoderSuspended));
        run
    });
    assert_eq!(runs[0].suspended(), runs[1].suspended());
    let counts = runs.each_ref().map(|run| run.graph.counts(P));
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn tenants_do_not_suspend_each_others_decoders() {
    let mut run = Run::new();
    run.until_suspended();
    assert_eq!(run.send("other", &x()), None);
    assert_eq!(run.send("other", &LOOPS), Some(Reason::DecoderSteps));
    assert_eq!(run.suspended().len(), 1);
    // A tenant that goes takes its suspensions along.
    run.record(Record::Registry(Box::new(RegistryChange::TenantRemoved(TenantNo(1)))));
    assert_eq!(run.suspended(), []);
}

#[test]
fn another_decoder_ends_it_at_once_and_the_rest_is_tried_again() {
    let mut run = Run::new();
    run.until_suspended();
    run.send_many(1, Reason::DecoderSuspended);
    let last = run.entries.last().unwrap().clone();
    // What is not the decoder's changes nothing.
    let fields = [("x".into(), FieldSpec { unit: Some("K".into()), ..FieldSpec::default() })].into();
    run.record(set_template(Template { decoding: BAD, fields, ..template(1) }));
    run.send_many(1, Reason::DecoderSuspended);
    // Another template has it too: it does not go with the first.
    run.record(set_template(Template { decoding: BAD, ..template(9) }));
    run.decoding(MENDED);
    assert_eq!(run.suspended().len(), 1);
    assert_eq!(run.send("a", &LOOPS), None);
    run.record(Record::Registry(Box::new(RegistryChange::TemplateRemoved(TemplateNo(9)))));
    assert_eq!(run.suspended(), [], "nobody has it any more");
    let Record::Uplink(uplink) = last.record else { unreachable!() };
    let Entry { offset, log_time, .. } = last;
    let attempt = Attempt { offset, log_time, field: None, arrived: log_time, passed: Some(log_time) };
    let stored = run.rows.numbers.len();
    run.record(Record::Retry(Box::new(Retry { last: attempt, uplink: *uplink })));
    assert_eq!(run.rows.numbers.len(), stored + 1);
    // One that comes back begins anew.
    run.decoding(BAD);
    run.until_suspended();
}

#[test]
fn a_retry_of_a_suspended_decoder_is_not_run_either() {
    let mut run = Run::new();
    run.until_suspended();
    let Entry { offset, log_time, record: Record::Uplink(uplink), .. } = run.entries.last().unwrap().clone() else {
        unreachable!()
    };
    let attempt = Attempt { offset, log_time, field: None, arrived: log_time, passed: Some(log_time) };
    run.record(Record::Retry(Box::new(Retry { last: attempt, uplink: *uplink })));
    assert_eq!(run.rows.quarantined.last().unwrap().row.reason, Reason::DecoderSuspended);
    assert_eq!(run.suspended()[0].failures, OUT_OF_LIMITS_MAX);
}

/// The comparison with the oracle is worth what its logs reach.
#[test]
fn random_logs_suspend_decoders_and_let_them_go_on() {
    let config = proptest::test_runner::Config { rng_seed: RngSeed::Fixed(20_261_122), ..Default::default() };
    let mut runner = TestRunner::new(config);
    let (mut suspended, mut ended, mut prolonged) = (0, 0, 0);
    for _ in 0..40 {
        let entries = log(1..250).new_tree(&mut runner).unwrap().current();
        let mut graph = Graph::new(Box::new(Scripted));
        (0..common::log::PARTITIONS).for_each(|partition| graph.adopt(Partition(partition), PartitionState::default()));
        for entry in entries {
            let partition = entry.partition;
            let before = graph.suspended(partition);
            graph.run(vec![entry]);
            let after = graph.suspended(partition);
            suspended += u32::from(after.len() > before.len());
            ended += u32::from(after.len() < before.len());
            prolonged += u32::from(after.len() == before.len() && after != before);
        }
    }
    assert!(suspended > 10 && ended > 3 && prolonged > 10, "{suspended}, {ended}, {prolonged}");
}
