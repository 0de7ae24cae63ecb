use super::*;
use crate::codec;
use crate::log::{Clock, LogOptions, NewRecord};
use crate::runtime::checkpoint::{self, CHECKPOINT_VERSION};
use crate::runtime::making::{Job, on_a_thread};
use crate::runtime::muster::Muster;
use crate::runtime::retained::Guards;
use crate::store::StoredCheckpoint;
use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded};
use dataflows::graph::PartitionState;
use dataflows::model::*;
use std::sync::Mutex;
use std::thread::JoinHandle;

const PARTITION: Partition = Partition(0);
const PACE: Pace = Pace {
    read_bytes: 1024,
    run_entries: 10,
    run_spacing: Duration::ZERO,
    rows_max: 100,
    backlog_records: 200,
    checkpoint_records: 1_000_000,
    checkpoint_age: Duration::from_secs(3600),
};

/// Gives the frame's length as a measurement.
struct Length;

impl Decode for Length {
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let value = Value::Number(call.uplink.frame.len() as f64);
        decoded.measurements.push(Measurement { field: "length".into(), value, at: None });
        Ok(())
    }
}

/// A worker that runs, and what its committer sees.
struct Bench {
    _dir: tempfile::TempDir,
    log: Log,
    sent: u32,
    worker: WorkerHandle,
    commits: tokio::sync::mpsc::Receiver<HandedOver>,
    thread: JoinHandle<Result<(), WorkerError>>,
}

impl Bench {
    /// Fills a log with uplinks of one device and has a worker take it.
    fn with(pace: Pace, uplinks: u32, is_changing: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { partitions: 1, ..LogOptions::default() };
        let (log, _) = Log::open(dir.path(), options, Clock::system()).unwrap();
        let (tenant, template) = (TenantNo(1), TemplateNo(1));
        let device = Device {
            no: DeviceNo(1),
            tenant,
            id: device(),
            template,
            variables: Default::default(),
            zone: None,
            provisioned: false,
        };
        let decoding = Decoding::Upstream;
        let registry = [
            RegistryChange::Tenant(Tenant { no: tenant, policy: Policy::default() }.into()),
            RegistryChange::Template(
                Template { no: template, name: "length".into(), decoding, fields: Default::default() }.into(),
            ),
            RegistryChange::Device(device.into()),
        ];
        append(&log, registry.map(|change| Record::Registry(Box::new(change))));
        let (sender, inbox) = std::sync::mpsc::channel();
        let (committer, commits) = tokio::sync::mpsc::channel(1);
        let aside = on_a_thread("making".into()).unwrap();
        let thread = std::thread::spawn({
            let log = log.clone();
            move || {
                let (view, retained) = (Arc::new(View::new(1)), Retained::new(Arc::new(Guards::default())));
                let committer = ToCommitter { commits: committer, place: Muster::new(1).place(0) };
                Worker::new(Graph::new(Box::new(Length)), pace, log, view, inbox, committer, retained, aside).run()
            }
        });
        let worker = WorkerHandle::new(sender, thread.thread().clone());
        let mut bench = Self { _dir: dir, log, sent: 0, worker, commits, thread };
        bench.send(uplinks, is_changing);
        let checkpoint = (Offset(0), Beginning::default());
        let assumed = Assumed { partition: PARTITION, owner_epoch: 1, committed: Offset(0), checkpoint };
        bench.worker.send(ToWorker::Assume { generation: 1, partitions: vec![assumed] });
        bench
    }

    /// Appends uplinks, each with a value unlike the one before, or all with the same.
    fn send(&mut self, count: u32, is_changing: bool) {
        let received_at = EventTime(self.log.last_log_time(PARTITION).0);
        let uplinks = (self.sent..self.sent + count).map(|fcnt| {
            Record::Uplink(Box::new(Uplink {
                tenant: TenantNo(1),
                device: device(),
                received_at: EventTime(received_at.0 + i64::from(fcnt)),
                fport: None,
                fcnt: Some(fcnt),
                message_id: None,
                frame: vec![0; if is_changing { fcnt as usize % 2 } else { 0 }],
                decoded: None,
                receptions: vec![],
            }))
        });
        append(&self.log, uplinks);
        self.sent += count;
        self.worker.thread().unpark();
    }

