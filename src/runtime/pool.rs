//! The worker threads: started before the database is reached, with a seat for the committer.
//!
//! Partition p belongs to worker p modulo their number. A worker that panics takes the process with
//! it (the panic hook aborts): going on without its partitions would only hide the loss.

use super::backoff::Pauses;
use super::making::on_a_thread;
use super::muster::Muster;
use super::pace::Pace;
use super::retained::{Guards, Retained};
use super::view::View;
use super::worker::{HandedOver, ToCommitter, ToWorker, Worker, WorkerError, WorkerHandle};
use crate::decoder::Decoders;
use crate::log::Log;
use dataflows::graph::Graph;
use dataflows::model::Partition;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Places between each worker and the committer, so that neither waits for the other: one for rows on their way,
/// one for rows from just before the worker heard that it starts anew.
const COMMITS_WAITING_MAX: usize = 2;

/// How long those are waited for that were told of the last commit together with the first to hand over. Who is in the middle
/// of a run comes with the next commit.
const HANDING_OVER: Duration = Duration::from_millis(1);
/// How long a commit waits for workers in a backlog; they gather their rows within a fraction of it. One that does not get
/// on at all, as it waits for room in the log, must not keep from the tables what would make that room.
const GATHERING_MAX: Duration = Duration::from_secs(2);

/// What the committer needs of the workers.
pub(super) struct Workers {
    /// Each of them, by its index.
    pub seats: Vec<Seat>,
    /// What they hand over.
    pub commits: mpsc::Receiver<HandedOver>,
    /// What they have.
    pub muster: Arc<Muster>,
}

/// A worker, as the committer knows it.
pub(super) struct Seat {
    /// The worker's partitions, in order.
    pub partitions: Vec<Partition>,
    /// The worker.
    pub worker: WorkerHandle,
}

impl Workers {
    /// Gives what goes into the next commit, with what has come first. What was handed over before the workers started
    /// anew is dropped: they have forgotten it. Neither offset nor epoch would tell, for a failover to a server that lags
    /// gives an epoch again.
    pub(super) async fn gather(&mut self, first: HandedOver, pauses: &Pauses) -> Vec<HandedOver> {
        let Self { seats, commits, muster } = self;
        let generation = first.generation;
        let mut gathered = vec![first];
        if seats.len() > 1 {
            pauses.pause(HANDING_OVER).await;
        }
        let mut patience = pin!(pauses.pause(GATHERING_MAX));
        loop {
            while let Ok(more) = commits.try_recv() {
                gathered.extend(Some(more).filter(|more| more.generation == generation));
            }
            let present: Vec<usize> = gathered.iter().map(|handed_over| handed_over.worker).collect();
            if !muster.is_incomplete(&present) {
                return gathered;
            }
            tokio::select! {
                biased;
                more = commits.recv() => match more {
                    Some(more) => gathered.extend(Some(more).filter(|more| more.generation == generation)),
                    None => return gathered,
                },
                () = muster.changed() => {}
                () = &mut patience => return gathered,
            }
        }
    }
}

/// Joins so many workers to a committer: gives each worker's way to it, and its end.
pub(super) fn joined(count: usize) -> (Vec<ToCommitter>, mpsc::Receiver<HandedOver>, Arc<Muster>) {
    let (sender, commits) = mpsc::channel(COMMITS_WAITING_MAX * count);
    let muster = Muster::new(count);
    let ways = (0..count).map(|worker| ToCommitter { commits: sender.clone(), place: muster.place(worker) }).collect();
    (ways, commits, muster)
}

/// Gives the partitions of one of so many workers.
pub(super) fn partitions_of(worker: usize, workers: usize, partitions: u16) -> Vec<Partition> {
    (0..partitions).map(Partition).filter(|p| usize::from(p.0) % workers == worker).collect()
}

