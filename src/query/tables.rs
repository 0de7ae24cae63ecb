//! Reads rows from the tables. Rows come as a stream, so that what is held is what the answer needs.

use super::answer::Cell;
use super::catalogue::ClassTables;
use super::database::Database;
use super::level::{LevelAsk, Tables};
use super::merge::{Merged, Piece};
use super::problem::Problem;
use super::zone::timestamp;
use dataflows::model::{BucketLevel, EventTime, Offset, Point, SeriesId, ValueKind};
use deadpool_postgres::Transaction;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use std::future::Future;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// A stored row.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RawRow {
    pub(super) at: EventTime,
    pub(super) series: SeriesId,
    pub(super) value: Cell,
}

/// Which stored rows are read.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RawAsk {
    /// Numbers here include booleans.
    pub(super) series: Vec<(SeriesId, ValueKind)>,
    pub(super) from: EventTime,
    pub(super) to: EventTime,
    /// Most rows of each table.
    pub(super) limit: usize,
    /// Most text of all rows together. Unit: bytes.
    pub(super) text_bytes_max: usize,
    pub(super) classes: Vec<ClassTables>,
}

const PARTIAL: &str = "series_id, count, sum, min, max, first_ts, first_offset, first, last_ts, last_offset, last";

impl Tables for Database {
    fn partials(
        &self,
        ask: &LevelAsk,
        take: &mut (dyn FnMut(Piece) + Send),
    ) -> impl Future<Output = Result<Offset, Problem>> + Send {
        self.committed_partials(ask, take)
    }
}

impl Database {
    async fn committed_partials(&self, ask: &LevelAsk, take: &mut (dyn FnMut(Piece) + Send)) -> Result<Offset, Problem> {
        let base = match ask.level {
            BucketLevel::Hour => "rollup_1h",
            BucketLevel::Day => "rollup_1d",
        };
        let condition = "series_id = ANY($1) AND bucket >= $2 AND bucket < $3";
        let rows = union(&ask.classes, |class| format!("SELECT {PARTIAL} FROM {} WHERE {condition}", class.name(base)));
        let (from, to) = (timestamp(ask.buckets_from()), timestamp(ask.to));
        let mut connection = self.connection().await?;
        let snapshot = self.snapshot(&mut connection).await?;
        let partition = ask.partition.0.cast_signed();
        let progress = "SELECT \"offset\" FROM progress WHERE \"partition\" = $1";
        let progress = snapshot.query_opt(progress, &[&partition]).await.map_err(|e| self.problem(&e))?;
        self.stream(&snapshot, &rows, &[&ids(&ask.series), &from, &to], |row| {
            take(piece(&row));
            Ok(())
        })
        .await?;
        drop(snapshot);
        connection.release();
        // A partition without a row has committed nothing.
        Ok(Offset(progress.map_or(0, |row| row.get::<_, i64>(0).cast_unsigned())))
    }

    /// Reads stored rows of all kinds, at most `limit` of each table, the earliest, by time and series; of one
    /// series and time one row.
    ///
    /// Errors: when the database does not answer in time, or the rows hold too much text.
    pub(super) async fn rows(&self, ask: &RawAsk) -> Result<Vec<RawRow>, Problem> {
        type Kind = (fn(ValueKind) -> bool, &'static str, &'static str, fn(&Row) -> Cell);
        let kinds: [Kind; 3] = [
            (is_numeric, "measurement", "value", |row| Cell::Number(row.get(2))),
            (|kind| kind == ValueKind::Text, "measurement_text", "value", |row| Cell::Text(row.get(2))),
            (|kind| kind == ValueKind::Location, "measurement_location", "latitude, longitude, altitude", location),
        ];
        let mut connection = self.connection().await?;
        let snapshot = self.snapshot(&mut connection).await?;
        let (from, to, limit) = (timestamp(ask.from), timestamp(ask.to), ask.limit as i64);
        let (mut out, mut text_bytes) = (Vec::new(), 0);
        for (is_of_table, table, columns, value) in kinds {
            let series = ask.series.iter().filter(|(_, kind)| is_of_table(*kind)).map(|(series, _)| series.0);
            let series: Vec<i64> = series.collect();
            if series.is_empty() {
                continue;
            }
            let condition = "series_id = s.id AND ts >= $2 AND ts < $3";
            let source =
                union(&ask.classes, |class| format!("SELECT ts, {columns} FROM {} WHERE {condition}", class.name(table)));
            let sql = format!(
                "SELECT m.ts, s.id, {columns} FROM unnest($1::bigint[]) AS s(id) CROSS JOIN LATERAL \
                 (SELECT DISTINCT ON (ts) * FROM ({source}) u ORDER BY ts, {columns} LIMIT $4) m \
                 ORDER BY m.ts, s.id LIMIT $4"
            );
            let take = |row: Row| {
                let value = value(&row);
                text_bytes += if let Cell::Text(text) = &value { text.len() } else { 0 };
                out.push(RawRow { at: time(&row, 0), series: SeriesId(row.get(1)), value });
                if text_bytes <= ask.text_bytes_max { Ok(()) } else { Err(Problem::TooMuchText { max: ask.text_bytes_max }) }
            };
            self.stream(&snapshot, &sql, &[&series, &from, &to, &limit], take).await?;
        }
        drop(snapshot);
        connection.release();
        Ok(out)
    }

