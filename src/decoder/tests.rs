//! What scripts and modules can do and cannot.

use super::testing::{input, open, run};
use super::*;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::process::Command;

#[test]
fn scripts_of_every_convention_run() {
    let (_dir, decoders) = open(DecoderLimits::default());
    let check = |script: &str, expected: &str| assert_eq!(run(&decoders, script, &[1, 2, 255]), expected, "{script}");
    check(
        "function decodeUplink(input) { return {data: {sum: input.bytes[0] + input.bytes[2], port: input.fPort}} }",
        r#"{"port":1,"sum":256}"#,
    );
    check("function decodeUplink(input) { return {data: {t: input.recvTime}} }", r#"{"t":"2023-11-14T22:13:20.123Z"}"#);
    check("function Decode(fPort, bytes, variables) { return {n: bytes.length, port: fPort} }", r#"{"n":3,"port":1}"#);
    check("function Decoder(bytes, port) { return {n: bytes.length, port: port} }", r#"{"n":3,"port":1}"#);
    check("const decodeUplink = input => ({data: {b: input.bytes}})", r#"{"b":[1,2,255]}"#);
    check(
        "function Decoder() { return 'v2' } function Decode() { return 'v3' } function decodeUplink() { return {data: 'v4'} }",
        r#""v4""#,
    );
    check("function Decoder() { return 'v2' } function Decode() { return 'v3' }", r#""v3""#);
    check("module.exports = { decodeUplink: function () { return {data: 'exported'} } }", r#""exported""#);
    check("exports.decodeUplink = function () { return {data: 'exported'} }", r#""exported""#);
    check("function decodeUplink() { return {errors: ['bad', 7]} }", "decoder_error: bad; 7");
    check("function decodeUplink() { throw new Error('too short') }", "decoder_error: Error: too short (decoder.js:1:37)");
    check(
        "function decodeUplink() { throw null }",
        "decoder_memory: the decoder used up its memory (or threw null): look for a list or text that keeps growing",
    );
    check("function decodeUplink() { }", "decoder_error: TypeError: decodeUplink returned undefined: return {data: {...}}");
    check(
        "function decode() { }",
        "decoder_invalid: the script has no function decodeUplink, Decode or Decoder: add decodeUplink(input)",
    );
    check("function decodeUplink( {", "decoder_invalid: SyntaxError: invalid property name (decoder.js:1:25)");
    check(
        "async function decodeUplink() { return {data: 1} }",
        "decoder_error: the decoder returned a promise: make it a plain function, not an async one",
    );
}

#[test]
fn what_a_script_returns_arrives_as_it_is() {
    let (_dir, decoders) = open(DecoderLimits::default());
    let check = |data: &str, expected: &str| {
        let script = format!("function decodeUplink(input) {{ return {{data: {data}}} }}");
        assert_eq!(run(&decoders, &script, &[1, 2, 255]), expected, "{data}");
    };
    check(
        "{i: -7, f: 0.5, big: 4294967296, most: 9007199254740991, n: 12n}",
        r#"{"big":4294967296,"f":0.5,"i":-7,"most":9007199254740991.0,"n":12}"#,
    );
    check(
        "{nan: 0 / 0, up: 1 / 0, t: true, f: false, nothing: null, un: undefined}",
        r#"{"f":false,"nan":"NaN","nothing":null,"t":true,"un":null,"up":"inf"}"#,
    );
    check("{'': 1, 7: 2, 'größe': 3, '温度': 'é'}", r#"{"":1,"7":2,"größe":3,"温度":"é"}"#);
    check("{get a() { return this.b + 1 }, b: 1, [Symbol.iterator]: 2}", r#"{"a":2,"b":1}"#);
    check("Object.create({inherited: 1}, {hidden: {value: 1}, seen: {value: 2, enumerable: true}})", r#"{"seen":2}"#);
    check("new Proxy({a: 1}, {ownKeys: function () { return ['a'] }, get: function () { return 5 }})", r#"{"a":5}"#);
    check("{get a() { throw new Error('unread') }}", "decoder_error: Error: unread (decoder.js:1:67)");
    check(
        "input.bytes.concat(input.bytes.push(4), input.bytes.map(function (b) { return b + 0.5 }))",
        "[1,2,255,4,4,1.5,2.5,255.5,4.5]",
    );
    // An object on the deepest level holds nothing; not a number either.
    let nested = |levels: usize, inner: &str| "{a:".repeat(levels) + inner + &"}".repeat(levels);
    check(&nested(32, "1"), &nested(32, "1").replace('a', "\"a\""));
    check(&nested(33, "1"), "decoder_error: the result nests deeper than 32 levels: return plain fields");
}

/// Not a test: the process that [`a_machine_without_room_is_not_the_decoders_fault`] starts, whose limit is its own.
#[test]
#[ignore = "is started by another test"]
fn child_without_room() {
    let (_dir, decoders) = open(DecoderLimits::default());
    let script = |n: u8| {
        let source = format!("function decodeUplink() {{ return {{data: {n}}} }}");
        (DecoderKind::JavaScript, decoders.put(DecoderKind::JavaScript, source.as_bytes()).unwrap())
    };
    let (first, second) = (script(1), script(2));
    let mut worker = decoders.worker();
    worker.load_for_test(first).unwrap();
    assert_eq!(worker.loaded(), 1);
    // An instance reserves eight times as much.
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    let limit = Some(pages * 4096 + (1 << 30));
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let once = decoders.decode_once(DecoderKind::JavaScript, b"function decodeUplink() { return {data: 3} }", &input(&[1]));
    assert!(matches!(once, Err(DecoderError::Host(_))), "{once:?}");
    worker.load_for_test(second).unwrap();
    assert_eq!(worker.loaded(), 1, "the first made room for the second");
    let limit = Some(1 << 20);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    worker.load_for_test(first).unwrap();
}

#[test]
fn a_machine_without_room_is_not_the_decoders_fault() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "decoder::tests::child_without_room", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("panicked at src/decoder/worker.rs") && said.contains("this machine has no room"), "{said}");
}
