//! Locks on what two runs must not use at once. The kernel releases them when their holder ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Holds the lock file at `path`, waiting for another run that holds it. Released when the file is dropped.
///
/// # Errors
///
/// The file cannot be made or locked.
pub(super) fn hold(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot make the lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("xtask: waiting for another run, which holds {}", path.display()),
        Err(TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
