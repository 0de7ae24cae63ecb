//! The ways in which a script could keep something from one uplink for the next, each with the proof
//! that it would: without the reset every one of them leaks.

use super::program::Program;
use super::testing::{input, open};
use super::{DecoderInput, DecoderLimits, Decoders};
use std::time::Duration;

/// A way to leak: what stands at the top level, what each call does, and what the next one sees.
struct Probe {
    setup: &'static str,
    effect: &'static str,
    seen: &'static str,
}

const fn probe(setup: &'static str, effect: &'static str, seen: &'static str) -> Probe {
    Probe { setup, effect, seen }
}

const PROBES: &[Probe] = &[
    // Variables.
    probe("var n = 0", "n++", "n"),
    probe("let n = 0", "n++", "n"),
    probe("", "undeclared = 1", "typeof undeclared"),
    probe("", "globalThis.x = 1", "'x' in globalThis"),
    probe("", "this.y = 1", "typeof y"),
    probe("", "(0, eval)('var evaluated = 1')", "typeof evaluated"),
    probe("", "new Function('made = 1')()", "typeof made"),
    probe("var c = (function () { var n = 0; return { inc() { n++ }, get() { return n } } })()", "c.inc()", "c.get()"),
    probe("function f(list = f.kept) { list.push(1) } f.kept = []", "f()", "f.kept.length"),
    probe("outer: for (var i = 0; i < 3; i++) { if (i == 1) break outer }", "i++", "i"),
    probe("var text = ''", "text += 'x'", "text.length"),
    probe("var big = 0n", "big += 1n", "big"),
    // Objects.
    probe("const o = {}", "o.x = 1", "o.x"),
    probe("var o = {x: 1}", "delete o.x", "'x' in o"),
    probe("var o = {a: 1, b: 2}", "delete o.a; o.a = 1", "Object.keys(o)"),
    probe("var o = {x: 1}", "Object.freeze(o)", "Object.isFrozen(o)"),
    probe("var o = {x: 1}", "Object.seal(o)", "Object.isSealed(o)"),
    probe("var o = {}", "Object.preventExtensions(o)", "Object.isExtensible(o)"),
    probe("var o = {}", "Object.setPrototypeOf(o, {x: 1})", "o.x"),
    probe("var o = {}", "Object.defineProperty(o, 'x', {get() { return 5 }, configurable: true})", "o.x"),
    probe(
        "var o = { get memo() { Object.defineProperty(this, 'memo', {value: 'kept'}); return 'new' } }",
        "o.memo",
        "Object.getOwnPropertyDescriptor(o, 'memo').value",
    ),
    probe("var hits = 0, p = new Proxy({}, { get() { return hits++ } })", "p.x", "hits"),
    probe(
        "class C { static n = 0; static #m = 0; static inc() { C.n++; C.#m++ } static get() { return C.n + C.#m } }",
        "C.inc()",
        "C.get()",
    ),
    probe("class C { #n = 0; inc() { this.#n++ } get() { return this.#n } } var c = new C()", "c.inc()", "c.get()"),
    probe("var cache = {}", "cache['k' + Object.keys(cache).length] = 1", "Object.keys(cache).length"),
    // Functions.
    probe("function helper() { return 1 }", "helper = function () { return 2 }", "helper()"),
    probe("", "decodeUplink.calls = (decodeUplink.calls || 0) + 1", "decodeUplink.calls"),
    probe("var bound = (function () {}).bind(null)", "bound.x = 1", "bound.x"),
    probe("var g = (function* () { var i = 0; while (true) yield i++ })()", "g.next()", "g.next().value"),
    probe(
        "function tag(strings) { return strings } function site() { return tag`a` } var first = site()",
        "tag.seen = site()",
        "tag.seen === first",
    ),
    // Collections.
    probe("var m = new Map()", "m.set(m.size, 1)", "m.size"),
    probe("var s = new Set()", "s.add(s.size)", "s.size"),
    probe("var k = {}, w = new WeakMap()", "w.set(k, 1)", "w.has(k)"),
    probe("var k = {}, w = new WeakSet()", "w.add(k)", "w.has(k)"),
    probe("var k = {}, w = new WeakRef(k)", "k = null", "w.deref() === undefined"),
    probe("var a = [1, 2, 3]", "delete a[1]", "1 in a"),
    probe("var a = [1, 2, 3]", "a.length = 1", "a.length"),
    probe("var a = [3, 1, 2], n = 0", "a.sort(function (x, y) { n++; return x - y })", "a.join() + n"),
    probe("var t = new Uint8Array(4)", "t[0]++", "t[0]"),
    probe("var b = new ArrayBuffer(8), v = new DataView(b)", "v.setFloat64(0, 1.5)", "v.getFloat64(0)"),
    probe("var it = [1, 2, 3][Symbol.iterator]()", "it.next()", "it.next().value"),
    probe("var d = new Date(0)", "d.setUTCFullYear(d.getUTCFullYear() + 1)", "d.getUTCFullYear()"),
    probe("var re = /a/g", "re.exec('aaa')", "re.lastIndex"),
    probe("var re = /a/y", "re.test('aaa')", "re.lastIndex"),
    // Builtins.
    probe("", "Array.prototype.leak = 1", "[].leak"),
    probe("", "Object.prototype.leak = 1", "({}).leak"),
    probe("", "Object.prototype.__defineGetter__('gotten', function () { return 7 })", "({}).gotten"),
    probe("", "String.prototype.leak = 1", "''.leak"),
    probe("", "Number.prototype.leak = 1", "(1).leak"),
    probe("", "Boolean.prototype.leak = 1", "true.leak"),
    probe("", "Symbol.prototype.leak = 1", "Symbol().leak"),
    probe("", "BigInt.prototype.leak = 1", "(1n).leak"),
    probe("", "Function.prototype.leak = 1", "(function () {}).leak"),
    probe("", "Error.prototype.leak = 1", "new Error().leak"),
    probe("", "Error.prototype.message = 'kept'", "new Error().message"),
    probe("", "Error.stackTraceLimit = 3", "Error.stackTraceLimit"),
    probe("", "Error.prepareStackTrace = function () { return 'mine' }", "typeof Error.prepareStackTrace"),
    probe("var last", "try { null.x } catch (e) { last = e }", "String(last)"),
    probe("", "Date.now = function () { return 5 }", "Date.now()"),
    probe("", "Date.prototype.getTime = function () { return 5 }", "new Date(1).getTime()"),
    probe("", "Math.random = function () { return 4 }", "Math.random() === 4"),
    probe("", "Math.leak = 1", "Math.leak"),
    probe("", "JSON.parse = function (text, reviver) { return 'mine' }", "JSON.parse('1', function (k, v) { return v })"),
    probe("", "JSON.stringify = function () { return 'mine' }", "JSON.stringify(1)"),
    probe("", "Object.defineProperty(Object, 'assign', {value: 'mine', configurable: true})", "typeof Object.assign"),
    probe("", "delete Array.prototype.map", "typeof [].map"),
    probe("", "Array.prototype[Symbol.iterator] = function* () { yield 'mine' }", "[...[1, 2]].join()"),
    probe("", "Object.getPrototypeOf([][Symbol.iterator]()).leak = 1", "[][Symbol.iterator]().leak"),
    probe("", "Object.getPrototypeOf(function* () {}).leak = 1", "(function* () {}).leak"),
    probe("", "Object.getPrototypeOf(async function () {}).leak = 1", "(async function () {}).leak"),
    probe("", "RegExp.prototype.exec = function () { return null }", "/a/.test('a')"),
    probe("", "RegExp.prototype[Symbol.replace] = function () { return 'mine' }", "'a'.replace(/a/, 'b')"),
    probe("", "Uint8Array.prototype.leak = 1", "new Uint8Array(1).leak"),
    probe("", "Object.getPrototypeOf(Uint8Array).leak = 1", "Int16Array.leak"),
    probe("", "Map.prototype.get = function () { return 'mine' }", "new Map([[1, 2]]).get(1)"),
    probe("", "Promise.resolve = 'mine'", "typeof Promise.resolve"),
    probe("", "Reflect.ownKeys = function () { return ['mine'] }", "Reflect.ownKeys({}).length"),
    probe("", "globalThis[Symbol.for('leak')] = 1", "globalThis[Symbol.for('leak')]"),
    probe("", "parseInt = function () { return 'mine' }", "parseInt('1')"),
    probe("", "Number.parseFloat = null", "typeof Number.parseFloat"),
    probe("", "Object.defineProperty(globalThis, 'isNaN', {value: 'mine', configurable: true})", "typeof isNaN"),
    probe("", "encodeURIComponent = null", "typeof encodeURIComponent"),
    probe("", "globalThis.Intl = {}", "typeof Intl"),
    probe("", "globalThis.setTimeout = function () {}", "typeof setTimeout"),
    probe("", "Object.freeze(Object.prototype)", "Object.isFrozen(Object.prototype)"),
    probe("", "Object.preventExtensions(globalThis)", "Object.isExtensible(globalThis)"),
    // What weir adds.
    probe("", "console.log = 'mine'", "typeof console.log"),
    probe("", "module.exports.x = 1", "exports.x"),
    probe("", "Buffer.prototype.readUInt8 = function () { return 'mine' }", "Buffer.from([1]).readUInt8(0)"),
    probe("", "Buffer.poolSize = 1", "Buffer.poolSize"),
    probe("", "TextDecoder.prototype.decode = null", "typeof new TextDecoder().decode"),
    probe("", "delete globalThis.atob", "typeof atob"),
];

