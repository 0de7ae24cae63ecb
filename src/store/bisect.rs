//! Writes a commit of which the database refuses some rows: halves a table's rows until the refused
//! ones stand alone, and puts those into quarantine. All in the one transaction of the commit.

use super::commit::{Commits, Committed, StopReason};
use super::progress::number;
use super::refusals::RefusedSeries;
use super::rows::{Batch, Batches, Row};
use super::session::{Failure, Session};
use super::sqlstate::{Remedy, remedy, words};
use super::tables::Table;
use dataflows::model::{DeviceNo, LogTime, Offset, Partition, SeriesId};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use tokio_postgres::Error;

/// More refused rows than this in one commit are not set aside.
const REFUSED_MAX: usize = 10_000;
/// Nor is more than half of a commit, once it is more than this many rows.
const REFUSED_FEW: usize = 100;
/// Nor are whole commits, small as they may be, of more than one device, once they are more than this
/// many in a row.
const WHOLLY_REFUSED_MAX: u32 = 100;

/// What `quarantine` says of a row that the database refused.
#[derive(Debug)]
pub(super) struct RefusedRow {
    pub(super) table: String,
    pub(super) log_time: LogTime,
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) tenant_no: Option<i32>,
    pub(super) device: Option<String>,
    pub(super) field: Option<String>,
    pub(super) detail: String,
    /// The row, as [`Row::content`] gives it.
    pub(super) content: Vec<u8>,
}

/// Tenant, device and field of a row.
type Whose = (Option<i32>, Option<String>, Option<String>);

impl RefusedRow {
    pub(super) fn new(commits: Commits<'_>, table: &str, row: &Row<'_>, whose: Whose, detail: String) -> Self {
        let (partition, offset) = row.place();
        let advance = commits.advances().find(|advance| advance.partition == partition);
        let log_time = advance.map_or(LogTime(0), |advance| advance.log_time);
        let (tenant_no, device, field) = whose;
        let content = row.content(table);
        Self { table: table.into(), log_time, partition, offset, tenant_no, device, field, detail, content }
    }
}

/// The commits in a row of which no row was taken.
#[derive(Debug, Default)]
pub(super) struct WhollyRefused {
    commits: u32,
    /// Whose rows they were: two are enough to know that it is not one device.
    devices: BTreeSet<DeviceNo>,
}

impl WhollyRefused {
    /// Adds a commit that would be wholly refused. Gives how many it makes, when they are too many.
    fn add(&mut self, devices: impl IntoIterator<Item = DeviceNo>) -> Option<u32> {
        self.commits = self.commits.saturating_add(1);
        for device in devices {
            if self.devices.len() < 2 {
                self.devices.insert(device);
            }
        }
        (self.commits > WHOLLY_REFUSED_MAX && self.devices.len() > 1).then_some(self.commits)
    }
}

/// Rows refused so far, with the server's words.
struct Refusals<'a> {
    rows_of_commit: usize,
    refused: Vec<Refusal<'a>>,
}

struct Refusal<'a> {
    row: Row<'a>,
    table: String,
    detail: String,
}

/// Writes all tables, refused rows aside, which it gives; the quarantine is left to the caller.
pub(super) async fn write(
    session: &mut Session,
    commits: Commits<'_>,
    batches: &Batches<'_>,
    wholly: &mut WhollyRefused,
    committed: &mut Committed,
) -> Result<Vec<RefusedRow>, Failure> {
    // A deferred constraint would otherwise speak up at COMMIT, when no row can be named.
    session.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    let rows_of_commit = batches.tables.iter().map(|batch| batch.rows.len()).sum();
    let mut refusals = Refusals { rows_of_commit, refused: Vec::new() };
    for batch in &batches.tables {
        committed.bytes += match batch.table.table {
            Table::Series => write_series(session, batch).await?,
            _ => write_halves(session, batch, &mut refusals).await?,
        };
    }
    let refused = refusals.refused.len();
    if refused == rows_of_commit
        && let Some(Refusal { detail, .. }) = refusals.refused.first()
        && let Some(commits) = wholly.add(refusals.refused.iter().filter_map(|refusal| refusal.row.device()))
    {
        return Err(Failure::Stop(StopReason::WhollyRefused { commits, example: detail.clone() }));
    }
    if refused < rows_of_commit {
        *wholly = WhollyRefused::default();
    }
    committed.rows = (rows_of_commit - refused) as u64;
    name(session, commits, &refusals).await
}

/// Writes the series, or tells all that the table refuses: their other rows must not be written either.
async fn write_series(session: &mut Session, batch: &Batch<'_>) -> Result<u64, Failure> {
    let mut refused = Vec::new();
    let mut todo: Vec<Range<usize>> = std::iter::once(0..batch.rows.len()).collect();
    while let Some(range) = todo.pop() {
        let rows = &batch.rows[range.clone()];
        match write_part(session, batch, range.clone()).await {
            Ok(_) => {}
            Err(Failure::SeriesRefused(more)) => refused.extend(more),
            Err(Failure::Server(error)) if is_of_a_row(&error) => match rows {
                [Row::Series(placed)] => {
                    let why = format!("the table series refuses its row: {}", words(&error));
                    refused.push(RefusedSeries { series: placed.row.clone(), why });
                }
                _ => halve(range, &mut todo),
            },
            Err(failure) => return Err(failure),
        }
    }
    if refused.is_empty() { Ok(0) } else { Err(Failure::SeriesRefused(refused)) }
}

