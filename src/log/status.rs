//! Owns what the log tells about itself.

use super::catalogue::Catalogue;
use super::error::LostRange;
use super::identity::Identity;
use dataflows::model::{LogTime, Offset, Partition};
use serde::Serialize;
use uuid::Uuid;

/// What a log holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// Its id.
    pub id: Uuid,
    /// Segment files.
    pub segments: usize,
    /// What they hold. Unit: bytes.
    pub bytes: u64,
    /// Each partition, in order.
    pub partitions: Vec<PartitionStatus>,
    /// What was lost with damaged segments that were set aside, as far as it is not truncated yet.
    pub lost: Vec<LostRange>,
}

/// What a log holds of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PartitionStatus {
    /// Which.
    pub partition: Partition,
    /// The first kept offset.
    pub start: Offset,
    /// The offset behind the last durable one.
    pub end: Offset,
    /// When the last record was taken in; the epoch if there was never one.
    pub last_log_time: LogTime,
}

/// What a truncation gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Truncated {
    /// Segment files.
    pub segments: usize,
    /// What they held. Unit: bytes.
    pub bytes: u64,
}

impl Status {
    pub(super) fn of(identity: &Identity, catalogue: &Catalogue) -> Self {
        let partitions = (0..identity.partitions).map(|partition| PartitionStatus {
            partition: Partition(partition),
            start: Offset(catalogue.start(partition)),
            end: Offset(catalogue.end.next[usize::from(partition)]),
            last_log_time: catalogue.end.times[usize::from(partition)],
        });
        Self {
            id: identity.id,
            segments: catalogue.segments.len(),
            bytes: catalogue.bytes(0),
            partitions: partitions.collect(),
            lost: catalogue.lost.clone(),
        }
    }
}
