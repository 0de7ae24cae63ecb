//! What the graph gives: rows to append, each with the record that caused it.

use super::{ClassNo, Device, DeviceId, EventTime, FieldName, LogTime, Offset, Partition, SeriesId, TenantNo, ValueKind};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;
use std::sync::Arc;

/// A row with the record that caused it: what is below `progress` is dropped before anything else.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Placed<T> {
    /// The partition of the record.
    pub partition: Partition,
    /// The record.
    pub offset: Offset,
    /// The row.
    pub row: T,
}

/// A raw row of one of the value tables.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stored<V> {
    /// The tables that take it.
    pub class: ClassNo,
    /// The series.
    pub series: SeriesId,
    /// The event time.
    pub at: EventTime,
    /// The value.
    pub value: V,
}

/// A row of `measurement`.
pub type NumberRow = Stored<f64>;
/// A row of `measurement_text`.
pub type TextRow = Stored<Arc<str>>;
/// A row of `measurement_location`: latitude and longitude in degrees, altitude in metres.
pub type LocationRow = Stored<(f64, f64, Option<f64>)>;

/// The width of a rollup's buckets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum BucketLevel {
    /// One hour, aligned to the zone's offset.
    Hour,
    /// One local day.
    Day,
}

/// A value with its time and the offset that brought it: of two at one time the lower offset is
/// first, the higher last.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The event time.
    pub at: EventTime,
    /// The offset that brought it.
    pub offset: Offset,
    /// The value.
    pub value: f64,
}

/// A mergeable part of a bucket: of the deduplicated measurements that fell into it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Partial {
    /// The tables that take it.
    pub class: ClassNo,
    /// Hour or day.
    pub level: BucketLevel,
    /// The series.
    pub series: SeriesId,
    /// Where the bucket starts.
    pub start: EventTime,
    /// Where it ends, exclusive.
    pub end: EventTime,
    /// How many measurements; never 0.
    pub count: u64,
    /// Their sum, added in the order of the log.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The earliest by (event time, offset).
    pub first: Point,
    /// The latest by (event time, offset).
    pub last: Point,
}

/// A row of `series`: written with the first measurement of the series, and again with the first
/// after its retention class has changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CatalogueSeries {
    /// The series.
    pub series: SeriesId,
    /// Whose.
    pub tenant: TenantNo,
    /// The device's name.
    pub device: DeviceId,
    /// The field's name.
    pub field: FieldName,
    /// The type of its values.
    pub kind: ValueKind,
    /// Its unit, where the template names one.
    pub unit: Option<String>,
    /// The tables that hold it.
    pub class: ClassNo,
}

/// A row of `device` that a first uplink made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CatalogueDevice(pub Device);

/// Why something is in quarantine. The words are stable: people search for them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// No device of the tenant has this name, or its template is gone.
    UnknownDevice,
    /// The template takes decoded fields and the uplink has none.
    NothingDecoded,
    /// The decoder threw, or returned errors.
    DecoderError,
    /// The decoder's source or module cannot be run.
    DecoderInvalid,
    /// The decoder used up its steps.
    DecoderSteps,
    /// The decoder used up its memory.
    DecoderMemory,
    /// The watchdog ended the decoder.
    DecoderKilled,
    /// The decoder is suspended after it kept running out of its limits.
    DecoderSuspended,
    /// A value cannot be stored: NaN, infinite, or of no known type.
    BadValue,
    /// An event time is before the retention, or more than an hour ahead of log time.
    BadTime,
    /// A device has more fields than can be numbered or the decoder gave too many.
    TooManyFields,
    /// A record of the log cannot be read by this version.
    BadRecord,
    /// The database refused the row.
    RowRefused,
    /// The tenant had used up a quota, and wants what is over to be set aside.
    OverQuota,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::UnknownDevice,
        Self::NothingDecoded,
        Self::DecoderError,
        Self::DecoderInvalid,
        Self::DecoderSteps,
        Self::DecoderMemory,
        Self::DecoderKilled,
        Self::DecoderSuspended,
        Self::BadValue,
        Self::BadTime,
        Self::TooManyFields,
        Self::BadRecord,
        Self::RowRefused,
        Self::OverQuota,
    ];

    /// Reads the word in the `quarantine` table.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The word in the `quarantine` table and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownDevice => "unknown_device",
            Self::NothingDecoded => "nothing_decoded",
            Self::DecoderError => "decoder_error",
            Self::DecoderInvalid => "decoder_invalid",
            Self::DecoderSteps => "decoder_steps",
            Self::DecoderMemory => "decoder_memory",
            Self::DecoderKilled => "decoder_killed",
            Self::DecoderSuspended => "decoder_suspended",
            Self::BadValue => "bad_value",
            Self::BadTime => "bad_time",
            Self::TooManyFields => "too_many_fields",
            Self::BadRecord => "bad_record",
            Self::RowRefused => "row_refused",
            Self::OverQuota => "over_quota",
        }
    }
}

