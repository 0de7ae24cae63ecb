//! A partition in a worker's hands: how far it is read, how far it ran, and how far the database has it.
//!
//! Keeps: records run in the order of their offsets, and none is passed over in silence. What was lost
//! with a damaged segment, or cannot be read, stands in quarantine; what everything behind it depends
//! on stops the worker.

use super::pace::Pace;
use super::worker::{Assumed, WorkerError};
use crate::codec;
use crate::log::{Log, RawRecord, ReadError};
use dataflows::model::{DeviceId, Entry, LogTime, Offset, Partition, Placed, Quarantined, Reason, Record, TenantNo};
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// One partition's place.
pub(super) struct Owned {
    /// Which.
    pub partition: Partition,
    /// The ownership under which its commits are made.
    pub owner_epoch: u64,
    /// The next record to run through the graph.
    pub next: Offset,
    /// The first record whose rows are not in the database.
    pub committed: Offset,
    /// The first record whose rows the committer has not been given.
    pub handed_over: Offset,
    /// Where the newest checkpoint stands, taken or on its way.
    pub checkpointed: Offset,
    /// When that was taken, or the partition taken over. By the running clock, since the log's own time
    /// stands still in a silent partition and flies in a replay.
    pub checkpointed_at: Instant,
    /// Log time of the last record that ran.
    pub log_time: LogTime,
    /// Uplinks ahead whose decoding once had to be ended.
    condemned: BTreeSet<Offset>,
    /// Records from `next` on that were read and did not run yet: those of one reading at most.
    ahead: VecDeque<RawRecord>,
}

/// What runs through the graph at once, with what cannot.
#[derive(Default)]
pub(super) struct Piece {
    /// Records, those of a partition in order.
    pub entries: Vec<Entry>,
    /// What stands in quarantine in place of a record.
    pub set_aside: Vec<Placed<Quarantined>>,
}

impl Piece {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.set_aside.is_empty()
    }
}

impl Owned {
    /// Takes a partition over; `log_time` is that of its state, `condemned` the verdicts that lie ahead.
    pub(super) fn assume(assumed: &Assumed, log_time: LogTime, condemned: BTreeSet<Offset>, now: Instant) -> Self {
        let next = assumed.checkpoint.0;
        Self {
            partition: assumed.partition,
            owner_epoch: assumed.owner_epoch,
            next,
            committed: assumed.committed,
            handed_over: assumed.committed,
            checkpointed: next,
            checkpointed_at: now,
            log_time,
            condemned,
            ahead: VecDeque::new(),
        }
    }

    /// Whether its rows are still below what the database holds already.
    pub(super) fn is_replaying(&self) -> bool {
        self.next < self.committed
    }

    /// Whether its checkpoint is due: a replay would read many records; or a few, and by `now`, where that is given, the newest
    /// is old and nothing keeps the worker busy here; or it is the `last` occasion. Takes nothing else than what a replay costs
    /// into account, and that the log is kept from the oldest checkpoint on.
    pub(super) fn is_due(&self, pace: &Pace, log_end: Offset, now: Option<Instant>, last: bool) -> bool {
        let records = self.next.0.saturating_sub(self.checkpointed.0);
        let is_old = |now: Instant| now.duration_since(self.checkpointed_at) >= pace.checkpoint_age;
        let aged = || self.next == log_end && now.is_some_and(is_old);
        !self.is_replaying() && (records >= pace.checkpoint_records || (records > 0 && (last || aged())))
    }

    /// Moves on, and adds what comes to `piece` until that is full or the log ends.
    ///
    /// Errors: the log cannot be read, or holds what must not be passed over.
    pub(super) fn take(&mut self, log: &Log, pace: &Pace, piece: &mut Piece) -> Result<(), WorkerError> {
        while piece.entries.len() < pace.run_entries {
            let Some(raw) = self.ahead.pop_front() else {
                if self.read(log, pace.read_bytes, piece)? {
                    continue;
                }
                return Ok(());
            };
            let entry = self.entry(raw, piece)?;
            self.next = Offset(entry.offset.0 + 1);
            self.log_time = entry.log_time;
            piece.entries.push(entry);
        }
        Ok(())
    }

    /// Reads on behind what was read; tells whether there was anything.
    fn read(&mut self, log: &Log, bytes_max: usize, piece: &mut Piece) -> Result<bool, WorkerError> {
        // All of them ran: the list is used again.
        let mut raw = Vec::from(std::mem::take(&mut self.ahead));
        match log.read(self.partition, self.next, bytes_max, &mut raw) {
            Ok(_) => {
                self.ahead = raw.into();
                Ok(!self.ahead.is_empty())
            }
            Err(gap @ ReadError::Gap { from, to, .. }) => {
                tracing::error!(partition = %self.partition, %from, %to, "went on behind records that were lost with a damaged segment");
                // A partition that begins with a gap knows no time yet.
                let log_time =
                    if self.log_time == LogTime::default() { log.last_log_time(self.partition) } else { self.log_time };
                // Where the database has some of the lost records, the row stands behind those.
                let at = from.max(self.committed);
                if at < to {
                    piece.set_aside.push(self.unreadable(at, log_time, gap.to_string(), Vec::new()));
                }
                self.next = to;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an entry of a record. One that cannot be read passes as time.
    fn entry(&mut self, raw: RawRecord, piece: &mut Piece) -> Result<Entry, WorkerError> {
        let RawRecord { offset, log_time, body } = raw;
        let record = match codec::decode(&body) {
            Ok(record) => record,
            Err(error) if codec::is_indispensable(&body, &error) => {
                return Err(WorkerError::Record { partition: self.partition, offset, error });
            }
            Err(error) => {
                piece.set_aside.push(self.unreadable(offset, log_time, error.to_string(), body.into()));
                Record::Tick
            }
        };
        Ok(Entry { partition: self.partition, offset, log_time, condemned: self.condemned.remove(&offset), record })
    }

    fn unreadable(&self, offset: Offset, log_time: LogTime, detail: String, record: Vec<u8>) -> Placed<Quarantined> {
        let row = Quarantined {
            log_time,
            tenant: TenantNo(0),
            device: DeviceId::parse("unknown").expect("the name is well-formed"),
            field: None,
            reason: Reason::BadRecord,
            detail,
            record,
        };
        Placed { partition: self.partition, offset, row }
    }
}

#[cfg(test)]
#[path = "owned_tests.rs"]
mod tests;
