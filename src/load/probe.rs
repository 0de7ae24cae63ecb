//! Owns the latency from due to visible: it watches the fleet's probes until each of their uplinks shows up,
//! in a SELECT and at the query endpoint.
//!
//! A watcher looks every few milliseconds while something is due and not yet seen, and rests otherwise, so that
//! it does not become the load.

use super::Fleet;
use crate::client::{Client as HttpClient, ClientError};
use crate::store::Timestamp;
use dataflows::model::{EventTime, TenantNo};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{Client, Statement};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(4);
/// What is not seen so long after it was due is given up. Unit: seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the watching of probes found.
#[derive(Debug)]
pub struct Seen {
    /// From due to visible. Unit: microseconds.
    pub latency: Histogram<u64>,
    /// Uplinks that were not seen within a minute, or not at all before the watching ended.
    pub unseen: u64,
}

/// Why watching ended early.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The tables.
    #[error("the probes cannot be looked for in the tables: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// The endpoint.
    #[error("the probes cannot be looked for at the query endpoint: {0}")]
    Endpoint(#[from] ClientError),
}

/// Where a probe's newest value is looked for.
pub enum Place {
    /// In the raw table, on a connection of its own.
    Tables {
        /// The connection.
        client: Client,
        /// The SELECT.
        newest: Statement,
        /// The fleet's tenant.
        tenant: TenantNo,
    },
    /// At `/v1/latest`.
    Endpoint(HttpClient),
}

/// The uplinks of the probes that are due and not yet seen.
struct Pending {
    /// By device, oldest first: when each was due, and its event time.
    due: Vec<VecDeque<(Instant, EventTime)>>,
    seen: Seen,
}

/// Watches the probes of a fleet whose schedule started at `started`, for `span` of it, until all are seen or
/// `stop` is true.
///
/// Errors: the place cannot be looked at.
pub async fn watch(
    fleet: &Fleet,
    mut place: Place,
    started: Instant,
    span: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<Seen, ProbeError> {
    let probes = &fleet.members()[..fleet.spec().probes.min(fleet.spec().devices) as usize];
    let names: Vec<&str> = probes.iter().map(|probe| probe.id.as_str()).collect();
    let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let mut schedule = fleet.probe_schedule().take_while(|due| due.due_us < span_us).peekable();
    let mut pending = Pending::new(names.len());
    loop {
        let now = Instant::now();
        while let Some(next) = schedule.next_if(|due| started + Duration::from_micros(due.due_us) <= now) {
            pending.due[next.uplink.device as usize]
                .push_back((started + Duration::from_micros(next.due_us), next.uplink.received_at));
        }
        match (pending.oldest(), schedule.peek()) {
            (None, None) => return Ok(pending.seen),
            (None, Some(next)) => {
                let due_at = started + Duration::from_micros(next.due_us);
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return Ok(pending.seen),
                    () = sleep_until(due_at) => {}
                }
            }
            (Some(since), _) => {
                let looked_for: Vec<&str> = pending.devices().map(|device| names[device]).collect();
                let found = place.newest(&looked_for, since).await?;
                let newest: Vec<_> = names.iter().map(|name| found.get(*name).copied()).collect();
                pending.look(&newest, Instant::now());
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return Ok(pending.end()),
                    () = sleep(LOOK) => {}
                }
            }
        }
    }
}

impl Pending {
    fn new(probes: usize) -> Self {
        let latency =
            Histogram::new_with_max(PATIENCE.as_micros() as u64, 3).expect("three digits up to a minute can be told apart");
        Self { due: vec![VecDeque::new(); probes], seen: Seen { latency, unseen: 0 } }
    }

    /// The devices of which something waits to be seen.
    fn devices(&self) -> impl Iterator<Item = usize> {
        self.due.iter().enumerate().filter(|(_, due)| !due.is_empty()).map(|(device, _)| device)
    }

    /// The smallest event time that waits to be seen.
    fn oldest(&self) -> Option<EventTime> {
        self.due.iter().filter_map(|due| due.front()).map(|(_, at)| *at).min()
    }

