//! Owns the open partials of one series. Invariant: at most one of a bucket and retention class has room for more.

use super::agenda::Agenda;
use super::bucket_table::BucketTable;
use super::open::{Open, PackedOpen};
use crate::model::{BucketLevel, ClassNo, DeviceNo, EventTime, LogTime};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// The open partials of one series. The hour that was used last stands in the series itself, so
/// that a measurement usually finds it in memory that was touched already.
///
/// State: 96 bytes and 80 for each further one, usually the present day, and the hour before for as long as the lateness
/// horizon; at most [`OPEN_PARTIALS_PER_SERIES_MAX`](crate::limits::OPEN_PARTIALS_PER_SERIES_MAX) hours and as many days,
/// for which the caller makes room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    hour: Option<PackedOpen>,
    others: Box<[PackedOpen]>,
}

/// [`Buckets`] to be saved.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct BucketsState {
    hour: Option<Open>,
    others: Vec<Open>,
}

impl Buckets {
    /// Reads a little of it, from both ends of the hour.
    pub(crate) fn touch(&self) -> usize {
        let hour = self.hour.as_ref().map_or(0, |hour| hour.count.get() as usize + hour.digest.touch());
        self.others.len() + hour
    }

    /// Reads a little of those that stand elsewhere, from both ends of each.
    pub(crate) fn touch_others(&self) -> usize {
        self.others.iter().map(|open| open.count.get() as usize + open.digest.touch()).sum()
    }

    /// Finds the open partial of a bucket with room for so many more.
    pub(crate) fn find(
        &mut self,
        table: &BucketTable,
        level: BucketLevel,
        start: EventTime,
        class: ClassNo,
        count: NonZeroU32,
    ) -> Option<&mut PackedOpen> {
        let is_it = |open: &PackedOpen| {
            let bucket = table.get(open.bucket);
            let is_there = bucket.start == start && bucket.level == level && bucket.class == class;
            is_there && open.has_room(count)
        };
        if self.hour.as_ref().is_some_and(is_it) {
            return self.hour.as_mut();
        }
        let place = self.others.iter().position(is_it)?;
        if level == BucketLevel::Day {
            return self.others.get_mut(place);
        }
        match &mut self.hour {
            Some(hour) => std::mem::swap(hour, &mut self.others[place]),
            None => self.hour = Some(self.change_others(|others| others.swap_remove(place))),
        }
        self.hour.as_mut()
    }

    /// Takes in a partial of a bucket that has none with room.
    pub(crate) fn open(&mut self, level: BucketLevel, open: PackedOpen) {
        let other = match level {
            BucketLevel::Hour => self.hour.replace(open),
            BucketLevel::Day => Some(open),
        };
        if let Some(other) = other {
            self.change_others(|others| {
                others.reserve_exact(1);
                others.push(other);
            });
        }
    }

    /// Counts the open partials of a level.
    pub(crate) fn count(&self, table: &BucketTable, level: BucketLevel) -> usize {
        self.iter().filter(|open| table.get(open.bucket).level == level).count()
    }

    /// Takes out the earliest of a level.
    pub(crate) fn take_earliest(&mut self, table: &BucketTable, level: BucketLevel) -> Option<PackedOpen> {
        let of_level = self.iter().map(|open| table.get(open.bucket)).filter(|bucket| bucket.level == level);
        let (start, class) = of_level.map(|bucket| (bucket.start, bucket.class)).min()?;
        let is_it = |open: &mut PackedOpen| {
            let bucket = table.get(open.bucket);
            bucket.level == level && bucket.start == start && bucket.class == class
        };
        self.hour.take_if(is_it).or_else(|| self.change_others(|others| others.extract_if(.., is_it).next()))
    }