fn load(decoders: &Decoders, script: &str) -> Program {
    let shared = &decoders.0;
    shared.load_body(super::DecoderKind::JavaScript, script.as_bytes(), shared.watchdog.post()).unwrap()
}

fn decode(program: &mut Program, input: &DecoderInput<'_>) -> String {
    match program.decode(input).and_then(|given| given.tree()) {
        Ok(tree) => format!("{tree:?}"),
        Err(failure) => failure.detail,
    }
}

#[test]
fn nothing_survives_an_uplink() {
    let (_dir, decoders) = open(DecoderLimits::default());
    let mut leaking = Vec::new();
    for Probe { setup, effect, seen } in PROBES {
        let script = format!(
            "{setup}\nfunction decodeUplink() {{ var seen = String({seen}); {effect}; return {{data: {{seen: seen}}}} }}"
        );
        let mut program = load(&decoders, &script);
        let uplink = input(&[1]);
        let first = decode(&mut program, &uplink);
        let second = decode(&mut program, &uplink);
        assert_ne!(first, second, "this is no way to leak, even without the reset: {effect}");
        for _ in 0..3 {
            assert!(program.reset(), "grew its memory: {effect}");
            assert!(program.is_as_loaded(), "not the same bytes after the reset: {effect}");
            if decode(&mut program, &uplink) != first {
                leaking.push(effect);
            }
        }
    }
    assert!(leaking.is_empty(), "{leaking:?}");
    assert!(PROBES.len() >= 50);
}