    /// Takes the next commit as the committer does: where it ends, and how many rows and records it has.
    fn next(&mut self) -> (Offset, usize, u64) {
        let HandedOver { commit, .. } = self.commits.blocking_recv().expect("the worker runs");
        let [advance] = commit.advances.as_slice() else { panic!("there is one partition") };
        let taken = (advance.to, commit.outputs.len(), advance.to.0 - advance.from.0);
        drop(commit);
        self.worker.send(ToWorker::Committed);
        taken
    }
}

fn device() -> DeviceId {
    DeviceId::parse("d").unwrap()
}

fn append(log: &Log, records: impl IntoIterator<Item = Record>) {
    let record = |record| NewRecord { partition: PARTITION, body: codec::encode(&record) };
    log.append_blocking(records.into_iter().map(record).collect()).unwrap();
}

impl Bench {
    /// Takes all commits up to the log's end, and gives the rows and records of those that were made with a backlog
    /// before them.
    fn in_backlog(&mut self, backlog_records: u64) -> Vec<(usize, u64)> {
        let end = self.log.end(PARTITION);
        let mut in_backlog = Vec::new();
        loop {
            let (to, rows, records) = self.next();
            if end.0 - to.0 >= backlog_records {
                in_backlog.push((rows, records));
            }
            if to == end {
                return in_backlog;
            }
        }
    }

    fn end(self) {
        self.worker.send(ToWorker::Stop { deadline: Instant::now() });
        self.thread.join().unwrap().unwrap();
    }
}

/// The committer is free all the time, so nothing else makes commits large.
#[test]
fn in_a_backlog_a_commit_waits_for_half_of_the_rows_that_may_wait() {
    let mut bench = Bench::with(PACE, 1000, true);
    let in_backlog = bench.in_backlog(PACE.backlog_records);
    let (half, most) = (PACE.rows_max / 2, PACE.rows_max + PACE.run_entries);
    assert!(!in_backlog.is_empty() && in_backlog.iter().all(|(rows, _)| (half..=most).contains(rows)), "{in_backlog:?}");
    // Behind it nobody waits.
    bench.send(1, true);
    let (_, rows, records) = bench.next();
    assert_eq!((rows, records), (1, 1));
    bench.end();
}

#[test]
fn a_backlog_without_rows_is_committed_in_pieces_that_are_replayed_soon() {
    let pace = Pace { checkpoint_records: 100, ..PACE };
    let mut bench = Bench::with(pace, 1000, false);
    let in_backlog = bench.in_backlog(pace.backlog_records);
    // The first one has no other to wait for.
    let (_, first) = *in_backlog.first().expect("it does not wait for the log's end");
    assert!(first < pace.checkpoint_records + pace.run_entries as u64, "{in_backlog:?}");
    assert!(in_backlog.iter().all(|(_, records)| *records >= pace.checkpoint_records), "{in_backlog:?}");
    bench.end();
}

/// Were it to run, its commit would end there.
#[test]
fn at_the_end_of_the_log_records_gather_while_a_commit_is_on_its_way() {
    let spacing = Duration::from_secs(3600);
    let mut bench = Bench::with(Pace { run_spacing: spacing, ..PACE }, 1, true);
    let first = bench.commits.blocking_recv().expect("the worker runs");
    let processed = |bench: &Bench| {
        let (sender, places) = std::sync::mpsc::channel();
        bench.worker.send(ToWorker::Peek(Box::new(move |peek| sender.send(peek.owned[0].next).unwrap())));
        places.recv().unwrap()
    };
    let before = processed(&bench);
    bench.send(3, true);
    assert_eq!([processed(&bench), processed(&bench)], [before; 2], "nobody waits for their rows yet");
    drop(first);
    bench.worker.send(ToWorker::Committed);
    let (to, rows, _) = bench.next();
    assert_eq!((to, rows), (bench.log.end(PARTITION), 3), "they are in the next commit, all of them");
    bench.end();
}

