//! `cargo xtask demo`: builds weir and shows it at work on a fresh database.
//!
//! Owns the database `weir_demo`, the folder `.weir/demo` and, unless `DATABASE_URL` names another, the server. Standard
//! output belongs to `weir demo` alone.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::interrupts::Interrupts;
use crate::process;
use crate::servers::{self, Kind};
use crate::test::exit_code;
use crate::workspace::Workspace;

const DATABASE: &str = "weir_demo";

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ends after so many seconds instead of at Ctrl-C.
    #[arg(long)]
    seconds: Option<u32>,
    /// Uplinks a second that the simulated fleet sends.
    #[arg(long)]
    rate: Option<f64>,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    /// Does without TimescaleDB, also where the server has it.
    #[arg(long)]
    plain: bool,
    /// Server to use instead of a private one; its database `weir_demo` is dropped and made anew.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Further arguments for `weir demo`.
    #[arg(last = true)]
    more: Vec<OsString>,
}

/// Builds weir, prepares the database, and runs `weir demo` in the foreground. The exit code is its exit code.
///
/// # Errors
///
/// weir does not build, the server or the database cannot be had, or a signal was received.
pub(crate) fn run(options: &Options, workspace: &Workspace, interrupts: &Interrupts) -> Result<ExitCode> {
    let weir = build(workspace, interrupts)?;
    let own_server;
    let server_url = match options.database_url.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => {
            eprintln!("xtask: using the server that DATABASE_URL or --database-url names; its database {DATABASE} is made anew");
            url
        }
        None => {
            let kind = if options.plain { Kind::Plain } else { Kind::Timescale };
            own_server = servers::start(kind, "demo", workspace, interrupts)
                .context("set DATABASE_URL to use a server of yours, or try --plain to do without TimescaleDB")?;
            own_server.url()
        }
    };
    let database_url = with_database(server_url, DATABASE);
    let psql = servers::psql(workspace, interrupts)?;
    make_database(&psql, server_url, &database_url, options.plain)?;
    let data = workspace.root.join(".weir/demo");
    make_empty(&data)?;
    let mut demo = Command::new(weir);
    demo.args(arguments(options, &database_url, &data));
    if options.plain {
        // Else weir itself would add the extension where the server offers it.
        demo.env("WEIR_DATABASE_TIMESCALEDB", "false");
    }
    let status = interrupts.status(&mut demo)?;
    Ok(exit_code(status))
}

/// Builds weir as it is shipped and returns where it lies.
fn build(workspace: &Workspace, interrupts: &Interrupts) -> Result<PathBuf> {
    eprintln!("xtask: building weir");
    let status = interrupts.status(workspace.cargo().args(["build", "--release", "--package", "weir", "--bin", "weir"]))?;
    ensure!(status.success(), "weir does not build");
    Ok(workspace.target()?.join("release/weir"))
}

/// A fresh database, with TimescaleDB where the server has it and it is wanted.
fn make_database(psql: &Path, server_url: &str, database_url: &str, is_plain: bool) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
    let create = format!("CREATE DATABASE {DATABASE}");
    query(psql, server_url, &[&drop, &create]).with_context(|| format!("cannot make the database {DATABASE}"))?;
    if is_plain {
        return Ok(());
    }
    let available = query(psql, database_url, &["SELECT name FROM pg_available_extensions WHERE name = 'timescaledb'"])?;
    if available.trim().is_empty() {
        eprintln!("xtask: the server has no TimescaleDB; weir uses plain PostgreSQL");
    } else if let Err(error) = query(psql, database_url, &["CREATE EXTENSION IF NOT EXISTS timescaledb"]) {
        eprintln!("xtask: TimescaleDB cannot be used; weir uses plain PostgreSQL ({error:#})");
    }
    Ok(())
}

/// Runs each statement in a transaction of its own and returns the bare rows.
fn query(psql: &Path, url: &str, statements: &[&str]) -> Result<String> {
    let mut command = Command::new(psql);
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname", url]);
    for statement in statements {
        command.args(["--command", statement]);
    }
    process::output(&mut command)
}

/// The log has an identity and belongs to one database, so a fresh database needs a fresh folder.
fn make_empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// What `weir` is called with.
fn arguments(options: &Options, database_url: &str, data: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["demo".into(), "--database-url".into(), database_url.into(), "--data-dir".into(), data.into()];
    if let Some(seconds) = options.seconds {
        arguments.extend(["--seconds".into(), seconds.to_string().into()]);
    }
    if let Some(rate) = options.rate {
        arguments.extend(["--rate".into(), rate.to_string().into()]);
    }
    if options.json {
        arguments.push("--json".into());
    }
    arguments.extend(options.more.iter().cloned());
    arguments
}

/// The address of another database on the same server; `url` is a URL or, as libpq and weir also take it, `key=value` pairs,
/// of which the last of a key counts.
fn with_database(url: &str, database: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return format!("{url} dbname={database}");
    };
    let (hosts, parameters) = rest.split_once('?').map_or((rest, String::new()), |(hosts, rest)| (hosts, format!("?{rest}")));
    let hosts = hosts.split_once('/').map_or(hosts, |(hosts, _database)| hosts);
    format!("{scheme}://{hosts}/{database}{parameters}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Options, arguments, with_database};

    #[track_caller]
    fn check_database(url: &str, expected: &str) {
        assert_eq!(with_database(url, "weir_demo"), expected, "{url}");
    }

    #[test]
    fn only_the_database_of_an_address_changes() {
        check_database("postgres://me:pw@host:5432/app", "postgres://me:pw@host:5432/weir_demo");
        check_database("postgresql://host", "postgresql://host/weir_demo");
        check_database("postgres://host/", "postgres://host/weir_demo");
        check_database(
            "postgres://a:1,b:2/app?target_session_attrs=read-write",
            "postgres://a:1,b:2/weir_demo?target_session_attrs=read-write",
        );
        check_database("postgres://%2Frun%2Fpg?user=me", "postgres://%2Frun%2Fpg/weir_demo?user=me");
        check_database("postgres://host?sslrootcert=/etc/ca.pem", "postgres://host/weir_demo?sslrootcert=/etc/ca.pem");
        check_database("host=/run/pg dbname=app", "host=/run/pg dbname=app dbname=weir_demo");
    }

    #[track_caller]
    fn check_arguments(options: &Options, expected: &str) {
        let words = arguments(options, "postgres://h/weir_demo", Path::new("/d"));
        let line = words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert_eq!(line, format!("demo --database-url postgres://h/weir_demo --data-dir /d{expected}"));
    }

    #[test]
    fn options_are_passed_on_to_weir() {
        let none = Options { seconds: None, rate: None, json: false, plain: true, database_url: None, more: Vec::new() };
        check_arguments(&none, "");
        let all =
            Options { seconds: Some(30), rate: Some(500.0), json: true, more: vec!["--devices".into(), "10".into()], ..none };
        check_arguments(&all, " --seconds 30 --rate 500 --json --devices 10");
    }
}
