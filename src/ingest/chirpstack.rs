//! Reads the events of ChirpStack v4 as JSON. Pure.
//!
//! `time` may be the clock of a gateway, which may lie: the network server's own time is preferred
//! where it stands beside it. What is zero may be left out, so an absent `fCnt` is 0.

use super::json::{self, Capped, Text};
use super::limits::{NAME_BYTES_MAX, RECEPTIONS_MAX};
use super::problem::Problem;
use super::shape::{Context, Parsed};
use super::{payload, time};
use dataflows::model::{EventTime, Reception, Uplink};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What the query of ChirpStack's request says that the body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// `event=up`.
    Up,
    /// Any other event: none of them carries an uplink.
    Other,
}

impl Event {
    /// Reads the query of a request, `None` where it names no event.
    pub fn of_query(query: &str) -> Option<Self> {
        let event = query.split('&').find_map(|pair| pair.strip_prefix("event="))?;
        Some(if event == "up" { Self::Up } else { Self::Other })
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an event of ChirpStack v4, an object")]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    deduplication_id: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    #[serde(borrow)]
    device_info: Option<DeviceInfo<'a>>,
    #[serde(borrow)]
    f_port: Option<&'a RawValue>,
    #[serde(borrow)]
    f_cnt: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    rx_info: Option<Capped<RxInfo<'a>, RECEPTIONS_MAX>>,
}

#[derive(Deserialize)]
#[serde(expecting = "deviceInfo, an object")]
#[serde(rename_all = "camelCase")]
struct DeviceInfo<'a> {
    #[serde(borrow)]
    dev_eui: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an element of rxInfo, an object")]
#[serde(rename_all = "camelCase")]
struct RxInfo<'a> {
    #[serde(borrow)]
    gateway_id: Option<Text<'a>>,
    #[serde(borrow)]
    ns_time: Option<Text<'a>>,
    #[serde(borrow)]
    rssi: Option<&'a RawValue>,
    #[serde(borrow)]
    snr: Option<&'a RawValue>,
}

/// Parses one event. `event` says what it is; without it, whatever has a port, a counter, data or
/// receptions is an uplink, and every other event is skipped.
///
/// Errors: no JSON, no event of ChirpStack, or an uplink that cannot be used.
pub(super) fn parse(text: &str, event: Option<Event>, context: &Context<'_>) -> Result<Parsed, Problem> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| Problem::from_json(&error))?;
    let Some(info) = &envelope.device_info else {
        let what = "deviceInfo is missing: is this an event of ChirpStack v4 as JSON? Other senders use /v1/uplinks";
        return Err(Problem::unusable("/deviceInfo", what));
    };
    match event {
        Some(Event::Up) => {}
        Some(Event::Other) => return Ok(Parsed::Skipped),
        None if !envelope.looks_like_an_uplink() => return Ok(Parsed::Skipped),
        None => {}
    }
    let device = json::dev_eui(info.dev_eui.as_deref().unwrap_or_default(), "/deviceInfo/devEui")?;
    let received_at = envelope.received_at(context)?;
    let fport = envelope.f_port.map(|raw| json::whole(raw, "/fPort", "port (0 to 255)")).transpose()?;
    let fcnt = envelope.f_cnt.map_or(Ok(0), |raw| json::whole(raw, "/fCnt", "frame counter (32 bits)"))?;
    let frame = envelope.data.as_deref().map_or_else(|| Ok(Vec::new()), |text| payload::base64(text, "/data", context))?;
    let decoded = json::decoded(envelope.object, &device, "/object", context)?;
    let message_id = envelope.deduplication_id.as_deref().map(|id| json::name(id, "/deduplicationId")).transpose()?;
    Ok(Parsed::Uplink(Box::new(Uplink {
        tenant: context.tenant,
        device,
        received_at,
        fport,
        fcnt: Some(fcnt),
        message_id,
        frame,
        decoded,
        receptions: envelope.receptions().filter_map(reception).collect(),
    })))
}

impl<'a> Envelope<'a> {
    fn receptions(&self) -> impl Iterator<Item = &RxInfo<'a>> {
        self.rx_info.iter().flat_map(|list| &list.kept)
    }

    fn looks_like_an_uplink(&self) -> bool {
        self.data.is_some() || self.f_port.is_some() || self.f_cnt.is_some() || self.rx_info.is_some()
    }

    fn received_at(&self, context: &Context<'_>) -> Result<EventTime, Problem> {
        if let Some(at) = self.receptions().find_map(|reception| reception.ns_time.as_deref()) {
            return time::rfc3339(at, "/rxInfo/0/nsTime");
        }
        self.time.as_deref().map_or(Ok(context.now), |at| time::rfc3339(at, "/time"))
    }
}

fn reception(info: &RxInfo<'_>) -> Option<Reception> {
    let gateway = info.gateway_id.as_deref().filter(|gateway| gateway.len() <= NAME_BYTES_MAX)?;
    Some(Reception { gateway: gateway.into(), rssi_dbm: json::figure(info.rssi), snr_db: json::figure(info.snr) })
}
