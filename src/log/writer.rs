//! Owns the log's tail: takes all that waits, writes it as one frame, syncs once, and only then publishes
//! it to readers and answers. The next frame is written after that.

use super::NewRecord;
use super::catalogue::Segment;
use super::clock::Stamper;
use super::disk::{Disk, DiskFile};
use super::error::AppendError;
use super::frame::{self, Frame, Kind, Part};
use super::header::{self, Header};
use super::position::Position;
use super::queue::{Author, Job, Queue};
use super::shared::Shared;
use dataflows::model::{LogTime, Offset};
use std::io;
use std::sync::Arc;

/// The writing end, on the thread `weir-log`; a simulation steps it instead.
pub(super) struct Writer {
    shared: Arc<Shared>,
    stamper: Stamper,
    file: Box<dyn DiskFile>,
    /// Where the last durable frame ends.
    position: Position,
    end_bytes: u64,
    /// Whether the last frame is proved by what stands behind it.
    closed: bool,
    /// After a failed sync nothing is written any more.
    poison: Option<Arc<io::Error>>,
    buf: Vec<u8>,
}

impl Writer {
    /// Starts behind the last frame of the tail segment, whose file this is.
    pub(super) fn new(shared: Arc<Shared>, stamper: Stamper, file: Box<dyn DiskFile>, closed: bool) -> Self {
        let (position, end_bytes) = {
            let catalogue = shared.catalogue();
            (catalogue.end.clone(), catalogue.tail_segment().end)
        };
        Self { shared, stamper, file, position, end_bytes, closed, poison: None, buf: vec![] }
    }

