//! Reads weir's own form, for senders that are free to choose. Pure.
//!
//! `{"device", "time"?, "fport"?, "fcnt"?, "id"?}` with `payload_hex` or `payload_base64`, with `fields`
//! (an object, or a list of `{field, value, timestamp?}`), or with both.

use super::json::{self, Capped, Text};
use super::problem::Problem;
use super::shape::{Context, Parsed};
use super::{payload, time};
use dataflows::model::Uplink;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Fields of a list that are looked at here: a longer list is refused.
const FIELDS_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(expecting = "an uplink, an object")]
struct Envelope<'a> {
    #[serde(borrow)]
    device: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    fport: Option<&'a RawValue>,
    #[serde(borrow)]
    fcnt: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    payload_hex: Option<Text<'a>>,
    #[serde(borrow)]
    payload_base64: Option<Text<'a>>,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an element of fields, an object with field and value")]
struct Field<'a> {
    #[serde(borrow)]
    field: Text<'a>,
    /// Anything but absent: a null is a sensor that has nothing to say.
    #[serde(borrow, rename = "value")]
    _value: &'a RawValue,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// Parses one uplink.
///
/// Errors: no JSON, or an uplink that cannot be used.
pub(super) fn parse(text: &str, context: &Context<'_>) -> Result<Parsed, Problem> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| Problem::from_json(&error))?;
    let device = json::device(envelope.device.as_deref().unwrap_or_default(), "/device")?;
    let received_at = envelope.time.map_or(Ok(context.now), |raw| time::any(raw, "/time"))?;
    let fport = envelope.fport.map(|raw| json::whole(raw, "/fport", "port (0 to 255)")).transpose()?;
    let fcnt = envelope.fcnt.map(|raw| json::whole(raw, "/fcnt", "frame counter (32 bits)")).transpose()?;
    let message_id = envelope.id.as_deref().map(|id| json::name(id, "/id")).transpose()?;
    let frame = match (envelope.payload_hex.as_deref(), envelope.payload_base64.as_deref()) {
        (Some(_), Some(_)) => {
            return Err(Problem::unusable("/payload_hex", "payload_hex and payload_base64 are both given: give one"));
        }
        (Some(text), None) => payload::hex(text, "/payload_hex", context)?,
        (None, Some(text)) => payload::base64(text, "/payload_base64", context)?,
        (None, None) if envelope.fields.is_some() => Vec::new(),
        (None, None) => {
            return Err(Problem::unusable("", "there is nothing in it: give payload_hex, payload_base64 or fields"));
        }
    };
    let decoded = json::decoded(envelope.fields, &device, "/fields", context)?;
    if let Some(list) = decoded.as_deref().filter(|text| text.starts_with('[')) {
        check_list(list)?;
    }
    Ok(Parsed::Uplink(Box::new(Uplink {
        tenant: context.tenant,
        device,
        received_at,
        fport,
        fcnt,
        message_id,
        frame,
        decoded,
        receptions: Vec::new(),
    })))
}

/// Checks that each element names its field, its value and, if any, a time that can be read.
fn check_list(text: &str) -> Result<(), Problem> {
    let list: Capped<Field<'_>, FIELDS_MAX> = serde_json::from_str(text).map_err(|error| Problem::from_json(&error))?;
    if list.count > FIELDS_MAX {
        let what = format!("the list has {} elements, more than {FIELDS_MAX}: send several uplinks", list.count);
        return Err(Problem::unusable("/fields", what));
    }
    list.kept.iter().try_for_each(|element| {
        if element.field.is_empty() {
            return Err(Problem::unusable("/fields", "an element has an empty `field`: name it"));
        }
        element.timestamp.map_or(Ok(()), |raw| time::any(raw, "/fields").map(|_| ()))
    })
}
