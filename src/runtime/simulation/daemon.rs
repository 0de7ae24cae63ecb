//! One life of the daemon: the real log, workers and committer, of which each takes a step when it is told to.

use super::decoder::{Reached, Watched};
use super::fleet::{BEGIN_US, PARTITIONS};
use super::random::Fate;
use super::server::Server;
use super::task::{self, Task, turns};
use crate::log::sim::Sim;
use crate::log::stepped::Stepper;
use crate::log::{AppendError, Clock, Log, LogOptions, NewRecord, OpenError};
use crate::runtime::backoff::Pauses;
use crate::runtime::commit_loop::{CommitLoop, CommitLoopError};
use crate::runtime::database::Database;
use crate::runtime::maintenance::Room;
use crate::runtime::making::{Aside, Job};
use crate::runtime::pace::Pace;
use crate::runtime::pool::{Seat, Workers, joined, partitions_of};
use crate::runtime::retained::{Guards, Retained};
use crate::runtime::view::View;
use crate::runtime::worker::{ToCommitter, ToWorker, Worker, WorkerHandle};
use crate::store::StoreError;
use dataflows::graph::Graph;
use dataflows::model::{LogTime, Offset, Partition};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What a daemon is started with.
#[derive(Clone)]
pub(super) struct Setting {
    pub fate: Fate,
    pub server: Server,
    pub reached: Reached,
    pub clock_us: Arc<AtomicI64>,
    pub log: Uuid,
    /// Largest size of the log. Unit: bytes.
    pub log_bytes_max: u64,
}

/// A running daemon. Dropped, it is a killed one.
pub(super) struct Daemon {
    fate: Fate,
    server: Server,
    pub log: Log,
    writer: Arc<Mutex<Stepper>>,
    view: Arc<View>,
    crew: Vec<Member>,
    /// None once it has ended.
    committer: Option<Task<Result<(), CommitLoopError>>>,
    appends: Vec<Append>,
    truncation: Option<Task<Result<Kept, StoreError>>>,
    fatal: Arc<AtomicBool>,
}

struct Member {
    /// None once it has ended.
    worker: Option<Worker>,
    handle: WorkerHandle,
    next: Step,
    /// States that it has given to be encoded.
    jobs: Arc<Mutex<Vec<Job>>>,
}

/// Oldest and newest checkpoint of each partition.
type Kept = Vec<(Partition, Offset, Offset)>;

/// A step of a worker: threads may be held up between two of them.
#[derive(Clone, Copy, Debug)]
enum Step {
    Hear,
    Advance,
    Commit,
}

/// An append that waits for its answer.
struct Append {
    records: Vec<NewRecord>,
    answer: Task<Result<Vec<Offset>, AppendError>>,
}

/// How far the log was truncated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Truncation {
    /// To the oldest checkpoints.
    Usual,
    /// In need, to the newest.
    Utmost,
}

/// The answer to an append.
pub(super) struct Answered {
    pub records: Vec<NewRecord>,
    pub answer: Result<Vec<Offset>, AppendError>,
}

