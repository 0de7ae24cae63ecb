//! Going on with another log, or with one that lost its beginning or its end.
//!
//! Invariant: no record is written twice. What the tables hold of a log is remembered when it is left
//! (`log_left`), so that adopting it again goes on there, with its checkpoints.

use super::error::Doing;
use super::progress::{self, COLUMNS, from_row, in_order, number, offset_of, read_counts, wire};
use super::timestamp::Timestamp;
use super::{Progress, Store, StoreError};
use dataflows::model::{Counts, LogTime, Offset, Partition};
use tokio_postgres::Transaction;
use tokio_postgres::types::Json;
use uuid::Uuid;

/// What a log holds of one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Extent {
    /// The partition.
    pub partition: Partition,
    /// The first record that is kept.
    pub start: Offset,
    /// The first offset behind the last record.
    pub end: Offset,
}

/// Records that the tables will never hold, or hold from a log that is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostRange {
    /// The partition.
    pub partition: Partition,
    /// The log that held them.
    pub log: Uuid,
    /// The first of them.
    pub from: Offset,
    /// The first behind them; none where only the lost log could tell.
    pub to: Option<Offset>,
}

/// What adopting a log means for one partition.
#[derive(Clone, PartialEq, Debug)]
pub struct Adoption {
    /// The partition.
    pub partition: Partition,
    /// The log that the tables came from until now, where it is another one.
    pub left: Option<Uuid>,
    /// The first record of the adopted log whose rows are written.
    pub offset: Offset,
    /// What is lost.
    pub lost: Vec<LostRange>,
    /// Where the state begins anew, since what it was made of is gone: open buckets and the last
    /// values of series are forgotten; their numbers are not.
    pub state_begins: Option<Offset>,
    /// What `progress` is to say.
    known: Known,
}

/// What the tables know of a log's partition.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Known {
    offset: Offset,
    begins: Offset,
    counts: Counts,
    log_time: Option<LogTime>,
}

impl Known {
    /// What the tables know of a log that they never saw.
    fn nothing() -> Self {
        Self { offset: Offset(0), begins: Offset(0), counts: Counts::default(), log_time: None }
    }
}

impl Store {
    /// Tells what [`Store::adopt`] would do, and does nothing.
    ///
    /// Errors: the log has another number of partitions than the database.
    pub async fn adoption(&self, log: Uuid, extents: &[Extent]) -> Result<Vec<Adoption>, StoreError> {
        self.check_partitions(extents).await?;
        let mut client = self.client().await?;
        let doing = "the progress could not be read";
        let transaction = client.build_transaction().read_only(true).start().await.doing(doing)?;
        let mut adoptions = Vec::with_capacity(extents.len());
        for extent in in_order(extents) {
            let select = format!("SELECT {COLUMNS} FROM progress WHERE \"partition\" = $1");
            let row = transaction.query_opt(&select, &[&number(extent.partition)]).await.doing(doing)?;
            let before = row.as_ref().map(from_row).transpose()?;
            adoptions.push(decide(&transaction, log, extent, before.as_ref()).await?);
        }
        Ok(adoptions)
    }

    /// Goes on with `log`, in place of the one that the tables came from or as it is now, and tells
    /// what is lost. All partitions or none.
    ///
    /// A log that the tables know is read on from where they hold it, any other from its start.
    /// Every partition changes hands, so that no daemon goes on with the log before.
    ///
    /// Errors: as [`Store::adoption`].
    pub async fn adopt(&self, log: Uuid, extents: &[Extent]) -> Result<Vec<Adoption>, StoreError> {
        self.check_partitions(extents).await?;
        let doing = "the log could not be adopted";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.doing(doing)?;
        transaction.batch_execute("SET LOCAL synchronous_commit = on").await.doing(doing)?;
        let mut adoptions = Vec::with_capacity(extents.len());
        for extent in in_order(extents) {
            let before = progress::lock(&transaction, extent.partition, "weir log adopt", log).await?;
            let adoption = decide(&transaction, log, extent, Some(&before)).await?;
            carry_out(&transaction, log, extent, &before, &adoption).await.doing(doing)?;
            adoptions.push(adoption);
        }
        transaction.commit().await.doing(doing)?;
        Ok(adoptions)
    }

    async fn check_partitions(&self, extents: &[Extent]) -> Result<(), StoreError> {
        let database = self.partitions().await?;
        let asked = u16::try_from(extents.len()).unwrap_or(u16::MAX);
        if database == asked { Ok(()) } else { Err(StoreError::PartitionCount { database, asked }) }
    }
}

