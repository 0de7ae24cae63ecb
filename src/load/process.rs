//! What a process has used, from `/proc`.

use std::fs;
use std::net::IpAddr;
use tokio_postgres::Client;

/// Kernel ticks in a second: fixed at 100 in what `/proc` shows.
pub(super) const TICKS_PER_S: f64 = 100.0;

/// What a process has used since it started, and what it holds.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Usage {
    /// User and system time. Unit: seconds.
    pub cpu_s: f64,
    /// Resident set. Of several processes that share memory: what each has alone, and the largest shared part.
    /// Unit: bytes.
    pub rss_bytes: u64,
    /// Largest resident set since the start; 0 for several processes. Unit: bytes.
    pub rss_max_bytes: u64,
}

impl Usage {
    /// Reads a process's figures; zeros where there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Self {
        let Memory { anonymous, shared, file, peak } = Memory::of(&pid.to_string());
        Self { cpu_s: cpu_s(&pid.to_string()), rss_bytes: anonymous + shared + file, rss_max_bytes: peak }
    }
}

/// The processes of a PostgreSQL server on this machine.
#[derive(Clone, Debug)]
pub struct Server {
    postmaster: String,
}

impl Server {
    /// Finds the server behind a connection; `None` where it does not run on this machine.
    ///
    /// Errors: the server does not answer.
    pub async fn behind(client: &Client) -> Result<Option<Self>, tokio_postgres::Error> {
        let row = client.query_one("SELECT pg_backend_pid(), host(inet_server_addr())", &[]).await?;
        let (pid, host): (i32, Option<String>) = (row.get(0), row.get(1));
        let is_here = host.is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
        Ok(parent(&pid.to_string()).filter(|_| is_here).map(|postmaster| Self { postmaster }))
    }

    /// Reads the figures of all its processes together, of those that have ended too.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage { cpu_s: reaped_s(&self.postmaster), ..Usage::default() };
        let mut shared_max = 0;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == self.postmaster || parent(&pid).as_ref() == Some(&self.postmaster) {
                let memory = Memory::of(&pid);
                sum.cpu_s += cpu_s(&pid);
                sum.rss_bytes += memory.anonymous;
                shared_max = shared_max.max(memory.shared);
            }
        }
        sum.rss_bytes += shared_max;
        sum
    }
}

/// A process's memory. Unit: bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Memory {
    anonymous: u64,
    shared: u64,
    file: u64,
    peak: u64,
}

impl Memory {
    fn of(pid: &str) -> Self {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Self { anonymous: bytes("RssAnon:"), shared: bytes("RssShmem:"), file: bytes("RssFile:"), peak: bytes("VmHWM:") }
    }
}

fn stat(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

fn parent(pid: &str) -> Option<String> {
    pid.bytes().all(|byte| byte.is_ascii_digit()).then(|| fields(&stat(pid)).get(1).map(|parent| (*parent).to_owned()))?
}

/// What a process has used.
fn cpu_s(pid: &str) -> f64 {
    seconds(&stat(pid), 11)
}

/// What the children of a process used that have ended.
fn reaped_s(pid: &str) -> f64 {
    seconds(&stat(pid), 13)
}

/// User time at a place, and system time behind it.
fn seconds(stat: &str, at: usize) -> f64 {
    let fields = fields(stat);
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(at) + ticks(at + 1)) / TICKS_PER_S
}

/// The fields of a `stat` file from the state on: the program's name before it may hold blanks.
fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_proc_are_read() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 30 20 0";
        assert_eq!((seconds(stat, 11), seconds(stat, 13), seconds("", 11)), (2.0, 0.5, 0.0));
        let memory = Memory::parse("Name:\tx\nVmHWM:\t  2048 kB\nRssAnon:\t 4 kB\nRssFile:\t 2 kB\nRssShmem:\t 1 kB\n");
        assert_eq!(memory, Memory { anonymous: 4096, file: 2048, shared: 1024, peak: 2 << 20 });
        assert_eq!(Memory::parse(""), Memory::default());
        let own = Usage::of(std::process::id());
        assert!(own.rss_bytes > 0 && own.rss_max_bytes >= own.rss_bytes / 2);
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }
}
