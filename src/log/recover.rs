//! Owns the opening: the log is what its files say, or it is not opened.
//!
//! The headers of all segments and every byte of the last one are checked here; the bodies of sealed
//! segments are checked when they are read.

use super::catalogue::{Catalogue, Segment};
use super::disk::Disk;
use super::error::{Damage, LostRange, OpenError};
use super::frame::Kind;
use super::header::{self, Header};
use super::identity::{Identity, Mark};
use super::index::{BlockIndex, Check, walk};
use super::position::Position;
use super::survey::{Subject, lost_ranges};
use super::verify::{segments, survey_log};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What the opening found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Whether the log was made by this opening.
    pub created: bool,
    /// Segments.
    pub segments: usize,
    /// Records that are kept, over all partitions; offsets that were lost are counted too.
    pub records: u64,
    /// What was cut off behind the last good frame: written when the power went, never acknowledged. Unit: bytes.
    pub torn_bytes: u64,
    /// What was set aside earlier and is still within the kept segments.
    pub lost: Vec<LostRange>,
}

/// A frame as it stands in its file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct LastFrame {
    /// Where it begins. Unit: bytes.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// A log as its files say it is.
pub(super) struct Inspected {
    pub(super) catalogue: Catalogue,
    /// The last frame of the last segment; empty if it has none.
    pub(super) last_frame: LastFrame,
    pub(super) torn_bytes: u64,
    /// Whether the last frame was followed by one that proves it: then no flipped bit passes for a torn tail.
    pub(super) closed: bool,
}

impl Inspected {
    pub(super) fn recovery(&self, created: bool) -> Recovery {
        let Catalogue { segments, end, lost, .. } = &self.catalogue;
        let start = segments.iter().next().map_or(&end.next, |first| &first.base.next);
        let records = end.next.iter().zip(start).map(|(end, start)| end - start).sum();
        Recovery { created, segments: segments.len(), records, torn_bytes: self.torn_bytes, lost: lost.clone() }
    }
}

/// Reads what there is, and changes nothing.
///
/// Errors: damage, with all that is lost by it.
pub(super) fn inspect(disk: &dyn Disk, identity: &Identity, mark: &Mark) -> Result<Inspected, OpenError> {
    match inspect_good(disk, identity, mark)? {
        Some(inspected) => Ok(inspected),
        None => Err(damaged(disk, identity, mark)),
    }
}

/// Does as [`inspect`]. None: some segment is not what it should be.
pub(super) fn inspect_good(disk: &dyn Disk, identity: &Identity, mark: &Mark) -> io::Result<Option<Inspected>> {
    let numbers = &segments(disk, mark)?;
    let expected = mark.first..mark.first + numbers.len() as u64;
    if numbers.is_empty() || !expected.eq(numbers.iter().copied()) {
        return Ok(None);
    }
    let Some(headers) = headers(disk, identity, numbers)? else { return Ok(None) };
    let first = &headers[0].0.base;
    if (first.seq, &first.next) != (mark.base.seq, &mark.base.next) {
        return Ok(None);
    }
    let mut segments = VecDeque::with_capacity(headers.len());
    let mut lost = vec![];
    for pair in headers.windows(2) {
        let [(header, bytes), (next, _)] = pair else { unreachable!("windows(2) gives pairs") };
        let end = if header.mended_end == 0 { next.end_before } else { header.mended_end };
        if !header.base.may_precede(&next.base) || *bytes < end {
            return Ok(None);
        }
        if header.mended {
            lost.extend(lost_in(&disk.read(&header::file_name(header.number))?, identity, header));
        }
        segments.push_back(Segment { number: header.number, base: Arc::new(header.base.clone()), end });
    }
    let (header, _) = headers.last().expect("there is at least one segment");
    let bytes = disk.read(&header::file_name(header.number))?;
    let Some(tail) = Tail::read(&bytes, identity, header) else { return Ok(None) };
    lost.extend(lost_in(&bytes, identity, header));
    segments.push_back(Segment { number: header.number, base: Arc::new(header.base.clone()), end: tail.end_bytes });
    let catalogue = Catalogue { segments, tail: tail.index, end: tail.end, lost };
    Ok(Some(Inspected { catalogue, last_frame: tail.last_frame, torn_bytes: tail.torn_bytes, closed: tail.closed }))
}

/// The headers with the sizes of their files; none if one is not a header.
fn headers(disk: &dyn Disk, identity: &Identity, numbers: &[u64]) -> io::Result<Option<Vec<(Header, u64)>>> {
    let mut headers = Vec::with_capacity(numbers.len());
    let mut head = vec![0; Header::bytes(identity.partitions)];
    for number in numbers {
        let file = disk.open(&header::file_name(*number))?;
        let bytes = file.len()?;
        if bytes < head.len() as u64 {
            return Ok(None);
        }
        file.read_at(&mut head, 0)?;
        match Header::parse(&head, identity.id, *number, identity.partitions) {
            Some(header) => headers.push((header, bytes)),
            None => return Ok(None),
        }
    }
    Ok(Some(headers))
}

/// The last segment.
struct Tail {
    index: BlockIndex,
    end: Position,
    end_bytes: u64,
    last_frame: LastFrame,
    torn_bytes: u64,
    closed: bool,
}

impl Tail {
    /// None: it is damaged.
    fn read(bytes: &[u8], identity: &Identity, header: &Header) -> Option<Self> {
        let frames_at = Header::bytes(identity.partitions);
        let subject = Subject { number: header.number, bytes, frames_at, base: &header.base, next: None };
        let mut index = BlockIndex::new(identity.partitions);
        let mut closed = true;
        let mut last_at = None;
        let (end_at, end) = subject.good_end(identity.salt, |at, frame, position| {
            index.note(at as u64, position);
            last_at = Some(at);
            closed = frame.kind == Kind::Closed;
        })?;
        let torn_bytes = bytes[end_at..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let last_frame = last_at.map(|at| LastFrame { at: at as u64, bytes: bytes[at..end_at].to_vec() }).unwrap_or_default();
        Some(Self { index, end, end_bytes: end_at as u64, last_frame, torn_bytes, closed })
    }
}

fn lost_in(bytes: &[u8], identity: &Identity, header: &Header) -> Vec<LostRange> {
    let mut lost = vec![];
    if header.mended {
        let mut position = header.base.clone();
        walk(bytes, Header::bytes(identity.partitions), identity.salt, Check::Heads, &mut position, |_, frame, _| {
            lost.extend(lost_ranges(frame));
        });
    }
    lost
}

/// Tells all that is wrong.
fn damaged(disk: &dyn Disk, identity: &Identity, mark: &Mark) -> OpenError {
    let mut damages = vec![];
    let surveyed = survey_log(disk, identity, mark, |surveyed| {
        damages.extend(surveyed.survey.damages);
        Ok(())
    });
    if let Err(error) = surveyed {
        return error;
    }
    if damages.is_empty() {
        let what = "the segments do not follow each other";
        damages.push(Damage { segment: mark.first, byte: 0, what, lost: vec![] });
    }
    OpenError::Damaged(damages)
}
