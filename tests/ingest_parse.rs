//! The parsers against what senders get wrong, and against anything at all.

use dataflows::model::{EventTime, Reception, TenantNo, Uplink};
use proptest::prelude::*;
use serde_json::{Value, json};
use weir::ingest::{Context, Event, Framing, Items, Limits, Parsed, Problem, Shape, split};

const NOW: EventTime = EventTime(1_795_352_400_000_000);
const UP: Shape = Shape::ChirpStack(Some(Event::Up));
const GUESSED: Shape = Shape::ChirpStack(None);

fn parse_with(shape: Shape, text: &str, decodes: bool) -> Result<Parsed, Problem> {
    let limits = Limits::default();
    shape.parse(text, &Context { tenant: TenantNo(7), now: NOW, limits: &limits, decodes: &|_| decodes })
}

fn uplink(shape: Shape, body: &Value) -> Uplink {
    match parse_with(shape, &body.to_string(), false) {
        Ok(Parsed::Uplink(uplink)) => *uplink,
        other => panic!("{body} gave {other:?}"),
    }
}

/// Checks the code of the problem, and that its message has the text in it.
fn refused(shape: Shape, body: &str, code: &str, message: &str) {
    match parse_with(shape, body, false) {
        Err(problem) => {
            assert_eq!(problem.code(), code, "{body}: {problem}");
            assert!(problem.to_string().contains(message), "{body}: {problem}");
        }
        Ok(parsed) => panic!("{body} gave {parsed:?}"),
    }
}

fn ttn(message: Value) -> Value {
    json!({"end_device_ids": {"dev_eui": "0004A30B001C0530"}, "uplink_message": message})
}

