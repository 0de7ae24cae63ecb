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
/// about the log time at which it is due. Gives what the tables must hold for them. `written` is told
/// now and then how many are in the log.
///
/// The fleet's start must not be before the log's last record: log time never goes back.
///
/// Errors: the log cannot be opened or is full.
pub fn fill(
    dir: &Path,
    options: LogOptions,
    fleet: &Arc<Fleet>,
    tenant: TenantNo,
    uplinks: usize,
    written: impl Fn(u64),
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
    let mut schedule = fleet.schedule().take(uplinks).peekable();
    while let Some(first) = schedule.peek() {
        let end_us = first.due_us as i64 + GROUP_US;
        while let Some(next) = schedule.next_if(|next| (next.due_us as i64) < end_us && group.len() < GROUP) {
            due.store(next.due_us as i64, Ordering::Relaxed);
            group.push(next.uplink);
        }
        let records = group.iter().map(|uplink| {
            let record = fleet.record(uplink, tenant);
            let partition = Partition::of(&record.device, log.partitions());
            NewRecord { partition, body: codec::encode(&Record::Uplink(Box::new(record))) }
        });
        log.append_blocking(records.collect())?;
        // The whole group has the log time of its last record.
        let log_time = LogTime(start + due.load(Ordering::Relaxed));
        group.drain(..).for_each(|uplink| expectation.acknowledged(&uplink, log_time));
        written(expectation.copies().acknowledged);
    }
    Ok(expectation)
}
