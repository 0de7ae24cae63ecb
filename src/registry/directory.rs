//! The shell's live view of the registry: who may send, which devices there are, which to make.
//!
//! Owns the local snapshot. Keeps: what the directory says is in effect, the log holds.

use super::effect::DeviceKey;
use super::reconcile::{self, Wanted};
use super::snapshot::{Snapshot, SnapshotError};
use super::{InEffect, Token, TokenHash};
use crate::codec::{self, CodecError, Kind};
use crate::log::{AppendError, Log, NewRecord, ReadError};
use dataflows::model::{Decoding, Device, DeviceId, DeviceNo, Offset, Partition, Record, RegistryChange, TemplateNo, TenantNo};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of registry records that are appended at once, about.
const APPEND_BYTES: usize = 1 << 20;
/// Bytes of log that are read at once when the directory is rebuilt.
const READ_BYTES: usize = 4 << 20;

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
}

/// The live view. Share it in an `Arc`.
pub struct Directory {
    path: PathBuf,
    log: Log,
    state: Mutex<State>,
    /// Held (shared) while registry records are on their way into the log, and (exclusive) while
    /// the snapshot's positions are taken: they must not run ahead of the view.
    in_flight: tokio::sync::RwLock<()>,
}

struct State {
    effect: InEffect,
    tokens: BTreeMap<TokenHash, Token>,
    /// Devices that were given a number whose record is not known to be durable yet.
    allotted: HashMap<DeviceKey, Device>,
    /// Something changed since the last snapshot.
    changed: bool,
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
        let (mut effect, tokens, positions) = match snapshot {
            Some(s) => (s.effect, s.tokens, s.positions),
            None => (InEffect::default(), BTreeMap::new(), vec![Offset(0); usize::from(log.partitions())]),
        };
        for (partition, position) in (0..).map(Partition).zip(positions) {
            catch_up(&log, partition, position, &mut effect)?;
        }
        let state = State { effect, tokens, allotted: HashMap::new(), changed: false };
        Ok(Self { path, log, state: Mutex::new(state), in_flight: tokio::sync::RwLock::new(()) })
    }

    /// Counts the devices in effect.
    pub fn devices(&self) -> usize {
        self.state().effect.devices.len()
    }

    /// Tells who bears a token.
    pub fn token(&self, token: &str) -> Option<Token> {
        self.state().tokens.get(&TokenHash::of(token)).cloned()
    }

    /// Whether the template of a device decodes its uplinks itself. Unknown devices are judged by
    /// the template with which they would be made.
    pub fn decodes(&self, tenant: TenantNo, device: &DeviceId, provision: Option<TemplateNo>) -> bool {
        let state = self.state();
        let template = state.effect.devices.get(&(tenant, device.clone())).map(|d| d.template).or(provision);
        template.and_then(|no| state.effect.templates.get(&no)).is_some_and(|t| t.decoding != Decoding::Upstream)
    }

    /// Makes a device that is not known, when the token says with which template. Its record must be appended before the uplink; the same device asked for again
    /// meanwhile gives the same record, which changes nothing when it comes twice.
    pub fn admit(&self, tenant: TenantNo, device: &DeviceId, provision: Option<TemplateNo>) -> Option<Device> {
        let mut state = self.state();
        let key = (tenant, device.clone());
        let template = provision.filter(|_| !state.effect.devices.contains_key(&key))?;
        if let Some(device) = state.allotted.get(&key) {
            return Some(device.clone());
        }
        let partition = Partition::of(device, self.log.partitions());
        let count = state.effect.provisioned_count.entry(partition).or_default();
        let no = DeviceNo::provisioned(partition, *count);
        *count += 1;
        let made = Device { no, tenant, id: device.clone(), template, variables: BTreeMap::new(), zone: None, provisioned: true };
        state.allotted.insert(key, made.clone());
        Some(made)
    }

    /// Must be held from before a registry record is appended until
    /// [`Directory::confirm`] was told of it.
    pub async fn changing(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.in_flight.read().await
    }

    /// Takes in a registry record that is durable now.
    pub fn confirm(&self, partition: Partition, offset: Offset, change: RegistryChange) {
        let mut state = self.state();
        if let RegistryChange::Device(device) = &change {
            state.allotted.remove(&(device.tenant, device.id.clone()));
        }
        state.effect.apply(partition, offset, change);
        state.changed = true;
    }

    /// Makes what is wanted take effect: appends the differences, and takes over the tokens.
    /// Gives how many changes there were.
    pub async fn reconcile(&self, wanted: &Wanted) -> Result<usize, DirectoryError> {
        let changes = {
            let mut state = self.state();
            state.changed |= state.tokens != wanted.tokens;
            state.tokens.clone_from(&wanted.tokens);
            reconcile::changes(wanted, &state.effect)
        };
        let count = changes.len();
        let partitions = self.log.partitions();
        let mut records = changes.into_iter().flat_map(|change| reconcile::records(change, partitions)).peekable();
        while records.peek().is_some() {
            let mut group = Vec::new();
            let mut bytes = 0;
            while bytes < APPEND_BYTES
                && let Some((partition, record)) = records.next()
            {
                let body = codec::encode(&record);
                bytes += body.len();
                group.push((NewRecord { partition, body }, record));
            }
            self.append(group).await?;
        }
        Ok(count)
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
            if !(state.changed || always) {
                return Ok(());
            }
            state.changed = false;
            let positions = (0..self.log.partitions()).map(|p| self.log.end(Partition(p))).collect();
            Snapshot { log: self.log.id(), positions, effect: state.effect.clone(), tokens: state.tokens.clone() }
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

/// Takes in the registry records of `partition` from `position` on.
fn catch_up(log: &Log, partition: Partition, position: Offset, effect: &mut InEffect) -> Result<(), DirectoryError> {
    let end = log.end(partition);
    let mut next = position.max(log.start(partition));
    let mut records = Vec::new();
    while next < end {
        records.clear();
        next = match log.read(partition, next, READ_BYTES, &mut records) {
            // The worker of the partition tells of it.
            Err(ReadError::Gap { to, .. }) => to,
            read => read?,
        };
        for record in &records {
            if !matches!(codec::kind(&record.body), Kind::Registry | Kind::Unknown) {
                continue;
            }
            match codec::decode(&record.body) {
                Ok(Record::Registry(change)) => effect.apply(partition, record.offset, *change),
                Err(error) if codec::is_indispensable(&record.body, &error) => {
                    return Err(DirectoryError::Record { partition, offset: record.offset, error });
                }
                // The worker of the partition sets it aside.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(())
}
