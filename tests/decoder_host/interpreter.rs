//! What weir puts into QuickJS's interpreter changes no result: QuickJS as a native library, without it, is the oracle.

use crate::support::Bench;
use rquickjs_sys as qjs;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_int, c_void};
use weir::decoder::{DecoderInput, DecoderKind, DecoderLimits};

/// Values whose types and sizes meet every branch of an instruction.
const VALUES: &str = "[0, -0, 1, -1, 3, 31, 128, 255, 300, 32767, -32769, 65536, 2147483647, -2147483648, 2147483648, 0.1, \
    -1.5, 1e300, NaN, -Infinity, true, false, null, undefined, '', '7', 'a', 5n, [5], [4, 'x', , {}], {length: 6, x: 7}, \
    {get x() { return 8 }, get length() { return this.x }}, function f(p) { return p }]";

/// Bodies of functions of `a` and `b`.
const BODIES: [&str; 34] = [
    "var x = a, y = b; x = y; y = a; return x === b && y === a",
    "var x = {}; x = []; x = a; x = {n: b}; return x.n",
    "a = b; b = [a]; a = b; return a.length + typeof b[0]",
    "var x = 1; function set() { x = a; x = [b]; x = b } function get() { return x } set(); return get()",
    "var x = a; function more() { x += b; return x } more(); return more()",
    "let f = function () { return z }; try { f() } catch (error) { return error.name } let z = a; return f()",
    "let x = a; { let y = b; x = y; y = a; x = y } return x",
    "try { return x } catch (error) { x2 = error.name } let x = 1; return x; var x2",
    "try { x = 5 } catch (error) { return error.name } let x = 1; return x",
    "const x = a; try { x = b } catch (error) { return error.name }",
    "var x = a; x++; ++x; x--; return x++ + x",
    "var x = a; for (var i = 0; i < 3; i++) x += b; return x",
    "var x = a; for (var i = 3; i--;) x -= 1; return x",
    "var x = 1; for (var i = 0; i < 40; i++) x *= 2; return x | 0",
    "var x = a; x += 2147483647; x -= 1; x *= 3; return x",
    "var x = 2147483646; x++; x++; x++; var y = -2147483647; y--; y--; return [x, y]",
    "return -a + +(typeof b)",
    "switch (a) { case 1: return 'one'; case 128: return 128; case 300: case 32767: return 'large'; case 'a': return 'text' } return 'none'",
    "switch (a & 65535) { case 300: return 1; case 255: return 2; case 32767: return b; default: return 4 }",
    "if (a) return b; if (!b) return a; return a ? 1 : b ? 2 : 3",
    "return !a + !!b",
    "return a && b || a",
    "if (a < 3) return 1; if (a <= 128) return 2; if (a > 65535) return 3; if (a >= 300) return 4; if (a != b) return 5; return 6",
    "var n = 0; while (n < 300) { n++; if (n == 7) continue; if (n === 150) break } return n",
    "return a[b]",
    "return [1, 'second', {}, [4]][a]",
    "var list = [a, b, [a]]; return [list[0], list[1], list[2].length, list[3], list['1'], list.length]",
    "var list = [a]; list.length = 3; list[1] = b; return list[2] === undefined && list.length",
    "return [a.length, b.length]",
    "return [a.x, b.y]",
    "var o = {a: a, b: {c: b}}; return [o.a, o.b.c, o.c, o.toString === Object.prototype.toString]",
    "return arguments.length + [].slice.call(arguments, 1).length",
    "return (function (c, d, e, f) { f = c; c = d; e = f; return [c, d, e, f] })(a, b, 3, 4)",
    "return [null, undefined, true, false, 70000, -70000, 'text', 1.5, a][b]",
];

/// Every operator on every two values, every body with every two values, each as a line of text.
fn script() -> String {
    format!(
        r#"
        var values = {VALUES}, bodies = {BODIES:?};
        var operators = ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", ">>>", "<", "<=", ">", ">=", "==", "!=", "===", "!=="];
        operators.forEach(function (operator) {{
            bodies.push("return a " + operator + " b");
            bodies.push("var x = a, y = b; return x " + operator + " y");
            bodies.push("if (a " + operator + " b) return 1; return 2");
            bodies.push("function inner() {{ return a " + operator + " b }} return inner()");
            bodies.push("return [a " + operator + " 0, a " + operator + " -7, a " + operator + " 200]");
            bodies.push("return [a " + operator + " 70000, 3 " + operator + " b]");
        }});
        function show(value) {{
            if (Array.isArray(value)) return "[" + value.map(show).join() + "]";
            return typeof value + " " + (Object.is(value, -0) ? "-0" : String(value));
        }}
        function tried(f, a, b) {{
            try {{ return show(f(a, b)) }} catch (error) {{ return String(error) }}
        }}
        function lines(first, end) {{
            var all = [];
            for (var n = first; n < end && n < bodies.length; n++) {{
                var f = new Function("a", "b", bodies[n]);
                values.forEach(function (a, i) {{
                    values.forEach(function (b, j) {{ all.push(n + " " + i + " " + j + " " + tried(f, a, b)) }});
                }});
            }}
            return all.join("\n");
        }}
        function decodeUplink(input) {{ return {{data: {{lines: lines(input.bytes[0], input.bytes[0] + 2), count: bodies.length}}}} }}
        "#
    )
}