    /// Gives all open partials.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PackedOpen> {
        self.hour.iter().chain(&self.others)
    }

    /// Takes out what is due, by start and class.
    pub(crate) fn take_due(&mut self, table: &BucketTable, level: BucketLevel, now: LogTime) -> SmallVec<[PackedOpen; 1]> {
        let is_due = |open: &PackedOpen| {
            let bucket = table.get(open.bucket);
            bucket.level == level && bucket.due <= now
        };
        let mut due: SmallVec<[PackedOpen; 1]> = self.hour.take_if(|hour| is_due(hour)).into_iter().collect();
        let out = self.others.iter().filter(|open| is_due(open)).count();
        if out > 0 {
            // What stays gets memory of its own: an allocator may leave half of a list where the whole was.
            let mut kept = Vec::with_capacity(self.others.len() - out);
            for open in &self.others {
                if is_due(open) { due.push(*open) } else { kept.push(*open) }
            }
            self.others = kept.into_boxed_slice();
        }
        due.sort_unstable_by_key(|open| {
            let bucket = table.get(open.bucket);
            (bucket.start, bucket.class)
        });
        due
    }

    fn change_others<R>(&mut self, change: impl FnOnce(&mut Vec<PackedOpen>) -> R) -> R {
        let mut others = std::mem::take(&mut self.others).into_vec();
        let result = change(&mut others);
        self.others = others.into_boxed_slice();
        result
    }

    /// Gives the state to be saved.
    pub(crate) fn save(&self, table: &BucketTable) -> BucketsState {
        let unpack = |open: &PackedOpen| open.unpack(table);
        BucketsState { hour: self.hour.as_ref().map(unpack), others: self.others.iter().map(unpack).collect() }
    }

    /// Takes up what was saved of a device's series.
    pub(crate) fn restore(BucketsState { hour, others }: BucketsState, device: DeviceNo, agenda: &mut Agenda) -> Self {
        let mut hours = hour.map(|hour| hour.pack(device, agenda)).unwrap_or_default();
        let hour = hours.pop();
        let others = others.into_iter().flat_map(|open| open.pack(device, agenda));
        let others: SmallVec<[PackedOpen; 4]> = hours.into_iter().chain(others).collect();
        Self { hour, others: others.as_slice().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HOUR_US, Offset, Point};
    use crate::series::open::Digest;
    use crate::series::open::tests::open;

    #[test]
    fn as_many_measurements_as_there_may_be_are_counted() {
        let mut agenda = Agenda::default();
        let mut buckets = Buckets::default();
        let find = |buckets: &mut Buckets, agenda: &Agenda, count| {
            let count = NonZeroU32::new(count).unwrap();
            let found = buckets.find(agenda.buckets(), BucketLevel::Hour, EventTime(0), ClassNo(0), count);
            found.map(|open| open.add(count, &Digest::of(Point { at: EventTime(2), offset: Offset(3), value: 1.0 }))).is_some()
        };
        buckets.open(BucketLevel::Hour, open(u64::from(u32::MAX) - 1).pack(DeviceNo(0), &mut agenda)[0]);
        assert!(!find(&mut buckets, &agenda, 2), "there is room for one more");
        assert!(find(&mut buckets, &agenda, 1));
        assert!(!find(&mut buckets, &agenda, 1));
        buckets.open(BucketLevel::Hour, open(1).pack(DeviceNo(0), &mut agenda)[0]);
        assert!(find(&mut buckets, &agenda, 1));
        let counts: Vec<_> = buckets.iter().map(|open| open.count.get()).collect();
        assert_eq!(counts, [2, u32::MAX]);
    }

    #[test]
    fn what_counts_more_than_fits_comes_back_in_parts() {
        let mut agenda = Agenda::default();
        let saved = BucketsState { hour: Some(open(3 << 32)), others: vec![open(2)] };
        let buckets = Buckets::restore(saved.clone(), DeviceNo(0), &mut agenda);
        let BucketsState { hour, others } = buckets.save(agenda.buckets());
        let (mut whole, last) = (hour.unwrap(), others.last().cloned());
        others[..others.len() - 1].iter().for_each(|part| whole.summary.merge(&part.summary));
        assert_eq!((Some(whole), last), (saved.hour, saved.others.last().cloned()));
    }

    #[test]
    fn what_is_due_is_taken_out_and_the_rest_stays() {
        let mut agenda = Agenda::default();
        let day = Open { level: BucketLevel::Day, due: LogTime(2 * HOUR_US), ..open(1) };
        let saved = BucketsState { hour: None, others: vec![open(1), day.clone()] };
        let mut buckets = Buckets::restore(saved, DeviceNo(0), &mut agenda);
        let due = buckets.take_due(agenda.buckets(), BucketLevel::Hour, LogTime(HOUR_US));
        assert_eq!(due.iter().map(|due| due.unpack(agenda.buckets())).collect::<Vec<_>>(), [open(1)]);
        assert_eq!(buckets.save(agenda.buckets()), BucketsState { hour: None, others: vec![day] });
    }
}
