//! What tables hold, row for row: of a database, or as the oracle says.

use dataflows::model::{
    BucketLevel, CatalogueDevice, Counts, DeviceId, DeviceNo, LogTime, Outputs, Partial, Partition, Placed, Point, Quarantined,
    Reason, Released, TenantNo,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::{FromSqlOwned, Json};
use tokio_postgres::{Client, Row};
use weir::log::RawRecord;
use weir::store::Timestamp;

/// The rows of all tables, as text, in no order. Floats are printed so that each has its own text.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    rows: BTreeMap<&'static str, Vec<String>>,
    quarantine: Vec<QuarantineRow>,
}

#[derive(Clone)]
struct QuarantineRow {
    partition: i16,
    offset: i64,
    log_time_us: i64,
    tenant: Option<i32>,
    device: Option<String>,
    field: Option<String>,
    reason: String,
    detail: String,
    record: Vec<u8>,
}

impl QuarantineRow {
    /// What was set aside, and why.
    fn place(&self) -> (i16, i64, Option<String>, String) {
        (self.partition, self.offset, self.field.clone(), self.reason.clone())
    }

    fn text(&self) -> String {
        let Self { partition, offset, log_time_us, tenant, device, field, reason, detail, record } = self;
        format!("{:?}", (partition, offset, log_time_us, tenant, device, field, reason, detail, record))
    }
}

impl Tables {
    fn add(&mut self, table: &'static str, row: &impl std::fmt::Debug) {
        self.rows.entry(table).or_default().push(format!("{row:?}"));
    }

    /// Adds rows that the graph would give.
    pub(crate) fn add_outputs(&mut self, outputs: &Outputs) {
        for Placed { row, .. } in &outputs.numbers {
            self.add("measurement", &(row.class.0, row.at.0, row.series.0, row.value));
        }
        for Placed { row, .. } in &outputs.texts {
            self.add("measurement_text", &(row.class.0, row.at.0, row.series.0, &*row.value));
        }
        for Placed { row, .. } in &outputs.locations {
            self.add("measurement_location", &(row.class.0, row.at.0, row.series.0, row.value));
        }
        for Placed { row, .. } in &outputs.partials {
            self.add_partial(row);
        }
        let mut series = BTreeMap::new();
        for Placed { row, .. } in &outputs.series {
            // A series is listed again when its class has changed.
            let named = (row.tenant.0, row.series.device().0, row.device.as_str(), &*row.field, row.kind.as_str(), &row.unit);
            series.insert(row.series.0, (named, row.class.0));
        }
        series.iter().for_each(|row| self.add("series", &row));
        self.add_devices(&outputs.devices);
        for placed in &outputs.quarantined {
            let Quarantined { log_time, tenant, device, field, reason, detail, record } = placed.row.clone();
            self.quarantine.push(QuarantineRow {
                partition: placed.partition.0 as i16,
                offset: placed.offset.0 as i64,
                log_time_us: log_time.0,
                tenant: Some(tenant.0 as i32),
                device: Some(device.as_str().into()),
                field: field.as_deref().map(Into::into),
                reason: reason.as_str().into(),
                record,
                detail,
            });
        }
        self.release(&outputs.released);
    }

    /// Takes away what retries released; of one place, the database's own refusals are not meant.
    fn release(&mut self, released: &[Placed<Released>]) {
        let released: BTreeSet<_> = released
            .iter()
            .map(|r| (r.partition.0 as i16, r.row.offset.0 as i64, r.row.log_time.0, r.row.field.as_deref()))
            .collect();
        self.quarantine.retain(|q| !released.contains(&(q.partition, q.offset, q.log_time_us, q.field.as_deref())));
    }

    /// A device that is listed under its number or its name stays as it is.
    fn add_devices(&mut self, devices: &[Placed<CatalogueDevice>]) {
        let mut numbers = BTreeSet::<DeviceNo>::new();
        let mut names = BTreeSet::<(TenantNo, DeviceId)>::new();
        for Placed { row: CatalogueDevice(device), .. } in devices {
            let name = (device.tenant, device.id.clone());
            if !numbers.contains(&device.no) && !names.contains(&name) {
                self.add(
                    "device",
                    &(device.no.0, device.tenant.0, device.id.as_str(), device.template.0, &device.variables, &device.zone),
                );
                numbers.insert(device.no);
                names.insert(name);
            }
        }
    }