/// A log of ticks, one group of them a second: each partition gets as many of a group as `ticks` says.
fn ticking(dir: &std::path::Path, seconds: i64, ticks: &[usize]) -> Log {
    let now = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let (wall, running) = (Arc::clone(&now), Arc::clone(&now));
    let read = |clock: &std::sync::atomic::AtomicI64| clock.load(std::sync::atomic::Ordering::Relaxed);
    let clock = Clock::new(move || LogTime(read(&wall) * SECOND_US), move || Duration::from_secs(read(&running).unsigned_abs()));
    let options = LogOptions { partitions: ticks.len() as u16, ..LogOptions::default() };
    let (log, _) = Log::open(dir, options, clock).unwrap();
    for second in 1..=seconds {
        now.store(second, std::sync::atomic::Ordering::Relaxed);
        let of_partition = |(partition, &count)| {
            std::iter::repeat_n(NewRecord { partition: Partition(partition), body: codec::encode(&Record::Tick) }, count)
        };
        log.append_blocking((0..).zip(ticks).flat_map(of_partition).collect()).unwrap();
    }
    log
}

/// A worker that is stepped, with its partitions from these offsets on, and where it tells what it has.
fn stepped(log: &Log, pace: Pace, from: &[u64]) -> (Worker, Arc<Muster>) {
    let (worker, muster, _) = stepped_with(log, pace, from, Box::new(|job| job()));
    (worker, muster)
}

/// As [`stepped`], with a place where states are encoded, and with what it hands over.
fn stepped_with(
    log: &Log,
    pace: Pace,
    from: &[u64],
    aside: Aside,
) -> (Worker, Arc<Muster>, tokio::sync::mpsc::Receiver<HandedOver>) {
    let muster = Muster::new(2);
    let (sender, inbox) = std::sync::mpsc::channel();
    let (committer, commits) = tokio::sync::mpsc::channel(1);
    let committer = ToCommitter { commits: committer, place: muster.place(0) };
    let (view, retained) = (Arc::new(View::new(log.partitions())), Retained::new(Arc::new(Guards::default())));
    let graph = Graph::new(Box::new(Length));
    let mut worker = Worker::new(graph, pace, log.clone(), view, inbox, committer, retained, aside);
    let assumed = |(partition, &from): (u16, &u64)| Assumed {
        partition: Partition(partition),
        owner_epoch: 1,
        committed: Offset(from),
        checkpoint: (Offset(from), Beginning::default()),
    };
    sender.send(ToWorker::Assume { generation: 1, partitions: (0..).zip(from).map(assumed).collect() }).unwrap();
    worker.hear().unwrap();
    take_up(&mut worker);
    (worker, muster, commits)
}

/// A place where states are encoded when somebody does the jobs that wait there.
fn put_off() -> (Aside, Arc<Mutex<Vec<Job>>>) {
    let jobs = Arc::<Mutex<Vec<Job>>>::default();
    let waiting = Arc::clone(&jobs);
    (Box::new(move |job| waiting.lock().unwrap().push(job)), jobs)
}

/// Has a worker take up all that was assumed.
fn take_up(worker: &mut Worker) {
    while !worker.coming.is_empty() {
        worker.advance().unwrap();
    }
}

