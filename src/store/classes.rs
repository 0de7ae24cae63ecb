//! Retention classes, and the tables and views that depend on them.

use super::error::{Doing, StoreError};
use super::level::Layout;
use super::tables::{MERGED, Table, TableName};
use dataflows::model::ClassNo;
use tokio_postgres::{Client, Error};

/// A row of `retention_class`. Units: microseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Class {
    pub(super) no: ClassNo,
    pub(super) name: String,
    pub(super) raw_retention_us: Option<i64>,
    pub(super) rollup_retention_us: Option<i64>,
    pub(super) chunk_interval_us: i64,
    pub(super) compress_after_us: Option<i64>,
}

/// Reads all classes, by number; the first is the standard one.
pub(super) async fn read(client: &Client) -> Result<Vec<Class>, Error> {
    // Bounded here too, since the checks of the table can be dropped.
    let us = |column: &str| format!("(extract(epoch FROM least({column}, interval '100 years')) * 1000000)::int8");
    let (raw, rollup, chunk) = (us("raw_retention"), us("rollup_retention"), us("greatest(chunk_interval, interval '1 hour')"));
    let compress = us("compress_after");
    // `least` skips nulls, which mean that nothing is ever dropped or compressed.
    let sql = format!(
        "SELECT class_no, name, CASE WHEN raw_retention IS NOT NULL THEN {raw} END, \
         CASE WHEN rollup_retention IS NOT NULL THEN {rollup} END, {chunk}, \
         CASE WHEN compress_after IS NOT NULL THEN {compress} END FROM retention_class ORDER BY class_no"
    );
    let class = |row: tokio_postgres::Row| Class {
        no: ClassNo(row.get::<_, i16>(0).cast_unsigned()),
        name: row.get(1),
        raw_retention_us: row.get(2),
        rollup_retention_us: row.get(3),
        chunk_interval_us: row.get(4),
        compress_after_us: row.get(5),
    };
    Ok(client.query(&sql, &[]).await?.into_iter().map(class).collect())
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
    let classes = read(client).await.doing(doing)?;
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
        if let Err(error) = client.batch_execute(&sql).await {
            // The failed transaction is still open; the error that matters is the first.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(StoreError::Query { doing, error });
        }
    }
    Ok(())
}

fn create_sql(layout: Layout, name: &TableName, class: &Class) -> String {
    let table = name.table;
    let (definition, time) = (table.definition(), table.time_column());
    let interval_us = table.interval_us(class);
    let create = match layout {
        Layout::Partitions => format!("CREATE TABLE IF NOT EXISTS {name} ({definition}) PARTITION BY RANGE ({time});"),
        Layout::Hypertables => format!(
            "CREATE TABLE IF NOT EXISTS {name} ({definition}); \
             SELECT create_hypertable('{name}', by_range('{time}', interval '{interval_us} microseconds'), \
             create_default_indexes => false, if_not_exists => true);"
        ),
    };
    // Tables with series get an index for each chunk or partition, from the upkeep.
    if Table::PER_CLASS.contains(&table) {
        return create + "\n";
    }
    let index = table.index_columns();
    format!("{create} CREATE INDEX IF NOT EXISTS {name}_{index} ON {name} ({index});\n")
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