/// A row of `quarantine`: enough to see what came, why it was set aside, and to try it again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Quarantined {
    /// When the log took it in.
    pub log_time: LogTime,
    /// Whose.
    pub tenant: TenantNo,
    /// The device's name.
    pub device: DeviceId,
    /// The field, where only one measurement is set aside and not the uplink.
    pub field: Option<FieldName>,
    /// Why.
    pub reason: Reason,
    /// The same for a reader, with what to do.
    pub detail: String,
    /// What came (postcard of [`super::Record`]): the uplink, or the retry of one. Of an uplink over a quota it is the uplink
    /// itself: a retry is outside the quota.
    pub record: Vec<u8>,
}

/// An entry of `quarantine` whose uplink, or field, was tried again: it goes with the commit of the retry's rows. Its
/// partition is that of the retry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Released {
    /// The record that was set aside.
    pub offset: Offset,
    /// When the log took that record in.
    pub log_time: LogTime,
    /// The field, where only that was set aside.
    pub field: Option<FieldName>,
}

/// How many went which way. `measurements = stored + unchanged + late_duplicate + measurements_quarantined`
/// and `uplinks = uplinks_decoded + duplicate + uplinks_quarantined + thinned`, always. An uplink that is tried again
/// is read again: it counts once as set aside, and once more as what became of it then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Uplink records read, and retries of those that were set aside.
    pub uplinks: u64,
    /// Uplinks that were copies of one before.
    pub duplicate: u64,
    /// Uplinks set aside whole.
    pub uplinks_quarantined: u64,
    /// Uplinks that were decoded.
    pub uplinks_decoded: u64,
    /// Measurements that decoders gave, those that were refused included.
    pub measurements: u64,
    /// Measurements that became raw rows on arrival.
    pub stored: u64,
    /// Measurements that were unchanged.
    pub unchanged: u64,
    /// Measurements with the series and event time of one before.
    pub late_duplicate: u64,
    /// Measurements set aside.
    pub measurements_quarantined: u64,
    /// Unchanged measurements that became raw rows when an earlier one came in behind them;
    /// counted in `unchanged` too.
    pub stored_afterwards: u64,
    /// Uplinks over a quota that were not stored, since another one of the device was within the tenant's interval.
    /// What was counted before there were quotas does not name it.
    #[serde(default)]
    pub thinned: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.uplinks += other.uplinks;
        self.duplicate += other.duplicate;
        self.uplinks_quarantined += other.uplinks_quarantined;
        self.uplinks_decoded += other.uplinks_decoded;
        self.measurements += other.measurements;
        self.stored += other.stored;
        self.unchanged += other.unchanged;
        self.late_duplicate += other.late_duplicate;
        self.measurements_quarantined += other.measurements_quarantined;
        self.stored_afterwards += other.stored_afterwards;
        self.thinned += other.thinned;
    }
}

