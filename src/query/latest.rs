//! `GET /v1/latest`: the newest value of each field, from memory.
//!
//! ```json
//! {"devices":[{"device":"0004a30b001c0530",
//!              "fields":[{"field":"temperature","value":21.5,"unit":"°C","kind":"number","time":"2026-11-22T10:00:00Z"}]}]}
//! ```

use super::answer::Cell;
use super::database::Database;
use super::memory::{Latest, Memory};
use super::problem::Problem;
use super::zone::Rfc3339;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use dataflows::model::{DeviceId, TenantNo, Value};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Answer {
    devices: Vec<DeviceAnswer>,
}

#[derive(Serialize)]
struct DeviceAnswer {
    device: DeviceId,
    fields: Vec<FieldAnswer>,
}

#[derive(Serialize)]
struct FieldAnswer {
    field: String,
    value: Cell,
    unit: Option<String>,
    kind: &'static str,
    time: String,
}

/// Answers for these devices; the database is asked only about devices that the memory does not know.
///
/// Errors: a device that is unknown, and a memory or database that does not answer.
pub(super) async fn answer(
    memory: &impl Memory,
    database: &Database,
    tenant: TenantNo,
    devices: Vec<DeviceId>,
) -> Result<Response, Problem> {
    let mut answers = Vec::with_capacity(devices.len());
    for device in devices {
        let latest = memory.latest(tenant, device.clone()).await?;
        if latest.is_empty() {
            database.catalogue(tenant, &device).await?;
        }
        answers.push(DeviceAnswer { device, fields: fields(latest) });
    }
    let body = serde_json::to_string(&Answer { devices: answers }).expect("an answer has text keys only");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Of each field, whichever series it is in, the newest; at one time that of the series that began last.
fn fields(latest: Vec<Latest>) -> Vec<FieldAnswer> {
    let mut newest: BTreeMap<_, Latest> = BTreeMap::new();
    for one in latest {
        let order = |latest: &Latest| (latest.at, latest.series);
        match newest.get(&one.field) {
            Some(known) if order(known) > order(&one) => {}
            _ => drop(newest.insert(one.field.clone(), one)),
        }
    }
    newest.into_values().map(field).collect()
}

fn field(latest: Latest) -> FieldAnswer {
    let kind = latest.value.kind().as_str();
    let value = match latest.value {
        Value::Number(number) => Cell::Number(number),
        Value::Boolean(truth) => Cell::Boolean(truth),
        Value::Text(text) => Cell::Text(text.as_ref().into()),
        Value::Location { latitude, longitude, altitude } => Cell::Location { latitude, longitude, altitude },
    };
    let time = Rfc3339(latest.at, &TimeZone::UTC).to_string();
    FieldAnswer { field: latest.field.as_ref().into(), value, unit: latest.unit, kind, time }
}
