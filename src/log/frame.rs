//! Owns the form of a frame: what one group commit writes, checked as a whole by two CRCs.
//!
//! ```text
//! head       salt u64 · seq u64 · log time i64 · body bytes u32 · body CRC u32 · parts u16 · kind u8 · 0 u8 · head CRC u32
//! directory  for each partition in it: first offset u64 · records u32 · bytes u32 · partition u16   (under the head CRC)
//! body       part by part, records of: length u32 · bytes; zeros up to a multiple of 8              (under the body CRC)
//! ```
//!
//! Numbers are little-endian. The salt is the log's own secret, so that no payload can contain something
//! that passes for a frame. The directory has its CRC apart from the body, so that damage in a body
//! still tells exactly which offsets it cost.

use super::position::Position;
use dataflows::model::LogTime;
use std::ops::Range;

const HEAD_BYTES: usize = 40;
const HEAD_CRC_AT: usize = 36;
const PART_BYTES: usize = 18;
/// Bytes that a record takes beside its own: its length.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 4;
/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;

/// What a frame is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Records.
    Data,
    /// The log was closed in order: the frame before it is complete.
    Closed,
    /// Stands for frames that were lost and set aside; has a directory and no body.
    Lost,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Data, Self::Closed, Self::Lost];
}

/// The records of one partition in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) partition: u16,
    pub(super) first: u64,
    pub(super) records: u32,
    /// What the records take in the body. In a [`Kind::Lost`] frame: 0 if `records` is exact, 1 if it is a bound.
    pub(super) bytes: u32,
}

impl Part {
    /// The offset behind the last one.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.records)
    }
}

/// A frame's head and directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) seq: u64,
    pub(super) log_time: LogTime,
    pub(super) parts: Vec<Part>,
    body_bytes: usize,
    body_crc: u32,
}

impl Frame {
    /// Reads the frame that begins at `bytes[0]`, and believes it if the head CRC does.
    pub(super) fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let head = bytes.get(..HEAD_BYTES)?;
        if u64_at(head, 0) != salt {
            return None;
        }
        let directory_bytes = usize::from(u16_at(head, 32)) * PART_BYTES;
        let directory = bytes.get(HEAD_BYTES..HEAD_BYTES + directory_bytes)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..HEAD_CRC_AT]), directory);
        if crc != u32_at(head, HEAD_CRC_AT) {
            return None;
        }
        Some(Self {
            kind: *Kind::ALL.get(usize::from(head[34]))?,
            seq: u64_at(head, 8),
            log_time: LogTime(u64_at(head, 16) as i64),
            parts: directory.chunks_exact(PART_BYTES).map(part).collect(),
            body_bytes: u32_at(head, 24) as usize,
            body_crc: u32_at(head, 28),
        })
    }

    /// Where the body is, counted from the frame's begin.
    fn body(&self) -> Range<usize> {
        let from = HEAD_BYTES + self.parts.len() * PART_BYTES;
        from..from + self.body_bytes
    }

    /// Size on disk. Unit: bytes, a multiple of [`ALIGN`].
    pub(super) fn bytes(&self) -> usize {
        self.body().end
    }

    /// Tells whether the body, in the bytes that begin with this frame, is what was written.
    pub(super) fn is_whole(&self, bytes: &[u8]) -> bool {
        bytes.get(self.body()).is_some_and(|body| crc32c::crc32c(body) == self.body_crc)
    }

    /// Gives each part with the place of its records, counted from the frame's begin.
    pub(super) fn placed_parts(&self) -> impl Iterator<Item = (Part, Range<usize>)> {
        let mut at = self.body().start;
        self.parts.iter().map(move |part| {
            let from = at;
            at += if self.kind == Kind::Lost { 0 } else { part.bytes as usize };
            (*part, from..at)
        })
    }

    /// Tells whether the frame is the one that comes at `position`.
    pub(super) fn follows(&self, position: &Position) -> bool {
        let offsets = self.parts.iter().all(|part| position.next.get(usize::from(part.partition)) == Some(&part.first));
        let seq = if self.kind == Kind::Lost { self.seq >= position.seq } else { self.seq == position.seq };
        offsets && seq
    }
}

