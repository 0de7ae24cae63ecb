//! The tables that are cut by time: a set of them for each retention class, and `quarantine`.

use super::error::{Doing, StoreError};
use super::level::Layout;
use dataflows::model::{ClassNo, DAY_US};
use std::fmt;
use tokio_postgres::{Client, Error};

/// A kind of table. The order is that in which commits write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Table {
    Device,
    Series,
    Measurement,
    MeasurementText,
    MeasurementLocation,
    Rollup1h,
    Rollup1d,
    Quarantine,
}

impl Table {
    /// Those that every retention class has.
    pub(super) const PER_CLASS: [Self; 5] =
        [Self::Measurement, Self::MeasurementText, Self::MeasurementLocation, Self::Rollup1h, Self::Rollup1d];
    /// Those that hold partials.
    pub(super) const ROLLUPS: [Self; 2] = [Self::Rollup1h, Self::Rollup1d];

    pub(super) fn base_name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Series => "series",
            Self::Measurement => "measurement",
            Self::MeasurementText => "measurement_text",
            Self::MeasurementLocation => "measurement_location",
            Self::Rollup1h => "rollup_1h",
            Self::Rollup1d => "rollup_1d",
            Self::Quarantine => "quarantine",
        }
    }

    /// The columns and their types, as weir makes them.
    fn definition(self) -> &'static str {
        match self {
            Self::Device | Self::Series => unreachable!("the migrations make {}", self.base_name()),
            Self::Measurement => "ts timestamptz NOT NULL, series_id bigint NOT NULL, value float8 NOT NULL",
            Self::MeasurementText => "ts timestamptz NOT NULL, series_id bigint NOT NULL, value text NOT NULL",
            Self::MeasurementLocation => {
                "ts timestamptz NOT NULL, series_id bigint NOT NULL, \
                 latitude float8 NOT NULL, longitude float8 NOT NULL, altitude float8"
            }
            Self::Rollup1h => {
                "bucket timestamptz NOT NULL, series_id bigint NOT NULL, count bigint NOT NULL, \
                 sum float8 NOT NULL, min float8 NOT NULL, max float8 NOT NULL, \
                 first float8 NOT NULL, first_ts timestamptz NOT NULL, first_offset bigint NOT NULL, \
                 last float8 NOT NULL, last_ts timestamptz NOT NULL, last_offset bigint NOT NULL"
            }
            Self::Rollup1d => {
                "bucket timestamptz NOT NULL, series_id bigint NOT NULL, count bigint NOT NULL, \
                 sum float8 NOT NULL, min float8 NOT NULL, max float8 NOT NULL, \
                 first float8 NOT NULL, first_ts timestamptz NOT NULL, first_offset bigint NOT NULL, \
                 last float8 NOT NULL, last_ts timestamptz NOT NULL, last_offset bigint NOT NULL, \
                 bucket_end timestamptz NOT NULL"
            }
            Self::Quarantine => {
                "log_time timestamptz NOT NULL, \"partition\" smallint NOT NULL, \"offset\" bigint NOT NULL, \
                 tenant_no int, device text, field text, reason text NOT NULL, detail text NOT NULL, record bytea NOT NULL"
            }
        }
    }

    /// The names of the columns that weir writes, in the order in which it writes them.
    pub(super) fn columns(self) -> &'static str {
        match self {
            Self::Device => "device_no, tenant_no, id, template_no, variables, zone, provisioned",
            Self::Series => "series_id, tenant_no, device_no, device, field, kind, unit, class_no",
            Self::Measurement | Self::MeasurementText => "ts, series_id, value",
            Self::MeasurementLocation => "ts, series_id, latitude, longitude, altitude",
            Self::Rollup1h => {
                "bucket, series_id, count, sum, min, max, first, first_ts, first_offset, last, last_ts, last_offset"
            }
            Self::Rollup1d => {
                "bucket, series_id, count, sum, min, max, first, first_ts, first_offset, last, last_ts, last_offset, bucket_end"
            }
            Self::Quarantine => "log_time, \"partition\", \"offset\", tenant_no, device, field, reason, detail, record",
        }
    }

    pub(super) fn time_column(self) -> &'static str {
        match self {
            Self::Rollup1h | Self::Rollup1d => "bucket",
            Self::Quarantine => "log_time",
            _ => "ts",
        }
    }

    /// The one index. Raw tables have the dearest: a COPY into a B-tree of sorted batches runs at a
    /// quarter of the speed of one into a BRIN, but reads one series of a day in 4 ms against 15 to 31.
    fn index_columns(self) -> &'static str {
        match self {
            Self::Rollup1h | Self::Rollup1d => "series_id, bucket",
            Self::Quarantine => "log_time",
            _ => "series_id, ts",
        }
    }

    /// Width of a partition or chunk. Unit: microseconds.
    pub(super) fn interval_us(self, class: &Class) -> i64 {
        match self {
            Self::Rollup1h | Self::Quarantine => 7 * DAY_US,
            Self::Rollup1d => 90 * DAY_US,
            _ => class.chunk_interval_us,
        }
    }

    /// How long rows are kept. Unit: microseconds.
    pub(super) fn retention_us(self, class: &Class) -> Option<i64> {
        match self {
            Self::Rollup1h | Self::Rollup1d => class.rollup_retention_us,
            _ => class.raw_retention_us,
        }
    }

    /// Its name in a class: the standard class has the bare names.
    pub(super) fn named(self, class: &Class) -> TableName {
        let base = self.base_name();
        let text = if class.no == ClassNo(0) { base.into() } else { format!("{base}_{}", class.name) };
        TableName { table: self, text }
    }
}

