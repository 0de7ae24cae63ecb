//! One running server with its own empty data folder.
//!
//! A keeper, a small shell, starts the server and then reads from a pipe that this process holds open. When the pipe closes,
//! because the [`Cluster`] is dropped or because xtask ended in whatever way, the keeper stops the server and ends. So no
//! server outlives its xtask, and what an earlier machine crash left is cleared away before a start.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use super::account::Account;
use super::{Kind, Program, lock};
use crate::process;

/// The superuser of every development server; connections from the loopback need no password.
const ROLE: &str = "weir";

/// Starts `$1/pg_ctl` on the data folder `$2` and port `$3`, and stops it when standard input ends. The data are thrown away
/// at the next start, so nothing is lost by stopping at once.
const KEEPER: &str = r#"
"$1/pg_ctl" --pgdata="$2" --log="$2/server.log" --options="-p $3" --wait --silent start >/dev/null </dev/null || exit 1
trap '' INT TERM HUP
echo ready
read -r _
"$1/pg_ctl" --pgdata="$2" --mode=immediate --wait --silent stop
"#;

/// Another process may take a port between our asking for a free one and the server's using it.
const START_ATTEMPTS: usize = 3;

/// Longer paths do not fit into a socket's address.
const SOCKET_FOLDER_BYTES_MAX: usize = 80;

/// A running server. Dropping it stops the server and waits for its end.
pub(crate) struct Cluster {
    keeper: Child,
    url: String,
    _lock: File,
}

impl Cluster {
    /// Starts an empty server with its files in `data`, on a free port of the loopback.
    ///
    /// Waits for another run that uses the same folder; stops a server that an earlier run left there.
    ///
    /// # Errors
    ///
    /// The server cannot be set up or started; the error has the end of its log.
    pub(crate) fn start(program: &Program, kind: Kind, data: &Path) -> Result<Self> {
        let lock = lock::hold(&data.with_extension("lock"))?;
        let account = Account::find()?;
        clear(program, account, data)?;
        initialise(program, account, kind, data)?;
        let mut attempts_left = START_ATTEMPTS;
        loop {
            let port = free_port()?;
            if let Some(keeper) = keep(program, account, data, port)? {
                return Ok(Self {
                    keeper,
                    url: format!("postgres://{ROLE}@{}:{port}/postgres", Ipv4Addr::LOCALHOST),
                    _lock: lock,
                });
            }
            attempts_left -= 1;
            let log = fs::read_to_string(data.join("server.log")).unwrap_or_default();
            if attempts_left == 0 || !log.contains("Address already in use") {
                bail!("{kind} does not start; the end of its log ({}/server.log):\n{}", data.display(), process::tail(&log, 15));
            }
        }
    }

    /// Address of the database `postgres`, as the superuser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            eprintln!("xtask: cannot wait for the end of {}: {error}", self.url);
        }
    }
}

/// Stops a server that still runs on `data` and removes its files.
fn clear(program: &Program, account: Account, data: &Path) -> Result<()> {
    if is_running(data) {
        let mut pg_ctl = account.command(&program.bin().join("pg_ctl"));
        pg_ctl.arg("--pgdata").arg(data).args(["--mode=immediate", "--wait", "--silent", "stop"]);
        if let Err(error) = process::output(&mut pg_ctl)
            && is_running(data)
        {
            return Err(error).context("an earlier run's server cannot be stopped");
        }
    }
    match fs::remove_dir_all(data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", data.display()))
        }
        _ => Ok(()),
    }
}

/// Whether the process named in the data folder exists and is that folder's server: a server works in its data folder, while
/// a stranger that was given the same process number since does not.
fn is_running(data: &Path) -> bool {
    let Ok(file) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let Some(pid) = file.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { return false };
    fs::read_link(PathBuf::from(format!("/proc/{pid}/cwd"))).is_ok_and(|folder| folder == data)
}

fn initialise(program: &Program, account: Account, kind: Kind, data: &Path) -> Result<()> {
    fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    account.own(data)?;
    let mut initdb = account.command(&program.bin().join("initdb"));
    initdb.arg("--pgdata").arg(data).args(["--username", ROLE, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]);
    process::output(initdb.args(["--no-sync", "--no-instructions"]))?;
    let file = data.join("postgresql.auto.conf");
    fs::write(&file, settings(kind, data)).with_context(|| format!("cannot write {}", file.display()))?;
    account.own(&file)
}

