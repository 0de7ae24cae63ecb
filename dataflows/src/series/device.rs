//! Owns one device's series. Invariant: a series keeps its number for as long as its device keeps
//! its own, and another kind or unit is another series.

use super::buckets::Buckets;
use super::calendar::{ZoneNo, Zones};
use super::history::{Arrival, History, Place, Rule, Sample};
use super::seed::Seeds;
use crate::element::{Accepted, Cause, Context};
use crate::limits::SERIES_PER_DEVICE_MAX;
use crate::model::{
    CatalogueSeries, ClassNo, Device, DeviceNo, EventTime, FieldName, FieldNo, Outputs, Placed, SeriesId, Stored, Value,
    ValueKind,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One series of a device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub(crate) field: FieldName,
    pub(crate) unit: Option<Box<str>>,
    /// The class that its catalogue row names.
    class: ClassNo,
    values: Values,
    pub(crate) buckets: Buckets,
}

/// The history of a series, by the kind of its values.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Values {
    Number(History<f64>),
    Boolean(History<f64>),
    Text(Box<History<Arc<str>>>),
    Location(Box<History<Place>>),
}

/// What is remembered of a device.
///
/// State: its slots, at most [`SERIES_PER_DEVICE_MAX`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DeviceState {
    /// The lateness horizon in effect for the last uplink that was decoded. Unit: microseconds.
    pub(crate) horizon_us: i64,
    pub(crate) slots: Vec<Slot>,
}

/// A device with what follows from what is in effect for it, worked out once for each change.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    pub(crate) state: DeviceState,
    settings: Option<Settings>,
}

#[derive(Debug)]
struct Settings {
    context: Arc<Context>,
    zone: ZoneNo,
    /// One for each slot.
    slots: Vec<SlotSettings>,
}

#[derive(Clone, Copy, Debug)]
struct SlotSettings {
    /// The template names this slot's unit for its field.
    current: bool,
    rule: Rule,
}

/// What the caller needs to know of a device before its measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForce {
    pub(crate) class: ClassNo,
    pub(crate) zone: ZoneNo,
    pub(crate) horizon_us: i64,
}

impl Tracked {
    /// Begins with a device that is heard for the first time.
    pub(crate) fn begin(device: &Device, seeds: &mut Seeds) -> Self {
        let mut state = DeviceState::default();
        seeds.join(device, &mut state);
        Self::restore(state)
    }

    /// Takes up a saved state.
    pub(crate) fn restore(state: DeviceState) -> Self {
        Self { state, settings: None }
    }

    /// Takes notice of what is in effect. Costs one comparison of pointers while that is the same.
    pub(crate) fn heed(&mut self, context: &Arc<Context>, zones: &mut Zones) -> InForce {
        let policy = &context.tenant.policy;
        let horizon_us = policy.lateness_horizon_us.max(0);
        let zone = match &self.settings {
            Some(settings) if Arc::ptr_eq(&settings.context, context) => settings.zone,
            _ => {
                self.state.horizon_us = horizon_us;
                let zone = zones.by_name(context.device.zone.as_deref().unwrap_or(&policy.zone));
                let slots = self.state.slots.iter().map(|slot| slot.settings(context)).collect();
                self.settings = Some(Settings { context: context.clone(), zone, slots });
                zone
            }
        };
        InForce { class: policy.class, zone, horizon_us }
    }

    /// Reads a little of each slot.
    pub(crate) fn touch(&self) -> usize {
        let settings = self.settings.as_ref().map_or(0, |settings| settings.slots.iter().filter(|slot| slot.current).count());
        settings + self.state.slots.iter().map(Slot::touch).sum::<usize>()
    }

    /// Reads a little of what the slots have elsewhere.
    pub(crate) fn touch_histories(&self) -> usize {
        self.state.slots.iter().map(Slot::touch_history).sum()
    }

    /// Makes room for the series of a first uplink: most devices send the same fields ever after, and
    /// a list that doubles as it grows would be half empty for each of them.
    pub(crate) fn expect_series(&mut self, count: usize) {
        if let Some(settings) = self.settings.as_mut().filter(|_| self.state.slots.is_empty()) {
            self.state.slots.reserve_exact(count);
            settings.slots.reserve_exact(count);
        }
    }