/// The name of a table of a class; made of letters, digits and `_`, so it needs no quotes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct TableName {
    pub(super) table: Table,
    text: String,
}

impl TableName {
    /// Names a table that every class shares.
    pub(super) fn shared(table: Table) -> Self {
        Self { table, text: table.base_name().into() }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Starts a binary COPY into the table.
    pub(super) fn copy_sql(&self) -> String {
        format!("COPY {self} ({}) FROM STDIN (FORMAT binary)", self.table.columns())
    }

    /// Two statements, with an instant as parameter, that add a row and take it away. No device has
    /// the number 0, so series 0 is nobody's, and no partition is negative.
    pub(super) fn probe_sql(&self) -> [String; 2] {
        let (values, nobody) = match self.table {
            Table::Measurement => ("$1, 0, 0", "series_id = 0"),
            Table::MeasurementText => ("$1, 0, ''", "series_id = 0"),
            Table::MeasurementLocation => ("$1, 0, 0, 0, NULL", "series_id = 0"),
            Table::Rollup1h => ("$1, 0, 1, 0, 0, 0, 0, $1, 0, 0, $1, 0", "series_id = 0"),
            Table::Rollup1d => ("$1, 0, 1, 0, 0, 0, 0, $1, 0, 0, $1, 0, $1", "series_id = 0"),
            Table::Quarantine => ("$1, -1, -1, NULL, NULL, NULL, '', '', ''", "\"partition\" = -1"),
            Table::Device | Table::Series => unreachable!("{self} is not cut by time"),
        };
        [
            format!("INSERT INTO {self} ({}) VALUES ({values})", self.table.columns()),
            format!("DELETE FROM {self} WHERE {} = $1 AND {nobody}", self.table.time_column()),
        ]
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A row of `retention_class`. Units: microseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Class {
    pub(super) no: ClassNo,
    pub(super) name: String,
    pub(super) raw_retention_us: Option<i64>,
    pub(super) rollup_retention_us: Option<i64>,
    pub(super) chunk_interval_us: i64,
}

/// Reads all classes, by number; the first is the standard one.
pub(super) async fn classes(client: &Client) -> Result<Vec<Class>, Error> {
    let sql = "SELECT class_no, name, (extract(epoch FROM raw_retention) * 1000000)::int8, \
               (extract(epoch FROM rollup_retention) * 1000000)::int8, (extract(epoch FROM chunk_interval) * 1000000)::int8 \
               FROM retention_class ORDER BY class_no";
    let class = |row: tokio_postgres::Row| Class {
        no: ClassNo(u16::try_from(row.get::<_, i16>(0)).expect("a check of the table keeps class numbers positive")),
        name: row.get(1),
        raw_retention_us: row.get(2),
        rollup_retention_us: row.get(3),
        chunk_interval_us: row.get(4),
    };
    Ok(client.query(sql, &[]).await?.into_iter().map(class).collect())
}

/// All tables of these classes with the class that rules them. `quarantine` goes with the standard class.
pub(super) fn all(classes: &[Class]) -> impl Iterator<Item = (TableName, &Class)> {
    let per_class = classes.iter().flat_map(|class| Table::PER_CLASS.map(|table| (table.named(class), class)));
    let shared = classes.first().map(|standard| (TableName::shared(Table::Quarantine), standard));
    per_class.chain(shared)
}

/// Whether a relation of this name exists.
pub(super) async fn exists(client: &Client, name: &str) -> Result<bool, Error> {
    Ok(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?.get(0))
}

/// When views are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Views {
    /// Always: this version may define them otherwise.
    Renew,
    /// When a class came with new tables.
    WhenTablesAreNew,
}

/// Makes the tables that are not there yet, and the views over them. Doing it again changes nothing.
pub(super) async fn ensure(client: &Client, layout: Layout, views: Views) -> Result<(), StoreError> {
    let doing = "the tables of the retention classes could not be made";
    let classes = classes(client).await.doing(doing)?;
    let mut sql = String::new();
    for (name, class) in all(&classes) {
        if !exists(client, name.as_str()).await.doing(doing)? {
            sql.push_str(&create_sql(layout, &name, class));
        }
    }
    if views == Views::Renew || !sql.is_empty() {
        sql.push_str(&views_sql(&classes));
    }
    // One simple query is one transaction: all or nothing. The lock makes two daemons take turns.
    if !sql.is_empty() {
        let sql = format!("BEGIN; LOCK TABLE retention_class IN SHARE ROW EXCLUSIVE MODE; {sql} COMMIT");
        if let Err(source) = client.batch_execute(&sql).await {
            // The failed transaction is still open; the error that matters is the first.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(StoreError::Query { doing, source });
        }
    }
    Ok(())
}

fn create_sql(layout: Layout, name: &TableName, class: &Class) -> String {
    let table = name.table;
    let (definition, time, index) = (table.definition(), table.time_column(), table.index_columns());
    let interval_us = table.interval_us(class);
    let create = match layout {
        Layout::Partitions => format!("CREATE TABLE IF NOT EXISTS {name} ({definition}) PARTITION BY RANGE ({time});"),
        Layout::Hypertables => format!(
            "CREATE TABLE IF NOT EXISTS {name} ({definition}); \
             SELECT create_hypertable('{name}', by_range('{time}', interval '{interval_us} microseconds'), \
             create_default_indexes => false, if_not_exists => true);"
        ),
    };
    let suffix = index.replace(", ", "_");
    format!("{create} CREATE INDEX IF NOT EXISTS {name}_{suffix} ON {name} ({index});\n")
}

/// Views for people, over all classes. Partials merge by (time, offset), as everywhere.
fn views_sql(classes: &[Class]) -> String {
    let union = |table: Table, columns: &str| {
        let parts: Vec<String> = classes.iter().map(|class| format!("SELECT {columns} FROM {}", table.named(class))).collect();
        parts.join(" UNION ALL ")
    };
    format!(
        "CREATE OR REPLACE VIEW measurement_named AS \
         SELECT s.tenant_no, s.device, s.field, m.ts, m.value, s.unit, m.series_id \
         FROM ({}) m JOIN series s USING (series_id); \
         CREATE OR REPLACE VIEW rollup_1h_merged AS SELECT {MERGED} FROM ({}) p GROUP BY bucket, series_id; \
         CREATE OR REPLACE VIEW rollup_1d_merged AS SELECT {MERGED}, max(bucket_end) AS bucket_end \
         FROM ({}) p GROUP BY bucket, series_id;",
        union(Table::Measurement, "ts, series_id, value"),
        union(Table::Rollup1h, Table::Rollup1h.columns()),
        union(Table::Rollup1d, Table::Rollup1d.columns()),
    )
}

/// Merges the partials of a group by bucket and series; its columns are those of `rollup_1h`.
pub(super) const MERGED: &str = "bucket, series_id, sum(count)::bigint AS count, \
    sum(sum ORDER BY last_offset, first_offset) AS sum, min(min) AS min, max(max) AS max, \
    (array_agg(first ORDER BY first_ts, first_offset))[1] AS first, \
    min(first_ts) AS first_ts, (array_agg(first_offset ORDER BY first_ts, first_offset))[1] AS first_offset, \
    (array_agg(last ORDER BY last_ts DESC, last_offset DESC))[1] AS last, \
    max(last_ts) AS last_ts, (array_agg(last_offset ORDER BY last_ts DESC, last_offset DESC))[1] AS last_offset";
