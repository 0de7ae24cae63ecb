//! The local log: partitions of records in append-only segments. Owns: what is readable is fsynced.
//!
//! All partitions share one sequence of segment files. One thread, `weir-log`, takes all that waits,
//! writes it as one frame with its CRC, syncs once, publishes and answers; the next frame is written only
//! after that. From this follows all that recovery knows (see `survey`): a bad last frame was never
//! acknowledged and is cut off, any other bad frame is damage, and the log is not opened until somebody
//! has decided about it (see [`set_aside()`]).
//!
//! | file | holds |
//! |---|---|
//! | `LOG` | what the log is for ever: id, partitions (`identity`) |
//! | `MARK` | where it begins since it was last truncated (`identity`) |
//! | `LOCK` | the process that has it open |
//! | `000000000001.seg` … | a header (`header`), then frames (`frame`) |
//! | `damaged/` | segments that were set aside |

mod block;
mod cache;
mod catalogue;
mod clock;
mod disk;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod identity;
mod index;
mod mend;
mod open;
mod options;
mod position;
mod queue;
mod read;
mod recover;
mod scan;
mod shared;
#[cfg(test)]
pub(crate) mod sim;
mod status;
#[cfg(test)]
pub(crate) mod stepped;
mod stretch;
mod survey;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use error::{AppendError, Damage, LostRange, OpenError, ReadError, TruncateError};
pub use open::{set_aside, status};
pub use options::LogOptions;
pub use recover::Recovery;
pub use status::{PartitionStatus, Status, Truncated};

use bytes::Bytes;
use dataflows::model::{LogTime, Offset, Partition};
pub use queue::Held;
use queue::{Answer, Author};
use shared::Shared;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use uuid::Uuid;

/// A record to append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRecord {
    /// Where it belongs.
    pub partition: Partition,
    /// What it says; the log does not look into it.
    pub body: Vec<u8>,
}

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawRecord {
    /// Its place in its partition.
    pub offset: Offset,
    /// When the log took it in.
    pub log_time: LogTime,
    /// What was appended; a part of the block that it was read with, which it keeps in memory.
    pub body: Bytes,
}

/// A record as [`Log::scan`] comes by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScannedRecord<'a> {
    /// Its partition.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// When the log took it in.
    pub log_time: LogTime,
    /// What was appended.
    pub body: &'a [u8],
}

