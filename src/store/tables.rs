//! The tables that weir writes: their names, columns, widths of time. Those of measurements and
//! rollups come in a set for each retention class.

use super::classes::Class;
use dataflows::model::{ClassNo, DAY_US};
use std::fmt;

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
    pub(super) fn definition(self) -> &'static str {
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

    /// The columns of the B-tree. That of tables with series is made for each chunk or partition, when
    /// its time has come: see [`super::maintenance::Indexer`].
    pub(super) fn index_columns(self) -> &'static str {
        match self {
            Self::Rollup1h | Self::Rollup1d => "series_id, bucket",
            Self::Quarantine => "log_time",
            _ => "series_id, ts",
        }
    }

    /// Pages in a range of a BRIN over it: some three hundred rows. Fewer make the index slow to walk and to make, more make
    /// too many rows to look at.
    pub(super) fn brin_pages(self) -> u8 {
        if Self::ROLLUPS.contains(&self) { 8 } else { 2 }
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

    /// Starts a binary COPY into such a table, or a chunk of one.
    pub(super) fn copy_sql(self, name: &str) -> String {
        format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", self.columns())
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

/// Merges the partials of a group by bucket and series; its columns are those of `rollup_1h`.
pub(super) const MERGED: &str = "bucket, series_id, sum(count)::bigint AS count, \
    sum(sum ORDER BY last_offset, first_offset) AS sum, min(min) AS min, max(max) AS max, \
    (array_agg(first ORDER BY first_ts, first_offset))[1] AS first, \
    min(first_ts) AS first_ts, (array_agg(first_offset ORDER BY first_ts, first_offset))[1] AS first_offset, \
    (array_agg(last ORDER BY last_ts DESC, last_offset DESC))[1] AS last, \
    max(last_ts) AS last_ts, (array_agg(last_offset ORDER BY last_ts DESC, last_offset DESC))[1] AS last_offset";
