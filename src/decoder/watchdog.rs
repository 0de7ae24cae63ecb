//! Owns the thread that ends decoders which no count of steps would end.
//!
//! Every worker has a post. A run is between [`Post::enter`] and [`Post::leave`], and the watchdog
//! interrupts only under the post's lock and only the run that it saw there, so that `leave` says
//! for certain whether its run was interrupted. A run that was, is over its time even when it ended
//! by itself in that moment: its instance must not be used again, for the signal may still be under
//! way, and it can hit no other.
//!
//! What counts is the processor's time for the worker's thread: on a machine that is busy, suspended
//! or swapping no decoder is ended for it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmer::Interrupter;

/// What the watchdog sees of one worker.
#[derive(Default)]
struct Watched {
    /// Counts the runs.
    run: u64,
    /// The run under way, with the clock of its thread.
    running: Option<(Interrupter, ThreadClock)>,
    /// Whether it was interrupted.
    interrupted: bool,
    /// Whether the runs to come are left alone.
    trusts: bool,
}

/// A worker's place in front of the watchdog.
#[derive(Clone)]
pub(super) struct Post(Arc<Mutex<Watched>>);

impl Post {
    /// Begins a run.
    pub(super) fn enter(&self, interrupter: Interrupter) {
        let mut watched = lock(&self.0);
        watched.run += 1;
        watched.running = (!watched.trusts).then(|| (interrupter, ThreadClock::of_this_thread()));
        watched.interrupted = false;
    }

    /// Leaves the runs to come alone, or watches them again.
    pub(super) fn trust(&self, trusts: bool) {
        lock(&self.0).trusts = trusts;
    }

    /// Ends the run; true when the watchdog interrupted it.
    pub(super) fn leave(&self) -> bool {
        let mut watched = lock(&self.0);
        watched.running = None;
        watched.interrupted
    }
}

fn lock(watched: &Mutex<Watched>) -> std::sync::MutexGuard<'_, Watched> {
    // Nothing between lock and unlock can panic halfway through a change.
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock of the processor's time that a thread has had.
#[derive(Clone, Copy)]
struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    fn of_this_thread() -> Self {
        let mut clock = 0;
        // SAFETY: the call writes `clock`, and the calling thread exists.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        assert_eq!(failed, 0, "a running thread has a clock");
        Self(clock)
    }

    /// Reads the clock; zero when its thread has ended.
    fn read(self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes `time` or fails, and then leaves it at zero.
        unsafe { libc::clock_gettime(self.0, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// The posts, with the run and what its thread had had when the watchdog first saw it.
type Posts = Vec<(Weak<Mutex<Watched>>, Option<(u64, Duration)>)>;

/// The watchdog; its thread ends with it.
pub(super) struct Watchdog {
    posts: Arc<Mutex<Posts>>,
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts a watchdog that ends runs which have had `limit` of the processor, and about a tenth.
    ///
    /// Errors: the system gives no thread.
    pub(super) fn start(limit: Duration) -> std::io::Result<Self> {
        let posts = Arc::new(Mutex::new(Posts::new()));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("decoder-watchdog".into()).spawn({
            let posts = Arc::clone(&posts);
            move || {
                let tick = (limit / 10).max(Duration::from_millis(1));
                while stopped.recv_timeout(tick) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    patrol(&mut posts.lock().unwrap_or_else(PoisonError::into_inner), limit);
                }
            }
        })?;
        Ok(Self { posts, stop, thread: Some(thread) })
    }

    /// Gives a worker its post.
    pub(super) fn post(&self) -> Post {
        let watched = Arc::new(Mutex::new(Watched::default()));
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.push((Arc::downgrade(&watched), None));
        Post(watched)
    }
}

/// Looks at every post once. A run that does not stop is interrupted again at the next look: the
/// signal is lost when it comes while the host itself works for the decoder.
fn patrol(posts: &mut Posts, limit: Duration) {
    posts.retain_mut(|(watched, seen)| {
        let Some(watched) = watched.upgrade() else { return false };
        let mut watched = lock(&watched);
        let run = watched.run;
        let Some((interrupter, clock)) = watched.running.clone() else {
            *seen = None;
            return true;
        };
        match *seen {
            Some((of, since)) if of == run => {
                if clock.read().saturating_sub(since) >= limit {
                    watched.interrupted = true;
                    interrupter.interrupt();
                }
            }
            _ => *seen = Some((run, clock.read())),
        }
        true
    });
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // The thread may have ended already only if it panicked; then there is nobody to tell.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
