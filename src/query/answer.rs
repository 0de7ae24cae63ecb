//! The answer to a query, and its JSON form.
//!
//! ```json
//! {"device":"0004a30b001c0530","zone":"Europe/Paris","step":"1h","from":"…","to":"…","columns":["time","mean"],
//!  "series":[{"field":"temperature","unit":"°C","kind":"number",
//!             "points":[["2026-11-22T10:00:00+01:00",21.5],["2026-11-22T11:00:00+01:00",21.75]],
//!             "open":["2026-11-22T11:00:00+01:00"]}]}
//! ```
//!
//! A point is its time and one value for each further column. `open` lists the buckets that may still change,
//! `approximate` stands where hours of another alignment had to be assigned whole, and `truncated` with
//! `next_from` where the limit cut the answer.

use super::zone::Rfc3339;
use dataflows::model::{DeviceId, EventTime, ValueKind};
use jiff::tz::TimeZone;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use smallvec::SmallVec;

/// One value of a point.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Cell {
    /// Nothing is known.
    Null,
    Number(f64),
    Count(u64),
    Boolean(bool),
    Text(String),
    /// Units: degrees, metres.
    Location {
        latitude: f64,
        longitude: f64,
        altitude: Option<f64>,
    },
}

/// A time and its values, one for each column.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct AnswerPoint {
    pub(super) at: EventTime,
    pub(super) values: SmallVec<[Cell; 1]>,
    /// Whether the bucket may still change.
    pub(super) open: bool,
}

/// The points of one field in one unit.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct AnswerSeries {
    pub(super) field: String,
    pub(super) unit: Option<String>,
    pub(super) kind: ValueKind,
    pub(super) points: Vec<AnswerPoint>,
    /// Whether hours that span an edge of the buckets were assigned whole to the earlier one.
    pub(super) approximate: bool,
}

/// All that is answered to one request.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    pub(super) device: DeviceId,
    pub(super) zone: TimeZone,
    pub(super) step: String,
    pub(super) from: EventTime,
    pub(super) to: EventTime,
    /// Names of the values of a point.
    pub(super) columns: Vec<&'static str>,
    /// Whether steps made the points, which then may be open.
    pub(super) bucketed: bool,
    pub(super) series: Vec<AnswerSeries>,
    /// Where to go on, when the limit cut the answer.
    pub(super) next_from: Option<EventTime>,
}

impl Answer {
    /// Gives the name of the zone.
    pub(super) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Gives the JSON text.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("an answer has text keys only")
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = |at: EventTime| Rfc3339(at, &self.zone).to_string();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("device", self.device.as_str())?;
        map.serialize_entry("zone", self.zone_name())?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("from", &time(self.from))?;
        map.serialize_entry("to", &time(self.to))?;
        let columns: Vec<_> = std::iter::once("time").chain(self.columns.iter().copied()).collect();
        map.serialize_entry("columns", &columns)?;
        let series: Vec<_> = self.series.iter().map(|series| Zoned(series, &self.zone)).collect();
        map.serialize_entry("series", &series)?;
        if let Some(next_from) = self.next_from {
            map.serialize_entry("truncated", &true)?;
            map.serialize_entry("next_from", &time(next_from))?;
        }
        map.end()
    }
}

/// Something whose times are written in a zone.
struct Zoned<'a, T: ?Sized>(&'a T, &'a TimeZone);

impl Serialize for Zoned<'_, AnswerSeries> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(series, zone) = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("field", &series.field)?;
        map.serialize_entry("unit", &series.unit)?;
        map.serialize_entry("kind", series.kind.as_str())?;
        map.serialize_entry("points", &Zoned(series.points.as_slice(), zone))?;
        let open: Vec<_> = series.points.iter().filter(|p| p.open).map(|p| Rfc3339(p.at, zone).to_string()).collect();
        if !open.is_empty() {
            map.serialize_entry("open", &open)?;
        }
        if series.approximate {
            map.serialize_entry("approximate", &true)?;
        }
        map.end()
    }
}

impl Serialize for Zoned<'_, [AnswerPoint]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|point| Zoned(point, self.1)))
    }
}

impl Serialize for Zoned<'_, AnswerPoint> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(Some(1 + self.0.values.len()))?;
        row.serialize_element(&format_args!("{}", Rfc3339(self.0.at, self.1)))?;
        self.0.values.iter().try_for_each(|value| row.serialize_element(value))?;
        row.end()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Boolean(truth) => serializer.serialize_bool(*truth),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Location { latitude, longitude, altitude } => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("latitude", latitude)?;
                map.serialize_entry("longitude", longitude)?;
                altitude.iter().try_for_each(|altitude| map.serialize_entry("altitude", altitude))?;
                map.end()
            }
        }
    }
}
