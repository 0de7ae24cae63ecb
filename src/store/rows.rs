//! What a commit writes, table by table: sorted, and each row encoded.

use super::bisect::RefusedRow;
use super::classes::Class;
use super::commit::Commits;
use super::copy::CopyEncoder;
use super::progress::{number, wire};
use super::refusals::RefusedSeriesSet;
use super::tables::{Table, TableName};
use super::timestamp::Timestamp;
use dataflows::model::{
    BucketLevel, CatalogueDevice, CatalogueSeries, ClassNo, DeviceNo, LocationRow, NumberRow, Offset, Partial, Partition, Placed,
    Point, Quarantined, Reason, SeriesId, TextRow,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// All rows of one commit.
pub(super) struct Batches<'a> {
    /// In the order in which every commit writes, so that two never wait for each other in a circle.
    pub(super) tables: Vec<Batch<'a>>,
    /// Written last, since rows that the database refuses join it.
    pub(super) quarantine: Batch<'a>,
    /// Rows of refused series, for quarantine.
    pub(super) set_aside: Vec<RefusedRow>,
}

/// The rows of one commit for one table.
pub(super) struct Batch<'a> {
    pub(super) table: TableName,
    pub(super) rows: Vec<Row<'a>>,
    /// From the first to the last time of the rows, which may be further apart than those of the rows that are left; none
    /// where they have no series. Unit: microseconds.
    pub(super) span_us: Option<RangeInclusive<i64>>,
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

/// Which way a commit goes through the series. Each goes back the way that the one before has come: the page at which
/// they meet then holds few series, as all others do, and a BRIN finds each series in half as many pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Sweep {
    #[default]
    Up,
    Down,
}

impl Sweep {
    /// The way of the next commit.
    pub(super) fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Sorts the rows of a commit into tables, and within a table by series in the order of `sweep`, then by time: for that
/// its index is fastest. Rows of `refused` series are set aside.
///
/// Errors: the class that is not among `classes`.
pub(super) fn batches<'a>(
    commits: Commits<'a>,
    classes: &[Class],
    refused: &RefusedSeriesSet,
    sweep: Sweep,
) -> Result<Batches<'a>, ClassNo> {
    let mut by_class = ByClass::new();
    for outputs in commits.outputs() {
        sort_in(&mut by_class, &outputs.numbers, |row| (Table::Measurement, row.class), Row::Number);
        sort_in(&mut by_class, &outputs.texts, |row| (Table::MeasurementText, row.class), Row::Text);
        sort_in(&mut by_class, &outputs.locations, |row| (Table::MeasurementLocation, row.class), Row::Location);
        sort_in(&mut by_class, &outputs.partials, |row| (rollup(row.level), row.class), Row::Partial);
    }
    let shared = |table: Table, rows: Vec<Row<'a>>| Batch { table: TableName::shared(table), rows, span_us: None };
    let mut tables = vec![
        shared(Table::Device, commits.outputs().flat_map(|outputs| &outputs.devices).map(Row::Device).collect()),
        shared(Table::Series, latest_of_series(commits)),
    ];
    for ((table, class_no), mut rows) in by_class {
        let class = classes.iter().find(|class| class.no == class_no).ok_or(class_no)?;
        let span_us = sort(&mut rows, sweep);
        tables.push(Batch { table: table.named(class), rows, span_us });
    }
    let set_aside = set_aside(commits, refused, &mut tables);
    tables.retain(|batch| !batch.rows.is_empty());
    let quarantined = commits.outputs().flat_map(|outputs| &outputs.quarantined);
    let quarantine = shared(Table::Quarantine, quarantined.map(Row::Quarantined).collect());
    Ok(Batches { tables, quarantine, set_aside })
}

/// Sorts the rows of a table with series, and gives the span of their times.
///
/// Cost: the graph emits what is due in the order of series, partition by partition: so partials consist of a few sequences
/// in order, which a stable sort merges.
fn sort(rows: &mut Vec<Row<'_>>, sweep: Sweep) -> Option<RangeInclusive<i64>> {
    // The keys beside the rows: those lie all over the memory.
    let mut keyed: Vec<_> = rows.iter().map(|row| (row.order(sweep), *row)).collect();
    keyed.sort_by_key(|&(key, _)| key);
    let times = || keyed.iter().map(|&((_, at_us), _)| at_us);
    let span_us = times().min().zip(times().max()).map(|(first, last)| first..=last);
    rows.clear();
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    span_us
}

/// Rows by table and class.
type ByClass<'a> = BTreeMap<(Table, ClassNo), Vec<Row<'a>>>;

