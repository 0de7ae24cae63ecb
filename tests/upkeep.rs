//! A daemon whose metrics nobody asks for holds no more for that.
//!
//! In a process of its own, since it counts all memory that is allocated, and metrics are one for a process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use weir::config::Config;

/// Counts the bytes that are allocated and not freed.
struct Counting;

static HELD_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: the system's allocator does all of it; here is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RECORDED: isize = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn histograms_that_nobody_reads_do_not_grow() {
    weir::telemetry::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: the daemon takes uplinks, and waits for its database.
    let settings = [
        ("DATABASE_URL", "postgres://weir@127.0.0.1:1/weir".to_owned()),
        ("WEIR_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        ("WEIR_LOG_DIR", dir.path().display().to_string()),
    ];
    let config = Config::load(None, settings.map(|(name, value)| (name.to_owned(), value))).unwrap();
    let (listening, address) = oneshot::channel::<SocketAddr>();
    let (shutdown, stopped) = oneshot::channel::<()>();
    let daemon = weir::runtime::serve(config, weir::runtime::Start::Alone, |address| listening.send(address).unwrap(), async {
        stopped.await.unwrap()
    });
    let daemon = tokio::spawn(daemon);
    address.await.unwrap();

    let before = HELD_BYTES.load(Ordering::Relaxed);
    let histogram = metrics::histogram!("weir_test_seconds");
    (0..RECORDED).for_each(|_| histogram.record(0.5));
    let held = || HELD_BYTES.load(Ordering::Relaxed) - before;
    assert!(held() > RECORDED, "{} bytes: the values are not kept at all, so the test shows nothing", held());
    let deadline = Instant::now() + Duration::from_secs(60);
    while held() > RECORDED {
        assert!(Instant::now() < deadline, "{} bytes are still held", held());
        // Freed memory shows when further values are recorded, as it is freed in turns.
        histogram.record(0.5);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.send(()).unwrap();
    daemon.await.unwrap().unwrap();
}