/// All workers.
pub(super) struct WorkerPool {
    handles: Vec<WorkerHandle>,
    /// For the committer, until it takes them.
    workers: Option<Workers>,
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
        let (ways, commits, muster) = joined(count);
        let mut seats = Vec::new();
        for (index, committer) in ways.into_iter().enumerate() {
            let (sender, inbox) = std::sync::mpsc::channel();
            let (decoders, view, retained) = (decoders.clone(), Arc::clone(view), Retained::new(Arc::clone(guards)));
            let (its_log, ended) = (log.clone(), ended_sender.clone());
            let aside = on_a_thread(format!("weir-making-{index}"))?;
            let thread = std::thread::Builder::new().name(format!("weir-worker-{index}")).spawn(move || {
                let committed = Arc::clone(&view);
                let decoder = decoders.worker().settled_below(move |partition| committed.committed_below(partition));
                let graph = Graph::new(Box::new(decoder));
                let result = Worker::new(graph, pace, its_log, view, inbox, committer, retained, aside).run();
                // The daemon may be gone already.
                let _ = ended.blocking_send(result);
            })?;
            let worker = WorkerHandle::new(sender, thread.thread().clone());
            seats.push(Seat { partitions: partitions_of(index, count, log.partitions()), worker });
        }
        let handles: Vec<_> = seats.iter().map(|seat| seat.worker.clone()).collect();
        // Threads and no handles: the log lives as long as a worker, which ends when the last handle is gone.
        let threads: Vec<_> = handles.iter().map(WorkerHandle::thread).collect();
        log.on_durable(Arc::new(move || threads.iter().for_each(Thread::unpark)));
        Ok(Self { handles, workers: Some(Workers { seats, commits, muster }), ended })
    }

    /// How to reach each worker, by its index.
    pub(super) fn handles(&self) -> Vec<WorkerHandle> {
        self.handles.clone()
    }

    /// Gives the committer what it needs, once.
    pub(super) fn take_workers(&mut self) -> Option<Workers> {
        self.workers.take()
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

#[cfg(test)]
mod tests {
    use super::super::muster::Readiness;
    use super::*;
    use crate::store::Commit;
    use std::sync::Mutex;

    /// Some workers, joined to a committer.
    fn some(count: usize) -> (Vec<ToCommitter>, Workers) {
        let (ways, commits, muster) = joined(count);
        (ways, Workers { seats: Vec::new(), commits, muster })
    }

    fn of(way: &ToCommitter) -> HandedOver {
        HandedOver { worker: way.place.worker(), generation: 1, commit: Arc::new(Commit::default()) }
    }

    fn whose(gathered: &[HandedOver]) -> Vec<usize> {
        gathered.iter().map(|handed_over| handed_over.worker).collect()
    }

    #[tokio::test]
    async fn at_the_logs_end_nobody_is_waited_for_and_all_that_is_there_goes_together() {
        let (ways, mut workers) = some(4);
        ways[2].commits.send(of(&ways[2])).await.unwrap();
        // From before the workers started anew.
        ways[3].commits.send(HandedOver { generation: 0, ..of(&ways[3]) }).await.unwrap();
        assert_eq!(whose(&workers.gather(of(&ways[0]), &Pauses::system()).await), [0, 2]);
    }

    #[tokio::test]
    async fn in_a_backlog_the_rows_of_all_workers_go_together() {
        let (ways, mut workers) = some(3);
        ways.iter().for_each(|way| way.place.tell(Readiness::Growing));
        let come = async {
            ways[2].commits.send(of(&ways[2])).await.unwrap();
            tokio::task::yield_now().await;
            // Its backlog is gone, and it has nothing.
            ways[1].place.tell(Readiness::CaughtUp);
        };
        let pauses = Pauses::system();
        let (gathered, ()) = tokio::join!(workers.gather(of(&ways[0]), &pauses), come);
        assert_eq!(whose(&gathered), [0, 2]);
    }

    #[tokio::test]
    async fn a_worker_that_takes_long_does_not_keep_the_others_from_their_work() {
        let (ways, mut workers) = some(2);
        ways.iter().for_each(|way| way.place.tell(Readiness::Growing));
        let come = async { ways[0].place.tell(Readiness::Ready) };
        let pauses = Pauses::system();
        let (gathered, ()) = tokio::join!(workers.gather(of(&ways[0]), &pauses), come);
        assert_eq!(whose(&gathered), [0]);
    }

    #[tokio::test]
    async fn a_worker_that_does_not_get_on_is_not_waited_for_without_end() {
        let (ways, mut workers) = some(2);
        ways.iter().for_each(|way| way.place.tell(Readiness::Growing));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let pauses = Pauses::new({
            let asked = Arc::clone(&asked);
            move |pause| {
                asked.lock().unwrap().push(pause);
                Box::pin(std::future::ready(()))
            }
        });
        assert_eq!(whose(&workers.gather(of(&ways[0]), &pauses).await), [0]);
        assert_eq!(*asked.lock().unwrap(), [GATHERING_MAX]);
    }
}
