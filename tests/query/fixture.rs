//! Two tenants with a device each, rows in the tables, the newest partials in memory, and the endpoint over it all.

use crate::database::{Kind, TestDatabase};
use dataflows::model::{
    BucketLevel, CatalogueSeries, ClassNo, Counts, DAY_US, DeviceId, DeviceNo, EventTime, FieldNo, HOUR_US, LogTime, MINUTE_US,
    Offset, Outputs, Partial, Partition, Placed, Point, SeriesId, Stored, TenantNo, Value, ValueKind,
};
use deadpool_postgres::ConfigConnectImpl;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::NoTls;
use uuid::Uuid;
use weir::query::{Database, Latest, Limits, Memory, MemoryError, MemoryPartials, Query, ReadAccess, Readers, router};
use weir::store::{Advance, Commit, Commits, Committer, Store, StoreConfig};

/// The device of the first tenant.
pub(crate) const DEVICE: &str = "0004a30b001c0530";
/// The device of the other.
pub(crate) const RIVAL: &str = "pump-7";
/// The first record that is not committed.
pub(crate) const PROGRESS: u64 = 100;
const PARTITIONS: u16 = 16;
const LOG: Uuid = Uuid::from_u128(0x6c6f67);
/// 2026-11-22 00:00 UTC. Unit: microseconds since the Unix epoch.
const DAY: i64 = 1_795_305_600_000_000;
/// 2026-11-22 14:10 UTC.
const NOW: EventTime = EventTime(DAY + 14 * HOUR_US + 10 * MINUTE_US);

/// An answer, as far as tests look at it.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

/// The endpoint, served on the loopback until the test ends.
pub(crate) struct Fixture {
    pub(crate) address: String,
    database: Option<TestDatabase>,
}

impl Fixture {
    /// Serves the endpoint over a database with rows.
    pub(crate) async fn new(kind: Kind) -> Self {
        let database = TestDatabase::create(kind).await;
        fill(&database).await;
        let address = serve(&database.url(), held(), Limits::default()).await;
        Self { address, database: Some(database) }
    }

    /// Serves it with a memory that has processed the records below `position` only, and no patience with it.
    pub(crate) async fn replaying(position: u64) -> Self {
        let database = TestDatabase::create(Kind::Plain).await;
        fill(&database).await;
        let held = Held { position: Offset(position), ..held() };
        let limits = Limits { patience: Duration::ZERO, ..Limits::default() };
        let address = serve(&database.url(), held, limits).await;
        Self { address, database: Some(database) }
    }

    /// Serves it over a database that lacks records which the memory has forgotten, as a replica that lags does.
    pub(crate) async fn lagging() -> Self {
        let database = TestDatabase::create(Kind::Plain).await;
        fill(&database).await;
        let held = Held { floor: Offset(PROGRESS + 1), ..held() };
        let address = serve(&database.url(), held, Limits::default()).await;
        Self { address, database: Some(database) }
    }

    /// Serves it with other limits.
    pub(crate) async fn limited(limits: Limits) -> Self {
        let database = TestDatabase::create(Kind::Plain).await;
        fill(&database).await;
        let address = serve(&database.url(), held(), limits).await;
        Self { address, database: Some(database) }
    }

    /// Serves it over a database that does not answer.
    pub(crate) async fn without_database() -> Self {
        // The port was free a moment ago, and nobody listens there.
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let url = format!("postgres://weir@127.0.0.1:{port}/weir");
        Self { address: serve(&url, held(), Limits::default()).await, database: None }
    }

    /// Changes the tables beside weir.
    pub(crate) async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// Gives a connection beside weir.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        self.database.as_ref().expect("the test has a database").client().await
    }

    /// Asks with the first tenant's token.
    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.ask(path, &[("authorization", "Bearer reader")]).await
    }

    pub(crate) async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answered {
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answered { status, headers, body: response.text().await.unwrap() }
    }
}

