//! The result of a decoder as a tree, read from the binary form of weir's guests or from JSON.
//!
//! The binary form is that of `decoders/js-engine/src/encode.rs`. The tree borrows its texts and
//! keeps the order of fields. Nothing deeper than [`DEPTH_MAX`] gets in, so that walking it cannot
//! run out of stack.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Deepest nesting of a result.
pub(super) const DEPTH_MAX: u32 = 32;

/// Room made at once for what a list or object claims to hold.
const ROOM: usize = 32;

/// One value with all that it holds.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Tree<'a> {
    /// `null`, `undefined`, a function: no value.
    Nothing,
    Boolean(bool),
    Number(f64),
    /// Unit: milliseconds since the Unix epoch; NaN for an invalid date.
    Date(f64),
    Text(Cow<'a, str>),
    List(Vec<Tree<'a>>),
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

/// Why bytes are no tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum TreeError {
    /// They end too early, or hold an unknown tag.
    #[error("the decoder's binary result is malformed at byte {0}: build it with weir's decoder kit")]
    Malformed(usize),
    /// They nest too deeply.
    #[error("the result nests deeper than {DEPTH_MAX} levels: return plain fields")]
    Depth,
}

impl<'a> Tree<'a> {
    /// Reads the binary form. Texts that are not UTF-8 get replacement characters.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, TreeError> {
        let mut reader = Reader { bytes, at: 0 };
        let tree = reader.value(0)?;
        if reader.at == bytes.len() { Ok(tree) } else { Err(TreeError::Malformed(reader.at)) }
    }

    /// Reads JSON.
    pub(super) fn from_json(json: &'a str) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let tree = Level(0).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(tree)
    }

    /// Gives the value of a field of an object.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u32) -> Result<Tree<'a>, TreeError> {
        if depth > DEPTH_MAX {
            return Err(TreeError::Depth);
        }
        let start = self.at;
        Ok(match self.take::<1>()? {
            [0] => Tree::Nothing,
            [1] => Tree::Boolean(false),
            [2] => Tree::Boolean(true),
            [3] => Tree::Number(f64::from_le_bytes(self.take()?)),
            [4] => Tree::Text(self.text()?),
            [5] => {
                let count = self.count()?;
                let mut items = Vec::with_capacity(count.min(ROOM));
                for _ in 0..count {
                    items.push(self.value(depth + 1)?);
                }
                Tree::List(items)
            }
            [6] => {
                let count = self.count()?;
                let mut fields = Vec::with_capacity(count.min(ROOM));
                for _ in 0..count {
                    fields.push((self.text()?, self.value(depth + 1)?));
                }
                Tree::Object(fields)
            }
            [7] => Tree::Date(f64::from_le_bytes(self.take()?)),
            _ => return Err(TreeError::Malformed(start)),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], TreeError> {
        let bytes = self.bytes[self.at..].first_chunk().ok_or(TreeError::Malformed(self.at))?;
        self.at += N;
        Ok(*bytes)
    }

    /// Reads a count of things of at least a byte each, so that it cannot ask for more than there is.
    fn count(&mut self) -> Result<usize, TreeError> {
        let at = self.at;
        let count = u32::from_le_bytes(self.take()?) as usize;
        if count <= self.bytes.len() - self.at { Ok(count) } else { Err(TreeError::Malformed(at)) }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, TreeError> {
        let len = self.count()?;
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
    }
}

/// Deserializes a tree at a depth.
struct Level(u32);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Tree<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree<'de>, D::Error> {
        if self.0 > DEPTH_MAX {
            return Err(de::Error::custom(TreeError::Depth));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree<'de>, E> {
        Ok(Tree::Nothing)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Tree<'de>, E> {
        Ok(Tree::Boolean(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree<'de>, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree<'de>, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree<'de>, E> {
        Ok(Tree::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Owned(text.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Level(self.0 + 1))? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            fields.push((key, entries.next_value_seed(Level(self.0 + 1))?));
        }
        Ok(Tree::Object(fields))
    }
}

/// Deserializes a key, borrowed where it holds no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.into()))
    }
}

/// Prints the tree as a reader of decoders knows it: numbers that JSON cannot carry and dates as
/// texts.
impl serde::Serialize for Tree<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_unit(),
            Self::Boolean(truth) => serializer.serialize_bool(*truth),
            Self::Number(number) if !number.is_finite() => serializer.collect_str(number),
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => serializer.serialize_i64(*number as i64),
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Date(ms) => match super::flatten::iso(*ms) {
                Some(text) => serializer.serialize_str(&text),
                None => serializer.serialize_unit(),
            },
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(fields) => serializer.collect_map(fields.iter().map(|(key, value)| (key, value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binary_and_json_give_the_same_tree() {
        let check = |bytes: &[u8], json: &str| {
            assert_eq!(Tree::read(bytes).unwrap(), Tree::from_json(json).unwrap(), "{json}");
        };
        check(&[0], "null");
        check(&[2], "true");
        check(b"\x03\0\0\0\0\0\0\xf8\x3f", "1.5");
        check(b"\x04\x02\0\0\0hi", r#""hi""#);
        check(b"\x05\x02\0\0\0\x01\x02", "[false,true]");
        check(b"\x06\x01\0\0\0\x01\0\0\0a\x00", r#"{"a":null}"#);
    }

    #[test]
    fn malformed_bytes_are_refused_with_the_place() {
        let check = |bytes: &[u8], expected| assert_eq!(Tree::read(bytes), Err(expected), "{bytes:?}");
        check(&[], TreeError::Malformed(0));
        check(&[9], TreeError::Malformed(0));
        check(&[0, 0], TreeError::Malformed(1));
        check(b"\x05\xff\xff\xff\xff", TreeError::Malformed(1));
        check(&[5, 1, 0, 0, 0].repeat(40), TreeError::Depth);
    }

    #[test]
    fn deep_json_is_refused() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Tree::from_json(&nested(32)).is_ok());
        assert!(Tree::from_json(&nested(34)).unwrap_err().to_string().contains("deeper"));
        assert!(Tree::from_json(&nested(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tree::read(&bytes);
        }
    }
}
