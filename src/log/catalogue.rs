//! Owns what the log holds at this moment: its segments, and the position behind the last durable frame.
//! Readers go by it alone, so what is readable is fsynced.

use super::error::LostRange;
use super::header::Header;
use super::index::BlockIndex;
use super::position::Position;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A segment file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Where it begins; shared, because every read of a block takes a segment with it.
    pub(super) base: Arc<Position>,
    /// Where its last durable frame ends. Unit: bytes.
    pub(super) end: u64,
}

/// The segments of an open log.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// In order; the last is the one that is appended to. Never empty.
    pub(super) segments: VecDeque<Segment>,
    /// The blocks of the last segment.
    pub(super) tail: BlockIndex,
    /// The position behind the last durable frame.
    pub(super) end: Position,
    /// What was set aside, in kept segments.
    pub(super) lost: Vec<LostRange>,
}

/// Where an offset is.
pub(super) enum Place {
    /// In this block of the last segment.
    Tail { segment: u64, block: Range<u64> },
    /// In this segment, which ends at a known position.
    Sealed { segment: Segment, end: Arc<Position> },
}

impl Catalogue {
    /// The segment that is appended to.
    pub(super) fn tail_segment(&self) -> &Segment {
        self.segments.back().expect("a log has at least one segment")
    }

    /// First offset of a partition that is kept.
    pub(super) fn start(&self, partition: u16) -> u64 {
        self.segments.front().expect("a log has at least one segment").base.next[usize::from(partition)]
    }

    /// Finds an offset that lies between [`Self::start`] and the end.
    pub(super) fn find(&self, partition: u16, offset: u64) -> Place {
        let behind = self.segments.partition_point(|segment| segment.base.next[usize::from(partition)] <= offset);
        let segment = &self.segments[behind.saturating_sub(1)];
        match self.segments.get(behind) {
            Some(next) => Place::Sealed { segment: segment.clone(), end: Arc::clone(&next.base) },
            None => Place::Tail { segment: segment.number, block: self.tail.block(partition, offset, segment.end) },
        }
    }

    /// Space that the segments take, with what is set aside for the last one. Unit: bytes.
    pub(super) fn bytes(&self, segment_bytes: u64) -> u64 {
        let sealed: u64 = self.segments.iter().map(|segment| segment.end).sum();
        sealed - self.tail_segment().end + self.tail_segment().end.max(segment_bytes)
    }

    /// How many leading segments hold nothing at or above `low`, the last one aside.
    pub(super) fn droppable(&self, low: &[u64]) -> usize {
        let below = |next: &&Segment| next.base.next.iter().zip(low).all(|(end, low)| end <= low);
        self.segments.iter().skip(1).take_while(below).count()
    }
}

impl Segment {
    /// An empty one.
    pub(super) fn begin(header: Header) -> Self {
        let end = Header::bytes(header.base.next.len() as u16) as u64;
        Self { number: header.number, base: Arc::new(header.base), end }
    }
}
