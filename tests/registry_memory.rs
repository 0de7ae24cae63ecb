//! What a device in effect takes of the directory's memory, and what comparing the tables with it takes for a while.
//!
//! In a process of its own, since it counts all memory that is allocated.

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "support/mod.rs"]
mod support;

use dataflows::model::DeviceId;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use support::database::{Kind, TestDatabase};
use tokio_postgres::Client;
use weir::log::{Clock, Log, LogOptions};
use weir::registry::{Directory, admin, tables};
use weir::store::{Store, StoreConfig};

/// Counts the bytes that are allocated and not freed, and the most that ever were.
struct Counting;

static HELD_BYTES: AtomicIsize = AtomicIsize::new(0);
static HELD_BYTES_MOST: AtomicIsize = AtomicIsize::new(0);

// SAFETY: the system's allocator does all of it; here is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().cast_signed();
        HELD_BYTES_MOST.fetch_max(HELD_BYTES.fetch_add(size, Relaxed) + size, Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size().cast_signed(), Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEVICES: u64 = 40_000;

#[tokio::test]
async fn a_device_takes_little_memory_and_a_comparison_little_more() {
    let database = TestDatabase::create(Kind::Plain).await;
    let mut client = registered(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path());
    let directory = Directory::open(folder.path(), log.clone()).unwrap();

    let empty = HELD_BYTES.load(Relaxed);
    assert_eq!(compare(&directory, &mut client).await, 2 + DEVICES as usize);
    check("at first, at most", HELD_BYTES_MOST.load(Relaxed) - empty, 350);
    check("in effect", HELD_BYTES.load(Relaxed) - empty, 160);

    assert_eq!(compare(&directory, &mut client).await, 0);
    check("compared again, at most", HELD_BYTES_MOST.load(Relaxed) - empty, 300);
    check("in effect", HELD_BYTES.load(Relaxed) - empty, 160);

    drop(directory);
    let closed = HELD_BYTES.load(Relaxed);
    let directory = Directory::open(folder.path(), log).unwrap();
    assert_eq!(directory.devices(), DEVICES as usize);
    check("opened", HELD_BYTES.load(Relaxed) - closed, 140);
}

/// Makes the tables take effect as the daemon does; gives the count of changes.
async fn compare(directory: &Directory, client: &mut Client) -> usize {
    HELD_BYTES_MOST.store(HELD_BYTES.load(Relaxed), Relaxed);
    let read = tables::read(client, |_| true).await.unwrap();
    tables::spend(client, &directory.numbers_gone(&read.wanted)).await.unwrap();
    let reconciled = directory.reconcile(read.wanted).await.unwrap();
    directory.save(false).await.unwrap();
    reconciled.changes
}

fn check(what: &str, bytes: isize, device_bytes_max: isize) {
    let device_bytes = bytes / DEVICES as isize;
    println!("{what}: {device_bytes} bytes a device");
    assert!(device_bytes <= device_bytes_max, "{what}: {device_bytes} bytes a device, more than {device_bytes_max}");
}

/// Fills the tables.
async fn registered(database: &TestDatabase) -> Client {
    let mut store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
    store.migrate(16).await.unwrap();
    let client = database.client().await;
    let registry = "INSERT INTO tenant (tenant_no, name) VALUES (1, 'waterworks'); \
                    INSERT INTO template (template_no, name, decoding) VALUES (1, 'pump', 'upstream')";
    client.batch_execute(registry).await.unwrap();
    let ids = (0..DEVICES).map(|no| DeviceId::parse(&format!("{:016x}", no.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
    let ids: Vec<DeviceId> = ids.collect::<Result<_, _>>().unwrap();
    admin::add_devices(&client, "waterworks", "pump", &ids.iter().collect::<Vec<_>>()).await.unwrap();
    client
}

fn log(folder: &Path) -> Log {
    let options = LogOptions { partitions: 16, ..LogOptions::default() };
    let (log, _) = Log::open(&folder.join("log"), options, Clock::system()).unwrap();
    log
}
