//! Development commands of weir, run as `cargo xtask <command>`.
//!
//! Owns the command line and the exit code. Whatever a command starts has ended when it ends.

mod demo;
mod fuzz;
mod guests;
mod insertions;
mod interrupts;
mod process;
mod servers;
mod simulate;
mod soak;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::interrupts::Interrupts;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development commands of weir")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks everything and runs all tests against real database servers.
    Test(test::Options),
    /// Starts weir with a simulated fleet on a database of its own.
    Demo(demo::Options),
    /// Builds the wasm guests in `decoders/built`, or checks that they are what their sources build.
    Guests(guests::Options),
    /// Random faults under load for minutes, then the verdict: nothing lost, nothing twice.
    Soak(soak::Options),
    /// Feeds every parser of bytes from outside with mutations of a kept corpus.
    Fuzz(fuzz::Options),
    /// Simulates log, dataflow and store over many seeds, each with faults and interleavings of its own.
    Simulate(simulate::Options),
    /// Starts the databases that tests use, until Ctrl-C, and prints their addresses.
    Servers,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let interrupts = match Interrupts::watch() {
        Ok(interrupts) => interrupts,
        Err(error) => return failed(&error),
    };
    let outcome = run(cli.command, &interrupts);
    match (interrupts.raised(), outcome) {
        // A program that ends by itself on Ctrl-C, as the demo does, has the last word.
        (_, Ok(code)) => code,
        (Some(signal), Err(_)) => ExitCode::from(signal.exit_code()),
        (None, Err(error)) => failed(&error),
    }
}

fn run(command: Command, interrupts: &Interrupts) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Test(options) => test::run(&options, &workspace, interrupts),
        Command::Demo(options) => demo::run(&options, &workspace, interrupts),
        Command::Guests(options) => guests::run(&options, &workspace),
        Command::Soak(options) => soak::run(&options, &workspace, interrupts),
        Command::Fuzz(options) => fuzz::run(&options, &workspace, interrupts),
        Command::Simulate(options) => simulate::run(&options, &workspace, interrupts),
        Command::Servers => servers::foreground(&workspace, interrupts),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
