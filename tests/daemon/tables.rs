//! What the tables hold, and what the oracle makes of a log: both as lines of text, table by table.

use crate::process::{PARTITIONS, PATIENCE};
use crate::world::log_dir;
use data_encoding::HEXLOWER;
use dataflows::model::{
    BucketLevel, CatalogueSeries, Counts, Entry, Offset, Outputs, Partial, Partition, Placed, Quarantined, Record, Stored,
};
use dataflows::oracle::Oracle;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};
use weir::codec;
use weir::decoder::{DecoderLimits, Decoders, VerdictSink};
use weir::log::{Clock, Log, LogOptions};

/// Each table's rows, sorted.
pub(crate) type Rows = BTreeMap<&'static str, Vec<String>>;

/// How a row of a table is written.
type Line = fn(&Row) -> String;

/// Unit of all times: microseconds since the Unix epoch.
const TABLES: [(&str, &str, Line); 8] = [
    ("series", "series_id, tenant_no::bigint, device, field, kind, unit, class_no::bigint", |row| {
        format!(
            "{} {} {} {} {} {:?} {}",
            n(row, 0),
            n(row, 1),
            t(row, 2),
            t(row, 3),
            t(row, 4),
            row.get::<_, Option<String>>(5),
            n(row, 6)
        )
    }),
    ("measurement", "series_id, us(ts), value", |row| format!("{} {} {:?}", n(row, 0), n(row, 1), f(row, 2))),
    ("measurement_text", "series_id, us(ts), value", |row| format!("{} {} {:?}", n(row, 0), n(row, 1), t(row, 2))),
    ("measurement_location", "series_id, us(ts), latitude, longitude, altitude", |row| {
        format!("{} {} {:?} {:?} {:?}", n(row, 0), n(row, 1), f(row, 2), f(row, 3), row.get::<_, Option<f64>>(4))
    }),
    ("rollup_1h", PARTIAL, partial_of_row),
    ("rollup_1d", PARTIAL, partial_of_row),
    ("quarantine", "\"partition\"::bigint, \"offset\", us(log_time), tenant_no::bigint, device, field, reason, record", |row| {
        let (field, record): (Option<String>, Vec<u8>) = (row.get(5), row.get(7));
        let (partition, offset, log_time, tenant) = (n(row, 0), n(row, 1), n(row, 2), n(row, 3));
        format!("{partition}/{offset} {log_time} {tenant} {} {field:?} {} {}", t(row, 4), t(row, 6), HEXLOWER.encode(&record))
    }),
    ("progress", "\"partition\"::bigint, \"offset\", us(log_time), refused, counts", |row| {
        let Json(counts): Json<Counts> = row.get(4);
        format!("{} {} {:?} {} {counts:?}", n(row, 0), n(row, 1), row.get::<_, Option<i64>>(2), n(row, 3))
    }),
];
const PARTIAL: &str =
    "us(bucket), series_id, count, sum, min, max, first, us(first_ts), first_offset, last, us(last_ts), last_offset";

fn n(row: &Row, column: usize) -> i64 {
    row.get(column)
}

fn f(row: &Row, column: usize) -> f64 {
    row.get(column)
}

fn t(row: &Row, column: usize) -> String {
    row.get(column)
}

fn partial_of_row(row: &Row) -> String {
    let (numbers, points) = ([3, 4, 5].map(|at| f(row, at)), [6, 9].map(|at| (f(row, at), n(row, at + 1), n(row, at + 2))));
    format!("{} {} {} {numbers:?} {points:?}", n(row, 0), n(row, 1), n(row, 2))
}

/// Reads all tables.
pub(crate) async fn stored(client: &Client) -> Rows {
    let us = "CREATE OR REPLACE FUNCTION pg_temp.us(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS \
              'SELECT (extract(epoch FROM $1) * 1000000)::bigint'";
    client.batch_execute(us).await.unwrap();
    let mut rows = Rows::new();
    for (table, columns, line) in TABLES {
        let sql = format!("SELECT {} FROM {table}", columns.replace("us(", "pg_temp.us("));
        let lines = client.query(&sql, &[]).await.unwrap().iter().map(line).collect();
        rows.insert(table, sorted(lines));
    }
    rows
}

