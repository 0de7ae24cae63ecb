//! Runs `weir` with an environment of its own.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Where commands run: a data directory and a home that pass.
pub(crate) struct Place {
    dir: TempDir,
    url: Option<String>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    success: bool,
}

impl Place {
    /// With a database, or without.
    pub(crate) fn new(url: Option<String>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url }
    }

    /// Gives the passing folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a command in that environment, with nothing of weir's from outside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
            command.env_remove(name);
        }
        command.env_remove("DATABASE_URL").env_remove("RUST_LOG").env_remove("XDG_CACHE_HOME");
        command.current_dir(self.dir()).env("HOME", self.dir()).env("WEIR_LOG_DIR", self.dir().join("data"));
        // A busy machine must not look like a decoder that does not end.
        command.env("WEIR_DECODERS_WATCHDOG", "60 s");
        command.envs(self.url.iter().map(|url| ("DATABASE_URL", url)));
        command
    }

    /// Runs `weir` with these arguments.
    pub(crate) fn weir(&self, arguments: &[&str]) -> Said {
        self.command(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap().into()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { success: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// Panics: unless the command ended well.
    pub(crate) fn well(self) -> Self {
        assert!(self.success, "{self:?}");
        self
    }

    /// Panics: unless it was refused with all of these words.
    pub(crate) fn refused(self, words: &[&str]) {
        assert!(!self.success && words.iter().all(|word| self.err.contains(word)), "{words:?} in {self:?}");
    }

    /// Reads one JSON object a line.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}
