//! Ingest's door into the daemon: tokens and devices from the directory, uplinks into the log.
//!
//! Whether an uplink is over a quota is decided here and stands in its record. The log's queue is shared fairly: who floods
//! it hears that, and whoever comes next finds room.

use super::quota::{Charge, Meter};
use crate::codec;
use crate::ingest::{Accepted, Access, FairRoom, Intake, IntakeError, NoRoom};
use crate::log::{AppendError, Held, Log, NewRecord};
use crate::registry::Directory;
use dataflows::model::{DeviceId, Excess, Offset, OverQuota, Partition, Record, RegistryChange, TenantNo, Uplink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Appends what ingest admits.
pub(super) struct LogIntake {
    directory: Arc<Directory>,
    log: Log,
    meter: Arc<Meter>,
    /// What waits for the log, by tenant. Its bound is that of the log's queue.
    waiting: FairRoom,
    stopping: Arc<AtomicBool>,
}

impl LogIntake {
    /// `stopping` closes the door at shutdown.
    pub(super) fn new(directory: Arc<Directory>, log: Log, meter: Arc<Meter>, stopping: Arc<AtomicBool>) -> Self {
        let waiting = FairRoom::new(log.queue_bytes_max());
        Self { directory, log, meter, waiting, stopping }
    }

    /// Appends uplinks that were charged.
    async fn append(&self, access: &Access, uplinks: Vec<Uplink>, charge: Charge) -> Result<(), IntakeError> {
        let unknown = |uplink: &Uplink| self.directory.would_admit(access.tenant, &uplink.device, access.provision);
        if uplinks.iter().any(unknown) {
            let (directory, log, waiting) = (Arc::clone(&self.directory), self.log.clone(), self.waiting.clone());
            // A task of its own: when the client goes away, this future is dropped, but what is appended
            // must be confirmed.
            return tokio::spawn(append_with_devices(directory, log, waiting, access.clone(), uplinks, charge))
                .await
                .unwrap_or(Err(IntakeError::Stopping));
        }
        let partitions = self.log.partitions();
        let records = charged(uplinks, charge).map(|(uplink, excess)| record(uplink, excess, partitions)).collect();
        append_fairly(&self.log, &self.waiting, access.tenant, records).await.map(|_| ())
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

    fn admits(&self, access: &Access) -> Result<(), IntakeError> {
        self.meter.wait_s(access.tenant).map_or(Ok(()), |wait_s| Err(IntakeError::Abuse { wait_s }))
    }

    async fn accept(&self, access: &Access, uplinks: Vec<Uplink>) -> Result<Accepted, IntakeError> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(IntakeError::Stopping);
        }
        let count = uplinks.len();
        let charge = self.meter.charge(access.tenant, count);
        match self.append(access, uplinks, charge).await {
            Ok(()) => Ok(Accepted { within_quota: charge.within }),
            Err(error) => {
                self.meter.refund(access.tenant, &charge, count);
                Err(error)
            }
        }
    }
}

/// Tells of each uplink over which quota it is.
fn charged(uplinks: Vec<Uplink>, charge: Charge) -> impl Iterator<Item = (Uplink, Option<Excess>)> {
    let excess = move |nth| charge.excess.filter(|_| nth >= charge.within);
    uplinks.into_iter().enumerate().map(move |(nth, uplink)| (uplink, excess(nth)))
}

/// Appends records, if the tenant has room for them among those that wait.
async fn append_fairly(
    log: &Log,
    waiting: &FairRoom,
    tenant: TenantNo,
    records: Vec<NewRecord>,
) -> Result<Vec<Offset>, IntakeError> {
    let mut place = waiting.enter(tenant);
    // What is too large for the log is told so by the log.
    match place.grow(Log::waiting_bytes(&records).min(log.queue_bytes_max())) {
        Ok(()) => {}
        Err(NoRoom::AboveShare) => return Err(IntakeError::AboveShare),
        Err(NoRoom::Full) => return Err(IntakeError::Busy),
    }
    // The log drops it when the append is done with, also when its sender has gone.
    let place: Held = Box::new(place);
    log.append_holding(records, place).await.map_err(refusal)
}

