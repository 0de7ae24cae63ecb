//! Order of arrival: the same readings in the order of their event times, and disordered within the
//! lateness horizon, with copies and histories. The rows of the first are among those of the second,
//! both draw the same step function, and the merged rollups are equal.

use crate::database::Kind;
use crate::filled_log::{BEGIN_US, FilledLog};
use crate::models::{Model, Models};
use crate::random::Random;
use crate::run::Target;
use crate::{repeat, seed_or};
use dataflows::model::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;
use weir::log::Log;
use weir::runtime::Pace;
use weir::store::Timestamp;

const DEVICES: u32 = 6;
const READINGS_PER_DEVICE: usize = 150;

/// One reading of one device. Halves have an exact binary form, so that sums do not tell the order.
#[derive(Clone, Copy, Debug)]
struct Reading {
    device: u32,
    at_us: i64,
    arrives_us: i64,
    level: f64,
    flow: f64,
}

/// Checks the claim for the readings of a seed.
pub(crate) async fn check(kind: Kind, seed: u64) {
    let seed = seed_or(seed);
    let run = repeat(seed);
    let readings = readings(seed);
    let dir = tempfile::tempdir().unwrap();
    let (models, in_order, disordered) = {
        let (path, readings) = (dir.path().to_owned(), readings.clone());
        tokio::task::spawn_blocking(move || {
            let models = Models::open(&path.join("decoders"));
            let in_order = write(&path.join("in order"), &models, &one_by_one(&readings));
            let disordered = write(&path.join("disordered"), &models, &as_they_arrive(seed, &readings));
            (models, in_order, disordered)
        })
        .await
        .unwrap()
    };
    let in_order = Found::by(kind, &in_order, &models).await;
    let disordered = Found::by(kind, &disordered, &models).await;

    let missing: Vec<_> = in_order.rows.difference(&disordered.rows).take(5).collect();
    assert!(missing.is_empty(), "{missing:?} are not among the rows of disordered arrival, {run}");
    for reading in &readings {
        // Not `flow`, which has a deadband: within it the curves may differ.
        for (found, what) in [(&in_order, "in order"), (&disordered, "disordered")] {
            let drawn = found.drawn(&format!("pump-{}", reading.device), "level", reading.at_us);
            assert_eq!(drawn, Some(reading.level), "{what}: {reading:?}, {run}");
        }
    }
    assert_eq!(in_order.rollups, disordered.rollups, "{run}");
    assert!(disordered.rows.len() > in_order.rows.len(), "no row came late, {run}");
}

fn readings(seed: u64) -> Vec<Reading> {
    let mut random = Random::new(seed, 0);
    let mut readings: Vec<Reading> = Vec::new();
    for device in 0..DEVICES {
        let mut at_us = BEGIN_US;
        for _ in 0..READINGS_PER_DEVICE {
            at_us += MINUTE_US + random.below(4) as i64 * 30 * SECOND_US;
            let delay_us = if random.share() < 0.5 { 0 } else { random.below(8 * 60) as i64 * SECOND_US };
            let (level, flow) = (random.below(3) as f64 / 2.0, random.below(6) as f64 / 2.0);
            let arrives_us = at_us + delay_us;
            // Some wait for the next one, and come with it.
            if let Some(last) = readings.last_mut().filter(|last| last.device == device)
                && (last.arrives_us..last.at_us + 9 * MINUTE_US).contains(&arrives_us)
                && random.share() < 0.3
            {
                last.arrives_us = arrives_us;
            }
            readings.push(Reading { device, at_us, arrives_us, level, flow });
        }
    }
    readings
}

/// An uplink: when the log takes it in, whose it is, and its frame.
type Sent = (i64, u32, String);

fn one_by_one(readings: &[Reading]) -> Vec<Sent> {
    let mut sent: Vec<Sent> = readings.iter().map(|reading| (reading.at_us, reading.device, frame(&[*reading]))).collect();
    sent.sort_by_key(|(at_us, ..)| *at_us);
    sent
}

/// Readings that arrive together come as a history; some uplinks come twice.
fn as_they_arrive(seed: u64, readings: &[Reading]) -> Vec<Sent> {
    let mut random = Random::new(seed, 1);
    let mut together: BTreeMap<(i64, u32), Vec<Reading>> = BTreeMap::new();
    readings.iter().for_each(|reading| together.entry((reading.arrives_us, reading.device)).or_default().push(*reading));
    let mut sent = Vec::new();
    for ((arrives_us, device), mut readings) in together {
        if random.share() < 0.5 {
            readings.reverse();
        }
        let frame = frame(&readings);
        if random.share() < 0.1 {
            sent.push((arrives_us + 10 * SECOND_US, device, frame.clone()));
        }
        sent.push((arrives_us, device, frame));
    }
    sent.sort();
    sent
}

