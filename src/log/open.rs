//! Owns the way into a log: making one, opening one, and looking at one that is not open.

use super::clock::{Clock, Stamper};
use super::disk::{Disk, DiskFile, LockError, OsDisk};
use super::error::{Damage, OpenError};
use super::header::{self, Header};
use super::identity::{self, Identity, Mark};
use super::mend::mend;
use super::options::LogOptions;
use super::recover::{Inspected, Recovery, inspect, inspect_good};
use super::shared::Shared;
use super::status::Status;
use super::verify::segments;
use super::writer::{Writer, begin_segment};
use super::{Inner, Log};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Opens the log of a directory, and makes directory and log if there is none.
pub(super) fn open_dir(dir: &Path, options: LogOptions, clock: Clock) -> Result<(Log, Recovery), OpenError> {
    let disk = OsDisk::new(dir);
    disk.make()?;
    let identity = Identity::new(options.partitions);
    open(Arc::new(disk), options, clock, identity)
}

/// Opens the log of a disk; if there is none, makes one that is `new`.
pub(super) fn open(disk: Arc<dyn Disk>, options: LogOptions, clock: Clock, new: Identity) -> Result<(Log, Recovery), OpenError> {
    let (log, writer, recovery) = prepare(disk, options, clock, new)?;
    let thread = std::thread::Builder::new().name("weir-log".into()).spawn(move || writer.run())?;
    *log.inner.thread.lock().expect("nobody else has the log yet") = Some(thread);
    Ok((log, recovery))
}

/// Does as [`open`], and leaves it to the caller to let the writer work.
pub(super) fn prepare(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    clock: Clock,
    new: Identity,
) -> Result<(Log, Writer, Recovery), OpenError> {
    options.check().map_err(OpenError::Options)?;
    let lock = lock(&*disk)?;
    // What a killed process named last may be seen here and still be forgotten by a loss of power.
    disk.sync_names()?;
    let identity = find_or_make(&*disk, new)?;
    if identity.partitions != options.partitions {
        return Err(OpenError::Partitions { found: identity.partitions, wanted: options.partitions });
    }
    let (inspected, created) = inspect_or_make(&*disk, &identity, options.segment_bytes)?;
    let recovery = inspected.recovery(created);
    let tail = inspected.catalogue.tail_segment();
    let file = disk.open(&header::file_name(tail.number))?;
    Mark::reserve(&*disk);
    settle(&*file, &inspected)?;
    // On a full disk the log opens, to be read and truncated; appends find out by themselves.
    let _ = file.allocate(options.segment_bytes);
    let stamper = Stamper::new(clock, inspected.catalogue.end.last);
    let shared = Arc::new(Shared::new(disk, identity, options, inspected.catalogue));
    let writer = Writer::new(shared.clone(), stamper, file, inspected.closed);
    Ok((Log { inner: Arc::new(Inner { shared, thread: Mutex::default(), lock: Mutex::new(Some(lock)) }) }, writer, recovery))
}

/// Makes all that is about to be readable durable.
///
/// The last frame may be whole and yet in no safe place: a process that was killed before the sync leaves it in
/// the system's memory, and a sync that failed may have left it there as if it were written. So it is written
/// again, which changes no byte, and synced. Every frame before it was synced before the next was written.
fn settle(file: &dyn DiskFile, inspected: &Inspected) -> io::Result<()> {
    if inspected.torn_bytes > 0 {
        file.set_len(inspected.catalogue.tail_segment().end)?;
    }
    file.write_at(&inspected.last_frame.bytes, inspected.last_frame.at)?;
    file.sync()
}

/// Tells what the log of a directory holds, without its lock. A running daemon may be a frame behind.
///
/// Errors: there is no log, it is damaged, or it cannot be read.
pub fn status(dir: &Path) -> Result<Status, OpenError> {
    status_of(&OsDisk::new(dir))
}

