//! Owns what weir inserts into the C of a crate that a guest is built from.
//!
//! The crate stays what its registry has: it is copied into the build folder with all others of the guest, and only the
//! copy is changed. A place that is not there exactly once ends the build, so that no other version of the crate
//! takes an insertion where it does not belong.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// A file of a crate, and what goes into it.
pub(crate) struct Insertions {
    /// The file, in the folder of all crates.
    pub(crate) into: &'static str,
    /// Each a text before which a file of the guest goes.
    pub(crate) places: &'static [(&'static str, &'static str)],
}

impl Insertions {
    /// Copies the crates of the guest in the folder `guest` to the folder `crates`, with the insertions.
    ///
    /// # Errors
    ///
    /// Cargo cannot copy them (it may have to download them), or a place is not there exactly once.
    pub(crate) fn copy_crates(&self, guest: &Path, crates: &Path, cargo: &mut Command) -> Result<()> {
        if crates.exists() {
            fs::remove_dir_all(crates).with_context(|| format!("cannot remove {}", crates.display()))?;
        }
        process::output(cargo.args(["vendor", "--locked"]).arg(crates).current_dir(guest))?;
        let path = crates.join(self.into);
        let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (place, file) in self.places {
            let inserted = fs::read_to_string(guest.join(file)).with_context(|| format!("cannot read {file}"))?;
            text = insert(&text, place, &inserted).with_context(|| format!("{file} has no place in {}", path.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let folder = self.into.split('/').next().unwrap_or_default();
        forget_checksums(&crates.join(folder).join(".cargo-checksum.json"))
    }
}

/// Gives `text` with `inserted` before `place`.
fn insert(text: &str, place: &str, inserted: &str) -> Result<String> {
    let found = text.matches(place).count();
    ensure!(found == 1, "{place:?} is there {found} times and not once: see what the crate's new version looks like there");
    Ok(text.replacen(place, &format!("{inserted}{place}"), 1))
}

/// Has cargo take the copy as it is; the checksum of the crate as a whole stays, for the lock file names it.
fn forget_checksums(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut checksums: serde_json::Value = serde_json::from_str(&text).context("cannot read the checksums of a crate")?;
    checksums["files"] = serde_json::json!({});
    fs::write(path, checksums.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::insert;

    #[test]
    fn an_insertion_goes_before_the_one_place_that_it_names() {
        assert_eq!(insert("a b c", "b", "x ").unwrap(), "a x b c");
        for (text, times) in [("a c", "0 times"), ("b b", "2 times")] {
            let error = insert(text, "b", "x ").unwrap_err().to_string();
            assert!(error.contains(times), "{error}");
        }
    }
}
