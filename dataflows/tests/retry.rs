//! Retries: what was set aside is stored as if it had been right at first, once, whatever came in between.

mod common;

use common::log::BEGIN_US;
use common::*;
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;
use dataflows::oracle::Oracle;
use dataflows::{DEDUP_WINDOW_US, EVENT_AHEAD_MAX_US};

const P: Partition = Partition(0);

/// A partition's log, run record by record, with all rows so far.
struct Run {
    graph: Graph,
    entries: Vec<Entry>,
    rows: Outputs,
}

impl Run {
    /// Begins with tenant, template and device, each if it is asked for.
    fn new(template_name: &str, is_registered: bool) -> Self {
        let mut graph = Graph::new(Box::new(Scripted));
        graph.adopt(P, PartitionState::default());
        let mut run = Self { graph, entries: Vec::new(), rows: Outputs::default() };
        run.add(0, tenant(1, Policy { lateness_horizon_us: HOUR_US, ..Policy::default() }));
        run.model(0, template_name);
        if is_registered {
            run.add(0, set_device(device(7, "d")));
        }
        run
    }

    fn model(&mut self, second: i64, name: &str) {
        self.add(second, set_template(Template { name: name.into(), ..template(1) }));
    }

    /// Adds a record so many seconds after the beginning; gives its offset.
    fn add(&mut self, second: i64, record: Record) -> Offset {
        let offset = Offset(self.entries.len() as u64);
        let log_time = LogTime(BEGIN_US + second * SECOND_US);
        let entry = Entry { partition: P, offset, log_time, condemned: false, record };
        self.entries.push(entry.clone());
        let mut rows = self.graph.run(vec![entry]);
        let released = std::mem::take(&mut rows.released);
        self.rows.append(&mut rows);
        for Placed { row, .. } in released {
            let entry = |q: &Placed<Quarantined>| (q.offset, q.row.log_time, q.row.field.clone());
            self.rows.quarantined.retain(|q| entry(q) != (row.offset, row.log_time, row.field.clone()));
        }
        offset
    }

    /// Adds the retry of what stands in quarantine under an offset.
    fn retry(&mut self, second: i64, offset: Offset) -> Offset {
        let retry = self.retry_of(offset);
        self.add(second, retry)
    }

    fn retry_of(&self, offset: Offset) -> Record {
        let Placed { row, .. } = self.rows.quarantined.iter().find(|q| q.offset == offset).expect("it is in quarantine");
        let retry = Retry::of_entry(offset, row.log_time, row.field.clone(), row.reason, &row.record);
        Record::Retry(Box::new(retry.unwrap()))
    }

    /// Values with their times, in seconds after the beginning, in the order in which they were stored.
    fn stored(&self) -> Vec<(i64, f64)> {
        self.rows.numbers.iter().map(|row| ((row.row.at.0 - BEGIN_US) / SECOND_US, row.row.value)).collect()
    }

    /// What stands in quarantine: offset and reason.
    fn set_aside(&self) -> Vec<(u64, Reason)> {
        self.rows.quarantined.iter().map(|row| (row.offset.0, row.row.reason)).collect()
    }

    /// Holds all against the oracle, and in one batch. Gives (decoded, duplicate, quarantined).
    fn counts(&self) -> (u64, u64, u64) {
        let mut whole = Graph::new(Box::new(Scripted));
        whole.adopt(P, PartitionState::default());
        let rows = whole.run(self.entries.clone());
        assert_eq!(whole.snapshot(P), self.graph.snapshot(P));
        let mut oracle = Oracle::default();
        assert_eq!(comparable(&rows, P), comparable(&oracle.run(&self.entries, &mut Scripted), P));
        let counts = self.graph.counts(P);
        assert_eq!(counts, oracle.counts(P));
        check_equations(counts);
        (counts.uplinks_decoded, counts.duplicate, counts.uplinks_quarantined)
    }
}

/// An uplink of the device whose only value comes out once the template is mended.
fn broken(fcnt: u32, second: i64, value: f64) -> Record {
    uplink("d", fcnt, BEGIN_US + second * SECOND_US, &Script::Needs(vec![number("x", value, None)]))
}