/// Runs the log of a data directory, which no daemon uses now, through the oracle.
pub(crate) fn expected(dir: &Path) -> Rows {
    let options = LogOptions { partitions: PARTITIONS, ..LogOptions::default() };
    let (log, _) = Log::open(&log_dir(dir), options, Clock::system()).unwrap();
    let decoders = decoders(&dir.join("decoders"));
    let mut oracle = Oracle::default();
    let (mut outputs, mut progress) = (Outputs::default(), Vec::new());
    for partition in (0..PARTITIONS).map(Partition) {
        let entries = entries(&log, partition);
        outputs.append(&mut oracle.run(&entries, &mut decoders.worker()));
        let log_time = entries.last().map(|entry| entry.log_time.0);
        progress.push(format!("{partition} {} {log_time:?} 0 {:?}", log.end(partition), oracle.counts(partition)));
    }
    let Outputs { devices, series, numbers, texts, locations, partials, quarantined } = outputs;
    assert!(devices.is_empty(), "the fleet is registered");
    let of_level = |level| sorted(partials.iter().filter(|p| p.row.level == level).map(|p| partial(&p.row)).collect());
    Rows::from([
        ("series", lines(&series, |_, row| catalogue(row))),
        ("measurement", lines(&numbers, |_, Stored { series, at, value, .. }| format!("{series} {} {value:?}", at.0))),
        ("measurement_text", lines(&texts, |_, Stored { series, at, value, .. }| format!("{series} {} {value:?}", at.0))),
        (
            "measurement_location",
            lines(&locations, |_, Stored { series, at, value: (latitude, longitude, altitude), .. }| {
                format!("{series} {} {latitude:?} {longitude:?} {altitude:?}", at.0)
            }),
        ),
        ("rollup_1h", of_level(BucketLevel::Hour)),
        ("rollup_1d", of_level(BucketLevel::Day)),
        ("quarantine", lines(&quarantined, |(partition, offset), row| set_aside(partition, offset, row))),
        ("progress", sorted(progress)),
    ])
}

/// Opens the decoders of a folder.
pub(crate) fn decoders(dir: &Path) -> Decoders {
    let limits = DecoderLimits { watchdog: PATIENCE, ..DecoderLimits::default() };
    Decoders::open(dir, limits, Arc::new(NoVerdicts)).unwrap()
}

/// Reads a partition from its start, with the verdicts that lie ahead.
fn entries(log: &Log, partition: Partition) -> Vec<Entry> {
    let (mut at, mut raw) = (log.start(partition), Vec::new());
    assert_eq!(at, Offset(0), "nothing is truncated within a test");
    while at < log.end(partition) {
        at = log.read(partition, at, 1 << 20, &mut raw).unwrap();
    }
    let records: Vec<_> = raw.iter().map(|raw| codec::decode(&raw.body).unwrap()).collect();
    let condemned: HashSet<Offset> =
        records.iter().filter_map(|record| if let Record::Verdict { uplink } = record { Some(*uplink) } else { None }).collect();
    let entry = |(raw, record): (weir::log::RawRecord, Record)| Entry {
        partition,
        offset: raw.offset,
        log_time: raw.log_time,
        condemned: condemned.contains(&raw.offset),
        record,
    };
    raw.into_iter().zip(records).map(entry).collect()
}

fn lines<T>(rows: &[Placed<T>], line: impl Fn((Partition, Offset), &T) -> String) -> Vec<String> {
    sorted(rows.iter().map(|placed| line((placed.partition, placed.offset), &placed.row)).collect())
}

fn catalogue(row: &CatalogueSeries) -> String {
    let CatalogueSeries { series, tenant, device, field, kind, unit, class } = row;
    format!("{series} {tenant} {device} {field} {} {unit:?} {class}", kind.as_str())
}

fn partial(row: &Partial) -> String {
    let numbers = [row.sum, row.min, row.max];
    let points = [row.first, row.last].map(|point| (point.value, point.at.0, point.offset.0));
    format!("{} {} {} {numbers:?} {points:?}", row.start.0, row.series, row.count)
}

fn set_aside(partition: Partition, offset: Offset, row: &Quarantined) -> String {
    let Quarantined { log_time, tenant, device, field, reason, record, .. } = row;
    let field = field.as_deref();
    format!("{partition}/{offset} {} {tenant} {device} {field:?} {} {}", log_time.0, reason.as_str(), HEXLOWER.encode(record))
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// Panics: with the first differences of each table, where there are some.
pub(crate) fn assert_same(stored: &Rows, expected: &Rows) {
    let mut report = String::new();
    for (table, expected) in expected {
        let (lost, invented) = differences(&stored[table], expected);
        if lost.len() + invented.len() > 0 {
            let first = |lines: &[&String]| lines.iter().take(5).map(|line| format!("\n    {line}")).collect::<String>();
            let (missing, beyond) = (first(&lost), first(&invented));
            report += &format!("{table}: {} lost:{missing}\n  {} too many:{beyond}\n", lost.len(), invented.len());
        }
    }
    assert!(report.is_empty(), "the tables are not what the oracle makes of the log\n{report}");
}

/// Gives what is in `expected` alone, and what is in `stored` alone, each as often as it is.
fn differences<'a>(stored: &'a [String], expected: &'a [String]) -> (Vec<&'a String>, Vec<&'a String>) {
    let (mut stored, mut expected) = (stored.iter().peekable(), expected.iter().peekable());
    let (mut lost, mut invented) = (Vec::new(), Vec::new());
    loop {
        match (stored.peek(), expected.peek()) {
            (None, None) => return (lost, invented),
            (Some(_), None) => invented.extend(stored.next()),
            (None, Some(_)) => lost.extend(expected.next()),
            (Some(found), Some(wanted)) => match found.cmp(wanted) {
                Ordering::Less => invented.extend(stored.next()),
                Ordering::Greater => lost.extend(expected.next()),
                Ordering::Equal => drop((stored.next(), expected.next())),
            },
        }
    }
}

/// The oracle's decoders have all the time that they want.
struct NoVerdicts;

impl VerdictSink for NoVerdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err(format!("the oracle's decoder does not end with record {uplink} of partition {partition}").into())
    }
}
