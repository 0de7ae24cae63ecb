//! Owns one connection's queue: how much waits for it, and who works it off.

use super::connection::Connection;
use super::ledger::{Note, Notes};
use super::{Job, Sender};
use crate::load::envelope;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The near end of a lane. Dropping it ends the lane when its queue is worked off.
pub(super) struct Lane {
    queue: mpsc::Sender<Job>,
    /// Requests that wait or are on their way.
    load: Arc<AtomicUsize>,
}

impl Lane {
    /// Makes a lane whose queue holds `queue_max` requests, and what works it off.
    pub(super) fn new(
        sender: &Arc<Sender>,
        notes: Notes,
        stop: watch::Receiver<bool>,
        queue_max: usize,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, jobs) = mpsc::channel(queue_max.max(1));
        let load = Arc::<AtomicUsize>::default();
        let connection = Connection::new(sender.target.clone(), sender.options.timeout);
        let worker = Worker { sender: Arc::clone(sender), connection, jobs, load: Arc::clone(&load), notes, stop };
        (Self { queue, load }, worker.run())
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Queues a request, or gives it back when it is stopped before there was room.
    pub(super) async fn push(&self, job: Job, stop: &mut watch::Receiver<bool>) -> Option<Job> {
        let room = tokio::select! {
            biased;
            room = self.queue.reserve() => room,
            _ = stop.wait_for(|stop| *stop) => return Some(job),
        };
        self.load.fetch_add(1, Relaxed);
        room.expect("a lane takes requests until its near end is dropped").send(job);
        None
    }
}

struct Worker {
    sender: Arc<Sender>,
    connection: Connection,
    jobs: mpsc::Receiver<Job>,
    load: Arc<AtomicUsize>,
    notes: Notes,
    stop: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            let is_stopped = *self.stop.borrow();
            let note = match is_stopped {
                true => Note::Unsent { dues: job.dues, at: Instant::now() },
                false => self.post(job).await,
            };
            self.load.fetch_sub(1, Relaxed);
            // The ledger ends after the last who can write to it.
            let _ = self.notes.send(note).await;
        }
    }

    async fn post(&mut self, job: Job) -> Note {
        let Job { shape, dues } = job;
        let mut body = String::with_capacity(1_024 * dues.len());
        for (nth, due) in dues.iter().enumerate() {
            if nth > 0 {
                body.push('\n');
            }
            envelope::write(&self.sender.fleet, due, &mut body);
        }
        let posted = Instant::now();
        let outcomes = self.connection.post(shape.path(), Bytes::from(body), dues.len()).await;
        Note::Done { dues, outcomes, posted, answered: Instant::now(), by: (self.sender.clock)() }
    }
}
