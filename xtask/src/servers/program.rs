//! The programs of a PostgreSQL server: those of the system, or those that we unpacked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Kind, unpacked};
use crate::interrupts::Interrupts;
use crate::process;
use crate::workspace::Workspace;

/// Where Debian installs the servers, a folder for each major version.
const SYSTEM: &str = "/usr/lib/postgresql";

/// The oldest major version that weir supports.
const VERSION_MIN: u32 = 15;

/// Programs of one version of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    bin: PathBuf,
    version: u32,
}

impl Program {
    /// Gets the programs for `kind`.
    ///
    /// Plain: the oldest supported version of the system, installed by apt if there is none, else the private one without
    /// its extension. TimescaleDB: always the private one, so that its version and edition are known.
    ///
    /// # Errors
    ///
    /// They are neither there nor to be had; the message says why.
    pub(crate) fn get(kind: Kind, workspace: &Workspace, interrupts: &Interrupts) -> Result<Self> {
        match kind {
            Kind::Timescale => Self::unpacked(workspace, interrupts).context("PostgreSQL 17 with TimescaleDB cannot be got"),
            Kind::Plain => {
                if let Some(program) = Self::of_system(Path::new(SYSTEM)) {
                    return Ok(program);
                }
                match install(interrupts) {
                    Ok(()) => Self::of_system(Path::new(SYSTEM))
                        .with_context(|| format!("apt installed a PostgreSQL older than {VERSION_MIN}, or outside of {SYSTEM}")),
                    Err(error) => {
                        eprintln!(
                            "xtask: the system has no PostgreSQL and apt does not install it ({error:#}); using version 17"
                        );
                        Self::unpacked(workspace, interrupts)
                    }
                }
            }
        }
    }

    /// Gives programs that are there already; gets none.
    #[cfg(test)]
    pub(super) fn present(workspace: &Workspace) -> Option<Self> {
        let unpacked = || unpacked::present(workspace).map(|bin| Self { bin, version: 17 });
        Self::of_system(Path::new(SYSTEM)).or_else(unpacked)
    }

    /// The folder of `postgres`, `initdb`, `pg_ctl` and `psql`.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    fn unpacked(workspace: &Workspace, interrupts: &Interrupts) -> Result<Self> {
        Ok(Self { bin: unpacked::get(workspace, interrupts)?, version: 17 })
    }

    fn of_system(folder: &Path) -> Option<Self> {
        let versions = fs::read_dir(folder).ok()?;
        versions
            .filter_map(|version| {
                let version = version.ok()?.path();
                let number = version.file_name()?.to_str()?.parse().ok()?;
                Some(Self { bin: version.join("bin"), version: number })
            })
            .filter(|program| program.version >= VERSION_MIN && program.bin.join("postgres").is_file())
            .min_by_key(|program| program.version)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.version)
    }
}

/// `psql` of the `PATH`, else of the system's server, else of the one that we unpack.
///
/// # Errors
///
/// There is none and it cannot be got.
pub(crate) fn psql(workspace: &Workspace, interrupts: &Interrupts) -> Result<PathBuf> {
    if process::is_installed("psql") {
        return Ok(PathBuf::from("psql"));
    }
    let program = match Program::of_system(Path::new(SYSTEM)) {
        Some(program) => program,
        None => Program::unpacked(workspace, interrupts)?,
    };
    Ok(program.bin.join("psql"))
}

/// Installs the system's PostgreSQL by apt, as root or through sudo where that asks for no password.
fn install(interrupts: &Interrupts) -> Result<()> {
    ensure!(process::is_installed("apt-get"), "there is no apt-get");
    let is_root = rustix::process::geteuid().is_root();
    ensure!(is_root || process::is_installed("sudo"), "neither root nor sudo");
    eprintln!("xtask: installing the system's PostgreSQL by apt");
    for step in [&["update"][..], &["install", "--yes", "--no-install-recommends", "postgresql"]] {
        interrupts.check()?;
        let mut apt_get = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            apt_get.args(["--non-interactive", "apt-get"]);
        }
        process::output(apt_get.env("DEBIAN_FRONTEND", "noninteractive").args(step))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Program;

    #[track_caller]
    fn check(case: &str, versions: &[&str], expected: Option<u32>) {
        let folder = std::env::temp_dir().join(format!("weir-xtask-{case}-{}", std::process::id()));
        for version in versions {
            let bin = folder.join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("postgres"), "").unwrap();
        }
        fs::create_dir_all(folder.join("15/lib")).unwrap();
        let found = Program::of_system(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.map(|program| program.version), expected, "{versions:?}");
    }

    #[test]
    fn the_oldest_supported_version_of_the_system_is_used() {
        check("both", &["16", "17", "9"], Some(16));
        check("old", &["13", "14", "common"], None);
        check("none", &[], None);
    }
}
