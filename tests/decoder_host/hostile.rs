//! Scripts that try to take more than they are given: each ends within its limits, with a reason,
//! and the worker goes on as if it had not been there.

use crate::support::Bench;
use dataflows::model::{Decoding, Offset, Partition, Reason};
use std::time::Duration;
use weir::decoder::{DecoderKind, DecoderLimits};

/// How a script may end.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    /// It gives so many measurements.
    Rows(usize),
    /// The uplink is set aside.
    Aside(Reason),
    /// It gives something or is set aside; only that it ends matters.
    Any,
}

use End::{Any, Aside, Rows};

const SCRIPTS: &[(&str, End)] = &[
    ("while (true) {}", Aside(Reason::DecoderSteps)),
    ("for (;;) { try { while (true) {} } catch (e) {} finally { continue } }", Aside(Reason::DecoderSteps)),
    ("return {data: {get x() { while (true) {} }}}", Aside(Reason::DecoderSteps)),
    ("return {data: new Proxy({}, {ownKeys() { while (true) {} }})}", Aside(Reason::DecoderSteps)),
    ("return {data: {m: /^(a+)+$/.test('a'.repeat(40) + 'b')}}", Any),
    ("var a = []; for (var k = 0; k < 100000; k++) a[k] = (k * 7919) % 100003; for (;;) a.sort()", Any),
    ("return {data: 'x'.repeat(536870000)}", Any),
    ("return {data: new Array(1e9).fill(1).length}", Any),
    ("var a = []; while (true) a.push(new Array(1000).fill(1))", Aside(Reason::DecoderMemory)),
    ("var a = []; for (;;) { try { for (;;) a.push('x'.repeat(1000) + a.length) } catch (e) { a.length >>= 1 } }", Any),
    ("try { while (true) kept.push(new Array(1000).fill(1)) } catch (e) {} return {data: {n: 1}}", Any),
    ("var s = 'x'; while (true) s += s", Any),
    // Large blocks count for the heap, of 8 MiB, as small ones do.
    ("return {data: new Uint8Array(9e6).length}", Aside(Reason::DecoderMemory)),
    ("return {data: new Uint8Array(6e6).length}", Rows(1)),
    ("throw new Error('bad payload')", Aside(Reason::DecoderError)),
    ("throw null", Aside(Reason::DecoderMemory)),
    ("throw {toString() { while (true) {} }, get message() { while (true) {} }}", Aside(Reason::DecoderSteps)),
    ("return {data: 'x'.repeat(4e6)}", Aside(Reason::DecoderError)),
    ("function f(n) { return 1 + f(n + 1) } return {data: f(0)}", Aside(Reason::DecoderError)),
    (
        "var o = {toString() { return [1, 2, 3].sort(function () { return '' + o }) + '' }}; return {data: '' + o}",
        Aside(Reason::DecoderError),
    ),
    ("var a = []; for (var k = 0; k < 20000; k++) a = [a]; return {data: a}", Aside(Reason::DecoderError)),
    ("var a = {}; a.a = a; return {data: a}", Aside(Reason::DecoderError)),
    ("return {data: eval('('.repeat(200000) + '1' + ')'.repeat(200000))}", Aside(Reason::DecoderError)),
    ("return {data: new RegExp('('.repeat(100000) + ')'.repeat(100000)).test('a')}", Any),
    ("return {data: JSON.parse('['.repeat(200000) + ']'.repeat(200000)).length}", Aside(Reason::DecoderError)),
    ("var x = 3n; for (;;) x = x * x", Any),
    ("return {data: {a: NaN, b: undefined, c: 1 / 0, d: -0, e: () => 1}}", Rows(1)),
    ("return Promise.resolve({data: 1})", Aside(Reason::DecoderError)),
    ("return", Aside(Reason::DecoderError)),
    ("return {data: String(Atomics.wait(new Int32Array(new SharedArrayBuffer(8)), 0, 0, 1e9))}", Any),
    ("Object.prototype.data = 7; Array.prototype.push = null; return {data: {x: 1}}", Rows(1)),
    ("return {data: Object.fromEntries(Array.from({length: 300}, (_, i) => ['k' + i, i]))}", Aside(Reason::TooManyFields)),
    ("(function* g() { yield* g() })().next(); return {data: {x: 1}}", Aside(Reason::DecoderError)),
    ("globalThis.decodeUplink = null; entry = null; return {data: {x: 1}}", Rows(1)),
];

const GOOD: &str = "var n = 0; function decodeUplink(input) { n++; return {data: {n: n, length: input.bytes.length}} }";

fn assert_good(bench: &mut Bench, good: Decoding, behind: &str) {
    let decoded = bench.decode(good, &[1, 2]).unwrap();
    let values: Vec<_> = decoded.measurements.iter().map(|m| format!("{}={:?}", m.field, m.value)).collect();
    assert_eq!(values, ["n=Number(1.0)", "length=Number(2.0)"], "behind {behind}");
}

