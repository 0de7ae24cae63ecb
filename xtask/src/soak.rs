//! `cargo xtask soak`: random faults under load, by the ignored test of that name.
//!
//! The test makes the servers that it kills itself; those that are started here tell it where the programs are.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::interrupts::Interrupts;
use crate::test::{exit_code, start_servers};
use crate::workspace::Workspace;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long faults are inflicted.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Everything random follows from it; by default from the clock. It is printed.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the soak in the foreground. The exit code is the test's.
///
/// # Errors
///
/// Cargo cannot be started, the minutes are none, or a signal was received.
pub(crate) fn run(options: &Options, workspace: &Workspace, interrupts: &Interrupts) -> Result<ExitCode> {
    ensure!(options.minutes.is_finite() && options.minutes > 0.0, "--minutes {} is no span of time", options.minutes);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    let seed = options.seed.unwrap_or_else(clock);
    let servers = start_servers(workspace, interrupts)?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--package", "weir", "--test", "daemon", "--", "soak::soak", "--exact", "--ignored", "--nocapture"]);
    cargo.envs(servers.iter().map(|(kind, cluster)| (kind.variable(), cluster.url())));
    cargo.env("WEIR_SOAK_MINUTES", options.minutes.to_string()).env("WEIR_SOAK_SEED", seed.to_string());
    let status = interrupts.status(&mut cargo)?;
    drop(servers);
    Ok(exit_code(status))
}
