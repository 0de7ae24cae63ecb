//! The `fields` column of a template: what a user says of a field, in JSON.

use dataflows::model::{FieldName, FieldSpec, SECOND_US};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Why a template's fields cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FieldsError {
    /// Not of the form `{"field": {"unit": …, "deadband": …, "heartbeat_s": …}}`.
    #[error(
        "the fields are not of the form {{\"temperature\": {{\"unit\": \"°C\", \"deadband\": 0.1, \"heartbeat_s\": 3600}}}}: {0}"
    )]
    Form(#[from] serde_json::Error),
    /// A negative or infinite deadband.
    #[error("field {field}: the deadband is {deadband}; give a number that is 0 or more")]
    Deadband {
        /// Which field.
        field: String,
        /// What was given.
        deadband: f64,
    },
    /// A negative heartbeat.
    #[error("field {field}: the heartbeat is {heartbeat_s} s; give 0 (none) or more")]
    Heartbeat {
        /// Which field.
        field: String,
        /// What was given.
        heartbeat_s: f64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    unit: Option<String>,
    #[serde(default)]
    deadband: f64,
    heartbeat_s: Option<f64>,
}

/// Reads the JSON of a template's fields.
///
/// Errors: another form, unknown keys, or figures that make no sense.
pub fn fields_from_json(json: &serde_json::Value) -> Result<BTreeMap<FieldName, FieldSpec>, FieldsError> {
    let specs: BTreeMap<String, Spec> = Deserialize::deserialize(json)?;
    specs
        .into_iter()
        .map(|(field, spec)| {
            if !(spec.deadband.is_finite() && spec.deadband >= 0.0) {
                return Err(FieldsError::Deadband { field, deadband: spec.deadband });
            }
            if let Some(heartbeat_s) = spec.heartbeat_s.filter(|s| !(s.is_finite() && *s >= 0.0)) {
                return Err(FieldsError::Heartbeat { field, heartbeat_s });
            }
            let heartbeat_us = spec.heartbeat_s.map(|s| (s * SECOND_US as f64) as i64);
            // 0.0 + x turns -0.0 into 0.0, so that equal deadbands have equal bits.
            let deadband_bits = (0.0 + spec.deadband).to_bits();
            Ok((field.into(), FieldSpec { unit: spec.unit, deadband_bits, heartbeat_us }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_read_or_refused() {
        let fields = fields_from_json(&json!({"t": {"unit": "°C", "deadband": 0.5, "heartbeat_s": 60}, "u": {}})).unwrap();
        assert_eq!(
            (fields["t"].unit.as_deref(), fields["t"].deadband(), fields["t"].heartbeat_us),
            (Some("°C"), 0.5, Some(60_000_000))
        );
        assert_eq!(fields["u"], FieldSpec::default());
        for wrong in [json!({"t": {"deadband": -1}}), json!({"t": {"heartbeat_s": -1}}), json!({"t": {"dead": 1}}), json!([1])] {
            assert!(fields_from_json(&wrong).is_err(), "{wrong}");
        }
    }
}
