//! PostgreSQL 17 with TimescaleDB, unpacked from the packages of Debian trixie into a folder of ours.
//!
//! The programs are patched to use the folder's own loader and libraries, so that it does not matter which release the
//! system is. The folder is complete when its stamp is there, which names the place that the programs were patched for.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::Apt;
use super::lock;
use crate::interrupts::Interrupts;
use crate::process;
use crate::workspace::Workspace;

const SUITE: &str = "trixie";
/// Under the private folder.
const FOLDER: &str = "pg17";
/// Under the folder.
const BIN: &str = "usr/lib/postgresql/17/bin";
/// Under the folder.
const STAMP: &str = "complete";
const PACKAGES: [&str; 3] = ["postgresql-17", "postgresql-17-timescaledb", "patchelf"];

/// The folder of the server's programs, fetched and unpacked if it is not there yet.
///
/// # Errors
///
/// The packages cannot be downloaded, unpacked or patched, or a signal was received.
pub(super) fn get(workspace: &Workspace, interrupts: &Interrupts) -> Result<PathBuf> {
    let _lock = lock::hold(&workspace.private.join("pg17.lock"))?;
    if let Some(bin) = present(workspace) {
        return Ok(bin);
    }
    let folder = workspace.private.join(FOLDER);
    let place = folder.to_string_lossy();
    eprintln!("xtask: fetching PostgreSQL 17 with TimescaleDB into {place} (once, about 45 MB)");
    let downloads = workspace.private.join("apt");
    remove(&downloads)?;
    remove(&folder)?;
    let packages = Apt::open(&downloads, SUITE)?.download(&PACKAGES, is_wanted, interrupts)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {place}"))?;
    for package in packages {
        interrupts.check()?;
        process::output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&folder))?;
    }
    let bin = folder.join(BIN);
    patch(&folder, &bin)?;
    remove(&downloads)?;
    let stamp = folder.join(STAMP);
    fs::write(&stamp, place.as_bytes()).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(bin)
}

/// The folder of the server's programs, if they are there, complete and patched for where they are.
pub(super) fn present(workspace: &Workspace) -> Option<PathBuf> {
    let folder = workspace.private.join(FOLDER);
    let patched_for = fs::read_to_string(folder.join(STAMP)).ok()?;
    (patched_for == folder.to_string_lossy()).then(|| folder.join(BIN))
}

/// The server's own packages and shared libraries; not the just-in-time compiler's, which is switched off, nor perl and the
/// tools around it, which only the system's way of administration needs.
fn is_wanted(package: &str) -> bool {
    const UNUSED_LIBRARIES: [&str; 3] = ["libllvm", "libz3", "libperl"];
    let is_server = PACKAGES.contains(&package) || package == "postgresql-client-17";
    let is_library = package.starts_with("lib")
        && !package.ends_with("-perl")
        && !UNUSED_LIBRARIES.iter().any(|unused| package.starts_with(unused));
    is_server || is_library
}

/// Lets every program in `bin` use the loader and the libraries of `folder`.
fn patch(folder: &Path, bin: &Path) -> Result<()> {
    let loader = loader(&folder.join("usr/lib"))?;
    let libraries = loader.parent().expect("the loader was found in a folder");
    for program in entries(bin)?.filter(|program| is_elf(program)) {
        // patchelf is one of the packages, so it needs their loader and libraries, too.
        let mut patchelf = Command::new(&loader);
        patchelf.arg("--library-path").arg(libraries).arg(folder.join("usr/bin/patchelf"));
        // A forced rpath also holds for the libraries that libraries and extensions need.
        patchelf.arg("--set-interpreter").arg(&loader).arg("--force-rpath").arg("--set-rpath").arg(libraries).arg(&program);
        process::output(&mut patchelf)?;
    }
    Ok(())
}

/// The dynamic loader, in the folder that is named after the machine's architecture.
fn loader(lib: &Path) -> Result<PathBuf> {
    let is_loader = |file: &PathBuf| {
        file.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("ld-linux") && name.contains(".so.")
        })
    };
    for folder in entries(lib)?.filter(|entry| entry.is_dir()) {
        if let Some(loader) = entries(&folder)?.find(is_loader) {
            return Ok(loader);
        }
    }
    anyhow::bail!("the packages hold no dynamic loader under {}", lib.display())
}

fn entries(folder: &Path) -> Result<impl Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())))
}

fn is_elf(file: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok_and(|()| magic == *b"\x7fELF")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[track_caller]
    fn check(package: &str, expected: bool) {
        assert_eq!(is_wanted(package), expected, "{package}");
    }

    #[test]
    fn only_the_server_and_its_libraries_are_unpacked() {
        for package in ["postgresql-17", "postgresql-client-17", "postgresql-17-timescaledb", "libc6", "libicu76", "patchelf"] {
            check(package, true);
        }
        for package in ["libllvm19", "libz3-4", "libperl5.40", "libjson-perl", "perl-base", "postgresql-common", "passwd"] {
            check(package, false);
        }
    }
}
