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
        AppendError::AppendTooLarge { bytes, max } | AppendError::RecordTooLarge { bytes, max } => {
            IntakeError::TooLarge { bytes, max }
        }
        AppendError::Write(_) | AppendError::Sync(_) => {
            tracing::error!(%error, "the log refuses uplinks");
            IntakeError::Failed
        }
        AppendError::Partition { .. } => unreachable!("partitions are counted by the log itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Clock, LogOptions};
    use dataflows::model::{EventTime, TenantNo};

    /// Uplinks of so many bytes in all, as one body may bring them.
    fn uplinks(bytes: usize) -> Vec<Uplink> {
        const FRAME_BYTES: usize = 4 << 10;
        let uplink = |n: usize| Uplink {
            tenant: TenantNo(1),
            device: DeviceId::parse(&format!("pump-{n}")).unwrap(),
            received_at: EventTime(0),
            fport: None,
            fcnt: None,
            message_id: None,
            frame: vec![7; FRAME_BYTES],
            decoded: None,
            receptions: vec![],
        };
        (0..bytes / FRAME_BYTES).map(uplink).collect()
    }

    #[tokio::test]
    async fn the_largest_body_is_taken_as_a_whole_and_a_larger_one_is_refused_for_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&dir.path().join("log"), LogOptions::default(), Clock::system()).unwrap();
        let directory = Arc::new(Directory::open(dir.path(), log.clone()).unwrap());
        let intake = LogIntake::new(directory, log.clone(), Arc::default());
        let access = Access { tenant: TenantNo(1), may_write: true, may_read: false, provision: None, name: "a gateway".into() };
        intake.accept(&access, uplinks(6 << 20)).await.unwrap();
        let records = log.status().partitions.iter().map(|p| p.end.0).sum::<u64>();
        assert_eq!(records, (6 << 20) / (4 << 10));
        let refused = intake.accept(&access, uplinks(17 << 20)).await.unwrap_err();
        assert!(matches!(refused, IntakeError::TooLarge { max, .. } if max == 16 << 20), "{refused:?}");
        assert_eq!(log.status().partitions.iter().map(|p| p.end.0).sum::<u64>(), records, "all or none");
    }

    #[test]
    fn each_refusal_of_the_log_has_its_own_answer() {
        let io = || Arc::new(std::io::Error::other("a broken disk"));
        let check = |error, expected| assert_eq!(refusal(error), expected);
        check(AppendError::Busy { queued_bytes: 1 }, IntakeError::Busy);
        check(AppendError::Clock { ahead_us: 1 }, IntakeError::Clock);
        check(AppendError::Full("no space".into()), IntakeError::Full);
        check(AppendError::Write(io()), IntakeError::Failed);
        check(AppendError::Sync(io()), IntakeError::Failed);
        check(AppendError::Closed, IntakeError::Stopping);
        check(AppendError::RecordTooLarge { bytes: 2, max: 1 }, IntakeError::TooLarge { bytes: 2, max: 1 });
        check(AppendError::AppendTooLarge { bytes: 2, max: 1 }, IntakeError::TooLarge { bytes: 2, max: 1 });
    }
}
