//! Owns the numbers that series were given before the state began: under another log, or by records
//! that are gone. Invariant: a series that has a number already never gets another one, and a number
//! that is taken is never given to another series.

use super::device::{DeviceState, Slot};
use crate::model::{CatalogueSeries, ClassNo, Device, DeviceId, DeviceNo, FieldName, TenantNo, ValueKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The numbers given before, by device.
///
/// State: one entry for each device that was not heard yet since the state began.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seeds(BTreeMap<DeviceNo, Seed>);

/// The series of one device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Seed {
    tenant: TenantNo,
    device: DeviceId,
    /// By field number, from 0 on; none where a number was given to a series that nobody knows any more.
    series: Vec<Option<Numbered>>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Numbered {
    field: FieldName,
    kind: ValueKind,
    unit: Option<Box<str>>,
    class: ClassNo,
}

impl Seeds {
    /// Takes in what the catalogue says, in any order.
    pub(crate) fn new(catalogue: impl IntoIterator<Item = CatalogueSeries>) -> Self {
        let mut seeds = BTreeMap::new();
        for CatalogueSeries { series, tenant, device, field, kind, unit, class } in catalogue {
            let place = usize::from(series.field().0);
            let seed = seeds.entry(series.device()).or_insert_with(|| Seed { tenant, device, series: Vec::new() });
            if seed.series.len() <= place {
                seed.series.resize(place + 1, None);
            }
            seed.series[place] = Some(Numbered { field, kind, unit: unit.map(Into::into), class });
        }
        Self(seeds)
    }

    /// Gives the state in which a device begins that is heard for the first time: empty, where it
    /// has no series yet, or where its number stood for another device.
    pub(crate) fn take(&mut self, device: &Device) -> DeviceState {
        let seed = self.0.remove(&device.no).filter(|seed| seed.tenant == device.tenant && seed.device == device.id);
        let series = seed.map(|seed| seed.series).unwrap_or_default();
        let slot = |numbered: Option<Numbered>| match numbered {
            Some(Numbered { field, kind, unit, class }) => Slot::numbered(field, kind, unit, class),
            None => Slot::vacant(),
        };
        DeviceState { slots: series.into_iter().map(slot).collect(), ..DeviceState::default() }
    }

    /// Forgets a device.
    pub(crate) fn forget(&mut self, device: DeviceNo) {
        self.0.remove(&device);
    }
}
