//! A migrated database with a tenant and a template, and rows to commit.

use crate::support::database::{Kind, TestDatabase};
use dataflows::model::{
    BucketLevel, CatalogueSeries, ClassNo, Counts, DAY_US, DeviceId, DeviceNo, EventTime, FieldNo, HOUR_US, LogTime, Offset,
    Outputs, Partial, Partition, Placed, Point, Quarantined, Reason, SeriesId, Stored, TenantNo, ValueKind,
};
use tokio_postgres::Client;
use uuid::Uuid;
use weir::store::{Advance, Commit, Committer, Store, StoreConfig, Taken};

/// 2026-11-22 00:00 UTC. Unit: microseconds since the Unix epoch.
pub(crate) const DAY: i64 = 1_795_305_600_000_000;
/// The log of these tests.
pub(crate) const LOG: Uuid = Uuid::from_u128(0x6c6f67);
/// The partition of most tests.
pub(crate) const PARTITION: Partition = Partition(3);
/// The device of most tests.
pub(crate) const DEVICE: DeviceNo = DeviceNo(7);

/// A migrated database.
pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    /// Sees what any application would see.
    pub(crate) client: Client,
}

impl Fixture {
    pub(crate) async fn new(kind: Kind) -> Self {
        let database = TestDatabase::create(kind).await;
        let mut store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
        store.migrate(16).await.unwrap();
        let client = database.client().await;
        let registry = "SET TimeZone = 'UTC'; INSERT INTO tenant (tenant_no, name) VALUES (1, 'waterworks'); \
                        INSERT INTO template (template_no, name, decoding) VALUES (1, 'pump', 'upstream')";
        client.batch_execute(registry).await.unwrap();
        Self { database, store, client }
    }

    /// Takes [`PARTITION`] for a daemon called `a`.
    pub(crate) async fn take(&self) -> Taken {
        self.store.take("a", LOG, &[(PARTITION, Offset(1000))]).await.unwrap()[0]
    }

    pub(crate) async fn committer(&self) -> Committer {
        Committer::connect(&self.store).await.unwrap()
    }

    /// Runs a query that gives one column of text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.client
            .query(sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get::<_, Option<String>>(0).unwrap_or("null".into()))
            .collect()
    }

    /// Runs a query that gives one number.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// Advances a partition from where it was taken, with rows.
pub(crate) fn commit(taken: Taken, to: u64, outputs: Outputs) -> Commit {
    let counts = Counts { uplinks: to, ..Counts::default() };
    let Taken { partition, offset, owner_epoch, .. } = taken;
    let advance = Advance { partition, owner_epoch, from: offset, to: Offset(to), counts, log_time: LogTime(DAY + to as i64) };
    Commit { advances: vec![advance], outputs, checkpoint: None }
}

/// The same partition after a commit.
pub(crate) fn after(taken: Taken, offset: u64) -> Taken {
    Taken { offset: Offset(offset), ..taken }
}

pub(crate) fn placed<T>(offset: u64, row: T) -> Placed<T> {
    Placed { partition: PARTITION, offset: Offset(offset), row }
}

/// What the graph sets aside of [`DEVICE`] for a value that is none.
pub(crate) fn bad_value(detail: &str) -> Quarantined {
    Quarantined {
        log_time: LogTime(DAY),
        tenant: TenantNo(1),
        device: DeviceId::parse("pump-7").unwrap(),
        field: None,
        reason: Reason::BadValue,
        detail: detail.into(),
        record: vec![],
    }
}

pub(crate) fn stored<V>(field: u16, at: i64, value: V) -> Stored<V> {
    Stored { class: ClassNo(0), series: SeriesId::new(DEVICE, FieldNo(field)), at: EventTime(at), value }
}

/// Rows of `measurement` for one series, a minute apart, all of one record.
pub(crate) fn numbers(offset: u64, values: &[f64]) -> Outputs {
    let row = |(i, &value): (usize, &f64)| placed(offset, stored(0, DAY + i as i64 * 60_000_000, value));
    Outputs { numbers: values.iter().enumerate().map(row).collect(), ..Outputs::default() }
}

pub(crate) fn series(field: u16, name: &str, kind: ValueKind) -> CatalogueSeries {
    CatalogueSeries {
        series: SeriesId::new(DEVICE, FieldNo(field)),
        tenant: TenantNo(1),
        device: DeviceId::parse("pump-7").unwrap(),
        field: name.into(),
        kind,
        unit: Some("bar".into()),
        class: ClassNo(0),
    }
}

/// A partial of the bucket that starts at `start`, of measurements at `first` and `last`.
pub(crate) fn partial(level: BucketLevel, start: i64, first: (i64, u64, f64), last: (i64, u64, f64)) -> Partial {
    let width = if level == BucketLevel::Hour { HOUR_US } else { DAY_US };
    let point = |(at, offset, value)| Point { at: EventTime(at), offset: Offset(offset), value };
    Partial {
        class: ClassNo(0),
        level,
        series: SeriesId::new(DEVICE, FieldNo(0)),
        start: EventTime(start),
        end: EventTime(start + width),
        count: 2,
        sum: first.2 + last.2,
        min: first.2.min(last.2),
        max: first.2.max(last.2),
        first: point(first),
        last: point(last),
    }
}