    /// Gives `take` the values of one field in time order: the last row before `from`, and all up to `to`.
    ///
    /// Errors: when the database does not answer in time.
    pub(super) async fn changes(&self, ask: &RawAsk, take: &mut (dyn FnMut(EventTime, f64) + Send)) -> Result<(), Problem> {
        let rows = |condition: &str| {
            union(&ask.classes, |class| format!("SELECT ts, value FROM {} WHERE {condition}", class.name("measurement")))
        };
        let before = format!(
            "SELECT m.ts, m.value FROM unnest($1::bigint[]) AS s(id) CROSS JOIN LATERAL \
             (SELECT ts, value FROM ({}) u ORDER BY ts DESC, value DESC LIMIT 1) m ORDER BY m.ts DESC, m.value DESC LIMIT 1",
            rows("series_id = s.id AND ts < $2")
        );
        let within =
            format!("SELECT ts, value FROM ({}) u ORDER BY ts, value", rows("series_id = ANY($1) AND ts >= $2 AND ts < $3"));
        let series: Vec<i64> = ask.series.iter().map(|(series, _)| series.0).collect();
        let (from, to) = (timestamp(ask.from), timestamp(ask.to));
        let mut connection = self.connection().await?;
        let snapshot = self.snapshot(&mut connection).await?;
        self.stream(&snapshot, &before, &[&series, &from], |row| {
            take(time(&row, 0), row.get(1));
            Ok(())
        })
        .await?;
        self.stream(&snapshot, &within, &[&series, &from, &to], |row| {
            take(time(&row, 0), row.get(1));
            Ok(())
        })
        .await?;
        drop(snapshot);
        connection.release();
        Ok(())
    }

    async fn stream(
        &self,
        snapshot: &Transaction<'_>,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        mut take: impl FnMut(Row) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let statement = snapshot.prepare_cached(sql).await.map_err(|e| self.problem(&e))?;
        let rows = snapshot.query_raw(&statement, params.iter().copied()).await.map_err(|e| self.problem(&e))?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| self.problem(&e))? {
            take(row)?;
        }
        Ok(())
    }
}

/// Whether values of the kind stand in `measurement` and in the rollups.
pub(super) fn is_numeric(kind: ValueKind) -> bool {
    matches!(kind, ValueKind::Number | ValueKind::Boolean)
}

fn union(classes: &[ClassTables], select: impl Fn(&ClassTables) -> String) -> String {
    classes.iter().map(select).collect::<Vec<_>>().join(" UNION ALL ")
}

fn ids(series: &[SeriesId]) -> Vec<i64> {
    series.iter().map(|series| series.0).collect()
}

fn time(row: &Row, column: usize) -> EventTime {
    EventTime(row.get::<_, Timestamp>(column).as_microsecond())
}

fn location(row: &Row) -> Cell {
    Cell::Location { latitude: row.get(2), longitude: row.get(3), altitude: row.get(4) }
}

/// Reads the columns of [`PARTIAL`].
fn piece(row: &Row) -> Piece {
    let point = |column: usize| Point {
        at: time(row, column),
        offset: Offset(row.get::<_, i64>(column + 1).cast_unsigned()),
        value: row.get(column + 2),
    };
    let merged = Merged {
        count: row.get::<_, i64>(1).cast_unsigned(),
        sum: row.get(2),
        min: row.get(3),
        max: row.get(4),
        first: point(5),
        last: point(8),
    };
    Piece { series: SeriesId(row.get(0)), merged, open: false }
}
