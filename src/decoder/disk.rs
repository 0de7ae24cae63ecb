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
    let mut file = File::create_new(unfinished)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}
