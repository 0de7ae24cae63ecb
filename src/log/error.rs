//! Owns what can go wrong with a log, in the words of the person who has to act.

use dataflows::model::{Offset, Partition};
use serde::Serialize;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Offsets of one partition that the log once acknowledged and cannot give back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct LostRange {
    /// The partition.
    pub partition: Partition,
    /// The first lost offset.
    pub from: Offset,
    /// The offset behind the last lost one.
    pub to: Offset,
    /// Whether `to` is known. If not, it is a safe bound: some of these offsets were never given out.
    pub exact: bool,
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.exact { "" } else { "at most " };
        write!(f, "partition {} {most}{}..{}", self.partition, self.from, self.to)
    }
}

/// One place where the log is not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The number of the segment.
    pub segment: u64,
    /// Where in its file. Unit: bytes.
    pub byte: u64,
    /// What is wrong there.
    pub what: &'static str,
    /// What cannot be read because of it.
    pub lost: Vec<LostRange>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {:012}.seg at byte {}: {}", self.segment, self.byte, self.what)?;
        match self.lost.as_slice() {
            [] => write!(f, "; no record is lost"),
            lost => {
                write!(f, "; lost:")?;
                lost.iter().try_for_each(|range| write!(f, " [{range}]"))
            }
        }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict each other.
    #[error("the log's options do not fit together: {0}")]
    Options(String),
    /// Another process has it open.
    #[error("the log is in use by {}: stop that process first", holder.map_or("another process".into(), |pid| format!("process {pid}")))]
    Locked {
        /// The process that holds it, if it has said so.
        holder: Option<u32>,
    },
    /// It was made with another number of partitions.
    #[error("the log has {found} partitions and {wanted} are wanted: set {found}, for the count is fixed when a log is made")]
    Partitions {
        /// What the log has.
        found: u16,
        /// What the options want.
        wanted: u16,
    },
    /// A file that says what the log is cannot be used.
    #[error("the log's file {file} {what}: restore it from a backup, or start a new log and run `weir log adopt`")]
    File {
        /// Its name.
        file: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no log.
    #[error("there is no log in this directory")]
    Absent,
    /// Records that were acknowledged cannot be read.
    #[error("the log is damaged, and is not opened so that nothing is passed over in silence: {}. \
             Restore the named segments from a backup; or run `weir log set-aside`, which keeps the damaged files in \
             `damaged/` and goes on without the named offsets", list(.0))]
    Damaged(Vec<Damage>),
    /// The damage leaves nothing to go on from.
    #[error(
        "the log's last segment ({0:012}.seg) is missing, so it is unknown where the log ended: restore it from a backup, \
             or start a new log and run `weir log adopt`"
    )]
    EndUnknown(u64),
    /// The operating system refused.
    #[error("the log cannot be opened: {0}")]
    Io(#[from] io::Error),
}

fn list(damages: &[Damage]) -> String {
    damages.iter().map(Damage::to_string).collect::<Vec<_>>().join("; ")
}

/// Why records were not appended. None of them is in the log, unless the error says that this is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Too much waits for the disk already. Try again.
    #[error("{queued_bytes} bytes wait to be written to the log already: try again shortly")]
    Busy {
        /// What waits. Unit: bytes.
        queued_bytes: usize,
    },
    /// One record is over the limit.
    #[error("a record has {bytes} bytes, more than record_bytes_max ({max})")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The records are over the limit together.
    #[error("an append has {bytes} bytes, more than append_bytes_max ({max}): split it")]
    AppendTooLarge {
        /// Their size with their lengths.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There is no such partition.
    #[error("there is no partition {partition}: the log has {partitions}")]
    Partition {
        /// What was asked for.
        partition: Partition,
        /// How many there are.
        partitions: u16,
    },
    /// The disk, or the log's own bound, is reached. Appends succeed again when there is space.
    #[error(
        "the log is full ({0}): free space on its disk, raise size_bytes_max, or bring the database back so that it can be truncated"
    )]
    Full(Arc<str>),
    /// The clock leapt ahead.
    #[error("the clock leapt ahead by {} h, and records stamped with it could not be taken back: set the clock right, \
             or restart weir if it is right now", ahead_us / dataflows::model::HOUR_US)]
    Clock {
        /// How far. Unit: microseconds.
        ahead_us: i64,
    },
    /// A write failed for another reason than space.
    #[error("the log could not be written: {0}")]
    Write(Arc<io::Error>),
    /// An fsync failed, now or earlier: whether the records are in the log is unknown, and the log takes no more.
    #[error("the log could not be made durable ({0}): check the disk, then restart weir")]
    Sync(Arc<io::Error>),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such partition.
    #[error("there is no partition {0} in the log")]
    Partition(Partition),
    /// The offset was truncated away.
    #[error("offset {from} of partition {partition} was truncated: the log starts at {start}")]
    Truncated {
        /// The partition.
        partition: Partition,
        /// What was asked for.
        from: Offset,
        /// The first kept.
        start: Offset,
    },
    /// The offset was never given out.
    #[error("offset {from} of partition {partition} is behind the log's end {end}")]
    BehindEnd {
        /// The partition.
        partition: Partition,
        /// What was asked for.
        from: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The offsets were lost and set aside. Reading goes on at `to`.
    #[error("offsets {from}..{to} of partition {partition} were lost with a damaged segment that was set aside")]
    Gap {
        /// The partition.
        partition: Partition,
        /// What was asked for.
        from: Offset,
        /// Where reading goes on.
        to: Offset,
    },
    /// What was written is not what is there.
    #[error(
        "segment {segment:012}.seg of the log is damaged at byte {byte} (partition {partition} from offset {from}): stop weir, \
             then restore the segment from a backup or run `weir log set-aside`"
    )]
    Damaged {
        /// The partition.
        partition: Partition,
        /// The first offset that cannot be read.
        from: Offset,
        /// The number of the segment.
        segment: u64,
        /// Where in its file. Unit: bytes.
        byte: u64,
    },
    /// The operating system refused.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Why the log was not truncated.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// There must be one offset for each partition.
    #[error("{given} offsets were given for {partitions} partitions")]
    Partitions {
        /// How many were given.
        given: usize,
        /// How many there are.
        partitions: u16,
    },
    /// The operating system refused. The log is as usable as before.
    #[error("the log cannot be truncated: {0}")]
    Io(#[from] io::Error),
}
