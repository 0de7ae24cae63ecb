//! Owns the numbers that series were given elsewhere: under another log, or by records that are gone.
//! Invariant: a series that has a number keeps it, and a number that is taken is given to no other.

use super::saved::SlotState;
use crate::model::{CatalogueSeries, Device, DeviceNo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The numbers given elsewhere, by device.
///
/// State: one entry for each device that was not heard since.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seeds(BTreeMap<DeviceNo, Seed>);

/// The series of one device number, by field number from 0 on; none where nobody knows any more
/// what was given the number.
type Seed = Vec<Option<CatalogueSeries>>;

impl Seeds {
    /// Takes in what the catalogue says, in any order.
    pub(crate) fn new(catalogue: impl IntoIterator<Item = CatalogueSeries>) -> Self {
        let mut seeds = BTreeMap::<DeviceNo, Seed>::new();
        for numbered in catalogue {
            let place = usize::from(numbered.series.field().0);
            let seed = seeds.entry(numbered.series.device()).or_default();
            if seed.len() <= place {
                seed.resize(place + 1, None);
            }
            seed[place] = Some(numbered);
        }
        Self(seeds)
    }

    /// Takes out the numbers of a device that come behind those that its state `knows`, for the state to go on behind
    /// them. What was numbered for another device of the same number only keeps its numbers from being given again.
    pub(crate) fn take(&mut self, device: &Device, knows: usize) -> impl Iterator<Item = SlotState> {
        let seed = self.0.remove(&device.no).unwrap_or_default();
        seed.into_iter().skip(knows).map(|numbered| match numbered {
            Some(numbered) if numbered.tenant == device.tenant && numbered.device == device.id => SlotState::numbered(numbered),
            _ => SlotState::vacant(),
        })
    }

    /// Forgets a device.
    pub(crate) fn forget(&mut self, device: DeviceNo) {
        self.0.remove(&device);
    }
}
