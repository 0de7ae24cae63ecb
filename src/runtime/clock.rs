//! The daemon's only look at the wall clock.

use dataflows::model::{EventTime, LogTime};
use std::time::SystemTime;

fn now_us() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Now, for the log.
pub(super) fn log_time() -> LogTime {
    LogTime(now_us())
}

/// Now, for messages without a time of their own.
pub(super) fn event_time() -> EventTime {
    EventTime(now_us())
}
