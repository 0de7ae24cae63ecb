//! Owns the head of a segment file: which segment of which log it is, and the position it begins at.
//!
//! A header tells where the segment before it ended, so a segment that is missing or cut short is seen
//! when the log is opened, without reading more than the headers.

use super::disk::Disk;
use super::frame::{ALIGN, u16_at, u32_at, u64_at};
use super::position::Position;
use dataflows::model::LogTime;
use std::io;
use uuid::Uuid;

const MAGIC: u64 = u64::from_le_bytes(*b"weirsegm");
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 72;
const PARTITION_BYTES: usize = 16;

/// The head of a segment file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The log's id.
    pub(super) log: Uuid,
    /// The segment's number.
    pub(super) number: u64,
    /// Where the segment before it ended; 0 if there was none. Unit: bytes.
    pub(super) end_before: u64,
    /// Whether the segment was written anew, with lost frames named in it, in place of a damaged one.
    pub(super) mended: bool,
    /// Where a mended segment that is not the last one ends, which the next header cannot know; else 0. Unit: bytes.
    pub(super) mended_end: u64,
    /// Where the segment begins.
    pub(super) base: Position,
}

impl Header {
    /// Size on disk. Unit: bytes.
    pub(super) fn bytes(partitions: u16) -> usize {
        (FIXED_BYTES + usize::from(partitions) * PARTITION_BYTES + 4).next_multiple_of(ALIGN)
    }

    /// Gives the file's first bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let partitions = self.base.next.len() as u16;
        let mut out = Vec::with_capacity(Self::bytes(partitions));
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&partitions.to_le_bytes());
        out.extend_from_slice(&u32::from(self.mended).to_le_bytes());
        out.extend_from_slice(self.log.as_bytes());
        for number in [self.number, self.end_before, self.mended_end, self.base.seq, self.base.last.0 as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (next, time) in self.base.next.iter().zip(&self.base.times) {
            out.extend_from_slice(&next.to_le_bytes());
            out.extend_from_slice(&time.0.to_le_bytes());
        }
        out.resize(Self::bytes(partitions) - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads the head of segment `number` of `log`; none if it is not that, byte for byte.
    pub(super) fn parse(bytes: &[u8], log: Uuid, number: u64, partitions: u16) -> Option<Self> {
        let bytes = bytes.get(..Self::bytes(partitions))?;
        let (content, crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(content) != u32_at(crc, 0) || u64_at(content, 0) != MAGIC {
            return None;
        }
        let fits = u16_at(content, 8) == VERSION && u16_at(content, 10) == partitions;
        if !fits || content[16..32] != *log.as_bytes() || u64_at(content, 32) != number {
            return None;
        }
        let table = || content[FIXED_BYTES..].chunks_exact(PARTITION_BYTES).take(usize::from(partitions));
        Some(Self {
            log,
            number,
            mended: u32_at(content, 12) != 0,
            end_before: u64_at(content, 40),
            mended_end: u64_at(content, 48),
            base: Position {
                seq: u64_at(content, 56),
                last: LogTime(u64_at(content, 64) as i64),
                next: table().map(|row| u64_at(row, 0)).collect(),
                times: table().map(|row| LogTime(u64_at(row, 8) as i64)).collect(),
            },
        })
    }
}

/// Reads the head of a segment's file, and no more of it; none if the file is missing or does not begin with it.
pub(super) fn read(disk: &dyn Disk, log: Uuid, number: u64, partitions: u16) -> io::Result<Option<Header>> {
    let mut head = vec![0; Header::bytes(partitions)];
    let read = disk.open(&file_name(number)).and_then(|file| file.read_at(&mut head, 0));
    match read {
        Ok(()) => Ok(Header::parse(&head, log, number, partitions)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file name of a segment.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:012}.seg")
}

/// The number of the segment that has this file name.
pub(super) fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".seg")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_back_what_was_put_in_and_shows_every_flipped_bit() {
        let log = Uuid::from_u128(7);
        let base = Position { seq: 1, last: LogTime(2), next: vec![3, 4, 5], times: vec![LogTime(6), LogTime(7), LogTime(2)] };
        let header = Header { log, number: 12, end_before: 999, mended: true, mended_end: 888, base };
        let bytes = header.encode();
        assert_eq!(bytes.len(), Header::bytes(3));
        assert_eq!(Header::parse(&bytes, log, 12, 3), Some(header));
        assert_eq!(Header::parse(&bytes, log, 13, 3), None);
        assert_eq!(Header::parse(&bytes, Uuid::from_u128(8), 12, 3), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&flipped, log, 12, 3), None, "bit {bit}");
        }
    }

    #[test]
    fn segment_files_are_told_by_their_names() {
        let check = |name: &str, expected: Option<u64>| assert_eq!(file_number(name), expected, "{name}");
        check("000000000001.seg", Some(1));
        check("1.seg", None);
        check("000000000001.tmp", None);
        check("LOG", None);
    }
}
