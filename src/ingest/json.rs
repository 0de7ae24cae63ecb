//! Reads JSON as senders write it: numbers as texts, texts as numbers, long lists, borrowed where it can be.

use super::limits::{DEPTH_MAX, NAME_BYTES_MAX};
use super::problem::{Problem, shorten};
use super::shape::Context;
use dataflows::model::{DeviceId, ShortText};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// A text, borrowed where it holds no escapes. Takes an integer too, as serial numbers come.
#[derive(Debug)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

/// A list of which the first `MAX` elements are kept; the others are read over, and counted.
#[derive(Debug)]
pub(super) struct Capped<T, const MAX: usize> {
    /// The first ones.
    pub(super) kept: Vec<T>,
    /// How many there were.
    pub(super) count: usize,
}

impl<T, const MAX: usize> Default for Capped<T, MAX> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CappedVisitor<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for CappedVisitor<T, MAX> {
            type Value = Capped<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Capped::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut capped = Capped::default();
                while capped.count < MAX {
                    match list.next_element()? {
                        Some(element) => capped.kept.push(element),
                        None => return Ok(capped),
                    }
                    capped.count += 1;
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    capped.count += 1;
                }
                Ok(capped)
            }
        }

        deserializer.deserialize_any(CappedVisitor(PhantomData))
    }
}

/// Gives the text of a number that is written bare or as a text.
fn number_text(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// Reads a whole number, written bare or as a text.
///
/// Errors: it is something else, or does not fit in `N`.
pub(super) fn whole<N: TryFrom<u64>>(raw: &RawValue, pointer: &'static str, what: &str) -> Result<N, Problem> {
    let parsed = number_text(raw).parse::<u64>().ok().and_then(|number| N::try_from(number).ok());
    parsed.ok_or_else(|| Problem::unusable(pointer, format!("{} is no {what}", shorten(raw.get()))))
}

/// Reads a number that is no reason to refuse an uplink: `None` where it is none.
pub(super) fn figure(raw: Option<&RawValue>) -> Option<f32> {
    raw.and_then(|raw| number_text(raw).parse::<f32>().ok()).filter(|figure| figure.is_finite())
}

/// Reads a device's DevEUI, in any usual spelling.
///
/// Errors: it is no DevEUI.
pub(super) fn dev_eui(text: &str, pointer: &'static str) -> Result<DeviceId, Problem> {
    let device = device(text, pointer)?;
    if device.as_str().len() == 16 && device.as_str().bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(device)
    } else {
        Err(Problem::unusable(pointer, format!("{:?} is no DevEUI: it has 16 hex digits", shorten(text))))
    }
}

/// Reads a device's name.
///
/// Errors: it is no name (see [`DeviceId::parse`]).
pub(super) fn device(text: &str, pointer: &'static str) -> Result<DeviceId, Problem> {
    DeviceId::parse(text).map_err(|error| Problem::unusable(pointer, error.to_string()))
}

/// Checks a text that is kept as it is.
///
/// Errors: it is longer than 128 bytes.
pub(super) fn name(text: &str, pointer: &'static str) -> Result<ShortText, Problem> {
    match text.len() {
        bytes if bytes > NAME_BYTES_MAX => Err(Problem::TooLong { pointer, bytes, limit: NAME_BYTES_MAX }),
        _ => Ok(text.into()),
    }
}

/// Gives the fields that came decoded, where the device's template does not decode by itself.
///
/// Errors: they are kept, and too long, too deep, or neither an object nor a list.
pub(super) fn decoded(
    raw: Option<&RawValue>,
    device: &DeviceId,
    pointer: &'static str,
    context: &Context<'_>,
) -> Result<Option<String>, Problem> {
    let Some(text) = raw.map(RawValue::get).filter(|_| !(context.decodes)(device)) else { return Ok(None) };
    let limit = context.limits.decoded_bytes_max;
    if text.len() > limit {
        return Err(Problem::TooLong { pointer, bytes: text.len(), limit });
    }
    if !text.starts_with(['{', '[']) {
        return Err(Problem::unusable(pointer, "decoded fields are an object, or a list of {field, value, timestamp}"));
    }
    if depth(text) > DEPTH_MAX {
        return Err(Problem::unusable(pointer, format!("decoded fields are nested deeper than {DEPTH_MAX}: flatten them")));
    }
    Ok(Some(text.to_owned()))
}

/// Counts how deep a well-formed JSON text nests.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth -= 1,
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        let check = |json: &str, expected: usize| assert_eq!(depth(json), expected, "{json}");
        check("1", 0);
        check("{}", 1);
        check(r#"{"a":[1,{"b":2}],"c":[]}"#, 3);
        check(r#"{"a":"[[[[","b\"[":"\\"}"#, 1);
    }

    #[test]
    fn whole_numbers_come_bare_or_as_texts() {
        let check = |json: &str, expected: Option<u8>| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            assert_eq!(whole::<u8>(&raw, "/f_port", "port").ok(), expected, "{json}");
        };
        check("0", Some(0));
        check("255", Some(255));
        check("\"85\"", Some(85));
        check("256", None);
        check("-1", None);
        check("1.5", None);
        check("\"x\"", None);
        check("{}", None);
    }

    #[test]
    fn figures_are_finite_or_absent() {
        let check = |json: &str, expected: Option<f32>| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            assert_eq!(figure(Some(&raw)), expected, "{json}");
        };
        check("-36", Some(-36.0));
        check("\"10.5\"", Some(10.5));
        check("1e300", None);
        check("\"NaN\"", None);
        check("null", None);
        check("[1]", None);
    }
}
