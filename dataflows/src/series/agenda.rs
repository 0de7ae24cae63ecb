//! Knows what falls due in a partition, and when. Invariant: each open partial is counted once in its bucket, and its
//! device stands under the bucket's due time.

use super::bucket_table::{Bucket, BucketNo, BucketTable};
use crate::model::{BucketLevel, DeviceNo, LogTime};
use std::collections::BTreeMap;

/// Which devices have partials that fall due, by log time; which buckets they are in, and how many are open.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    by_due: BTreeMap<LogTime, Due>,
    buckets: BucketTable,
    open: usize,
}

/// Devices with hours, and devices with days.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) hours: Vec<DeviceNo>,
    pub(crate) days: Vec<DeviceNo>,
}

impl Due {
    fn of(&mut self, level: BucketLevel) -> &mut Vec<DeviceNo> {
        match level {
            BucketLevel::Hour => &mut self.hours,
            BucketLevel::Day => &mut self.days,
        }
    }
}

impl Agenda {
    /// Takes notice of a partial that is opened, and gives its bucket's number.
    pub(crate) fn opened(&mut self, bucket: Bucket, device: DeviceNo) -> BucketNo {
        self.open += 1;
        let devices = self.by_due.entry(bucket.due).or_default().of(bucket.level);
        if devices.last() != Some(&device) {
            devices.push(device);
        }
        self.buckets.enter(bucket)
    }

    /// Takes notice of a partial that is no longer open.
    pub(crate) fn closed(&mut self, bucket: BucketNo) {
        self.open -= 1;
        self.buckets.leave(bucket);
    }

    /// Gives the buckets in which partials are open.
    pub(crate) fn buckets(&self) -> &BucketTable {
        &self.buckets
    }

    /// Whether some partial is open.
    pub(crate) fn has_open(&self) -> bool {
        self.open > 0
    }

    /// Takes out the devices that have something due at `now`, each once and in order.
    pub(crate) fn take_due(&mut self, now: LogTime) -> Option<Due> {
        let mut due = Due::default();
        while let Some(first) = self.by_due.first_entry().filter(|first| *first.key() <= now) {
            let mut more = first.remove();
            due.hours.append(&mut more.hours);
            due.days.append(&mut more.days);
        }
        for devices in [&mut due.hours, &mut due.days] {
            devices.sort_unstable();
            devices.dedup();
        }
        (!due.hours.is_empty() || !due.days.is_empty()).then_some(due)
    }
}
