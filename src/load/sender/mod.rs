//! Owns the sending: open-loop, each uplink posted when it is due, whether or not earlier ones are answered.
//!
//! Latency counts from when an uplink was due, so a daemon that stalls is not spared by a sender that
//! waits for it. As real networks do, nothing is sent a second time.

mod connection;
mod live;
mod target;

pub use connection::Outcome;
pub use live::{Figures, Live};
pub use target::{Target, TargetError};

use super::{Due, Expectation, Fleet, Shape, envelope};
use bytes::Bytes;
use connection::Connection;
use dataflows::model::LogTime;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendOptions {
    /// How many connections; each carries one request at a time.
    pub connections: usize,
    /// How many uplinks of one shape, due at the same moment, go in one NDJSON body. 1: each goes alone.
    pub batch_max: usize,
    /// How many requests may wait for a connection before the schedule has to wait.
    pub queue_max: usize,
    /// An answer that takes longer counts as none.
    pub timeout: Duration,
}

impl Default for SendOptions {
    /// Single uplinks over 16 connections.
    fn default() -> Self {
        Self { connections: 16, batch_max: 1, queue_max: 10_000, timeout: Duration::from_secs(10) }
    }
}

/// Sends a fleet's uplinks to a daemon.
pub struct Sender {
    /// Who sends.
    pub fleet: Arc<Fleet>,
    /// Where to.
    pub target: Target,
    /// How.
    pub options: SendOptions,
    /// Where the figures can be watched meanwhile.
    pub live: Arc<Live>,
    /// The clock of the machine: what it says behind an answer bounds the uplink's log time.
    pub clock: Arc<dyn Fn() -> LogTime + Send + Sync>,
}

/// What became of a schedule.
#[derive(Debug)]
pub struct SendReport {
    /// How many uplinks ended how, and how well the sender kept its schedule.
    pub figures: Figures,
    /// From due to acknowledged. Unit: microseconds.
    pub latency: Histogram<u64>,
    /// From the first due to the last answer.
    pub elapsed: Duration,
    /// What was said about the uplinks that were not acknowledged, and how often; a few texts only.
    pub failures: BTreeMap<String, u64>,
    /// What the daemon's tables must hold now.
    pub expectation: Expectation,
}

/// Uplinks of one shape that travel in one request.
struct Job {
    shape: Shape,
    dues: Vec<Due>,
}

impl Sender {
    /// Sends `schedule` until its end, or until `stop` is true or dropped; what is due but not yet on its
    /// way then is left.
    pub async fn send(self, schedule: impl Iterator<Item = Due>, stop: watch::Receiver<bool>) -> SendReport {
        let started = Instant::now();
        let (queue, jobs) = mpsc::channel(self.options.queue_max.max(1));
        let jobs = Arc::new(Mutex::new(jobs));
        let sender = Arc::new(self);
        let mut workers = JoinSet::new();
        for _ in 0..sender.options.connections.max(1) {
            workers.spawn(sender.clone().work(jobs.clone(), started, stop.clone()));
        }
        sender.dispatch(schedule, &queue, started, stop).await;
        drop(queue);

        let mut expectation = Expectation::new(sender.fleet.clone());
        let mut failures: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(ended) = workers.join_next().await {
            let ended = ended.expect("a worker neither panics nor is aborted");
            expectation.merge(ended.expectation);
            ended.failures.into_iter().for_each(|(text, count)| *failures.entry(text).or_default() += count);
        }
        SendReport {
            figures: sender.live.figures(),
            latency: sender.live.latency(),
            elapsed: started.elapsed(),
            failures,
            expectation,
        }
    }

    /// Queues each uplink when it is due.
    async fn dispatch(
        &self,
        schedule: impl Iterator<Item = Due>,
        queue: &mpsc::Sender<Job>,
        started: Instant,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut schedule = schedule.peekable();
        while let Some(next) = schedule.peek() {
            let due_at = started + Duration::from_micros(next.due_us);
            tokio::select! {
                biased;
                // An error says that nobody can stop this any more: then it ends.
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep_until(due_at) => {}
            }
            let now = Instant::now();
            let is_due = |due: &Due| started + Duration::from_micros(due.due_us) <= now;
            for job in self.jobs(std::iter::from_fn(|| schedule.next_if(is_due)).take(self.due_max())) {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    sent = queue.send(job) => if sent.is_err() { return },
                }
            }
            self.live.behind(due_at.elapsed());
        }
    }

    /// How many uplinks that are due at one moment are looked at together.
    fn due_max(&self) -> usize {
        self.options.batch_max.max(1) * Shape::ALL.len()
    }

    /// Puts uplinks into requests, in their order for each shape.
    fn jobs(&self, dues: impl Iterator<Item = Due>) -> Vec<Job> {
        let mut jobs: Vec<Job> = Vec::new();
        for due in dues {
            let fits = |job: &&mut Job| job.shape == due.shape && job.dues.len() < self.options.batch_max;
            match jobs.iter_mut().rev().find(fits) {
                Some(job) => job.dues.push(due),
                None => jobs.push(Job { shape: due.shape, dues: vec![due] }),
            }
        }
        jobs
    }

    /// Posts queued requests over one connection until the queue ends.
    async fn work(
        self: Arc<Self>,
        jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
        started: Instant,
        stop: watch::Receiver<bool>,
    ) -> Worker {
        let connection = Connection::new(self.target.clone(), self.options.timeout);
        let mut worker = Worker { connection, expectation: Expectation::new(self.fleet.clone()), failures: BTreeMap::new() };
        loop {
            let Some(job) = jobs.lock().await.recv().await else { return worker };
            if *stop.borrow() {
                return worker;
            }
            worker.post(&self, &job, started).await;
        }
    }
}

/// One connection, and what it learnt.
struct Worker {
    connection: Connection,
    expectation: Expectation,
    failures: BTreeMap<String, u64>,
}

/// More different texts are not kept.
const FAILURE_TEXTS_MAX: usize = 20;

impl Worker {
    async fn post(&mut self, sender: &Sender, job: &Job, started: Instant) {
        let mut body = String::with_capacity(1_024 * job.dues.len());
        for (nth, due) in job.dues.iter().enumerate() {
            if nth > 0 {
                body.push('\n');
            }
            envelope::write(&sender.fleet, due, &mut body);
        }
        let outcomes = self.connection.post(job.shape.path(), Bytes::from(body), job.dues.len()).await;
        let by = (sender.clock)();
        for (due, outcome) in job.dues.iter().zip(&outcomes) {
            let latency = (started + Duration::from_micros(due.due_us)).elapsed();
            sender.live.answered(outcome, latency);
            match outcome {
                Outcome::Acknowledged => self.expectation.acknowledged(&due.uplink, by),
                Outcome::Refused(text) => self.failed(text),
                Outcome::Unanswered(text) => {
                    self.expectation.unanswered(&due.uplink);
                    self.failed(text);
                }
            }
        }
    }

    fn failed(&mut self, text: &str) {
        if let Some(count) = self.failures.get_mut(text) {
            *count += 1;
        } else if self.failures.len() < FAILURE_TEXTS_MAX {
            self.failures.insert(text.to_owned(), 1);
        }
    }
}
