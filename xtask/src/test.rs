//! `cargo xtask test`: every check of this repository, then all tests against real servers.
//!
//! A check that fails does not keep the others from running; the exit code tells. The suite runs last, so that the output
//! ends with the runner's own summary.

use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::Result;

use crate::fuzz;
use crate::interrupts::Interrupts;
use crate::process;
use crate::servers::{self, Cluster, Kind};
use crate::workspace::Workspace;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leaves out formatting, lints, documentation, doctests and the fuzz targets.
    #[arg(long)]
    fast: bool,
    /// Arguments for the test runner, for example part of a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    runner: Vec<OsString>,
}

/// A run of cargo that has to succeed.
struct Check {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const CHECKS: [Check; 3] = [
    Check { name: "fmt", arguments: &["fmt", "--all", "--check"], environment: &[] },
    Check {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"],
        environment: &[],
    },
    Check { name: "doc", arguments: &["doc", "--workspace", "--no-deps"], environment: &[("RUSTDOCFLAGS", "--deny warnings")] },
];

const BUILD: Check = Check { name: "build", arguments: &["test", "--workspace", "--no-run"], environment: &[] };

const DOCTESTS: Check = Check { name: "doctests", arguments: &["test", "--workspace", "--doc"], environment: &[] };

/// What the checks before the suite came to.
#[derive(Debug, PartialEq, Eq)]
struct Checked {
    failed: Vec<&'static str>,
    is_built: bool,
}

/// Runs the checks and the suite. The exit code is the runner's, or a failure if only a check failed.
///
/// # Errors
///
/// Cargo cannot be started, or a signal was received before the suite.
pub(crate) fn run(options: &Options, workspace: &Workspace, interrupts: &Interrupts) -> Result<ExitCode> {
    let Checked { mut failed, is_built } = check(options, workspace, interrupts)?;
    let fuzz = || fuzz::run(&fuzz::Options::in_tests(), workspace, interrupts);
    if is_built && !options.fast && timed("fuzz", fuzz)? != ExitCode::SUCCESS {
        failed.push("fuzz");
    }
    if !failed.is_empty() {
        eprintln!("xtask: failed so far: {}", failed.join(", "));
    }
    if !is_built {
        return Ok(ExitCode::FAILURE);
    }
    let servers = timed("servers", || start_servers(workspace, interrupts))?;
    let mut runner = runner(options, workspace);
    runner.envs(servers.iter().map(|(kind, cluster)| (kind.variable(), cluster.url())));
    eprintln!("==> suite");
    let status = interrupts.status(&mut runner)?;
    drop(servers);
    if status.success() && !failed.is_empty() {
        eprintln!("xtask: the tests passed, but these failed: {}", failed.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(exit_code(status))
}

/// Everything before the suite: all of the checks whatever they say, and the doctests if the tests build.
fn check(options: &Options, workspace: &Workspace, interrupts: &Interrupts) -> Result<Checked> {
    let mut failed = Vec::new();
    let mut passes = |check: &Check| -> Result<bool> {
        let mut cargo = workspace.cargo();
        cargo.args(check.arguments).envs(check.environment.iter().copied());
        let is_good = timed(check.name, || interrupts.status(&mut cargo))?.success();
        if !is_good {
            failed.push(check.name);
        }
        Ok(is_good)
    };
    if !options.fast {
        for lint in &CHECKS {
            passes(lint)?;
        }
    }
    let is_built = passes(&BUILD)?;
    if is_built && !options.fast {
        passes(&DOCTESTS)?;
    }
    Ok(Checked { failed, is_built })
}

/// Starts the servers that the environment does not name already. A server that cannot be had does not keep the other tests
/// from running; those that need it fail and say so.
pub(crate) fn start_servers(workspace: &Workspace, interrupts: &Interrupts) -> Result<Vec<(Kind, Cluster)>> {
    let mut started = Vec::new();
    for kind in Kind::ALL {
        if std::env::var_os(kind.variable()).is_some() {
            eprintln!("xtask: {kind}: the one in {}", kind.variable());
            continue;
        }
        match servers::start(kind, "test", workspace, interrupts) {
            Ok(cluster) => started.push((kind, cluster)),
            Err(error) => {
                interrupts.check()?;
                eprintln!("xtask: {kind} is missing, its tests will fail: {error:#}");
            }
        }
    }
    Ok(started)
}

/// cargo-nextest where it is installed, else `cargo test`, without the doctests, which have run by then.
fn runner(options: &Options, workspace: &Workspace) -> Command {
    let has_nextest = process::output(workspace.cargo().args(["nextest", "--version"])).is_ok();
    let mut runner = workspace.cargo();
    runner.args(runner_arguments(has_nextest)).args(&options.runner);
    runner
}

fn runner_arguments(has_nextest: bool) -> &'static [&'static str] {
    if has_nextest {
        &["nextest", "run", "--workspace", "--profile", "ci"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]
    }
}

/// Runs a step between its name and the time that it took.
fn timed<T>(name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let outcome = step()?;
    eprintln!("    {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(outcome)
}

/// The exit code that a program ended with; a failure if a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Checked, Options, check, runner_arguments};
    use crate::interrupts::Interrupts;
    use crate::workspace::Workspace;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        Cli::parse_from([&["test"], line].concat()).options
    }

    #[track_caller]
    fn check_options(line: &[&str], is_fast: bool, runner: &[&str]) {
        let options = options(line);
        assert_eq!((options.fast, options.runner), (is_fast, runner.iter().map(Into::into).collect()), "{line:?}");
    }

    #[test]
    fn what_follows_the_options_goes_to_the_runner() {
        check_options(&[], false, &[]);
        check_options(&["--fast"], true, &[]);
        check_options(&["--fast", "store", "--no-capture"], true, &["store", "--no-capture"]);
        check_options(&["-E", "test(dedup)"], false, &["-E", "test(dedup)"]);
    }

    /// Checks with a cargo that fails when its command line contains `failing`.
    #[track_caller]
    fn check_outcome(line: &[&str], failing: &str, failed: &[&'static str], is_built: bool) {
        let script = format!("case \"$*\" in *'{failing}'*) exit 101;; esac");
        let workspace = Workspace::find().unwrap().with_cargo(&["sh", "-c", &script, "cargo"]);
        let checked = check(&options(line), &workspace, &Interrupts::watch().unwrap());
        assert_eq!(checked.unwrap(), Checked { failed: failed.to_vec(), is_built }, "{line:?}, {failing:?} fails");
    }

    #[test]
    fn a_failing_check_keeps_no_other_from_running() {
        check_outcome(&[], "nothing", &[], true);
        check_outcome(&[], "clippy", &["clippy"], true);
        check_outcome(&[], "--", &["fmt", "clippy", "doc", "build"], false);
        check_outcome(&[], "--doc", &["doctests"], true);
        check_outcome(&[], "--no-run", &["build"], false);
        check_outcome(&["--fast"], "clippy", &[], true);
        check_outcome(&["--fast"], "--doc", &[], true);
    }

    #[test]
    fn neither_runner_stops_at_the_first_failure_or_retries() {
        assert!(runner_arguments(false).contains(&"--no-fail-fast"));
        let profile = include_str!("../../.config/nextest.toml");
        assert!(runner_arguments(true).ends_with(&["--profile", "ci"]));
        for line in ["[profile.ci]", "fail-fast = false", "retries = 0"] {
            assert!(profile.lines().any(|found| found == line), "{line}");
        }
    }
}
