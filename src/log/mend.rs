//! Owns the way on from damage: what is still good in a damaged segment is written anew, with the lost
//! offsets named in place of the rest, and the damaged file is kept in `damaged/`.
//!
//! The segment is replaced by one rename, so that a crash leaves either the damaged log or the mended one.

use super::disk::Disk;
use super::error::{Damage, OpenError};
use super::frame::{self, Kind};
use super::header::{self, Header};
use super::identity::{Identity, Mark};
use super::survey::Piece;
use super::verify::{Surveyed, survey_log};
use std::io;

/// The directory that keeps the damaged files.
pub(super) const DAMAGED: &str = "damaged";
const NEW: &str = "mend.tmp";

/// Mends every damaged segment, and tells what was wrong. The caller holds the log's lock.
pub(super) fn mend(disk: &dyn Disk, identity: &Identity, mark: &Mark) -> Result<Vec<Damage>, OpenError> {
    let mut damages = vec![];
    survey_log(disk, identity, mark, |surveyed| {
        if !surveyed.survey.damages.is_empty() {
            replace(disk, identity, &surveyed)?;
            damages.extend(surveyed.survey.damages);
        }
        Ok(())
    })?;
    Ok(damages)
}

fn replace(disk: &dyn Disk, identity: &Identity, surveyed: &Surveyed) -> io::Result<()> {
    let mut header = Header {
        log: identity.id,
        number: surveyed.number,
        end_before: surveyed.end_before,
        mended: true,
        mended_end: 0,
        base: surveyed.base.clone(),
    };
    let frames_at = header.encode().len();
    let frames = frames(identity.salt, surveyed);
    if !surveyed.last {
        header.mended_end = (frames_at + frames.len()) as u64;
    }
    let file = disk.create(NEW)?;
    file.write_at(&header.encode(), 0)?;
    file.write_at(&frames, frames_at as u64)?;
    file.sync()?;
    let name = header::file_name(surveyed.number);
    if !surveyed.bytes.is_empty() {
        disk.keep(&name, DAMAGED)?;
    }
    disk.rename(NEW, &name)?;
    disk.sync_names()
}

/// The good frames as they are, and one frame for each place where some are lost.
fn frames(salt: u64, surveyed: &Surveyed) -> Vec<u8> {
    let mut frames = vec![];
    let mut lost = vec![];
    let mut last = surveyed.base.last;
    for piece in &surveyed.survey.pieces {
        match piece {
            Piece::Good(at, frame) => {
                frames.extend_from_slice(&surveyed.bytes[*at..at + frame.bytes()]);
                last = last.max(frame.log_time);
            }
            Piece::Lost { seq, parts } => {
                frame::encode(&mut lost, salt, (Kind::Lost, *seq, last), parts, std::iter::empty());
                frames.extend_from_slice(&lost);
            }
        }
    }
    frames
}
