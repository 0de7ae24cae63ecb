//! What the machine's processors did, from `/proc/stat`. A virtual machine shares them with others of its host: what it was
//! not given explains slow runs that nothing else explains.

use super::process::TICKS_PER_S;
use std::fs;

/// Processor time of all cores since the machine started.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Processors {
    /// In which something ran here. Unit: seconds.
    pub busy_s: f64,
    /// In which something would have run, had the host not run other machines. Unit: seconds.
    pub stolen_s: f64,
}

impl Processors {
    /// Reads it; `None` where there is no `/proc`.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // Of all cores together: user, nice, system, idle, iowait, irq, softirq, steal, and guests, which are within user.
        let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<f64>);
        let mut ticks = || fields.next()?.ok();
        let [user, nice, system, _idle, _iowait, irq, softirq, stolen] =
            [ticks()?, ticks()?, ticks()?, ticks()?, ticks()?, ticks()?, ticks()?, ticks()?];
        Some(Self { busy_s: (user + nice + system + irq + softirq) / TICKS_PER_S, stolen_s: stolen / TICKS_PER_S })
    }

    /// Gives the share of the time wanted since `before` that the host gave to others; 0 where none was wanted.
    pub fn stolen_share_since(&self, before: &Self) -> f64 {
        let (busy, stolen) = (self.busy_s - before.busy_s, self.stolen_s - before.stolen_s);
        if stolen > 0.0 { stolen / (busy + stolen) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_a_share_of_what_was_wanted() {
        let before = Processors::parse("cpu  100 0 100 500 7 0 0 100 9 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!(before, Processors { busy_s: 2.0, stolen_s: 1.0 });
        let after = Processors::parse("cpu  150 10 120 900 9 10 10 200 9 0\n").unwrap();
        assert_eq!(after.stolen_share_since(&before), 0.5);
        assert_eq!(before.stolen_share_since(&before), 0.0);
        assert_eq!(Processors::parse(""), None);
        assert_eq!(Processors::parse("cpu  1 2 3\n"), None);
        assert!(Processors::now().unwrap().busy_s > 0.0);
    }
}
