//! One connection that writes: begins a fenced transaction and puts rows into tables.

use super::checkpoint::{self, Checkpoint};
use super::commit::{Advance, StopReason};
use super::copy::{CopyEncoder, clean};
use super::progress::{number, wire};
use super::rows::Row;
use super::tables::{Table, TableName};
use super::timestamp::Timestamp;
use super::{Store, StoreError};
use bytes::Bytes;
use dataflows::model::{CatalogueDevice, CatalogueSeries, Partition, SeriesId};
use futures_util::SinkExt;
use futures_util::future::{try_join, try_join_all};
use std::collections::HashMap;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Error, Statement};

/// How much is encoded before it is sent. Unit: bytes.
const SEND_BYTES: usize = 256 * 1024;

/// Why a step of a commit did not do.
#[derive(Debug)]
pub(super) enum Failure {
    /// The progress is not where this commit begins.
    Fenced(Partition),
    /// The database said no, or the connection broke.
    Server(Error),
    /// The connection broke after COMMIT was sent.
    AnswerLost(Error),
    /// A person has to act.
    Stop(StopReason),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// A connection with its prepared statements.
pub(super) struct Session {
    pub(super) client: Client,
    advance: Statement,
    copies: HashMap<TableName, Statement>,
    encoder: CopyEncoder,
}

impl Session {
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let client = store.client().await?;
        // The fence: no row means that this commit does not begin where the tables end, or that the
        // partition has another owner.
        let sql = "UPDATE progress SET \"offset\" = $4, counts = $5, log_time = $6, updated_at = now() \
                   WHERE \"partition\" = $1 AND \"offset\" = $2 AND owner_epoch = $3";
        let advance = match client.prepare(sql).await {
            Ok(advance) => advance,
            Err(error) if error.code().is_some_and(|state| state.code() == "42P01") => return Err(StoreError::NotMigrated),
            Err(source) => return Err(StoreError::Query { doing: "the commit could not be prepared", source }),
        };
        Ok(Self { client, advance, copies: HashMap::new(), encoder: CopyEncoder::default() })
    }

    /// Opens the transaction and moves the progress of its partitions, in one round trip.
    pub(super) async fn begin(&self, advances: &[Advance]) -> Result<(), Failure> {
        // Under READ COMMITTED, the update waits for an earlier one and then looks again.
        let begin = self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
        let mut in_order: Vec<&Advance> = advances.iter().collect();
        in_order.sort_unstable_by_key(|advance| advance.partition);
        // Requests go out when their futures are first polled, which is in this order.
        let moved = try_join_all(in_order.iter().map(|advance| self.advance(advance)));
        let ((), moved) = try_join(begin, moved).await?;
        match in_order.iter().zip(moved).find(|(_, moved)| *moved == 0) {
            Some((advance, _)) => Err(Failure::Fenced(advance.partition)),
            None => Ok(()),
        }
    }

    async fn advance(&self, advance: &Advance) -> Result<u64, Error> {
        let (partition, from, to) = (number(advance.partition), wire(advance.from), wire(advance.to));
        let (counts, log_time) = (Json(&advance.counts), Timestamp(advance.log_time.0));
        let epoch = advance.owner_epoch.cast_signed();
        self.client.execute(&self.advance, &[&partition, &from, &epoch, &to, &counts, &log_time]).await
    }

    /// Puts rows of one kind into their table. Gives the bytes that were copied.
    pub(super) async fn write(&mut self, table: &TableName, rows: &[Row<'_>]) -> Result<u64, Failure> {
        match table.table {
            Table::Device => self.insert_devices(rows).await.map(|()| 0),
            Table::Series => self.upsert_series(rows).await.map(|()| 0),
            _ => Ok(self.copy(table, rows).await?),
        }
    }

    async fn copy(&mut self, table: &TableName, rows: &[Row<'_>]) -> Result<u64, Error> {
        let statement = match self.copies.get(table) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(&table.copy_sql()).await?;
                self.copies.insert(table.clone(), statement.clone());
                statement
            }
        };
        let sink = self.client.copy_in::<_, Bytes>(&statement).await?;
        futures_util::pin_mut!(sink);
        let mut bytes = 0;
        // What an earlier COPY left when it failed.
        self.encoder.take();
        self.encoder.header();
        for row in rows {
            row.encode(&mut self.encoder);
            if self.encoder.len() >= SEND_BYTES {
                bytes += self.encoder.len() as u64;
                sink.feed(self.encoder.take()).await?;
            }
        }
        self.encoder.trailer();
        bytes += self.encoder.len() as u64;
        sink.feed(self.encoder.take()).await?;
        sink.finish().await?;
        Ok(bytes)
    }

