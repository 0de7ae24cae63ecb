//! The workers' memory as the query endpoint reads it: open partials, and those that were emitted
//! so recently that a query's snapshot of the tables may not hold them.

use super::retained::{Guard, Guards};
use super::worker::{Peek, ToWorker, WorkerHandle};
use crate::query::{Latest, Memory, MemoryError, MemoryPartials};
use dataflows::model::{BucketLevel, DeviceId, Offset, Partial, Partition, Placed, SeriesId, TenantNo};
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
        look: impl FnOnce(&Peek<'_>) -> T + Send + 'static,
    ) -> Result<T, MemoryError> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let worker = &self.workers[usize::from(partition.0) % self.workers.len()];
        worker.send(ToWorker::Peek(Box::new(move |peek| {
            let assumed = peek.owned.iter().any(|o| o.partition == partition);
            // The query may have given up meanwhile.
            let _ = sender.send(assumed.then(|| look(peek)));
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
        self.look(partition, move |peek| peek.graph.latest(tenant, &device)).await
    }

    async fn partials(
        &self,
        partition: Partition,
        series: Vec<SeriesId>,
        level: BucketLevel,
    ) -> Result<MemoryPartials, MemoryError> {
        self.look(partition, move |peek| {
            let position = peek.owned.iter().find(|o| o.partition == partition).map_or(Offset(0), |o| o.next);
            let wanted =
                |p: &&Placed<Partial>| p.partition == partition && p.row.level == level && series.contains(&p.row.series);
            let emitted = peek.retained.partials().chain(&peek.pending.partials).filter(wanted).cloned().collect();
            MemoryPartials { position, open: peek.graph.open_partials(&series, level), emitted }
        })
        .await
    }
}