    /// Gives the slot of a measurement and the rule in effect for it, after [`Tracked::heed`]. A new
    /// slot, or one that goes to another class from now on, gets a row in the catalogue. None: the
    /// device has too many series.
    ///
    /// Cost: one comparison of names where `guess` is right, else one for each slot.
    pub(crate) fn slot(&mut self, guess: usize, measurement: &Accepted, cause: &Cause, rows: &mut Outputs) -> Option<usize> {
        let settings = self.settings.as_mut().expect("what is in effect was heeded before the measurements");
        let slots = &mut self.state.slots;
        let kind = measurement.value.kind();
        let is_it = |place: usize| {
            let (slot, settings) = (&slots[place], &settings.slots[place]);
            let named = Arc::ptr_eq(&slot.field, &measurement.field) || slot.field == measurement.field;
            settings.current && slot.kind() == kind && named
        };
        let found = Some(guess).filter(|&guess| guess < slots.len() && is_it(guess));
        let class = settings.context.tenant.policy.class;
        let place = match found.or_else(|| (0..slots.len()).find(|&place| is_it(place))) {
            Some(place) if slots[place].class == class => {
                let name = &mut slots[place].field;
                if !Arc::ptr_eq(name, &measurement.field) {
                    // From now on it shares the decoder's: compared by its address, and kept once.
                    *name = measurement.field.clone();
                }
                return Some(place);
            }
            Some(place) => {
                slots[place].class = class;
                place
            }
            None if slots.len() == SERIES_PER_DEVICE_MAX => return None,
            None => {
                let slot = Slot::new(measurement, &settings.context);
                settings.slots.push(slot.settings(&settings.context));
                slots.push(slot);
                slots.len() - 1
            }
        };
        rows.series.push(cause.place(slots[place].catalogue(place, &settings.context)));
        Some(place)
    }

    /// Gives the rule in effect for a slot, after [`Tracked::heed`].
    pub(crate) fn rule(&self, place: usize) -> Rule {
        let settings = self.settings.as_ref().expect("what is in effect was heeded before the measurements");
        settings.slots[place].rule
    }
}

/// Gives the series of a device's slot.
pub(crate) fn series(device: DeviceNo, place: usize) -> SeriesId {
    SeriesId::new(device, FieldNo(u16::try_from(place).expect("a device has no more than 1024 series")))
}

impl Slot {
    fn new(measurement: &Accepted, context: &Context) -> Self {
        Self {
            field: measurement.field.clone(),
            unit: unit(&measurement.field, context).map(Into::into),
            class: context.tenant.policy.class,
            values: Values::new(measurement.value.kind()),
            buckets: Buckets::default(),
        }
    }

    /// A series that got its number elsewhere.
    pub(crate) fn numbered(numbered: CatalogueSeries) -> Self {
        let CatalogueSeries { field, kind, unit, class, .. } = numbered;
        Self { field, unit: unit.map(Into::into), class, values: Values::new(kind), buckets: Buckets::default() }
    }

    /// Keeps a number that stands for something else: no template can name its unit, since no text of
    /// the database holds U+0000.
    pub(crate) fn vacant() -> Self {
        let (values, buckets) = (Values::new(ValueKind::Number), Buckets::default());
        Self { field: "".into(), unit: Some("\0".into()), class: ClassNo(0), values, buckets }
    }

    /// Reads a little of each part.
    fn touch(&self) -> usize {
        let values = match &self.values {
            Values::Number(history) | Values::Boolean(history) => history.touch(),
            Values::Text(_) | Values::Location(_) => 0,
        };
        self.field.len() + usize::from(self.class == ClassNo(0)) + values + self.buckets.touch()
    }

    /// Reads a little of what it has elsewhere.
    fn touch_history(&self) -> usize {
        match &self.values {
            Values::Number(history) | Values::Boolean(history) => history.touch_newest(),
            Values::Text(history) => history.touch(),
            Values::Location(history) => history.touch(),
        }
    }

