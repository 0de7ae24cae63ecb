//! Owns the bodies that the fleet's networks post: real shapes, written by hand because they are many.
//!
//! Every body is one line, so that bodies with line feeds between them are NDJSON.

mod chirpstack;
mod own;
mod ttn;

use super::{Due, Fleet, FleetUplink, Shape};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

impl Shape {
    /// All shapes.
    pub const ALL: [Self; 3] = [Self::Ttn, Self::ChirpStack, Self::Own];

    /// Gives the path, with its query, that takes this shape.
    pub fn path(self) -> &'static str {
        match self {
            Self::Ttn => "/v1/ttn",
            Self::ChirpStack => "/v1/chirpstack?event=up",
            Self::Own => "/v1/uplinks",
        }
    }
}

/// Writes the envelope of an uplink behind `body`.
pub fn write(fleet: &Fleet, due: &Due, body: &mut String) {
    match due.shape {
        Shape::Ttn => ttn::write(fleet, &due.uplink, body),
        Shape::ChirpStack => chirpstack::write(fleet, &due.uplink, body),
        Shape::Own => own::write(fleet, &due.uplink, body),
    }
}

/// Gives the instant at which the network received an uplink, displayed as RFC 3339.
fn received_at(uplink: &FleetUplink) -> Timestamp {
    Timestamp::from_microsecond(uplink.received_at.0).expect("a fleet lives within the years that can be written")
}

/// Writes an uplink's payload as base64.
fn write_payload(uplink: &FleetUplink, body: &mut String) {
    STANDARD.encode_string(uplink.frame.as_slice(), body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::uplink::READINGS_MAX;
    use crate::load::{Fate, FleetSpec, Frame, Kind};
    use dataflows::model::EventTime;
    use serde_json::Value;

    fn fleet() -> Fleet {
        Fleet::new(FleetSpec { devices: 1, kinds: vec![(Kind::MilesightEm300Th, 1)], ..FleetSpec::default() }).unwrap()
    }

    fn due(shape: Shape, fcnt: u32, copy: u8) -> Due {
        let mut frame = Frame::new();
        frame.push(&[0x03, 0x67, 0xea, 0x00, 0x04, 0x68, 0x4f]);
        let uplink = FleetUplink {
            device: 0,
            kind: Kind::MilesightEm300Th,
            received_at: EventTime(1_795_353_480_123_456),
            fcnt,
            frame,
            readings: [0; READINGS_MAX],
            fate: Fate::Prompt,
            copy,
        };
        Due { due_us: 0, shape, uplink }
    }

    fn body(shape: Shape, fcnt: u32, copy: u8) -> Value {
        let mut body = String::new();
        write(&fleet(), &due(shape, fcnt, copy), &mut body);
        assert!(!body.contains('\n'));
        serde_json::from_str(&body).unwrap()
    }

    #[test]
    fn each_shape_says_who_when_and_what() {
        let check = |shape: Shape, expected: [(&str, Value); 5]| {
            let body = body(shape, 7, 0);
            for (pointer, value) in expected {
                assert_eq!(body.pointer(pointer), Some(&value), "{pointer} of {body}");
            }
        };
        let dev_eui = Value::from(fleet().member(0).id.as_str());
        let time = Value::from("2026-11-22T13:18:00.123456Z");
        check(
            Shape::Ttn,
            [
                ("/end_device_ids/dev_eui", Value::from(fleet().member(0).id.as_str().to_uppercase())),
                ("/uplink_message/received_at", time.clone()),
                ("/uplink_message/f_port", 85.into()),
                ("/uplink_message/f_cnt", 7.into()),
                ("/uplink_message/frm_payload", "A2fqAARoTw==".into()),
            ],
        );
        check(
            Shape::ChirpStack,
            [
                ("/deviceInfo/devEui", dev_eui.clone()),
                ("/time", time.clone()),
                ("/fPort", 85.into()),
                ("/fCnt", 7.into()),
                ("/data", "A2fqAARoTw==".into()),
            ],
        );
        check(
            Shape::Own,
            [
                ("/device", dev_eui),
                ("/time", time),
                ("/fport", 85.into()),
                ("/fcnt", 7.into()),
                ("/payload_base64", "A2fqAARoTw==".into()),
            ],
        );
    }

    #[test]
    fn networks_leave_a_zero_frame_counter_out() {
        assert_eq!(body(Shape::Ttn, 0, 0).pointer("/uplink_message/f_cnt"), None);
        assert_eq!(body(Shape::ChirpStack, 0, 0).get("fCnt"), None);
        assert_eq!(body(Shape::Own, 0, 0)["fcnt"], 0);
    }

    #[test]
    fn copies_differ_in_their_receptions_alone() {
        let check = |shape: Shape, differing: &[&str]| {
            let (mut first, mut second) = (body(shape, 7, 0), body(shape, 7, 1));
            for pointer in differing {
                let parts = [&mut first, &mut second].map(|body| body.pointer_mut(pointer).unwrap().take());
                assert_ne!(parts[0], parts[1], "{pointer}");
            }
            assert_eq!(first, second);
        };
        check(Shape::Ttn, &["/uplink_message/rx_metadata", "/correlation_ids"]);
        check(Shape::ChirpStack, &["/rxInfo"]);
        check(Shape::Own, &[]);
    }
}
