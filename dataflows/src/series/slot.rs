//! Owns one series of a device.

use super::agenda::Agenda;
use super::bucket_table::BucketTable;
use super::buckets::Buckets;
use super::device::series;
use super::history::{Arrival, History, Place, Rule, Sample};
use super::saved::{SlotState, ValuesState};
use super::terms::{SharedTerms, Terms};
use crate::element::{Accepted, Cause, Context};
use crate::model::{
    CatalogueSeries, ClassNo, DeviceNo, EventTime, FieldName, Outputs, Placed, SeriesId, Stored, Value, ValueKind,
};
use std::rc::Rc;
use std::sync::Arc;

/// One series of a device.
///
/// State: 160 bytes, and what its [history](History) and its [buckets](Buckets) have elsewhere.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) terms: Rc<Terms>,
    values: Values,
    pub(crate) buckets: Buckets,
}

/// The history of a series; its terms say of which kind.
#[derive(Debug)]
enum Values {
    /// Of a truth value too.
    Number(History<f64>),
    Text(Box<History<Arc<str>>>),
    Location(Box<History<Place>>),
}

impl Slot {
    /// A series whose first measurement is about to come.
    pub(crate) fn new(measurement: &Accepted, context: &Context, shared: &mut SharedTerms) -> Self {
        let kind = measurement.value.kind();
        let values = match kind {
            ValueKind::Number | ValueKind::Boolean => Values::Number(History::default()),
            ValueKind::Text => Values::Text(Box::default()),
            ValueKind::Location => Values::Location(Box::default()),
        };
        let terms = Terms::first(measurement.field.clone(), kind, context);
        Self { terms: shared.share(terms), values, buckets: Buckets::default() }
    }

    /// Takes up what was saved of a device's series.
    pub(crate) fn restore(state: SlotState, device: DeviceNo, shared: &mut SharedTerms, agenda: &mut Agenda) -> Self {
        let SlotState { field, unit, class, values, buckets } = state;
        let terms = Terms { field: shared.name(field), unit, kind: values.kind(), class, rule: None };
        let values = match values {
            ValuesState::Number(history) | ValuesState::Boolean(history) => Values::Number(History::restore(history)),
            ValuesState::Text(history) => Values::Text(Box::new(History::restore(*history))),
            ValuesState::Location(history) => Values::Location(Box::new(History::restore(*history))),
        };
        Self { terms: shared.share(terms), values, buckets: Buckets::restore(buckets, device, agenda) }
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self, table: &BucketTable) -> SlotState {
        let Terms { field, unit, kind, class, .. } = &*self.terms;
        let values = match &self.values {
            Values::Number(history) if *kind == ValueKind::Boolean => ValuesState::Boolean(history.save()),
            Values::Number(history) => ValuesState::Number(history.save()),
            Values::Text(history) => ValuesState::Text(Box::new(history.save())),
            Values::Location(history) => ValuesState::Location(Box::new(history.save())),
        };
        SlotState { field: field.clone(), unit: unit.clone(), class: *class, values, buckets: self.buckets.save(table) }
    }

    /// Whether a measurement of this name and kind belongs to it.
    pub(crate) fn takes(&self, field: &FieldName, kind: ValueKind) -> bool {
        let terms = &*self.terms;
        let is_named = Arc::ptr_eq(&terms.field, field) || terms.field == *field;
        terms.rule.is_some() && terms.kind == kind && is_named
    }

    /// Reads a little of each part.
    pub(crate) fn touch(&self) -> usize {
        let values = match &self.values {
            Values::Number(history) => history.touch(),
            Values::Text(_) | Values::Location(_) => 0,
        };
        values + self.buckets.touch()
    }

    /// Reads a little of the partials that it has elsewhere.
    pub(crate) fn touch_others(&self) -> usize {
        self.buckets.touch_others()
    }

    /// Reads a little of the measurements that it has elsewhere.
    pub(crate) fn touch_history(&self) -> usize {
        match &self.values {
            Values::Number(history) => history.touch_recent(),
            Values::Text(history) => history.touch(),
            Values::Location(history) => history.touch(),
        }
    }

    /// Gives its row in the catalogue.
    pub(crate) fn catalogue(&self, place: usize, context: &Context) -> CatalogueSeries {
        CatalogueSeries {
            series: series(context.device.no, place),
            tenant: context.device.tenant,
            device: context.device.id.clone(),
            field: self.terms.field.clone(),
            kind: self.terms.kind,
            unit: self.terms.unit.as_deref().map(Into::into),
            class: self.terms.class,
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
        let stored = StoredBy { series, class: self.terms.class, cause };
        match (&mut self.values, value) {
            (Values::Number(history), Value::Number(number)) => stored.rows(history, at, *number, rule, &mut rows.numbers),
            (Values::Number(history), &Value::Boolean(is)) => {
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
            Values::Number(history) => {
                let is_boolean = self.terms.kind == ValueKind::Boolean;
                let value = |number| if is_boolean { Value::Boolean(number != 0.0) } else { Value::Number(number) };
                history.newest().map(|(at, &number)| (at, value(number)))
            }
            Values::Text(history) => history.newest().map(|(at, text)| (at, Value::Text(text.clone()))),
            Values::Location(history) => history
                .newest()
                .map(|(at, &(latitude, longitude, altitude))| (at, Value::Location { latitude, longitude, altitude })),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::open::PackedOpen;

    #[test]
    fn a_series_takes_so_many_bytes_and_no_more() {
        assert!(size_of::<Slot>() <= 160, "there are five million of them in a fleet of a million devices");
        assert!(size_of::<PackedOpen>() <= 80, "most series have two or three");
    }
}
