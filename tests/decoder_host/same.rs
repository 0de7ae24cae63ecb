//! A result depends on the uplink and the decoder alone: not on the instance, not on what came
//! before, not on whether the compiled code was fresh or from disk.

use crate::support::{Bench, decode, decode_uplink, uplink};
use dataflows::model::{Decoding, EventTime, Offset, Reason, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir::decoder::{DecoderInput, DecoderKind, DecoderLimits, Decoders, templates};

const AMBIENT: &str = "function decodeUplink(input) { return {data: {
    random: Math.random(), again: Math.random(), now: Date.now(), iso: new Date().toISOString(), date: Date(),
    zone: new Date(2020, 6, 1).getTimezoneOffset(), performance: performance.now(), stack: new Error('x').stack,
    keys: Object.keys({b: 1, a: 2, 1: 3}).join(), recv: input.recvTime.getTime(), offset: input.variables.offset }} }";

#[test]
fn time_and_randomness_come_from_the_uplink() {
    let mut bench = Bench::open(DecoderLimits::default());
    let decoding = bench.script(AMBIENT);
    let first = bench.decode(decoding, &[1]).unwrap();
    let value = |name: &str| first.measurements.iter().find(|m| &*m.field == name).unwrap().value.clone();
    assert_eq!(value("now"), Value::Number(1_700_000_000_123.0));
    assert_eq!(value("recv"), Value::Number(1_700_000_000_123.0));
    assert_eq!(value("iso"), Value::Text("2023-11-14T22:13:20.123Z".into()));
    assert_eq!(value("zone"), Value::Number(0.0));
    assert_eq!(value("offset"), Value::Text("1.5".into()));
    assert_ne!(value("random"), value("again"));

    assert_eq!(bench.decode(decoding, &[1]).unwrap(), first, "the same uplink, later");
    assert_eq!(decode(&mut bench.decoders.worker(), decoding, &[1], Offset(9)).unwrap(), first, "another instance");
    let field = |decoded: dataflows::decode::Decoded, name: &str| {
        decoded.measurements.iter().find(|m| &*m.field == name).unwrap().value.clone()
    };
    assert_ne!(field(bench.decode(decoding, &[2]).unwrap(), "random"), value("random"), "another uplink");
    let mut later = uplink(&[1]);
    later.received_at = EventTime(later.received_at.0 + 1_000);
    let later = decode_uplink(&mut bench.worker, decoding, &later, Offset(9)).unwrap();
    assert_eq!(field(later.clone(), "now"), Value::Number(1_700_000_000_124.0));
    assert_ne!(field(later, "random"), value("random"));
}

