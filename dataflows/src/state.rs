//! The state of one partition, as a checkpoint holds it. Invariant: a graph that takes it up goes on
//! exactly as the one that gave it would have.

use crate::model::{CatalogueSeries, Counts, LogTime};
use crate::operators::dedup::SeenState;
use crate::registry::InEffect;
use crate::series::fleet::FleetState;
use crate::series::seed::Seeds;
use crate::suspension::Suspensions;
use serde::{Deserialize, Serialize};

/// Everything that the graph knows of one partition: uplinks seen, the registry in effect, the
/// numbering and history of series, open partials, counts, decoders that are suspended. The default is a partition whose log is
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
    /// The last field: what older checkpoints lack is read as its default.
    pub(crate) suspensions: Suspensions,
}

impl PartitionState {
    /// Lets the numbering of series go on behind what the tables list already: these keep their
    /// numbers, and new ones get others. For a state that begins in front of tables with rows in
    /// them, and for one of a log that was left and taken up again.
    ///
    /// `catalogue` holds the series of the partition's devices, in any order. Those that this state
    /// knows are passed over, so the state of a log that wrote all of them itself goes on as it would have.
    pub fn seeded(mut self, catalogue: impl IntoIterator<Item = CatalogueSeries>) -> Self {
        let in_effect = self.registry.devices().map(|device| (device.no, device)).collect();
        self.fleet.seed(Seeds::new(catalogue), &in_effect);
        self
    }
}
