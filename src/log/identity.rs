//! Owns the two small files beside the segments: LOG, which says for ever what the log is, and MARK,
//! which says where it begins now. Each is replaced as a whole, and believed only with its CRC.

use super::disk::{Disk, DiskFile};
use super::error::OpenError;
use super::frame::u32_at;
use super::position::Position;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use uuid::Uuid;

const VERSION: u32 = 1;
const LOG: &str = "LOG";
const MARK: &str = "MARK";
/// The file that is locked by the process that has the log open.
pub(super) const LOCK: &str = "LOCK";

/// What a log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Its name in the database.
    pub(super) id: Uuid,
    /// What every frame begins with; nobody outside knows it.
    pub(super) salt: u64,
    /// How many partitions it has.
    pub(super) partitions: u16,
}

/// Where a log begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The first segment that is kept.
    pub(super) first: u64,
    /// Where it begins: the first kept offsets, and what was counted up to there.
    pub(super) base: Position,
}

impl Mark {
    /// The begin of a log that was never truncated.
    pub(super) fn origin(partitions: u16) -> Self {
        Self { first: 1, base: Position::origin(partitions) }
    }
}

impl Identity {
    /// Makes a new one, from numbers that never come again.
    pub(super) fn new(partitions: u16) -> Self {
        Self { id: Uuid::new_v4(), salt: Uuid::new_v4().as_u64_pair().0, partitions }
    }

    /// Reads LOG. None if there is none.
    pub(super) fn load(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        load(disk, LOG)
    }

    /// Writes LOG.
    pub(super) fn store(&self, disk: &dyn Disk) -> io::Result<()> {
        store(disk, LOG, self)
    }
}

impl Mark {
    /// Reads MARK. None if there is none.
    pub(super) fn load(disk: &dyn Disk, partitions: u16) -> Result<Option<Self>, OpenError> {
        let mark: Option<Self> = load(disk, MARK)?;
        match mark {
            Some(mark) if mark.base.next.len() != usize::from(partitions) => {
                Err(OpenError::File { file: MARK, what: "belongs to a log with another number of partitions" })
            }
            mark => Ok(mark),
        }
    }

    /// Writes MARK.
    pub(super) fn store(&self, disk: &dyn Disk) -> io::Result<()> {
        store(disk, MARK, self)
    }

    /// Sets the space for the next MARK aside, as the file that it will be written to, so that a log on a
    /// full disk can be truncated. As far as there is space now.
    pub(super) fn reserve(disk: &dyn Disk) {
        const BYTES: u64 = 4096;
        let _ = open_or_create(disk, &new_name(MARK)).and_then(|file| file.allocate(BYTES));
    }
}

/// File: CRC u32 · version u32 · content (postcard).
fn load<T: DeserializeOwned>(disk: &dyn Disk, file: &'static str) -> Result<Option<T>, OpenError> {
    let bytes = match disk.read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = OpenError::File { file, what: "is damaged" };
    if bytes.len() < 8 || u32_at(&bytes, 0) != crc32c::crc32c(&bytes[4..]) {
        return Err(damaged);
    }
    if u32_at(&bytes, 4) != VERSION {
        return Err(OpenError::File { file, what: "is of another version of weir" });
    }
    postcard::from_bytes(&bytes[8..]).map(Some).map_err(|_| damaged)
}

fn store<T: Serialize>(disk: &dyn Disk, name: &str, content: &T) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes = postcard::to_extend(content, bytes).expect("plain data is serializable");
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    let new = new_name(name);
    let file = open_or_create(disk, &new)?;
    file.write_at(&bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync()?;
    disk.rename(&new, name)?;
    disk.sync_names()
}

/// Opens a file as it is: what is there may be space that was set aside, and making it anew would give that away.
fn open_or_create(disk: &dyn Disk, name: &str) -> io::Result<Box<dyn DiskFile>> {
    match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(name),
        other => other,
    }
}

/// The file that takes a file's place when it is complete.
fn new_name(name: &str) -> String {
    format!("{name}.tmp")
}
