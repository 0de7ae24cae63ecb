//! Owns the latency from due to visible: it watches the fleet's probes until each of their uplinks shows up,
//! in a SELECT and at the query endpoint.
//!
//! A watcher looks every few milliseconds while something is due and not yet seen, and rests otherwise, so that
//! it does not become the load.

use super::{Due, Fleet};
use crate::client::{Client as HttpClient, ClientError};
use crate::store::Timestamp;
use dataflows::model::{EventTime, TenantNo};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{Client, Statement};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(4);
/// What is not seen so long after it was due is given up. Unit: seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the watching of probes found.
#[derive(Debug, Default)]
pub struct Seen {
    /// Those that were seen: when each was due, and how long after that it was visible.
    pub seen: Vec<(Instant, Duration)>,
    /// Uplinks that were not seen within a minute, or not at all before the watching ended.
    pub unseen: u64,
}

impl Seen {
    /// Gives the latencies from due to visible. Unit: microseconds.
    pub fn latency(&self) -> Histogram<u64> {
        histogram(self.seen.iter().map(|&(_, after)| after))
    }

    /// Gives the latencies of those that were due within `near` before or behind one of these moments. Unit: microseconds.
    pub fn latency_about(&self, moments: &[Instant], near: Duration) -> Histogram<u64> {
        let is_near = |due: Instant| moments.iter().any(|&at| due.max(at) - due.min(at) <= near);
        histogram(self.seen.iter().filter(|&&(due, _)| is_near(due)).map(|&(_, after)| after))
    }
}

fn histogram(latencies: impl Iterator<Item = Duration>) -> Histogram<u64> {
    let max_us = PATIENCE.as_micros() as u64;
    let mut histogram = Histogram::new_with_max(max_us, 3).expect("three digits up to a minute can be told apart");
    latencies.for_each(|latency| histogram.saturating_record(latency.as_micros() as u64));
    histogram
}

/// The stretch of a fleet's schedule that is posted.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// When it begins.
    pub started: Instant,
    /// Where in the schedule. Unit: microseconds.
    pub from_us: u64,
    /// How long it is.
    pub span: Duration,
}

impl Stretch {
    /// Gives those of a schedule that are in it, each due at so many microseconds from its beginning.
    pub fn of(self, schedule: impl Iterator<Item = Due>) -> impl Iterator<Item = Due> {
        let span_us = u64::try_from(self.span.as_micros()).unwrap_or(u64::MAX);
        schedule
            .skip_while(move |due| due.due_us < self.from_us)
            .map(move |due| Due { due_us: due.due_us - self.from_us, ..due })
            .take_while(move |due| due.due_us < span_us)
    }
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
#[derive(Default)]
struct Pending {
    /// By device, oldest first: when each was due, and its event time. A device without one is not there.
    due: BTreeMap<u32, VecDeque<(Instant, EventTime)>>,
    seen: Seen,
}

/// Watches the probes of a fleet that posts a stretch of its schedule, until all are seen or `stop` is true.
///
/// Errors: the place cannot be looked at.
pub async fn watch(
    fleet: &Fleet,
    mut place: Place,
    stretch: Stretch,
    mut stop: watch::Receiver<bool>,
) -> Result<Seen, ProbeError> {
    let name = |device: u32| fleet.member(device).id.as_str();
    let due_at = |due: &Due| stretch.started + Duration::from_micros(due.due_us);
    let mut schedule = stretch.of(fleet.probe_schedule()).peekable();
    let mut pending = Pending::default();
    loop {
        let now = Instant::now();
        while let Some(next) = schedule.next_if(|due| due_at(due) <= now) {
            pending.due.entry(next.uplink.device).or_default().push_back((due_at(&next), next.uplink.received_at));
        }
        match (pending.oldest(), schedule.peek()) {
            (None, None) => return Ok(pending.seen),
            (None, Some(next)) => {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return Ok(pending.seen),
                    () = sleep_until(due_at(next)) => {}
                }
            }
            (Some(since), _) => {
                let looked_for: Vec<&str> = pending.due.keys().map(|&device| name(device)).collect();
                let found = place.newest(&looked_for, since).await?;
                pending.look(|device| found.get(name(device)).copied(), Instant::now());
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return Ok(pending.end()),
                    () = sleep(LOOK) => {}
                }
            }
        }
    }
}

