//! Owns how decoders get to disk: whole and fsynced, or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes every unfinished file of this process another one.
static UNFINISHED: AtomicU64 = AtomicU64::new(0);

/// Writes a file of several parts under a passing name, fsyncs it, gives it its name, and fsyncs the
/// folder. Whoever reads `path` sees what was there before or all of the new content.
pub(super) fn write_whole(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let number = UNFINISHED.fetch_add(1, Ordering::Relaxed);
    let unfinished = folder.join(format!(".{}-{number}.part", std::process::id()));
    let written = write_and_name(&unfinished, path, parts);
    if written.is_err() {
        // The first error is the one to tell; a file left over is harmless.
        let _ = std::fs::remove_file(&unfinished);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write_and_name(unfinished: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    // One of that name may be there: of a process that was killed and had our number, as in a container.
    let mut file = File::create(unfinished)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_of_the_same_number_left_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        // Other tests count on meanwhile, so all of the next numbers are taken.
        let next = UNFINISHED.load(Ordering::Relaxed);
        for number in next..next + 500 {
            std::fs::write(folder.path().join(format!(".{}-{number}.part", std::process::id())), "half of a longer text")
                .unwrap();
        }
        let path = folder.path().join("decoder");
        write_whole(&path, &[b"a", b"b"]).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"ab");
    }
}
