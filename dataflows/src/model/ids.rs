//! One newtype for every identity, so that none can stand in for another.

use super::ShortText;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A partition of the log: the unit of order, state, progress, checkpoint and ownership.
    Partition(u16)
}
number_id! {
    /// The position of a record in its partition, counted from 0.
    Offset(u64)
}
number_id! {
    /// A tenant, as the database numbers it.
    TenantNo(u32)
}
number_id! {
    /// A device template, as the database numbers it.
    TemplateNo(u32)
}
number_id! {
    /// A retention class, as the database numbers it.
    ClassNo(u16)
}
number_id! {
    /// A device, numbered once and never again.
    ///
    /// Numbers below 2^40 are given by the database's sequence, those from 2^40 by a partition
    /// that provisioned the device itself (see [`DeviceNo::provisioned`]).
    DeviceNo(u64)
}
number_id! {
    /// A field of one device, numbered by the dataflow in order of first appearance.
    FieldNo(u16)
}
number_id! {
    /// A series: a device number and a field number in one.
    SeriesId(i64)
}

impl Partition {
    /// Gives the partition of a device among `partitions`. It never changes for a device.
    ///
    /// Panics: when `partitions` is 0.
    pub fn of(device: &DeviceId, partitions: u16) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64(device.as_str().as_bytes());
        Self((hash % u64::from(partitions)) as u16)
    }
}

impl Offset {
    /// Gives the offset behind this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl DeviceNo {
    /// Numbers below this one belong to the database's sequence.
    pub const PROVISIONED: u64 = 1 << 40;
    /// Largest number that leaves room for a [`FieldNo`] in a [`SeriesId`].
    pub const MAX: u64 = (1 << 47) - 1;

    /// How many devices a partition can number itself.
    pub const PROVISIONED_PER_PARTITION: u32 = 1 << 24;

    /// Gives the number of the `nth` device that `partition` provisioned itself; none when it has
    /// provisioned all that it can number.
    pub fn provisioned(partition: Partition, nth: u32) -> Option<Self> {
        let number = || Self::PROVISIONED | (u64::from(partition.0) << 24) | u64::from(nth);
        (nth < Self::PROVISIONED_PER_PARTITION).then(|| Self(number()))
    }

    /// Tells which partition provisioned the device, and as its how manyth; none for a number that
    /// the database gave.
    pub fn provisioner(self) -> Option<(Partition, u32)> {
        let is_provisioned = (Self::PROVISIONED..2 * Self::PROVISIONED).contains(&self.0);
        let nth = (self.0 % u64::from(Self::PROVISIONED_PER_PARTITION)) as u32;
        is_provisioned.then_some((Partition((self.0 >> 24) as u16), nth))
    }
}

impl SeriesId {
    /// Joins a device and a field number.
    pub fn new(device: DeviceNo, field: FieldNo) -> Self {
        debug_assert!(device.0 <= DeviceNo::MAX, "device number {device} leaves no room for a field");
        Self(((device.0 << 16) | u64::from(field.0)) as i64)
    }

    /// Gives the device's half.
    pub fn device(self) -> DeviceNo {
        DeviceNo(self.0 as u64 >> 16)
    }

    /// Gives the field's half.
    pub fn field(self) -> FieldNo {
        FieldNo(self.0 as u16)
    }
}

/// The name by which the network calls a device: a DevEUI as 16 lower-case hex digits, or the
/// name that a sender without LoRaWAN gives it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceId(ShortText);

/// Why a text is no [`DeviceId`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeviceIdError {
    /// The text is empty.
    #[error("the device has no name: give its DevEUI (16 hex digits) or a name")]
    Empty,
    /// The text is longer than [`DeviceId::LEN_MAX`] bytes.
    #[error("the device name has {0} bytes, more than {max}: shorten it", max = DeviceId::LEN_MAX)]
    TooLong(usize),
    /// The text holds white space or a control character.
    #[error("the device name holds {0:?}: use letters, digits and punctuation")]
    Character(char),
    /// The text is a DevEUI as [`DeviceId::parse`] never gives it.
    #[error("the DevEUI is not in its canonical form: write it as 16 lower-case hex digits")]
    Spelling,
}

