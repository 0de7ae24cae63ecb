//! Every setting of the daemon: typed, with its default and unit, from one TOML file and the environment.
//!
//! A setting `key` of section `[section]` can also be given as the environment variable
//! `WEIR_SECTION_KEY`, which wins over the file; `DATABASE_URL` stands for `database.url`. Unknown
//! keys and variables are refused, and all mistakes are told together. `weir.toml` at the root of the
//! repository lists all settings; a test keeps it true.

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

use reader::{Environment, Mistakes, Reader};
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

/// The settings of commands that do without the database.
#[derive(Clone, PartialEq, Debug)]
pub struct Local {
    /// `[http]`
    pub http: Http,
    /// `[log]`
    pub log: Log,
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
    pub fn load(path: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        Self::parse(&text(path)?, &environment.into_iter().collect(), Url::Required)
    }

    fn parse(text: &str, environment: &Environment, url: Url) -> Result<Self, ConfigError> {
        let mut file: toml::Table = text.parse()?;
        let mut mistakes = Mistakes::default();
        let config = Self {
            database: Database::read(Reader::new("database", &mut file, environment, &mut mistakes), url),
            http: Http::read(Reader::new("http", &mut file, environment, &mut mistakes)),
            log: Log::read(Reader::new("log", &mut file, environment, &mut mistakes)),
            decoders: Decoders::read(Reader::new("decoders", &mut file, environment, &mut mistakes)),
            runtime: Runtime::read(Reader::new("runtime", &mut file, environment, &mut mistakes)),
        };
        for unknown in file.keys() {
            mistakes.add(format!("[{unknown}]: there is no such section; there are database, http, log, decoders and runtime"));
        }
        mistakes.finish(config)
    }
}

impl Local {
    /// Does as [`Config::load`], but no database need be named.
    ///
    /// Errors: as there.
    pub fn load(path: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let Config { http, log, .. } = Config::parse(&text(path)?, &environment.into_iter().collect(), Url::Optional)?;
        Ok(Self { http, log })
    }
}

/// Whether a database must be named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Url {
    Required,
    Optional,
}

fn text(path: Option<&Path>) -> Result<String, ConfigError> {
    let Some(path) = path else { return Ok(String::new()) };
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(text, &environment.collect(), Url::Required)
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
        let environment = [
            ("WEIR_RUNTIME_WORKERS", "two"),
            ("WEIR_LOG_DIRR", "/data"),
            ("WEIR_LOG", "of something else"),
            ("WEIR_TEST_PG_URL", "of something else"),
        ];
        let mistakes = mistakes(parse(text, &environment));
        let found = |part: &str| assert!(mistakes.iter().any(|m| m.contains(part)), "{part} in {mistakes:?}");
        for part in [
            "http.listen",
            "http.lissten",
            "log.partitions",
            "[nothing]",
            "WEIR_RUNTIME_WORKERS",
            "WEIR_LOG_DIRR",
            "database.url",
        ] {
            found(part);
        }
        assert_eq!(mistakes.len(), 7, "{mistakes:?}");
    }

    fn mistakes(parsed: Result<Config, ConfigError>) -> Vec<String> {
        let Err(ConfigError::Mistakes(mistakes)) = parsed else { panic!("accepted") };
        mistakes
    }

    #[test]
    fn a_log_is_as_small_as_it_is_said_to_be_or_refused_by_name() {
        let url = ("DATABASE_URL", "postgres://localhost/weir");
        for size in ["16 MiB", "32 MiB", "1 GiB", "20 GiB"] {
            let config = parse(&format!("[log]\nsize_bytes_max = '{size}'"), &[url]).unwrap();
            let dir = tempfile::tempdir().unwrap();
            crate::log::Log::open(dir.path(), config.log.options(), crate::log::Clock::system()).unwrap();
        }
        let refused = mistakes(parse("[log]\nsize_bytes_max = '15 MiB'", &[url]));
        assert_eq!(refused, ["log.size_bytes_max: give at least 16 MiB"]);
    }

    #[test]
    fn commands_without_the_database_do_not_ask_for_it() {
        let local = Local::load(None, [("WEIR_LOG_DIR".to_owned(), "/data".to_owned())]).unwrap();
        assert_eq!(local.log.dir, PathBuf::from("/data"));
        assert!(Local::load(None, [("WEIR_LOG_DIRR".to_owned(), "/data".to_owned())]).is_err());
    }

    /// `weir.toml` is the reference of all settings: each stands there, with its default.
    #[test]
    fn the_reference_has_every_setting_with_its_default() {
        let reference = include_str!("../../weir.toml");
        // Settings are commented out with `#`, words with `# `.
        let settings: String = reference
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let given = parse(&settings, &[]).unwrap();
        let mut defaults = parse("", &[("DATABASE_URL", &given.database.url)]).unwrap();
        defaults.runtime.owner = given.runtime.owner.clone();
        // The debug form of a database leaves things out, as its address may hold a password.
        assert!(given == defaults, "{given:#?}\n{defaults:#?}");

        let file: toml::Table = settings.parse().unwrap();
        for (section, given) in &file {
            // A key that does not exist has the known ones listed.
            let refused = mistakes(parse(&format!("[{section}]\nnothing = 1"), &[("DATABASE_URL", "postgres://localhost/weir")]));
            let (_, known) = refused[0].split_once("there are ").unwrap();
            let given: Vec<_> = given.as_table().unwrap().keys().map(String::as_str).collect();
            let mut known: Vec<_> = known.split(", ").collect();
            known.sort_unstable();
            assert_eq!(given, known, "[{section}]");
        }
        assert_eq!(file.len(), 5);
    }
}