impl Pending {
    /// The smallest event time that waits to be seen.
    fn oldest(&self) -> Option<EventTime> {
        self.due.values().filter_map(|due| due.front()).map(|(_, at)| *at).min()
    }

    /// Takes in what is visible now: the newest event time of a probe.
    fn look(&mut self, newest: impl Fn(u32) -> Option<EventTime>, now: Instant) {
        let Self { due, seen } = self;
        due.retain(|&device, due| {
            let newest = newest(device);
            while let Some(&(due_at, at)) = due.front() {
                let since_due = now.saturating_duration_since(due_at);
                if newest.is_some_and(|newest| newest >= at) {
                    seen.seen.push((due_at, since_due));
                } else if since_due >= PATIENCE {
                    seen.unseen += 1;
                } else {
                    break;
                }
                due.pop_front();
            }
            !due.is_empty()
        });
    }

    fn end(mut self) -> Seen {
        self.seen.unseen += self.due.values().map(VecDeque::len).sum::<usize>() as u64;
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
    use crate::load::FleetSpec;
    use serde_json::json;

    #[test]
    fn an_uplink_is_seen_with_itself_or_a_later_one_and_given_up_after_a_minute() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pending = Pending::default();
        pending.due.entry(0).or_default().extend([(at(0), EventTime(10)), (at(100), EventTime(20)), (at(200), EventTime(30))]);
        pending.due.entry(1).or_default().push_back((at(0), EventTime(5)));
        assert_eq!((pending.oldest(), pending.due.len()), (Some(EventTime(5)), 2));
        pending.look(|device| (device == 0).then_some(EventTime(20)), at(300));
        let ms = Duration::from_millis;
        assert_eq!(pending.seen.seen, [(at(0), ms(300)), (at(100), ms(200))]);
        assert_eq!(pending.oldest(), Some(EventTime(5)));
        pending.look(|_| None, at(60_000));
        assert_eq!((pending.seen.unseen, pending.oldest(), pending.due.len()), (1, Some(EventTime(30)), 1));
        assert_eq!(pending.end().unseen, 2);
    }

    #[test]
    fn latencies_are_told_of_all_and_of_those_due_about_a_moment() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let seen = Seen { seen: [0, 900, 1000, 2100, 2101].map(|ms| (at(ms), Duration::from_micros(ms))).into(), unseen: 0 };
        assert_eq!(seen.latency().len(), 5);
        let about = |moments: &[Instant]| seen.latency_about(moments, Duration::from_millis(100));
        assert_eq!((about(&[]).len(), about(&[at(1000)]).len(), about(&[at(950), at(2000)]).len()), (0, 2, 3));
        assert!(about(&[at(1000)]).max().abs_diff(1000) <= 1, "to three digits");
    }

    #[test]
    fn a_stretch_begins_where_it_is_told_to_and_is_as_long_as_it_is_told_to() {
        let fleet = Fleet::new(FleetSpec { devices: 20, ..FleetSpec::default() }).unwrap();
        let from_us = fleet.schedule().nth(30).unwrap().due_us;
        let stretch = Stretch { started: Instant::now(), from_us, span: Duration::from_secs(5) };
        let due: Vec<u64> = stretch.of(fleet.schedule()).map(|due| due.due_us).collect();
        let expected: Vec<u64> = fleet.schedule().skip(30).map(|due| due.due_us - from_us).take(due.len()).collect();
        assert_eq!(due, expected);
        assert!(due[0] == 0 && due.len() > 15 && due.iter().all(|&due_us| due_us < 5_000_000), "{due:?}");
    }

    #[test]
    fn the_newest_time_of_a_device_is_read() {
        let device = json!({"fields": [{"time": "1970-01-01T00:00:01Z"}, {"time": "1970-01-01T00:00:02.5Z"}, {"time": "x"}]});
        assert_eq!(newest_of(&device), Some(EventTime(2_500_000)));
        assert_eq!(newest_of(&json!({"fields": []})), None);
    }
}
