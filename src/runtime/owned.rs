//! A partition in a worker's hands: how far it is read, and how far the database has it.

use crate::codec::{self, CodecError, Kind};
use crate::log::{Log, RawRecord, ReadError};
use dataflows::model::{Entry, LogTime, Offset, Partition, Record};
use std::collections::BTreeSet;

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
    /// Where the newest checkpoint stands, taken or on its way.
    pub checkpointed: Offset,
    /// Log time of that checkpoint.
    pub checkpointed_at: LogTime,
    /// Log time of the last record that ran.
    pub log_time: LogTime,
    /// Uplinks ahead whose decoding once had to be ended.
    condemned: BTreeSet<Offset>,
}

/// A record that no version of this program wrote as it is.
pub(super) struct Unreadable {
    /// Where it stands.
    pub record: RawRecord,
    /// Why it cannot be read.
    pub error: CodecError,
}

impl Owned {
    /// Takes a partition over whose state stands at `next`, and finds the verdicts that lie ahead.
    ///
    /// Cost: reads the log from `next` to its end; only verdicts are decoded.
    pub(super) fn assume(
        log: &Log,
        partition: Partition,
        owner_epoch: u64,
        next: Offset,
        committed: Offset,
    ) -> Result<Self, ReadError> {
        let mut condemned = BTreeSet::new();
        let mut records = Vec::new();
        let (mut at, end) = (next, log.end(partition));
        while at < end {
            records.clear();
            at = log.read(partition, at, 4 << 20, &mut records)?;
            let verdicts = records.iter().filter(|r| codec::kind(&r.body) == Kind::Verdict);
            condemned.extend(verdicts.filter_map(|r| match codec::decode(&r.body) {
                Ok(Record::Verdict { uplink }) => Some(uplink),
                _ => None,
            }));
        }
        let none = LogTime(i64::MIN);
        Ok(Self { partition, owner_epoch, next, committed, checkpointed: next, checkpointed_at: none, log_time: none, condemned })
    }

    /// Whether its rows are still below what the database holds already.
    pub(super) fn is_replaying(&self) -> bool {
        self.next < self.committed
    }

    /// Reads on, up to about `bytes_max`, and gives what it read as entries of the graph.
    pub(super) fn read(
        &mut self,
        log: &Log,
        bytes_max: usize,
        raw: &mut Vec<RawRecord>,
        entries: &mut Vec<Entry>,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(), ReadError> {
        raw.clear();
        self.next = log.read(self.partition, self.next, bytes_max, raw)?;
        for raw in raw.drain(..) {
            let (offset, log_time) = (raw.offset, raw.log_time);
            self.log_time = log_time;
            if self.checkpointed_at.0 == i64::MIN {
                self.checkpointed_at = log_time;
            }
            let record = codec::decode(&raw.body).unwrap_or_else(|error| {
                unreadable.push(Unreadable { record: raw, error });
                Record::Tick
            });
            let condemned = self.condemned.remove(&offset);
            entries.push(Entry { partition: self.partition, offset, log_time, condemned, record });
        }
        Ok(())
    }
}
