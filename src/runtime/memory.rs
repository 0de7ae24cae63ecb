//! The workers' memory as the query endpoint reads it: open partials, and those that were emitted
//! so recently that a query's snapshot of the tables may not hold them.

use super::owned::Owned;
use super::retained::{Guard, Guards};
use super::worker::{Peek, ToWorker, WorkerHandle};
use crate::query::{Latest, Memory, MemoryError, MemoryPartials};
use dataflows::model::{BucketLevel, DeviceId, Partial, Partition, Placed, SeriesId, TenantNo};
use std::collections::HashSet;
use std::sync::Arc;

/// Reads the memory of all workers.
pub(super) struct WorkersMemory {
    /// The worker of partition p is `workers[p % workers.len()]`.
    workers: Vec<WorkerHandle>,
    guards: Arc<Guards>,
    partitions: u16,
}

impl WorkersMemory {
    /// Reads from `workers`, whose commits are counted by `guards`.
    pub(super) fn new(workers: Vec<WorkerHandle>, guards: Arc<Guards>, partitions: u16) -> Self {
        Self { workers, guards, partitions }
    }

    async fn look<T: Send + 'static>(
        &self,
        partition: Partition,
        look: impl FnOnce(&Peek<'_>, &Owned) -> T + Send + 'static,
    ) -> Result<T, MemoryError> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let worker = &self.workers[usize::from(partition.0) % self.workers.len()];
        worker.send(ToWorker::Peek(Box::new(move |peek| {
            let owned = peek.owned.iter().find(|o| o.partition == partition);
            // The query may have given up meanwhile.
            let _ = sender.send(owned.map(|owned| look(peek, owned)));
        })));
        answer.await.ok().flatten().ok_or(MemoryError::NotReady(partition))
    }
}

impl Memory for WorkersMemory {
    type Guard = Guard;

    fn guard(&self) -> Guard {
        self.guards.begin()
    }

    async fn latest(&self, tenant: TenantNo, device: DeviceId) -> Result<Vec<Latest>, MemoryError> {
        let partition = Partition::of(&device, self.partitions);
        // While it replays, its newest values are older than what it has answered before.
        let latest = move |peek: &Peek<'_>, owned: &Owned| (!owned.is_replaying()).then(|| peek.graph.latest(tenant, &device));
        self.look(partition, latest).await?.ok_or(MemoryError::NotReady(partition))
    }

    async fn partials(
        &self,
        partition: Partition,
        series: Vec<SeriesId>,
        level: BucketLevel,
    ) -> Result<MemoryPartials, MemoryError> {
        self.look(partition, move |peek, owned| {
            let asked: HashSet<SeriesId> = series.iter().copied().collect();
            let wanted = |p: &&Placed<Partial>| p.partition == partition && p.row.level == level && asked.contains(&p.row.series);
            let emitted = peek.retained.partials().chain(&peek.pending.partials).filter(wanted).cloned().collect();
            let open = peek.graph.open_partials(&series, level);
            MemoryPartials { position: owned.next, floor: peek.retained.floor(partition), open, emitted }
        })
        .await
    }
}