#[test]
fn what_a_checkpoint_brings_is_told_before_any_record_comes() {
    let mut state = PartitionState::default();
    (state.counts.uplinks, state.counts.measurements) = (3, 15);
    let stored = StoredCheckpoint {
        partition: PARTITION,
        offset: Offset(0),
        version: CHECKPOINT_VERSION,
        state: checkpoint::encode(&state),
        precedes_adoption: false,
    };
    let dir = tempfile::tempdir().unwrap();
    let log = ticking(dir.path(), 1, &[1]);
    let (mut worker, _) = stepped(&log, PACE, &[0]);
    let beginning = Beginning { stored: Some(stored), ..Beginning::default() };
    let checkpoint = (Offset(0), beginning);
    worker.assume(vec![Assumed { partition: PARTITION, owner_epoch: 2, committed: Offset(0), checkpoint }]).unwrap();
    take_up(&mut worker);
    assert_eq!(worker.view.counts(), state.counts);
}

#[test]
fn rows_do_not_wait_for_a_checkpoint_that_is_being_made() {
    let dir = tempfile::tempdir().unwrap();
    let log = ticking(dir.path(), 30, &[1]);
    let (aside, jobs) = put_off();
    let pace = Pace { checkpoint_records: 10, ..PACE };
    let (mut worker, _, mut commits) = stepped_with(&log, pace, &[0], aside);
    // Where its advance ends, and where its checkpoint stands.
    let mut commit = |worker: &mut Worker| {
        worker.advance().unwrap();
        let HandedOver { commit, .. } = worker.commit().then(|| commits.try_recv().unwrap())?;
        worker.committed();
        Some((commit.advances[0].to.0, commit.checkpoint.as_ref().map(|checkpoint| checkpoint.offset.0)))
    };
    let encode = || jobs.lock().unwrap().pop().expect("one is being made")();
    assert_eq!([commit(&mut worker), commit(&mut worker)], [Some((10, None)), Some((20, None))]);
    encode();
    assert_eq!(commit(&mut worker), Some((30, Some(10))), "it stands where it was begun");
    worker.stop(Instant::now() + Duration::from_secs(3600));
    assert_eq!(commit(&mut worker), None);
    assert!(!worker.is_done(), "the last one is being made");
    encode();
    assert_eq!((commit(&mut worker), worker.is_done()), (Some((30, Some(30))), true));
}

#[test]
fn checkpoints_that_grow_old_together_are_made_with_time_between() {
    let dir = tempfile::tempdir().unwrap();
    let log = ticking(dir.path(), 5, &[1, 1]);
    let checkpoint_age = Duration::from_secs(1000);
    let pace = Pace { checkpoint_age, ..PACE };
    let (mut worker, _, mut commits) = stepped_with(&log, pace, &[0, 0], Box::new(|job| job()));
    while worker.advance().unwrap() {}
    let mut commit = |worker: &mut Worker| {
        let HandedOver { commit, .. } = worker.commit().then(|| commits.try_recv().unwrap())?;
        worker.committed();
        commit.checkpoint.as_ref().map(|checkpoint| checkpoint.partition.0)
    };
    assert_eq!(commit(&mut worker), None, "they are young");
    let earlier = |at: Instant, by: Duration| at.checked_sub(by).expect("a clock has no beginning");
    worker.owned.iter_mut().for_each(|owned| owned.checkpointed_at = earlier(owned.checkpointed_at, checkpoint_age));
    let mut three = |worker: &mut Worker| [commit(worker), commit(worker), commit(worker)];
    assert_eq!(three(&mut worker), [None, Some(1), None], "one is begun, and comes with the next commit");
    worker.making_since = worker.making_since.map(|since| earlier(since, checkpoint_age / 4));
    assert_eq!(three(&mut worker), [None, Some(0), None]);
}