/// Durable as in production, otherwise made for many small databases and short lives.
fn settings(kind: Kind, data: &Path) -> String {
    let socket_folder = if data.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX { data.to_string_lossy() } else { "".into() };
    let mut settings = format!(
        "listen_addresses = '{}'\nunix_socket_directories = '{}'\nmax_connections = 200\nshared_buffers = '256MB'\n\
         max_wal_size = '4GB'\nmax_worker_processes = 64\njit = off\ntimezone = 'UTC'\nlog_line_prefix = '%m [%p] %d '\n",
        Ipv4Addr::LOCALHOST,
        socket_folder.replace('\'', "''"),
    );
    if kind == Kind::Timescale {
        settings.push_str("shared_preload_libraries = 'timescaledb'\ntimescaledb.telemetry_level = off\n");
        settings.push_str("timescaledb.max_background_workers = 48\n");
    }
    settings
}

/// Starts the keeper and returns it once the server answers, or nothing if the server does not start.
fn keep(program: &Program, account: Account, data: &Path, port: u16) -> Result<Option<Child>> {
    let mut shell = account.command(Path::new("sh"));
    shell.args(["-c", KEEPER, "keeper"]).arg(program.bin()).arg(data).arg(port.to_string());
    // In a process group of its own it does not hear the Ctrl-C that ends xtask.
    shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut keeper = shell.spawn().context("cannot start a shell")?;
    let mut answer = String::new();
    if let Some(stdout) = keeper.stdout.take() {
        BufReader::new(stdout).read_line(&mut answer).context("cannot read from the server's keeper")?;
    }
    if answer.trim_end() == "ready" {
        return Ok(Some(keeper));
    }
    keeper.wait().context("cannot wait for the server's keeper")?;
    Ok(None)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the loopback has no free port")?;
    Ok(listener.local_addr().context("cannot read the address of a listener")?.port())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::path::Path;

    use super::{Account, Cluster, Kind, Program, clear, free_port, is_running, settings};
    use crate::workspace::Workspace;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }

    #[track_caller]
    fn check(kind: Kind, data: &str, expected: &str, is_there: bool) {
        let settings = settings(kind, Path::new(data));
        assert_eq!(settings.contains(expected), is_there, "{expected:?} in\n{settings}");
    }

    #[test]
    fn only_the_timescale_server_loads_the_extension() {
        check(Kind::Timescale, "/d", "shared_preload_libraries = 'timescaledb'", true);
        check(Kind::Timescale, "/d", "telemetry_level = off", true);
        check(Kind::Plain, "/d", "timescaledb", false);
        check(Kind::Plain, "/d", "fsync", false);
    }

    #[test]
    fn the_socket_lies_in_the_data_folder_if_its_path_fits() {
        check(Kind::Plain, "/it's/data", "unix_socket_directories = '/it''s/data'\n", true);
        check(Kind::Plain, &format!("/{}", "d".repeat(100)), "unix_socket_directories = ''\n", true);
    }

    #[test]
    fn a_stranger_with_the_servers_process_number_is_no_server() {
        let data = std::env::temp_dir().join(format!("weir-xtask-stranger-{}", std::process::id()));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        let stranger = is_running(&data);
        fs::write(data.join("postmaster.pid"), "").unwrap();
        let empty = is_running(&data);
        fs::remove_dir_all(&data).unwrap();
        assert!(!stranger && !empty);
    }

    #[test]
    fn no_server_outlives_its_cluster() {
        let workspace = Workspace::find().unwrap();
        let program = Program::present(&workspace).expect("there is no PostgreSQL: `cargo xtask test` gets one");
        let data = workspace.private.join(format!("data-unit-{}", std::process::id()));
        let start = || Cluster::start(&program, Kind::Plain, &data).unwrap();

        let dropped = start();
        let was_running = is_running(&data);
        drop(dropped);
        assert!(was_running && !is_running(&data), "a server is stopped when its cluster is dropped");

        let forgotten = start();
        let address = forgotten.url().split(['@', '/']).nth(3).unwrap().to_owned();
        let was_listening = TcpStream::connect(&address).is_ok();
        clear(&program, Account::find().unwrap(), &data).unwrap();
        let is_listening = TcpStream::connect(&address).is_ok();
        drop(forgotten);
        assert!(was_listening && !is_listening && !data.exists(), "a server that was left behind is stopped and cleared away");
        fs::remove_file(data.with_extension("lock")).unwrap();
    }
}
