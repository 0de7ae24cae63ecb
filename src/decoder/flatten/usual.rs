//! Reads a result that has the fields of an earlier one without making a tree of it.
//!
//! Invariant: what it gives is what [`flatten`](super::flatten) would. So it knows only objects of numbers and
//! truth values whose keys are the names of their fields, and leaves every other result alone.

use super::is_plain;
use crate::decoder::tree::Tree;
use dataflows::decode::Decoded;
use dataflows::model::{FieldName, Measurement, Value};

/// Lists of fields that are remembered: most decoders have one for each of a few kinds of messages.
const LISTS_MAX: usize = 4;

/// The fields that a decoder has given lately, in their order.
///
/// State: at most [`LISTS_MAX`] lists, each as long as a result may be.
#[derive(Default)]
pub(in crate::decoder) struct Usual {
    lists: Vec<Vec<FieldName>>,
    /// The list that makes room for the next one.
    oldest: usize,
}

impl Usual {
    /// Reads a result in its binary form. False: it is not like an earlier one, and `decoded` is as it was.
    pub(in crate::decoder) fn read(&self, result: &[u8], decoded: &mut Decoded) -> bool {
        let measurements = &mut decoded.measurements;
        let had = measurements.len();
        self.lists.iter().any(|fields| {
            let is_read = read(fields, result, measurements).is_some();
            if !is_read {
                measurements.truncate(had);
            }
            is_read
        })
    }

    /// Takes notice of the fields of a result that was flattened to `decoded`.
    pub(in crate::decoder) fn learn(&mut self, tree: &Tree<'_>, decoded: &Decoded) {
        let Tree::Object(fields) = tree else { return };
        let is_usual = |key: &str, value: &Tree<'_>, given: &Measurement| {
            matches!(value, Tree::Number(_) | Tree::Boolean(_)) && is_plain(key) && &*given.field == key
        };
        let measurements = &decoded.measurements;
        let mut pairs = fields.iter().zip(measurements);
        if fields.len() != measurements.len() || !pairs.all(|((key, value), given)| is_usual(key, value, given)) {
            return;
        }
        let list = measurements.iter().map(|measurement| measurement.field.clone()).collect();
        if self.lists.len() < LISTS_MAX {
            self.lists.push(list);
        } else {
            self.lists[self.oldest] = list;
            self.oldest = (self.oldest + 1) % LISTS_MAX;
        }
    }
}

/// Reads an object of exactly these fields.
fn read(fields: &[FieldName], result: &[u8], measurements: &mut Vec<Measurement>) -> Option<()> {
    let mut rest = result.strip_prefix(&[6])?;
    if count(&mut rest)? != fields.len() {
        return None;
    }
    for field in fields {
        let len = count(&mut rest)?;
        let (key, value) = rest.split_at_checked(len)?;
        if key != field.as_bytes() {
            return None;
        }
        let (tag, behind) = value.split_first()?;
        rest = behind;
        let value = match tag {
            1 => Value::Boolean(false),
            2 => Value::Boolean(true),
            3 => Value::Number(Some(f64::from_le_bytes(take(&mut rest)?)).filter(|number| number.is_finite())?),
            _ => return None,
        };
        measurements.push(Measurement { field: field.clone(), value, at: None });
    }
    rest.is_empty().then_some(())
}

fn count(rest: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(take(rest)?) as usize)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*head)
}
