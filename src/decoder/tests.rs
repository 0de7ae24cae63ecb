//! What scripts and modules can do and cannot.

use super::testing::{open, run};
use super::*;

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
