//! What decoders return, in the binary form of weir's guests and as JSON: a result, and then one that differs from it in some
//! bytes, since the first may open the short way to the second.
//!
//! An input is the number of changes, for each its place and which bits it turns, and then the result.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decoder::fuzzing;

const CHANGES_MAX: usize = 8;

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let Some((changes, earlier)) = rest.split_at_checked(2 * (usize::from(count) % CHANGES_MAX)) else { return };
    let mut later = earlier.to_vec();
    for change in changes.chunks_exact(2) {
        if let Some(byte) = later.get_mut(usize::from(change[0])) {
            *byte ^= change[1];
        }
    }
    fuzzing::results(earlier, &later);
    if let Ok(json) = str::from_utf8(earlier) {
        // Most texts are no JSON; what counts is that they are told apart.
        let _ = fuzzing::json(json);
    }
});
