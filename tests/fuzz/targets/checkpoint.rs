//! Checkpoints as the database returns them: the bytes as they are, and as what zstd unpacks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::runtime::checkpoint::{CHECKPOINT_VERSION, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let packed = zstd::encode_all(bytes, 1).expect("compressing into memory does not fail");
    for stored in [bytes, &packed] {
        if let Ok(state) = decode(CHECKPOINT_VERSION, stored) {
            // Compared as bytes: a number that is none is not equal to itself.
            let again = encode(&state);
            assert_eq!(encode(&decode(CHECKPOINT_VERSION, &again).expect("what was written can be read")), again);
        }
    }
});
