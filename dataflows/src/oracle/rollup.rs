//! All open buckets of a partition in one map, each with all that came into it.

use super::calendar;
use crate::limits::OPEN_PARTIALS_PER_SERIES_MAX;
use crate::model::{BucketLevel, ClassNo, DeviceNo, EventTime, HOUR_US, LogTime, Partial, Point, SeriesId};
use std::collections::BTreeMap;

/// In the order in which partials are emitted.
type Key = (BucketLevel, SeriesId, EventTime, ClassNo);

/// The open buckets.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    open: BTreeMap<Key, Bucket>,
    /// The lateness horizon of each device's last decoded uplink.
    horizons: BTreeMap<DeviceNo, i64>,
}

#[derive(Debug)]
struct Bucket {
    end: EventTime,
    due: i64,
    /// The zone by which it was opened.
    zone: String,
    /// The measurements of an hour, each as a partial; the hours of a day.
    parts: Vec<Partial>,
}

impl Rollup {
    pub(super) fn horizon(&mut self, device: DeviceNo, horizon_us: i64) {
        self.horizons.insert(device, horizon_us);
    }

    /// Adds a measurement to its hour. Gives what had to make room for it.
    pub(super) fn add(
        &mut self,
        series: SeriesId,
        class: ClassNo,
        zone: &str,
        point: Point,
        horizon_us: i64,
        now: LogTime,
    ) -> Vec<Partial> {
        let start = calendar::hour_start(zone, point.at);
        let end = EventTime(start.0 + HOUR_US);
        let level = BucketLevel::Hour;
        let Point { value, .. } = point;
        let (first, last) = (point, point);
        let part = Partial { class, level, series, start, end, count: 1, sum: value, min: value, max: value, first, last };
        self.put(part, zone, horizon_us, now)
    }

    fn put(&mut self, part: Partial, zone: &str, horizon_us: i64, now: LogTime) -> Vec<Partial> {
        let mut pushed_out = Vec::new();
        let key = (part.level, part.series, part.start, part.class);
        let of_series = |(key, _): &(&Key, &Bucket)| key.0 == part.level && key.1 == part.series;
        if !self.open.contains_key(&key) && self.open.iter().filter(of_series).count() == OPEN_PARTIALS_PER_SERIES_MAX {
            let earliest = self.open.iter().find(of_series).map(|(key, _)| *key).expect("there are many");
            self.close_one(earliest, now, &mut pushed_out);
        }
        let due = match part.end.0.saturating_add(horizon_us) {
            in_time if now.0 < in_time => in_time,
            _ => (now.0.div_euclid(HOUR_US) + 1) * HOUR_US,
        };
        let bucket = Bucket { end: part.end, due, zone: zone.to_owned(), parts: Vec::new() };
        self.open.entry(key).or_insert(bucket).parts.push(part);
        pushed_out
    }

    /// Takes out and merges what is due.
    pub(super) fn close_due(&mut self, now: LogTime) -> Vec<Partial> {
        self.close(now, |_, bucket| bucket.due <= now.0)
    }

    /// Takes out and merges all of one device.
    pub(super) fn close_device(&mut self, device: DeviceNo, now: LogTime) -> Vec<Partial> {
        let closed = self.close(now, |series, _| series.device() == device);
        self.horizons.remove(&device);
        closed
    }

    fn close(&mut self, now: LogTime, is_due: impl Fn(SeriesId, &Bucket) -> bool) -> Vec<Partial> {
        let mut closed = Vec::new();
        for level in [BucketLevel::Hour, BucketLevel::Day] {
            let due: Vec<Key> =
                self.open.iter().filter(|(key, bucket)| key.0 == level && is_due(key.1, bucket)).map(|(key, _)| *key).collect();
            for key in due {
                self.close_one(key, now, &mut closed);
            }
        }
        closed
    }

    /// Takes out and merges one bucket; an hour goes to its day, which may push out another.
    fn close_one(&mut self, key: Key, now: LogTime, closed: &mut Vec<Partial>) {
        let bucket = self.open.remove(&key).expect("it was there just now");
        let partial = merged(&bucket);
        closed.push(partial.clone());
        if partial.level == BucketLevel::Hour {
            let (start, end) = calendar::day(&bucket.zone, partial.start);
            let horizon_us = self.horizons[&partial.series.device()];
            closed.extend(self.put(Partial { level: BucketLevel::Day, start, end, ..partial }, &bucket.zone, horizon_us, now));
        }
    }
}

fn merged(bucket: &Bucket) -> Partial {
    let parts = &bucket.parts;
    let first = parts.iter().map(|part| part.first).min_by_key(|point| (point.at, point.offset));
    let last = parts.iter().map(|part| part.last).max_by_key(|point| (point.at, point.offset));
    let in_log_order = |f: fn(f64, f64) -> f64, of: fn(&Partial) -> f64| parts.iter().map(of).reduce(f);
    let filled = "a bucket is opened by its first part";
    Partial {
        end: bucket.end,
        count: parts.iter().map(|part| part.count).sum(),
        sum: in_log_order(|a, b| a + b, |part| part.sum).expect(filled),
        min: in_log_order(f64::min, |part| part.min).expect(filled),
        max: in_log_order(f64::max, |part| part.max).expect(filled),
        first: first.expect(filled),
        last: last.expect(filled),
        ..parts[0].clone()
    }
}