    fn add_partial(&mut self, partial: &Partial) {
        let Partial { class, level, series, start, end, count, sum, min, max, first, last } = partial;
        let point = |point: &Point| (point.value, point.at.0, point.offset.0);
        let row = (class.0, start.0, series.0, count, (sum, min, max), point(first), point(last));
        match level {
            BucketLevel::Hour => self.add("rollup_1h", &row),
            BucketLevel::Day => self.add("rollup_1d", &(row, end.0)),
        }
    }

    /// Adds a record that cannot be read.
    pub(crate) fn add_unreadable(&mut self, partition: Partition, raw: &RawRecord, detail: String) {
        let LogTime(log_time_us) = raw.log_time;
        self.quarantine.push(QuarantineRow {
            partition: partition.0 as i16,
            offset: raw.offset.0 as i64,
            log_time_us,
            tenant: Some(0),
            device: Some("unknown".into()),
            field: None,
            reason: Reason::BadRecord.as_str().into(),
            record: raw.body.to_vec(),
            detail,
        });
    }

    /// Adds how far a partition is; `log_time` is that of its last record.
    pub(crate) fn add_progress(&mut self, partition: Partition, offset: u64, log_time: Option<LogTime>, counts: Counts) {
        self.add("progress", &(partition.0, offset, log_time.map(|at| at.0), counts, 0));
    }

    /// Reads a database: the tables of all retention classes.
    pub(crate) async fn read(client: &Client) -> Self {
        let mut tables = Self::default();
        let classes = "class_no, CASE class_no WHEN 0 THEN '' ELSE '_' || name END FROM retention_class";
        for row in select(client, classes).await {
            let (class, suffix) = (get::<i16>(&row, 0), text(&row, 1));
            for row in select(client, &format!("ts, series_id, value FROM measurement{suffix}")).await {
                tables.add("measurement", &(class, us(&row, 0), int(&row, 1), float(&row, 2)));
            }
            for row in select(client, &format!("ts, series_id, value FROM measurement_text{suffix}")).await {
                tables.add("measurement_text", &(class, us(&row, 0), int(&row, 1), text(&row, 2)));
            }
            let columns = "ts, series_id, latitude, longitude, altitude";
            for row in select(client, &format!("{columns} FROM measurement_location{suffix}")).await {
                let place = (float(&row, 2), float(&row, 3), get::<Option<f64>>(&row, 4));
                tables.add("measurement_location", &(class, us(&row, 0), int(&row, 1), place));
            }
            let columns = "bucket, series_id, count, sum, min, max, first, first_ts, first_offset, last, last_ts, last_offset";
            for row in select(client, &format!("{columns} FROM rollup_1h{suffix}")).await {
                tables.add("rollup_1h", &partial(class, &row));
            }
            for row in select(client, &format!("{columns}, bucket_end FROM rollup_1d{suffix}")).await {
                tables.add("rollup_1d", &(partial(class, &row), us(&row, 12)));
            }
        }
        for row in select(client, "series_id, tenant_no, device_no, device, field, kind, unit, class_no FROM series").await {
            let named =
                (get::<i32>(&row, 1), int(&row, 2), text(&row, 3), text(&row, 4), text(&row, 5), get::<Option<String>>(&row, 6));
            tables.add("series", &(int(&row, 0), (named, get::<i16>(&row, 7))));
        }
        let devices = "device_no, tenant_no, id, template_no, variables, zone FROM device WHERE provisioned";
        for row in select(client, devices).await {
            let variables = get::<Json<BTreeMap<String, String>>>(&row, 4).0;
            let zone = get::<Option<String>>(&row, 5);
            tables.add("device", &(int(&row, 0), get::<i32>(&row, 1), text(&row, 2), get::<i32>(&row, 3), variables, zone));
        }
        for row in select(client, "\"partition\", \"offset\", log_time, counts, refused FROM progress").await {
            let log_time = get::<Option<Timestamp>>(&row, 2).map(|at| at.0);
            tables.add("progress", &(get::<i16>(&row, 0), int(&row, 1), log_time, get::<Json<Counts>>(&row, 3).0, int(&row, 4)));
        }
        let columns = "log_time, \"partition\", \"offset\", tenant_no, device, field, reason, detail, record";
        for row in select(client, &format!("{columns} FROM quarantine")).await {
            tables.quarantine.push(QuarantineRow {
                log_time_us: us(&row, 0),
                partition: get(&row, 1),
                offset: int(&row, 2),
                tenant: get(&row, 3),
                device: get(&row, 4),
                field: get(&row, 5),
                reason: text(&row, 6),
                detail: text(&row, 7),
                record: get(&row, 8),
            });
        }
        tables
    }