/// Largest frame for a group of `group_bytes`, record lengths included. Unit: bytes.
pub(super) fn bytes_max(partitions: u16, group_bytes: usize) -> usize {
    (HEAD_BYTES + usize::from(partitions) * PART_BYTES + group_bytes).next_multiple_of(ALIGN)
}

/// Writes a frame of `parts`, whose records are in `bodies` part by part, over `out`.
pub(super) fn encode<'a>(
    out: &mut Vec<u8>,
    salt: u64,
    (kind, seq, log_time): (Kind, u64, LogTime),
    parts: &[Part],
    bodies: impl Iterator<Item = &'a [u8]>,
) {
    out.clear();
    out.resize(HEAD_BYTES, 0);
    for part in parts {
        out.extend_from_slice(&part.first.to_le_bytes());
        out.extend_from_slice(&part.records.to_le_bytes());
        out.extend_from_slice(&part.bytes.to_le_bytes());
        out.extend_from_slice(&part.partition.to_le_bytes());
    }
    let body_at = out.len();
    for body in bodies {
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(body);
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let (body_bytes, body_crc) = (out.len() - body_at, crc32c::crc32c(&out[body_at..]));
    let kind_no = Kind::ALL.iter().position(|k| *k == kind).expect("every kind is listed") as u8;
    out[0..8].copy_from_slice(&salt.to_le_bytes());
    out[8..16].copy_from_slice(&seq.to_le_bytes());
    out[16..24].copy_from_slice(&log_time.0.to_le_bytes());
    out[24..28].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    out[28..32].copy_from_slice(&body_crc.to_le_bytes());
    out[32..34].copy_from_slice(&(parts.len() as u16).to_le_bytes());
    out[34] = kind_no;
    let head_crc = crc32c::crc32c_append(crc32c::crc32c(&out[..HEAD_CRC_AT]), &out[HEAD_BYTES..body_at]);
    out[HEAD_CRC_AT..HEAD_BYTES].copy_from_slice(&head_crc.to_le_bytes());
}

/// Gives the records that a part's bytes hold.
///
/// The bytes were checked by the body CRC: should they still not hold together, the iterator ends early.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_at_checked(RECORD_OVERHEAD_BYTES)?;
        let (record, rest) = rest.split_at_checked(u32_at(length, 0) as usize)?;
        bytes = rest;
        Some(record)
    })
}

fn part(bytes: &[u8]) -> Part {
    Part { first: u64_at(bytes, 0), records: u32_at(bytes, 8), bytes: u32_at(bytes, 12), partition: u16_at(bytes, 16) }
}

/// Reads a number; the caller has checked that it is there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range has 8 bytes"))
}

/// Reads a number; the caller has checked that it is there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range has 4 bytes"))
}

/// Reads a number; the caller has checked that it is there.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("the range has 2 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;

    fn example() -> Vec<u8> {
        let parts = [
            Part { partition: 2, first: 7, records: 2, bytes: 4 + 3 + 4 },
            Part { partition: 5, first: 0, records: 1, bytes: 4 + 1 },
        ];
        let mut out = vec![];
        let bodies: [&[u8]; 3] = [b"abc", b"", b"x"];
        encode(&mut out, SALT, (Kind::Data, 9, LogTime(-1)), &parts, bodies.into_iter());
        out
    }

    #[test]
    fn a_frame_gives_back_what_was_put_in() {
        let bytes = example();
        let frame = Frame::parse(&bytes, SALT).unwrap();
        assert!(frame.is_whole(&bytes));
        assert_eq!((frame.kind, frame.seq, frame.log_time, frame.bytes()), (Kind::Data, 9, LogTime(-1), bytes.len()));
        let got: Vec<_> =
            frame.placed_parts().map(|(p, at)| (p.partition, p.first, records(&bytes[at]).collect::<Vec<_>>())).collect();
        assert_eq!(got, [(2, 7, vec![b"abc".as_slice(), b""]), (5, 0, vec![b"x".as_slice()])]);
    }

    #[test]
    fn every_flipped_bit_and_every_short_end_is_seen() {
        let bytes = example();
        let good = |bytes: &[u8]| Frame::parse(bytes, SALT).is_some_and(|frame| frame.is_whole(bytes));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Byte 35 and the padding are under the CRCs too.
            assert!(!good(&flipped), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!good(&bytes[..length]), "length {length}");
        }
        assert!(Frame::parse(&bytes, SALT + 1).is_none());
    }
}
