//! Owns what the writer, the readers and the handle have in common.

use super::block::Block;
use super::cache::Cache;
use super::catalogue::{Catalogue, Segment};
use super::disk::Disk;
use super::error::TruncateError;
use super::header;
use super::identity::{Identity, Mark};
use super::index::BlockIndex;
use super::options::LogOptions;
use super::position::Position;
use super::queue::Queue;
use super::status::Truncated;
use dataflows::model::Offset;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Memory for the indexes of sealed segments. Unit: bytes.
const INDEXES_BYTES_MAX: usize = 8 << 20;
const UNPOISONED: &str = "nothing panics while it holds the catalogue";

/// Called when more is durable.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// An open log.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) identity: Identity,
    pub(super) options: LogOptions,
    pub(super) queue: Queue,
    /// Blocks by segment and first byte.
    pub(super) blocks: Cache<(u64, u64), Block>,
    /// The memory of a block that nobody needs any more, for the next one: fresh memory costs more than what is read into it.
    spare: Mutex<Vec<u8>>,
    /// Indexes of sealed segments by number.
    pub(super) indexes: Cache<u64, BlockIndex>,
    pub(super) building: Mutex<()>,
    catalogue: RwLock<Catalogue>,
    truncating: Mutex<()>,
    /// An append was refused for want of space, and there is no more of it since.
    full: AtomicBool,
    wakes: Mutex<Vec<Wake>>,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, identity: Identity, options: LogOptions, catalogue: Catalogue) -> Self {
        Self {
            disk,
            identity,
            queue: Queue::new(options.queue_bytes_max),
            blocks: Cache::new(options.cache_bytes_max),
            spare: Mutex::default(),
            indexes: Cache::new(INDEXES_BYTES_MAX),
            building: Mutex::default(),
            options,
            catalogue: RwLock::new(catalogue),
            truncating: Mutex::default(),
            full: AtomicBool::new(false),
            wakes: Mutex::default(),
        }
    }

    pub(super) fn spare(&self) -> MutexGuard<'_, Vec<u8>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().expect(UNPOISONED)
    }

    pub(super) fn catalogue_mut(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.catalogue.write().expect(UNPOISONED)
    }

    /// Makes a segment the last one.
    pub(super) fn publish_segment(&self, segment: Segment) {
        let mut catalogue = self.catalogue_mut();
        let sealed = catalogue.tail_segment().number;
        let index = Arc::new(std::mem::replace(&mut catalogue.tail, BlockIndex::new(self.identity.partitions)));
        catalogue.segments.push_back(segment);
        let bytes = index.memory_bytes();
        self.indexes.put(sealed, index, bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(super) fn on_durable(&self, wake: Wake) {
        self.wakes().push(wake);
    }

    pub(super) fn wake(&self) {
        // Called without the lock, so that a wake may register another.
        let wakes = self.wakes().clone();
        wakes.iter().for_each(|wake| wake());
    }

    /// See [`super::Log::truncate_below`]. The mark goes first: a crash between leaves segments below it,
    /// which the next opening removes.
    pub(super) fn truncate_below(&self, low: &[Offset]) -> Result<Truncated, TruncateError> {
        let partitions = self.identity.partitions;
        if low.len() != usize::from(partitions) {
            return Err(TruncateError::Partitions { given: low.len(), partitions });
        }
        let low: Vec<u64> = low.iter().map(|offset| offset.0).collect();
        let _truncating = self.truncating.lock().expect("nothing panics while it truncates");
        let (drop, mark) = {
            let catalogue = self.catalogue();
            let drop = catalogue.droppable(&low);
            let first = &catalogue.segments[drop];
            (drop, Mark { first: first.number, base: Position::clone(&first.base) })
        };
        if drop == 0 {
            return Ok(Truncated::default());
        }
        mark.store(&*self.disk)?;
        let dropped: Vec<Segment> = {
            let mut catalogue = self.catalogue_mut();
            let dropped = catalogue.segments.drain(..drop).collect();
            catalogue.lost.retain(|lost| lost.to.0 > mark.base.next[usize::from(lost.partition.0)]);
            dropped
        };
        for segment in &dropped {
            self.disk.remove(&header::file_name(segment.number))?;
        }
        Mark::reserve(&*self.disk);
        self.set_full(false);
        Ok(Truncated { segments: dropped.len(), bytes: dropped.iter().map(|segment| segment.end).sum() })
    }

    fn wakes(&self) -> MutexGuard<'_, Vec<Wake>> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
