//! Owns the decoders' bodies on disk: one file each, named by the SHA-256 of its content.

use super::{DecoderError, disk};
use dataflows::model::DecoderHash;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Size and time of the last change: cheap to ask for, and another when a file is replaced or mended.
type Looks = (u64, SystemTime);

/// The folder of bodies.
pub(super) struct Shelf {
    dir: PathBuf,
    /// Bodies that were found to be what their names say, with what their files looked like then.
    sound: Mutex<HashMap<DecoderHash, Looks>>,
}

impl Shelf {
    /// Uses the folder `dir`, which exists.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, sound: Mutex::default() }
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

    /// Whether a body is there. It is read and hashed once, and again when its file looks different.
    pub(super) fn has(&self, name: DecoderHash) -> bool {
        let Ok(looks) = self.looks(name) else { return false };
        let known = self.sound().get(&name) == Some(&looks);
        known || self.get(name).is_ok()
    }

    /// Reads a body.
    ///
    /// Errors: it is not there, or its content is no longer what its name says.
    pub(super) fn get(&self, name: DecoderHash) -> io::Result<Vec<u8>> {
        let looks = self.looks(name)?;
        let body = std::fs::read(self.path(name))?;
        if hash(&body) != name {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its file is damaged"));
        }
        self.sound().insert(name, looks);
        Ok(body)
    }

    fn looks(&self, name: DecoderHash) -> io::Result<Looks> {
        let metadata = std::fs::metadata(self.path(name))?;
        Ok((metadata.len(), metadata.modified()?))
    }

    fn sound(&self) -> MutexGuard<'_, HashMap<DecoderHash, Looks>> {
        // Every change is one insert, so that a panic elsewhere leaves the map whole.
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, hash: DecoderHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }
}

fn hash(body: &[u8]) -> DecoderHash {
    DecoderHash(Sha256::digest(body).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_there_when_it_is_sound_and_its_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Shelf::new(dir.path().into());
        let name = open().put(b"a decoder").unwrap();
        std::fs::write(open().path(name), b"another").unwrap();
        assert!(!open().has(name), "its content is not what its name says");
        let shelf = open();
        assert_eq!(shelf.put(b"a decoder").unwrap(), name, "it is written anew");
        assert!(shelf.has(name));
        // Whoever is not told of the change by how the file looks does not read it again.
        let modified = std::fs::metadata(shelf.path(name)).unwrap().modified().unwrap();
        std::fs::write(shelf.path(name), b"a devoder").unwrap();
        let touch = |at| std::fs::File::options().write(true).open(shelf.path(name)).unwrap().set_modified(at).unwrap();
        touch(modified);
        assert!(shelf.has(name));
        touch(modified + std::time::Duration::from_secs(1));
        assert!(!shelf.has(name));
        std::fs::remove_file(shelf.path(name)).unwrap();
        assert!(!shelf.has(name));
    }
}
