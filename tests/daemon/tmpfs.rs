//! A disk that is small.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of so many bytes in memory. Dropping it takes it away.
pub(crate) struct Tmpfs {
    dir: PathBuf,
}

impl Tmpfs {
    /// Mounts it on a directory, which it makes. None where this account may not: the reason is printed, and the
    /// test has nothing to show.
    pub(crate) fn mount(dir: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let options = format!("size={bytes},mode=755");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "weir-test"]).arg(dir).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { dir: dir.to_owned() }),
            Ok(output) => {
                println!("NOT RUN: no file system can be mounted here: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("NOT RUN: no file system can be mounted here: {error}");
                None
            }
        }
    }

    /// Fills it to the last byte with a file, whose removal gives the space back.
    pub(crate) fn fill(&self) -> PathBuf {
        let ballast = self.dir.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        // In ever smaller pieces, for a piece that does not fit may be written in part or not at all.
        for piece in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        ballast
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: what still has a file open there is about to end.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.dir).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
