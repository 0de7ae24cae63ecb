//! What a process has used, from `/proc`.

use std::fs;

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

    fn parse(stat: &str, status: &str) -> Self {
        // The second field is the program's name in parentheses, and may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        Self { cpu_s: (ticks(11) + ticks(12)) / TICKS_PER_S, rss_max_bytes: kib * 1024 }
    }
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
