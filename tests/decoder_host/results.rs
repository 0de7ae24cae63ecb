//! A result is what its script would find in it: `JSON.stringify` of QuickJS as a native library is the oracle.

use crate::interpreter::native;
use crate::support::Bench;
use std::collections::BTreeMap;
use weir::decoder::{DecoderInput, DecoderKind, DecoderLimits};

/// Results: plain ones, which are read where they lie, and those that only look so.
const RESULTS: [&str; 24] = [
    "{a: 1, b: 'text', c: true, d: null, e: undefined, f: -0.5, g: function () {}}",
    "{}",
    "{b: 1, 10: 2, a: 3, 2: 4, 4294967294: 5, 4294967296: 6, '-1': 7, '01': 8, z: 9}",
    "{'x y': 1, 'a.b': 2, 'a-b': 3, $: 4}",
    "{é: 1, 日本: 2, a: 3}",
    "{a: 'é', b: '日本', c: '\\u0000', d: ''}",
    "(function () { var o = {a: 1, b: 2, c: 3}; delete o.b; o.d = 4; return o })()",
    "(function () { var o = {a: 1, b: 2}; delete o.a; o.a = 3; return o })()",
    "Object.defineProperty({a: 1, b: 2}, 'a', {enumerable: false})",
    "Object.freeze({a: 1})",
    "{a: 1, [Symbol('s')]: 2, [Symbol.iterator]: 3, b: 4}",
    "{a: 1, get b() { return this.a + 1 }, c: 3}",
    "{a: {b: {c: [1, 2, {d: 3}]}}, e: [], f: {}}",
    "(function () { var o = {a: 1, n: {get x() { delete o.b; o.c = 9; return 2 }}, b: 3}; return o })()",
    "(function () { var o = {a: 1, b: 3}; o.n = {toJSON: undefined, get x() { o.b = 'late'; return 2 }}; o.m = 4; return o })()",
    "Object.create({inherited: 1}, {own: {value: 2, enumerable: true}})",
    "Object.create(null, {own: {value: 2, enumerable: true}})",
    "new (class C { #c = 3; constructor() { this.a = 1 } get b() { return 2 } })()",
    "new Proxy({a: 1, b: 2}, {get(o, name) { return o[name] * 2 }})",
    "Object.assign(new Error('x'), {code: 5})",
    "{['__proto__']: 5, a: 1}",
    "(function (a, b) { return arguments })(1, 2)",
    "Object.fromEntries(Array.from({length: 200}, function (_, i) { return ['f' + i, i] }))",
    "{long: 'ab'.repeat(300), made: Array.from({length: 999}, String).reduce(function (text, more) { return text + more })}",
];

#[test]
fn a_result_holds_what_a_script_finds_in_it() {
    let (bench, variables) = (Bench::open(DecoderLimits::default()), BTreeMap::new());
    for result in RESULTS {
        let script = format!("function decodeUplink() {{ return {{data: {result}}} }}");
        let input = DecoderInput { fport: None, bytes: &[], recv_time_us: 0, variables: &variables };
        let tried = bench.decoders.decode_once(DecoderKind::JavaScript, script.as_bytes(), &input).unwrap();
        let nothing = "function (_, value) { return value === undefined || typeof value === 'function' ? null : value }";
        let (expected, _) = native(&[&format!("JSON.stringify({result}, {nothing})")]);
        assert_eq!(tried.result, serde_json::from_str::<serde_json::Value>(&expected).unwrap(), "{result}");
    }
}

#[test]
fn fields_come_in_the_order_of_javascript() {
    let mut bench = Bench::open(DecoderLimits::default());
    let cases = [
        ("{b: 1, a: 2, c: 3}", "b a c"),
        ("{b: 1, 10: 2, a: 3, 2: 4}", "2 10 b a"),
        ("{b: 1, 4294967294: 2, a: 3, 4294967296: 4}", "4294967294 b a 4294967296"),
        ("(function () { var o = {a: 1, b: 2}; delete o.a; o.c = 3; o.a = 4; return o })()", "b c a"),
    ];
    for (result, expected) in cases {
        let script = bench.script(&format!("function decodeUplink() {{ return {{data: {result}}} }}"));
        let decoded = bench.decode(script, &[1]).unwrap();
        let fields: Vec<&str> = decoded.measurements.iter().map(|m| &*m.field).collect();
        assert_eq!(fields.join(" "), expected, "{result}");
    }
}