    /// A device that is there already stays as it is: somebody else added it in the meantime.
    async fn insert_devices(&self, rows: &[Row<'_>]) -> Result<(), Failure> {
        let devices = || rows.iter().filter_map(|row| if let Row::Device(placed) = row { Some(&placed.row) } else { None });
        let column = |of: fn(&CatalogueDevice) -> i32| devices().map(of).collect::<Vec<_>>();
        let numbers: Vec<i64> = devices().map(|device| device.0.no.0.cast_signed()).collect();
        let tenants = column(|device| device.0.tenant.0.cast_signed());
        let ids: Vec<&str> = devices().map(|device| device.0.id.as_str()).collect();
        let templates = column(|device| device.0.template.0.cast_signed());
        let variables: Vec<_> = devices().map(|device| Json(&device.0.variables)).collect();
        let zones: Vec<Option<&str>> = devices().map(|device| device.0.zone.as_deref()).collect();
        let sql = format!(
            "INSERT INTO device ({}) \
             SELECT n, t, i, m, v, z, true FROM unnest($1::int8[], $2::int4[], $3::text[], $4::int4[], $5::jsonb[], $6::text[]) \
             AS u (n, t, i, m, v, z) ON CONFLICT DO NOTHING",
            Table::Device.columns()
        );
        self.client.execute(&sql, &[&numbers, &tenants, &ids, &templates, &variables, &zones]).await?;
        Ok(())
    }

    /// Only the class of a series may change. An id that means another series is the state of
    /// another database, and its rows would be mixed with ours.
    async fn upsert_series(&self, rows: &[Row<'_>]) -> Result<(), Failure> {
        let series: Vec<&CatalogueSeries> =
            rows.iter().filter_map(|row| if let Row::Series(placed) = row { Some(&placed.row) } else { None }).collect();
        let ids: Vec<i64> = series.iter().map(|s| s.series.0).collect();
        let tenants: Vec<i32> = series.iter().map(|s| s.tenant.0.cast_signed()).collect();
        let device_numbers: Vec<i64> = series.iter().map(|s| s.series.device().0.cast_signed()).collect();
        let devices: Vec<&str> = series.iter().map(|s| s.device.as_str()).collect();
        let fields: Vec<_> = series.iter().map(|s| clean(&s.field)).collect();
        let kinds: Vec<&str> = series.iter().map(|s| s.kind.as_str()).collect();
        let units: Vec<_> = series.iter().map(|s| s.unit.as_deref().map(clean)).collect();
        let classes: Vec<i16> = series.iter().map(|s| s.class.0.cast_signed()).collect();
        let sql = format!(
            "INSERT INTO series AS s ({}) SELECT * FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::text[], $5::text[], \
             $6::text[], $7::text[], $8::int2[]) ON CONFLICT (series_id) DO UPDATE SET class_no = excluded.class_no \
             WHERE (s.tenant_no, s.device, s.field, s.kind) = (excluded.tenant_no, excluded.device, excluded.field, excluded.kind) \
             AND s.unit IS NOT DISTINCT FROM excluded.unit",
            Table::Series.columns()
        );
        let written =
            self.client.execute(&sql, &[&ids, &tenants, &device_numbers, &devices, &fields, &kinds, &units, &classes]).await?;
        if written == series.len() as u64 { Ok(()) } else { Err(self.other_meaning(&series).await?) }
    }

    /// Finds the first series that means something else in the table.
    async fn other_meaning(&self, ours: &[&CatalogueSeries]) -> Result<Failure, Error> {
        let ids: Vec<i64> = ours.iter().map(|s| s.series.0).collect();
        let sql =
            "SELECT series_id, tenant_no, device, field, kind, unit FROM series WHERE series_id = ANY ($1) ORDER BY series_id";
        let rows = self.client.query(sql, &[&ids]).await?;
        let meaning = |tenant: i32, device: &str, field: &str, kind: &str, unit: Option<&str>| {
            format!("{field} ({kind}, {}) of device {device} of tenant {tenant}", unit.unwrap_or("no unit"))
        };
        let theirs: HashMap<SeriesId, String> = rows
            .iter()
            .map(|row| (SeriesId(row.get(0)), meaning(row.get(1), row.get(2), row.get(3), row.get(4), row.get(5))))
            .collect();
        let stop = ours.iter().find_map(|s| {
            let log = meaning(s.tenant.0.cast_signed(), s.device.as_str(), &clean(&s.field), s.kind.as_str(), s.unit.as_deref());
            let table = theirs.get(&s.series).filter(|table| **table != log)?.clone();
            Some(StopReason::SeriesTaken { series: s.series, table, log })
        });
        Ok(Failure::Stop(stop.expect("a row that the upsert left alone differs in what it means")))
    }

    /// Adds a checkpoint and prunes the older ones.
    pub(super) async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        Ok(checkpoint::store(&self.client, checkpoint).await?)
    }

    /// Gives up what the transaction did, if there is one.
    pub(super) async fn rollback(&self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }
}
