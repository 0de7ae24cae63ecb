//! A folder for compiled decoders, kept where nobody but the user can write.
//!
//! Compiled decoders are native code that runs as it is read: whoever could put a file there would run code as
//! this user. So the folder is the user's own and open to nobody else, or a fresh one that goes with the command.

use anyhow::Context;
use rustix::process::geteuid;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A folder of the user's own.
pub(super) struct PrivateFolder {
    path: PathBuf,
    /// Whether it goes with this value.
    passing: bool,
}

impl PrivateFolder {
    /// Opens the folder `name` among the user's caches; where that cannot be trusted, a fresh one.
    ///
    /// Errors: no folder can be made.
    pub(super) fn open(name: &str) -> anyhow::Result<Self> {
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
        let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).filter(|path| path.is_absolute());
        match caches.and_then(|caches| Self::kept(&caches.join("weir").join(name))) {
            Some(kept) => Ok(kept),
            None => {
                Self::fresh().context("a folder for the compiled decoder cannot be made: set TMPDIR to one that can be written")
            }
        }
    }

    /// The folder at `path`, if it is or can be made one that only the user can write into.
    fn kept(path: &Path) -> Option<Self> {
        // It may be there, and whatever else is wrong with it shows in a moment.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(path);
        is_private(path).ok().filter(|is| *is).map(|_| Self { path: path.into(), passing: false })
    }

    fn fresh() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-{}", Uuid::new_v4()));
        // Fails where anything has that name already.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, passing: true })
    }

    /// Gives where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if self.passing {
            // What cannot be removed is the user's own, in a folder for what passes.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn is_private(path: &Path) -> io::Result<bool> {
    // Of a link itself, not of what it leads to.
    let found = std::fs::symlink_metadata(path)?;
    Ok(found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_folder_that_is_the_users_alone_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir/decode");
        let kept = PrivateFolder::kept(&path).expect("it is made");
        assert_eq!(std::fs::metadata(kept.path()).unwrap().mode() & 0o777, 0o700);
        drop(kept);
        assert!(PrivateFolder::kept(&path).is_some(), "and found again");

        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(PrivateFolder::kept(&link).is_none(), "a link may be led elsewhere");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(PrivateFolder::kept(&path).is_none(), "others can write into it");
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(PrivateFolder::kept(&dir.path().join("file")).is_none());
    }

    #[test]
    fn a_fresh_folder_goes_with_its_value() {
        let fresh = PrivateFolder::fresh().unwrap();
        let path = fresh.path().to_owned();
        assert!(is_private(&path).unwrap());
        drop(fresh);
        assert!(!path.exists());
    }
}
