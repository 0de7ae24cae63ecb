//! What a decoder gives for one field.

use super::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The flat name of a field, such as `temperature` or `battery_level`.
pub type FieldName = Arc<str>;

/// A text that is short as a rule: up to 24 bytes take no memory of their own.
pub type ShortText = CompactString;

/// One value of one field.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Value {
    /// A finite number.
    Number(f64),
    /// A truth value, stored as 0 or 1.
    Boolean(bool),
    /// A text without U+0000.
    Text(Arc<str>),
    /// A place on Earth. Units: degrees (WGS 84), metres above the ellipsoid.
    Location {
        /// −90 to 90.
        latitude: f64,
        /// −180 to 180.
        longitude: f64,
        /// Absent where the device does not know it.
        altitude: Option<f64>,
    },
}

/// The type of a field's values; a change of it makes a new series.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ValueKind {
    /// Stored in `measurement`.
    Number,
    /// Stored in `measurement` as 0 or 1.
    Boolean,
    /// Stored in `measurement_text`.
    Text,
    /// Stored in `measurement_location`.
    Location,
}

impl ValueKind {
    /// The word that stands in the `series` table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Location => "location",
        }
    }

    /// Reads the word that stands in the `series` table.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Number, Self::Boolean, Self::Text, Self::Location].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl Value {
    /// Gives the kind.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Number(_) => ValueKind::Number,
            Self::Boolean(_) => ValueKind::Boolean,
            Self::Text(_) => ValueKind::Text,
            Self::Location { .. } => ValueKind::Location,
        }
    }
}

/// One value of one field at one event time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The field's flat name.
    pub field: FieldName,
    /// The value.
    pub value: Value,
    /// The decoder's own time, where it gives one; else the uplink's receive time counts.
    pub at: Option<EventTime>,
}
