//! Marks: which entries are wanted to be tried again by way of the log.

use super::look::log_time;
use super::{Filter, NO_UPLINK};
use crate::store::error::Doing;
use crate::store::progress::{self, number, offset_of, wire};
use crate::store::timestamp::Timestamp;
use crate::store::{Progress, Store, StoreError};
use dataflows::model::{LogTime, Offset, Partition, Reason};
use std::collections::BTreeSet;
use tokio_postgres::{Client, IsolationLevel, Row};

/// What names an entry that goes by way of the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EntryId {
    /// When the log took the record in.
    pub log_time: LogTime,
    /// The partition of the record.
    pub partition: Partition,
    /// The record.
    pub offset: Offset,
    /// The field, where only that was set aside.
    pub field: Option<String>,
}

/// What is marked, and how far the log is committed: of one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// The entries that came first.
    pub entries: BTreeSet<EntryId>,
    /// Marks of entries that are no more, or that cannot go by way of the log.
    pub idle: BTreeSet<EntryId>,
    /// Each partition.
    pub progress: Vec<Progress>,
}

/// An entry `q` for a mark `r`; `$1` are the reasons that go no way through the log.
const SAME: &str = "q.log_time = r.log_time AND q.\"partition\" = r.\"partition\" AND q.\"offset\" = r.\"offset\" \
     AND q.field IS NOT DISTINCT FROM r.field AND q.reason <> ALL ($1)";

impl Store {
    /// Marks entries to be tried again, those that can be; gives how many were not marked before.
    pub async fn quarantine_mark(&self, filter: &Filter) -> Result<u64, StoreError> {
        let sql = format!(
            "INSERT INTO quarantine_retry (log_time, \"partition\", \"offset\", field) \
             SELECT DISTINCT q.log_time, q.\"partition\", q.\"offset\", q.field FROM quarantine q WHERE {} AND q.reason <> ALL ($8) \
             ON CONFLICT DO NOTHING",
            Filter::CONDITION
        );
        let values = filter.values();
        let reasons = NO_UPLINK.as_slice();
        let mut params = values.params();
        params.push(&reasons);
        let client = self.client().await?;
        client.execute(&sql, &params).await.doing("the entries of quarantine could not be marked")
    }
}

impl Wanted {
    /// Reads at most `limit` marks, those of the earliest records.
    pub async fn read(client: &mut Client, limit: i64) -> Result<Self, StoreError> {
        let doing = "the marks of quarantine could not be read";
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .doing(doing)?;
        let sql = format!(
            "SELECT r.log_time, r.\"partition\", r.\"offset\", r.field, EXISTS (SELECT FROM quarantine q WHERE {SAME}) \
             FROM (SELECT * FROM quarantine_retry ORDER BY log_time, \"partition\", \"offset\", field LIMIT $2) r"
        );
        let marks = transaction.query(&sql, &[&NO_UPLINK.as_slice(), &limit]).await.doing(doing)?;
        let mut wanted = Self::default();
        for row in &marks {
            let of = if row.get(4) { &mut wanted.entries } else { &mut wanted.idle };
            of.insert(id(row));
        }
        if !wanted.entries.is_empty() {
            let progress = format!("SELECT {} FROM progress ORDER BY \"partition\"", progress::COLUMNS);
            let progress = transaction.query(&progress, &[]).await.doing(doing)?;
            wanted.progress = progress.iter().map(progress::from_row).collect::<Result<_, _>>()?;
        }
        transaction.commit().await.doing(doing)?;
        Ok(wanted)
    }
}

impl EntryId {
    /// Reads what an entry holds: why it was set aside, and its record. None when it has gone.
    pub async fn read(&self, client: &Client) -> Result<Option<(Reason, Vec<u8>)>, StoreError> {
        let sql = format!(
            "SELECT q.reason, q.record FROM quarantine q, (SELECT $2::timestamptz AS log_time, $3::int2 AS \"partition\", \
             $4::int8 AS \"offset\", $5::text AS field) r WHERE {SAME} AND q.log_time = $2 LIMIT 1"
        );
        let (log_time, partition, offset) = (Timestamp(self.log_time.0), number(self.partition), wire(self.offset));
        let row = client
            .query_opt(&sql, &[&NO_UPLINK.as_slice(), &log_time, &partition, &offset, &self.field])
            .await
            .doing("an entry of quarantine could not be read")?;
        Ok(row.and_then(|row| Some((Reason::parse(row.get(0))?, row.get(1)))))
    }

    /// Takes marks away.
    pub async fn unmark(client: &Client, marks: impl IntoIterator<Item = &Self>) -> Result<(), StoreError> {
        let sql = "DELETE FROM quarantine_retry WHERE log_time = $1 AND \"partition\" = $2 AND \"offset\" = $3 \
                   AND field IS NOT DISTINCT FROM $4";
        for Self { log_time, partition, offset, field } in marks {
            client
                .execute(sql, &[&Timestamp(log_time.0), &number(*partition), &wire(*offset), field])
                .await
                .doing("a mark of quarantine could not be taken away")?;
        }
        Ok(())
    }
}

fn id(row: &Row) -> EntryId {
    EntryId {
        log_time: log_time(row, 0),
        partition: Partition(row.get::<_, i16>(1).cast_unsigned()),
        offset: offset_of(row, 2),
        field: row.get(3),
    }
}
