//! ChirpStack v4's `up` event: zeros left out, one `deduplicationId` for all copies.

use super::{received_at, write_payload};
use crate::load::{Fleet, FleetUplink};
use std::fmt::Write as _;

pub(super) fn write(fleet: &Fleet, uplink: &FleetUplink, body: &mut String) {
    write_all(fleet, uplink, body).expect("a String takes everything");
}

fn write_all(fleet: &Fleet, uplink: &FleetUplink, body: &mut String) -> std::fmt::Result {
    let dev_eui = fleet.member(uplink.device).id.as_str();
    let time = received_at(uplink);
    let (device, fcnt) = (uplink.device, uplink.fcnt);
    write!(body, r#"{{"deduplicationId":"{device:08x}-0000-4000-8000-0000{fcnt:08x}","time":"{time}","#)?;
    body.push_str(r#""deviceInfo":{"tenantId":"52f14cd4-c6f1-4fbd-8f87-4025e1d49242","tenantName":"ChirpStack","#);
    body.push_str(r#""applicationId":"17c82e96-be03-4f38-aef3-f83d48582d97","applicationName":"fleet","#);
    write!(body, r#""deviceProfileName":"{}","deviceName":"device {device}","#, uplink.kind.spec().template)?;
    write!(body, r#""devEui":"{dev_eui}"}},"devAddr":"00{:06x}","dr":5,"#, device & 0xff_ffff)?;
    if fcnt != 0 {
        write!(body, r#""fCnt":{fcnt},"#)?;
    }
    write!(body, r#""fPort":{},"data":""#, uplink.kind.spec().fport)?;
    write_payload(uplink, body);
    body.push_str(r#"","rxInfo":["#);
    for (nth, copy) in fleet.receptions(uplink).enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        let gateway = fleet.gateway(&copy);
        let (rssi, snr) = (copy.rssi_dbm, f32::from(copy.snr_tenths_db) / 10.0);
        write!(body, r#"{comma}{{"gatewayId":"{gateway}","rssi":{rssi},"snr":{snr}}}"#)?;
    }
    body.push_str(r#"],"txInfo":{"frequency":868300000,"modulation":{"lora":{"bandwidth":125000,"#);
    body.push_str(r#""spreadingFactor":7,"codeRate":"CR_4_5"}}}}"#);
    Ok(())
}