/// All that came out of the graph for some records, table by table, in the order it was made.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outputs {
    /// Rows of `device`.
    pub devices: Vec<Placed<CatalogueDevice>>,
    /// Rows of `series`.
    pub series: Vec<Placed<CatalogueSeries>>,
    /// Rows of `measurement`.
    pub numbers: Vec<Placed<NumberRow>>,
    /// Rows of `measurement_text`.
    pub texts: Vec<Placed<TextRow>>,
    /// Rows of `measurement_location`.
    pub locations: Vec<Placed<LocationRow>>,
    /// Rows of `rollup_1h` and `rollup_1d`.
    pub partials: Vec<Placed<Partial>>,
    /// Rows of `quarantine`.
    pub quarantined: Vec<Placed<Quarantined>>,
    /// Rows of `quarantine` that go, ascribed to the retries that took their place.
    pub released: Vec<Placed<Released>>,
}

impl Outputs {
    /// Counts the rows.
    pub fn len(&self) -> usize {
        self.devices.len()
            + self.series.len()
            + self.numbers.len()
            + self.texts.len()
            + self.locations.len()
            + self.partials.len()
            + self.quarantined.len()
            + self.released.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all rows. Room stays for twice as many of each kind. What is beyond that goes by halves, for rows that came in
    /// masses once may never do so again, or at every hour.
    pub fn clear(&mut self) {
        // All by name, so that a new kind of row cannot be forgotten: it would be committed twice.
        let Self { devices, series, numbers, texts, locations, partials, quarantined, released } = self;
        clear(devices);
        clear(series);
        clear(numbers);
        clear(texts);
        clear(locations);
        clear(partials);
        clear(quarantined);
        clear(released);
    }

    /// Moves the rows of `other` behind these.
    pub fn append(&mut self, other: &mut Self) {
        self.devices.append(&mut other.devices);
        self.series.append(&mut other.series);
        self.numbers.append(&mut other.numbers);
        self.texts.append(&mut other.texts);
        self.locations.append(&mut other.locations);
        self.partials.append(&mut other.partials);
        self.quarantined.append(&mut other.quarantined);
        self.released.append(&mut other.released);
    }

    /// Drops every row that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(Partition, Offset) -> bool) {
        self.devices.retain(|r| keep(r.partition, r.offset));
        self.series.retain(|r| keep(r.partition, r.offset));
        self.numbers.retain(|r| keep(r.partition, r.offset));
        self.texts.retain(|r| keep(r.partition, r.offset));
        self.locations.retain(|r| keep(r.partition, r.offset));
        self.partials.retain(|r| keep(r.partition, r.offset));
        self.quarantined.retain(|r| keep(r.partition, r.offset));
        self.released.retain(|r| keep(r.partition, r.offset));
    }
}

fn clear<T>(rows: &mut Vec<T>) {
    let room = (rows.len() * 2).max(rows.capacity() / 2);
    if room < rows.capacity() {
        // Not shrunk, which would copy what is dropped; and fresh room is no memory until it is written to.
        *rows = Vec::with_capacity(room);
    } else {
        rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleared_rows_leave_room_for_twice_as_many_of_their_kind_and_for_more_only_for_a_while() {
        let row = Stored { class: ClassNo(0), series: SeriesId(1), at: EventTime(0), value: 1.0 };
        let number = Placed { partition: Partition(0), offset: Offset(0), row };
        let with_numbers = |count| Outputs { numbers: vec![number.clone(); count], ..Outputs::default() };
        let mut rows = with_numbers(1000);
        rows.clear();
        assert!(rows.is_empty() && rows.numbers.capacity() >= 1000, "they may come again");
        let mut rooms = Vec::new();
        for _ in 0..8 {
            rows.append(&mut with_numbers(10));
            rows.clear();
            rooms.push(rows.numbers.capacity());
        }
        assert!(rooms[0] >= 500, "they may come again a commit later: {rooms:?}");
        assert!((10..40).contains(&rooms[7]), "they did not: {rooms:?}");
    }
}