/// Reads what the tables hold of the log, and decides where it goes on.
async fn decide(
    transaction: &Transaction<'_>,
    log: Uuid,
    extent: Extent,
    before: Option<&Progress>,
) -> Result<Adoption, StoreError> {
    let doing = "what is known of the log could not be read";
    let partition = number(extent.partition);
    let known = match before {
        Some(p) if p.log == log => Known { offset: p.offset, begins: p.begins, counts: p.counts, log_time: p.log_time },
        _ => {
            let sql = "SELECT \"offset\", begins, counts, log_time FROM log_left WHERE log_id = $1 AND \"partition\" = $2";
            match transaction.query_opt(sql, &[&log, &partition]).await.doing(doing)? {
                Some(row) => Known {
                    offset: offset_of(&row, 0),
                    begins: offset_of(&row, 1),
                    counts: read_counts(&row, 2)?,
                    log_time: row.get::<_, Option<Timestamp>>(3).map(|at| LogTime(at.0)),
                },
                None => Known::nothing(),
            }
        }
    };
    let offset = known.offset.min(extent.end).max(extent.start);
    let sql = "SELECT EXISTS (SELECT FROM checkpoint WHERE \"partition\" = $1 AND log_id = $2 AND \"offset\" BETWEEN $3 AND $4)";
    let params = (wire(extent.start), wire(offset));
    let row = transaction.query_one(sql, &[&partition, &log, &params.0, &params.1]).await.doing(doing)?;
    Ok(judge(log, extent, before, known, row.get(0)))
}

/// The decision itself.
fn judge(log: Uuid, extent: Extent, before: Option<&Progress>, known: Known, has_checkpoint: bool) -> Adoption {
    let Extent { partition, start, end } = extent;
    let left = before.filter(|p| p.log != log);
    let held = known.offset;
    let offset = held.min(end).max(start);
    let mut lost = Vec::new();
    lost.extend(left.map(|p| LostRange { partition, log: p.log, from: p.offset, to: None }));
    // The tables hold their rows, but the log will give their offsets to other records.
    lost.extend((end < held).then_some(LostRange { partition, log, from: end, to: Some(held) }));
    lost.extend((held < start).then_some(LostRange { partition, log, from: held, to: Some(start) }));
    let begins = if has_checkpoint { known.begins } else { known.begins.max(start) };
    let state_begins = (begins > known.begins).then_some(begins);
    let known = Known { offset, begins, ..known };
    Adoption { partition, left: left.map(|p| p.log), offset, lost, state_begins, known }
}

async fn carry_out(
    transaction: &Transaction<'_>,
    log: Uuid,
    extent: Extent,
    before: &Progress,
    adoption: &Adoption,
) -> Result<(), tokio_postgres::Error> {
    let partition = number(extent.partition);
    let instant = |at: Option<LogTime>| at.map(|at| Timestamp(at.0));
    if adoption.left.is_some() {
        let sql =
            "INSERT INTO log_left (log_id, \"partition\", \"offset\", begins, counts, log_time) VALUES ($1, $2, $3, $4, $5, $6)";
        let (offset, begins) = (wire(before.offset), wire(before.begins));
        let (counts, log_time) = (Json(before.counts), instant(before.log_time));
        transaction.execute(sql, &[&before.log, &partition, &offset, &begins, &counts, &log_time]).await?;
    }
    let sql = "UPDATE progress SET log_id = $2, \"offset\" = $3, begins = $4, counts = $5, log_time = $6, \
               owner_epoch = owner_epoch + 1, owner = 'weir log adopt', adopted_at = now(), updated_at = now() WHERE \"partition\" = $1";
    let known = &adoption.known;
    let (offset, begins) = (wire(known.offset), wire(known.begins));
    let (counts, log_time) = (Json(known.counts), instant(known.log_time));
    transaction.execute(sql, &[&partition, &log, &offset, &begins, &counts, &log_time]).await?;
    let sql = "DELETE FROM log_left WHERE log_id = $1 AND \"partition\" = $2";
    transaction.execute(sql, &[&log, &partition]).await?;
    // States of records that the log does not have, and those from which it cannot be replayed.
    let sql = "DELETE FROM checkpoint WHERE \"partition\" = $1 AND log_id = $2 AND NOT \"offset\" BETWEEN $3 AND $4";
    transaction.execute(sql, &[&partition, &log, &wire(extent.start), &offset]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Uuid = Uuid::from_u128(1);

    fn check(held: u64, extent: (u64, u64), has_checkpoint: bool, expected: (u64, &[(u64, u64)], Option<u64>)) {
        let extent = Extent { partition: Partition(3), start: Offset(extent.0), end: Offset(extent.1) };
        let known = Known { offset: Offset(held), ..Known::nothing() };
        let got = judge(LOG, extent, None, known, has_checkpoint);
        let lost: Vec<_> = got.lost.iter().map(|range| (range.from.0, range.to.unwrap().0)).collect();
        assert_eq!((got.offset.0, &*lost, got.state_begins.map(|at| at.0)), expected, "{held} of {extent:?}");
    }

    #[test]
    fn a_log_goes_on_where_the_tables_hold_it_or_as_near_as_it_can() {
        check(0, (0, 0), false, (0, &[], None));
        check(10, (0, 20), false, (10, &[], None));
        check(10, (0, 20), true, (10, &[], None));
        // It lost its end, its beginning, or the beginning that the state needs.
        check(10, (0, 4), false, (4, &[(4, 10)], None));
        check(10, (15, 20), false, (15, &[(10, 15)], Some(15)));
        check(10, (5, 20), false, (10, &[], Some(5)));
        check(10, (5, 20), true, (10, &[], None));
        // An old copy that begins behind nothing the tables hold.
        check(0, (5, 20), false, (5, &[(0, 5)], Some(5)));
        check(30, (5, 20), false, (20, &[(20, 30)], Some(5)));
    }
}
