//! The state of one partition, as a checkpoint holds it. Invariant: a graph that takes it up goes on
//! exactly as the one that gave it would have.

use crate::model::{CatalogueSeries, Counts, LogTime};
use crate::operators::dedup::SeenState;
use crate::operators::thin::PassedState;
use crate::registry::InEffect;
use crate::series::saved::FleetState;
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
    pub(crate) passed: PassedState,
    pub(crate) suspensions: Suspensions,
}

/// A state as weir wrote it before there were quotas and suspended decoders (version 2 of checkpoints).
#[derive(Deserialize)]
pub struct StateOfVersion2 {
    log_time: LogTime,
    counts: CountsOfVersion2,
    registry: InEffect,
    seen: SeenState,
    fleet: FleetState,
}

/// [`Counts`] without `thinned`, in the order of postcard.
#[derive(Deserialize)]
struct CountsOfVersion2 {
    uplinks: u64,
    duplicate: u64,
    uplinks_quarantined: u64,
    uplinks_decoded: u64,
    measurements: u64,
    stored: u64,
    unchanged: u64,
    late_duplicate: u64,
    measurements_quarantined: u64,
    stored_afterwards: u64,
}

impl From<StateOfVersion2> for PartitionState {
    fn from(state: StateOfVersion2) -> Self {
        let StateOfVersion2 { log_time, counts, registry, seen, fleet } = state;
        let counts = Counts {
            uplinks: counts.uplinks,
            duplicate: counts.duplicate,
            uplinks_quarantined: counts.uplinks_quarantined,
            uplinks_decoded: counts.uplinks_decoded,
            measurements: counts.measurements,
            stored: counts.stored,
            unchanged: counts.unchanged,
            late_duplicate: counts.late_duplicate,
            measurements_quarantined: counts.measurements_quarantined,
            stored_afterwards: counts.stored_afterwards,
            thinned: 0,
        };
        Self { log_time, counts, registry, seen, fleet, ..Self::default() }
    }
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