#[test]
fn who_starts_anew_forgets_the_checkpoint_that_was_being_made_and_stops_only_when_all_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let log = ticking(dir.path(), 10, &[1]);
    let (aside, jobs) = put_off();
    let (mut worker, _, mut commits) = stepped_with(&log, Pace { checkpoint_records: 10, ..PACE }, &[0], aside);
    worker.advance().unwrap();
    assert!(worker.commit() && worker.making.is_some());
    drop(commits.try_recv().unwrap());

    let checkpoint = (Offset(0), Beginning::default());
    worker.assume(vec![Assumed { partition: PARTITION, owner_epoch: 2, committed: Offset(0), checkpoint }]).unwrap();
    jobs.lock().unwrap().pop().unwrap()();
    worker.stop(Instant::now() + Duration::from_secs(3600));
    assert!(!worker.is_done(), "nothing of it has run yet");
    while worker.advance().unwrap() {}
    assert!(worker.commit());
    let commit = commits.try_recv().unwrap().commit;
    assert_eq!((commit.advances[0].owner_epoch, commit.advances[0].to, &commit.checkpoint), (2, Offset(10), &None));
}

/// Turns of as many records each would have them drift apart by three quarters of the log.
#[test]
fn partitions_that_get_records_at_different_rates_keep_together() {
    let (dir, ticks) = (tempfile::tempdir().unwrap(), [1, 2, 3, 4]);
    let log = ticking(dir.path(), 1000, &ticks);
    let (mut worker, _) = stepped(&log, PACE, &[0; 4]);
    // What one run takes of the slowest is ten seconds, and of the others it is less.
    let apart_max = LogTime(2 * PACE.run_entries as i64 * SECOND_US);
    let mut runs = 0;
    while worker.advance().unwrap() {
        runs += 1;
        let times = || worker.owned.iter().map(|owned| owned.log_time);
        let (first, last) = (times().min().unwrap(), times().max().unwrap());
        assert!(last.0 - first.0 <= apart_max.0, "after {runs} runs: {:?}", times().collect::<Vec<_>>());
    }
    assert!(worker.owned.iter().all(|owned| owned.next == log.end(owned.partition)));
    assert!(runs >= 1000, "a run takes ten records: {runs}");
}

#[test]
fn a_partition_that_is_behind_leaves_half_of_the_runs_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = ticking(dir.path(), 300, &[1, 1, 1]);
    let (mut worker, _) = stepped(&log, PACE, &[0, 200, 200]);
    let mut took = Vec::new();
    for _ in 0..20 {
        let before: Vec<_> = worker.owned.iter().map(|owned| owned.next).collect();
        worker.advance().unwrap();
        took.extend((0..3).filter(|&at| worker.owned[at].next > before[at]));
    }
    let of_first = took.iter().filter(|&&at| at == 0).count();
    assert_eq!((took.len(), of_first), (20, 10), "{took:?}");
    assert!(took.windows(2).all(|turns| turns[0] != turns[1]), "{took:?}");
}

#[test]
fn others_are_waited_for_while_there_is_a_backlog_and_the_next_commit_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let log = ticking(dir.path(), 300, &[1]);
    // Ticks have no rows, so a commit is ready when so many records would have to be replayed.
    let (mut worker, muster) = stepped(&log, Pace { checkpoint_records: 30, ..PACE }, &[0]);
    muster.place(1).tell(Readiness::Growing);
    let mut step = || {
        worker.advance().unwrap();
        (worker.commit(), muster.is_incomplete(&[0]))
    };
    // Runs of ten records. What is handed over waits for others, until as much has been gathered again.
    let steps: Vec<_> = (0..9).map(|_| step()).collect();
    let (grows, hands_over, is_ready) = ((false, true), (true, true), (false, false));
    assert_eq!(steps, [grows, grows, hands_over, grows, grows, is_ready, is_ready, is_ready, is_ready]);
    worker.committed();
    assert!(worker.advance().unwrap());
    assert_eq!((worker.commit(), muster.is_incomplete(&[0])), (true, true));
    // There is hardly a backlog any more, so somebody may wait for the newest rows.
    worker.committed();
    assert!(worker.advance().unwrap());
    assert_eq!((worker.commit(), muster.is_incomplete(&[0])), (true, false));
}
