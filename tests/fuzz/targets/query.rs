//! Query strings, up to the buckets that would be read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| weir::query::fuzzing::ask(text));
