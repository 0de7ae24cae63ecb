//! Owns going through a sealed segment a stretch at a time: a whole one is never in memory.

use super::catalogue::Segment;
use super::frame::Frame;
use super::header::Header;
use super::index::{Check, walk};
use super::position::Position;
use super::read::Unreadable;
use super::shared::Shared;

/// What is read at once; more where one frame is longer. Tests have frames of a few hundred. Unit: bytes.
const STRETCH_BYTES: u64 = if cfg!(test) { 128 } else { 1 << 20 };

impl Shared {
    /// Goes from frame to frame through a segment, which ends at `end`. `each` is given the place of the frame
    /// in the segment, its head, its bytes as far as they are `check`ed, and where it comes.
    ///
    /// State: one stretch, twice the longest frame at the most.
    ///
    /// Errors: a frame is damaged, is not the one that comes next, or the file cannot be read.
    pub(super) fn walk_segment(
        &self,
        segment: &Segment,
        end: &Position,
        check: Check,
        mut each: impl FnMut(u64, &Frame, &[u8], &Position),
    ) -> Result<(), Unreadable> {
        let mut position = Position::clone(&segment.base);
        let mut at = Header::bytes(self.identity.partitions) as u64;
        // One memory for all stretches: fresh memory costs more than what is read into it.
        let (mut stretch, mut stretch_bytes) = (Vec::new(), STRETCH_BYTES);
        while at < segment.end {
            let behind = segment.end.min(at + stretch_bytes);
            self.fill(&mut stretch, segment.number, at..behind)?;
            let walked = walk(&stretch, 0, self.identity.salt, check, &mut position, |within, frame, position| {
                each(at + within as u64, frame, &stretch[within..within + frame.bytes()], position);
            });
            at += walked as u64;
            match walked {
                0 if behind == segment.end => return Err(Unreadable::Damaged(segment.number, at)),
                // The frame is longer, or damaged, which shows in the end.
                0 => stretch_bytes *= 2,
                _ => {}
            }
        }
        if position.seq == end.seq && position.next == end.next {
            Ok(())
        } else {
            Err(Unreadable::Damaged(segment.number, segment.end))
        }
    }
}
