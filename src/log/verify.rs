//! Owns the thorough look at a log that is not open: every segment, every CRC.

use super::disk::Disk;
use super::error::{Damage, OpenError};
use super::header::{self, Header};
use super::identity::{Identity, Mark};
use super::position::Position;
use super::survey::{Subject, Survey};
use std::io;

/// A segment as the thorough look found it.
pub(super) struct Surveyed {
    pub(super) number: u64,
    /// The file; empty if it is missing.
    pub(super) bytes: Vec<u8>,
    /// Where it begins.
    pub(super) base: Position,
    /// Where the segment before it ends. Unit: bytes.
    pub(super) end_before: u64,
    /// Whether it is the last.
    pub(super) last: bool,
    pub(super) survey: Survey,
}

/// Looks at all segments in order. `Disk` is only read.
///
/// Errors: I/O, or the last segment is missing. Damage is no error here: it is in the surveys.
/// Cost: reads the whole log, one segment in memory at a time.
pub(super) fn survey_log(
    disk: &dyn Disk,
    identity: &Identity,
    mark: &Mark,
    mut visit: impl FnMut(Surveyed) -> io::Result<()>,
) -> Result<(), OpenError> {
    let last = segments(disk, mark)?.last().copied().ok_or(OpenError::EndUnknown(mark.first))?;
    let frames_at = Header::bytes(identity.partitions);
    let mut base = mark.base.clone();
    let mut end_before = 0;
    for number in mark.first..=last {
        let mut bytes = read_or_empty(disk, number)?;
        let header = Header::parse(&bytes, identity.id, number, identity.partitions)
            .filter(|header| header.base.seq == base.seq && header.base.next == base.next);
        let next = if number == last { None } else { header::read(disk, identity.id, number + 1, identity.partitions)? };
        let mut damages = vec![];
        match &header {
            Some(header) => {
                base.clone_from(&header.base);
                end_before = header.end_before;
            }
            None if bytes.is_empty() => {}
            None => damages.push(Damage { segment: number, byte: 0, what: "its header is damaged", lost: vec![] }),
        }
        let end = header.as_ref().map(|header| header.mended_end).filter(|end| *end != 0);
        if let Some(end) = end.or(next.as_ref().map(|next| next.end_before)) {
            bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        }
        let subject = Subject { number, bytes: &bytes, frames_at, base: &base, next: next.as_ref().map(|next| &next.base) };
        let mut survey = subject.survey(identity.salt);
        damages.append(&mut survey.damages);
        if bytes.is_empty() && damages.is_empty() {
            damages.push(Damage { segment: number, byte: 0, what: "the file is missing", lost: vec![] });
        }
        survey.damages = damages;
        let (end, end_bytes) = (survey.end.clone(), survey.end_bytes as u64);
        visit(Surveyed { number, bytes, base, end_before, last: number == last, survey })?;
        (base, end_before) = (end, end_bytes);
    }
    Ok(())
}

/// Gives the numbers of the segment files that belong to the log, in order.
pub(super) fn segments(disk: &dyn Disk, mark: &Mark) -> io::Result<Vec<u64>> {
    let names = disk.list()?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| header::file_number(name)).filter(|number| *number >= mark.first).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_or_empty(disk: &dyn Disk, number: u64) -> io::Result<Vec<u8>> {
    match disk.read(&header::file_name(number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        other => other,
    }
}
