//! `weir serve`

use super::Settings;
use crate::{runtime, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Run the daemon.
#[derive(clap::Args, Debug)]
pub(super) struct Serve {}

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
        let listening = |address| tracing::info!(%address, "uplinks are taken");
        Ok(runtime::serve(config, listening, shutdown).await?)
    }
}
