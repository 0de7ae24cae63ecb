//! Owns the forms in which decoders give a place on Earth.

use super::Tree;
use dataflows::model::Value;
use std::borrow::Cow;

/// A place as it was given, not yet checked. Units: degrees, metres.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Place {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) altitude: Option<f64>,
}

impl Place {
    /// Gives the value, or says what is wrong with it.
    pub(super) fn checked(self) -> Result<Value, String> {
        let Self { latitude, longitude, altitude } = self;
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            Ok(Value::Location { latitude, longitude, altitude: altitude.filter(|metres| metres.is_finite()) })
        } else {
            Err(format!(
                "there is no place at latitude {latitude}, longitude {longitude}: leave it out while the device has no fix"
            ))
        }
    }
}

const LATITUDE: [&str; 2] = ["latitude", "lat"];
const LONGITUDE: [&str; 4] = ["longitude", "lng", "lon", "long"];

/// Whether there may be a place where there is a field of that name.
pub(super) fn is_key(key: &str) -> bool {
    LATITUDE.contains(&key)
}

/// Finds latitude and longitude beside each other, and the altitude if it is there, with their
/// indices.
pub(super) fn of_fields(fields: &[(Cow<'_, str>, Tree<'_>)]) -> Option<(Place, [Option<usize>; 3])> {
    let find = |names: &[&str]| {
        fields.iter().enumerate().find_map(|(index, (key, tree))| match tree {
            Tree::Number(number) if names.contains(&key.as_ref()) => Some((index, *number)),
            _ => None,
        })
    };
    let (latitude_at, latitude) = find(&LATITUDE)?;
    let (longitude_at, longitude) = find(&LONGITUDE)?;
    let altitude = find(&["altitude", "alt"]);
    let place = Place { latitude, longitude, altitude: altitude.map(|(_, metres)| metres) };
    Some((place, [Some(latitude_at), Some(longitude_at), altitude.map(|(index, _)| index)]))
}

/// Reads `(latitude,longitude)`.
pub(super) fn of_text(text: &str) -> Option<Place> {
    let (latitude, longitude) = text.trim().strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some(Place { latitude: latitude.trim().parse().ok()?, longitude: longitude.trim().parse().ok()?, altitude: None })
}

/// Reads `[longitude, latitude]` and `[longitude, latitude, altitude]`, the order of GeoJSON and of
/// ThingPark's points, under the names that they have there.
pub(super) fn of_list(name: &str, items: &[Tree<'_>]) -> Option<Place> {
    if !matches!(name, "coordinates" | "GPS" | "gps" | "position" | "location") {
        return None;
    }
    match *items {
        [Tree::Number(longitude), Tree::Number(latitude)] => Some(Place { latitude, longitude, altitude: None }),
        [Tree::Number(longitude), Tree::Number(latitude), Tree::Number(metres)] => {
            Some(Place { latitude, longitude, altitude: Some(metres) })
        }
        _ => None,
    }
}
