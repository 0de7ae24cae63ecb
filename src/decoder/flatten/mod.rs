//! Makes measurements of a decoder's result, whatever the convention it was written for.
//!
//! Owns the rules that give a value its field name, its type and its time:
//!
//! - nested objects join their names with `_`, lists add the index; `null` is no value;
//! - an object with a time of its own (`timestamp`, `time` or `ts` that is one) gives it to all that
//!   it holds; a list of such objects becomes rows of the same fields, without name or index;
//! - latitude and longitude beside each other are one location ([`place`]);
//! - lists of `{field, value}`, SenML records and points of `{unitId, record}` are read as what
//!   they are ([`records`]).
//!
//! What cannot be stored is rejected beside what can; nothing here panics, whatever the tree.

mod name;
mod place;
mod records;
mod time;
mod usual;

pub(super) use name::Names;
pub(super) use time::iso;
pub(super) use usual::Usual;

use super::tree::Tree;
use dataflows::decode::{DecodeFailure, Decoded, Rejected};
use dataflows::model::{EventTime, FieldName, Measurement, Reason, Value};
use name::Path;
use place::Place;
use std::borrow::Cow;

/// Most measurements and rejections of one uplink.
pub(super) const FIELDS_MAX: usize = 256;

/// Appends the measurements of `tree` to `decoded`.
///
/// Errors: more than [`FIELDS_MAX`] of them.
pub(super) fn flatten(
    tree: &Tree<'_>,
    received_at: EventTime,
    names: &mut Names,
    decoded: &mut Decoded,
) -> Result<(), DecodeFailure> {
    let mut flattening = Flattening { received_at, names, decoded, path: Path::default() };
    match tree {
        Tree::List(items) => flattening.top_list(items),
        tree => flattening.value(tree, None),
    }
}

/// The way through one tree.
struct Flattening<'a> {
    received_at: EventTime,
    names: &'a mut Names,
    decoded: &'a mut Decoded,
    path: Path,
}

type Flattened = Result<(), DecodeFailure>;

/// The fields of an object.
type Fields<'a> = [(Cow<'a, str>, Tree<'a>)];

impl Flattening<'_> {
    fn value(&mut self, tree: &Tree<'_>, at: Option<EventTime>) -> Flattened {
        match tree {
            Tree::Nothing => Ok(()),
            Tree::Boolean(truth) => self.measured(Value::Boolean(*truth), at),
            Tree::Number(number) if number.is_finite() => self.measured(Value::Number(*number), at),
            Tree::Number(number) => {
                self.rejected(format!("the decoder returned {number}: return a finite number, or leave the field out"))
            }
            Tree::Date(ms) => time::iso(*ms).map_or(Ok(()), |text| self.measured(Value::Text(text.into()), at)),
            Tree::Text(text) => match place::of_text(text) {
                Some(place) => self.place(place, at),
                None => self.measured(Value::Text(storable(text).into()), at),
            },
            Tree::List(items) => self.list(items, at),
            Tree::Object(fields) => self.object(fields, at),
        }
    }

    fn object(&mut self, fields: &Fields<'_>, at: Option<EventTime>) -> Flattened {
        if fields.iter().all(|(key, _)| is_plain(key)) {
            return fields.iter().try_for_each(|(key, tree)| self.field(key, tree, at));
        }
        if let Some(record) = records::point(fields) {
            return self.value(record, at);
        }
        let own_time = time::own(fields);
        let at = own_time.map(|(_, time)| time).or(at);
        let place = place::of_fields(fields);
        if let Some((place, _)) = place {
            self.place(place, at)?;
        }
        for (index, (key, tree)) in fields.iter().enumerate() {
            let is_time = own_time.is_some_and(|(time, _)| time == index);
            let is_place = place.is_some_and(|(_, parts)| parts.contains(&Some(index)));
            if !is_time && !is_place {
                self.field(key, tree, at)?;
            }
        }
        Ok(())
    }

    fn field(&mut self, key: &str, tree: &Tree<'_>, at: Option<EventTime>) -> Flattened {
        if let Tree::List(items) = tree
            && is_history(items)
        {
            return items.iter().try_for_each(|item| self.value(item, at));
        }
        let up = self.path.enter(key);
        self.value(tree, at)?;
        self.path.leave(up);
        Ok(())
    }

    fn list(&mut self, items: &[Tree<'_>], at: Option<EventTime>) -> Flattened {
        if let Some(place) = place::of_list(self.path.last(), items) {
            return self.place(place, at);
        }
        for (index, item) in items.iter().enumerate() {
            let up = self.path.enter_index(index);
            self.value(item, at)?;
            self.path.leave(up);
        }
        Ok(())
    }

    /// A result that is a list: of records, of rows with their own times, or of plain values.
    fn top_list(&mut self, items: &[Tree<'_>]) -> Flattened {
        if records::is_field_list(items) {
            items.iter().try_for_each(|item| self.field_record(item))
        } else if let Some(records) = records::senml(items, self.received_at) {
            records.iter().try_for_each(|record| {
                let up = self.path.enter(&record.name);
                self.value(record.value, record.at)?;
                self.path.leave(up);
                Ok(())
            })
        } else if items.iter().all(|item| matches!(item, Tree::Object(_))) {
            items.iter().try_for_each(|item| self.value(item, None))
        } else {
            self.list(items, None)
        }
    }

    /// A `{field, value, timestamp?}`.
    fn field_record(&mut self, record: &Tree<'_>) -> Flattened {
        let (Some(Tree::Text(field)), Some(value)) = (record.field("field"), record.field("value")) else { return Ok(()) };
        let at = record.field("timestamp").and_then(time::of);
        let up = self.path.enter(field);
        self.value(value, at)?;
        self.path.leave(up);
        Ok(())
    }

    fn place(&mut self, place: Place, at: Option<EventTime>) -> Flattened {
        let unnamed = self.path.is_empty();
        let up = if unnamed { self.path.enter("location") } else { self.path.here() };
        let done = match place.checked() {
            Ok(value) => self.measured(value, at),
            Err(detail) => self.rejected(detail),
        };
        self.path.leave(up);
        done
    }

    fn measured(&mut self, value: Value, at: Option<EventTime>) -> Flattened {
        match self.names.intern(self.path.name()) {
            Ok(field) => {
                self.decoded.measurements.push(Measurement { field, value, at });
                self.bounded()
            }
            Err(detail) => self.rejected(detail),
        }
    }

    fn rejected(&mut self, detail: String) -> Flattened {
        let field: FieldName = name::shortened(self.path.name()).into();
        self.decoded.rejected.push(Rejected { field, reason: Reason::BadValue, detail });
        self.bounded()
    }

    fn bounded(&self) -> Flattened {
        if self.decoded.measurements.len() + self.decoded.rejected.len() <= FIELDS_MAX {
            return Ok(());
        }
        Err(DecodeFailure {
            reason: Reason::TooManyFields,
            detail: format!(
                "the decoder gave more than {FIELDS_MAX} values for one uplink: return fewer fields or a shorter history"
            ),
        })
    }
}

/// Whether a key says nothing of the object beside it.
fn is_plain(key: &str) -> bool {
    !(records::is_key(key) || time::is_key(key) || place::is_key(key))
}

/// Whether a list holds objects that have times of their own, and nothing else.
fn is_history(items: &[Tree<'_>]) -> bool {
    !items.is_empty() && items.iter().all(|item| matches!(item, Tree::Object(fields) if time::own(fields).is_some()))
}

/// PostgreSQL's texts cannot hold U+0000.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests;