impl Daemon {
    /// Starts one on a disk, with any number of workers at any pace.
    ///
    /// Errors: the log does not open.
    pub(super) fn start(setting: &Setting, disk: &Sim) -> Result<Self, OpenError> {
        let Setting { fate, server, reached, .. } = setting;
        let fatal = Arc::new(AtomicBool::new(false));
        let (log, writer) = Stepper::open(disk, options(setting, &fatal), clock(&setting.clock_us), setting.log)?;
        let writer = Arc::new(Mutex::new(writer));
        let (view, guards) = (Arc::new(View::new(PARTITIONS)), Arc::new(Guards::default()));
        let (workers, pace) = (fate.within(1..=4) as usize, pace(fate));
        fate.note(format_args!("the daemon starts with {workers} workers, {pace:?}"));
        let (ways, commits, muster) = joined(workers);
        let member = |committer: ToCommitter| {
            let (sender, inbox) = std::sync::mpsc::channel();
            let handle = WorkerHandle::new(sender, std::thread::current());
            let (fate, log, writer) = (fate.clone(), log.clone(), Arc::clone(&writer));
            let watched = Watched { fate, log: log.clone(), writer, reached: Arc::clone(reached), fatal: Arc::clone(&fatal) };
            let (graph, retained) = (Graph::new(Box::new(watched)), Retained::new(Arc::clone(&guards)));
            let pace = pace.of_one_of(workers);
            let jobs = Arc::<Mutex<Vec<Job>>>::default();
            let aside: Aside = Box::new({
                let jobs = Arc::clone(&jobs);
                move |job| jobs.lock().unwrap().push(job)
            });
            let worker = Worker::new(graph, pace, log.clone(), Arc::clone(&view), inbox, committer, retained, aside);
            Member { worker: Some(worker), handle, next: Step::Hear, jobs }
        };
        let crew: Vec<Member> = ways.into_iter().map(member).collect();
        let seat = |(index, member): (usize, &Member)| Seat {
            partitions: partitions_of(index, workers, PARTITIONS),
            worker: member.handle.clone(),
        };
        let seats = crew.iter().enumerate().map(seat).collect();
        let pauses = Pauses::new({
            let fate = fate.clone();
            move |_| {
                let fate = fate.clone();
                Box::pin(async move { turns(&fate).await })
            }
        });
        let committer = CommitLoop {
            database: server.clone(),
            log: log.clone(),
            owner: "weir".into(),
            workers: Workers { seats, commits, muster },
            view: Arc::clone(&view),
            trouble: view.trouble("committer"),
            pauses,
        };
        let committer: Option<Task<_>> = Some(Box::pin(committer.run()));
        let (fate, server) = (fate.clone(), server.clone());
        Ok(Self { fate, server, log, writer, view, crew, committer, appends: Vec::new(), truncation: None, fatal })
    }

    /// Whether it has found that it cannot go on.
    pub(super) fn is_dying(&self) -> bool {
        self.fatal.load(Ordering::Relaxed)
    }

    /// Whether all that it was told to write is answered, and its workers have all partitions in hand.
    pub(super) fn is_settled(&self) -> bool {
        let partitions = self.view.status(|partition| self.log.end(partition), 0).partitions;
        self.appends.is_empty() && partitions.iter().all(|partition| partition.assumed)
    }

    /// How many workers it has.
    pub(super) fn workers(&self) -> usize {
        self.crew.len()
    }

    /// Somebody sends records.
    pub(super) fn append(&mut self, records: Vec<NewRecord>, own: bool) {
        let (log, sent) = (self.log.clone(), records.clone());
        let answer: Task<_> = match own {
            true => Box::pin(async move { log.append_own(sent).await }),
            false => Box::pin(async move { log.append(sent).await }),
        };
        let mut append = Append { records, answer };
        // Into the queue now, for its place there is the order of the log.
        if task::poll(&mut append.answer).is_none() {
            self.appends.push(append);
        }
    }

    /// Writes and syncs what waits.
    pub(super) fn write(&mut self) {
        self.writer.lock().unwrap().step();
    }

    /// Gives the answers that have come.
    pub(super) fn answers(&mut self) -> Vec<Answered> {
        let mut answered = Vec::new();
        for mut append in std::mem::take(&mut self.appends) {
            match task::poll(&mut append.answer) {
                Some(answer) => answered.push(Answered { records: append.records, answer }),
                None => self.appends.push(append),
            }
        }
        answered
    }

    /// Lets a worker take its next step.
    pub(super) fn work(&mut self, index: usize) {
        let member = &mut self.crew[index];
        let Some(worker) = &mut member.worker else { return };
        let job = {
            let mut jobs = member.jobs.lock().unwrap();
            (!jobs.is_empty() && self.fate.once_in(6)).then(|| jobs.remove(0))
        };
        if let Some(job) = job {
            self.fate.note(format_args!("a state of worker {index} is encoded"));
            job();
        }
        member.next = match member.next {
            Step::Hear => {
                worker.hear().expect("the log can be read");
                Step::Advance
            }
            Step::Advance => {
                if worker.advance().expect("log and checkpoints can be read") {
                    self.fate.note(format_args!("worker {index} went on"));
                }
                Step::Commit
            }
            Step::Commit => {
                if worker.commit() {
                    self.fate.note(format_args!("worker {index} hands over"));
                }
                if worker.is_done() {
                    self.fate.note(format_args!("worker {index} has ended"));
                    member.worker = None;
                }
                Step::Hear
            }
        };
    }

