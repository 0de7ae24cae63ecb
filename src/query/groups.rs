//! Puts the series of a device together to what an answer lists: one entry for each field, kind and unit.
//!
//! A change of kind or unit makes a new series, and so does a device that was taken out and came back. Series that
//! agree in all three are one line of time; values of different units never are.

use super::catalogue::CatalogueSeries;
use super::problem::Problem;
use super::tables::is_numeric;
use dataflows::model::{DeviceId, SeriesId, ValueKind};

/// An entry of the answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Group {
    pub(super) field: String,
    pub(super) kind: ValueKind,
    pub(super) unit: Option<String>,
    pub(super) series: Vec<SeriesId>,
}

/// Groups the series of these fields, or of all when none is named, in the order of `series`.
///
/// Errors: a field that the device does not have.
pub(super) fn groups(device: &DeviceId, series: &[CatalogueSeries], fields: &[String]) -> Result<Vec<Group>, Problem> {
    if let Some(field) = fields.iter().find(|field| series.iter().all(|s| s.field != **field)) {
        let known = known_fields(series);
        return Err(Problem::UnknownField { device: device.clone(), field: field.clone(), known });
    }
    let mut groups: Vec<Group> = Vec::new();
    for one in series.iter().filter(|s| fields.is_empty() || fields.contains(&s.field)) {
        let same = |group: &&mut Group| group.field == one.field && group.kind == one.kind && group.unit == one.unit;
        match groups.iter_mut().find(same) {
            Some(group) => group.series.push(one.series),
            None => {
                let (field, unit) = (one.field.clone(), one.unit.clone());
                groups.push(Group { field, kind: one.kind, unit, series: vec![one.series] });
            }
        }
    }
    Ok(groups)
}

/// Keeps the groups that have aggregates.
///
/// Errors: a field that was asked for by name and has none.
pub(super) fn numeric(groups: Vec<Group>, fields: &[String]) -> Result<Vec<Group>, Problem> {
    let is_numeric = |group: &Group| is_numeric(group.kind);
    let without = |field: &&String| !groups.iter().any(|group| group.field == **field && is_numeric(group));
    if let Some(field) = fields.iter().find(without) {
        let kind = groups.iter().find(|group| group.field == *field).map_or("no", |group| group.kind.as_str());
        return Err(Problem::NotNumeric { field: field.clone(), kind });
    }
    Ok(groups.into_iter().filter(is_numeric).collect())
}

/// Fields that a message lists.
const LISTED_MAX: usize = 20;

fn known_fields(series: &[CatalogueSeries]) -> String {
    let mut names: Vec<&str> = series.iter().map(|series| series.field.as_str()).collect();
    names.dedup();
    let more = names.len().saturating_sub(LISTED_MAX);
    names.truncate(LISTED_MAX);
    match (names.is_empty(), more) {
        (true, _) => "none yet".into(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(id: i64, field: &str, kind: ValueKind, unit: Option<&str>) -> CatalogueSeries {
        CatalogueSeries { series: SeriesId(id), field: field.into(), kind, unit: unit.map(Into::into) }
    }

    #[test]
    fn series_of_one_field_kind_and_unit_are_one_group() {
        let device = DeviceId::parse("pump-7").unwrap();
        let all = [
            series(1, "battery", ValueKind::Number, None),
            series(2, "temperature", ValueKind::Number, Some("°C")),
            series(3, "temperature", ValueKind::Number, Some("°F")),
            series(4, "temperature", ValueKind::Text, None),
            series(9, "temperature", ValueKind::Number, Some("°C")),
            series(5, "version", ValueKind::Text, None),
        ];
        let ids = |groups: Vec<Group>| groups.iter().map(|g| g.series.iter().map(|s| s.0).collect()).collect::<Vec<Vec<_>>>();
        let check = |fields: &[&str], expected: &[&[i64]], expected_numeric: Result<&[&[i64]], &str>| {
            let fields: Vec<String> = fields.iter().map(|&field| field.into()).collect();
            let got = groups(&device, &all, &fields).unwrap();
            assert_eq!(ids(got.clone()), expected, "{fields:?}");
            let got = numeric(got, &fields).map(ids).map_err(|e| e.to_string());
            match expected_numeric {
                Ok(expected) => assert_eq!(got.unwrap(), expected, "{fields:?}"),
                Err(expected) => assert!(got.unwrap_err().contains(expected), "{fields:?}"),
            }
        };
        check(&[], &[&[1], &[2, 9], &[3], &[4], &[5]], Ok(&[&[1], &[2, 9], &[3]]));
        check(&["temperature"], &[&[2, 9], &[3], &[4]], Ok(&[&[2, 9], &[3]]));
        check(&["version", "battery"], &[&[1], &[5]], Err("field `version` holds text values"));
        let error = groups(&device, &all, &["humidity".into()]).unwrap_err().to_string();
        assert_eq!(error, "device `pump-7` has no field `humidity`: it has battery, temperature, version");
        let error = groups(&device, &[], &["humidity".into()]).unwrap_err().to_string();
        assert_eq!(error, "device `pump-7` has no field `humidity`: it has none yet");
    }
}
