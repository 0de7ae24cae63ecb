//! Owns one device's series. Invariant: a series keeps its number for as long as its device keeps
//! its own, and another kind or unit is another series.

use super::agenda::Agenda;
use super::bucket_table::BucketTable;
use super::calendar::{ZoneNo, Zones};
use super::history::Rule;
use super::saved::{DeviceState, SlotState};
use super::slot::Slot;
use super::terms::{SharedTerms, Terms};
use crate::element::{Accepted, Cause, Context};
use crate::limits::SERIES_PER_DEVICE_MAX;
use crate::model::{ClassNo, DeviceNo, FieldNo, Outputs, SeriesId};
use std::sync::Arc;

/// What is remembered of a device, with what follows from what is in effect for it, worked out once for each change.
///
/// State: 48 bytes and its slots, at most [`SERIES_PER_DEVICE_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    /// The lateness horizon in effect for the last uplink that was decoded. Unit: microseconds.
    pub(crate) horizon_us: i64,
    pub(crate) slots: Vec<Slot>,
    heeded: Option<Heeded>,
}

/// What was in effect for the last uplink, by which the slots have their terms.
#[derive(Debug)]
struct Heeded {
    context: Arc<Context>,
    zone: ZoneNo,
}

/// What the caller needs to know of a device before its measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForce {
    pub(crate) class: ClassNo,
    pub(crate) zone: ZoneNo,
    pub(crate) horizon_us: i64,
}

impl Tracked {
    /// Takes up a saved state.
    pub(crate) fn restore(state: DeviceState, device: DeviceNo, shared: &mut SharedTerms, agenda: &mut Agenda) -> Self {
        let DeviceState { horizon_us, slots: saved } = state;
        // Collected in place, they would keep the memory of what was saved.
        let mut slots = Vec::with_capacity(saved.len());
        slots.extend(saved.into_iter().map(|slot| Slot::restore(slot, device, shared, agenda)));
        Self { horizon_us, slots, heeded: None }
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self, table: &BucketTable) -> DeviceState {
        let slots: Vec<SlotState> = self.slots.iter().map(|slot| slot.save(table)).collect();
        DeviceState { horizon_us: self.horizon_us, slots }
    }

    /// Takes notice of what is in effect. Costs one comparison of pointers while that is the same.
    pub(crate) fn heed(&mut self, context: &Arc<Context>, zones: &mut Zones, shared: &mut SharedTerms) -> InForce {
        let policy = &context.tenant.policy;
        let horizon_us = policy.lateness_horizon_us.max(0);
        let zone = match &self.heeded {
            Some(heeded) if Arc::ptr_eq(&heeded.context, context) => heeded.zone,
            _ => {
                self.horizon_us = horizon_us;
                let zone = zones.by_name(context.device.zone.as_deref().unwrap_or(&policy.zone));
                for slot in &mut self.slots {
                    slot.terms = shared.share(slot.terms.under(context));
                }
                self.heeded = Some(Heeded { context: context.clone(), zone });
                zone
            }
        };
        InForce { class: policy.class, zone, horizon_us }
    }

    /// Reads a little of each slot.
    pub(crate) fn touch(&self) -> usize {
        self.slots.iter().map(Slot::touch).sum()
    }

    /// Reads a little of the measurements that the slots have elsewhere.
    pub(crate) fn touch_histories(&self) -> usize {
        self.slots.iter().map(Slot::touch_history).sum()
    }

    /// Reads a little of the partials that the slots have elsewhere.
    pub(crate) fn touch_others(&self) -> usize {
        self.slots.iter().map(Slot::touch_others).sum()
    }

    /// Makes room for the series of a first uplink: most devices send the same fields ever after, and
    /// a list that doubles as it grows would be half empty for each of them.
    pub(crate) fn expect_series(&mut self, count: usize) {
        if self.slots.is_empty() {
            self.slots.reserve_exact(count);
        }
    }

    /// Gives the slot of a measurement, after [`Tracked::heed`]. A new slot, or one that goes to another class from now
    /// on, gets a row in the catalogue. None: the device has too many series.
    ///
    /// Cost: one comparison of names where `guess` is right, else one for each slot.
    pub(crate) fn slot(
        &mut self,
        guess: usize,
        measurement: &Accepted,
        cause: &Cause,
        shared: &mut SharedTerms,
        rows: &mut Outputs,
    ) -> Option<usize> {
        let context = &self.heeded.as_ref().expect("what is in effect was heeded before the measurements").context;
        let (slots, kind) = (&mut self.slots, measurement.value.kind());
        let is_it = |slot: &Slot| slot.takes(&measurement.field, kind);
        let found = Some(guess).filter(|&guess| slots.get(guess).is_some_and(is_it));
        let class = context.tenant.policy.class;
        let place = match found.or_else(|| slots.iter().position(is_it)) {
            Some(place) if slots[place].terms.class == class => {
                let terms = &mut slots[place].terms;
                // Once only, and not for a name that nobody keeps.
                if !Arc::ptr_eq(&terms.field, &measurement.field) && Arc::strong_count(&measurement.field) > 1 {
                    // From now on it shares the decoder's: compared by its address, and kept once.
                    *terms = shared.share(Terms { field: measurement.field.clone(), ..Terms::clone(terms) });
                }
                return Some(place);
            }
            Some(place) => {
                let terms = &mut slots[place].terms;
                *terms = shared.share(Terms { class, ..Terms::clone(terms) });
                place
            }
            None if slots.len() == SERIES_PER_DEVICE_MAX => return None,
            None => {
                slots.push(Slot::new(measurement, context, shared));
                slots.len() - 1
            }
        };
        rows.series.push(cause.place(slots[place].catalogue(place, context)));
        Some(place)
    }

    /// Gives the rule in effect for a slot that [`Tracked::slot`] gave.
    pub(crate) fn rule(&self, place: usize) -> Rule {
        self.slots[place].terms.rule.expect("a slot takes measurements only while the template names its unit")
    }
}

/// Gives the series of a device's slot.
pub(crate) fn series(device: DeviceNo, place: usize) -> SeriesId {
    SeriesId::new(device, FieldNo(u16::try_from(place).expect("a device has no more than 1024 series")))
}
