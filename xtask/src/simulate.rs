//! `cargo xtask simulate`: the deterministic simulation over many seeds, by the test that the suite runs over a few.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::interrupts::Interrupts;
use crate::test::exit_code;
use crate::workspace::Workspace;

/// Options of `cargo xtask simulate`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many seeds are lived through.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
}

/// Runs the simulation in the foreground. The exit code is the test's.
///
/// # Errors
///
/// Cargo cannot be started, the seeds are none, or a signal was received.
pub(crate) fn run(options: &Options, workspace: &Workspace, interrupts: &Interrupts) -> Result<ExitCode> {
    ensure!(options.seeds > 0, "--seeds 0 simulates nothing");
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--package", "weir", "--lib", "--", "runtime::simulation::seeds", "--exact", "--nocapture"]);
    cargo.env("WEIR_SIMULATION_FIRST", options.first.to_string()).env("WEIR_SIMULATION_SEEDS", options.seeds.to_string());
    Ok(exit_code(interrupts.status(&mut cargo)?))
}
