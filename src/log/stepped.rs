//! A log on a simulated disk whose writer works when it is told to, on the thread of who tells it.

use super::identity::Identity;
use super::sim::Sim;
use super::writer::Writer;
use super::{Clock, Log, LogOptions, OpenError, open};
use std::sync::Arc;
use uuid::Uuid;

/// The writing end of a log. Dropped, it leaves the log as a killed process does.
pub(crate) struct Stepper {
    writer: Writer,
    log: Log,
}

impl Stepper {
    /// Opens the log of a disk; if there is none, makes one with this id.
    ///
    /// Errors: the disk fails, or what is on it is no log.
    pub(crate) fn open(sim: &Sim, options: LogOptions, clock: Clock, id: Uuid) -> Result<(Log, Self), OpenError> {
        let identity = Identity { id, salt: id.as_u64_pair().0, partitions: options.partitions };
        let (log, writer, _) = open::prepare(Arc::new(sim.clone()), options, clock, identity)?;
        Ok((log.clone(), Self { writer, log }))
    }

    /// Writes and syncs one group of what waits. Tells whether there was any.
    pub(crate) fn step(&mut self) -> bool {
        self.log.queued_bytes() > 0 && self.writer.step()
    }

    /// Closes the log in order.
    pub(crate) fn close(mut self) {
        while self.step() {}
        self.writer.close();
    }
}
