//! How a row that stands in quarantine as JSON is written into its table: one statement a table.

use crate::store::tables::{Table, TableName};

/// Gives the statement that writes the row of an entry, whose JSON is `$1`, into its table. It writes no row
/// where the row's series is not in the table `series`, or is refused.
///
/// Numbers go from text to float8 in the server, which gives the very float that was written.
pub(super) fn insert_sql(table: &TableName) -> String {
    let (fields, values) = match table.table {
        Table::Device => return device_sql(),
        Table::Series => return SERIES_SQL.into(),
        Table::Quarantine => unreachable!("what quarantine refuses stops the commit"),
        Table::Measurement => ("ts_us int8, series_id int8, value float8", format!("{}, series_id, value", time("ts_us"))),
        Table::MeasurementText => ("ts_us int8, series_id int8, value text", format!("{}, series_id, value", time("ts_us"))),
        Table::MeasurementLocation => (
            "ts_us int8, series_id int8, latitude float8, longitude float8, altitude float8",
            format!("{}, series_id, latitude, longitude, altitude", time("ts_us")),
        ),
        Table::Rollup1h => (PARTIAL, partial()),
        Table::Rollup1d => (PARTIAL, format!("{}, {}", partial(), time("bucket_end_us"))),
    };
    format!(
        "INSERT INTO {table} ({}) SELECT {values} FROM jsonb_to_record(($1::text::jsonb) -> 'row') AS r ({fields}) \
         WHERE EXISTS (SELECT FROM series s WHERE s.series_id = r.series_id) \
         AND NOT EXISTS (SELECT FROM series_refused f WHERE f.series_id = r.series_id)",
        table.table.columns()
    )
}

const PARTIAL: &str =
    "bucket_us int8, bucket_end_us int8, series_id int8, count int8, sum float8, min float8, max float8, first jsonb, last jsonb";

fn partial() -> String {
    let point = |name: &str| {
        format!("({name} ->> 'value')::float8, {}, ({name} ->> 'offset')::int8", time(&format!("({name} ->> 'ts_us')::int8")))
    };
    format!("{}, series_id, count, sum, min, max, {}, {}", time("bucket_us"), point("first"), point("last"))
}

/// An instant of microseconds, which a float8 holds exactly until the year 2255.
fn time(us: &str) -> String {
    format!("timestamptz 'epoch' + {us} * interval '1 microsecond'")
}

/// A series is written by the lifting of its refusal; here it only has to be there.
const SERIES_SQL: &str = "SELECT FROM jsonb_to_record(($1::text::jsonb) -> 'row') AS r (series_id int8) \
     JOIN series s USING (series_id) WHERE NOT EXISTS (SELECT FROM series_refused f WHERE f.series_id = r.series_id)";

/// One that somebody else added meanwhile, or removed for good, stays as it is.
fn device_sql() -> String {
    let columns = Table::Device.columns();
    format!(
        "WITH r AS (SELECT * FROM jsonb_to_record(($1::text::jsonb) -> 'row') AS r \
                    (device_no int8, tenant_no int, id text, template_no int, variables jsonb, zone text)), \
         written AS (INSERT INTO device ({columns}) SELECT device_no, tenant_no, id, template_no, variables, zone, true FROM r \
                     WHERE NOT EXISTS (SELECT FROM device_no_spent s WHERE s.device_no = r.device_no) ON CONFLICT DO NOTHING) \
         SELECT FROM r"
    )
}

/// Writes the refused series of the ids `$1` into `series`, where their ids are free or mean the same, and lifts
/// those refusals.
pub(super) const LIFT_SQL: &str = "WITH lifted AS ( \
         INSERT INTO series AS s (series_id, tenant_no, device_no, device, field, kind, unit, class_no) \
         SELECT series_id, tenant_no, device_no, device, field, kind, unit, class_no FROM series_refused WHERE series_id = ANY ($1) \
         ON CONFLICT (series_id) DO UPDATE SET class_no = excluded.class_no \
         WHERE (s.tenant_no, s.device, s.field, s.kind) = (excluded.tenant_no, excluded.device, excluded.field, excluded.kind) \
         AND s.unit IS NOT DISTINCT FROM excluded.unit RETURNING series_id) \
     DELETE FROM series_refused f USING lifted l WHERE f.series_id = l.series_id";
