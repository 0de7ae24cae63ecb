//! Reads the webhooks of The Things Stack v3. Pure.
//!
//! The stack leaves out what is zero, so an absent `f_cnt` is 0. It gives no identity that is stable
//! over retries: copies are known by counter and frame.

use super::json::{self, Capped, Text};
use super::limits::{NAME_BYTES_MAX, RECEPTIONS_MAX};
use super::problem::Problem;
use super::shape::{Context, Parsed};
use super::{payload, time};
use dataflows::model::{DeviceId, Reception, Uplink};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(expecting = "a webhook of The Things Stack v3, an object")]
struct Envelope<'a> {
    #[serde(borrow)]
    end_device_ids: Option<EndDeviceIds<'a>>,
    #[serde(borrow)]
    received_at: Option<Text<'a>>,
    #[serde(borrow)]
    uplink_message: Option<UplinkMessage<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "end_device_ids, an object")]
struct EndDeviceIds<'a> {
    #[serde(borrow)]
    dev_eui: Option<Text<'a>>,
    #[serde(borrow)]
    device_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "uplink_message, an object")]
struct UplinkMessage<'a> {
    #[serde(borrow)]
    f_port: Option<&'a RawValue>,
    #[serde(borrow)]
    f_cnt: Option<&'a RawValue>,
    #[serde(borrow)]
    frm_payload: Option<Text<'a>>,
    #[serde(borrow)]
    decoded_payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rx_metadata: Capped<RxMetadata<'a>, RECEPTIONS_MAX>,
    #[serde(borrow)]
    received_at: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an element of rx_metadata, an object")]
struct RxMetadata<'a> {
    #[serde(borrow)]
    gateway_ids: Option<GatewayIds<'a>>,
    #[serde(borrow)]
    rssi: Option<&'a RawValue>,
    #[serde(borrow)]
    snr: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "gateway_ids, an object")]
struct GatewayIds<'a> {
    #[serde(borrow)]
    gateway_id: Option<Text<'a>>,
    #[serde(borrow)]
    eui: Option<Text<'a>>,
}

/// Parses one webhook. Every message without `uplink_message` (joins, downlinks, locations, service
/// data) is skipped.
///
/// Errors: no JSON, no webhook of the stack, or an uplink that cannot be used.
pub(super) fn parse(text: &str, context: &Context<'_>) -> Result<Parsed, Problem> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| Problem::from_json(&error))?;
    let Some(ids) = envelope.end_device_ids else {
        let what = "end_device_ids is missing: is this a webhook of The Things Stack v3? Other senders use /v1/uplinks";
        return Err(Problem::unusable("/end_device_ids", what));
    };
    let Some(message) = envelope.uplink_message else { return Ok(Parsed::Skipped) };
    let device = device(&ids)?;
    let received_at = match (&message.received_at, &envelope.received_at) {
        (Some(at), _) => time::rfc3339(at, "/uplink_message/received_at")?,
        (None, Some(at)) => time::rfc3339(at, "/received_at")?,
        (None, None) => context.now,
    };
    let fport = message.f_port.map(|raw| json::whole(raw, "/uplink_message/f_port", "port (0 to 255)")).transpose()?;
    let fcnt = message.f_cnt.map_or(Ok(0), |raw| json::whole(raw, "/uplink_message/f_cnt", "frame counter (32 bits)"))?;
    let frame = message
        .frm_payload
        .map_or_else(|| Ok(Vec::new()), |text| payload::base64(&text, "/uplink_message/frm_payload", context))?;
    let decoded = json::decoded(message.decoded_payload, &device, "/uplink_message/decoded_payload", context)?;
    Ok(Parsed::Uplink(Box::new(Uplink {
        tenant: context.tenant,
        device,
        received_at,
        fport,
        fcnt: Some(fcnt),
        message_id: None,
        frame,
        decoded,
        receptions: message.rx_metadata.kept.iter().filter_map(reception).collect(),
    })))
}

/// The DevEUI, or the name in the stack of a device that has none.
fn device(ids: &EndDeviceIds<'_>) -> Result<DeviceId, Problem> {
    match (ids.dev_eui.as_deref(), ids.device_id.as_deref()) {
        (Some(eui), _) if !eui.is_empty() => json::dev_eui(eui, "/end_device_ids/dev_eui"),
        (_, Some(name)) => json::device(name, "/end_device_ids/device_id"),
        _ => Err(Problem::unusable("/end_device_ids", "dev_eui and device_id are missing: give one of them")),
    }
}

fn reception(metadata: &RxMetadata<'_>) -> Option<Reception> {
    let ids = metadata.gateway_ids.as_ref()?;
    let gateway = ids.gateway_id.as_deref().or(ids.eui.as_deref())?;
    (gateway.len() <= NAME_BYTES_MAX).then(|| Reception {
        gateway: gateway.into(),
        rssi_dbm: json::figure(metadata.rssi),
        snr_db: json::figure(metadata.snr),
    })
}
