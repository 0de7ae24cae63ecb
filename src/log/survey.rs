//! Owns the telling of a torn tail from rot, and what rot costs.
//!
//! A frame is written only after the one before it was synced. So a bad frame with a valid one behind it
//! was good once, and is rot; a bad frame with nothing valid behind it was being written when the power
//! went, and nobody was told that its records are safe: a torn tail.

use super::error::{Damage, LostRange};
use super::frame::{self, ALIGN, Frame, Kind, Part};
use super::index::Check;
use super::index::walk;
use super::position::Position;
use dataflows::model::{Offset, Partition};

/// What comes next in a surveyed segment.
#[derive(Debug)]
pub(super) enum Piece {
    /// A good frame at this byte.
    Good(usize, Frame),
    /// Frames up to number `seq` are missing or rotten; `parts` is the directory of the frame that stands for them.
    Lost { seq: u64, parts: Vec<Part> },
}

/// All that can be known about a segment.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) pieces: Vec<Piece>,
    pub(super) damages: Vec<Damage>,
    /// Where the last good frame ends. Unit: bytes.
    pub(super) end_bytes: usize,
    /// The position there, with lost frames counted.
    pub(super) end: Position,
}

/// A segment to look at.
pub(super) struct Subject<'a> {
    pub(super) number: u64,
    /// The whole segment; what is not readable is simply not there.
    pub(super) bytes: &'a [u8],
    /// Where its frames begin. Unit: bytes.
    pub(super) frames_at: usize,
    /// The position it begins at.
    pub(super) base: &'a Position,
    /// The position the next segment begins at; none if this is the last.
    pub(super) next: Option<&'a Position>,
}

impl Subject<'_> {
    /// Tells where the good frames end if what comes behind is at most a torn tail; else none.
    pub(super) fn good_end(&self, salt: u64, each: impl FnMut(usize, &Frame, &Position)) -> Option<(usize, Position)> {
        let mut position = self.base.clone();
        let end = walk(self.bytes, self.frames_at, salt, Check::Bodies, &mut position, each);
        let behind = self.bytes.get(end + ALIGN..).unwrap_or_default();
        next_frame(behind, salt, position.seq).is_none().then_some((end, position))
    }

    /// Looks at every frame. A torn tail of the last segment is no damage: it is left out.
    pub(super) fn survey(&self, salt: u64) -> Survey {
        let found = self.find(salt);
        let mut pieces = vec![];
        let mut damages = vec![];
        let mut end_bytes = self.frames_at.min(self.bytes.len());
        let mut end = self.base.clone();
        let mut lose = |pieces: &mut Vec<Piece>, end: &mut Position, at: usize, seq: u64, parts: Vec<Part>, what| {
            let lost = parts.iter().map(lost_range).collect();
            damages.push(Damage { segment: self.number, byte: at as u64, what, lost });
            for part in &parts {
                end.next[usize::from(part.partition)] = part.end();
            }
            end.seq = seq + 1;
            pieces.push(Piece::Lost { seq, parts });
        };
        for (i, (at, frame, whole)) in found.iter().enumerate() {
            if !frame.follows(&end) {
                let parts = hole(&end, &found[i..], self.next, at - end_bytes);
                lose(&mut pieces, &mut end, end_bytes, frame.seq.max(1) - 1, parts, "a frame is unreadable");
            }
            if *whole {
                end.pass(frame);
                pieces.push(Piece::Good(*at, frame.clone()));
            } else {
                let parts = frame.parts.iter().map(|part| Part { bytes: 0, ..*part }).collect();
                lose(&mut pieces, &mut end, *at, frame.seq, parts, "the records of a frame are damaged");
            }
            end_bytes = at + frame.bytes();
        }
        if let Some(next) = self.next.filter(|next| next.seq != end.seq || next.next != end.next) {
            let parts = hole(&end, &[], Some(next), 0);
            let what =
                if self.bytes.is_empty() { "the file is missing" } else { "it ends too early, or its last frame is unreadable" };
            lose(&mut pieces, &mut end, end_bytes, next.seq.max(1) - 1, parts, what);
        }
        Survey { pieces, damages, end_bytes, end }
    }

    /// Every frame whose head is good, in order, each with whether its body is.
    fn find(&self, salt: u64) -> Vec<(usize, Frame, bool)> {
        let mut found: Vec<(usize, Frame, bool)> = vec![];
        let (mut at, mut seq) = (self.frames_at, self.base.seq);
        while let Some((skipped, frame)) = self.bytes.get(at..).and_then(|behind| next_frame(behind, salt, seq)) {
            at += skipped;
            let whole = frame.is_whole(&self.bytes[at..]);
            seq = frame.seq + 1;
            found.push((at, frame, whole));
            at += found.last().map_or(0, |(_, frame, _)| frame.bytes());
        }
        if self.next.is_none() {
            // The last frame alone may be half written: that is a torn tail.
            found.pop_if(|(_, _, whole)| !*whole);
        }
        found
    }
}

/// Finds the first good head of frame number `seq` or a later one, and how far it is away.
fn next_frame(bytes: &[u8], salt: u64, seq: u64) -> Option<(usize, Frame)> {
    let mark = salt.to_le_bytes();
    let candidates = bytes.chunks_exact(ALIGN).enumerate().filter(|(_, chunk)| *chunk == mark);
    candidates.map(|(i, _)| i * ALIGN).find_map(|at| {
        let frame = Frame::parse(&bytes[at..], salt)?;
        (frame.seq >= seq).then_some((at, frame))
    })
}

/// What is lost between `end` and the frames that were found behind: each partition goes on where it is
/// seen next; one that is not seen again lost at most as many records as the hole can hold.
fn hole(end: &Position, behind: &[(usize, Frame, bool)], next: Option<&Position>, hole_bytes: usize) -> Vec<Part> {
    let bound = (hole_bytes / frame::RECORD_OVERHEAD_BYTES) as u64;
    let parts = end.next.iter().enumerate().filter_map(|(p, from)| {
        let partition = p as u16;
        let seen = behind.iter().flat_map(|(_, frame, _)| &frame.parts).find(|part| part.partition == partition);
        let known = seen.map(|part| part.first).or(next.map(|next| next.next[p]));
        let to = known.unwrap_or(from + bound);
        let records = u32::try_from(to.saturating_sub(*from)).unwrap_or(u32::MAX);
        (records > 0).then_some(Part { partition, first: *from, records, bytes: u32::from(known.is_none()) })
    });
    parts.collect()
}

/// Says what a part of a [`Kind::Lost`] frame stands for.
pub(super) fn lost_range(part: &Part) -> LostRange {
    LostRange { partition: Partition(part.partition), from: Offset(part.first), to: Offset(part.end()), exact: part.bytes == 0 }
}

/// Gives what a good frame says is lost.
pub(super) fn lost_ranges(frame: &Frame) -> impl Iterator<Item = LostRange> {
    let parts = if frame.kind == Kind::Lost { frame.parts.as_slice() } else { &[] };
    parts.iter().map(lost_range)
}
