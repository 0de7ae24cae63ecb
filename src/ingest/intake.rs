//! What ingest asks of the rest of the daemon, so that it can be tested alone.

use dataflows::model::{DeviceId, TemplateNo, TenantNo, Uplink};
use std::future::Future;
use std::sync::Arc;

/// The door behind ingest: tokens, the registry in effect, and the log.
pub trait Intake: Send + Sync + 'static {
    /// Gives who sends, or `None` where the token is unknown.
    fn authenticate(&self, token: &str) -> Option<Access>;

    /// Tells whether the device's template decodes by itself, by the registry in effect here: then
    /// fields that came decoded are not kept.
    fn decodes(&self, access: &Access, device: &DeviceId) -> bool;

    /// Tells whether the sender may send now, before anything of its body is read.
    ///
    /// Errors: it sends far more than its tenant's quota.
    fn admits(&self, access: &Access) -> Result<(), IntakeError>;

    /// Appends to the log, all or none, and resolves after the fsync.
    ///
    /// Errors: the log did not take them; none of them is in it.
    fn accept(&self, access: &Access, uplinks: Vec<Uplink>) -> impl Future<Output = Result<Accepted, IntakeError>> + Send;
}

/// Uplinks that are in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The first so many are within the tenant's quotas; those behind are set aside or thinned out, as the tenant wants it.
    pub within_quota: usize,
}

/// What a token opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whose data it reaches.
    pub tenant: TenantNo,
    /// It may send uplinks.
    pub may_write: bool,
    /// It may ask for measurements.
    pub may_read: bool,
    /// The template of devices that it makes by their first uplink, where it may.
    pub provision: Option<TemplateNo>,
    /// What its owner calls it.
    pub name: Arc<str>,
}

/// Why nothing was taken. All but the last pass: the sender may try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IntakeError {
    /// The log has reached its size bound or the disk its end.
    #[error("the log is full: let the database catch up, or give the log more room (log.size_bytes_max)")]
    Full,
    /// More uplinks wait for the disk than may wait.
    #[error("more uplinks wait for the disk than may wait: send again in a moment")]
    Busy,
    /// The machine's clock jumped, so that log times could not be trusted.
    #[error("the clock of this machine jumped: set it right, then send again")]
    Clock,
    /// The tenant has as much on its way as its share is.
    #[error("this tenant has more on its way into weir than its share: send less at once, and again in a moment")]
    AboveShare,
    /// The tenant sends far more than its quota, and has for longer than a burst.
    #[error(
        "this tenant sends more than ten times its quota of measurements a second: send less, or have the quota raised \
         (`weir tenant set`)"
    )]
    Abuse {
        /// After which it may send again. Unit: seconds.
        wait_s: u32,
    },
    /// The daemon is being stopped.
    #[error("weir is stopping: send again in a moment")]
    Stopping,
    /// The disk failed, or the log's thread did; weir's own log says how.
    #[error("the log could not be written: look for its error in what weir reports, then send again")]
    Failed,
    /// The uplinks are more than the log appends as a whole.
    #[error("the uplinks take {bytes} bytes in the log, more than the {max} that it appends at once: send smaller batches")]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl IntakeError {
    /// How long a sender should wait before it tries again; none where that is no use. Unit: seconds.
    pub fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::Busy | Self::AboveShare => Some(1),
            Self::Abuse { wait_s } => Some(wait_s),
            Self::Stopping => Some(5),
            Self::Full | Self::Clock | Self::Failed => Some(60),
            Self::TooLarge { .. } => None,
        }
    }
}
