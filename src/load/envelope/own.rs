//! weir's own JSON, for senders without a network server between.

use super::{received_at, write_payload};
use crate::load::{Fleet, FleetUplink};
use std::fmt::Write as _;

pub(super) fn write(fleet: &Fleet, uplink: &FleetUplink, body: &mut String) {
    write_all(fleet, uplink, body).expect("a String takes everything");
}

fn write_all(fleet: &Fleet, uplink: &FleetUplink, body: &mut String) -> std::fmt::Result {
    let device = fleet.member(uplink.device).id.as_str();
    let time = received_at(uplink);
    write!(body, r#"{{"device":"{device}","time":"{time}","fport":{},"#, uplink.kind.spec().fport)?;
    write!(body, r#""fcnt":{},"payload_base64":""#, uplink.fcnt)?;
    write_payload(uplink, body);
    body.push_str(r#""}"#);
    Ok(())
}
