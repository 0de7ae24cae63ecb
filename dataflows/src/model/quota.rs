//! An uplink that came when its tenant had used up a quota: what the door found, written down so that every replay
//! does the same.
//!
//! Invariant: whether an uplink is over a quota is decided once, before it is in the log.

use super::Uplink;
use serde::{Deserialize, Serialize};

/// An uplink that is over a quota of its tenant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OverQuota {
    /// Which quota, and what is done.
    pub excess: Excess,
    /// The uplink as it came.
    pub uplink: Uplink,
}

/// Which quota was used up when an uplink came, and what the tenant wanted to be done then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Excess {
    /// What the quota is for.
    pub span: QuotaSpan,
    /// The quota. Unit: measurements.
    pub measurements_max: u64,
    /// What is done.
    pub treatment: Treatment,
}

/// What a quota is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QuotaSpan {
    /// Each second.
    Second,
    /// Each day in UTC.
    Day,
}

impl QuotaSpan {
    /// The word for it, as in "a second".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Day => "day",
        }
    }
}

/// What becomes of uplinks over a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Treatment {
    /// They are set aside whole, to be tried again when somebody wants it.
    #[default]
    Quarantine,
    /// One of each device passes in each interval; the others are counted and not stored.
    Thin {
        /// Of log time, from the one that passed. More than [`crate::THIN_INTERVAL_MAX_US`] counts as that.
        interval_us: i64,
    },
}
