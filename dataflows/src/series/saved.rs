//! Owns the shape in which series are saved. Invariant: it is what checkpoints hold, however series are held in memory.

use super::buckets::BucketsState;
use super::history::{HistoryState, Place};
use super::seed::Seeds;
use crate::model::{CatalogueSeries, ClassNo, Device, DeviceNo, FieldName, ValueKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A [`Fleet`](super::fleet::Fleet) to be saved, in the order of device numbers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FleetState {
    pub(crate) zones: Vec<String>,
    pub(crate) devices: BTreeMap<DeviceNo, DeviceState>,
    pub(crate) seeds: Seeds,
}

/// What is saved of a device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct DeviceState {
    /// The lateness horizon in effect for the last uplink that was decoded. Unit: microseconds.
    pub(crate) horizon_us: i64,
    pub(crate) slots: Vec<SlotState>,
}

/// What is saved of one series.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct SlotState {
    pub(crate) field: FieldName,
    pub(crate) unit: Option<Arc<str>>,
    /// The class that its catalogue row names.
    pub(crate) class: ClassNo,
    pub(crate) values: ValuesState,
    pub(crate) buckets: BucketsState,
}

/// The history of a series, by the kind of its values.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum ValuesState {
    Number(HistoryState<f64>),
    Boolean(HistoryState<f64>),
    Text(Box<HistoryState<Arc<str>>>),
    Location(Box<HistoryState<Place>>),
}

impl FleetState {
    /// Lets the numbering go on behind numbers that were given elsewhere. `in_effect` holds the
    /// devices by their numbers.
    pub(crate) fn seed(&mut self, mut seeds: Seeds, in_effect: &BTreeMap<DeviceNo, &Device>) {
        for (no, DeviceState { slots, .. }) in &mut self.devices {
            if let Some(device) = in_effect.get(no) {
                slots.extend(seeds.take(device, slots.len()));
            }
        }
        self.seeds = seeds;
    }
}

impl SlotState {
    /// A series that got its number elsewhere.
    pub(crate) fn numbered(numbered: CatalogueSeries) -> Self {
        let CatalogueSeries { field, kind, unit, class, .. } = numbered;
        let (values, buckets) = (ValuesState::new(kind), BucketsState::default());
        Self { field, unit: unit.map(Into::into), class, values, buckets }
    }

    /// Keeps a number that stands for something else: no template can name its unit, since no text of
    /// the database holds U+0000.
    pub(crate) fn vacant() -> Self {
        let (values, buckets) = (ValuesState::new(ValueKind::Number), BucketsState::default());
        Self { field: "".into(), unit: Some("\0".into()), class: ClassNo(0), values, buckets }
    }
}

impl ValuesState {
    fn new(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Number => Self::Number(HistoryState::default()),
            ValueKind::Boolean => Self::Boolean(HistoryState::default()),
            ValueKind::Text => Self::Text(Box::default()),
            ValueKind::Location => Self::Location(Box::default()),
        }
    }

    pub(crate) fn kind(&self) -> ValueKind {
        match self {
            Self::Number(_) => ValueKind::Number,
            Self::Boolean(_) => ValueKind::Boolean,
            Self::Text(_) => ValueKind::Text,
            Self::Location(_) => ValueKind::Location,
        }
    }
}
