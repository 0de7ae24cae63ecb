//! Owns what asking an instance for room does to it, so that the guest is not called for it with every uplink.
//!
//! An instance that is its image does the same for the same length each time. Invariant: one that was given its
//! room from here is, byte for byte, what it would be had it been asked.

use super::cards::CARD_BYTES;
use wasmer::Value;

/// Lengths that are remembered of an instance: the frames of one model of device have few.
const LENGTHS_MAX: usize = 8;
/// Blocks that asking may write and is still remembered.
const BLOCKS_MAX: usize = 16;

/// The rooms that an instance has given.
///
/// State: at most [`LENGTHS_MAX`], the first ones, each with at most [`BLOCKS_MAX`] blocks.
#[derive(Default)]
pub(super) struct Rooms(Vec<Room>);

/// One room, with all that has changed since the image when it is given.
pub(super) struct Room {
    len: u32,
    /// Where it is.
    pub(super) at: u32,
    /// Blocks that were written, by their cards.
    blocks: Vec<(usize, [u8; CARD_BYTES])>,
    /// What the mutable globals hold.
    pub(super) globals: Vec<Value>,
}

impl Rooms {
    /// Forgets all rooms: there is another image.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Finds the room of a length.
    pub(super) fn find(&self, len: u32) -> Option<&Room> {
        self.0.iter().find(|room| room.len == len)
    }

    /// Remembers the room that the guest has just given, if asking for it has written little.
    pub(super) fn remember(&mut self, len: u32, at: u32, memory: &[u8], cards: &[u8], globals: Vec<Value>) {
        let marked = || cards.iter().enumerate().filter(|(_, mark)| **mark != 0).map(|(card, _)| card);
        if self.0.len() == LENGTHS_MAX || marked().nth(BLOCKS_MAX).is_some() {
            return;
        }
        let block = |card: usize| memory.get(card * CARD_BYTES..)?.first_chunk().copied();
        let blocks: Option<Vec<_>> = marked().map(|card| Some((card, block(card)?))).collect();
        self.0.extend(blocks.map(|blocks| Room { len, at, blocks, globals }));
    }
}

impl Room {
    /// Writes what the guest would write into the memory of an instance that is its image, with the marks.
    pub(super) fn write(&self, memory: &mut [u8], cards: &mut [u8]) {
        for (card, block) in &self.blocks {
            memory[card * CARD_BYTES..][..CARD_BYTES].copy_from_slice(block);
            cards[*card] = 1;
        }
    }
}