impl DeviceId {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Parses a DevEUI in any usual spelling (`0004A30B001C0530`, `00-04-a3-…`, `00:04:a3:…`) to its
    /// canonical form, and takes any other printable text as a name, letter case kept.
    ///
    /// Errors: an empty text, one over 128 bytes, or one with white space or control characters.
    pub fn parse(text: &str) -> Result<Self, DeviceIdError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(DeviceIdError::Empty);
        }
        if is_dev_eui(text) {
            let digits = text.chars().filter(char::is_ascii_hexdigit);
            return Ok(Self(digits.map(|digit| digit.to_ascii_lowercase()).collect()));
        }
        Self::canonical(text)
    }

    /// Takes a text that [`DeviceId::parse`] gave. Cost: no allocation up to 24 bytes, else one.
    ///
    /// Errors: `parse` would refuse it, or give another; a device under two names would be two devices.
    fn canonical(text: &str) -> Result<Self, DeviceIdError> {
        if text.is_empty() {
            return Err(DeviceIdError::Empty);
        }
        if is_dev_eui(text) && (text.len() != DEV_EUI_LEN || text.bytes().any(|byte| byte.is_ascii_uppercase())) {
            return Err(DeviceIdError::Spelling);
        }
        if text.len() > Self::LEN_MAX {
            return Err(DeviceIdError::TooLong(text.len()));
        }
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            Some(c) => Err(DeviceIdError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// Gives the canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hex digits of a DevEUI.
const DEV_EUI_LEN: usize = 16;

/// Whether a text is sixteen hex digits, bare or in pairs with `-` or `:` between.
fn is_dev_eui(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.len() {
        DEV_EUI_LEN => bytes.iter().all(u8::is_ascii_hexdigit),
        23 => {
            let separator = bytes[2];
            let pair = |p: &[u8]| p[..2].iter().all(u8::is_ascii_hexdigit) && p.get(2).is_none_or(|byte| *byte == separator);
            matches!(separator, b'-' | b':') && bytes.chunks(3).all(pair)
        }
        _ => false,
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    /// Errors: the text is none that [`DeviceId::parse`] gives: bytes from a disk are bytes from outside.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Canonical;
        impl Visitor<'_> for Canonical {
            type Value = DeviceId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the canonical name of a device")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DeviceId, E> {
                DeviceId::canonical(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Canonical)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a decoder's source or module: decoders are addressed by their content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecoderHash(pub [u8; 32]);

impl fmt::Display for DecoderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DecoderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_are_canonical_or_refused() {
        let check = |text: &str, expected: Result<&str, DeviceIdError>| {
            let got = DeviceId::parse(text);
            assert_eq!(got.as_ref().map(DeviceId::as_str), expected.as_ref().copied(), "{text:?}");
        };
        check("0004A30B001C0530", Ok("0004a30b001c0530"));
        check("00-04-A3-0B-00-1C-05-30", Ok("0004a30b001c0530"));
        check("00:04:a3:0b:00:1c:05:30", Ok("0004a30b001c0530"));
        check("00:04-a3:0b:00:1c:05:30", Ok("00:04-a3:0b:00:1c:05:30"));
        check("Pump-7", Ok("Pump-7"));
        check("", Err(DeviceIdError::Empty));
        check("  ", Err(DeviceIdError::Empty));
        check("a b", Err(DeviceIdError::Character(' ')));
        check("a\0b", Err(DeviceIdError::Character('\0')));
        check(&"x".repeat(129), Err(DeviceIdError::TooLong(129)));
    }

    #[test]
    fn only_what_parse_gives_is_read_back() {
        let check = |text: &str, expected: bool| {
            let read: Result<DeviceId, _> = postcard::from_bytes(&postcard::to_stdvec(text).unwrap());
            assert_eq!(read.as_ref().map(DeviceId::as_str).ok(), expected.then_some(text), "{text:?}");
        };
        check("0004a30b001c0530", true);
        check("Pump-7", true);
        check("00:04-a3:0b:00:1c:05:30", true);
        check("0004A30B001C0530", false);
        check("00-04-a3-0b-00-1c-05-30", false);
        check("", false);
        check(" pump", false);
        check("a b", false);
        check(&"x".repeat(129), false);
    }

    #[test]
    fn a_series_id_holds_both_halves() {
        let device = DeviceNo::provisioned(Partition(15), 77).unwrap();
        let series = SeriesId::new(device, FieldNo(9));
        assert_eq!((series.device(), series.field()), (device, FieldNo(9)));
        assert!(series.0 > 0);
    }

    #[test]
    fn a_provisioned_number_tells_its_partition_until_there_is_none_left() {
        let check = |partition: u16, nth: u32| {
            let number = DeviceNo::provisioned(Partition(partition), nth).unwrap();
            assert_eq!(number.provisioner(), Some((Partition(partition), nth)));
            assert!(number.0 <= DeviceNo::MAX);
        };
        check(0, 0);
        check(15, 77);
        check(u16::MAX, DeviceNo::PROVISIONED_PER_PARTITION - 1);
        assert_eq!(DeviceNo::provisioned(Partition(3), DeviceNo::PROVISIONED_PER_PARTITION), None);
        assert_eq!([1, DeviceNo::PROVISIONED - 1, DeviceNo::MAX].map(|no| DeviceNo(no).provisioner()), [None; 3]);
    }

    #[test]
    fn partitions_are_stable() {
        // These figures are on disk in every log: they must never change.
        let of = |text: &str| Partition::of(&DeviceId::parse(text).unwrap(), 16).0;
        assert_eq!([of("0004A30B001C0530"), of("0101010101010101"), of("pump-7")], [15, 4, 13]);
    }
}
