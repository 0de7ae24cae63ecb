//! Writes a commit of which the database refuses some rows: halves a table's rows until the refused
//! ones stand alone, and puts those into quarantine. All in the one transaction of the commit.

use super::StoreError;
use super::commit::{Commit, Committed, Refused, StopReason};
use super::rows::{Batch, Batches, RefusedRow, Row};
use super::session::{Failure, Session};
use super::sqlstate::{Remedy, remedy, words};
use dataflows::model::{LogTime, SeriesId};
use std::collections::HashMap;
use std::ops::Range;
use tokio_postgres::Error;

/// More refused rows than this in one commit are not set aside.
const REFUSED_MAX: usize = 10_000;
/// Nor is more than half of a commit, once it is more than this many rows.
const REFUSED_FEW: usize = 100;

/// Rows refused so far, with the table and the server's words.
struct Refusals<'a> {
    rows_of_commit: usize,
    refused: Vec<(Row<'a>, Refused)>,
}

/// Writes all tables, refused rows aside, then the quarantine with them.
pub(super) async fn write(session: &mut Session, commit: &Commit, batches: &Batches<'_>) -> Result<Committed, Failure> {
    // A deferred constraint would otherwise speak up at COMMIT, when no row can be named.
    session.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    let rows_of_commit = batches.tables.iter().map(|batch| batch.rows.len()).sum();
    let mut refusals = Refusals { rows_of_commit, refused: Vec::new() };
    let mut committed = Committed::default();
    for batch in &batches.tables {
        committed.bytes += write_halves(session, batch, &mut refusals).await?;
    }
    committed.rows = (rows_of_commit - refusals.refused.len() + batches.quarantine.rows.len()) as u64;
    let refused_rows = name(session, commit, &refusals).await?;
    count(session, &refused_rows).await?;

    let quarantine: Vec<Row<'_>> = batches.quarantine.rows.iter().copied().chain(refused_rows.iter().map(Row::Refused)).collect();
    if !quarantine.is_empty() {
        committed.bytes += session.write(&batches.quarantine.table, &quarantine).await.map_err(|failure| match failure {
            Failure::Server(source) if remedy(&source) == Remedy::Bisect => {
                Failure::Stop(StopReason::QuarantineRefuses(StoreError::Query {
                    doing: "the quarantine was not written",
                    source,
                }))
            }
            failure => failure,
        })?;
    }
    committed.refused = refusals.refused.into_iter().map(|(_, refused)| refused).collect();
    Ok(committed)
}

/// Writes one table. Cost: each refused row costs about as many statements as the rows have bits.
async fn write_halves<'a>(session: &mut Session, batch: &Batch<'a>, refusals: &mut Refusals<'a>) -> Result<u64, Failure> {
    let mut bytes = 0;
    // A stack, its top the foremost rows, so that rows are written in their order.
    let mut todo: Vec<Range<usize>> = std::iter::once(0..batch.rows.len()).collect();
    while let Some(range) = todo.pop() {
        session.client.batch_execute("SAVEPOINT part").await?;
        let error = match session.write(&batch.table, &batch.rows[range.clone()]).await {
            Ok(written) => {
                session.client.batch_execute("RELEASE part").await?;
                bytes += written;
                continue;
            }
            Err(Failure::Server(error)) if matches!(remedy(&error), Remedy::Bisect | Remedy::MakePartition) => error,
            Err(failure) => return Err(failure),
        };
        session.client.batch_execute("ROLLBACK TO part; RELEASE part").await?;
        if range.len() == 1 {
            refusals.add(batch, batch.rows[range.start], &error)?;
        } else {
            let middle = range.start + range.len() / 2;
            todo.push(middle..range.end);
            todo.push(range.start..middle);
        }
    }
    Ok(bytes)
}

impl<'a> Refusals<'a> {
    fn add(&mut self, batch: &Batch<'a>, row: Row<'a>, error: &Error) -> Result<(), Failure> {
        let (partition, offset) = row.place();
        let table = batch.table.to_string();
        let detail = format!("the table {table} refused {}: {}", row.describe(), words(error));
        let (refused, rows) = (self.refused.len() + 1, self.rows_of_commit);
        if refused > REFUSED_MAX || (refused > REFUSED_FEW && refused > rows / 2) {
            return Err(Failure::Stop(StopReason::TooManyRefused { refused, rows, example: detail }));
        }
        self.refused.push((row, Refused { table, partition, offset, detail }));
        Ok(())
    }
}

/// Looks up whose the refused rows are: a row knows its series only.
async fn name(session: &Session, commit: &Commit, refusals: &Refusals<'_>) -> Result<Vec<RefusedRow>, Failure> {
    let ids: Vec<i64> = refusals.refused.iter().filter_map(|(row, _)| row.series()).map(|series| series.0).collect();
    let sql = "SELECT series_id, tenant_no, device, field FROM series WHERE series_id = ANY ($1)";
    let names = session.client.query(sql, &[&ids]).await?;
    let names: HashMap<SeriesId, _> = names.iter().map(|row| (SeriesId(row.get(0)), row)).collect();
    let named = |(row, refused): &(Row<'_>, Refused)| {
        let advance = commit.advances.iter().find(|advance| advance.partition == refused.partition);
        let series = row.series().and_then(|series| names.get(&series));
        let (tenant_no, device, field) = match (row, series) {
            (Row::Device(placed), _) => (Some(placed.row.0.tenant.0.cast_signed()), Some(placed.row.0.id.to_string()), None),
            (_, Some(series)) => (series.get(1), series.get(2), series.get(3)),
            (_, None) => (None, None, None),
        };
        RefusedRow {
            log_time: advance.map_or(LogTime(0), |advance| advance.log_time),
            partition: refused.partition,
            offset: refused.offset,
            tenant_no,
            device,
            field,
            detail: refused.detail.clone(),
        }
    };
    Ok(refusals.refused.iter().map(named).collect())
}

/// Adds the refused rows to `progress.refused`, whose rows this transaction holds already.
async fn count(session: &Session, refused: &[RefusedRow]) -> Result<(), Failure> {
    let partitions: Vec<i16> = refused.iter().map(|row| super::progress::number(row.partition)).collect();
    let sql = "UPDATE progress p SET refused = refused + n FROM \
               (SELECT u, count(*) AS n FROM unnest($1::int2[]) u GROUP BY u) c WHERE p.\"partition\" = c.u";
    session.client.execute(sql, &[&partitions]).await?;
    Ok(())
}