#[test]
fn compiled_code_from_disk_gives_the_same_and_damage_is_noticed() {
    let mut bench = Bench::open_alone(DecoderLimits::default());
    let script = bench.script(AMBIENT);
    let (kind, body) = templates::builtin("milesight-am307-native").unwrap().decoder.unwrap();
    let module = Decoding::Wasm(bench.put(kind, body));
    let frame = [3, 103, 248, 255];
    let first = (bench.decode(script, &frame).unwrap(), bench.decode(module, &frame).unwrap());

    let run = || {
        let decoders =
            Decoders::open(bench.dir.path(), DecoderLimits::default(), Arc::new(crate::support::Verdicts::default())).unwrap();
        let mut worker = decoders.worker();
        (decode(&mut worker, script, &frame, Offset(1)).unwrap(), decode(&mut worker, module, &frame, Offset(2)).unwrap())
    };
    assert_eq!(run(), first, "from disk");
    for file in std::fs::read_dir(bench.dir.path().join("artifacts")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(run(), first, "compiled again");
    assert_eq!(run(), first, "and kept again");
}

#[test]
fn decoders_are_on_disk_by_their_content() {
    let mut bench = Bench::open(DecoderLimits::default());
    let source = b"function decodeUplink(input) { return {data: {n: input.bytes.length}} }";
    let hash = bench.put(DecoderKind::JavaScript, source);
    assert_eq!(bench.put(DecoderKind::JavaScript, source), hash);
    assert!(bench.decoders.has(hash));
    let path = bench.dir.path().join(hash.to_string());
    assert_eq!(std::fs::read(&path).unwrap(), source);

    std::fs::write(&path, b"function decodeUplink(input) { return {data: {n: 7}} }").unwrap();
    assert!(!bench.decoders.has(hash), "a damaged body is as good as none");
    bench.put(DecoderKind::JavaScript, source);
    assert_eq!(bench.decode(Decoding::JavaScript(hash), &[1, 2]).unwrap().measurements[0].value, Value::Number(2.0));
}

#[test]
fn a_worker_keeps_no_more_instances_than_it_may() {
    let mut bench = Bench::open(DecoderLimits { instances: 3, ..DecoderLimits::default() });
    let decodings: Vec<Decoding> =
        (0..5).map(|n| bench.script(&format!("function decodeUplink() {{ return {{data: {{n: {n}}}}} }}"))).collect();
    for round in 0..3 {
        for (n, decoding) in decodings.iter().enumerate() {
            let decoded = bench.decode(*decoding, &[]).unwrap();
            assert_eq!(decoded.measurements[0].value, Value::Number(n as f64), "round {round}");
            assert!(bench.worker.loaded() <= 3);
        }
    }
}

#[test]
fn the_networks_own_fields_are_flattened_the_same_way() {
    let mut bench = Bench::open(DecoderLimits::default());
    let decoded = bench.decode(Decoding::Upstream, br#"{"z": 1, "a": {"b": true}}"#).unwrap();
    let fields: Vec<&str> = decoded.measurements.iter().map(|m| &*m.field).collect();
    assert_eq!(fields, ["z", "a_b"], "in the network's order");
    let nothing = decode_uplink(&mut bench.worker, Decoding::Upstream, &uplink(&[1]), Offset(1)).unwrap_err();
    assert_eq!(nothing.reason, Reason::NothingDecoded);
    assert_eq!(bench.decode(Decoding::Upstream, b"{").unwrap_err().reason, Reason::NothingDecoded);
}

#[test]
fn warnings_are_counted_and_no_reason_to_set_aside() {
    let mut bench = Bench::open(DecoderLimits::default());
    let decoding = bench.script("function decodeUplink() { return {data: {x: 1}, warnings: ['low battery', 'old']} }");
    assert_eq!(bench.decode(decoding, &[]).unwrap().measurements.len(), 1);
    assert_eq!(bench.worker.warnings(), 2);
}

#[test]
fn a_device_without_variables_has_an_empty_object() {
    let (bench, variables) = (Bench::open(DecoderLimits::default()), BTreeMap::new());
    let input = DecoderInput { fport: None, bytes: &[1], recv_time_us: 5_000, variables: &variables };
    let scripts = [
        "function decodeUplink(input) { return {data: {given: JSON.stringify(input), port: String(input.fPort)}} }",
        "function Decode(fPort, bytes, variables) { return {given: JSON.stringify({bytes, recvTime: new Date(), variables}), port: String(fPort)} }",
    ];
    for script in scripts {
        let tried = bench.decoders.decode_once(DecoderKind::JavaScript, script.as_bytes(), &input).unwrap();
        let given = r#"{"bytes":[1],"recvTime":"1970-01-01T00:00:00.005Z","variables":{}}"#;
        assert_eq!(tried.result, serde_json::json!({ "given": given, "port": "undefined" }), "{script}");
    }
}

#[test]
fn a_script_may_take_more_memory_than_it_finds() {
    let mut bench = Bench::open(DecoderLimits::default());
    let large = bench.script(
        "var kept = []; function decodeUplink() { kept.push(new Array(300000).fill(kept.length)); return {data: {n: kept.length}} }",
    );
    for uplink in 0..5 {
        let decoded = bench.decode(large, &[uplink]).unwrap();
        assert_eq!(decoded.measurements[0].value, Value::Number(1.0), "uplink {uplink}");
    }
}

#[test]
fn what_a_script_replaces_or_calls_again_is_as_it_would_be_without_weir() {
    let (bench, variables) = (Bench::open(DecoderLimits::default()), BTreeMap::new());
    let input = DecoderInput { fport: Some(7), bytes: &[1, 2], recv_time_us: 5_000, variables: &variables };
    let cases = [
        (
            "var D = Date; Date = class extends D { constructor(...a) { super(...a); this.made = D.prototype.getTime.call(this) } };
             function decodeUplink(input) { return {data: {x: input.recvTime.made}} }",
            "5",
        ),
        ("Date = function (ms) { this.ms = ms }; function decodeUplink(input) { return {data: {x: input.recvTime.ms}} }", "5"),
        (
            "Date.prototype.setTime = function () { throw 1 };
             function decodeUplink(input) { return {data: {x: input.recvTime.getTime()}} }",
            "5",
        ),
        (
            "var n = 0; Object.defineProperty(Object.prototype, 'data', {configurable: true, set() { n++ }});
             function decodeUplink() { return Object.create(null, {data: {value: {x: n}, enumerable: true}}) }",
            "0",
        ),
        (
            "Object.defineProperty(Object.prototype, 'data', {value: 1});
             function decodeUplink() { return {data: {x: 2}} }",
            "2",
        ),
        (
            "Error.prepareStackTrace = function (error, sites) { return sites };
             var depth = 0;
             function decodeUplink(input) {
                 if (depth++) return {data: {}};
                 new Error().stack[1].getFunction()([9], 8, 0, undefined);
                 return {data: {x: depth + ' ' + input.fPort + ' ' + input.bytes.length + ' ' + input.recvTime.getTime()}};
             }",
            r#""2 7 2 5""#,
        ),
    ];
    for (script, expected) in cases {
        let tried = bench.decoders.decode_once(DecoderKind::JavaScript, script.as_bytes(), &input).unwrap();
        let given: f64 = tried.result["x"].as_f64().unwrap_or(f64::NAN);
        let given = if given.is_nan() { tried.result["x"].to_string() } else { given.to_string() };
        assert_eq!(given, expected, "{script}");
    }
}

#[test]
fn what_a_script_does_to_its_input_is_undone() {
    let mut bench = Bench::open(DecoderLimits::default());
    let script = bench.script(
        "function decodeUplink(input) {
             var seen = [input.kept, input.variables.kept, input.recvTime.kept, Object.isFrozen(input), input.bytes.length, input.fPort];
             input.variables.kept = input.recvTime.kept = input.kept = 1;
             input.bytes.push(9);
             input.fPort = 8;
             Object.freeze(input);
             return {data: {seen: JSON.stringify(seen)}};
         }",
    );
    for uplink in 0..3 {
        let decoded = bench.decode(script, &[1, 2]).unwrap();
        let seen = Value::Text("[null,null,null,false,2,85]".into());
        assert_eq!(decoded.measurements[0].value, seen, "uplink {uplink}");
    }
}