/// Writes one table. Cost: each refused row costs about as many statements as the rows have bits.
async fn write_halves<'a>(session: &mut Session, batch: &Batch<'a>, refusals: &mut Refusals<'a>) -> Result<u64, Failure> {
    let mut bytes = 0;
    // A stack, its top the foremost rows, so that rows are written in their order.
    let mut todo: Vec<Range<usize>> = std::iter::once(0..batch.rows.len()).collect();
    while let Some(range) = todo.pop() {
        match write_part(session, batch, range.clone()).await {
            Ok(written) => bytes += written,
            Err(Failure::Server(error)) if is_of_a_row(&error) => match range.len() {
                1 => refusals.add(batch, batch.rows[range.start], &error)?,
                _ => halve(range, &mut todo),
            },
            Err(failure) => return Err(failure),
        }
    }
    Ok(bytes)
}

/// Writes some rows, or leaves the transaction as if it had not tried.
async fn write_part(session: &mut Session, batch: &Batch<'_>, range: Range<usize>) -> Result<u64, Failure> {
    session.client.batch_execute("SAVEPOINT part").await?;
    let written = session.write(&batch.table, &batch.rows[range]).await;
    let end = match &written {
        Err(Failure::Server(error)) if is_of_a_row(error) => "ROLLBACK TO part; RELEASE part",
        Err(_) => return written,
        Ok(_) => "RELEASE part",
    };
    session.client.batch_execute(end).await?;
    written
}

fn is_of_a_row(error: &Error) -> bool {
    matches!(remedy(error), Remedy::Bisect | Remedy::MakePartition)
}

fn halve(range: Range<usize>, todo: &mut Vec<Range<usize>>) {
    let middle = range.start + range.len() / 2;
    todo.push(middle..range.end);
    todo.push(range.start..middle);
}

impl<'a> Refusals<'a> {
    fn add(&mut self, batch: &Batch<'a>, row: Row<'a>, error: &Error) -> Result<(), Failure> {
        let table = batch.table.to_string();
        let detail = format!("the table {table} refused {}: {}", row.describe(), words(error));
        let (refused, rows) = (self.refused.len() + 1, self.rows_of_commit);
        if refused > REFUSED_MAX || (refused > REFUSED_FEW && refused > rows / 2) {
            return Err(Failure::Stop(StopReason::TooManyRefused { refused, rows, example: detail }));
        }
        self.refused.push(Refusal { row, table, detail });
        Ok(())
    }
}

/// Looks up whose the refused rows are: a row knows its series only.
async fn name(session: &Session, commits: Commits<'_>, refusals: &Refusals<'_>) -> Result<Vec<RefusedRow>, Failure> {
    let ids: Vec<i64> = refusals.refused.iter().filter_map(|refusal| refusal.row.series()).map(|series| series.0).collect();
    let sql = "SELECT series_id, tenant_no, device, field FROM series WHERE series_id = ANY ($1)";
    let names = session.client.query(sql, &[&ids]).await?;
    let names: HashMap<SeriesId, _> = names.iter().map(|row| (SeriesId(row.get(0)), row)).collect();
    let named = |Refusal { row, table, detail }: &Refusal<'_>| {
        let series = row.series().and_then(|series| names.get(&series));
        let whose = match (row, series) {
            (Row::Device(placed), _) => (Some(placed.row.0.tenant.0.cast_signed()), Some(placed.row.0.id.to_string()), None),
            (_, Some(series)) => (series.get(1), series.get(2), series.get(3)),
            (_, None) => (None, None, None),
        };
        RefusedRow::new(commits, table, row, whose, detail.clone())
    };
    Ok(refusals.refused.iter().map(named).collect())
}

/// Adds the refused rows to `progress.refused`, whose rows this transaction holds already.
pub(super) async fn count(session: &Session, refused: &[&RefusedRow]) -> Result<(), Failure> {
    let partitions: Vec<i16> = refused.iter().map(|row| number(row.partition)).collect();
    let sql = "UPDATE progress p SET refused = refused + n FROM \
               (SELECT u, count(*) AS n FROM unnest($1::int2[]) u GROUP BY u) c WHERE p.\"partition\" = c.u";
    session.client.execute(sql, &[&partitions]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_that_are_wholly_refused_are_too_many_when_they_are_of_more_than_one_device() {
        let mut of_one = WhollyRefused::default();
        assert!(
            (0..10 * WHOLLY_REFUSED_MAX).all(|_| of_one.add([DeviceNo(1)]).is_none()),
            "it may be the device that is at fault"
        );
        assert_eq!(of_one.add([DeviceNo(2)]), Some(10 * WHOLLY_REFUSED_MAX + 1));
        let mut of_two = WhollyRefused::default();
        assert!((0..WHOLLY_REFUSED_MAX).all(|_| of_two.add([DeviceNo(1), DeviceNo(2)]).is_none()));
        assert_eq!(of_two.add([DeviceNo(1)]), Some(WHOLLY_REFUSED_MAX + 1));
    }
}
