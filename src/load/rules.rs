//! Owns what the daemon was told to store: the policy of the tenant and the fields of its templates.

use super::kinds::{Field, Kind};
use dataflows::model::{HOUR_US, MINUTE_US};
use std::collections::HashMap;

/// What is stored of one field.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct FieldRule {
    /// A value is unchanged while it is no more than this from the last stored one. 0: while it is the same.
    pub deadband: f64,
    /// Longest silence of an unchanged series; 0 stores only changes. Unit: microseconds.
    pub heartbeat_us: i64,
}

/// What is stored of a fleet.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How far behind the newest event time of its series a measurement is put in order. Unit: microseconds.
    pub lateness_horizon_us: i64,
    /// The rule of fields without one of their own.
    pub default: FieldRule,
    /// The rules of fields, by template and field name.
    pub fields: HashMap<(String, String), FieldRule>,
}

impl Default for Rules {
    /// The defaults of a tenant: a horizon of ten minutes, a heartbeat of an hour, no deadbands.
    fn default() -> Self {
        let default = FieldRule { deadband: 0.0, heartbeat_us: HOUR_US };
        Self { lateness_horizon_us: 10 * MINUTE_US, default, fields: HashMap::new() }
    }
}

impl Rules {
    /// Gives the rule of a field.
    pub fn of(&self, kind: Kind, field: &Field) -> FieldRule {
        let key = (kind.spec().template.to_owned(), field.name.to_owned());
        self.fields.get(&key).copied().unwrap_or(self.default)
    }
}
