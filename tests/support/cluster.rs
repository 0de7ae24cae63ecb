//! A database server of a test's own, which can be killed, started again, copied as a replica, and promoted.
//!
//! Its programs are those of the server that the other tests use: that server says where they are.

use crate::support::database::Kind;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};
use tokio_postgres::{Client, NoTls};

/// No start, stop or promotion takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with its data. Dropping it ends it at once.
pub(crate) struct Cluster {
    programs: Programs,
    /// The folder that holds the data, unless somebody else owns it.
    _folder: Option<TempDir>,
    data: PathBuf,
    /// What it says. Elsewhere than the data, whose disk may be full.
    log: NamedTempFile,
    port: u16,
    postmaster: Option<Child>,
}

/// Where the programs are, and as whom they run: PostgreSQL refuses to be root.
#[derive(Clone)]
struct Programs {
    bin: PathBuf,
    account: Option<(u32, u32)>,
    preload: &'static str,
}

impl Cluster {
    /// Makes an empty server and starts it.
    pub(crate) async fn create(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::create_in(kind, data, Some(folder)).await
    }

    /// Does the same with the data in a folder of the caller's.
    pub(crate) async fn create_in(kind: Kind, data: PathBuf, folder: Option<TempDir>) -> Self {
        let programs = Programs::of_tests(kind).await;
        programs.give(data.parent().expect("the data are in a folder"));
        let arguments = ["--username=weir", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"];
        programs.run(programs.command("initdb").args(arguments).arg("--pgdata").arg(&data));
        let log = NamedTempFile::new().unwrap();
        let mut cluster = Self { programs, _folder: folder, data, log, port: free_port(), postmaster: None };
        let preload = cluster.programs.preload;
        cluster.configure(&format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nshared_buffers = 32MB\nwal_buffers = 16MB\nmax_connections = 60\n\
             max_wal_size = 1GB\nwal_level = replica\nmax_wal_senders = 4\nhot_standby = on\njit = off\ntimezone = 'UTC'\n\
             shared_preload_libraries = '{preload}'\n"
        ));
        cluster.start().await;
        cluster
    }

    /// Makes a replica that streams from this server, by way of `upstream_port`, and starts it.
    pub(crate) async fn replica(&self, upstream_port: u16) -> Self {
        self.replica_at(upstream_port, free_port()).await
    }

    /// Does the same on a port of the caller's choice.
    pub(crate) async fn replica_at(&self, upstream_port: u16, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        self.programs.give(folder.path());
        let source = format!("host=127.0.0.1 port={} user=weir", self.port);
        let arguments = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "--dbname"];
        self.programs.run(self.programs.command("pg_basebackup").args(arguments).arg(source).arg("--pgdata").arg(&data));
        let (programs, log) = (self.programs.clone(), NamedTempFile::new().unwrap());
        let mut replica = Self { programs, _folder: Some(folder), data, log, port, postmaster: None };
        let upstream = format!("host=127.0.0.1 port={upstream_port} user=weir connect_timeout=5");
        replica.configure(&format!("primary_conninfo = '{upstream}'\nwal_retrieve_retry_interval = 100ms\n"));
        replica.start().await;
        replica
    }

    /// Adds settings, which hold from the next start on.
    pub(crate) fn configure(&self, settings: &str) {
        // The last of several holds, also over what pg_basebackup wrote.
        let file = self.data.join("postgresql.auto.conf");
        let before = fs::read_to_string(&file).unwrap();
        fs::write(file, before + settings).unwrap();
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) async fn start(&mut self) {
        assert!(self.postmaster.is_none(), "it runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log.path()).unwrap();
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(&self.data).arg("-p").arg(self.port.to_string());
        self.postmaster = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = tokio_postgres::connect(&self.url("postgres"), NoTls).await {
            let ended = self.postmaster.as_mut().expect("it was just started").try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "the server does not start ({error}):\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9` of all its processes: what was in no file is gone.
    pub(crate) fn kill(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let children = children(postmaster.id());
        // The postmaster first, or it would start to mend what the others left.
        postmaster.kill().unwrap();
        children.iter().for_each(|pid| signal(*pid, rustix::process::Signal::KILL));
        postmaster.wait().unwrap();
    }

    /// Shuts it down in order.
    pub(crate) fn stop(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        signal(postmaster.id(), rustix::process::Signal::INT);
        postmaster.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.postmaster.as_mut().is_none_or(|postmaster| postmaster.try_wait().unwrap().is_some());
        if ended {
            self.postmaster = None;
        }
        ended
    }

    /// Makes a replica the primary, and waits until it takes writes.
    pub(crate) async fn promote(&self) {
        let client = self.client("postgres").await;
        let promoted: bool = client.query_one("SELECT pg_promote(true, 60)", &[]).await.unwrap().get(0);
        assert!(promoted, "{}", self.log());
    }

    /// Moves it to another port, from its next start on.
    pub(crate) fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// Holds up the process that writes asynchronous commits to the disk: a kill takes them back then.
    pub(crate) async fn hold_wal_writer(&self) {
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        let pid: i32 = self.client("postgres").await.query_one(sql, &[]).await.unwrap().get(0);
        signal(pid.cast_unsigned(), rustix::process::Signal::STOP);
    }

    /// Gives the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Gives the URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://weir@127.0.0.1:{}/{database}", self.port)
    }

    /// Opens a connection.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Gives what it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Programs {
    /// Asks the server of the other tests.
    async fn of_tests(kind: Kind) -> Self {
        let (client, connection) = tokio_postgres::connect(&kind.server(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let bin = client.query_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'", &[]).await.unwrap();
        let data = client.query_one("SELECT current_setting('data_directory')", &[]).await.unwrap();
        let (bin, data) = (PathBuf::from(bin.get::<_, String>(0)), PathBuf::from(data.get::<_, String>(0)));
        assert!(bin.join("initdb").is_file(), "no initdb in {}: the tests' server has to run on this machine", bin.display());
        let is_root = rustix::process::geteuid().is_root();
        // The owner of its data is an account that can run a server.
        let owner = |data: &Path| fs::metadata(data).map(|data| (data.uid(), data.gid())).unwrap();
        let preload = if kind == Kind::Timescale { "timescaledb" } else { "" };
        Self { bin, account: is_root.then(|| owner(&data)), preload }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, command: &mut Command) {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Lets the account use a folder.
    fn give(&self, folder: &Path) {
        if let Some((uid, gid)) = self.account {
            chown(folder, Some(uid), Some(gid)).unwrap();
        }
    }
}

/// The processes that a process has started and that have not ended.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let of_parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name stands in parentheses and may hold any sign; state and parent follow.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok()) == Some(parent)
    };
    processes.filter(of_parent).collect()
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("no process has the number 0");
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Finds a port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