    /// The names of the tables that have rows.
    pub(crate) fn filled(&self) -> Vec<&'static str> {
        self.rows.keys().copied().collect()
    }

    /// Counts the rows of a table.
    pub(crate) fn count(&self, table: &str) -> usize {
        if table == "quarantine" { self.quarantine.len() } else { self.rows.get(table).map_or(0, Vec::len) }
    }

    /// The reasons that stand in quarantine.
    pub(crate) fn reasons(&self) -> BTreeSet<&str> {
        self.quarantine.iter().map(|row| row.reason.as_str()).collect()
    }

    /// Gives all rows, sorted. The reference says no details of its own, and none of what is beyond a limit:
    /// of details, only how they begin is compared.
    fn comparable(mut self, reference: &Self) -> BTreeMap<&'static str, Vec<String>> {
        let mut details: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for says in &reference.quarantine {
            details.entry(says.place()).or_default().push(&says.detail);
        }
        for row in &mut self.quarantine {
            let of_place = details.get(&row.place()).map_or(&[][..], Vec::as_slice);
            if let Some(says) = of_place.iter().find(|says| row.detail.starts_with(**says)) {
                row.detail = (*says).to_owned();
            }
        }
        self.into_rows()
    }

    fn into_rows(mut self) -> BTreeMap<&'static str, Vec<String>> {
        let quarantine = self.quarantine.iter().map(QuarantineRow::text).collect();
        self.rows.insert("quarantine", quarantine);
        self.rows.values_mut().for_each(|rows| rows.sort());
        self.rows
    }
}

/// Compares row for row; `run` says which run it is, and how it is repeated.
pub(crate) fn assert_equal(found: Tables, expected: Tables, run: &str) {
    let found = found.comparable(&expected);
    let expected = expected.into_rows();
    let mut differences = String::new();
    for table in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let of = |rows: &BTreeMap<&str, Vec<String>>| rows.get(table).cloned().unwrap_or_default();
        let (expected, found) = (of(&expected), of(&found));
        let (missing, surplus) = differing(&expected, &found);
        for (what, rows) in [("missing", missing), ("surplus", surplus)] {
            let some: Vec<String> = rows.iter().take(3).map(|row| row.chars().take(400).collect()).collect();
            if !rows.is_empty() {
                differences.push_str(&format!("\n{table}: {} {what}, such as\n  {}", rows.len(), some.join("\n  ")));
            }
        }
    }
    assert!(differences.is_empty(), "the tables are not what the oracle says, {run}{differences}");
}

/// Gives what only the first has, and what only the second has; both are sorted.
fn differing<'a>(first: &'a [String], second: &'a [String]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    first.iter().for_each(|row| *balance.entry(row).or_default() += 1);
    second.iter().for_each(|row| *balance.entry(row).or_default() -= 1);
    let with = |is: fn(i64) -> bool| balance.iter().filter(|(_, n)| is(**n)).map(|(row, _)| *row).collect();
    (with(|n| n > 0), with(|n| n < 0))
}

fn partial(class: i16, row: &Row) -> impl std::fmt::Debug + use<> {
    let point = |at: usize| (float(row, at), us(row, at + 1), int(row, at + 2));
    let sums = (float(row, 3), float(row, 4), float(row, 5));
    (class, us(row, 0), int(row, 1), int(row, 2), sums, point(6), point(9))
}

async fn select(client: &Client, what: &str) -> Vec<Row> {
    client.query(&format!("SELECT {what}"), &[]).await.unwrap()
}

fn get<T: FromSqlOwned>(row: &Row, column: usize) -> T {
    row.get(column)
}

fn us(row: &Row, column: usize) -> i64 {
    get::<Timestamp>(row, column).0
}

fn int(row: &Row, column: usize) -> i64 {
    row.get(column)
}

fn float(row: &Row, column: usize) -> f64 {
    row.get(column)
}

fn text(row: &Row, column: usize) -> String {
    row.get(column)
}
