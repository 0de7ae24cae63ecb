//! What the fuzzer asks of segments.

use super::frame::{self, Frame, Kind, Part, RECORD_OVERHEAD_BYTES};
use super::position::Position;
use super::survey::{Piece, Subject};
use dataflows::model::LogTime;
use std::collections::BTreeMap;

/// Partitions of the log.
pub const PARTITIONS: u16 = 4;
const SALT: u64 = 0x1234_5678_9abc_def0;

/// Writes frames of records (partition and body), changes the segment, and looks at what is left.
///
/// Panics: when what passes for good is not what was written, or a segment that was only cut is damaged or has lost a whole
/// frame.
pub fn survey(frames: &[Vec<(u16, Vec<u8>)>], cut: usize, flips: &[(u16, u8)]) {
    let origin = Position::origin(PARTITIONS);
    let (mut bytes, mut position, mut ends) = (Vec::new(), origin.clone(), Vec::new());
    for (seq, records) in (0..).zip(frames.iter().filter(|records| !records.is_empty())) {
        bytes.extend(encoded(records, seq, &position));
        let at = ends.last().copied().unwrap_or_default();
        position.pass(&Frame::parse(&bytes[at..], SALT).expect("a frame is what was written"));
        ends.push(bytes.len());
    }
    let written = bytes.clone();
    bytes.truncate(bytes.len().saturating_sub(cut));
    for (at, bits) in flips {
        if let Some(byte) = bytes.get_mut(usize::from(*at)) {
            *byte ^= bits;
        }
    }
    let subject = Subject { number: 1, bytes: &bytes, frames_at: 0, base: &origin, next: None };
    let surveyed = subject.survey(SALT);
    assert!(surveyed.end_bytes <= bytes.len());
    let mut good = 0;
    for piece in &surveyed.pieces {
        if let Piece::Good(at, frame) = piece {
            let place = *at..at + frame.bytes();
            assert_eq!(bytes.get(place.clone()), written.get(place), "no frame is good but as it was written");
            good += 1;
        }
    }
    if flips.iter().all(|(_, bits)| *bits == 0) {
        assert!(surveyed.damages.is_empty(), "a torn tail is no damage");
        assert_eq!(good, ends.iter().filter(|end| **end <= bytes.len()).count(), "every whole frame is good");
    }
}

fn encoded(records: &[(u16, Vec<u8>)], seq: u64, position: &Position) -> Vec<u8> {
    let mut of_partition = BTreeMap::<u16, Vec<&[u8]>>::new();
    for (partition, body) in records {
        of_partition.entry(*partition).or_default().push(body);
    }
    let part = |(&partition, bodies): (&u16, &Vec<&[u8]>)| Part {
        partition,
        first: position.next[usize::from(partition)],
        records: bodies.len() as u32,
        bytes: bodies.iter().map(|body| (body.len() + RECORD_OVERHEAD_BYTES) as u32).sum(),
    };
    let parts: Vec<_> = of_partition.iter().map(part).collect();
    let mut frame = Vec::new();
    frame::encode(&mut frame, SALT, (Kind::Data, seq, LogTime(1)), &parts, of_partition.values().flatten().copied());
    frame
}
