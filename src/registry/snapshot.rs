//! The directory's copy on local disk, so that ingest opens without a database.
//!
//! One file, replaced atomically: magic, version, CRC-32C of the rest, then zstd of postcard. What came to be known later
//! stands behind what was there before: an earlier weir passes it over, and a file of an earlier one ends there.
//! A missing or damaged file costs a longer scan of the log and waits for the database; it loses nothing.

use super::{InEffect, Quotas, Token, TokenHash};
use dataflows::model::Offset;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"weirreg\x01";
const PLAIN: &str = "a snapshot holds nothing that postcard refuses";

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
    /// What tenants may send, as the database last said. A file from before there were quotas names none.
    #[serde(skip)]
    pub quotas: Quotas,
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
        let mut plain = postcard::to_stdvec(self).expect(PLAIN);
        plain.extend(postcard::to_stdvec(&self.quotas).expect(PLAIN));
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
        let (mut snapshot, behind) = postcard::take_from_bytes::<Self>(&plain).map_err(|_| SnapshotError::Damaged)?;
        if !behind.is_empty() {
            snapshot.quotas = postcard::from_bytes(behind).map_err(|_| SnapshotError::Damaged)?;
        }
        Ok(Some(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Quota;
    use super::*;
    use dataflows::model::{TenantNo, Treatment};

    #[test]
    fn a_snapshot_comes_back_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.snapshot");
        assert_eq!(Snapshot::load(&path).unwrap(), None);
        let treatment = Treatment::Thin { interval_us: 7 };
        let quota = Quota { tenant: "brewery".into(), per_second_max: None, per_day_max: Some(5), treatment };
        let snapshot = Snapshot {
            log: Uuid::from_u128(7),
            positions: vec![Offset(3); 16],
            effect: InEffect::default(),
            tokens: BTreeMap::new(),
            quotas: [(TenantNo(3), quota)].into(),
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

    #[test]
    fn a_file_from_before_there_were_quotas_names_none_and_is_read() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Earlier {
            log: Uuid,
            positions: Vec<Offset>,
            effect: InEffect,
            tokens: BTreeMap<TokenHash, Token>,
        }
        let log = Uuid::from_u128(7);
        let earlier = Earlier { log, positions: vec![Offset(3)], effect: InEffect::default(), tokens: BTreeMap::new() };
        let body = zstd::encode_all(postcard::to_stdvec(&earlier).unwrap().as_slice(), 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.snapshot");
        fs::write(&path, [MAGIC.as_slice(), &crc32c::crc32c(&body).to_le_bytes(), &body].concat()).unwrap();
        let read = Snapshot::load(&path).unwrap().unwrap();
        assert_eq!((&read.positions, read.quotas.len()), (&earlier.positions, 0));
        // And the other way round: whoever does not know of quotas reads all that they know.
        let later = postcard::to_stdvec(&(&read, Quotas::new())).unwrap();
        assert_eq!(postcard::from_bytes::<Earlier>(&later).unwrap(), earlier);
    }
}
