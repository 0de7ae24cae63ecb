//! The shell's live view of the registry: who may send, which devices there are, which to make.
//!
//! Owns the local snapshot. Keeps: what the directory says is in effect, the log holds.

use super::effect::{DeviceKey, key};
use super::reconcile::{self, Wanted};
use super::snapshot::{Snapshot, SnapshotError};
use super::tables::BadRow;
use super::{InEffect, Quotas, Token, TokenHash, quota, tokens};
use crate::codec::{self, CodecError, Kind};
use crate::log::{AppendError, Log, NewRecord, ReadError};
use dataflows::model::{Decoding, Device, DeviceId, DeviceNo, Offset, Partition, Record, RegistryChange, TemplateNo, TenantNo};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use uuid::Uuid;

/// Bytes of registry records that are appended at once, about.
const APPEND_BYTES: usize = 1 << 18;

/// Why the directory cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The local snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log.
    #[error("the registry in effect cannot be read from the log ({0})")]
    Read(#[from] ReadError),
    /// The log holds a record without which it is unknown what is in effect.
    #[error("record {offset} of partition {partition} cannot be passed over: {error}")]
    Record {
        /// Which partition.
        partition: Partition,
        /// Where in it.
        offset: Offset,
        /// Why it cannot be read.
        error: CodecError,
    },
    /// The log.
    #[error("a registry change cannot be written to the log ({0})")]
    Append(#[from] AppendError),
    /// The tables belong to another log.
    #[error(
        "the database holds rows of log {found}, and this log is {ours}: its registry takes no effect here. Look whether \
         database.url is right"
    )]
    ForeignDatabase {
        /// The log that the database knows.
        found: Uuid,
        /// The log of this daemon.
        ours: Uuid,
    },
    /// The tables are empty, and were never this log's.
    #[error(
        "the registry's tables are empty, while {tenants} tenants with {devices} devices are in effect that came from another \
         database: look whether database.url is right. If those tables are lost for good, add a tenant to these; what is not \
         in them then is removed"
    )]
    EmptyRegistry {
        /// Tenants in effect.
        tenants: usize,
        /// Devices in effect.
        devices: usize,
    },
}

/// What a comparison with the tables came to.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// How many changes are in the log.
    pub changes: usize,
    /// Rows that cannot take effect.
    pub bad: Vec<BadRow>,
}

/// The live view. Share it in an `Arc`.
pub struct Directory {
    path: PathBuf,
    log: Log,
    state: Mutex<State>,
    /// Held (shared) while registry records are on their way into the log, and (exclusive) while
    /// the snapshot's positions are taken: they must not run ahead of the view.
    in_flight: Arc<RwLock<()>>,
}

struct State {
    effect: InEffect,
    tokens: BTreeMap<TokenHash, Token>,
    /// Shared with whoever asks, and replaced as a whole.
    quotas: Arc<Quotas>,
    /// Devices that were given a number whose record is on its way into the log.
    allotted: HashMap<DeviceKey, Allotted>,
    /// The newest record that was confirmed of each device, since nothing was on its way last: answers
    /// of the log are heard in any order.
    newest: HashMap<DeviceKey, Offset>,
    /// Something changed since the last snapshot.
    changed: bool,
}

struct Allotted {
    device: Arc<Device>,
    /// Appends with this record that are under way.
    appends: u32,
}

