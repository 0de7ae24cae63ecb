//! Takes entries out of quarantine in the commit of what became of their retries.
//!
//! Invariant: an entry is there as long as its retry is not committed, and not any longer.

use super::NO_UPLINK;
use crate::store::copy::clean;
use crate::store::progress::{number, wire};
use crate::store::session::Session;
use crate::store::timestamp::Timestamp;
use dataflows::model::{Placed, Released};
use tokio_postgres::Error;

impl Session {
    /// Deletes entries and their marks, within the transaction.
    ///
    /// Cost: one look-up by log time for each, in the parts of the table between the first and the last.
    pub(in crate::store) async fn release(&self, released: &[Placed<Released>]) -> Result<(), Error> {
        let times = || released.iter().map(|entry| entry.row.log_time.0);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(()) };
        let log_times: Vec<_> = times().map(Timestamp).collect();
        let partitions: Vec<i16> = released.iter().map(|entry| number(entry.partition)).collect();
        let offsets: Vec<i64> = released.iter().map(|entry| wire(entry.row.offset)).collect();
        let fields: Vec<_> = released.iter().map(|entry| entry.row.field.as_deref().map(clean)).collect();
        let same = "unnest($1::timestamptz[], $2::int2[], $3::int8[], $4::text[]) AS u (log_time, p, o, f) \
                    WHERE q.log_time = u.log_time AND q.\"partition\" = u.p AND q.\"offset\" = u.o AND q.field IS NOT DISTINCT FROM u.f";
        let entries = format!("DELETE FROM quarantine q USING {same} AND q.log_time BETWEEN $5 AND $6 AND q.reason <> ALL ($7)");
        let (first, last, reasons) = (Timestamp(first), Timestamp(last), NO_UPLINK.as_slice());
        self.client.execute(&entries, &[&log_times, &partitions, &offsets, &fields, &first, &last, &reasons]).await?;
        let marks = format!("DELETE FROM quarantine_retry q USING {same}");
        self.client.execute(&marks, &[&log_times, &partitions, &offsets, &fields]).await?;
        Ok(())
    }
}