/// Appends uplinks, and before each of a device that is not known the record that makes it.
async fn append_with_devices(
    directory: Arc<Directory>,
    log: Log,
    waiting: FairRoom,
    access: Access,
    uplinks: Vec<Uplink>,
    charge: Charge,
) -> Result<(), IntakeError> {
    // Held to the end: the directory's snapshot must not miss a record, and the daemon's end waits for it.
    let changing = directory.changing().await;
    let partitions = log.partitions();
    let mut made = Vec::new();
    let mut records = Vec::with_capacity(uplinks.len());
    for (uplink, excess) in charged(uplinks, charge) {
        if let Some(device) = directory.admit(access.tenant, &uplink.device, access.provision) {
            let partition = Partition::of(&device.id, partitions);
            let body = codec::encode(&Record::Registry(Box::new(RegistryChange::Device(Arc::clone(&device)))));
            made.push((records.len(), partition, device));
            records.push(NewRecord { partition, body });
        }
        records.push(record(uplink, excess, partitions));
    }
    let appended = append_fairly(&log, &waiting, access.tenant, records).await;
    let accepted = match appended {
        Ok(offsets) => {
            for (at, partition, device) in made {
                directory.confirm(partition, offsets[at], RegistryChange::Device(device));
            }
            Ok(())
        }
        Err(error) => {
            made.iter().for_each(|(_, _, device)| directory.withdraw(device));
            Err(error)
        }
    };
    // The guard goes last: whoever waits for it finds the log free.
    drop((directory, log));
    drop(changing);
    accepted
}

