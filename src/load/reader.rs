//! Owns the latency of reading while a log is worked off: one series' day, from the tables, again and again.
//!
//! Each series is read twice and the second reading counts: what a dashboard asks for was mostly asked for before.

use super::Fleet;
use crate::store::Timestamp;
use dataflows::model::{DAY_US, TenantNo};
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::{Client, Error};

/// Time between two readings, so that they do not become the load.
const PAUSE: Duration = Duration::from_millis(250);
/// Steps over the fleet's devices from one reading to the next; a prime.
const STRIDE: usize = 7919;

/// Reads until `stop` is true, and gives how long each reading took, in microseconds. The day is the one that
/// begins with the fleet's schedule.
///
/// Errors: the tables cannot be read.
pub async fn read_days(
    client: Client,
    fleet: &Fleet,
    tenant: TenantNo,
    mut stop: watch::Receiver<bool>,
) -> Result<Histogram<u64>, Error> {
    let of_device = client.prepare("SELECT min(series_id) FROM series WHERE tenant_no = $1 AND device = $2").await?;
    let sql = "SELECT count(*), avg(value) FROM measurement WHERE series_id = $1 AND ts >= $2 AND ts < $3";
    let day = client.prepare(sql).await?;
    let (from, to) = (Timestamp(fleet.spec().start.0), Timestamp(fleet.spec().start.0 + DAY_US));
    let mut latency = Histogram::new_with_max(60_000_000, 3).expect("three digits up to a minute can be told apart");
    let members = fleet.members();
    for device in (0..).map(|nth: usize| &members[nth.wrapping_mul(STRIDE) % members.len()]) {
        let series = client.query_one(&of_device, &[&tenant.0.cast_signed(), &device.id.as_str()]).await?;
        // A device whose first uplink was not reached yet has none.
        if let Some(series) = series.get::<_, Option<i64>>(0) {
            client.query_one(&day, &[&series, &from, &to]).await?;
            let asked = Instant::now();
            client.query_one(&day, &[&series, &from, &to]).await?;
            latency.saturating_record(asked.elapsed().as_micros() as u64);
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Ok(latency)
}
