//! Lists, sums up and shows entries.

use super::{Filter, NO_UPLINK};
use crate::store::error::Doing;
use crate::store::progress::offset_of;
use crate::store::timestamp::Timestamp;
use crate::store::{Store, StoreError};
use dataflows::model::{LogTime, Offset, Partition, Reason};
use tokio_postgres::Row;

/// An entry of quarantine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When the log took the record in.
    pub log_time: LogTime,
    /// The partition of the record.
    pub partition: Partition,
    /// The record.
    pub offset: Offset,
    /// The name of the tenant, or its number where it is gone.
    pub tenant: Option<String>,
    /// The device's name.
    pub device: Option<String>,
    /// The field, where only that was set aside.
    pub field: Option<String>,
    /// Why.
    pub reason: String,
    /// The same for a reader.
    pub detail: String,
    /// Whether it is marked to be tried again.
    pub is_marked: bool,
    /// What the log holds, or the row that was refused.
    pub record: Vec<u8>,
}

impl Entry {
    /// How it is tried again.
    pub fn way(&self) -> Way {
        Way::of(&self.reason, self.field.is_some())
    }
}

/// How an entry is tried again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// The whole uplink, by way of the log.
    Uplink,
    /// One field of its uplink, by way of the log.
    Field,
    /// The row is written into its table.
    Row,
    /// Not at all: the record could not be read.
    None,
}

impl Way {
    fn of(reason: &str, is_field: bool) -> Self {
        match Reason::parse(reason) {
            Some(Reason::RowRefused) => Self::Row,
            Some(Reason::BadRecord) => Self::None,
            _ if is_field => Self::Field,
            _ => Self::Uplink,
        }
    }
}

/// How many entries have one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sum {
    /// Why they were set aside.
    pub reason: String,
    /// How they are tried again.
    pub way: Way,
    /// How many.
    pub entries: u64,
    /// Of how many devices.
    pub devices: u64,
    /// How many of them are marked to be tried again.
    pub marked: u64,
    /// Log time of the first.
    pub first: LogTime,
    /// Log time of the last.
    pub last: LogTime,
}

/// Whether an entry `q` is marked; `$8` are the reasons that go no way through the log.
const MARKED: &str = "EXISTS (SELECT FROM quarantine_retry r WHERE r.log_time = q.log_time AND r.\"partition\" = q.\"partition\" \
     AND r.\"offset\" = q.\"offset\" AND r.field IS NOT DISTINCT FROM q.field AND q.reason <> ALL ($8))";

impl Store {
    /// Gives the newest entries, at most `limit`, newest first.
    pub async fn quarantine(&self, filter: &Filter, limit: i64) -> Result<Vec<Entry>, StoreError> {
        let sql = format!(
            "SELECT q.log_time, q.\"partition\", q.\"offset\", \
                    coalesce((SELECT t.name FROM tenant t WHERE t.tenant_no = q.tenant_no), nullif(q.tenant_no, 0)::text), \
                    q.device, q.field, q.reason, q.detail, {MARKED}, q.record \
             FROM quarantine q WHERE {} ORDER BY q.log_time DESC, q.\"partition\", q.\"offset\" DESC, q.field LIMIT $9",
            Filter::CONDITION
        );
        let values = filter.values();
        let reasons = NO_UPLINK.as_slice();
        let mut params = values.params();
        params.push(&reasons);
        params.push(&limit);
        let client = self.client().await?;
        let rows = client.query(&sql, &params).await.doing("the quarantine could not be read")?;
        Ok(rows.iter().map(entry).collect())
    }

    /// Sums up the entries by reason, the most frequent first.
    pub async fn quarantine_sums(&self, filter: &Filter) -> Result<Vec<Sum>, StoreError> {
        let sql = format!(
            "SELECT q.reason, q.field IS NOT NULL AND q.reason <> ALL ($8) AS is_field, count(*), \
                    count(DISTINCT (q.tenant_no, q.device)), count(*) FILTER (WHERE {MARKED}), min(q.log_time), max(q.log_time) \
             FROM quarantine q WHERE {} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            Filter::CONDITION
        );
        let values = filter.values();
        let reasons = NO_UPLINK.as_slice();
        let mut params = values.params();
        params.push(&reasons);
        let client = self.client().await?;
        let rows = client.query(&sql, &params).await.doing("the quarantine could not be summed up")?;
        let count = |row: &Row, column| row.get::<_, i64>(column).cast_unsigned();
        let sum = |row: &Row| Sum {
            reason: row.get(0),
            way: Way::of(row.get(0), row.get(1)),
            entries: count(row, 2),
            devices: count(row, 3),
            marked: count(row, 4),
            first: log_time(row, 5),
            last: log_time(row, 6),
        };
        Ok(rows.iter().map(sum).collect())
    }
}

fn entry(row: &Row) -> Entry {
    Entry {
        log_time: log_time(row, 0),
        partition: Partition(row.get::<_, i16>(1).cast_unsigned()),
        offset: offset_of(row, 2),
        tenant: row.get(3),
        device: row.get(4),
        field: row.get(5),
        reason: row.get(6),
        detail: row.get(7),
        is_marked: row.get(8),
        record: row.get(9),
    }
}

/// Reads a column that holds a log time.
pub(super) fn log_time(row: &Row, column: usize) -> LogTime {
    LogTime(row.get::<_, Timestamp>(column).0)
}
