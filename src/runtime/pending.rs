//! The rows that wait for the committer. Knows when there are too many of them.

use dataflows::model::Outputs;

/// Bytes of quarantined records that may wait, for they are much larger than other rows.
const QUARANTINED_BYTES_MAX: usize = 64 << 20;

/// Rows that wait.
///
/// State: the rows, and the memory of those that were committed last.
#[derive(Default)]
pub(super) struct Pending {
    rows: Outputs,
    quarantined_bytes: usize,
    /// Empty: the next rows go where those of an earlier commit have been, so that no fresh memory is touched.
    spare: Outputs,
}

impl Pending {
    /// Lets rows be added behind those that wait.
    pub(super) fn add(&mut self, add: impl FnOnce(&mut Outputs)) {
        let waited = self.rows.quarantined.len();
        add(&mut self.rows);
        let added = self.rows.quarantined.iter().skip(waited);
        self.quarantined_bytes += added.map(|q| q.row.record.len() + q.row.detail.len()).sum::<usize>();
    }

    /// Gives what waits.
    pub(super) fn rows(&self) -> &Outputs {
        &self.rows
    }

    /// Hands all of it over.
    pub(super) fn take(&mut self) -> Outputs {
        self.quarantined_bytes = 0;
        std::mem::replace(&mut self.rows, std::mem::take(&mut self.spare))
    }

    /// Takes back the memory of rows that are committed.
    pub(super) fn reuse(&mut self, mut rows: Outputs) {
        rows.clear();
        self.spare = rows;
    }

    /// Whether the worker should stop reading until the committer has taken what waits.
    pub(super) fn is_full(&self, rows_max: usize) -> bool {
        // A partial takes the memory of three other rows, and those of an hour come all at once.
        let rows = self.rows.len() + 2 * self.rows.partials.len();
        rows >= rows_max || self.quarantined_bytes >= QUARANTINED_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{
        BucketLevel, ClassNo, DeviceId, EventTime, LogTime, Offset, Partial, Partition, Placed, Point, Quarantined, Reason,
        SeriesId, TenantNo,
    };

    #[test]
    fn a_partial_fills_it_as_three_rows_do() {
        let (at, count) = (EventTime(0), 1);
        let point = Point { at, offset: Offset(0), value: 1.0 };
        let (sum, min, max, first, last) = (1.0, 1.0, 1.0, point, point);
        let (class, level, series) = (ClassNo(0), BucketLevel::Hour, SeriesId(1));
        let row = Partial { class, level, series, start: at, end: at, count, sum, min, max, first, last };
        let mut pending = Pending::default();
        pending.add(|rows| rows.partials.push(Placed { partition: Partition(0), offset: Offset(0), row }));
        assert!(pending.is_full(3) && !pending.is_full(4));
    }

    #[test]
    fn large_records_fill_it_as_many_rows_do() {
        let quarantined = |bytes| {
            let row = Quarantined {
                log_time: LogTime(0),
                tenant: TenantNo(0),
                device: DeviceId::parse("pump").unwrap(),
                field: None,
                reason: Reason::BadRecord,
                detail: String::new(),
                record: vec![0; bytes],
            };
            Outputs { quarantined: vec![Placed { partition: Partition(0), offset: Offset(0), row }], ..Outputs::default() }
        };
        let mut pending = Pending::default();
        pending.add(|rows| rows.append(&mut quarantined(1)));
        assert!(pending.is_full(1) && !pending.is_full(2));
        pending.add(|rows| rows.append(&mut quarantined(QUARANTINED_BYTES_MAX)));
        assert!(pending.is_full(1000));
        let handed_over = pending.take();
        assert_eq!(handed_over.len(), 2);
        assert!(!pending.is_full(1), "what was handed over does not wait");
        pending.reuse(handed_over);
        pending.add(|rows| rows.append(&mut quarantined(1)));
        pending.take();
        assert!(pending.rows().is_empty(), "what was committed is not handed over again");
    }
}