    pub(crate) fn kind(&self) -> ValueKind {
        match self.values {
            Values::Number(_) => ValueKind::Number,
            Values::Boolean(_) => ValueKind::Boolean,
            Values::Text(_) => ValueKind::Text,
            Values::Location(_) => ValueKind::Location,
        }
    }

    fn settings(&self, context: &Context) -> SlotSettings {
        let spec = context.template.fields.get(&self.field);
        let policy = &context.tenant.policy;
        let deadband = spec.filter(|_| self.kind() == ValueKind::Number).map_or(0.0, |spec| spec.deadband());
        SlotSettings {
            current: self.unit.as_deref() == unit(&self.field, context),
            rule: Rule {
                deadband,
                heartbeat_us: spec.and_then(|spec| spec.heartbeat_us).unwrap_or(policy.heartbeat_us),
                horizon_us: policy.lateness_horizon_us.max(0),
            },
        }
    }

    fn catalogue(&self, place: usize, context: &Context) -> CatalogueSeries {
        CatalogueSeries {
            series: series(context.device.no, place),
            tenant: context.device.tenant,
            device: context.device.id.clone(),
            field: self.field.clone(),
            kind: self.kind(),
            unit: self.unit.as_deref().map(Into::into),
            class: self.class,
        }
    }

    /// Puts a value into the series; gives what became of it and how many rows follow from it.
    pub(crate) fn arrive(
        &mut self,
        series: SeriesId,
        at: EventTime,
        value: &Value,
        rule: &Rule,
        cause: &Cause,
        rows: &mut Outputs,
    ) -> (Arrival, u64) {
        let stored = StoredBy { series, class: self.class, cause };
        match (&mut self.values, value) {
            (Values::Number(history), Value::Number(number)) => stored.rows(history, at, *number, rule, &mut rows.numbers),
            (Values::Boolean(history), &Value::Boolean(is)) => {
                stored.rows(history, at, f64::from(u8::from(is)), rule, &mut rows.numbers)
            }
            (Values::Text(history), Value::Text(text)) => stored.rows(history, at, text.clone(), rule, &mut rows.texts),
            (Values::Location(history), &Value::Location { latitude, longitude, altitude }) => {
                stored.rows(history, at, (latitude, longitude, altitude), rule, &mut rows.locations)
            }
            _ => unreachable!("a slot is found by the kind of its values"),
        }
    }

    /// Gives the newest measurement by event time.
    pub(crate) fn newest(&self) -> Option<(EventTime, Value)> {
        match &self.values {
            Values::Number(history) => history.newest().map(|(at, &number)| (at, Value::Number(number))),
            Values::Boolean(history) => history.newest().map(|(at, &number)| (at, Value::Boolean(number != 0.0))),
            Values::Text(history) => history.newest().map(|(at, text)| (at, Value::Text(text.clone()))),
            Values::Location(history) => history
                .newest()
                .map(|(at, &(latitude, longitude, altitude))| (at, Value::Location { latitude, longitude, altitude })),
        }
    }
}

fn unit<'a>(field: &FieldName, context: &'a Context) -> Option<&'a str> {
    context.template.fields.get(field)?.unit.as_deref()
}

impl Values {
    fn new(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Number => Self::Number(History::default()),
            ValueKind::Boolean => Self::Boolean(History::default()),
            ValueKind::Text => Self::Text(Box::default()),
            ValueKind::Location => Self::Location(Box::default()),
        }
    }
}

/// What raw rows of one arrival have in common.
struct StoredBy<'a> {
    series: SeriesId,
    class: ClassNo,
    cause: &'a Cause,
}

impl StoredBy<'_> {
    fn rows<V: Sample>(
        &self,
        history: &mut History<V>,
        at: EventTime,
        value: V,
        rule: &Rule,
        rows: &mut Vec<Placed<Stored<V>>>,
    ) -> (Arrival, u64) {
        let before = rows.len();
        let row = |at, value| self.cause.place(Stored { class: self.class, series: self.series, at, value });
        let arrival = history.arrive(at, value.clone(), rule, |at, value| rows.push(row(at, value.clone())));
        if arrival == Arrival::Late {
            rows.push(row(at, value));
        }
        (arrival, (rows.len() - before) as u64)
    }
}
