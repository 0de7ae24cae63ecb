//! The aggregates that a request can ask for, and what fills the gaps between buckets.

use super::answer::Cell;
use super::merge::Merged;

/// A figure of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aggregate {
    /// Sum by count, of all measurements. From an hour up.
    Mean,
    /// Average of the step function that the stored rows draw. Below an hour.
    TimeWeightedMean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Of all measurements. From an hour up.
    Sum,
    /// Of all measurements. From an hour up.
    Count,
    /// The earliest. From an hour up.
    First,
    /// The latest; below an hour the value at the bucket's end.
    Last,
}

/// What stands for a bucket without measurements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fill {
    /// The bucket is left out.
    #[default]
    Absent,
    /// Null; a count is 0.
    Null,
    /// The figures of the bucket before it; a count is 0 and a sum null.
    Previous,
}

/// Every aggregate, in the order of the message that lists them.
const ALL: [Aggregate; 8] = [
    Aggregate::Mean,
    Aggregate::TimeWeightedMean,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Sum,
    Aggregate::Count,
    Aggregate::First,
    Aggregate::Last,
];

impl Aggregate {
    /// Finds one by its name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        ALL.into_iter().find(|aggregate| aggregate.as_str() == name)
    }

    /// Gives the name in requests and answers.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::TimeWeightedMean => "time_weighted_mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::First => "first",
            Self::Last => "last",
        }
    }

    /// Lists the names of those that a step below an hour (`fine`) or from an hour up offers.
    pub(super) fn offered(fine: bool) -> String {
        let names: Vec<_> = ALL.into_iter().filter(|a| a.fits(fine)).map(Self::as_str).collect();
        names.join(", ")
    }

    /// Whether a step below an hour (`fine`) or from an hour up offers it. Below an hour there are only the rows
    /// that changed, of which a plain mean, a count or a sum would be wrong.
    pub(super) fn fits(self, fine: bool) -> bool {
        match self {
            Self::Min | Self::Max | Self::Last => true,
            Self::TimeWeightedMean => fine,
            Self::Mean | Self::Sum | Self::Count | Self::First => !fine,
        }
    }

    /// Picks the figure.
    pub(super) fn of(self, bucket: &Merged) -> Cell {
        match self {
            Self::Mean => Cell::Number(bucket.mean()),
            Self::Min => Cell::Number(bucket.min),
            Self::Max => Cell::Number(bucket.max),
            Self::Sum => Cell::Number(bucket.sum),
            Self::Count => Cell::Count(bucket.count),
            Self::First => Cell::Number(bucket.first.value),
            Self::Last => Cell::Number(bucket.last.value),
            Self::TimeWeightedMean => unreachable!("requests for it from an hour up are refused"),
        }
    }

    /// Gives what stands for it in a bucket without measurements; `before` is the last one that had some.
    pub(super) fn filled(self, fill: Fill, before: Option<&Merged>) -> Cell {
        match (self, fill, before) {
            (Self::Count, _, _) => Cell::Count(0),
            (Self::Sum, _, _) | (_, Fill::Absent | Fill::Null, _) | (_, _, None) => Cell::Null,
            (_, Fill::Previous, Some(before)) => self.of(before),
        }
    }
}

impl Fill {
    /// Finds one by its name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "absent" => Some(Self::Absent),
            "null" => Some(Self::Null),
            "previous" => Some(Self::Previous),
            _ => None,
        }
    }
}
