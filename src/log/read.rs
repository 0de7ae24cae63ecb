//! Owns reading: by partition and offset, durable frames only, every byte checked on its way from the disk.
//!
//! Partitions share the blocks that one of them has brought into memory, because their records lie side by side.

use super::RawRecord;
use super::block::Block;
use super::catalogue::{Place, Segment};
use super::error::ReadError;
use super::frame::Kind;
use super::header::{self, Header};
use super::index::{BlockIndex, Check};
use super::position::Position;
use super::shared::Shared;
use dataflows::model::{Offset, Partition};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Why bytes of a segment cannot be used.
pub(super) enum Unreadable {
    /// From this byte of this segment on it is not what was written.
    Damaged(u64, u64),
    Io(io::Error),
}

impl Shared {
    /// See [`super::Log::read`].
    pub(super) fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
        out: &mut Vec<RawRecord>,
    ) -> Result<Offset, ReadError> {
        let had = out.len();
        let mut room = bytes_max;
        let mut at = from.0;
        while room > 0 || out.len() == had {
            match self.read_block(partition, at, &mut room, had, out) {
                Ok(next) if next == at => break,
                Ok(next) => at = next,
                // What was read comes first; the same error meets the next call.
                Err(_) if out.len() > had => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Offset(at))
    }

    /// Reads from the block that holds `at`, and gives where to go on: `at` itself at the log's end.
    fn read_block(
        &self,
        partition: Partition,
        at: u64,
        room: &mut usize,
        had: usize,
        out: &mut Vec<RawRecord>,
    ) -> Result<u64, ReadError> {
        let Some(place) = self.place(partition, at)? else { return Ok(at) };
        let block = self.located(partition, at, place).map_err(|unreadable| self.explained(unreadable, partition, at))?;
        let mut next = at;
        for part in block.parts(partition.0, at) {
            if part.kind == Kind::Lost {
                let gap = ReadError::Gap { partition, from: Offset(at), to: Offset(part.end) };
                return if next == at { Err(gap) } else { Ok(next) };
            }
            for body in block.records(part).skip((next - part.first) as usize) {
                if out.len() > had && body.len() > *room {
                    *room = 0;
                    return Ok(next);
                }
                *room = room.saturating_sub(body.len());
                out.push(RawRecord { offset: Offset(next), log_time: part.log_time, body });
                next += 1;
            }
        }
        Ok(next)
    }

    /// None: the log ends at `at`.
    fn place(&self, partition: Partition, at: u64) -> Result<Option<Place>, ReadError> {
        let catalogue = self.catalogue();
        let end = *catalogue.end.next.get(usize::from(partition.0)).ok_or(ReadError::Partition(partition))?;
        let start = catalogue.start(partition.0);
        if at < start {
            return Err(ReadError::Truncated { partition, from: Offset(at), start: Offset(start) });
        }
        match at.cmp(&end) {
            std::cmp::Ordering::Less => Ok(Some(catalogue.find(partition.0, at))),
            std::cmp::Ordering::Equal => Ok(None),
            std::cmp::Ordering::Greater => Err(ReadError::BehindEnd { partition, from: Offset(at), end: Offset(end) }),
        }
    }

    /// Gives the block at a place, which holds the offset.
    fn located(&self, partition: Partition, at: u64, place: Place) -> Result<Arc<Block>, Unreadable> {
        let (segment, bytes) = match place {
            Place::Tail { segment, block } => (segment, block),
            Place::Sealed { segment, end } => {
                let index = self.index(&segment, &end)?;
                (segment.number, index.block(partition.0, at, segment.end))
            }
        };
        let from = bytes.start;
        let block = self.block(segment, bytes)?;
        let holds = block.parts(partition.0, at).next().is_some_and(|part| part.first <= at);
        if holds { Ok(block) } else { Err(Unreadable::Damaged(segment, from)) }
    }

    fn block(&self, segment: u64, at: Range<u64>) -> Result<Arc<Block>, Unreadable> {
        let key = (segment, at.start);
        let wanted_bytes = (at.end - at.start) as usize;
        // The tail's last block grows: an older state of it does not do.
        if let Some(block) = self.blocks.get(key).filter(|block| block.bytes() >= wanted_bytes) {
            return Ok(block);
        }
        let mut bytes = std::mem::take(&mut *self.spare());
        self.fill(&mut bytes, segment, at.clone())?;
        let block = Block::parse(bytes, self.identity.salt).map_err(|bad| Unreadable::Damaged(segment, at.start + bad as u64))?;
        let block = Arc::new(block);
        let gone = self.blocks.put(key, block.clone(), block.memory_bytes());
        if let Some(memory) = gone.and_then(Arc::into_inner).and_then(Block::into_memory) {
            *self.spare() = memory;
        }
        Ok(block)
    }

    /// Gives the index of a sealed segment, which must lead to where the next one begins.
    fn index(&self, segment: &Segment, end: &Position) -> Result<Arc<BlockIndex>, Unreadable> {
        if let Some(index) = self.indexes.get(segment.number) {
            return Ok(index);
        }
        // One at a time, since all workers come to a segment at about the same time and need the same one.
        let _building = self.building.lock().expect("nothing panics while it builds an index");
        if let Some(index) = self.indexes.get(segment.number) {
            return Ok(index);
        }
        let identity = &self.identity;
        let header = self.bytes(segment.number, 0..segment.end.min(Header::bytes(identity.partitions) as u64))?;
        if Header::parse(&header, identity.id, segment.number, identity.partitions)
            .is_none_or(|header| header.base != *segment.base)
        {
            return Err(Unreadable::Damaged(segment.number, 0));
        }
        let mut index = BlockIndex::new(identity.partitions);
        self.walk_segment(segment, end, Check::Heads, |at, _, _, position| index.note(at, position))?;
        let index = Arc::new(index);
        self.indexes.put(segment.number, index.clone(), index.memory_bytes());
        Ok(index)
    }

    fn bytes(&self, segment: u64, at: Range<u64>) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = Vec::new();
        self.fill(&mut bytes, segment, at)?;
        Ok(bytes)
    }

    /// Puts bytes of a segment in place of those that `bytes` holds.
    pub(super) fn fill(&self, bytes: &mut Vec<u8>, segment: u64, at: Range<u64>) -> Result<(), Unreadable> {
        bytes.resize((at.end - at.start) as usize, 0);
        let read = self.disk.open(&header::file_name(segment)).and_then(|file| file.read_at(bytes, at.start));
        match read {
            Ok(()) => Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => Err(Unreadable::Damaged(segment, at.start)),
                _ => Err(Unreadable::Io(error)),
            },
        }
    }

    /// A segment that was truncated away meanwhile is not damaged.
    pub(super) fn explained(&self, unreadable: Unreadable, partition: Partition, at: u64) -> ReadError {
        let (from, start) = (Offset(at), Offset(self.catalogue().start(partition.0)));
        match unreadable {
            _ if from < start => ReadError::Truncated { partition, from, start },
            Unreadable::Damaged(segment, byte) => ReadError::Damaged { partition, from, segment, byte },
            Unreadable::Io(error) => ReadError::Io(error),
        }
    }
}
