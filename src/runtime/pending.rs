//! The rows that wait for the committer. Knows when there are too many of them.

use dataflows::model::Outputs;

/// Bytes of quarantined records that may wait, for they are much larger than other rows.
const QUARANTINED_BYTES_MAX: usize = 64 << 20;

/// Rows that wait.
#[derive(Default)]
pub(super) struct Pending {
    rows: Outputs,
    quarantined_bytes: usize,
}

impl Pending {
    /// Adds rows behind those that wait.
    pub(super) fn add(&mut self, mut rows: Outputs) {
        self.quarantined_bytes += rows.quarantined.iter().map(|q| q.row.record.len() + q.row.detail.len()).sum::<usize>();
        self.rows.append(&mut rows);
    }

    /// Gives what waits.
    pub(super) fn rows(&self) -> &Outputs {
        &self.rows
    }

    /// Hands all of it over.
    pub(super) fn take(&mut self) -> Outputs {
        std::mem::take(self).rows
    }

    /// Whether the worker should stop reading until the committer has taken what waits.
    pub(super) fn is_full(&self, rows_max: usize) -> bool {
        self.rows.len() >= rows_max || self.quarantined_bytes >= QUARANTINED_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{DeviceId, LogTime, Offset, Partition, Placed, Quarantined, Reason, TenantNo};

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
        pending.add(quarantined(1));
        assert!(pending.is_full(1) && !pending.is_full(2));
        pending.add(quarantined(QUARANTINED_BYTES_MAX));
        assert!(pending.is_full(1000));
        assert_eq!(pending.take().len(), 2);
        assert!(!pending.is_full(1), "what was handed over does not wait");
    }
}
