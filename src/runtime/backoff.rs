//! How the committer waits. Waiting comes in from outside, as clocks do: a simulation waits by its own time.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// First wait after a failure.
const MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const MAX: Duration = Duration::from_secs(5);

/// Waits.
#[derive(Clone)]
pub(super) struct Pauses(Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>);

impl Pauses {
    /// Waits as `pause` does.
    #[cfg(test)]
    pub(super) fn new(pause: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(pause))
    }

    /// By the runtime's time.
    pub(super) fn system() -> Self {
        Self(Arc::new(|duration| Box::pin(tokio::time::sleep(duration))))
    }

    /// Waits for so long.
    pub(super) async fn pause(&self, duration: Duration) {
        (self.0)(duration).await;
    }
}

/// Waits that double, with jitter from the clock's last digits: many daemons must not come back at once.
pub(super) struct Backoff {
    /// The next wait, without its jitter.
    pub(super) next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: MIN }
    }
}

impl Backoff {
    /// Waits, each time longer.
    pub(super) async fn wait(&mut self, pauses: &Pauses) {
        let jitter = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos() % 256);
        pauses.pause(self.next.mul_f64(0.75 + f64::from(jitter) / 512.0)).await;
        self.next = (self.next * 2).min(MAX);
    }
}
