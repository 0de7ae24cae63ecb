//! Owns a stretch of a segment in memory: whole frames, checked, found by partition and offset.

use super::frame::{self, Frame, Kind};
use bytes::Bytes;
use dataflows::model::LogTime;
use std::ops::Range;

/// Largest memory that is given back for another block: what one long frame needed is let go of. Unit: bytes.
const GIVEN_BACK_BYTES_MAX: usize = 1 << 20;

/// Some whole frames of a segment.
pub(super) struct Block {
    bytes: Bytes,
    /// What the bytes were read into may be larger.
    room_bytes: usize,
    /// Sorted by partition and offset.
    parts: Vec<BlockPart>,
}

/// The records of one partition in one frame.
pub(super) struct BlockPart {
    pub(super) partition: u16,
    pub(super) first: u64,
    /// The offset behind the last one.
    pub(super) end: u64,
    pub(super) log_time: LogTime,
    pub(super) kind: Kind,
    at: Range<usize>,
}

impl Block {
    /// Checks the frames that `bytes` consist of.
    ///
    /// Errors: the byte from which on they are not frames.
    pub(super) fn parse(bytes: Vec<u8>, salt: u64) -> Result<Self, usize> {
        let mut parts = vec![];
        let mut from = 0;
        while from < bytes.len() {
            let frame = Frame::parse(&bytes[from..], salt).filter(|frame| frame.is_whole(&bytes[from..])).ok_or(from)?;
            parts.extend(frame.placed_parts().map(|(part, at)| BlockPart {
                partition: part.partition,
                first: part.first,
                end: part.end(),
                log_time: frame.log_time,
                kind: frame.kind,
                at: from + at.start..from + at.end,
            }));
            from += frame.bytes();
        }
        parts.sort_unstable_by_key(|part| (part.partition, part.first));
        Ok(Self { room_bytes: bytes.capacity(), bytes: bytes.into(), parts })
    }

    /// Gives the parts of a partition that hold `offset` or later ones, in order.
    pub(super) fn parts(&self, partition: u16, offset: u64) -> impl Iterator<Item = &BlockPart> {
        let from = self.parts.partition_point(|part| (part.partition, part.end) <= (partition, offset));
        self.parts[from..].iter().take_while(move |part| part.partition == partition)
    }

    /// Gives the records of one of its parts, in order; each shares the block's memory.
    pub(super) fn records(&self, part: &BlockPart) -> impl Iterator<Item = Bytes> {
        frame::records(&self.bytes[part.at.clone()]).map(|record| self.bytes.slice_ref(record))
    }

    /// Gives its memory back for another block; none where records still share it, or where it is large.
    pub(super) fn into_memory(self) -> Option<Vec<u8>> {
        let bytes = Some(self.bytes).filter(|_| self.room_bytes <= GIVEN_BACK_BYTES_MAX)?;
        bytes.try_into_mut().ok().map(Vec::from)
    }

    /// Size on disk. Unit: bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Memory that it takes. Unit: bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.room_bytes + self.parts.len() * size_of::<BlockPart>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_as_it_is_and_given_back_unless_it_is_large() {
        let empty = |room_bytes| Block::parse(Vec::with_capacity(room_bytes), 0).unwrap_or_else(|at| panic!("byte {at}"));
        assert_eq!(empty(1 << 16).memory_bytes(), 1 << 16, "a block that was read into the memory of a larger one");
        assert!(empty(GIVEN_BACK_BYTES_MAX).into_memory().is_some());
        assert!(empty(GIVEN_BACK_BYTES_MAX + 1).into_memory().is_none());
    }
}
