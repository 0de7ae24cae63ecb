//! Owns the results that are records about fields rather than fields: Datacake's lists, SenML and
//! ThingPark's points.

use super::{Tree, time};
use dataflows::model::{EventTime, SECOND_US};
use std::borrow::Cow;

/// SenML's times below this are relative to the time of receipt (RFC 8428, 4.5.3). Unit: seconds.
const SENML_ABSOLUTE_MIN: f64 = 268_435_456.0;

/// Whether a list is Datacake's: of objects with a `field` and a `value`.
pub(super) fn is_field_list(items: &[Tree<'_>]) -> bool {
    !items.is_empty()
        && items.iter().all(|item| matches!(item.field("field"), Some(Tree::Text(_))) && item.field("value").is_some())
}

const UNIT: &str = "unitId";

/// Whether an object with a field of that name may be a ThingPark point.
pub(super) fn is_key(key: &str) -> bool {
    key == UNIT
}

/// Gives the record of a ThingPark point, an object with `unitId` and `record`.
pub(super) fn point<'t, 'a>(fields: &'t [(Cow<'a, str>, Tree<'a>)]) -> Option<&'t Tree<'a>> {
    let find = |name| fields.iter().find(|(key, _)| key == name).map(|(_, tree)| tree);
    find(UNIT).and(find("record"))
}

/// One resolved SenML record.
pub(super) struct Record<'t, 'a> {
    pub(super) name: String,
    pub(super) value: &'t Tree<'a>,
    pub(super) at: Option<EventTime>,
}

/// Resolves a list of SenML records; `None` when it is none. A field's name is the last part of the
/// record's: the parts before name the device.
pub(super) fn senml<'t, 'a>(items: &'t [Tree<'a>], received_at: EventTime) -> Option<Vec<Record<'t, 'a>>> {
    let named = |item: &Tree<'_>| ["bn", "n"].iter().any(|key| matches!(item.field(key), Some(Tree::Text(_))));
    let is_record = |item: &Tree<'_>| ["v", "vs", "vb", "vd", "bn", "bt"].iter().any(|key| item.field(key).is_some());
    if !named(items.first()?) || !items.iter().all(is_record) {
        return None;
    }
    let (mut base_name, mut base_time) = ("", 0.0);
    let mut records = Vec::new();
    for item in items {
        base_name = text(item, "bn").unwrap_or(base_name);
        base_time = number(item, "bt").unwrap_or(base_time);
        let Some(value) = ["v", "vs", "vb"].iter().find_map(|key| item.field(key)) else { continue };
        let name = format!("{base_name}{}", text(item, "n").unwrap_or_default());
        let last = name.rsplit(':').next().unwrap_or_default();
        let name = if last.is_empty() { text(item, "u").unwrap_or("value").into() } else { last.into() };
        let at = resolve(base_time + number(item, "t").unwrap_or_default(), received_at);
        records.push(Record { name, value, at });
    }
    Some(records)
}

fn text<'t>(item: &'t Tree<'_>, key: &str) -> Option<&'t str> {
    if let Tree::Text(text) = item.field(key)? { Some(text) } else { None }
}

fn number(item: &Tree<'_>, key: &str) -> Option<f64> {
    if let Tree::Number(number) = item.field(key)? { Some(*number) } else { None }
}

fn resolve(seconds: f64, received_at: EventTime) -> Option<EventTime> {
    if seconds == 0.0 || !seconds.is_finite() {
        None
    } else if seconds >= SENML_ABSOLUTE_MIN {
        time::of(&Tree::Date(seconds * 1e3))
    } else {
        Some(EventTime(received_at.0.saturating_add((seconds * SECOND_US as f64) as i64)))
    }
}
