//! Every setting of the daemon: typed, with its default and unit, from one TOML file and the environment.
//!
//! A setting `key` of section `[section]` can also be given as the environment variable
//! `WEIR_SECTION_KEY`, which wins over the file; `DATABASE_URL` stands for `database.url`. Unknown
//! keys are refused, and all mistakes are told together.

mod database;
mod decoders;
mod http;
mod log;
mod reader;
mod runtime;
mod setting;

pub use database::Database;
pub use decoders::Decoders;
pub use http::Http;
pub use log::Log;
pub use runtime::Runtime;

use reader::{Mistakes, Reader};
use std::path::{Path, PathBuf};

/// All settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[database]`
    pub database: Database,
    /// `[http]`
    pub http: Http,
    /// `[log]`
    pub log: Log,
    /// `[decoders]`
    pub decoders: Decoders,
    /// `[runtime]`
    pub runtime: Runtime,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the settings file {} cannot be read ({error})", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the settings file is not TOML: {0}")]
    Toml(#[from] toml::de::Error),
    /// Something in it is wrong; every mistake is listed.
    #[error("{} mistake(s) in the settings:\n{}", .0.len(), .0.join("\n"))]
    Mistakes(Vec<String>),
}

impl Config {
    /// Reads the file, where one is given, and the environment.
    ///
    /// Errors: the file cannot be read, or the list of all mistakes.
    pub fn load(path: Option<&Path>, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })?,
            None => String::new(),
        };
        Self::parse(&text, environment)
    }

    fn parse(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut file: toml::Table = text.parse()?;
        let mut mistakes = Mistakes::default();
        let config = Self {
            database: Database::read(Reader::new("database", &mut file, &environment, &mut mistakes)),
            http: Http::read(Reader::new("http", &mut file, &environment, &mut mistakes)),
            log: Log::read(Reader::new("log", &mut file, &environment, &mut mistakes)),
            decoders: Decoders::read(Reader::new("decoders", &mut file, &environment, &mut mistakes)),
            runtime: Runtime::read(Reader::new("runtime", &mut file, &environment, &mut mistakes)),
        };
        for unknown in file.keys() {
            mistakes.add(format!("[{unknown}]: there is no such section; there are database, http, log, decoders and runtime"));
        }
        mistakes.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, |name| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn defaults_need_only_a_database() {
        let config = parse("", &[("DATABASE_URL", "postgres://localhost/weir")]).unwrap();
        assert_eq!(config.database.url, "postgres://localhost/weir");
        assert_eq!(config.log.partitions, 16);
        assert_eq!(config.http.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "[database]\nurl = 'postgres://file/weir'\n[log]\nsize_bytes_max = '2 GiB'\n";
        let config = parse(text, &[("WEIR_DATABASE_URL", "postgres://env/weir"), ("WEIR_RUNTIME_WORKERS", "3")]).unwrap();
        assert_eq!(
            (config.database.url.as_str(), config.runtime.workers, config.log.size_bytes_max),
            ("postgres://env/weir", 3, 2 << 30)
        );
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let text = "[http]\nlisten = 'here'\nlissten = 1\n[log]\npartitions = 70000\n[nothing]\n";
        let Err(ConfigError::Mistakes(mistakes)) = parse(text, &[("WEIR_RUNTIME_WORKERS", "two")]) else { panic!("accepted") };
        let found = |part: &str| assert!(mistakes.iter().any(|m| m.contains(part)), "{part} in {mistakes:?}");
        for part in ["http.listen", "http.lissten", "log.partitions", "[nothing]", "WEIR_RUNTIME_WORKERS", "database.url"] {
            found(part);
        }
    }
}
