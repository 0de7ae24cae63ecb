//! Owns the expected rollups: hours and days in UTC, and from which log time on they can be compared.

use super::Measured;
use dataflows::model::{BucketLevel, DAY_US, EventTime, HOUR_US, LogTime};

/// The aggregates of one bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bucket {
    /// How many measurements.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The earliest.
    pub first: (EventTime, f64),
    /// The latest.
    pub last: (EventTime, f64),
}

/// What the rollup tables must say of one bucket, merged.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BucketExpectation {
    /// Where the bucket starts.
    pub start: EventTime,
    /// Its aggregates, in the order of the event times.
    pub bucket: Bucket,
    /// When log time has come so far, all partials of the bucket are emitted. None: an answer is missing,
    /// so what the bucket holds is not known.
    pub settled_at: Option<LogTime>,
}

impl Bucket {
    fn of(at: EventTime, value: f64) -> Self {
        Self { count: 1, sum: value, min: value, max: value, first: (at, value), last: (at, value) }
    }

    fn add(&mut self, at: EventTime, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = (at, value);
    }
}

/// Gives the buckets of measurements that come in the order of their event times.
pub(super) fn buckets(measured: Vec<Measured>, level: BucketLevel, horizon_us: i64) -> Vec<BucketExpectation> {
    let width_us = match level {
        BucketLevel::Hour => HOUR_US,
        BucketLevel::Day => DAY_US,
    };
    let mut buckets: Vec<BucketExpectation> = Vec::new();
    for Measured { at, value, by, .. } in measured {
        let start = EventTime(at.0.div_euclid(width_us) * width_us);
        let settled_at = by.map(|by| match level {
            BucketLevel::Hour => hour_due(at, by, horizon_us),
            BucketLevel::Day => day_due(at, by, horizon_us),
        });
        match buckets.last_mut().filter(|last| last.start == start) {
            Some(last) => {
                last.bucket.add(at, value);
                last.settled_at = last.settled_at.zip(settled_at).map(|(one, other)| one.max(other));
            }
            None => buckets.push(BucketExpectation { start, bucket: Bucket::of(at, value), settled_at }),
        }
    }
    buckets
}

/// When the partial of the hour that took a measurement in at `by` is emitted at the latest: with the
/// hour's end and the horizon, or, behind that, with the end of the log hour.
fn hour_due(at: EventTime, by: LogTime, horizon_us: i64) -> LogTime {
    due(at.0.div_euclid(HOUR_US) * HOUR_US + HOUR_US, by, horizon_us)
}

/// The same for the day, into which the hour's partial is merged within an hour of its own due time.
fn day_due(at: EventTime, by: LogTime, horizon_us: i64) -> LogTime {
    let merged_by = LogTime(hour_due(at, by, horizon_us).0 + HOUR_US);
    due(at.0.div_euclid(DAY_US) * DAY_US + DAY_US, merged_by, horizon_us)
}

fn due(end_us: i64, by: LogTime, horizon_us: i64) -> LogTime {
    let closes_us = end_us + horizon_us;
    if by.0 < closes_us { LogTime(closes_us) } else { LogTime(by.0.div_euclid(HOUR_US) * HOUR_US + HOUR_US) }
}

#[cfg(test)]
mod tests {
    use super::super::Order;
    use super::*;
    use dataflows::model::MINUTE_US;

    /// Measurements as (minute, value, the minute of log time by which they came); buckets as
    /// (start, count, sum, min, max, first, last, the minute at which they are settled).
    type Row = (i64, u64, f64, f64, f64, f64, f64, Option<i64>);

    fn check(level: BucketLevel, measured: &[(i64, f64, Option<i64>)], expected: &[Row]) {
        let measured = measured.iter().map(|(at, value, by)| Measured {
            at: EventTime(at * MINUTE_US),
            value: *value,
            order: Order::InTurn,
            by: by.map(|by| LogTime(by * MINUTE_US)),
        });
        let rows: Vec<Row> = buckets(measured.collect(), level, 10 * MINUTE_US)
            .into_iter()
            .map(|BucketExpectation { start, bucket: b, settled_at }| {
                let settled_at = settled_at.map(|at| at.0 / MINUTE_US);
                (start.0 / MINUTE_US, b.count, b.sum, b.min, b.max, b.first.1, b.last.1, settled_at)
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn hours_settle_with_the_horizon_or_with_the_log_hour_of_late_data() {
        check(
            BucketLevel::Hour,
            &[(0, 2.0, Some(0)), (59, 1.0, Some(69)), (60, 4.0, Some(131)), (180, 5.0, Some(180)), (181, 6.0, None)],
            &[
                (0, 2, 3.0, 1.0, 2.0, 2.0, 1.0, Some(70)),
                (60, 1, 4.0, 4.0, 4.0, 4.0, 4.0, Some(180)),
                (180, 2, 11.0, 5.0, 6.0, 5.0, 6.0, None),
            ],
        );
    }

    #[test]
    fn hours_before_the_epoch_start_below() {
        check(BucketLevel::Hour, &[(-1, 2.0, Some(0))], &[(-60, 1, 2.0, 2.0, 2.0, 2.0, 2.0, Some(10))]);
    }

    #[test]
    fn days_settle_when_their_last_hours_have_been_merged() {
        let day = 24 * 60;
        check(
            BucketLevel::Day,
            &[(5, 2.0, Some(5)), (day, 3.0, Some(day)), (2 * day - 1, 4.0, Some(2 * day))],
            &[(0, 1, 2.0, 2.0, 2.0, 2.0, 2.0, Some(day + 10)), (day, 2, 7.0, 3.0, 4.0, 3.0, 4.0, Some(2 * day + 120))],
        );
    }
}