/// Adds rows to those of their tables. Neighbours mostly go to the same one.
fn sort_in<'a, T>(
    by_class: &mut ByClass<'a>,
    rows: &'a [Placed<T>],
    class: impl Fn(&T) -> (Table, ClassNo),
    row: impl Fn(&'a Placed<T>) -> Row<'a>,
) {
    for neighbours in rows.chunk_by(|one, next| class(&one.row) == class(&next.row)) {
        by_class.entry(class(&neighbours[0].row)).or_default().extend(neighbours.iter().map(&row));
    }
}

fn rollup(level: BucketLevel) -> Table {
    match level {
        BucketLevel::Hour => Table::Rollup1h,
        BucketLevel::Day => Table::Rollup1d,
    }
}

/// Takes the rows of refused series out of their tables.
fn set_aside(commits: Commits<'_>, refused: &RefusedSeriesSet, tables: &mut [Batch<'_>]) -> Vec<RefusedRow> {
    let mut set_aside = Vec::new();
    if !refused.is_empty() {
        for Batch { table, rows, .. } in tables {
            rows.retain(|row| match refused.set_aside(commits, table.as_str(), row) {
                Some(refused) => {
                    set_aside.push(refused);
                    false
                }
                None => true,
            });
        }
    }
    set_aside
}

/// A series stands in one commit twice when its class changed; an upsert takes each only once.
fn latest_of_series(commits: Commits<'_>) -> Vec<Row<'_>> {
    let latest: BTreeMap<SeriesId, Row<'_>> =
        commits.outputs().flat_map(|outputs| &outputs.series).map(|placed| (placed.row.series, Row::Series(placed))).collect();
    latest.into_values().collect()
}

impl Row<'_> {
    /// Rows without a series keep the order in which they were made.
    fn order(&self, sweep: Sweep) -> (i64, i64) {
        let (series, at_us) = match self {
            Self::Number(placed) => (placed.row.series, placed.row.at.0),
            Self::Text(placed) => (placed.row.series, placed.row.at.0),
            Self::Location(placed) => (placed.row.series, placed.row.at.0),
            Self::Partial(placed) => (placed.row.series, placed.row.start.0),
            Self::Device(_) | Self::Series(_) | Self::Quarantined(_) | Self::Refused(_) => (SeriesId(0), 0),
        };
        match sweep {
            Sweep::Up => (series.0, at_us),
            Sweep::Down => (!series.0, at_us),
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

    /// The device that the row belongs to.
    pub(super) fn device(&self) -> Option<DeviceNo> {
        match self {
            Self::Device(placed) => Some(placed.row.0.no),
            _ => self.series().map(SeriesId::device),
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

    /// The whole row for `quarantine.record`: JSON in UTF-8 with the name of its table and the columns
    /// of it that say something, times as microseconds since the Unix epoch (`…_us`).
    pub(super) fn content(&self, table: &str) -> Vec<u8> {
        let columns = match self {
            Self::Device(placed) => {
                let device = &placed.row.0;
                json!({ "device_no": device.no.0, "tenant_no": device.tenant.0, "id": device.id.as_str(),
                        "template_no": device.template.0, "variables": device.variables, "zone": device.zone })
            }
            Self::Series(placed) => {
                let CatalogueSeries { series, tenant, device, field, kind, unit, class } = &placed.row;
                json!({ "series_id": series.0, "tenant_no": tenant.0, "device": device.as_str(), "field": &**field,
                        "kind": kind.as_str(), "unit": unit, "class_no": class.0 })
            }
            Self::Number(placed) => {
                json!({ "ts_us": placed.row.at.0, "series_id": placed.row.series.0, "value": placed.row.value })
            }
            Self::Text(placed) => {
                json!({ "ts_us": placed.row.at.0, "series_id": placed.row.series.0, "value": &*placed.row.value })
            }
            Self::Location(placed) => {
                let (latitude, longitude, altitude) = placed.row.value;
                json!({ "ts_us": placed.row.at.0, "series_id": placed.row.series.0, "latitude": latitude,
                        "longitude": longitude, "altitude": altitude })
            }
            Self::Partial(placed) => {
                let partial = &placed.row;
                let point = |point: &Point| json!({ "value": point.value, "ts_us": point.at.0, "offset": point.offset.0 });
                json!({ "bucket_us": partial.start.0, "bucket_end_us": partial.end.0, "series_id": partial.series.0,
                        "count": partial.count, "sum": partial.sum, "min": partial.min, "max": partial.max,
                        "first": point(&partial.first), "last": point(&partial.last) })
            }
            Self::Quarantined(placed) => return placed.row.record.clone(),
            Self::Refused(refused) => return refused.content.clone(),
        };
        json!({ "table": table, "row": columns }).to_string().into_bytes()
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
                out.bytea(&row.content);
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
