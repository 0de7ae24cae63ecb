//! Owns the way from an offset to the bytes around it: a segment is cut into blocks of whole frames, and
//! only the offsets at which each block begins are kept in memory.

use super::frame::Frame;
use super::position::Position;
use std::ops::Range;

/// A block ends with the first frame that ends this far behind its begin. Unit: bytes.
const BLOCK_BYTES: u64 = 64 << 10;

/// Where the blocks of a segment begin.
///
/// State: one number per partition for each 64 KiB of log.
#[derive(Clone, Debug)]
pub(super) struct BlockIndex {
    partitions: usize,
    starts: Vec<u32>,
    /// The next offset of each partition at each start.
    next: Vec<u64>,
}

impl BlockIndex {
    /// An index of no frames.
    pub(super) fn new(partitions: u16) -> Self {
        Self { partitions: usize::from(partitions), starts: vec![], next: vec![] }
    }

    /// Takes in the frame at byte `at`, which comes at `position`. Frames are taken in order.
    pub(super) fn note(&mut self, at: u64, position: &Position) {
        if self.starts.last().is_none_or(|start| at - u64::from(*start) >= BLOCK_BYTES) {
            self.starts.push(u32::try_from(at).expect("segments are at most 1 GiB"));
            self.next.extend_from_slice(&position.next);
        }
    }

    /// Gives the bytes of the block that holds an offset which the segment, of `end` bytes, does hold.
    pub(super) fn block(&self, partition: u16, offset: u64, end: u64) -> Range<u64> {
        let next = |block: usize| self.next[block * self.partitions + usize::from(partition)];
        let (mut low, mut high) = (0, self.starts.len());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if next(middle) <= offset { low = middle } else { high = middle }
        }
        let start = |block: usize| self.starts.get(block).map(|start| u64::from(*start));
        start(low).unwrap_or(end)..start(low + 1).unwrap_or(end)
    }

    /// Memory that it takes. Unit: bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.starts.len() * 4 + self.next.len() * 8
    }
}

/// How much of a frame [`walk`] checks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// That it is the one that comes next; its body is checked when it is read.
    Heads,
    /// The body too.
    Bodies,
}

/// Goes from frame to frame from byte `from` on, as long as they are good and follow each other.
///
/// Gives where it stopped, with `position` moved there.
pub(super) fn walk(
    bytes: &[u8],
    from: usize,
    salt: u64,
    check: Check,
    position: &mut Position,
    mut each: impl FnMut(usize, &Frame, &Position),
) -> usize {
    let mut at = from;
    while let Some(frame) = Frame::parse(&bytes[at..], salt) {
        let whole = match check {
            Check::Heads => at + frame.bytes() <= bytes.len(),
            Check::Bodies => frame.is_whole(&bytes[at..]),
        };
        if !whole || !frame.follows(position) {
            break;
        }
        each(at, &frame, position);
        position.pass(&frame);
        at += frame.bytes();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_an_offset_is_the_last_that_begins_at_or_before_it() {
        let mut index = BlockIndex::new(2);
        let mut position = Position::origin(2);
        // Frames of 40,000 bytes, each with 10 records of partition 0 and, every fourth, one of partition 1.
        for frame in 0..8 {
            index.note(100 + frame * 40_000, &position);
            position.next[0] += 10;
            position.next[1] += u64::from(frame % 4 == 3);
        }
        let end = 100 + 8 * 40_000;
        let check = |partition, offset, first_frame: u64, behind: u64| {
            assert_eq!(
                index.block(partition, offset, end),
                100 + first_frame * 40_000..100 + behind * 40_000,
                "{partition} {offset}"
            );
        };
        check(0, 0, 0, 2);
        check(0, 19, 0, 2);
        check(0, 20, 2, 4);
        check(0, 79, 6, 8);
        check(1, 0, 2, 4);
        check(1, 1, 6, 8);
    }
}