    /// Lets the committer do what it can.
    ///
    /// Errors: the daemon must end.
    pub(super) fn commit(&mut self) -> Result<(), CommitLoopError> {
        let Some(committer) = &mut self.committer else { return Ok(()) };
        match task::poll(committer) {
            None => Ok(()),
            Some(end) => {
                self.committer = None;
                end
            }
        }
    }

    /// Truncates the log as far as the database says, in its own time. Tells how, if it did.
    pub(super) fn truncate(&mut self) -> Option<Truncation> {
        let server = self.server.clone();
        let truncation = self.truncation.get_or_insert_with(|| Box::pin(async move { server.checkpoints_kept().await }));
        let kept = task::poll(truncation)?;
        self.truncation = None;
        let kept = kept.ok()?;
        let room = Room::of(&kept, PARTITIONS, None);
        // The disk may fail.
        let truncated = self.log.truncate_below(&room.usual).unwrap_or_default();
        self.fate.note(format_args!("{truncated:?}"));
        if truncated.segments > 0 || !self.log.is_full() {
            return (truncated.segments > 0).then_some(Truncation::Usual);
        }
        let truncated = self.log.truncate_below(&room.utmost).unwrap_or_default();
        (truncated.segments > 0).then_some(Truncation::Utmost)
    }

    /// Tells it to end in order.
    pub(super) fn stop(&mut self) {
        // Far beyond any run.
        let deadline = Instant::now() + Duration::from_secs(1 << 20);
        self.crew.iter().for_each(|member| member.handle.send(ToWorker::Stop { deadline }));
    }

    /// Whether all of it has ended in order, but for the log.
    pub(super) fn has_ended(&self) -> bool {
        self.committer.is_none() && self.crew.iter().all(|member| member.worker.is_none())
    }

    /// Closes the log in order.
    pub(super) fn close(self) {
        let Self { writer, crew, committer, appends, truncation, .. } = self;
        drop((crew, committer, appends, truncation));
        let writer = Arc::into_inner(writer).expect("only workers had it, which are gone");
        writer.into_inner().unwrap().close();
    }
}

fn clock(clock_us: &Arc<AtomicI64>) -> Clock {
    let (wall, running) = (Arc::clone(clock_us), Arc::clone(clock_us));
    Clock::new(
        move || LogTime(BEGIN_US + wall.load(Ordering::Relaxed)),
        move || Duration::from_micros(running.load(Ordering::Relaxed).unsigned_abs()),
    )
}

/// Small limits, so that segments end often.
fn options(setting: &Setting, fatal: &Arc<AtomicBool>) -> LogOptions {
    let fatal = Arc::clone(fatal);
    LogOptions {
        partitions: PARTITIONS,
        segment_bytes: 2048,
        size_bytes_max: setting.log_bytes_max,
        record_bytes_max: 512,
        group_bytes_max: 600,
        append_bytes_max: 600,
        reserve_bytes: 256,
        queue_bytes_max: 4096,
        cache_bytes_max: 16 << 10,
        on_fatal: Arc::new(move |_| fatal.store(true, Ordering::Relaxed)),
    }
}

fn pace(fate: &Fate) -> Pace {
    Pace {
        read_bytes: fate.one_of(&[1, 300, 4096]),
        run_entries: fate.within(1..=30) as usize,
        run_spacing: Duration::ZERO,
        rows_max: fate.within(4..=150) as usize,
        backlog_records: fate.one_of(&[3, 20, 16_384]),
        checkpoint_records: fate.within(1..=60),
        checkpoint_age: fate.one_of(&[Duration::ZERO, Duration::from_secs(1 << 20)]),
    }
}
