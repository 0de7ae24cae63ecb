//! A full log: the fleet's uplinks written straight into the log of a daemon that does not run, with
//! the log times that they would have had.

use super::{Expectation, Fleet};
use crate::codec;
use crate::log::{AppendError, Clock, Log, LogOptions, NewRecord, OpenError};
use dataflows::model::{LogTime, Partition, Record, TenantNo};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Records that one fsync makes durable.
const GROUP: usize = 4096;

/// Why a backlog was not written.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Appends the first `uplinks` of the fleet's schedule, copies included, to the log in `dir`, each at
/// the log time at which it is due. Gives what the tables must hold for them.
///
/// Errors: the log cannot be opened or is full.
pub fn fill(
    dir: &Path,
    options: LogOptions,
    fleet: &Arc<Fleet>,
    tenant: TenantNo,
    uplinks: usize,
) -> Result<Expectation, BacklogError> {
    let start = fleet.spec().start.0;
    let due = Arc::new(AtomicI64::new(0));
    let (wall, running) = (Arc::clone(&due), Arc::clone(&due));
    // Time passes as the schedule says, so that neither stands still nor leaps.
    let clock = Clock::new(
        move || LogTime(start + wall.load(Ordering::Relaxed)),
        move || Duration::from_micros(running.load(Ordering::Relaxed).unsigned_abs()),
    );
    let (log, _) = Log::open(dir, options, clock)?;
    let mut expectation = Expectation::new(Arc::clone(fleet));
    let mut group = Vec::with_capacity(GROUP);
    for next in fleet.schedule().take(uplinks) {
        let record = fleet.record(&next.uplink, tenant);
        let partition = Partition::of(&record.device, log.partitions());
        group.push(NewRecord { partition, body: codec::encode(&Record::Uplink(Box::new(record))) });
        expectation.acknowledged(&next.uplink, LogTime(start + next.due_us as i64));
        due.store(next.due_us as i64, Ordering::Relaxed);
        if group.len() == GROUP {
            log.append_blocking(std::mem::take(&mut group))?;
        }
    }
    log.append_blocking(group)?;
    Ok(expectation)
}
