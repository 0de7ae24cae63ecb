//! What a commit writes, table by table: sorted, and each row encoded.

use super::classes::Class;
use super::copy::CopyEncoder;
use super::progress::{number, wire};
use super::tables::{Table, TableName};
use super::timestamp::Timestamp;
use dataflows::model::{
    BucketLevel, CatalogueDevice, CatalogueSeries, ClassNo, LocationRow, LogTime, NumberRow, Offset, Outputs, Partial, Partition,
    Placed, Quarantined, Reason, SeriesId, TextRow,
};
use std::collections::BTreeMap;

/// All rows of one commit.
pub(super) struct Batches<'a> {
    /// In the order in which every commit writes, so that two never wait for each other in a circle.
    pub(super) tables: Vec<Batch<'a>>,
    /// Written last, since rows that the database refuses join it.
    pub(super) quarantine: Batch<'a>,
}

/// The rows of one commit for one table.
pub(super) struct Batch<'a> {
    pub(super) table: TableName,
    pub(super) rows: Vec<Row<'a>>,
}

/// A row of any table.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Device(&'a Placed<CatalogueDevice>),
    Series(&'a Placed<CatalogueSeries>),
    Number(&'a Placed<NumberRow>),
    Text(&'a Placed<TextRow>),
    Location(&'a Placed<LocationRow>),
    Partial(&'a Placed<Partial>),
    Quarantined(&'a Placed<Quarantined>),
    Refused(&'a RefusedRow),
}

/// What `quarantine` says of a row that the database refused.
#[derive(Debug)]
pub(super) struct RefusedRow {
    pub(super) log_time: LogTime,
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) tenant_no: Option<i32>,
    pub(super) device: Option<String>,
    pub(super) field: Option<String>,
    pub(super) detail: String,
}

/// Sorts the rows of a commit into tables, and within a table by (series, time), for which its
/// index is fastest.
///
/// Errors: the class that is not among `classes`.
pub(super) fn batches<'a>(outputs: &'a Outputs, classes: &[Class]) -> Result<Batches<'a>, ClassNo> {
    let mut by_class: BTreeMap<(Table, ClassNo), Vec<Row<'a>>> = BTreeMap::new();
    for placed in &outputs.numbers {
        by_class.entry((Table::Measurement, placed.row.class)).or_default().push(Row::Number(placed));
    }
    for placed in &outputs.texts {
        by_class.entry((Table::MeasurementText, placed.row.class)).or_default().push(Row::Text(placed));
    }
    for placed in &outputs.locations {
        by_class.entry((Table::MeasurementLocation, placed.row.class)).or_default().push(Row::Location(placed));
    }
    for placed in &outputs.partials {
        let table = match placed.row.level {
            BucketLevel::Hour => Table::Rollup1h,
            BucketLevel::Day => Table::Rollup1d,
        };
        by_class.entry((table, placed.row.class)).or_default().push(Row::Partial(placed));
    }
    let shared = |table: Table, rows: Vec<Row<'a>>| Batch { table: TableName::shared(table), rows };
    let mut tables = vec![
        shared(Table::Device, outputs.devices.iter().map(Row::Device).collect()),
        shared(Table::Series, latest_of_series(outputs)),
    ];
    tables.retain(|batch| !batch.rows.is_empty());
    for ((table, class_no), mut rows) in by_class {
        let class = classes.iter().find(|class| class.no == class_no).ok_or(class_no)?;
        rows.sort_by_cached_key(Row::order);
        tables.push(Batch { table: table.named(class), rows });
    }
    let quarantine = shared(Table::Quarantine, outputs.quarantined.iter().map(Row::Quarantined).collect());
    Ok(Batches { tables, quarantine })
}

/// A series stands in one commit twice when its class changed; an upsert takes each only once.
fn latest_of_series(outputs: &Outputs) -> Vec<Row<'_>> {
    let latest: BTreeMap<SeriesId, Row<'_>> =
        outputs.series.iter().map(|placed| (placed.row.series, Row::Series(placed))).collect();
    latest.into_values().collect()
}

impl Row<'_> {
    /// Rows without a series keep the order in which they were made.
    fn order(&self) -> (SeriesId, i64) {
        match self {
            Self::Number(placed) => (placed.row.series, placed.row.at.0),
            Self::Text(placed) => (placed.row.series, placed.row.at.0),
            Self::Location(placed) => (placed.row.series, placed.row.at.0),
            Self::Partial(placed) => (placed.row.series, placed.row.start.0),
            Self::Device(_) | Self::Series(_) | Self::Quarantined(_) | Self::Refused(_) => (SeriesId(0), 0),
        }
    }

    /// The record that caused the row.
    pub(super) fn place(&self) -> (Partition, Offset) {
        match self {
            Self::Device(placed) => (placed.partition, placed.offset),
            Self::Series(placed) => (placed.partition, placed.offset),
            Self::Number(placed) => (placed.partition, placed.offset),
            Self::Text(placed) => (placed.partition, placed.offset),
            Self::Location(placed) => (placed.partition, placed.offset),
            Self::Partial(placed) => (placed.partition, placed.offset),
            Self::Quarantined(placed) => (placed.partition, placed.offset),
            Self::Refused(refused) => (refused.partition, refused.offset),
        }
    }

    /// The series that the row belongs to.
    pub(super) fn series(&self) -> Option<SeriesId> {
        match self {
            Self::Series(placed) => Some(placed.row.series),
            Self::Number(placed) => Some(placed.row.series),
            Self::Text(placed) => Some(placed.row.series),
            Self::Location(placed) => Some(placed.row.series),
            Self::Partial(placed) => Some(placed.row.series),
            Self::Device(_) | Self::Quarantined(_) | Self::Refused(_) => None,
        }
    }

    /// The time that decides which partition of the table takes the row. Unit: microseconds.
    pub(super) fn at_us(&self) -> Option<i64> {
        match self {
            Self::Device(_) | Self::Series(_) => None,
            Self::Number(placed) => Some(placed.row.at.0),
            Self::Text(placed) => Some(placed.row.at.0),
            Self::Location(placed) => Some(placed.row.at.0),
            Self::Partial(placed) => Some(placed.row.start.0),
            Self::Quarantined(placed) => Some(placed.row.log_time.0),
            Self::Refused(refused) => Some(refused.log_time.0),
        }
    }

    /// What stood in the row, for a reader.
    pub(super) fn describe(&self) -> String {
        let time = |us: i64| jiff::Timestamp::from_microsecond(us).map_or_else(|_| format!("{us} µs"), |at| at.to_string());
        match self {
            Self::Device(placed) => format!("device {} with template {}", placed.row.0.id, placed.row.0.template),
            Self::Series(placed) => format!("series {}: {} of {}", placed.row.series, placed.row.field, placed.row.device),
            Self::Number(placed) => format!("{} at {}", placed.row.value, time(placed.row.at.0)),
            Self::Text(placed) => format!("a text of {} bytes at {}", placed.row.value.len(), time(placed.row.at.0)),
            Self::Location(placed) => {
                let (latitude, longitude, _) = placed.row.value;
                format!("latitude {latitude}, longitude {longitude} at {}", time(placed.row.at.0))
            }
            Self::Partial(placed) => format!("{} measurements from {}", placed.row.count, time(placed.row.start.0)),
            Self::Quarantined(placed) => format!("a record set aside: {}", placed.row.detail),
            Self::Refused(refused) => format!("a row set aside: {}", refused.detail),
        }
    }

    /// Appends the row to a COPY stream.
    ///
    /// Panics: on catalogue rows, which are not copied.
    pub(super) fn encode(&self, out: &mut CopyEncoder) {
        match self {
            Self::Device(_) | Self::Series(_) => unreachable!("catalogue rows may exist already, so they are not copied"),
            Self::Number(placed) => {
                out.row(3);
                out.timestamp(Timestamp(placed.row.at.0));
                out.int8(placed.row.series.0);
                out.float8(placed.row.value);
            }
            Self::Text(placed) => {
                out.row(3);
                out.timestamp(Timestamp(placed.row.at.0));
                out.int8(placed.row.series.0);
                out.text(&placed.row.value);
            }
            Self::Location(placed) => {
                let (latitude, longitude, altitude) = placed.row.value;
                out.row(5);
                out.timestamp(Timestamp(placed.row.at.0));
                out.int8(placed.row.series.0);
                out.float8(latitude);
                out.float8(longitude);
                out.optional(altitude, CopyEncoder::float8);
            }
            Self::Partial(placed) => encode_partial(&placed.row, out),
            Self::Quarantined(placed) => {
                let row = &placed.row;
                out.row(9);
                out.timestamp(Timestamp(row.log_time.0));
                out.int2(number(placed.partition));
                out.int8(wire(placed.offset));
                out.int4(row.tenant.0.cast_signed());
                out.text(row.device.as_str());
                out.optional(row.field.as_deref(), CopyEncoder::text);
                out.text(row.reason.as_str());
                out.text(&row.detail);
                out.bytea(&row.record);
            }
            Self::Refused(row) => {
                out.row(9);
                out.timestamp(Timestamp(row.log_time.0));
                out.int2(number(row.partition));
                out.int8(wire(row.offset));
                out.optional(row.tenant_no, CopyEncoder::int4);
                out.optional(row.device.as_deref(), CopyEncoder::text);
                out.optional(row.field.as_deref(), CopyEncoder::text);
                out.text(Reason::RowRefused.as_str());
                out.text(&row.detail);
                // The record itself stands in the log, at the partition and offset above.
                out.bytea(&[]);
            }
        }
    }
}

fn encode_partial(partial: &Partial, out: &mut CopyEncoder) {
    let day = partial.level == BucketLevel::Day;
    out.row(if day { 13 } else { 12 });
    out.timestamp(Timestamp(partial.start.0));
    out.int8(partial.series.0);
    out.int8(partial.count.cast_signed());
    out.float8(partial.sum);
    out.float8(partial.min);
    out.float8(partial.max);
    for point in [partial.first, partial.last] {
        out.float8(point.value);
        out.timestamp(Timestamp(point.at.0));
        out.int8(wire(point.offset));
    }
    if day {
        out.timestamp(Timestamp(partial.end.0));
    }
}