#[test]
fn a_hostile_script_ends_within_its_limits_and_leaves_the_worker_alone() {
    let limits = DecoderLimits::default();
    let longest = limits.watchdog * 10;
    // What a count must end, a watchdog that barks early must not.
    let patient = DecoderLimits { watchdog: Duration::from_secs(60), ..limits.clone() };
    let mut benches = [limits, patient].map(|limits| {
        let mut bench = Bench::open(limits);
        let good = bench.script(GOOD);
        assert_good(&mut bench, good, "nothing");
        (bench, good)
    });
    for (body, expected) in SCRIPTS {
        let (bench, good) = &mut benches[usize::from(*expected != Any)];
        // The same script decodes a good payload, so that it must go on working itself.
        let source = format!(
            "var kept = []; function decodeUplink(input) {{ if (input.bytes[0] == 1) return {{data: {{ok: kept.length}}}};\n{body} }}"
        );
        let hostile = bench.script(&source);
        let begun = processor_time();
        let ended = bench.decode(hostile, &[9]);
        let took = processor_time() - begun;
        assert!(took < longest, "{body}: took {took:?}");
        match (expected, &ended) {
            (Rows(rows), Ok(decoded)) => assert_eq!(decoded.measurements.len(), *rows, "{body}"),
            (Aside(reason), Err(failure)) => assert_eq!(failure.reason, *reason, "{body}: {}", failure.detail),
            (Any, _) => {}
            _ => panic!("{body}: {ended:?}, expected {expected:?}"),
        }
        let again = bench.decode(hostile, &[1]).unwrap_or_else(|failure| panic!("behind {body}: {failure:?}"));
        assert_eq!(again.measurements[0].value, dataflows::model::Value::Number(0.0), "behind {body}");
        assert_good(bench, *good, body);
    }
}

/// What the processor has worked for this thread. A busy machine takes longer by the clock, and the limits do not
/// count that.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // Behind the name in parentheses; user and system time are the fields 14 and 15, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

#[test]
fn what_no_step_ends_the_watchdog_ends_with_a_verdict() {
    let limits = DecoderLimits { watchdog: Duration::from_millis(200), ..DecoderLimits::default() };
    let mut bench = Bench::open(limits);
    let good = bench.script(GOOD);
    // One call of a builtin that polls nothing.
    let hostile = bench.script(
        "function decodeUplink(input) { if (input.bytes[0] == 1) return {data: 1}; var s = 'a'.repeat(1e6); return {data: (s + 'c').indexOf('a'.repeat(5e5) + 'b')} }",
    );
    let begun = processor_time();
    let failure = bench.decode(hostile, &[9]).unwrap_err();
    let took = processor_time() - begun;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(failure.reason, Reason::DecoderKilled, "{}", failure.detail);
    assert_eq!(*bench.verdicts.0.lock().unwrap(), [(Partition(3), Offset(1))]);
    assert_good(&mut bench, good, "a kill");
    assert!(bench.decode(hostile, &[1]).is_ok(), "a decoder that was killed is loaded anew");
    assert_eq!(bench.verdicts.0.lock().unwrap().len(), 1);
}

#[test]
fn scripts_that_cannot_be_loaded_are_refused_with_the_reason() {
    let bench = Bench::open(DecoderLimits { steps: 20, ..DecoderLimits::default() });
    let check = |source: &str, expected: &str| {
        let error = bench.decoders.put(DecoderKind::JavaScript, source.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}: {error}");
    };
    check("while (true) {} function decodeUplink() {}", "used up its steps while it was loaded");
    check(
        "var a = []; for (;;) a.push('x'.repeat(1e6) + a.length); function decodeUplink() {}",
        "used up its memory while it was loaded",
    );
    check("throw new Error('no'); function decodeUplink() {}", "Error: no");
    check("function decodeUplink( {}", "SyntaxError");
    check("var decodeUplink = 7", "no function decodeUplink, Decode or Decoder");
    check("", "no function decodeUplink, Decode or Decoder");
    check(&"x".repeat(5 << 20), "more than 4194304: shorten its tables");
}

/// A log that cannot be written.
struct Broken;

impl weir::decoder::VerdictSink for Broken {
    fn condemn(&self, _: Partition, _: Offset) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("no space left on device".into())
    }
}

#[test]
#[should_panic(expected = "partition 3 offset 7: the watchdog's verdict is not in the log: no space left on device")]
fn an_uplink_is_not_passed_without_its_verdict() {
    let limits = DecoderLimits { watchdog: Duration::from_millis(100), ..DecoderLimits::default() };
    let bench = Bench::open(limits.clone());
    let hash = bench.put(
        DecoderKind::JavaScript,
        b"function decodeUplink() { var s = 'a'.repeat(1e6); return {data: (s + 'c').indexOf('a'.repeat(5e5) + 'b')} }",
    );
    let decoders = weir::decoder::Decoders::open(bench.dir.path(), limits, std::sync::Arc::new(Broken)).unwrap();
    let _ = crate::support::decode(&mut decoders.worker(), Decoding::JavaScript(hash), &[1], Offset(7));
}

/// Once an uplink was decoded and its rows are in the tables, no replay may come to another end.
#[test]
fn what_is_settled_is_not_ended_by_the_watchdog() {
    let limits = DecoderLimits { watchdog: Duration::from_millis(50), ..DecoderLimits::default() };
    let bench = Bench::open(limits);
    let slow = "function decodeUplink() { return {data: {at: ('a'.repeat(6e4) + 'c').indexOf('a'.repeat(3e4) + 'b')}} }";
    let slow = bench.script(slow);
    let mut worker = bench.decoders.worker().settled_below(|partition| Offset(if partition == Partition(3) { 8 } else { 0 }));
    let mut at = |offset| crate::support::decode(&mut worker, slow, &[1], Offset(offset)).map_err(|failure| failure.reason);
    assert_eq!(at(7).unwrap().measurements.len(), 1);
    assert_eq!(at(8).unwrap_err(), Reason::DecoderKilled);
    assert_eq!(at(7).unwrap().measurements.len(), 1, "also behind one that was ended");
    assert_eq!(*bench.verdicts.0.lock().unwrap(), [(Partition(3), Offset(8))]);
}
