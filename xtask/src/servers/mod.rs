//! Database servers for development and tests: plain PostgreSQL, and PostgreSQL 17 with TimescaleDB.
//!
//! Owns what lies under `.weir` except the demo's data. Nothing of the system is changed, save that a missing PostgreSQL is
//! installed by apt. A server lives no longer than the xtask that started it.

mod account;
mod apt;
mod cluster;
mod lock;
mod program;
mod sources;
mod unpacked;

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;

pub(crate) use self::cluster::Cluster;
pub(crate) use self::program::{Program, psql};
use crate::interrupts::Interrupts;
use crate::workspace::Workspace;

/// The two kinds of server that weir is tested with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// PostgreSQL as the system has it, without extensions.
    Plain,
    /// PostgreSQL 17 with TimescaleDB, Apache edition.
    Timescale,
}

impl Kind {
    /// Both, in the order in which they are started.
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Timescale];

    /// The variable in which tests look for the server's address.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Plain => "WEIR_TEST_PG_URL",
            Self::Timescale => "WEIR_TEST_TIMESCALE_URL",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Timescale => "timescale",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PostgreSQL",
            Self::Timescale => "PostgreSQL with TimescaleDB",
        })
    }
}

/// Gets the programs of `kind` and starts an empty server for `purpose` (a word that names its data folder).
///
/// # Errors
///
/// The programs cannot be got, or the server does not start; the message says what to do.
pub(crate) fn start(kind: Kind, purpose: &str, workspace: &Workspace, interrupts: &Interrupts) -> Result<Cluster> {
    let program = Program::get(kind, workspace, interrupts)?;
    interrupts.check()?;
    let cluster = Cluster::start(&program, kind, &workspace.private.join(format!("data-{purpose}-{}", kind.folder())))?;
    eprintln!("xtask: {kind}: {program} at {}", cluster.url());
    Ok(cluster)
}

/// `cargo xtask servers`: both servers until a signal, their addresses on standard output.
///
/// # Errors
///
/// One of the servers cannot be started.
pub(crate) fn foreground(workspace: &Workspace, interrupts: &Interrupts) -> Result<ExitCode> {
    let mut running = Vec::new();
    for kind in Kind::ALL {
        running.push((kind, start(kind, "servers", workspace, interrupts)?));
    }
    for (kind, cluster) in &running {
        println!("export {}={}", kind.variable(), cluster.url());
    }
    eprintln!("xtask: Ctrl-C stops them");
    interrupts.wait();
    Ok(ExitCode::SUCCESS)
}