    /// Serves the queue until it is closed, then closes the log in order.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _abandon = Abandon(&shared.queue);
        while self.step() {}
        self.close();
    }

    /// Waits for appends and serves one group of them. Tells whether there will be more: not, once the queue is closed
    /// and empty.
    pub(super) fn step(&mut self) -> bool {
        let jobs = self.shared.queue.take(self.shared.options.group_bytes_max);
        let Some(jobs) = jobs else { return false };
        self.serve(jobs);
        true
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let all_own = jobs.iter().all(|job| job.author == Author::Daemon);
        let author = if all_own { Author::Daemon } else { Author::Sender };
        let records: Vec<&NewRecord> = jobs.iter().flat_map(|job| &job.records).collect();
        let committed = self.commit(author, &records);
        if matches!(committed, Err(AppendError::Full(_))) {
            self.shared.set_full(true);
        }
        match committed {
            Ok(offsets) => {
                let mut offsets = offsets.into_iter();
                // Senders first: they wait, and a wake costs a call into the system for each worker.
                for job in jobs {
                    let own = offsets.by_ref().take(job.records.len()).collect();
                    job.answer(Ok(own));
                }
                self.shared.wake();
            }
            Err(error @ (AppendError::Full(_) | AppendError::Clock { .. })) if !all_own => {
                let (own, senders): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.author == Author::Daemon);
                senders.into_iter().for_each(|job| job.answer(Err(error.clone())));
                if !own.is_empty() {
                    self.serve(own);
                }
            }
            Err(error) => jobs.into_iter().for_each(|job| job.answer(Err(error.clone()))),
        }
    }

    /// Makes a group durable, and gives its offsets in the order of its records.
    fn commit(&mut self, author: Author, records: &[&NewRecord]) -> Result<Vec<Offset>, AppendError> {
        let log_time = match (self.stamper.stamp(), author) {
            (Ok(log_time), _) => log_time,
            (Err(_), Author::Daemon) => self.position.last,
            (Err(leap), Author::Sender) => return Err(AppendError::Clock { ahead_us: leap.ahead_us }),
        };
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by_key(|i| records[*i].partition);
        let mut offsets = vec![Offset(0); records.len()];
        let mut parts: Vec<Part> = vec![];
        for i in &order {
            let partition = records[*i].partition.0;
            let part = match parts.last_mut() {
                Some(part) if part.partition == partition => part,
                _ => {
                    let first = self.position.next[usize::from(partition)];
                    parts.push(Part { partition, first, records: 0, bytes: 0 });
                    parts.last_mut().expect("it was just pushed")
                }
            };
            offsets[*i] = Offset(part.end());
            part.records += 1;
            part.bytes += (records[*i].body.len() + frame::RECORD_OVERHEAD_BYTES) as u32;
        }
        let bodies = order.iter().map(|i| records[*i].body.as_slice());
        self.put(author, (Kind::Data, log_time), &parts, bodies)?;
        Ok(offsets)
    }

    /// Writes one frame, syncs it and publishes it.
    fn put<'a>(
        &mut self,
        author: Author,
        (kind, log_time): (Kind, LogTime),
        parts: &[Part],
        bodies: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), AppendError> {
        if let Some(error) = &self.poison {
            return Err(AppendError::Sync(error.clone()));
        }
        let Shared { identity, options, .. } = &*self.shared;
        frame::encode(&mut self.buf, identity.salt, (kind, self.position.seq, log_time), parts, bodies);
        let kept_back = if author == Author::Daemon { 0 } else { options.reserve_bytes };
        if self.end_bytes + self.buf.len() as u64 > options.segment_bytes - kept_back {
            self.roll()?;
        }
        self.file.write_at(&self.buf, self.end_bytes).map_err(write_error)?;
        self.file.sync().map_err(|error| self.poisoned(error))?;
        let frame = Frame::parse(&self.buf, self.shared.identity.salt).expect("it was just encoded");
        let mut catalogue = self.shared.catalogue_mut();
        catalogue.tail.note(self.end_bytes, &self.position);
        self.position.pass(&frame);
        self.end_bytes += self.buf.len() as u64;
        self.closed = kind == Kind::Closed;
        catalogue.end.clone_from(&self.position);
        catalogue.segments.back_mut().expect("a log has at least one segment").end = self.end_bytes;
        Ok(())
    }

    /// Begins the next segment.
    fn roll(&mut self) -> Result<(), AppendError> {
        let Shared { disk, identity, options, .. } = &*self.shared;
        let (number, bytes) = {
            let catalogue = self.shared.catalogue();
            (catalogue.tail_segment().number + 1, catalogue.bytes(0) + options.segment_bytes)
        };
        if bytes > options.size_bytes_max {
            return Err(AppendError::Full("size_bytes_max is reached".into()));
        }
        let header = Header {
            log: identity.id,
            number,
            end_before: self.end_bytes,
            mended: false,
            mended_end: 0,
            base: self.position.clone(),
        };
        let new = begin_segment(&**disk, &header, options.segment_bytes).map_err(|error| match error {
            BeginError::Write(error) => write_error(error),
            BeginError::Sync(error) => self.poisoned(error),
        })?;
        // Gives the unused space back; where the segment ends stands in the next header.
        let _ = self.file.set_len(self.end_bytes);
        let segment = Segment::begin(header);
        self.file = new;
        self.end_bytes = segment.end;
        self.shared.publish_segment(segment);
        self.shared.set_full(false);
        Ok(())
    }

    /// Proves the last frame, so that damage to it cannot pass for a torn tail, and gives unused space back.
    pub(super) fn close(&mut self) {
        if !self.closed && self.put(Author::Daemon, (Kind::Closed, self.position.last), &[], std::iter::empty()).is_err() {
            return;
        }
        let _ = self.file.set_len(self.end_bytes);
    }

    fn poisoned(&mut self, error: io::Error) -> AppendError {
        (self.shared.options.on_fatal)(&error);
        let error = Arc::new(error);
        self.poison = Some(error.clone());
        AppendError::Sync(error)
    }
}

/// Lets nobody wait for a writer that is gone, be it by a panic.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Why a segment was not begun.
pub(super) enum BeginError {
    /// Nothing is changed.
    Write(io::Error),
    /// It is unknown what is on disk.
    Sync(io::Error),
}

impl From<BeginError> for io::Error {
    fn from(error: BeginError) -> Self {
        let (BeginError::Write(error) | BeginError::Sync(error)) = error;
        error
    }
}

/// Makes the file of a new segment, durable and with its space set aside.
pub(super) fn begin_segment(disk: &dyn Disk, header: &Header, segment_bytes: u64) -> Result<Box<dyn DiskFile>, BeginError> {
    const NEW: &str = "new.tmp";
    let write = || {
        let file = disk.create(NEW)?;
        file.allocate(segment_bytes)?;
        file.write_at(&header.encode(), 0)?;
        Ok(file)
    };
    let file = write().map_err(|error| {
        // On a full disk the space is wanted back; what stays behind is removed at the next opening.
        let _ = disk.remove(NEW);
        BeginError::Write(error)
    })?;
    file.sync().map_err(BeginError::Sync)?;
    disk.rename(NEW, &header::file_name(header.number)).map_err(BeginError::Write)?;
    disk.sync_names().map_err(BeginError::Sync)?;
    Ok(file)
}

fn write_error(error: io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full(error.to_string().into()),
        _ => AppendError::Write(Arc::new(error)),
    }
}
