//! The state of one partition, as a checkpoint holds it. Invariant: a graph that takes it up goes on
//! exactly as the one that gave it would have.

use crate::model::{Counts, LogTime};
use crate::operators::dedup::SeenState;
use crate::registry::InEffect;
use crate::series::fleet::FleetState;
use serde::{Deserialize, Serialize};

/// Everything that the graph knows of one partition: uplinks seen, the registry in effect, the
/// numbering and history of series, open partials, counts. The default is a partition whose log is
/// about to begin.
///
/// Equal states are equal however they came about: nothing in it depends on hash order or batches.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PartitionState {
    /// The log time of the last record.
    pub log_time: LogTime,
    /// What went which way since the log began.
    pub counts: Counts,
    pub(crate) registry: InEffect,
    pub(crate) seen: SeenState,
    pub(crate) fleet: FleetState,
}
