//! The Things Stack's webhook body: DevEUIs in capitals, zeros left out, no id that a retry would keep.

use super::{received_at, write_payload};
use crate::load::{Fleet, FleetUplink};
use std::fmt::Write as _;

pub(super) fn write(fleet: &Fleet, uplink: &FleetUplink, body: &mut String) {
    write_all(fleet, uplink, body).expect("a String takes everything");
}

fn write_all(fleet: &Fleet, uplink: &FleetUplink, body: &mut String) -> std::fmt::Result {
    let dev_eui = fleet.member(uplink.device).id.as_str();
    let time = received_at(uplink);
    write!(body, r#"{{"end_device_ids":{{"device_id":"eui-{dev_eui}","application_ids":{{"application_id":"fleet"}},"#)?;
    body.push_str(r#""dev_eui":""#);
    body.extend(dev_eui.chars().map(|digit| digit.to_ascii_uppercase()));
    write!(body, r#"","join_eui":"800000000000000C","dev_addr":"26{:06X}"}},"#, uplink.device & 0xff_ffff)?;
    write!(body, r#""correlation_ids":["as:up:{dev_eui}-{}-{}"],"#, uplink.fcnt, uplink.copy)?;
    write!(body, r#""received_at":"{time}","uplink_message":{{"session_key_id":"AXA50tHUGUucuzS/bCGMNw==","#)?;
    write!(body, r#""f_port":{},"#, uplink.kind.spec().fport)?;
    if uplink.fcnt != 0 {
        write!(body, r#""f_cnt":{},"#, uplink.fcnt)?;
    }
    body.push_str(r#""frm_payload":""#);
    write_payload(uplink, body);
    body.push_str(r#"","rx_metadata":["#);
    for (nth, copy) in fleet.receptions(uplink).enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        let gateway = fleet.gateway(&copy);
        let (rssi, snr) = (copy.rssi_dbm, f32::from(copy.snr_tenths_db) / 10.0);
        write!(body, r#"{comma}{{"gateway_ids":{{"gateway_id":"eui-{gateway}","eui":"{gateway}"}},"time":"{time}","#)?;
        write!(body, r#""rssi":{rssi},"channel_rssi":{rssi},"snr":{snr}}}"#)?;
    }
    body.push_str(r#"],"settings":{"data_rate":{"lora":{"bandwidth":125000,"spreading_factor":7}},"#);
    body.push_str(r#""frequency":"868300000"},"consumed_airtime":"0.056576s","#);
    write!(body, r#""received_at":"{time}"}}}}"#)
}
