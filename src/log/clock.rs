//! Owns log time: it comes from a clock that is passed in, never goes back, and does not leap ahead unseen.

use dataflows::model::{DAY_US, LogTime};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The two clocks that the log reads: what time it is, and how long the process has been running.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> LogTime + Send + Sync>,
    running: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// Joins a wall clock and one that only counts, from any fixed moment, also while the machine sleeps.
    pub fn new(
        wall: impl Fn() -> LogTime + Send + Sync + 'static,
        running: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self { wall: Arc::new(wall), running: Arc::new(running) }
    }

    /// The machine's clocks.
    pub fn system() -> Self {
        let wall = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            LogTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        };
        Self::new(wall, since_boot)
    }
}

/// Gives how long the machine is up. The monotonic clock would not do: it stands still while the machine is
/// suspended, so that the wall clock seems to have leapt when it wakes.
fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes `time`, which outlives it.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(failed, 0, "Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The wall clock leapt ahead further than the time that has really passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leap {
    /// How far it is ahead of where it should be. Unit: microseconds.
    pub(super) ahead_us: i64,
}

/// Stamps groups with log time.
///
/// The clock may step by up to [`Stamper::LEAP_MAX_US`] at once while the process runs (time servers do
/// that); the first stamp is taken as it is, because the machine may have been off for long.
pub(super) struct Stamper {
    clock: Clock,
    last: LogTime,
    seen: Option<(LogTime, Duration)>,
}

impl Stamper {
    /// Furthest step ahead that is believed. Unit: microseconds.
    pub(super) const LEAP_MAX_US: i64 = DAY_US;

    /// Starts behind the last stamp that stands in the log.
    pub(super) fn new(clock: Clock, last: LogTime) -> Self {
        Self { clock, last, seen: None }
    }

    /// Gives the time of the next group: the clock's, or the last stamp while the clock is behind it.
    pub(super) fn stamp(&mut self) -> Result<LogTime, Leap> {
        let (wall, running) = ((self.clock.wall)(), (self.clock.running)());
        if let Some((seen_wall, seen_running)) = self.seen {
            let passed_us = i64::try_from(running.saturating_sub(seen_running).as_micros()).unwrap_or(i64::MAX);
            let ahead_us = wall.0.saturating_sub(seen_wall.0).saturating_sub(passed_us);
            if ahead_us > Self::LEAP_MAX_US {
                return Err(Leap { ahead_us });
            }
        }
        self.seen = Some((wall, running));
        self.last = self.last.max(wall);
        Ok(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::HOUR_US;
    use std::sync::Mutex;

    /// Readings are (wall in hours, running in hours); expected are the stamps in hours, or the leap.
    fn check(last_hour: i64, readings: &[(i64, u64)], expected: &[Result<i64, i64>]) {
        let now = Arc::new(Mutex::new((0, 0)));
        let (wall, running) = (now.clone(), now.clone());
        let clock = Clock::new(
            move || LogTime(wall.lock().unwrap().0 * HOUR_US),
            move || Duration::from_secs(running.lock().unwrap().1 * 3600),
        );
        let mut stamper = Stamper::new(clock, LogTime(last_hour * HOUR_US));
        for (reading, expected) in readings.iter().zip(expected) {
            *now.lock().unwrap() = *reading;
            let got = stamper.stamp().map(|t| t.0 / HOUR_US).map_err(|leap| leap.ahead_us / HOUR_US);
            assert_eq!(got, *expected, "at {reading:?} of {readings:?}");
        }
    }

    #[test]
    fn log_time_never_goes_back() {
        check(0, &[(100, 0), (90, 1), (101, 2)], &[Ok(100), Ok(100), Ok(101)]);
        check(200, &[(100, 0), (201, 101)], &[Ok(200), Ok(201)]);
    }

    #[test]
    fn the_machines_clock_counts_its_uptime() {
        // /proc/uptime counts sleep too. Both are read twice, so that one lies between the other's readings.
        let uptime = || -> f64 { std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap() };
        let (before, running, after) = (uptime(), (Clock::system().running)().as_secs_f64(), uptime());
        assert!(before - 0.1 <= running && running <= after + 0.1, "{before} {running} {after}");
    }

    #[test]
    fn a_leap_is_refused_until_the_clock_is_back() {
        check(0, &[(100, 0), (125, 0), (100, 0), (124, 0)], &[Ok(100), Err(25), Ok(100), Ok(124)]);
        // Time that really passed is no leap, however long; nor is a long stop before the first stamp.
        check(0, &[(100, 0), (200, 100)], &[Ok(100), Ok(200)]);
        check(5, &[(9000, 0)], &[Ok(9000)]);
    }
}