#[test]
fn what_throws_or_runs_out_leaves_nothing_either() {
    let (_dir, decoders) = open(DecoderLimits { steps: 20, watchdog: Duration::from_secs(60), ..DecoderLimits::default() });
    let check = |wrong: &str, expected: &str| {
        let script = format!(
            "var n = 0, kept = []; function decodeUplink(input) {{ n++; if (input.bytes[0] == 9) {{ {wrong} }} return {{data: {{n: n, kept: kept.length}}}} }}"
        );
        let mut program = load(&decoders, &script);
        let first = decode(&mut program, &input(&[1]));
        assert!(program.reset());
        let failed = decode(&mut program, &input(&[9]));
        assert!(failed.contains(expected), "{wrong}: {failed}");
        assert!(program.reset() && program.is_as_loaded(), "{wrong}");
        assert_eq!(decode(&mut program, &input(&[1])), first, "{wrong}");
    };
    check("throw new Error('bad')", "Error: bad");
    check("while (true) kept[n++ % 100] = n", "steps");
    check("while (true) {}", "steps");
    check("(function f() { n++; f() })()", "stack");
    check("return {data: 'x'.repeat(300000)}", "262144 bytes");
    check("var a = []; for (var i = 0; i < 40; i++) a = [a]; return {data: a}", "32 levels");
    check("return {data: {get x() { while (true) {} }}}", "steps");
    check("throw {toString() { while (true) {} }}", "steps");
    check("throw {toString() { throw 1 }}", "no text");
    check("return {errors: [{toString() { throw new Error('no text') }}]}", "no text");
}

#[test]
fn an_instance_that_ran_out_of_memory_is_as_loaded_or_thrown_away() {
    let (_dir, decoders) = open(DecoderLimits { watchdog: Duration::from_secs(60), ..DecoderLimits::default() });
    for bomb in ["kept.push('x'.repeat(100000) + kept.length)", "kept.push(new Array(1000).fill(1))", "kept.push({a: {b: []}})"] {
        let script = format!("var kept = []; function decodeUplink(input) {{ while (true) {bomb} }}");
        let mut program = load(&decoders, &script);
        let failure = program.decode(&input(&[9])).err().unwrap();
        assert_eq!(failure.reason.as_str(), "decoder_memory", "{bomb}: {failure:?}");
        assert!(!program.reset() || program.is_as_loaded(), "{bomb}");
    }
}
