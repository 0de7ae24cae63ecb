//! Ctrl-C and SIGTERM, for commands that have something to put away before they end.

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The signals since the command began to listen.
pub(super) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Listens from now on, instead of ending at once.
    pub(super) fn listen() -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(counted))
    }

    /// Waits for the next signal from now on.
    pub(super) async fn next(&self) {
        let mut counted = self.0.clone();
        counted.mark_unchanged();
        // The listening task lasts as long as the runtime, so this never is an error.
        let _ = counted.changed().await;
    }

    /// Does something unless a signal comes.
    ///
    /// Errors: a signal came, or those of `work`.
    pub(super) async fn unless<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            () = self.next() => bail!("stopped by a signal"),
            done = work => done,
        }
    }
}