/// Evaluates in a native runtime, without anything of weir: gives the last value as a text, and how often the runtime
/// asked whether to go on.
pub(crate) fn native(sources: &[&str]) -> (String, u32) {
    extern "C" fn count(_: *mut qjs::JSRuntime, asked: *mut c_void) -> c_int {
        // SAFETY: it is the counter below, which outlives the runtime and is looked at by nobody meanwhile.
        unsafe { *asked.cast::<u32>() += 1 };
        0
    }
    // SAFETY: every pointer was just given by the same library and is freed once, values before their context, the
    // context before its runtime; the sources end in a zero, as `JS_Eval` asks.
    unsafe {
        let mut asked = 0;
        let runtime = qjs::JS_NewRuntime();
        let context = qjs::JS_NewContext(runtime);
        qjs::JS_SetInterruptHandler(runtime, Some(count), (&raw mut asked).cast());
        let mut last = String::new();
        for source in sources {
            let source = CString::new(*source).unwrap();
            let (text, len) = (source.as_ptr(), source.as_bytes().len());
            let value = qjs::JS_Eval(context, text, len as _, c"decoder.js".as_ptr(), qjs::JS_EVAL_TYPE_GLOBAL as _);
            assert!(!qjs::JS_IsException(value), "the script threw");
            let text = qjs::JS_ToCString(context, value);
            last = CStr::from_ptr(text).to_string_lossy().into_owned();
            qjs::JS_FreeCString(context, text);
            qjs::JS_FreeValue(context, value);
        }
        qjs::JS_FreeContext(context);
        qjs::JS_FreeRuntime(runtime);
        (last, asked)
    }
}

#[test]
fn every_operator_gives_what_quickjs_gives() {
    let (bench, script, variables) = (Bench::open(DecoderLimits::default()), script(), BTreeMap::new());
    let given = |body: u8| {
        let input = DecoderInput { fport: None, bytes: &[body], recv_time_us: 0, variables: &variables };
        bench.decoders.decode_once(DecoderKind::JavaScript, script.as_bytes(), &input).unwrap().result
    };
    let count = given(0)["count"].as_f64().unwrap() as u8;
    assert!(usize::from(count) > BODIES.len());
    for body in (0..count).step_by(2) {
        let (expected, _) = native(&[&script, &format!("lines({body}, {body} + 2)")]);
        let given = given(body);
        let given = given["lines"].as_str().unwrap();
        assert!(expected.lines().count() > 1000);
        let differs = given.lines().zip(expected.lines()).find(|(given, expected)| given != expected);
        assert_eq!(differs, None, "body, a, b, result: weir's and QuickJS's");
        assert_eq!(given.len(), expected.len());
    }
}

#[test]
fn every_jump_is_counted() {
    /// Jumps and calls between two questions whether to go on.
    const STEP: u32 = 10_000;
    const LOOPS_MAX: u32 = 1 << 16;
    let script = "function decodeUplink(input) {
        var n = 0, loops = Number(input.variables.loops);
        for (var i = 0; i < loops; i++) { if (i > 7) n++; switch (n) { case 300: n++; case 400: n++ } do n--; while (n > 500); }
        return {data: {n: n}};
    }";
    let (_, asked) = native(&[script, &format!("decodeUplink({{variables: {{loops: {LOOPS_MAX}}}}}).data.n")]);
    let a_round = (f64::from(asked * STEP) / f64::from(LOOPS_MAX)).round() as u32;
    assert!((5..20).contains(&a_round), "{a_round}");

    let longest = |steps: u32| {
        let bench = Bench::open(DecoderLimits { steps, ..DecoderLimits::default() });
        let ends = |loops: u32| {
            let variables = BTreeMap::from([("loops".to_owned(), loops.to_string())]);
            let input = DecoderInput { fport: None, bytes: &[], recv_time_us: 0, variables: &variables };
            let tried = bench.decoders.decode_once(DecoderKind::JavaScript, script.as_bytes(), &input);
            tried.map_err(|error| assert!(error.to_string().contains("used up its steps"), "{error}")).is_ok()
        };
        let bits = LOOPS_MAX.ilog2();
        (0..bits).rev().fold(0, |loops, bit| if ends(loops | 1 << bit) { loops | 1 << bit } else { loops })
    };
    let difference = longest(14) - longest(4);
    assert!(difference.abs_diff(10 * STEP / a_round) <= 1, "{difference} rounds of {a_round} jumps");
}
