//! What decoders return, in the binary form of weir's guests and as JSON: two results one after the other, since the
//! first may open the short way to the second.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decoder::fuzzing;

fuzz_target!(|results: (&[u8], &str, &[u8])| {
    let (earlier, json, later) = results;
    fuzzing::results(earlier, later);
    fuzzing::results(later, later);
    // Most texts are no JSON; what counts is that they are told apart.
    let _ = fuzzing::json(json);
});