fn record(uplink: Uplink, excess: Option<Excess>, partitions: u16) -> NewRecord {
    let partition = Partition::of(&uplink.device, partitions);
    let record = match excess {
        None => Record::Uplink(Box::new(uplink)),
        Some(excess) => Record::OverQuota(Box::new(OverQuota { excess, uplink })),
    };
    NewRecord { partition, body: codec::encode(&record) }
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
    use super::super::view::View;
    use super::*;
    use crate::log::{Clock, LogOptions};
    use crate::registry::{Quota, Wanted};
    use dataflows::model::{EventTime, Policy, TemplateNo, Tenant, Treatment};
    use std::time::Duration;

    /// A door to a log in a folder.
    fn door(dir: &std::path::Path, options: LogOptions) -> (LogIntake, Arc<Directory>, Log) {
        let (log, _) = Log::open(&dir.join("log"), options, Clock::system()).unwrap();
        let directory = Arc::new(Directory::open(dir, log.clone()).unwrap());
        let view = Arc::new(View::new(log.partitions()));
        let meter = Arc::new(Meter::open(dir, Arc::clone(&directory), view, || EventTime(0)));
        (LogIntake::new(Arc::clone(&directory), log.clone(), meter, Arc::default()), directory, log)
    }

    fn access(tenant: u32, provision: Option<TemplateNo>) -> Access {
        Access { tenant: TenantNo(tenant), may_write: true, may_read: false, provision, name: "a gateway".into() }
    }

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
        let (intake, _, log) = door(dir.path(), LogOptions::default());
        let access = access(1, None);
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

    #[tokio::test]
    async fn a_device_is_in_effect_also_when_its_sender_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (intake, directory, log) = door(dir.path(), LogOptions::default());
        let access = access(1, Some(TemplateNo(1)));
        let device = DeviceId::parse("pump").unwrap();
        let uplink = Uplink {
            tenant: TenantNo(1),
            device: device.clone(),
            received_at: EventTime(0),
            fport: None,
            fcnt: None,
            message_id: None,
            frame: vec![],
            decoded: None,
            receptions: vec![],
        };
        tokio::select! {
            biased;
            accepted = intake.accept(&access, vec![uplink]) => panic!("no fsync is that fast: {accepted:?}"),
            () = std::future::ready(()) => {}
        }
        let confirmed = async {
            while directory.devices() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), confirmed).await.expect("its record is in the log");
        assert_eq!(log.end(Partition::of(&device, log.partitions())).0, 2);
    }

    /// What the log holds, over all partitions.
    fn records(log: &Log) -> Vec<Record> {
        let mut records = Vec::new();
        let from = vec![Offset(0); usize::from(log.partitions())];
        log.scan(&from, |record| records.push(codec::decode(record.body).unwrap())).unwrap();
        records
    }

    #[tokio::test]
    async fn what_is_over_a_quota_is_taken_and_its_record_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (intake, directory, log) = door(dir.path(), LogOptions { partitions: 1, ..LogOptions::default() });
        let treatment = Treatment::Thin { interval_us: 7 };
        let quota = Quota { tenant: "t".into(), per_second_max: Some(1), per_day_max: Some(3), treatment };
        let tenants = [(TenantNo(1), Tenant { no: TenantNo(1), policy: Policy::default() })].into();
        let wanted = Wanted { tenants, quotas: [(TenantNo(1), quota)].into(), ..Wanted::default() };
        directory.reconcile(wanted).await.unwrap();

        // Of an append that is refused nothing is charged.
        let too_large = intake.accept(&access(1, None), uplinks(17 << 20)).await;
        assert!(matches!(too_large, Err(IntakeError::TooLarge { .. })), "{too_large:?}");
        let taken = intake.accept(&access(1, None), uplinks(5 * (4 << 10))).await.unwrap();
        assert_eq!(taken.within_quota, 3);
        // Devices that their uplink makes are made over the quota too.
        let made = intake.accept(&access(1, Some(TemplateNo(1))), uplinks(4 << 10)).await.unwrap();
        assert_eq!(made.within_quota, 0);
        assert_eq!(intake.accept(&access(2, None), uplinks(4 << 10)).await.unwrap().within_quota, 1, "another tenant");
        let kinds: String = records(&log)
            .iter()
            .map(|record| match record {
                Record::Uplink(_) => 'u',
                Record::OverQuota(over) if over.excess.treatment == treatment && over.excess.measurements_max == 3 => 'o',
                Record::Registry(change) if matches!(**change, RegistryChange::Device(_)) => 'd',
                _ => ' ',
            })
            .collect();
        assert_eq!(kinds.trim(), "uuuoodou");

        // Far more than ten times the quota a second is abuse.
        assert_eq!(intake.admits(&access(1, None)), Ok(()));
        intake.accept(&access(1, None), uplinks(200 * (4 << 10))).await.unwrap();
        assert_eq!(intake.admits(&access(1, None)), Err(IntakeError::Abuse { wait_s: 11 }));
        assert_eq!(intake.admits(&access(2, None)), Ok(()));
    }

    #[tokio::test]
    async fn who_floods_the_queue_is_told_so_and_others_find_room() {
        let dir = tempfile::tempdir().unwrap();
        let (intake, _, log) = door(dir.path(), LogOptions { partitions: 1, ..LogOptions::default() });
        // What is on its way stays there until the log is done with it; these stand for appends that wait for the disk.
        let half = log.queue_bytes_max() / 2;
        let mut waiting = intake.waiting.enter(TenantNo(1));
        waiting.grow(half).unwrap();
        let flooding = intake.accept(&access(1, None), uplinks(4 << 10)).await;
        assert_eq!(flooding, Err(IntakeError::AboveShare));
        let with_device = intake.accept(&access(1, Some(TemplateNo(1))), uplinks(4 << 10)).await;
        assert_eq!(with_device, Err(IntakeError::AboveShare));
        intake.accept(&access(2, None), uplinks(6 << 20)).await.unwrap();
        drop(waiting);
        intake.accept(&access(1, None), uplinks(6 << 20)).await.unwrap();
        let mut whole = intake.waiting.enter(TenantNo(3));
        assert_eq!(whole.grow(log.queue_bytes_max()), Ok(()), "nothing of what is in the log is counted as waiting");
        assert_eq!(intake.accept(&access(1, None), uplinks(4 << 10)).await, Err(IntakeError::Busy));
    }
}