#[test]
fn what_a_broken_decoder_set_aside_is_stored_as_if_it_had_been_right() {
    let mut run = Run::new("broken", true);
    let first = run.add(10, broken(1, 10, 1.0));
    run.add(11, broken(1, 10, 1.0)); // The sender tries again, which is a copy.
    let second = run.add(20, broken(2, 20, 2.0));
    run.model(30, "mended");
    run.add(40, broken(3, 40, 3.0));
    run.retry(50, first);
    let retry = run.retry_of(second);
    run.add(51, retry.clone());
    run.add(52, retry); // As a crash in between would have it.
    run.add(53, broken(2, 20, 2.0)); // As a sender would that never gives up.
    assert_eq!(run.stored(), [(40, 3.0), (10, 1.0), (20, 2.0)], "each at its own time");
    assert_eq!(run.set_aside(), []);
    assert_eq!(run.counts(), (3, 3, 2));

    let mut right = Run::new("mended", true);
    for (fcnt, second, value) in [(1, 10, 1.0), (2, 20, 2.0), (3, 40, 3.0)] {
        right.add(second, broken(fcnt, second, value));
    }
    // What is open is the same, however the log came to it.
    let series = SeriesId::new(DeviceNo(7), FieldNo(0));
    let sums = |run: &Run| {
        let open = run.graph.open_partials(&[series], BucketLevel::Hour);
        open.iter().map(|p| (p.start, p.count, p.sum, p.first.value, p.last.value)).collect::<Vec<_>>()
    };
    assert_eq!(sums(&run), sums(&right));
}

#[test]
fn an_uplink_of_an_unknown_device_is_tried_again_unless_its_sender_did() {
    let mut run = Run::new("mended", false);
    let (first, again) = (run.add(1, broken(1, 1, 1.0)), run.add(2, broken(1, 1, 1.0)));
    let other = run.add(3, broken(2, 3, 2.0));
    run.add(10, set_device(device(7, "d")));
    run.add(11, broken(2, 3, 2.0));
    run.retry(20, first);
    run.retry(21, again);
    run.retry(22, other);
    assert_eq!(run.stored(), [(3, 2.0), (1, 1.0)]);
    assert_eq!(run.set_aside(), []);
    assert_eq!(run.counts(), (2, 2, 3));
}

#[test]
fn two_uplinks_at_one_log_time_are_told_apart_by_whether_they_passed() {
    let mut run = Run::new("mended", false);
    let first = run.add(1, broken(1, 1, 1.0));
    run.add(1, set_device(device(7, "d")));
    run.add(1, broken(1, 1, 1.0));
    run.retry(2, first);
    assert_eq!(run.stored(), [(1, 1.0)]);
    assert_eq!(run.counts(), (1, 1, 1));
}

#[test]
fn what_fails_again_stays_with_the_new_reason_and_may_be_tried_again() {
    let mut run = Run::new("broken", true);
    let first = run.add(1, broken(1, 1, 1.0));
    let second = run.retry(10, first);
    assert_eq!(run.set_aside(), [(second.0, Reason::DecoderError)]);
    run.add(20, remove_device("d"));
    let third = run.retry(30, second);
    assert_eq!(run.set_aside(), [(third.0, Reason::UnknownDevice)]);
    run.add(40, set_device(device(7, "d")));
    run.model(50, "mended");
    // Dedup remembers the second attempt, which passed it: the fourth is no copy of that.
    run.retry(60, third);
    assert_eq!((run.stored(), run.set_aside()), (vec![(1, 1.0)], vec![]));
    assert_eq!(run.counts(), (1, 0, 3));
}

#[test]
fn what_was_sent_again_behind_the_window_is_a_copy_of_the_retry_and_the_retry_of_it() {
    let window = DEDUP_WINDOW_US / SECOND_US;
    let mut run = Run::new("broken", true);
    let first = run.add(0, broken(1, 0, 1.0));
    let again = run.add(window, broken(1, 0, 1.0));
    run.model(window + 1, "mended");
    run.retry(window + 2, again);
    run.retry(window + 3, first);
    assert_eq!((run.stored(), run.set_aside()), (vec![(0, 1.0)], vec![]));
    assert_eq!(run.counts(), (1, 1, 2));
}

