//! The worker threads: started before the database is reached, each with a seat for its committer.
//!
//! Partition p belongs to worker p modulo their number. A worker that panics takes the process with
//! it (the panic hook aborts): going on without its partitions would only hide the loss.

use super::pace::Pace;
use super::retained::{Guards, Retained};
use super::view::View;
use super::worker::{HandedOver, ToWorker, Worker, WorkerError, WorkerHandle};
use crate::decoder::Decoders;
use crate::log::Log;
use dataflows::graph::Graph;
use dataflows::model::Partition;
use std::io;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Instant;
use tokio::sync::mpsc;

/// Places between a worker and its committer, so that neither waits for the other: one for the commit on its way,
/// one for a commit from just before the worker heard that it starts anew.
pub(super) const COMMITS_WAITING_MAX: usize = 2;

/// What a committer needs of its worker.
pub(super) struct Seat {
    /// The worker's partitions, in order.
    pub partitions: Vec<Partition>,
    /// The worker.
    pub worker: WorkerHandle,
    /// What it hands over.
    pub commits: mpsc::Receiver<HandedOver>,
}

/// All workers.
pub(super) struct WorkerPool {
    handles: Vec<WorkerHandle>,
    seats: Vec<Seat>,
    /// Each worker's end.
    ended: mpsc::Receiver<Result<(), WorkerError>>,
}

impl WorkerPool {
    /// Starts `count` threads; they hold no partition yet.
    pub(super) fn start(
        count: usize,
        pace: Pace,
        log: &Log,
        decoders: &Decoders,
        view: &Arc<View>,
        guards: &Arc<Guards>,
    ) -> io::Result<Self> {
        let (ended_sender, ended) = mpsc::channel(count);
        let pace = pace.of_one_of(count);
        let mut pool = Self { handles: Vec::new(), seats: Vec::new(), ended };
        for index in 0..count {
            let (sender, inbox) = std::sync::mpsc::channel();
            let (commit_sender, commits) = mpsc::channel(COMMITS_WAITING_MAX);
            let (decoders, view, retained) = (decoders.clone(), Arc::clone(view), Retained::new(Arc::clone(guards)));
            let (its_log, ended) = (log.clone(), ended_sender.clone());
            let thread = std::thread::Builder::new().name(format!("weir-worker-{index}")).spawn(move || {
                let committed = Arc::clone(&view);
                let decoder = decoders.worker().settled_below(move |partition| committed.committed_below(partition));
                let graph = Graph::new(Box::new(decoder));
                let result = Worker::new(graph, pace, its_log, view, inbox, commit_sender, retained).run();
                // The daemon may be gone already.
                let _ = ended.blocking_send(result);
            })?;
            let worker = WorkerHandle::new(sender, thread.thread().clone());
            let partitions = (0..log.partitions()).map(Partition).filter(|p| usize::from(p.0) % count == index).collect();
            pool.handles.push(worker.clone());
            pool.seats.push(Seat { partitions, worker, commits });
        }
        // Threads and no handles: the log lives as long as a worker, which ends when the last handle is gone.
        let threads: Vec<_> = pool.handles.iter().map(WorkerHandle::thread).collect();
        log.on_durable(Arc::new(move || threads.iter().for_each(Thread::unpark)));
        Ok(pool)
    }

    /// How to reach each worker, by its index.
    pub(super) fn handles(&self) -> Vec<WorkerHandle> {
        self.handles.clone()
    }

    /// Gives the seats of the committers, once.
    pub(super) fn take_seats(&mut self) -> Vec<Seat> {
        std::mem::take(&mut self.seats)
    }

    /// Tells all workers to work off the log and end, by `deadline` at the latest.
    pub(super) fn stop(&self, deadline: Instant) {
        self.handles.iter().for_each(|worker| worker.send(ToWorker::Stop { deadline }));
    }

    /// Waits until every worker has ended.
    ///
    /// Errors: the first worker's that failed.
    pub(super) async fn join(&mut self) -> Result<(), WorkerError> {
        // The channel closes when the last thread has ended; so this can be asked again after a wait was cut short.
        while let Some(ended) = self.ended.recv().await {
            ended?;
        }
        Ok(())
    }

    /// Waits until every worker has ended, however.
    pub(super) async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Waits for a worker that fails; for ever, where none does.
    pub(super) async fn failure(&mut self) -> WorkerError {
        loop {
            match self.ended.recv().await {
                Some(Err(error)) => return error,
                Some(Ok(())) => {}
                None => std::future::pending().await,
            }
        }
    }
}
