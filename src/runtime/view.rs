//! What the daemon shows of itself: written by workers and committer, read by `/readyz`, `/status`
//! and the tick task. Only figures; no decision is taken from a torn reading of two of them.

use super::quota::QuotaStatus;
use super::suspended::{SuspendedDecoder, SuspendedDecoders};
use super::trouble::{Trouble, Troubles};
use dataflows::graph::{Metered, Suspended};
use dataflows::model::{Counts, Offset, Partition, TenantNo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio::sync::Notify;

/// The live figures of all partitions.
pub struct View {
    partitions: Vec<PartitionView>,
    level: OnceLock<String>,
    troubles: Troubles,
    suspended: SuspendedDecoders,
    last_commit_rows: AtomicU64,
    commits: Notify,
    chunks_waiting: AtomicU64,
    /// What uplinks within quotas came to, until the meter takes it.
    metered: Mutex<BTreeMap<TenantNo, Metered>>,
}

/// The live figures of one partition.
#[derive(Default)]
pub(super) struct PartitionView {
    assumed: AtomicBool,
    processed: AtomicU64,
    committed: AtomicU64,
    open_state: AtomicBool,
    counts: Mutex<Counts>,
    /// Offset behind the last record that was metered.
    metered_to: AtomicU64,
}

/// One partition, for a reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartitionStatus {
    /// Which.
    pub partition: u16,
    /// A worker holds its state.
    pub assumed: bool,
    /// Offset behind the last record that is acknowledged.
    pub log_end: u64,
    /// Offset behind the last record that went through the graph.
    pub processed: u64,
    /// Offset behind the last record whose rows are committed.
    pub committed: u64,
}

/// The daemon, for a reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// All partitions are held, their replay has reached what the database holds, and the database takes commits.
    pub ready: bool,
    /// Whether the database was reached, and does what it is asked.
    pub database_available: bool,
    /// The database's level, or what is the matter with it.
    pub database: String,
    /// Records that are acknowledged and not committed, over all partitions.
    pub lag_records: u64,
    /// Rows of the newest commit.
    pub last_commit_rows: u64,
    /// Chunks or partitions that hold rows and wait for their index until the backlog is worked off.
    pub chunks_waiting: u64,
    /// Devices in effect.
    pub devices: usize,
    /// Decoders that are not run for a while, for they kept running out of their limits.
    pub decoders_suspended: Vec<SuspendedDecoder>,
    /// What became of all uplinks and measurements since the log began.
    pub counts: Counts,
    /// Each tenant that has a quota.
    pub quotas: Vec<QuotaStatus>,
    /// Each partition.
    pub partitions: Vec<PartitionStatus>,
}

impl View {
    /// Starts with nothing assumed.
    pub fn new(partitions: u16) -> Self {
        Self {
            partitions: (0..partitions).map(|_| PartitionView::default()).collect(),
            level: OnceLock::new(),
            troubles: Troubles::default(),
            suspended: SuspendedDecoders::default(),
            last_commit_rows: AtomicU64::new(0),
            commits: Notify::new(),
            chunks_waiting: AtomicU64::new(0),
            metered: Mutex::default(),
        }
    }

    fn of(&self, partition: Partition) -> &PartitionView {
        &self.partitions[usize::from(partition.0)]
    }

    /// Gives a part of the daemon that needs the database the place where it tells of trouble.
    pub(super) fn trouble(&self, part: &'static str) -> Trouble {
        self.troubles.of(part)
    }

    /// The database was reached; `level` says what it can do.
    pub fn reached(&self, level: String) {
        self.level.get_or_init(|| level);
    }

    /// A worker took the partition, at this place of the log, with this much committed.
    pub fn assume(&self, partition: Partition, processed: Offset, committed: Offset) {
        let view = self.of(partition);
        view.processed.store(processed.0, Ordering::Relaxed);
        view.committed.store(committed.0, Ordering::Relaxed);
        view.assumed.store(true, Ordering::Release);
    }

    /// A worker threw the partition's state away.
    pub fn abandon(&self, partition: Partition) {
        self.of(partition).assumed.store(false, Ordering::Release);
    }

    /// A worker ran the graph up to here.
    pub fn processed(&self, partition: Partition, next: Offset, open_state: bool, counts: Counts) {
        let view = self.of(partition);
        *view.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        view.processed.store(next.0, Ordering::Relaxed);
        view.open_state.store(open_state, Ordering::Relaxed);
    }