    /// Takes in what is visible now: the newest event time of each probe.
    fn look(&mut self, newest: &[Option<EventTime>], now: Instant) {
        for (due, newest) in self.due.iter_mut().zip(newest) {
            while let Some((due_at, at)) = due.front() {
                let since_due = now.saturating_duration_since(*due_at);
                if newest.is_some_and(|newest| newest >= *at) {
                    self.seen.latency.saturating_record(since_due.as_micros() as u64);
                } else if since_due >= PATIENCE {
                    self.seen.unseen += 1;
                } else {
                    break;
                }
                due.pop_front();
            }
        }
    }

    fn end(mut self) -> Seen {
        self.seen.unseen += self.due.iter().map(VecDeque::len).sum::<usize>() as u64;
        self.seen
    }
}

impl Place {
    /// In the raw table, looked at over `client`.
    ///
    /// Errors: there is no such table.
    pub async fn tables(client: Client, tenant: TenantNo) -> Result<Self, ProbeError> {
        // Every reading of a probe changes; but a field with a deadband does not store every change.
        let sql = "SELECT s.device, max((SELECT max(ts) FROM measurement m WHERE m.series_id = s.series_id AND m.ts >= $3)) \
                   FROM series s WHERE s.tenant_no = $1 AND s.device = ANY($2) GROUP BY s.device";
        let newest = client.prepare(sql).await?;
        Ok(Self::Tables { client, newest, tenant })
    }

    /// Gives the newest visible event time of each probe that is not before `since`.
    async fn newest(&mut self, names: &[&str], since: EventTime) -> Result<HashMap<String, EventTime>, ProbeError> {
        Ok(match self {
            Self::Tables { client, newest, tenant } => {
                let rows = client.query(newest, &[&tenant.0.cast_signed(), &names, &Timestamp(since.0)]).await?;
                let newest = rows.iter().filter_map(|row| Some((row.get(0), EventTime(row.get::<_, Option<Timestamp>>(1)?.0))));
                newest.collect()
            }
            Self::Endpoint(client) => at_endpoint(client, names).await?,
        })
    }
}

async fn at_endpoint(client: &mut HttpClient, names: &[&str]) -> Result<HashMap<String, EventTime>, ClientError> {
    let answer = client.json(&format!("/v1/latest?device={}", names.join(","))).await?;
    let devices = answer["devices"].as_array().map_or(&[][..], Vec::as_slice);
    let newest = devices.iter().filter_map(|device| Some((device["device"].as_str()?.to_owned(), newest_of(device)?)));
    Ok(newest.collect())
}

fn newest_of(device: &Value) -> Option<EventTime> {
    let times = device["fields"].as_array()?.iter().filter_map(|field| field["time"].as_str()?.parse::<jiff::Timestamp>().ok());
    times.map(|time| EventTime(time.as_microsecond())).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_uplink_is_seen_with_itself_or_a_later_one_and_given_up_after_a_minute() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pending = Pending::new(2);
        pending.due[0].extend([(at(0), EventTime(10)), (at(100), EventTime(20)), (at(200), EventTime(30))]);
        pending.due[1].push_back((at(0), EventTime(5)));
        assert_eq!((pending.oldest(), pending.devices().collect::<Vec<_>>()), (Some(EventTime(5)), vec![0, 1]));
        pending.look(&[Some(EventTime(20)), None], at(300));
        // To three digits: the one that was due at 100 ms is the faster one.
        assert_eq!(pending.seen.latency.len(), 2);
        assert!(pending.seen.latency.min().abs_diff(200_000) < 1_000 && pending.seen.latency.max().abs_diff(300_000) < 1_000);
        assert_eq!(pending.oldest(), Some(EventTime(5)));
        pending.look(&[None, None], at(60_000));
        assert_eq!((pending.seen.unseen, pending.oldest()), (1, Some(EventTime(30))));
        assert_eq!(pending.end().unseen, 2);
    }

    #[test]
    fn the_newest_time_of_a_device_is_read() {
        let device = json!({"fields": [{"time": "1970-01-01T00:00:01Z"}, {"time": "1970-01-01T00:00:02.5Z"}, {"time": "x"}]});
        assert_eq!(newest_of(&device), Some(EventTime(2_500_000)));
        assert_eq!(newest_of(&json!({"fields": []})), None);
    }
}
