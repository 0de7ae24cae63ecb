//! A full log: the fleet's uplinks written straight into the log of a daemon that does not run, with
//! the log times that they would have had.

use super::{Expectation, Fleet};
use crate::codec;
use crate::log::{AppendError, Clock, Log, LogOptions, NewRecord, OpenError};
use dataflows::model::{LogTime, Partition, Record, SECOND_US, TenantNo};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Records that one fsync makes durable, at the most.
const GROUP: usize = 4096;
/// How far log times may be coarser than the schedule: a group has one. Unit: microseconds.
const GROUP_US: i64 = 10 * SECOND_US;

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
    let mut began = 0;
    for next in fleet.schedule().take(uplinks) {
        let due_us = next.due_us as i64;
        if group.len() == GROUP || due_us - began >= GROUP_US {
            log.append_blocking(std::mem::take(&mut group))?;
            began = due_us;
        }
        let record = fleet.record(&next.uplink, tenant);
        let partition = Partition::of(&record.device, log.partitions());
        group.push(NewRecord { partition, body: codec::encode(&Record::Uplink(Box::new(record))) });
        expectation.acknowledged(&next.uplink, LogTime(start + due_us));
        due.store(due_us, Ordering::Relaxed);
    }
    log.append_blocking(group)?;
    Ok(expectation)
}
