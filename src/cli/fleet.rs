//! What `weir demo` and `weir load` share: a fleet in an empty database, and a daemon in front of it.

use super::{Settings, registry::new_token};
use crate::client::Client;
use crate::config::Config;
use crate::load::daemon::{Daemon, DaemonOptions};
use crate::load::register::{Tokens, register};
use crate::load::{Fleet, fresh};
use crate::registry::QuotaChange;
use crate::registry::admin::NewTenant;
use crate::store::Store;
use anyhow::bail;
use dataflows::model::{LogTime, Offset, Partition, TenantNo};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How often the daemon is asked how far it is.
const POLL: Duration = Duration::from_millis(20);
/// How long the daemon may take to see a small fleet's devices, and to commit what is left at the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What each device adds to that.
const PATIENCE_A_DEVICE: Duration = Duration::from_millis(3);

/// How long the daemon may take for what it does once for each device.
pub(super) fn patience(devices: u32) -> Duration {
    PATIENCE + PATIENCE_A_DEVICE * devices
}

/// Connects to a database that holds no tenant yet, and gives it weir's tables.
pub(super) async fn empty_store(config: &Config) -> anyhow::Result<Store> {
    let mut store = Store::connect(config.database.store()).await?;
    fresh::database(&store.client().await?).await?;
    store.migrate(config.log.partitions).await?;
    Ok(store)
}

/// Registers a fleet as the devices of a new tenant.
pub(super) async fn register_fleet(store: &Store, fleet: &Fleet, tenant: &str) -> anyhow::Result<(TenantNo, Tokens)> {
    let tenant = NewTenant {
        name: tenant.into(),
        zone: "UTC".into(),
        heartbeat: "1 hour".into(),
        lateness_horizon: format!("{} microseconds", fleet.spec().lateness_horizon_us),
        class: "standard".into(),
        quota: QuotaChange::default(),
    };
    let tokens = Tokens { write: new_token(), read: new_token() };
    let tenant = register(&mut store.client().await?, fleet, &tenant, &tokens).await?;
    Ok((tenant, tokens))
}

/// What a daemon with these settings is started with.
pub(super) fn daemon_options(settings: &Settings, config: &Config, listen: SocketAddr) -> DaemonOptions {
    let over = vec![
        // Not an argument: other users of the machine can read those.
        ("WEIR_DATABASE_URL", config.database.url.clone()),
        ("WEIR_LOG_DIR", config.log.dir.display().to_string()),
    ];
    DaemonOptions { config: settings.config.clone(), listen, settings: over }
}

/// Asks the daemon for its status until it is as wanted.
///
/// Errors: the daemon has ended, or is not there in time.
pub(super) async fn await_status(
    daemon: &Daemon,
    patience: Duration,
    mut wanted: impl FnMut(&Value) -> bool,
) -> anyhow::Result<Value> {
    daemon
        .with(async {
            let mut client = Client::new(&daemon.url(), None)?;
            let deadline = Instant::now() + patience;
            loop {
                let status = client.json("/status").await?;
                if wanted(&status) {
                    return Ok(status);
                }
                if Instant::now() > deadline {
                    bail!("the daemon is not there after {} s: {status}", patience.as_secs());
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await
}

/// Waits until the daemon is ready and has taken the devices in.
pub(super) async fn await_devices(daemon: &Daemon, devices: u32) -> anyhow::Result<Value> {
    let all = Some(u64::from(devices));
    await_status(daemon, patience(devices), |status| status["ready"] == true && status["devices"].as_u64() >= all).await
}

/// Whether everything in the log is committed.
pub(super) fn is_drained(status: &Value) -> bool {
    status["ready"] == true && status["lag_records"] == 0
}

/// The ends of the log's partitions.
pub(super) fn log_ends(status: &Value) -> Vec<(Partition, Offset)> {
    let partitions = status["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    let end = |(no, partition): (u16, &Value)| (Partition(no), Offset(partition["log_end"].as_u64().unwrap_or(0)));
    (0..).zip(partitions).map(end).collect()
}

/// The machine's clock.
pub(super) fn now() -> LogTime {
    LogTime(jiff::Timestamp::now().as_microsecond())
}