impl Directory {
    /// Rebuilds the view from the snapshot in `folder`, where there is one of this log, and the log's
    /// records behind it.
    ///
    /// Cost: reads the log behind the snapshot once; only registry records are decoded.
    pub fn open(folder: &Path, log: Log) -> Result<Self, DirectoryError> {
        let path = folder.join("registry.snapshot");
        let snapshot = Snapshot::load(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, "rebuilding the registry's local copy");
            None
        });
        let snapshot = snapshot.filter(|s| s.log == log.id() && s.positions.len() == usize::from(log.partitions()));
        let nothing = || vec![Offset(0); usize::from(log.partitions())];
        let quotas = Arc::new(snapshot.as_ref().map(|s| s.quotas.clone()).unwrap_or_default());
        let (mut effect, tokens, positions) = match snapshot {
            // The log lost its end: what the snapshot has from there took no effect.
            Some(s) if (0..).map(Partition).zip(&s.positions).any(|(p, position)| *position > log.end(p)) => {
                let numbers = InEffect { provisioned_count: s.effect.provisioned_count, ..InEffect::default() };
                (numbers, s.tokens, nothing())
            }
            Some(s) => (s.effect, s.tokens, s.positions),
            None => (InEffect::default(), BTreeMap::new(), nothing()),
        };
        catch_up(&log, &positions, &mut effect)?;
        let state = State { effect, tokens, quotas, allotted: HashMap::new(), newest: HashMap::new(), changed: false };
        Ok(Self { path, log, state: Mutex::new(state), in_flight: Arc::default() })
    }

    /// Counts the devices in effect.
    pub fn devices(&self) -> usize {
        self.state().effect.devices.len()
    }

    /// Tells who bears a token.
    pub fn token(&self, token: &str) -> Option<Token> {
        self.state().tokens.get(&TokenHash::of(token)).cloned()
    }

    /// Gives the quotas in force: what the tables said last.
    pub fn quotas(&self) -> Arc<Quotas> {
        Arc::clone(&self.state().quotas)
    }

    /// Whether the template of a device decodes its uplinks itself. Unknown devices are judged by
    /// the template with which they would be made.
    pub fn decodes(&self, tenant: TenantNo, device: &DeviceId, provision: Option<TemplateNo>) -> bool {
        let state = self.state();
        let template = state.effect.devices.get(tenant, device).map(|d| d.template).or(provision);
        template.and_then(|no| state.effect.templates.get(&no)).is_some_and(|t| t.decoding != Decoding::Upstream)
    }

    /// Whether a device would be made by its uplink.
    pub fn would_admit(&self, tenant: TenantNo, device: &DeviceId, provision: Option<TemplateNo>) -> bool {
        provision.is_some() && !self.state().effect.devices.contains(tenant, device)
    }

    /// Makes a device that is not known, when the token says with which template. Its record must be
    /// appended before the uplink, and then be confirmed or withdrawn; the same device asked for again
    /// meanwhile gives the same record, which changes nothing when it comes twice.
    ///
    /// None as well when the device's partition has no number left.
    pub fn admit(&self, tenant: TenantNo, device: &DeviceId, provision: Option<TemplateNo>) -> Option<Arc<Device>> {
        let mut state = self.state();
        let template = provision.filter(|_| !state.effect.devices.contains(tenant, device))?;
        let key = (tenant, device.clone());
        if let Some(allotted) = state.allotted.get_mut(&key) {
            allotted.appends += 1;
            return Some(allotted.device.clone());
        }
        let partition = Partition::of(device, self.log.partitions());
        let count = state.effect.provisioned_count.entry(partition).or_default();
        let Some(no) = DeviceNo::provisioned(partition, *count) else {
            tracing::error!(
                %partition, %device, %tenant,
                "no number is left for devices that are made by their first uplink: its uplinks go to quarantine. Add it with `weir device add`"
            );
            return None;
        };
        *count += 1;
        let (id, variables) = (device.clone(), BTreeMap::new());
        let made = Arc::new(Device { no, tenant, id, template, variables, zone: None, provisioned: true });
        state.allotted.insert(key, Allotted { device: made.clone(), appends: 1 });
        Some(made)
    }

    /// Takes back a device whose record the log refused. Its number is given to the next one, if it was
    /// the last that was given.
    pub fn withdraw(&self, device: &Device) {
        let mut state = self.state();
        let key = key(device);
        let Some(allotted) = state.allotted.get_mut(&key).filter(|allotted| allotted.device.no == device.no) else { return };
        allotted.appends -= 1;
        if allotted.appends > 0 {
            return;
        }
        state.allotted.remove(&key);
        if let Some((partition, nth)) = device.no.provisioner()
            && let Some(count) = state.effect.provisioned_count.get_mut(&partition).filter(|count| **count == nth + 1)
        {
            *count = nth;
        }
    }

    /// Takes notice of devices that partitions have provisioned as far as the tables know.
    pub fn never_again(&self, provisioned: &BTreeMap<Partition, u32>) {
        let mut state = self.state();
        provisioned.iter().for_each(|(partition, count)| state.effect.never_again(*partition, *count));
    }

    /// Must be held from before a registry record is appended until
    /// [`Directory::confirm`] or [`Directory::withdraw`] was told of it.
    pub async fn changing(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.in_flight).read_owned().await
    }

    /// Takes in a registry record that is durable now.
    pub fn confirm(&self, partition: Partition, offset: Offset, change: RegistryChange) {
        let mut state = self.state();
        if let Some(key) = device_key(&change) {
            if let RegistryChange::Device(device) = &change
                && state.allotted.get(&key).is_some_and(|allotted| allotted.device.no == device.no)
            {
                state.allotted.remove(&key);
            }
            // A device's records stand in one partition: the higher offset holds.
            let newest = state.newest.entry(key).or_insert(offset);
            if offset < *newest {
                return;
            }
            *newest = offset;
        }
        state.effect.apply(partition, offset, change);
        state.changed = true;
    }

    /// Gives the numbers of devices that are in effect and whose rows are gone. A database that came back older
    /// than it was left does not know that they were ever given.
    pub fn numbers_gone(&self, wanted: &Wanted) -> Vec<DeviceNo> {
        let state = self.state();
        let gone = |(device, wanted_device): (&Arc<Device>, Option<&Arc<Device>>)| {
            let is_gone = match wanted_device {
                Some(wanted) => wanted.no != device.no,
                None => !wanted.kept_devices.contains(&key(device)),
            };
            (is_gone && device.no.provisioner().is_none()).then_some(device.no)
        };
        state.effect.devices.beside(&wanted.devices).filter_map(gone).collect()
    }

    /// Refuses tables that are not this log's.
    ///
    /// Errors: they hold rows of another log; or they are empty, and were never this log's while it has
    /// a registry in effect.
    pub fn check(&self, wanted: &Wanted) -> Result<(), DirectoryError> {
        let ours = self.log.id();
        if let Some(found) = wanted.logs.iter().find(|log| **log != ours) {
            return Err(DirectoryError::ForeignDatabase { found: *found, ours });
        }
        let state = self.state();
        let (tenants, devices) = (state.effect.tenants.len(), state.effect.devices.len());
        if wanted.is_empty() && tenants + devices > 0 && wanted.registry_of != Some(ours) {
            return Err(DirectoryError::EmptyRegistry { tenants, devices });
        }
        Ok(())
    }

    /// Makes what is wanted take effect: takes over the quotas, appends the differences, and takes over the tokens. What a
    /// token may no longer do, it may no longer do before; what it may do newly, only after.
    ///
    /// Errors: as [`Directory::check`]; the log refuses.
    pub async fn reconcile(&self, mut wanted: Wanted) -> Result<Reconciled, DirectoryError> {
        self.check(&wanted)?;
        let (changes, mut bad) = {
            let mut state = self.state();
            let narrowed = tokens::narrowed(&state.tokens, &wanted.tokens);
            state.changed |= state.tokens != narrowed;
            state.tokens = narrowed;
            let quotas = quota::in_force(&state.quotas, &mut wanted);
            state.changed |= *state.quotas != quotas;
            state.quotas = Arc::new(quotas);
            let bad = wanted.leave_clashes(&state.effect);
            (reconcile::changes(&wanted, &state.effect), bad)
        };
        let partitions = self.log.partitions();
        let (mut group, mut bytes, mut count) = (Vec::new(), 0, 0);
        for change in changes {
            let name = reconcile::name(&change);
            let records = reconcile::records(change, partitions).into_iter();
            let encoded: Vec<_> = records.map(|(partition, record)| (partition, codec::encode(&record), record)).collect();
            let longest = encoded.iter().map(|(_, body, _)| body.len()).max().unwrap_or(0);
            if longest > self.log.record_bytes_max() {
                let problem = format!("it has {longest} bytes, more than a record of the log holds: give it less");
                bad.push(BadRow { table: name.0, key: name.1, problem });
                continue;
            }
            count += 1;
            for (partition, body, record) in encoded {
                bytes += body.len();
                group.push((NewRecord { partition, body }, record));
                if bytes >= APPEND_BYTES {
                    self.append(std::mem::take(&mut group)).await?;
                    bytes = 0;
                }
            }
        }
        self.append(group).await?;
        let mut state = self.state();
        state.changed |= state.tokens != wanted.tokens;
        state.tokens = wanted.tokens;
        Ok(Reconciled { changes: count, bad })
    }

    async fn append(&self, group: Vec<(NewRecord, Record)>) -> Result<(), DirectoryError> {
        let _changing = self.changing().await;
        let (new, records): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let partitions: Vec<_> = new.iter().map(|r| r.partition).collect();
        let offsets = self.log.append(new).await?;
        for ((partition, offset), record) in partitions.into_iter().zip(offsets).zip(records) {
            if let Record::Registry(change) = record {
                self.confirm(partition, offset, *change);
            }
        }
        Ok(())
    }

    /// Writes the local snapshot when something changed since the last one, or when `always`.
    pub async fn save(&self, always: bool) -> Result<(), DirectoryError> {
        let snapshot = {
            let _quiet = self.in_flight.write().await;
            let mut state = self.state();
            // The room goes too: after a whole fleet was registered, there is much of it.
            state.newest = HashMap::new();
            if !(state.changed || always) {
                return Ok(());
            }
            state.changed = false;
            let positions = (0..self.log.partitions()).map(|p| self.log.end(Partition(p))).collect();
            let (effect, tokens, quotas) = (state.effect.clone(), state.tokens.clone(), Quotas::clone(&state.quotas));
            Snapshot { log: self.log.id(), positions, effect, tokens, quotas }
        };
        let path = self.path.clone();
        let saved = tokio::task::spawn_blocking(move || snapshot.save(&path)).await.expect("saving a snapshot does not panic");
        if saved.is_err() {
            self.state().changed = true;
        }
        Ok(saved?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-made change: every change here is one insert or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device that a change is about.
fn device_key(change: &RegistryChange) -> Option<DeviceKey> {
    match change {
        RegistryChange::Device(device) => Some(key(device)),
        RegistryChange::DeviceRemoved { tenant, id } => Some((*tenant, id.clone())),
        _ => None,
    }
}

/// Takes in the registry records of all partitions from `positions` on.
fn catch_up(log: &Log, positions: &[Offset], effect: &mut InEffect) -> Result<(), DirectoryError> {
    let mut refused = None;
    log.scan(positions, |record| {
        if refused.is_some() || !matches!(codec::kind(record.body), Kind::Registry | Kind::Unknown) {
            return;
        }
        let (partition, offset) = (record.partition, record.offset);
        match codec::decode(record.body) {
            Ok(Record::Registry(change)) => effect.apply(partition, offset, *change),
            Err(error) if codec::is_indispensable(record.body, &error) => {
                refused = Some(DirectoryError::Record { partition, offset, error });
            }
            // The worker of the partition sets it aside, and tells of what was lost.
            Ok(_) | Err(_) => {}
        }
    })?;
    refused.map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
