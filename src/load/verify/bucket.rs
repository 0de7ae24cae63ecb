//! Owns how the partials of a bucket merge, as every reader of the tables must merge them.

use crate::load::expectation::Bucket;
use dataflows::model::EventTime;

/// A partial as a table holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    /// Where its bucket starts.
    pub(super) start: EventTime,
    /// What it says.
    pub(super) bucket: Bucket,
    /// The records that its first and last measurement came in.
    pub(super) offsets: (i64, i64),
}

/// Merges the partials of a series, which come in the order of their buckets.
pub(super) fn merge(partials: &[Partial]) -> Vec<(EventTime, Bucket)> {
    let same_bucket = partials.chunk_by(|one, other| one.start == other.start);
    same_bucket.map(|partials| (partials[0].start, merged(partials))).collect()
}

fn merged(partials: &[Partial]) -> Bucket {
    let [first, rest @ ..] = partials else { unreachable!("no chunk is empty") };
    let mut sum = *first;
    for partial in rest {
        let (into, from) = (&mut sum.bucket, &partial.bucket);
        into.count += from.count;
        into.sum += from.sum;
        into.min = into.min.min(from.min);
        into.max = into.max.max(from.max);
        // At one time, the record that came first decides what is first, and the one that came last what is last.
        if (from.first.0, partial.offsets.0) < (into.first.0, sum.offsets.0) {
            (into.first, sum.offsets.0) = (from.first, partial.offsets.0);
        }
        if (from.last.0, partial.offsets.1) > (into.last.0, sum.offsets.1) {
            (into.last, sum.offsets.1) = (from.last, partial.offsets.1);
        }
    }
    sum.bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partials_merge_in_any_order() {
        let partial = |first: (i64, f64, i64), last: (i64, f64, i64)| Partial {
            start: EventTime(0),
            bucket: Bucket {
                count: 2,
                sum: first.1 + last.1,
                min: first.1.min(last.1),
                max: first.1.max(last.1),
                first: (EventTime(first.0), first.1),
                last: (EventTime(last.0), last.1),
            },
            offsets: (first.2, last.2),
        };
        let one = partial((1, 5.0, 10), (9, 7.0, 12));
        let other = partial((1, 4.0, 9), (9, 8.0, 13));
        let expected = Bucket { count: 4, sum: 24.0, min: 4.0, max: 8.0, first: (EventTime(1), 4.0), last: (EventTime(9), 8.0) };
        assert_eq!(merge(&[one, other]), [(EventTime(0), expected)]);
        assert_eq!(merge(&[other, one]), [(EventTime(0), expected)]);
        let next = Partial { start: EventTime(60), ..one };
        assert_eq!(merge(&[other, next]), [(EventTime(0), other.bucket), (EventTime(60), one.bucket)]);
        assert!(merge(&[]).is_empty());
    }
}