#[test]
fn waiting_makes_no_clock_right() {
    let ahead = 100 + EVENT_AHEAD_MAX_US / SECOND_US;
    let mut run = Run::new("broken", true);
    let at = |second: i64| Some(BEGIN_US + second * SECOND_US);
    let script = Script::Needs(vec![number("x", 1.0, at(ahead)), number("y", 2.0, at(ahead + 1))]);
    let first = run.add(100, uplink("d", 1, BEGIN_US, &script));
    let second = run.retry(200, first);
    run.model(300, "mended");
    let third = run.retry(2 * ahead, second);
    assert_eq!(run.stored(), [(ahead, 1.0)]);
    assert_eq!(run.set_aside(), [(third.0, Reason::BadTime)], "it is the field alone that is set aside now");
    assert_eq!(run.counts(), (1, 0, 2));
}

#[test]
fn a_field_is_tried_again_by_itself() {
    let mut run = Run::new("broken", true);
    let script = Script::Needs(vec![number("x", 1.0, None), number("y", 2.0, None)]);
    // The broken decoder gives `x` and refuses `y`.
    let first = run.add(1, uplink("d", 1, BEGIN_US, &Script::Half(Box::new(script))));
    assert_eq!((run.stored(), run.set_aside()), (vec![(0, 1.0)], vec![(first.0, Reason::BadValue)]));
    let second = run.retry(2, first);
    assert_eq!(run.set_aside(), [(second.0, Reason::BadValue)]);
    run.add(3, remove_device("d"));
    let third = run.retry(4, second);
    assert_eq!(run.set_aside(), [(third.0, Reason::UnknownDevice)]);
    assert_eq!(run.rows.quarantined[0].row.field.as_deref(), Some("y"), "it is still about the field alone");
    run.add(5, set_device(device(7, "d")));
    run.model(6, "mended");
    let retry = run.retry_of(third);
    run.add(7, retry.clone());
    run.add(8, retry);
    assert_eq!((run.stored(), run.set_aside()), (vec![(0, 1.0), (0, 2.0)], vec![]));
    assert_eq!(run.counts(), (3, 1, 1));
}

#[test]
fn a_field_that_is_given_no_more_leaves_quarantine_and_one_that_is_given_twice_stays() {
    let none = Script::Half(Box::new(Script::Needs(vec![number("x", 1.0, None)])));
    let twice = Script::Needs(vec![number("x", 1.0, None), number("y", 2.0, None), number("y", 3.0, Some(BEGIN_US - 1))]);
    let mut run = Run::new("broken", true);
    let first = run.add(1, uplink("d", 1, BEGIN_US, &none));
    let second = run.add(2, uplink("d", 2, BEGIN_US, &Script::Half(Box::new(twice))));
    run.model(3, "mended");
    run.retry(4, first);
    let third = run.retry(5, second);
    assert_eq!(run.stored(), [(0, 1.0)]);
    assert_eq!(run.set_aside(), [(third.0, Reason::TooManyFields)]);
    run.counts();
}

#[test]
fn entries_that_hold_no_uplink_are_refused() {
    let mut run = Run::new("broken", true);
    run.add(1, broken(1, 1, 1.0));
    let Quarantined { log_time, record, .. } = &run.rows.quarantined[0].row;
    let check = |reason, record: &[u8], expected| {
        assert_eq!(Retry::of_entry(Offset(3), *log_time, None, reason, record).unwrap_err(), expected);
    };
    check(Reason::RowRefused, record, NoRetry::Row);
    check(Reason::BadRecord, &[1, 77], NoRetry::NoUplink);
    check(Reason::DecoderError, &[77], NoRetry::NoUplink);
}

#[test]
fn reasons_are_read_as_they_are_written() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
    }
    assert_eq!(Reason::parse("bad"), None);
}
