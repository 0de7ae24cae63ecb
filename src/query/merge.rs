//! Merges partials of a bucket.
//!
//! Invariant: merging is commutative and associative, but for the rounding of sums, so that it does not matter
//! which partials were merged in the tables before.

use dataflows::model::{Partial, Point, SeriesId};

/// What a bucket, or a part of it, amounts to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Merged {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) first: Point,
    pub(super) last: Point,
}

/// A part of a series: of the measurements between its first and its last one, no other.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Piece {
    /// The series.
    pub(super) series: SeriesId,
    /// What the measurements amount to.
    pub(super) merged: Merged,
    /// Whether measurements may still join it.
    pub(super) open: bool,
}

impl Merged {
    /// Takes in another part.
    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if order(&other.first) < order(&self.first) {
            self.first = other.first;
        }
        if order(&other.last) > order(&self.last) {
            self.last = other.last;
        }
    }

    /// Gives the plain mean of the measurements.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

fn order(point: &Point) -> (i64, u64) {
    (point.at.0, point.offset.0)
}

impl Piece {
    /// Takes a partial of the memory.
    pub(super) fn of(partial: &Partial, open: bool) -> Self {
        let Partial { count, sum, min, max, first, last, .. } = *partial;
        Self { series: partial.series, merged: Merged { count, sum, min, max, first, last }, open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{EventTime, Offset};

    fn point(at: i64, offset: u64, value: f64) -> Point {
        Point { at: EventTime(at), offset: Offset(offset), value }
    }

    #[test]
    fn the_order_of_merging_does_not_show() {
        let one = |p: Point| Merged { count: 1, sum: p.value, min: p.value, max: p.value, first: p, last: p };
        // At one time the lower offset is first and the higher last.
        let parts = [point(10, 7, 1.0), point(10, 3, 2.0), point(20, 1, 4.0), point(20, 9, 8.0)].map(one);
        let expected = Merged { count: 4, sum: 15.0, min: 1.0, max: 8.0, first: point(10, 3, 2.0), last: point(20, 9, 8.0) };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut merged = parts[order[0]];
            order[1..].iter().for_each(|part| merged.add(&parts[*part]));
            assert_eq!(merged, expected, "{order:?}");
            assert_eq!(merged.mean(), 3.75);
        }
    }
}