/// An open log. Clones share it; when the last one is dropped, what was queued is written and the log closed.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl Log {
    /// Opens the log of a directory, and makes both if there is none.
    ///
    /// Errors: another process has it, it has another number of partitions, or it is damaged.
    /// Cost: reads the headers of all segments and the whole of the last one.
    pub fn open(dir: &Path, options: LogOptions, clock: Clock) -> Result<(Self, Recovery), OpenError> {
        open::open_dir(dir, options, clock)
    }

    /// Gives the id that the log got when it was made.
    pub fn id(&self) -> Uuid {
        self.inner.shared.identity.id
    }

    /// Gives the number of partitions.
    pub fn partitions(&self) -> u16 {
        self.inner.shared.identity.partitions
    }

    /// Gives the size of the largest record that it takes. Unit: bytes.
    pub fn record_bytes_max(&self) -> usize {
        self.inner.shared.options.record_bytes_max
    }

    /// Gives the size of what may wait to be written. Unit: bytes.
    pub fn queue_bytes_max(&self) -> usize {
        self.inner.shared.options.queue_bytes_max
    }

    /// Gives what records take while they wait to be written. Unit: bytes.
    pub fn waiting_bytes(records: &[NewRecord]) -> usize {
        queue::bytes(records)
    }

    /// Appends records, all or none, and gives their offsets in the order given, after the fsync.
    ///
    /// Dropping the future does not take the append back.
    ///
    /// Errors: at once if too much waits already or a limit is passed; later if the disk refuses.
    pub async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Offset>, AppendError> {
        answer(self.submit(Author::Sender, records, None)?).await
    }

    /// Does as [`Self::append`], and drops `held` when the append is done with, also when nobody waits for its answer any more.
    ///
    /// Errors: as [`Self::append`].
    pub async fn append_holding(&self, records: Vec<NewRecord>, held: Held) -> Result<Vec<Offset>, AppendError> {
        answer(self.submit(Author::Sender, records, Some(held))?).await
    }

    /// Does as [`Self::append`] with a few small records of the daemon's own, such as verdicts and ticks: without
    /// them a log that refuses senders would never be worked off. They never find the queue full, may fill the
    /// end of a segment that is kept for them, and have the last log time while the clock is not believed.
    ///
    /// Errors: as [`Self::append`]; `Full` only when that room is used up too.
    pub async fn append_own(&self, records: Vec<NewRecord>) -> Result<Vec<Offset>, AppendError> {
        answer(self.submit(Author::Daemon, records, None)?).await
    }

    /// Does as [`Self::append_own`], on a thread that may wait.
    ///
    /// Panics: on a thread that runs async tasks.
    pub fn append_own_blocking(&self, records: Vec<NewRecord>) -> Result<Vec<Offset>, AppendError> {
        answer_blocking(self.submit(Author::Daemon, records, None)?)
    }

    /// Does as [`Self::append`], on a thread that may wait.
    ///
    /// Panics: on a thread that runs async tasks.
    pub fn append_blocking(&self, records: Vec<NewRecord>) -> Result<Vec<Offset>, AppendError> {
        answer_blocking(self.submit(Author::Sender, records, None)?)
    }

    /// Gives the first kept offset of a partition.
    ///
    /// Panics: if there is no such partition.
    pub fn start(&self, partition: Partition) -> Offset {
        Offset(self.inner.shared.catalogue().start(partition.0))
    }

    /// Gives the offset behind the last durable record of a partition.
    ///
    /// Panics: if there is no such partition.
    pub fn end(&self, partition: Partition) -> Offset {
        Offset(self.inner.shared.catalogue().end.next[usize::from(partition.0)])
    }

    /// Gives when the last durable record of a partition was taken in; the epoch if there was never one.
    ///
    /// Panics: if there is no such partition.
    pub fn last_log_time(&self, partition: Partition) -> LogTime {
        self.inner.shared.catalogue().end.times[usize::from(partition.0)]
    }

    /// Reads durable records of a partition from an offset on, adds them to `out`, and gives the offset to go
    /// on from; that is `from` itself at the log's end. Stops before `bytes_max` bytes of bodies are
    /// passed, but gives one record at least.
    ///
    /// Errors: the offset is not in the log, it was lost (`Gap`: go on behind), or damage is found. An error
    /// behind some good records is told by the next call.
    pub fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
        out: &mut Vec<RawRecord>,
    ) -> Result<Offset, ReadError> {
        self.inner.shared.read(partition, from, bytes_max, out)
    }

    /// Reads all partitions at once, each from its own offset (or the log's start, if that is behind it) to
    /// the end, and gives the records to `visit` in the order in which they were appended. What was lost and
    /// set aside is passed over.
    ///
    /// Cost: reads each segment that holds something wanted once, one in memory at a time.
    ///
    /// Errors: damage, or I/O. Panics: unless there is one offset for each partition.
    pub fn scan(&self, from: &[Offset], visit: impl FnMut(ScannedRecord<'_>)) -> Result<(), ReadError> {
        self.inner.shared.scan(from, visit)
    }

    /// Has `wake` called after each fsync, on the log's own thread: it must be quick, and own no [`Log`].
    pub fn on_durable(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.inner.shared.on_durable(wake);
    }

    /// Gives back leading segments that hold nothing at or above the offsets, one for each partition.
    /// Where the log begins now is kept for ever, also when nothing is left of a partition.
    ///
    /// Errors: I/O; the log is as usable as before.
    pub fn truncate_below(&self, low: &[Offset]) -> Result<Truncated, TruncateError> {
        self.inner.shared.truncate_below(low)
    }

    /// Whether an append was refused, since the disk is full or the log's own bound is reached, and there is no more
    /// space since. Smaller ones may still fit into the last segment.
    pub fn is_full(&self) -> bool {
        self.inner.shared.is_full()
    }

    /// Tells what the log holds.
    pub fn status(&self) -> Status {
        Status::of(&self.inner.shared.identity, &self.inner.shared.catalogue())
    }

    /// Gives what waits to be written. Unit: bytes.
    pub fn queued_bytes(&self) -> usize {
        self.inner.shared.queue.bytes()
    }

    /// None: there is nothing to append.
    fn submit(
        &self,
        author: Author,
        records: Vec<NewRecord>,
        held: Option<Held>,
    ) -> Result<Option<oneshot::Receiver<Answer>>, AppendError> {
        let Shared { identity, options, queue, .. } = &*self.inner.shared;
        for NewRecord { partition, body } in &records {
            if partition.0 >= identity.partitions {
                return Err(AppendError::Partition { partition: *partition, partitions: identity.partitions });
            }
            if body.len() > options.record_bytes_max {
                return Err(AppendError::RecordTooLarge { bytes: body.len(), max: options.record_bytes_max });
            }
        }
        let bytes = queue::bytes(&records);
        if bytes > options.append_bytes_max {
            return Err(AppendError::AppendTooLarge { bytes, max: options.append_bytes_max });
        }
        if records.is_empty() { Ok(None) } else { queue.push(author, records, held).map(Some) }
    }
}

/// A writer that is gone without an answer has closed the log.
async fn answer(receiver: Option<oneshot::Receiver<Answer>>) -> Answer {
    match receiver {
        Some(receiver) => receiver.await.unwrap_or(Err(AppendError::Closed)),
        None => Ok(vec![]),
    }
}

fn answer_blocking(receiver: Option<oneshot::Receiver<Answer>>) -> Answer {
    match receiver {
        Some(receiver) => receiver.blocking_recv().unwrap_or(Err(AppendError::Closed)),
        None => Ok(vec![]),
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A log that is dropped by its own thread cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // It has nothing to say; had it panicked, its callers were told.
            let _ = thread.join();
        }
        self.lock.get_mut().unwrap_or_else(PoisonError::into_inner).take();
    }
}
