//! `cargo xtask fuzz`: every parser of bytes from outside, fed with what the kept corpus grows into.
//!
//! The targets are compiled by the toolchain as it is: weir's own packages with libFuzzer's coverage, the libraries as for
//! the tests. What an input must not do is said in `tests/fuzz/targets`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::interrupts::Interrupts;
use crate::workspace::Workspace;

/// Targets by name: the program `fuzz-<name>` with the corpus `tests/fuzz/corpus/<name>`.
const TARGETS: [&str; 6] = ["checkpoint", "envelope", "query", "record", "result", "segment"];
/// For how long each target runs as part of the tests. Unit: seconds.
const SECONDS_IN_TESTS: u32 = 10;
/// Longest input. Unit: bytes.
const INPUT_BYTES_MAX: usize = 4096;
/// Memory that a target may take. Unit: MiB.
const MEMORY_MIB: usize = 1024;
/// Longest time of one input. Unit: seconds.
const INPUT_SECONDS_MAX: usize = 10;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The targets; all by default.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
    /// For how long each is fuzzed.
    #[arg(long, default_value_t = SECONDS_IN_TESTS)]
    seconds: u32,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Adds to the kept corpus what covers more than it does.
    #[arg(long, conflicts_with = "input")]
    keep: bool,
    /// Runs this one input instead, such as one that was found to fail.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

impl Options {
    /// A short run of all targets.
    pub(crate) fn in_tests() -> Self {
        Self { targets: vec![], seconds: SECONDS_IN_TESTS, seed: 1, keep: false, input: None }
    }
}

/// Builds the targets and runs them one after the other, each with its output as it comes. All run, also when one fails.
///
/// # Errors
///
/// Cargo or a target cannot be started, the folders cannot be made, or a signal was received.
pub(crate) fn run(options: &Options, workspace: &Workspace, interrupts: &Interrupts) -> Result<ExitCode> {
    ensure!(options.input.is_none() || options.targets.len() == 1, "--input is for one target: name it");
    let folders = Folders { target: workspace.target()?, kept: workspace.root.join("tests/fuzz/corpus") };
    let mut build = workspace.cargo();
    build.args(["build", "--package", "weir-fuzz", "--bins"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", workspace.root.join("tests/fuzz/coverage.sh"));
    if !interrupts.status(&mut build)?.success() {
        bail!("the fuzz targets cannot be built: they need a C++ compiler (on Debian: apt-get install g++)");
    }
    let chosen: Vec<&str> = match &*options.targets {
        [] => TARGETS.to_vec(),
        targets => targets.iter().map(String::as_str).collect(),
    };
    let mut failed = vec![];
    for target in chosen {
        eprintln!("    fuzz {target}");
        let found = folders.found(target);
        fs::create_dir_all(found.join("corpus")).with_context(|| format!("cannot make {}", found.display()))?;
        if !interrupts.status(&mut folders.fuzz(target, options))?.success() {
            failed.push(target);
            continue;
        }
        if options.keep && !interrupts.status(&mut folders.merge(target))?.success() {
            failed.push(target);
        }
    }
    for target in &failed {
        let found = folders.found(target);
        eprintln!("xtask: {target} failed: run what it wrote to {} with cargo xtask fuzz {target} --input FILE", found.display());
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where targets, inputs and findings lie.
struct Folders {
    /// Cargo's target folder.
    target: PathBuf,
    /// The corpora under version control.
    kept: PathBuf,
}

impl Folders {
    /// What a run of the target leaves: failing inputs, and a corpus that is not kept.
    fn found(&self, target: &str) -> PathBuf {
        self.target.join("fuzz").join(target)
    }

    fn program(&self, target: &str) -> Command {
        let mut program = Command::new(self.target.join("debug").join(format!("fuzz-{target}")));
        program.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        program.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        program
    }

    fn fuzz(&self, target: &str, options: &Options) -> Command {
        let mut fuzz = self.program(target);
        if let Some(input) = &options.input {
            fuzz.arg(input);
            return fuzz;
        }
        let found = self.found(target);
        fuzz.arg(format!("-seed={}", options.seed)).arg(format!("-max_total_time={}", options.seconds));
        fuzz.args(["-print_final_stats=1", "-verbosity=0"]);
        fuzz.arg(format!("-artifact_prefix={}", folder(&found))).arg(found.join("corpus")).arg(self.kept.join(target));
        fuzz
    }

    fn merge(&self, target: &str) -> Command {
        let mut merge = self.program(target);
        merge.args(["-set_cover_merge=1", "-verbosity=0"]).arg(self.kept.join(target)).arg(self.found(target).join("corpus"));
        merge
    }
}

/// The path as libFuzzer wants a folder: with a slash at its end.
fn folder(path: &Path) -> String {
    format!("{}/", path.display())
}

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use crate::workspace::Workspace;

    #[test]
    fn every_target_has_a_program_and_a_corpus() {
        let fuzz = Workspace::find().unwrap().root.join("tests/fuzz");
        let names = |folder: &str| {
            let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names("targets"), TARGETS);
        assert_eq!(names("corpus"), TARGETS);
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
            assert_ne!(std::fs::read_dir(fuzz.join("corpus").join(target)).unwrap().count(), 0, "{target}");
        }
    }
}