fn frame(readings: &[Reading]) -> String {
    let row = |reading: &Reading| json!({ "timestamp": reading.at_us / 1000, "level": reading.level, "flow": reading.flow });
    json!({ "history": readings.iter().map(row).collect::<Vec<_>>() }).to_string()
}

fn write(dir: &std::path::Path, models: &Models, sent: &[Sent]) -> Log {
    let mut log = FilledLog::open(dir);
    let flow = FieldSpec { deadband_bits: 1.0f64.to_bits(), ..FieldSpec::default() };
    let template = models.template(Model::Scripted, BTreeMap::from([("flow", flow)]));
    let everywhere = |log: &mut FilledLog, record: &Record| {
        (0..log.partitions()).for_each(|partition| log.add(Partition(partition), record));
    };
    let tenant = TenantNo(1);
    let policy = Policy { zone: "Europe/Berlin".into(), ..Policy::default() };
    everywhere(&mut log, &Record::Registry(Box::new(RegistryChange::Tenant(Tenant { no: tenant, policy }.into()))));
    everywhere(&mut log, &Record::Registry(Box::new(RegistryChange::Template(template.into()))));
    for number in 0..DEVICES {
        let (no, id) = (DeviceNo(u64::from(number) + 1), id_of(number));
        let partition = Partition::of(&id, log.partitions());
        let (template, variables, zone, provisioned) = (Model::Scripted.no(), BTreeMap::new(), None, false);
        let device = Device { no, tenant, id, template, variables, zone, provisioned };
        log.add(partition, &Record::Registry(Box::new(RegistryChange::Device(device.into()))));
    }
    for (at_us, device, frame) in sent {
        let pause_us = at_us - log.now_us();
        log.pass(pause_us);
        let uplink = Uplink {
            tenant,
            device: id_of(*device),
            received_at: EventTime(*at_us),
            fport: Some(2),
            fcnt: None,
            message_id: Some(frame.as_str().into()),
            frame: frame.clone().into_bytes(),
            decoded: None,
            receptions: vec![],
        };
        log.add(Partition::of(&uplink.device, log.partitions()), &Record::Uplink(Box::new(uplink)));
    }
    log.pass(3 * DAY_US);
    everywhere(&mut log, &Record::Tick);
    log.finish()
}

fn id_of(device: u32) -> DeviceId {
    DeviceId::parse(&format!("pump-{device}")).unwrap()
}

/// What a run left in the tables, with series by their names, for their numbers tell the order of arrival.
struct Found {
    /// Device, field, event time, and the bits of the value.
    rows: BTreeSet<(String, String, i64, u64)>,
    rollups: Vec<String>,
}

impl Found {
    async fn by(kind: Kind, log: &Log, models: &Models) -> Self {
        let target = Target::create(kind, log.partitions()).await;
        target.work_off(log, &models.decoders, 2, Pace::default()).await;
        let sql = "SELECT device, field, ts, value FROM measurement_named";
        let rows = target.client.query(sql, &[]).await.unwrap();
        let row =
            |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get::<_, Timestamp>(2).0, row.get::<_, f64>(3).to_bits());
        let mut rollups = merged(&target.client, "rollup_1h_merged", "bucket").await;
        rollups.extend(merged(&target.client, "rollup_1d_merged", "bucket_end").await);
        assert!(rollups.len() > DEVICES as usize * 4, "{rollups:?}");
        Self { rows: rows.iter().map(row).collect(), rollups }
    }

    /// The value that the step function has.
    fn drawn(&self, device: &str, field: &str, at_us: i64) -> Option<f64> {
        let named = |at_us, bits| (device.to_owned(), field.to_owned(), at_us, bits);
        self.rows.range(named(i64::MIN, 0)..=named(at_us, u64::MAX)).next_back().map(|(.., bits)| f64::from_bits(*bits))
    }
}

/// All of the merged rollups but the offsets, which are those of the log.
async fn merged(client: &Client, view: &str, end: &str) -> Vec<String> {
    let sql = format!(
        "SELECT (device, field, bucket, {end}, count, sum, min, max, first, first_ts, last, last_ts)::text \
         FROM {view} JOIN series USING (series_id) ORDER BY 1"
    );
    client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
