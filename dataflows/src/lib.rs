//! The dataflow graph of weir: dedup, lookup, decode, change and rollup. Pure: no I/O, no clock.

pub mod decode;
pub mod model;