/// Mends the log of a directory: keeps each damaged segment in `damaged/`, and puts one in its place that
/// has what is still good and names what is lost. Tells what was damaged; nothing, if all was well.
///
/// Errors: the log is open, or the damage leaves nothing to go on from.
/// Cost: reads the whole log.
pub fn set_aside(dir: &Path) -> Result<Vec<Damage>, OpenError> {
    set_aside_on(&OsDisk::new(dir))
}

pub(super) fn status_of(disk: &dyn Disk) -> Result<Status, OpenError> {
    // A daemon that writes, begins or drops a segment meanwhile may make one look wrong: that passes.
    const LOOKS: usize = 5;
    let quick = || {
        let (identity, mark) = existing(disk).ok()?;
        let inspected = inspect_good(disk, &identity, &mark).ok()??;
        Some(Status::of(&identity, &inspected.catalogue))
    };
    if let Some(status) = (0..LOOKS).find_map(|_| quick()) {
        return Ok(status);
    }
    // It stays wrong: the thorough look, which reads the whole log, is taken once.
    let (identity, mark) = existing(disk)?;
    let inspected = inspect(disk, &identity, &mark)?;
    Ok(Status::of(&identity, &inspected.catalogue))
}

pub(super) fn set_aside_on(disk: &dyn Disk) -> Result<Vec<Damage>, OpenError> {
    let (identity, mark) = existing(disk)?;
    let _lock = lock(disk)?;
    mend(disk, &identity, &mark)
}

fn existing(disk: &dyn Disk) -> Result<(Identity, Mark), OpenError> {
    let identity = Identity::load(disk)?.ok_or(OpenError::Absent)?;
    let mark = Mark::load(disk, identity.partitions)?.ok_or(OpenError::File { file: "MARK", what: "is missing" })?;
    Ok((identity, mark))
}

fn lock(disk: &dyn Disk) -> Result<Box<dyn Send + Sync>, OpenError> {
    disk.lock(identity::LOCK).map_err(|error| match error {
        LockError::Held(holder) => OpenError::Locked { holder },
        LockError::Io(error) => error.into(),
    })
}

fn find_or_make(disk: &dyn Disk, new: Identity) -> Result<Identity, OpenError> {
    if let Some(identity) = Identity::load(disk)? {
        return Ok(identity);
    }
    if disk.list()?.iter().any(|name| name == "MARK" || header::file_number(name).is_some()) {
        return Err(OpenError::File { file: "LOG", what: "is missing" });
    }
    new.store(disk)?;
    Ok(new)
}

/// MARK is written last when a log is made: without it, there may be an empty first segment at most.
fn inspect_or_make(disk: &dyn Disk, identity: &Identity, segment_bytes: u64) -> Result<(Inspected, bool), OpenError> {
    if let Some(mark) = Mark::load(disk, identity.partitions)? {
        let inspected = inspect(disk, identity, &mark)?;
        remove_leftovers(disk, &mark)?;
        return Ok((inspected, false));
    }
    let mark = Mark::origin(identity.partitions);
    if segments(disk, &mark)?.is_empty() {
        let base = mark.base.clone();
        let header = Header { log: identity.id, number: mark.first, end_before: 0, mended: false, mended_end: 0, base };
        begin_segment(disk, &header, segment_bytes).map_err(io::Error::from)?;
    }
    let inspected = inspect(disk, identity, &mark)?;
    if inspected.catalogue.end != mark.base {
        return Err(OpenError::File { file: "MARK", what: "is missing" });
    }
    mark.store(disk)?;
    Ok((inspected, true))
}

/// Removes what a crash left: files that were not finished, and segments below the mark. The space for the next
/// MARK is set aside anew after it: a rename that the power cut in two may have left MARK under both names.
fn remove_leftovers(disk: &dyn Disk, mark: &Mark) -> io::Result<()> {
    let left = |name: &String| name.ends_with(".tmp") || header::file_number(name).is_some_and(|number| number < mark.first);
    disk.list()?.iter().filter(|name| left(name)).try_for_each(|name| disk.remove(name))
}
