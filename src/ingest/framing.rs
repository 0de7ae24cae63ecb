//! Cuts a body into items, so that a bad one does not spoil those beside it. Pure.

use super::problem::Problem;
use serde::de::{self, DeserializeSeed, IgnoredAny};
use serde_json::value::RawValue;
use std::fmt;

/// How the sender says that the body is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// One JSON text, or, where the first line is a whole object, one per line.
    Detect,
    /// One JSON text per line (`application/x-ndjson`).
    Lines,
}

/// What stands in a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Items<'a> {
    /// One object, not looked at yet.
    Single(&'a str),
    /// The elements of an array, each well-formed; or lines, not looked at yet.
    Batch(Vec<&'a str>),
}

/// Cuts a body into at most `items_max` items.
///
/// Errors: the body is no UTF-8, a broken array, or a longer batch.
pub fn split(body: &[u8], framing: Framing, items_max: usize) -> Result<Items<'_>, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| Problem::NotUtf8(error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if framing == Framing::Lines || is_lines(text) {
        within(lines(text).count(), items_max)?;
        return Ok(Items::Batch(lines(text).collect()));
    }
    if !text.trim_start().starts_with('[') {
        return Ok(Items::Single(text));
    }
    let mut array = Array { kept: Vec::new(), count: 0 };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    ArraySeed { array: &mut array, items_max }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| Problem::from_json(&error))?;
    within(array.count, items_max)?;
    Ok(Items::Batch(array.kept))
}

fn within(count: usize, limit: usize) -> Result<(), Problem> {
    if count > limit { Err(Problem::TooManyItems { count, limit }) } else { Ok(()) }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty())
}

/// Tells whether the first line is a whole object and something follows it.
fn is_lines(text: &str) -> bool {
    let Some((first, rest)) = text.trim_start().split_once('\n') else { return false };
    let first = first.trim_end();
    first.starts_with('{')
        && first.ends_with('}')
        && !rest.trim_start().is_empty()
        && serde_json::from_str::<IgnoredAny>(first).is_ok()
}

/// The elements of an array: the first ones are kept, all are counted.
struct Array<'a> {
    kept: Vec<&'a str>,
    count: usize,
}

struct ArraySeed<'s, 'a> {
    array: &'s mut Array<'a>,
    items_max: usize,
}

impl<'de> DeserializeSeed<'de> for ArraySeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> de::Visitor<'de> for ArraySeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of uplinks")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while self.array.count < self.items_max {
            match list.next_element::<&RawValue>()? {
                Some(item) => self.array.kept.push(item.get()),
                None => return Ok(()),
            }
            self.array.count += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            self.array.count += 1;
        }
        Ok(())
    }
}
