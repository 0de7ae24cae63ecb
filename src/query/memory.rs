//! What the endpoint asks of the workers' memory: that which is not in the tables yet.

pub use dataflows::graph::Latest;
use dataflows::model::{BucketLevel, DeviceId, Offset, Partial, Partition, Placed, SeriesId, TenantNo};
use std::future::Future;

/// The workers' memory.
///
/// It keeps a partial that it has emitted at least until a commit has put it into the tables and no guard that was
/// taken before that commit is held.
pub trait Memory: Send + Sync + 'static {
    /// Holds back the forgetting of emitted partials.
    type Guard: Send;

    /// Gives a guard. A reader takes one before its database snapshot and drops it after its last question here, so
    /// that what the snapshot does not hold is still there.
    fn guard(&self) -> Self::Guard;

    /// Gives the newest measurement of each series of a device; nothing for a device that it does not know.
    ///
    /// Errors: when the partition of the device is not here or not ready.
    fn latest(&self, tenant: TenantNo, device: DeviceId) -> impl Future<Output = Result<Vec<Latest>, MemoryError>> + Send;

    /// Gives the partials of some series of a partition at one moment between two records.
    ///
    /// Errors: when the partition is not here or not ready.
    fn partials(
        &self,
        partition: Partition,
        series: Vec<SeriesId>,
        level: BucketLevel,
    ) -> impl Future<Output = Result<MemoryPartials, MemoryError>> + Send;
}

/// Partials at one moment. All of a series' measurements before `position` are in the emitted partials of all time
/// and the open ones, once.
#[derive(Clone, PartialEq, Debug)]
pub struct MemoryPartials {
    /// The first offset that the worker has not processed.
    pub position: Offset,
    /// Of the partials that were emitted below, some were forgotten: they are in the tables only.
    pub floor: Offset,
    /// Those that are still open. For days: the open day together with its open hours.
    pub open: Vec<Partial>,
    /// Those that were emitted, each with the offset that emitted it; some may be in the tables already.
    pub emitted: Vec<Placed<Partial>>,
}

/// Why the memory gives no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MemoryError {
    /// Another process owns the partition.
    #[error("partition {0} belongs to another weir process: ask that one")]
    Elsewhere(Partition),
    /// The worker loads its checkpoint or the daemon stops.
    #[error("partition {0} is not ready: ask again in a moment")]
    NotReady(Partition),
}
