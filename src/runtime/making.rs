//! Owns a checkpoint in the making: its state is encoded aside, so that the worker's rows do not wait for that.

use super::checkpoint::{self, CHECKPOINT_VERSION};
use crate::store::Checkpoint;
use dataflows::graph::PartitionState;
use dataflows::model::{Offset, Partition};
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, channel, sync_channel};
use uuid::Uuid;

/// What encodes a state.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Has a job done sometime, beside the worker or by it.
pub(super) type Aside = Box<dyn Fn(Job) + Send>;

/// Starts a thread of this name that does jobs, one after the other, for as long as there is somebody to give them.
///
/// Errors: the operating system gives no thread.
pub(super) fn on_a_thread(name: String) -> io::Result<Aside> {
    let (jobs, given) = channel::<Job>();
    std::thread::Builder::new().name(name).spawn(move || given.into_iter().for_each(|job| job()))?;
    Ok(Box::new(move |job| jobs.send(job).expect("the thread lasts as long as somebody gives it jobs")))
}

/// A checkpoint whose state is being encoded.
pub(super) struct Making {
    partition: Partition,
    offset: Offset,
    log: Uuid,
    /// The bytes, and the state that they are of.
    encoded: Receiver<(Vec<u8>, PartitionState)>,
}

impl Making {
    /// Begins to encode the state that a partition has at an offset. Unparks the calling thread when it is done.
    pub(super) fn begin(aside: &Aside, log: Uuid, partition: Partition, offset: Offset, state: PartitionState) -> Self {
        let (sender, encoded) = sync_channel(1);
        let worker = std::thread::current();
        aside(Box::new(move || {
            let bytes = checkpoint::encode(&state);
            // The worker may have started anew, and then waits for nothing.
            let _ = sender.send((bytes, state));
            worker.unpark();
        }));
        Self { partition, offset, log, encoded }
    }

    /// Gives the checkpoint, once, when it is there, and the state that it is of. That is dropped by whoever made it: what another
    /// thread frees, the allocator gives back only much later.
    pub(super) fn ready(&self) -> Option<(Checkpoint, PartitionState)> {
        let &Self { partition, offset, log, ref encoded } = self;
        match encoded.try_recv() {
            Ok((bytes, copied)) => {
                Some((Checkpoint { partition, offset, log, version: CHECKPOINT_VERSION, state: bytes }, copied))
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => unreachable!("a job is done, and encoding does not panic"),
        }
    }
}
