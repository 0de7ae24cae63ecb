//! A segment of the log: frames as the log writes them, then cut and overwritten anywhere.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::log::fuzzing::{PARTITIONS, survey};

/// For each frame the bodies of its records with their partitions; how many bytes the disk lost at the end; and where which
/// bits changed.
type Segment = (Vec<Vec<(u8, Vec<u8>)>>, u16, Vec<(u16, u8)>);

fuzz_target!(|segment: Segment| {
    let (frames, cut, flips) = segment;
    let frame = |bodies: Vec<(u8, Vec<u8>)>| bodies.into_iter().map(|(p, body)| (u16::from(p) % PARTITIONS, body)).collect();
    let frames: Vec<_> = frames.into_iter().map(frame).collect();
    survey(&frames, cut.into(), &flips);
});
