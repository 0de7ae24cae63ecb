//! Buckets shorter than an hour, from stored rows: a value holds until the next row of its field.

use super::aggregate::Aggregate;
use super::answer::Cell;
use super::calendar::Buckets;
use dataflows::model::EventTime;

/// What the step function does in a bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Held {
    /// Sum of value × time over the part of the bucket that is known. Unit: value × microseconds.
    area: f64,
    /// How much of the bucket is known. Unit: microseconds.
    known_us: i64,
    min: f64,
    max: f64,
    last: f64,
}

impl Held {
    /// Picks the figure.
    pub(super) fn pick(&self, aggregate: Aggregate) -> Cell {
        match aggregate {
            Aggregate::TimeWeightedMean => Cell::Number((self.area / self.known_us as f64).clamp(self.min, self.max)),
            Aggregate::Min => Cell::Number(self.min),
            Aggregate::Max => Cell::Number(self.max),
            Aggregate::Last => Cell::Number(self.last),
            Aggregate::Mean | Aggregate::Sum | Aggregate::Count | Aggregate::First => {
                unreachable!("requests for it below an hour are refused")
            }
        }
    }
}

/// Draws the step function of one field over buckets, row by row.
pub(super) struct StepFunction<'a> {
    buckets: &'a Buckets,
    /// Where knowledge ends: nothing is known of the future.
    end: EventTime,
    /// One for each bucket.
    held: Vec<Option<Held>>,
    /// The bucket that the last row is in.
    bucket: usize,
    holding: Option<(EventTime, f64)>,
}

impl<'a> StepFunction<'a> {
    /// Starts before the first bucket; the function ends with the last one, or at `now`.
    pub(super) fn new(buckets: &'a Buckets, now: EventTime) -> Self {
        let end = buckets.end(buckets.len() - 1).min(EventTime(now.0.saturating_add(1)));
        Self { buckets, end, held: vec![None; buckets.len()], bucket: 0, holding: None }
    }

    /// Takes the next row in time order; the first may be before the first bucket. Of rows at one time the last
    /// one counts.
    pub(super) fn row(&mut self, at: EventTime, value: f64) {
        self.hold_until(at.min(self.end));
        self.holding = Some((at.max(self.buckets.start(0)), value));
    }

    /// Gives what is known of each bucket.
    pub(super) fn finish(mut self) -> Vec<Option<Held>> {
        self.hold_until(self.end);
        self.held
    }

    fn hold_until(&mut self, until: EventTime) {
        let Some((mut from, value)) = self.holding else { return };
        while from < until {
            while self.buckets.end(self.bucket) <= from {
                self.bucket += 1;
            }
            let end = self.buckets.end(self.bucket).min(until);
            let span_us = end.0 - from.0;
            let area = value * span_us as f64;
            self.held[self.bucket] = Some(match self.held[self.bucket] {
                None => Held { area, known_us: span_us, min: value, max: value, last: value },
                Some(held) => Held {
                    area: held.area + area,
                    known_us: held.known_us + span_us,
                    min: held.min.min(value),
                    max: held.max.max(value),
                    last: value,
                },
            });
            from = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::step::Step;
    use dataflows::model::MINUTE_US;
    use jiff::tz::TimeZone;

    /// Rows as (minute, value); buckets of ten minutes from minute 0; expected as (mean, min, max, last).
    fn check(rows: &[(i64, f64)], now: i64, expected: &[Option<[f64; 4]>]) {
        let range = (EventTime(0), EventTime(expected.len() as i64 * 10 * MINUTE_US));
        let buckets = Buckets::new(&TimeZone::UTC, Step::Fine(10 * MINUTE_US), range.0, range.1, 100).unwrap();
        let mut function = StepFunction::new(&buckets, EventTime(now * MINUTE_US - 1));
        rows.iter().for_each(|(minute, value)| function.row(EventTime(minute * MINUTE_US), *value));
        let columns = [Aggregate::TimeWeightedMean, Aggregate::Min, Aggregate::Max, Aggregate::Last];
        let got: Vec<_> = function.finish().iter().map(|held| held.map(|held| columns.map(|c| held.pick(c)))).collect();
        let expected: Vec<_> = expected.iter().map(|e| e.map(|e| e.map(Cell::Number))).collect();
        assert_eq!(got, expected, "{rows:?}, now {now}");
    }

    #[test]
    fn a_value_holds_until_the_next_row() {
        // The row before the range counts from the range's start.
        check(&[(-100, 5.0)], 100, &[Some([5.0; 4]), Some([5.0; 4])]);
        // Half of the bucket each.
        check(&[(-100, 5.0), (5, 7.0)], 100, &[Some([6.0, 5.0, 7.0, 7.0]), Some([7.0; 4])]);
        // Nothing is known before the first row.
        check(&[(12, 3.0), (17, 1.0)], 100, &[None, Some([2.25, 1.0, 3.0, 1.0]), Some([1.0; 4])]);
        // Nothing is known after now.
        check(&[(0, 3.0), (11, 1.0)], 12, &[Some([3.0; 4]), Some([2.0, 1.0, 3.0, 1.0]), None]);
        // Two rows at one time, as two series of one field may have: the last one counts.
        check(&[(0, 3.0), (0, 4.0)], 100, &[Some([4.0; 4])]);
        // A row on an edge belongs to the bucket behind it.
        check(&[(0, 3.0), (10, 1.0)], 100, &[Some([3.0; 4]), Some([1.0; 4])]);
        // Rows behind the range and behind now change nothing.
        check(&[(0, 3.0), (35, 9.0)], 100, &[Some([3.0; 4])]);
        check(&[(0, 3.0), (8, 9.0)], 5, &[Some([3.0; 4])]);
        check(&[], 100, &[None]);
    }
}