    /// These decoders are suspended in the partition by now.
    pub fn suspended(&self, partition: Partition, suspended: Vec<Suspended>) {
        self.suspended.tell(partition, suspended);
    }

    /// From which offset on uplinks of the partition are to be metered: what is replayed was metered before.
    pub fn metered_to(&self, partition: Partition) -> Offset {
        Offset(self.of(partition).metered_to.load(Ordering::Relaxed))
    }

    /// Uplinks up to here came to this, by tenant.
    pub fn metered(&self, partition: Partition, next: Offset, metered: BTreeMap<TenantNo, Metered>) {
        self.of(partition).metered_to.fetch_max(next.0, Ordering::Relaxed);
        if metered.is_empty() {
            return;
        }
        let mut sum = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        for (tenant, metered) in metered {
            let sum = sum.entry(tenant).or_default();
            sum.uplinks += metered.uplinks;
            sum.measurements += metered.measurements;
        }
    }

    /// Gives what uplinks came to since it was asked last.
    pub fn take_metered(&self) -> BTreeMap<TenantNo, Metered> {
        std::mem::take(&mut self.metered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A commit of so many rows reached the database; told after how far it brought each partition.
    pub fn commit_rows(&self, rows: usize) {
        self.last_commit_rows.store(rows as u64, Ordering::Relaxed);
        self.commits.notify_one();
    }

    /// Waits for a commit that reached the database since this was last awaited. For one waiter.
    pub async fn next_commit(&self) {
        self.commits.notified().await;
    }

    /// So many chunks wait for their index.
    pub fn chunks_waiting(&self, chunks: usize) {
        self.chunks_waiting.store(chunks as u64, Ordering::Relaxed);
    }

    /// Counts the records that are acknowledged and not committed; none before all partitions are held.
    pub fn backlog(&self, log_end: impl Fn(Partition) -> Offset) -> Option<u64> {
        (0..).map(Partition).zip(&self.partitions).try_fold(0, |sum, (partition, view)| {
            let committed = view.committed.load(Ordering::Relaxed);
            view.assumed.load(Ordering::Acquire).then(|| sum + log_end(partition).0.saturating_sub(committed))
        })
    }

    /// A commit reached the database.
    pub fn committed(&self, partition: Partition, to: Offset) {
        self.of(partition).committed.store(to.0, Ordering::Relaxed);
    }

    /// Gives the first record of the partition whose rows are not in the database.
    pub fn committed_below(&self, partition: Partition) -> Offset {
        Offset(self.of(partition).committed.load(Ordering::Relaxed))
    }

    /// Whether the partition holds something that only the passing of time will write.
    pub fn has_open_state(&self, partition: Partition) -> bool {
        self.of(partition).open_state.load(Ordering::Relaxed)
    }

    /// Adds up the counts of all partitions.
    pub fn counts(&self) -> Counts {
        self.partitions.iter().fold(Counts::default(), |mut sum, view| {
            sum += *view.counts.lock().unwrap_or_else(PoisonError::into_inner);
            sum
        })
    }

    /// Reads all figures but the quotas, which the meter knows; `log_end` tells how far the log is acknowledged, `devices` how
    /// many are in effect.
    pub fn status(&self, log_end: impl Fn(Partition) -> Offset, devices: usize) -> Status {
        let partitions: Vec<_> = (0..)
            .map(Partition)
            .zip(&self.partitions)
            .map(|(partition, view)| PartitionStatus {
                partition: partition.0,
                assumed: view.assumed.load(Ordering::Acquire),
                log_end: log_end(partition).0,
                processed: view.processed.load(Ordering::Relaxed),
                committed: view.committed.load(Ordering::Relaxed),
            })
            .collect();
        let trouble = self.troubles.any();
        let database_available = trouble.is_none() && self.level.get().is_some();
        Status {
            ready: database_available && partitions.iter().all(|p| p.assumed && p.processed >= p.committed),
            database_available,
            database: trouble.or_else(|| self.level.get().cloned()).unwrap_or_else(|| "not reached yet".into()),
            lag_records: partitions.iter().map(|p| p.log_end.saturating_sub(p.committed)).sum(),
            last_commit_rows: self.last_commit_rows.load(Ordering::Relaxed),
            chunks_waiting: self.chunks_waiting.load(Ordering::Relaxed),
            devices,
            decoders_suspended: self.suspended.all(),
            counts: self.counts(),
            quotas: Vec::new(),
            partitions,
        }
    }
}
