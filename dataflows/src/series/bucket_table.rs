//! Owns what the open partials of many series have in common. Invariant: a bucket has one number, and keeps it for as
//! long as a partial is open in it.

use super::calendar::ZoneNo;
use crate::model::{BucketLevel, ClassNo, EventTime, LogTime};
use hashbrown::HashMap;

/// An hour or a day in which partials are open, as those that were opened alike see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bucket {
    pub(crate) start: EventTime,
    pub(crate) end: EventTime,
    /// Its partials are emitted by the first record at or after this log time.
    pub(crate) due: LogTime,
    pub(crate) level: BucketLevel,
    pub(crate) class: ClassNo,
    /// The zone by which an hour was opened: it says to which day the hour belongs.
    pub(crate) zone: ZoneNo,
}

/// A bucket of a [`BucketTable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BucketNo(u32);

/// The buckets of a partition in which partials are open.
///
/// State: about 90 bytes for each of them, of which a whole fleet has a few; never more than partials are open.
#[derive(Debug, Default)]
pub(crate) struct BucketTable {
    numbered: Vec<Numbered>,
    /// Numbers that mean nothing at present.
    vacant: Vec<BucketNo>,
    numbers: HashMap<Bucket, BucketNo>,
}

#[derive(Debug)]
struct Numbered {
    bucket: Bucket,
    /// How many are open in it.
    partials: usize,
}

impl BucketTable {
    /// Counts one more partial in a bucket and gives the bucket's number.
    pub(crate) fn enter(&mut self, bucket: Bucket) -> BucketNo {
        let Self { numbered, vacant, numbers } = self;
        let no = *numbers.entry(bucket).or_insert_with(|| {
            let fresh = Numbered { bucket, partials: 0 };
            if let Some(no) = vacant.pop() {
                numbered[no.place()] = fresh;
                return no;
            }
            numbered.push(fresh);
            BucketNo(u32::try_from(numbered.len() - 1).expect("2^32 partials do not fit into memory"))
        });
        numbered[no.place()].partials += 1;
        no
    }

    /// Counts one partial less in a bucket.
    pub(crate) fn leave(&mut self, no: BucketNo) {
        let Numbered { bucket, partials } = &mut self.numbered[no.place()];
        *partials -= 1;
        if *partials == 0 {
            self.numbers.remove(bucket);
            self.vacant.push(no);
        }
    }

    /// Gives a bucket in which partials are open.
    pub(crate) fn get(&self, no: BucketNo) -> &Bucket {
        &self.numbered[no.place()].bucket
    }
}

impl BucketNo {
    fn place(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::calendar::Zones;

    #[test]
    fn numbers_are_shared_while_partials_are_open_and_given_again_afterwards() {
        let zone = Zones::default().by_name("UTC");
        let hour = |start| Bucket {
            start: EventTime(start),
            end: EventTime(start + 1),
            due: LogTime(start + 2),
            level: BucketLevel::Hour,
            class: ClassNo(0),
            zone,
        };
        let mut table = BucketTable::default();
        let first = table.enter(hour(1));
        assert_eq!(table.enter(hour(1)), first);
        let second = table.enter(hour(2));
        table.leave(first);
        assert_eq!((table.get(first), table.get(second)), (&hour(1), &hour(2)));
        table.leave(first);
        assert_eq!(table.enter(hour(3)), first);
        assert_eq!(table.get(first), &hour(3));
        for start in 4..1_000 {
            let no = table.enter(hour(start));
            table.leave(no);
        }
        assert_eq!(table.numbered.len(), 3, "two at once, and one beside them");
    }
}
