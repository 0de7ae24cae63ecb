//! Owns the decoders' bodies on disk: one file each, named by the SHA-256 of its content.

use super::{DecoderError, disk};
use dataflows::model::DecoderHash;
use sha2::{Digest, Sha256};
use std::io;
use std::path::PathBuf;

/// The folder of bodies.
pub(super) struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// Uses the folder `dir`, which exists.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Puts a body on disk, fsynced, and gives its name.
    pub(super) fn put(&self, body: &[u8]) -> Result<DecoderHash, DecoderError> {
        let hash = hash(body);
        if self.get(hash).is_err() {
            let path = self.path(hash);
            disk::write_whole(&path, &[body]).map_err(|error| DecoderError::Disk { path, error })?;
        }
        Ok(hash)
    }

    /// Reads a body.
    ///
    /// Errors: it is not there, or its content is no longer what its name says.
    pub(super) fn get(&self, name: DecoderHash) -> io::Result<Vec<u8>> {
        let body = std::fs::read(self.path(name))?;
        if hash(&body) == name { Ok(body) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "its file is damaged")) }
    }

    fn path(&self, hash: DecoderHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }
}

fn hash(body: &[u8]) -> DecoderHash {
    DecoderHash(Sha256::digest(body).into())
}
