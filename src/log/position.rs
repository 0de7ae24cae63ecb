//! Owns the notion of a place between two frames: what the next one must be.

use super::frame::{Frame, Kind};
use dataflows::model::LogTime;
use serde::{Deserialize, Serialize};

/// What stands before a frame: the frames and records that were counted up to there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Position {
    /// Number of the next frame.
    pub(super) seq: u64,
    /// Log time of the last frame.
    pub(super) last: LogTime,
    /// Next offset of each partition.
    pub(super) next: Vec<u64>,
    /// Log time of the last record of each partition.
    pub(super) times: Vec<LogTime>,
}

impl Position {
    /// The begin of a log.
    pub(super) fn origin(partitions: u16) -> Self {
        let partitions = usize::from(partitions);
        Self { seq: 0, last: LogTime(0), next: vec![0; partitions], times: vec![LogTime(0); partitions] }
    }

    /// Moves behind a frame that [follows](Frame::follows).
    pub(super) fn pass(&mut self, frame: &Frame) {
        self.seq = frame.seq + 1;
        self.last = self.last.max(frame.log_time);
        for part in &frame.parts {
            let p = usize::from(part.partition);
            self.next[p] = part.end();
            if frame.kind == Kind::Data {
                self.times[p] = self.times[p].max(frame.log_time);
            }
        }
    }

    /// Tells whether `later` may be a position behind this one in the same log.
    pub(super) fn may_precede(&self, later: &Self) -> bool {
        let next = self.next.len() == later.next.len() && self.next.iter().zip(&later.next).all(|(a, b)| a <= b);
        next && self.seq <= later.seq && self.last <= later.last
    }
}