async fn serve(url: &str, memory: Held, limits: Limits) -> String {
    let database = Database::new(url.parse().unwrap(), ConfigConnectImpl { tls: NoTls }, 2, Duration::from_secs(30));
    let query = Query { memory, readers: Tokens, database, partitions: PARTITIONS, limits, clock: Arc::new(|| NOW) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It ends with the test's runtime.
    tokio::spawn(axum::serve(listener, router(query)).into_future());
    address
}

struct Tokens;

impl Readers for Tokens {
    fn authenticate(&self, token: &str) -> Option<ReadAccess> {
        match token {
            "reader" => Some(ReadAccess { tenant: TenantNo(1), may_read: true }),
            "rival" => Some(ReadAccess { tenant: TenantNo(2), may_read: true }),
            "writer" => Some(ReadAccess { tenant: TenantNo(1), may_read: false }),
            _ => None,
        }
    }
}

/// A memory that holds still.
struct Held {
    position: Offset,
    floor: Offset,
    open: Vec<Partial>,
    emitted: Vec<Placed<Partial>>,
}

impl Memory for Held {
    type Guard = ();

    fn guard(&self) {}

    async fn latest(&self, tenant: TenantNo, device: DeviceId) -> Result<Vec<Latest>, MemoryError> {
        if tenant != TenantNo(1) || device.as_str() != DEVICE {
            return Ok(Vec::new());
        }
        let place = Value::Location { latitude: 48.85, longitude: 2.35, altitude: Some(35.0) };
        Ok(vec![
            latest(0, "temperature", Some("°C"), at(12, 5), Value::Number(19.5)),
            latest(1, "temperature", Some("°F"), at(-20, 0), Value::Number(64.4)),
            latest(2, "door", None, at(9, 0), Value::Boolean(true)),
            latest(3, "status", None, at(8, 1), Value::Text("ok".into())),
            latest(4, "position", None, at(8, 2), place),
        ])
    }

    async fn partials(&self, _: Partition, series: Vec<SeriesId>, level: BucketLevel) -> Result<MemoryPartials, MemoryError> {
        let asked = |partial: &Partial| partial.level == level && series.contains(&partial.series);
        let open = self.open.iter().filter(|partial| asked(partial)).cloned().collect();
        let emitted = self.emitted.iter().filter(|partial| asked(&partial.row)).cloned().collect();
        Ok(MemoryPartials { position: self.position, floor: self.floor, open, emitted })
    }
}

fn at(hour: i64, minute: i64) -> EventTime {
    EventTime(DAY + hour * HOUR_US + minute * MINUTE_US)
}

fn series(field: u16) -> SeriesId {
    SeriesId::new(DeviceNo(7), FieldNo(field))
}

fn latest(field_no: u16, field: &str, unit: Option<&str>, at: EventTime, value: Value) -> Latest {
    Latest { series: series(field_no), field: field.into(), unit: unit.map(Into::into), at, value }
}

/// A partial of measurements (hour, minute, value), each of which came one record after the one before, from
/// `offset` on.
fn partial(level: BucketLevel, field: u16, start: EventTime, offset: u64, measured: &[(i64, i64, f64)]) -> Partial {
    let point = |index: usize| {
        let (hour, minute, value) = measured[index];
        Point { at: at(hour, minute), offset: Offset(offset + index as u64), value }
    };
    let values = || measured.iter().map(|(_, _, value)| *value);
    Partial {
        class: ClassNo(0),
        level,
        series: series(field),
        start,
        end: EventTime(start.0 + if level == BucketLevel::Hour { HOUR_US } else { DAY_US }),
        count: measured.len() as u64,
        sum: values().sum(),
        min: values().fold(f64::INFINITY, f64::min),
        max: values().fold(f64::NEG_INFINITY, f64::max),
        first: point(0),
        last: point(measured.len() - 1),
    }
}

/// Temperatures by hour, with the offset of the first. Those of the last evening are in another UTC day, but in the
/// same day of Paris. The hour from 09:00 got late measurements, the one from 12:00 is open.
const EVENING: (u64, &[(i64, i64, f64)]) = (10, &[(-1, 30, 18.0), (-1, 45, 18.0)]);
const EIGHT: (u64, &[(i64, i64, f64)]) = (20, &[(8, 0, 20.0), (8, 10, 20.0), (8, 20, 21.0), (8, 30, 21.0), (8, 50, 20.5)]);
const NINE: (u64, &[(i64, i64, f64)]) = (30, &[(9, 30, 22.0), (9, 40, 22.0)]);
const NINE_LATE: (u64, &[(i64, i64, f64)]) = (90, &[(9, 15, 16.0)]);
const TWELVE: (u64, &[(i64, i64, f64)]) = (95, &[(12, 5, 19.5), (12, 6, 19.5)]);

fn hour(start: i64, (offset, measured): (u64, &[(i64, i64, f64)])) -> Partial {
    partial(BucketLevel::Hour, 0, at(start, 0), offset, measured)
}

fn held() -> Held {
    let day = [EVENING, EIGHT, NINE, NINE_LATE, TWELVE]
        .map(|(offset, measured)| partial(BucketLevel::Day, 0, at(-1, 0), offset, measured));
    let placed = |offset: u64, row: Partial| Placed { partition: partition(DEVICE), offset: Offset(offset), row };
    Held {
        position: Offset(PROGRESS + 20),
        floor: Offset(PROGRESS),
        open: [vec![hour(12, TWELVE)], day.into()].concat(),
        // The first is committed and not forgotten yet.
        emitted: vec![placed(PROGRESS - 1, hour(9, NINE)), placed(PROGRESS, hour(9, NINE_LATE))],
    }
}

fn partition(device: &str) -> Partition {
    Partition::of(&DeviceId::parse(device).unwrap(), PARTITIONS)
}

const REGISTRY: &str = "
    INSERT INTO retention_class (class_no, name) VALUES (1, 'long');
    INSERT INTO tenant (tenant_no, name, zone) VALUES (1, 'waterworks', 'Europe/Paris'), (2, 'rival', 'UTC');
    INSERT INTO template (template_no, name, decoding) VALUES (1, 'pump', 'upstream');
    INSERT INTO device (device_no, tenant_no, id, template_no, zone) VALUES
        (7, 1, '0004a30b001c0530', 1, NULL), (8, 2, 'pump-7', 1, NULL), (9, 1, 'silent', 1, 'Asia/Kolkata')";

async fn fill(database: &TestDatabase) {
    let mut store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
    store.migrate(PARTITIONS).await.unwrap();
    database.client().await.batch_execute(REGISTRY).await.unwrap();
    // The new class gets its tables.
    store.migrate(PARTITIONS).await.unwrap();
    let (partition, rival) = (partition(DEVICE), partition(RIVAL));
    let taken = store.take("test", LOG, &[(partition, Offset(1000)), (rival, Offset(1000))]).await.unwrap();
    let advance = |taken: &weir::store::Taken| Advance {
        partition: taken.partition,
        owner_epoch: taken.owner_epoch,
        from: taken.offset,
        to: Offset(PROGRESS),
        counts: Counts::default(),
        log_time: LogTime(DAY),
    };
    let commit = Commit { advances: taken.iter().map(advance).collect(), outputs: outputs(), checkpoint: None };
    Committer::connect(&store).await.unwrap().commit(Commits(&[&commit])).await.unwrap();
}

fn outputs() -> Outputs {
    let placed = |row| Placed { partition: partition(DEVICE), offset: Offset(1), row };
    let number = |class: u16, field: u16, hour: i64, minute: i64, value: f64| Placed {
        partition: partition(DEVICE),
        offset: Offset(1),
        row: Stored { class: ClassNo(class), series: series(field), at: at(hour, minute), value },
    };
    let text = |minute: i64, value: &str| Placed {
        partition: partition(DEVICE),
        offset: Offset(1),
        row: Stored { class: ClassNo(0), series: series(3), at: at(8, minute), value: value.into() },
    };
    let location = |minute: i64, value: (f64, f64, Option<f64>)| Placed {
        partition: partition(DEVICE),
        offset: Offset(1),
        row: Stored { class: ClassNo(0), series: series(4), at: at(8, minute), value },
    };
    let secret = Placed {
        partition: partition(RIVAL),
        offset: Offset(1),
        row: Stored { class: ClassNo(0), series: SeriesId::new(DeviceNo(8), FieldNo(0)), at: at(8, 0), value: 99.0 },
    };
    Outputs {
        series: vec![
            catalogue(1, DEVICE, series(0), "temperature", ValueKind::Number, Some("°C")),
            catalogue(1, DEVICE, series(1), "temperature", ValueKind::Number, Some("°F")),
            catalogue(1, DEVICE, series(2), "door", ValueKind::Boolean, None),
            catalogue(1, DEVICE, series(3), "status", ValueKind::Text, None),
            catalogue(1, DEVICE, series(4), "position", ValueKind::Location, None),
            catalogue(2, RIVAL, SeriesId::new(DeviceNo(8), FieldNo(0)), "pressure", ValueKind::Number, Some("bar")),
        ],
        numbers: vec![
            number(0, 1, -20, 0, 64.4),
            number(0, 0, -1, 30, 18.0),
            number(0, 0, 8, 0, 20.0),
            number(0, 0, 8, 20, 21.0),
            // Stored twice, as a late duplicate may be.
            number(0, 0, 8, 20, 21.0),
            number(0, 0, 8, 50, 20.5),
            // Since then the series is of another class.
            number(1, 0, 9, 30, 22.0),
            number(1, 0, 12, 5, 19.5),
            number(0, 2, 8, 0, 0.0),
            number(0, 2, 9, 0, 1.0),
            secret,
        ],
        texts: vec![text(0, "say \"low\", twice"), text(1, "ok")],
        locations: vec![location(0, (48.85, 2.35, None)), location(2, (48.85, 2.35, Some(35.0)))],
        partials: vec![
            placed(hour(-1, EVENING)),
            placed(hour(8, EIGHT)),
            placed(Partial { class: ClassNo(1), ..hour(9, NINE) }),
            placed(partial(BucketLevel::Hour, 2, at(8, 0), 50, &[(8, 0, 0.0), (8, 30, 0.0)])),
            placed(partial(BucketLevel::Hour, 2, at(9, 0), 52, &[(9, 0, 1.0)])),
            placed(partial(BucketLevel::Hour, 1, at(-20, 0), 5, &[(-20, 0, 64.4)])),
            placed(partial(BucketLevel::Day, 1, at(-25, 0), 5, &[(-20, 0, 64.4)])),
            placed(partial(BucketLevel::Day, 2, at(-1, 0), 50, &[(8, 0, 0.0), (8, 30, 0.0), (9, 0, 1.0)])),
        ],
        ..Outputs::default()
    }
}

fn catalogue(
    tenant: u32,
    device: &str,
    series: SeriesId,
    field: &str,
    kind: ValueKind,
    unit: Option<&str>,
) -> Placed<CatalogueSeries> {
    let (tenant, unit) = (TenantNo(tenant), unit.map(Into::into));
    let row = CatalogueSeries {
        series,
        tenant,
        device: DeviceId::parse(device).unwrap(),
        field: field.into(),
        kind,
        unit,
        class: ClassNo(0),
    };
    Placed { partition: partition(device), offset: Offset(0), row }
}