fn chirpstack(extra: Value) -> Value {
    let mut body = json!({"deviceInfo": {"devEui": "0101010101010101"}});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

#[test]
fn what_a_network_leaves_out_is_zero_or_absent() {
    let check = |shape, body: Value| {
        let got = uplink(shape, &body);
        assert_eq!((got.fport, got.fcnt, got.received_at, got.frame), (None, Some(0), NOW, vec![]), "{body}");
        assert_eq!((got.decoded, got.message_id, got.receptions), (None, None, vec![]), "{body}");
    };
    check(Shape::Ttn, ttn(json!({})));
    check(Shape::Ttn, ttn(json!({"f_port": null, "frm_payload": null, "decoded_payload": null, "rx_metadata": null})));
    check(UP, chirpstack(json!({})));
    check(UP, chirpstack(json!({"fPort": null, "data": null, "object": null, "rxInfo": null, "deduplicationId": null})));
}

#[test]
fn numbers_come_as_texts_and_unknown_members_are_ignored() {
    let got = uplink(Shape::Ttn, &ttn(json!({"f_port": "85", "f_cnt": "4294967295", "frm_payload": "gkHe", "news": [{}]})));
    assert_eq!((got.fport, got.fcnt, got.frame), (Some(85), Some(u32::MAX), vec![0x82, 0x41, 0xde]));
    let got = uplink(UP, &chirpstack(json!({"fPort": "1", "fCnt": "2", "data": "qg==", "news": {"a": [1]}})));
    assert_eq!((got.fport, got.fcnt, got.frame), (Some(1), Some(2), vec![0xaa]));
    let got = uplink(Shape::Own, &json!({"device": 12345, "fport": "3", "fcnt": "4", "payload_hex": "aAFf", "news": 1}));
    assert_eq!((got.device.as_str(), got.fport, got.fcnt, got.frame), ("12345", Some(3), Some(4), vec![0xaa, 0xff]));
    // An own uplink without a counter has none: it need not be LoRaWAN.
    assert_eq!(uplink(Shape::Own, &json!({"device": "a", "payload_hex": ""})).fcnt, None);
}

#[test]
fn the_servers_clock_is_preferred_to_the_gateways() {
    let check = |shape, body: Value, expected: i64| assert_eq!(uplink(shape, &body).received_at, EventTime(expected), "{body}");
    let mut both = ttn(json!({"received_at": "2020-02-12T15:15:45Z", "rx_metadata": [{"time": "1980-01-06T00:00:00Z"}]}));
    both["received_at"] = json!("2020-02-12T15:15:46Z");
    check(Shape::Ttn, both, 1_581_520_545_000_000);
    let mut outer = ttn(json!({}));
    outer["received_at"] = json!("2020-02-12T15:15:46Z");
    check(Shape::Ttn, outer, 1_581_520_546_000_000);
    check(UP, chirpstack(json!({"time": "2020-02-12T15:15:46Z"})), 1_581_520_546_000_000);
    let server = json!({"time": "1980-01-06T00:00:00Z", "rxInfo": [{}, {"nsTime": "2020-02-12T15:15:46Z"}]});
    check(UP, chirpstack(server), 1_581_520_546_000_000);
}

#[test]
fn devices_are_known_by_their_dev_eui() {
    let check = |shape, body: Value, expected: &str| assert_eq!(uplink(shape, &body).device.as_str(), expected, "{body}");
    let ids = |ids: Value| json!({"end_device_ids": ids, "uplink_message": {}});
    check(Shape::Ttn, ids(json!({"dev_eui": "0004A30B001C0530", "device_id": "dev1"})), "0004a30b001c0530");
    check(Shape::Ttn, ids(json!({"device_id": "dev1"})), "dev1");
    check(Shape::Ttn, ids(json!({"dev_eui": "", "device_id": "dev1"})), "dev1");
    check(UP, json!({"deviceInfo": {"devEui": "0016C001F000175A"}}), "0016c001f000175a");
    check(Shape::Own, json!({"device": "00-04-A3-0B-00-1C-05-30", "fields": {}}), "0004a30b001c0530");
    check(Shape::Own, json!({"device": "Pump-7", "fields": {}}), "Pump-7");
    // Escapes make a text that cannot be borrowed.
    let escaped = r#"{"device":"Pump\u002d7","fields":{}}"#;
    assert!(matches!(parse_with(Shape::Own, escaped, false), Ok(Parsed::Uplink(uplink)) if uplink.device.as_str() == "Pump-7"));

    refused(Shape::Ttn, &ids(json!({})).to_string(), "unusable", "/end_device_ids");
    refused(Shape::Ttn, &ids(json!({"dev_eui": "0004"})).to_string(), "unusable", "16 hex digits");
    refused(UP, r#"{"deviceInfo":{}}"#, "unusable", "/deviceInfo/devEui");
    refused(UP, r#"{"deviceInfo":{"devEui":"zz01010101010101"}}"#, "unusable", "no DevEUI");
    refused(Shape::Own, r#"{"fields":{}}"#, "unusable", "/device");
    refused(Shape::Own, r#"{"device":"a\u0000b","fields":{}}"#, "unusable", "'\\0'");
}

#[test]
fn events_without_an_uplink_are_skipped() {
    let check = |shape, body: Value| assert_eq!(parse_with(shape, &body.to_string(), false), Ok(Parsed::Skipped), "{body}");
    for event in ["join_accept", "downlink_ack", "location_solved", "service_data", "uplink_normalized", "not_yet_known"] {
        check(Shape::Ttn, json!({"end_device_ids": {"device_id": "dev1"}, event: {}}));
    }
    check(GUESSED, chirpstack(json!({"devAddr": "00189440"})));
    check(Shape::ChirpStack(Some(Event::Other)), chirpstack(json!({"data": "qg=="})));
    for mark in [json!({"data": ""}), json!({"fPort": 1}), json!({"fCnt": 1}), json!({"rxInfo": []})] {
        uplink(GUESSED, &chirpstack(mark));
    }
}

#[test]
fn the_query_names_the_event() {
    let check = |query: &str, expected: Option<Event>| assert_eq!(Event::of_query(query), expected, "{query}");
    check("event=up", Some(Event::Up));
    check("a=b&event=join", Some(Event::Other));
    check("event=up&event=join", Some(Event::Up));
    check("event=", Some(Event::Other));
    check("events=up", None);
    check("", None);
}

#[test]
fn decoded_fields_are_kept_only_where_the_template_does_not_decode() {
    let check = |shape, body: Value, expected: &str| {
        assert_eq!(uplink(shape, &body).decoded.as_deref(), Some(expected), "{body}");
        match parse_with(shape, &body.to_string(), true) {
            Ok(Parsed::Uplink(uplink)) => assert_eq!(uplink.decoded, None, "{body}"),
            other => panic!("{body} gave {other:?}"),
        }
    };
    check(Shape::Ttn, ttn(json!({"decoded_payload": {"t": 1.0}})), r#"{"t":1.0}"#);
    check(UP, chirpstack(json!({"object": {"t": 1.0}})), r#"{"t":1.0}"#);
    check(Shape::Own, json!({"device": "a", "fields": {"t": 1.0}}), r#"{"t":1.0}"#);
    check(Shape::Own, json!({"device": "a", "fields": [{"field": "t", "value": null}]}), r#"[{"field":"t","value":null}]"#);
}

#[test]
fn what_cannot_be_used_is_named_with_its_place() {
    let own = |extra: &str| format!(r#"{{"device":"a",{extra}}}"#);
    refused(Shape::Own, &own(r#""id":"1""#), "unusable", "give payload_hex");
    refused(Shape::Own, &own(r#""payload_hex":"00","payload_base64":"AA==""#), "unusable", "give one");
    refused(Shape::Own, &own(r#""payload_hex":"012""#), "unusable", "(at /payload_hex)");
    refused(Shape::Own, &own(r#""payload_base64":"A*==""#), "unusable", "(at /payload_base64)");
    refused(Shape::Own, &own(r#""payload_hex":"00","fport":256"#), "unusable", "256 is no port (0 to 255) (at /fport)");
    refused(Shape::Own, &own(r#""payload_hex":"00","time":"noon""#), "unusable", "(at /time)");
    refused(Shape::Own, &own(r#""fields":7"#), "unusable", "(at /fields)");
    refused(Shape::Own, &own(r#""fields":[{"field":"t"}]"#), "unusable", "missing field `value`");
    refused(Shape::Own, &own(r#""fields":[{"value":1}]"#), "unusable", "missing field `field`");
    refused(Shape::Own, &own(r#""fields":[{"field":"","value":1}]"#), "unusable", "name it");
    refused(Shape::Own, &own(r#""fields":[{"field":"t","value":1,"timestamp":"x"}]"#), "unusable", "(at /fields)");
    refused(Shape::Own, &own(&format!(r#""fields":[{}{{}}]"#, r#"{"field":"t","value":1},"#.repeat(1024))), "unusable", "1025");
    refused(Shape::Own, &own(r#""payload_hex":[1]"#), "unusable", "expected a text, at line 1");
    refused(Shape::Own, r#""text""#, "unusable", "expected an uplink, an object");
    refused(Shape::Ttn, r#"{"temperature":1}"#, "unusable", "/end_device_ids");
    refused(GUESSED, r#"{"temperature":1}"#, "unusable", "/deviceInfo");
    refused(Shape::Ttn, &ttn(json!({"f_cnt": -1})).to_string(), "unusable", "/uplink_message/f_cnt");
    refused(Shape::Ttn, &ttn(json!({"received_at": "x"})).to_string(), "unusable", "/uplink_message/received_at");
    refused(Shape::Own, "{\n \"device\":", "malformed_json", "line 2, column 10");
    refused(Shape::Own, "", "malformed_json", "line 1, column 0");
    refused(Shape::Own, "{\"device\":\"a\0\"}", "malformed_json", "control character");
    refused(Shape::Own, r#"{"device":"a","payload_hex":""} x"#, "malformed_json", "trailing characters");
}

#[test]
fn parts_are_bounded() {
    let frame = |bytes: usize| json!({"device": "a", "payload_hex": "00".repeat(bytes)});
    assert_eq!(uplink(Shape::Own, &frame(4096)).frame.len(), 4096);
    refused(Shape::Own, &frame(4097).to_string(), "too_long", "/payload_hex has 4097 bytes, more than 4096");
    // 4096 bytes are 5464 characters of base64, two of them padding.
    let base64 = |characters: usize, end: &str| json!({"device": "a", "payload_base64": "A".repeat(characters) + end});
    assert_eq!(uplink(Shape::Own, &base64(5462, "==")).frame.len(), 4096);
    refused(Shape::Own, &base64(5463, "=").to_string(), "too_long", "4097");
    refused(Shape::Own, &base64(8_000_000, "").to_string(), "too_long", "/payload_base64");

    let fields = |bytes: usize| json!({"device": "a", "fields": {"t": "x".repeat(bytes - 8)}});
    assert_eq!(uplink(Shape::Own, &fields(65536)).decoded.unwrap().len(), 65536);
    refused(Shape::Own, &fields(65537).to_string(), "too_long", "/fields has 65537 bytes");
    let nested = |depth: usize| format!(r#"{{"device":"a","fields":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(parse_with(Shape::Own, &nested(32), false).is_ok());
    refused(Shape::Own, &nested(33), "unusable", "nested deeper than 32");

    refused(Shape::Own, &json!({"device": "a", "id": "x".repeat(129), "fields": {}}).to_string(), "too_long", "/id");
    refused(Shape::Own, &json!({"device": "x".repeat(129), "fields": {}}).to_string(), "unusable", "/device");

    let receptions = vec![json!({"gateway_ids": {"gateway_id": "gw", "eui": "9C5C"}, "rssi": "-35", "snr": 5}); 40];
    let got = uplink(Shape::Ttn, &ttn(json!({"rx_metadata": receptions}))).receptions;
    assert_eq!(got.len(), 32);
    assert_eq!(got[0], Reception { gateway: "gw".into(), rssi_dbm: Some(-35.0), snr_db: Some(5.0) });
    let odd = json!({"rxInfo": [{}, {"gatewayId": "g".repeat(129)}, {"gatewayId": "g", "rssi": {}, "snr": "NaN"}]});
    let expected = vec![Reception { gateway: "g".into(), rssi_dbm: None, snr_db: None }];
    assert_eq!(uplink(UP, &chirpstack(odd)).receptions, expected);
}

#[test]
fn frames_come_in_every_spelling() {
    let check = |member: &str, text: &str, expected: &[u8]| {
        assert_eq!(uplink(Shape::Own, &json!({"device": "a", member: text})).frame, expected, "{member} {text}");
    };
    check("payload_hex", "", &[]);
    check("payload_hex", "03fFeA", &[3, 255, 234]);
    check("payload_base64", "+/8=", &[0xfb, 0xff]);
    check("payload_base64", "+/8", &[0xfb, 0xff]);
    check("payload_base64", "-_8=", &[0xfb, 0xff]);
    check("payload_base64", "-_8", &[0xfb, 0xff]);
}

#[test]
fn bodies_are_cut_into_items() {
    let check = |body: &str, framing, expected: Result<Items<'_>, &str>| {
        let got = split(body.as_bytes(), framing, 3);
        assert_eq!(got.as_ref().map_err(Problem::code), expected.as_ref().map_err(|code| *code), "{body:?}");
    };
    let batch = |items: &[&'static str]| Ok(Items::Batch(items.to_vec()));
    check("{\"a\":1}", Framing::Detect, Ok(Items::Single("{\"a\":1}")));
    check("\u{feff}{}", Framing::Detect, Ok(Items::Single("{}")));
    check("{\n\"a\":{}\n}\n", Framing::Detect, Ok(Items::Single("{\n\"a\":{}\n}\n")));
    check("{\"a\":{}\n}", Framing::Detect, Ok(Items::Single("{\"a\":{}\n}")));
    check("", Framing::Detect, Ok(Items::Single("")));
    check("[]", Framing::Detect, batch(&[]));
    check(" [ {\"a\":1} , 2 ] ", Framing::Detect, batch(&["{\"a\":1}", "2"]));
    check("[1,2,3]", Framing::Detect, batch(&["1", "2", "3"]));
    check("[1,2,3,4]", Framing::Detect, Err("too_many_items"));
    check("[1,2", Framing::Detect, Err("malformed_json"));
    check("[1,2] 3", Framing::Detect, Err("malformed_json"));
    check("{\"a\":1}\r\n{\"b\n", Framing::Detect, batch(&["{\"a\":1}", "{\"b"]));
    check("{}\n", Framing::Lines, batch(&["{}"]));
    check("x\n\n y \n", Framing::Lines, batch(&["x", "y"]));
    check("1\n2\n3\n4", Framing::Lines, Err("too_many_items"));
    assert_eq!(split(b"{\"a\":\"\xff\"}", Framing::Detect, 3), Err(Problem::NotUtf8(6)));
}

#[test]
fn depth_bombs_and_huge_bodies_are_refused_without_harm() {
    let mega = 10 << 20;
    let bomb = "[".repeat(mega);
    assert_eq!(split(bomb.as_bytes(), Framing::Detect, 10).unwrap_err().code(), "malformed_json");
    for shape in [Shape::Ttn, UP, GUESSED, Shape::Own] {
        for body in [bomb.clone(), "{\"a\":".repeat(mega / 5), format!(r#"{{"device":"a","fields":{bomb}"#), "9".repeat(mega)] {
            assert!(parse_with(shape, &body, false).is_err());
        }
    }
    // A closed one is read over where nothing is kept of it.
    let closed = format!(r#"{{"end_device_ids":{{}},"x":{bomb}{}}}"#, "]".repeat(mega));
    assert_eq!(parse_with(Shape::Ttn, &closed, false), Ok(Parsed::Skipped));
}

const RECORDED: [&str; 5] = [
    include_str!("formats/ttn_v3_uplink.json"),
    include_str!("formats/ttn_v3_join.json"),
    include_str!("formats/chirpstack_v4_up.json"),
    include_str!("formats/own_record_batch.json"),
    include_str!("formats/own_payload_hex.json"),
];

/// Anything may be refused, nothing may panic, and what is kept is within its bounds.
fn survive(body: &[u8]) {
    for framing in [Framing::Detect, Framing::Lines] {
        let items = match split(body, framing, 100) {
            Ok(Items::Single(item)) => vec![item],
            Ok(Items::Batch(items)) => items,
            Err(_) => continue,
        };
        for item in items {
            for shape in [Shape::Ttn, UP, GUESSED, Shape::Own] {
                if let Ok(Parsed::Uplink(uplink)) = parse_with(shape, item, false) {
                    let limits = Limits::default();
                    assert!(uplink.frame.len() <= limits.frame_bytes_max);
                    assert!(uplink.decoded.is_none_or(|text: String| serde_json::from_str::<Value>(&text).is_ok()));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(body in prop::collection::vec(any::<u8>(), 0..300)) {
        survive(&body);
    }

    #[test]
    fn mutated_envelopes_do_no_harm(
        which in 0..RECORDED.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..20_usize, ".{0,4}|[0-9\\[\\]{}\",:\\\\-]{1,6}"), 1..6),
    ) {
        let mut body = RECORDED[which].as_bytes().to_vec();
        for (at, length, with) in cuts {
            let start = at.index(body.len());
            let end = (start + length).min(body.len());
            body.splice(start..end, with.bytes());
        }
        survive(&body);
    }
}
