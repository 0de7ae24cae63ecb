//! The directory's copy on local disk, so that ingest opens without a database.
//!
//! One file, replaced atomically: magic, version, CRC-32C of the rest, then zstd of postcard.
//! A missing or damaged file costs a longer scan of the log and waits for the database; it loses nothing.

use super::{InEffect, Token, TokenHash};
use dataflows::model::Offset;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"weirreg\x01";

/// What the file holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// The log that it belongs to.
    pub log: Uuid,
    /// For each partition, the offset up to which the log's registry records are in it.
    pub positions: Vec<Offset>,
    /// What is in effect there.
    pub effect: InEffect,
    /// Who may send and read, as the database last said.
    pub tokens: BTreeMap<TokenHash, Token>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk.
    #[error("the registry snapshot cannot be read or written ({0})")]
    Io(#[from] io::Error),
    /// Not what this version writes, or changed on disk.
    #[error("the registry snapshot is damaged or of another version; it is rebuilt from the log and the database")]
    Damaged,
}

impl Snapshot {
    /// Writes the file at `path`, durable when it returns.
    pub(super) fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        let plain = postcard::to_stdvec(self).expect("a snapshot holds nothing that postcard refuses");
        let body = zstd::encode_all(plain.as_slice(), 1)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(MAGIC)?;
        file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Reads the file at `path`; `None` when there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, SnapshotError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or(SnapshotError::Damaged)?;
        let (crc, body) = body.split_first_chunk::<4>().ok_or(SnapshotError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(SnapshotError::Damaged);
        }
        let plain = zstd::decode_all(body)?;
        postcard::from_bytes(&plain).map(Some).map_err(|_| SnapshotError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_back_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.snapshot");
        assert_eq!(Snapshot::load(&path).unwrap(), None);
        let snapshot = Snapshot {
            log: Uuid::from_u128(7),
            positions: vec![Offset(3); 16],
            effect: InEffect::default(),
            tokens: BTreeMap::new(),
        };
        snapshot.save(&path).unwrap();
        assert_eq!(Snapshot::load(&path).unwrap(), Some(snapshot));

        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, bad).unwrap();
            assert!(matches!(Snapshot::load(&path), Err(SnapshotError::Damaged)), "byte {at}");
        }
    }
}
