//! What bounds the graph's memory, and the times it believes.

use crate::model::{DAY_US, HOUR_US, MINUTE_US};

/// For how long of log time the same uplink again is a copy. Senders that retry give up within
/// minutes, gateways within seconds. Unit: microseconds.
pub const DEDUP_WINDOW_US: i64 = HOUR_US;
/// How many uplinks of one device are remembered within the window; the oldest is forgotten first.
pub const DEDUP_KEYS_PER_DEVICE_MAX: usize = 128;
/// How long at the most a device that is thinned out may be silent for it. Unit: microseconds.
pub const THIN_INTERVAL_MAX_US: i64 = DAY_US;
/// How many measurements one uplink may hold; an uplink with more is set aside whole.
pub const MEASUREMENTS_PER_UPLINK_MAX: usize = 256;
/// How many rows of quarantine the fields of one uplink may make; the last one tells of the rest.
pub const REFUSED_ROWS_PER_UPLINK_MAX: usize = 16;
/// How many series one device may have.
pub const SERIES_PER_DEVICE_MAX: usize = 1024;
/// How many measurements a series remembers within its lateness horizon; when there are more, the
/// horizon is in effect shorter for this series.
pub const HISTORY_PER_SERIES_MAX: usize = 512;
/// How many hours of one series may be open, and how many days. Usually it is one of each; when old
/// data opens more, the earliest is emitted at once, as a partial that later ones merge with.
pub const OPEN_PARTIALS_PER_SERIES_MAX: usize = 32;
/// How far an event time may be ahead of log time. Unit: microseconds.
pub const EVENT_AHEAD_MAX_US: i64 = 60 * MINUTE_US;
/// 2000-01-01: what claims to be older comes from a clock that was never set.
/// Unit: microseconds since the Unix epoch.
pub const EVENT_EARLIEST_US: i64 = 946_684_800 * crate::model::SECOND_US;
/// How many uplinks in a row may run a tenant's decoder out of its limits before it is suspended in a partition.
pub const OUT_OF_LIMITS_MAX: u32 = 10;
/// How long a decoder rests before it is tried again, at first; each failure doubles it. Unit: microseconds of log time.
pub const SUSPENSION_MIN_US: i64 = MINUTE_US;
/// How long it rests at the most. Unit: microseconds of log time.
pub const SUSPENSION_MAX_US: i64 = HOUR_US;
/// How many decoders that run out of their limits are remembered for each partition; of more, the one that did so
/// longest ago is forgotten.
pub const OUT_OF_LIMITS_DECODERS_MAX: usize = 1024;
