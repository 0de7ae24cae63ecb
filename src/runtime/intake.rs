//! Ingest's door into the daemon: tokens and devices from the directory, uplinks into the log.

use crate::codec;
use crate::ingest::{Access, Intake, IntakeError};
use crate::log::{AppendError, Log, NewRecord};
use crate::registry::Directory;
use dataflows::model::{DeviceId, Partition, Record, RegistryChange, Uplink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Appends what ingest admits.
pub(super) struct LogIntake {
    directory: Arc<Directory>,
    log: Log,
    stopping: Arc<AtomicBool>,
}

impl LogIntake {
    /// `stopping` closes the door at shutdown.
    pub(super) fn new(directory: Arc<Directory>, log: Log, stopping: Arc<AtomicBool>) -> Self {
        Self { directory, log, stopping }
    }
}

impl Intake for LogIntake {
    fn authenticate(&self, token: &str) -> Option<Access> {
        let token = self.directory.token(token)?;
        Some(Access {
            tenant: token.tenant,
            may_write: token.may_write,
            may_read: token.may_read,
            provision: token.provision,
            name: token.name.into(),
        })
    }

    fn decodes(&self, access: &Access, device: &DeviceId) -> bool {
        self.directory.decodes(access.tenant, device, access.provision)
    }

    async fn accept(&self, access: &Access, uplinks: Vec<Uplink>) -> Result<(), IntakeError> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(IntakeError::Stopping);
        }
        let partitions = self.log.partitions();
        let mut made = Vec::new();
        let mut records = Vec::with_capacity(uplinks.len());
        // Held only where a device is made: the directory's snapshot must not miss its record.
        let mut changing = None;
        for uplink in uplinks {
            let partition = Partition::of(&uplink.device, partitions);
            if let Some(device) = self.directory.admit(access.tenant, &uplink.device, access.provision) {
                if changing.is_none() {
                    changing = Some(self.directory.changing().await);
                }
                let change = RegistryChange::Device(device);
                let body = codec::encode(&Record::Registry(Box::new(change.clone())));
                made.push((records.len(), partition, change));
                records.push(NewRecord { partition, body });
            }
            records.push(NewRecord { partition, body: codec::encode(&Record::Uplink(Box::new(uplink))) });
        }
        let offsets = self.log.append(records).await.map_err(refusal)?;
        for (at, partition, change) in made {
            self.directory.confirm(partition, offsets[at], change);
        }
        Ok(())
    }
}

fn refusal(error: AppendError) -> IntakeError {
    match error {
        AppendError::Busy { .. } => IntakeError::Busy,
        AppendError::Clock { .. } => IntakeError::Clock,
        AppendError::Full { .. } => IntakeError::Full,
        AppendError::Closed => IntakeError::Stopping,
        error => {
            tracing::error!(%error, "the log refuses uplinks");
            IntakeError::Full
        }
    }
}
