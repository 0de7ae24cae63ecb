//! The state of one partition, as a checkpoint holds it. Invariant: a graph that takes it up goes on
//! exactly as the one that gave it would have.

use crate::model::{CatalogueSeries, Counts, LogTime};
use crate::operators::dedup::SeenState;
use crate::registry::InEffect;
use crate::series::fleet::FleetState;
use crate::series::seed::Seeds;
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

impl PartitionState {
    /// Gives a partition whose log is about to begin, or to begin again, in front of tables that
    /// list series already: these keep their numbers, and new ones get others.
    ///
    /// `catalogue` holds the series of the partition's devices, in any order.
    pub fn seeded(catalogue: impl IntoIterator<Item = CatalogueSeries>) -> Self {
        Self { fleet: FleetState::seeded(Seeds::new(catalogue)), ..Self::default() }
    }
}
