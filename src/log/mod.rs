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
mod shared;
mod status;
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

use dataflows::model::{LogTime, Offset, Partition};
use queue::Answer;
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
    /// What was appended.
    pub body: Vec<u8>,
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

    /// Appends records, all or none, and gives their offsets in the order given, after the fsync.
    ///
    /// Dropping the future does not take the append back.
    ///
    /// Errors: at once if too much waits already or a limit is passed; later if the disk refuses.
    pub async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Offset>, AppendError> {
        match self.submit(records)? {
            Some(answer) => answer.await.unwrap_or(Err(AppendError::Closed)),
            None => Ok(vec![]),
        }
    }

    /// Does as [`Self::append`], on a thread that may wait.
    ///
    /// Panics: on a thread that runs async tasks.
    pub fn append_blocking(&self, records: Vec<NewRecord>) -> Result<Vec<Offset>, AppendError> {
        match self.submit(records)? {
            Some(answer) => answer.blocking_recv().unwrap_or(Err(AppendError::Closed)),
            None => Ok(vec![]),
        }
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

    /// Tells what the log holds.
    pub fn status(&self) -> Status {
        Status::of(&self.inner.shared.identity, &self.inner.shared.catalogue())
    }

    /// Gives what waits to be written. Unit: bytes.
    pub fn queued_bytes(&self) -> usize {
        self.inner.shared.queue.bytes()
    }

    /// None: there is nothing to append.
    fn submit(&self, records: Vec<NewRecord>) -> Result<Option<oneshot::Receiver<Answer>>, AppendError> {
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
        if bytes > options.group_bytes_max {
            return Err(AppendError::AppendTooLarge { bytes, max: options.group_bytes_max });
        }
        if records.is_empty() { Ok(None) } else { queue.push(records).map(Some) }
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
