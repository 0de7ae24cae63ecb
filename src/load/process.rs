//! What a process has used, from `/proc`.

use std::fs;
use std::net::IpAddr;
use tokio_postgres::Client;

/// Kernel ticks in a second: fixed at 100 in what `/proc` shows.
const TICKS_PER_S: f64 = 100.0;

/// What a process has used since it started.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    /// User and system time. Unit: seconds.
    pub cpu_s: f64,
    /// Largest resident set. Unit: bytes.
    pub rss_max_bytes: u64,
}

impl Usage {
    /// Reads this process's figures; zeros where there is no `/proc`.
    pub fn of_this_process() -> Self {
        Self::parse(
            &fs::read_to_string("/proc/self/stat").unwrap_or_default(),
            &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        )
    }

    /// Reads the figures of the server behind a connection, all of its processes together; `None`
    /// where it does not run on this machine.
    ///
    /// Errors: the server does not answer.
    pub async fn of_postgres(client: &Client) -> Result<Option<Self>, tokio_postgres::Error> {
        let row = client.query_one("SELECT pg_backend_pid(), host(inet_server_addr())", &[]).await?;
        let (pid, host): (i32, Option<String>) = (row.get(0), row.get(1));
        let here = host.is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
        let parent = |pid: &str| Some(fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).get(1)?.to_string());
        let Some(postmaster) = parent(&pid.to_string()).filter(|_| here) else { return Ok(None) };
        let mut sum = Self { cpu_s: Self::reaped_s(&postmaster), rss_max_bytes: 0 };
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == postmaster || parent(&pid).as_ref() == Some(&postmaster) {
                let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let usage = Self::parse(&read("stat"), &read("status"));
                sum.cpu_s += usage.cpu_s;
                sum.rss_max_bytes += usage.rss_max_bytes;
            }
        }
        Ok(Some(sum))
    }

    /// What the children of a process used that have ended.
    fn reaped_s(pid: &str) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (ticks(&fields(&stat), 13) + ticks(&fields(&stat), 14)) / TICKS_PER_S
    }

    fn parse(stat: &str, status: &str) -> Self {
        let fields = fields(stat);
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        Self { cpu_s: (ticks(&fields, 11) + ticks(&fields, 12)) / TICKS_PER_S, rss_max_bytes: kib * 1024 }
    }
}

/// The fields of a `stat` file from the state on: the program's name before it may hold blanks.
fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect()
}

fn ticks(fields: &[&str], at: usize) -> f64 {
    fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_proc_are_read() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let usage = Usage::parse(stat, "Name:\tx\nVmHWM:\t  2048 kB\n");
        assert_eq!(usage, Usage { cpu_s: 2.0, rss_max_bytes: 2 << 20 });
        assert_eq!(Usage::parse("", ""), Usage::default());
        assert!(Usage::of_this_process().rss_max_bytes > 0);
    }
}
