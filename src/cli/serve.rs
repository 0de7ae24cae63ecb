//! `weir serve`

use super::Settings;
use crate::runtime::{self, Start};
use crate::telemetry;
use tokio::signal::unix::{SignalKind, signal};

/// Run the daemon.
#[derive(clap::Args, Debug)]
pub(super) struct Serve {
    /// Take over from the daemon that runs with the same data directory: it is told to stop, and no connection is
    /// refused in between.
    #[arg(long)]
    take_over: bool,
}

impl Serve {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let config = settings.load()?;
        telemetry::start()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let start = if self.take_over { Start::TakeOver } else { Start::Alone };
        let listening = |address| tracing::info!(%address, "uplinks are taken");
        Ok(runtime::serve(config, start, listening, shutdown).await?)
    }
}
