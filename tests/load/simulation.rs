//! A daemon for one fleet, as slow and clear as can be: what it stores, arrival by arrival.

use dataflows::model::{BucketLevel, Counts, DAY_US, EventTime, HOUR_US, LogTime};
use std::collections::{BTreeMap, HashMap, HashSet};
use weir::load::expectation::Bucket;
use weir::load::verify::{Accounts, Row, SeriesKey, Verified, Verifier};
use weir::load::{Due, Expectation, Fate, FieldRule, Rules};

/// What stands in the tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) raw: BTreeMap<SeriesKey, Vec<Row>>,
    pub(crate) hours: BTreeMap<SeriesKey, BTreeMap<EventTime, Bucket>>,
    pub(crate) days: BTreeMap<SeriesKey, BTreeMap<EventTime, Bucket>>,
    /// Series that there should not be.
    pub(crate) unknown: Vec<String>,
    pub(crate) accounts: Accounts,
}

impl Tables {
    /// Gives the merged partials of a level.
    pub(crate) fn rollups(&self, level: BucketLevel) -> &BTreeMap<SeriesKey, BTreeMap<EventTime, Bucket>> {
        match level {
            BucketLevel::Hour => &self.hours,
            BucketLevel::Day => &self.days,
        }
    }

    /// Verifies them as if they had been read from a database.
    pub(crate) fn verify(&self, expectation: &Expectation, rules: &Rules) -> Verified {
        let mut verifier = Verifier::new(expectation, rules, &self.accounts.log_times);
        self.raw.iter().for_each(|(key, rows)| verifier.raw(*key, rows));
        for level in [BucketLevel::Hour, BucketLevel::Day] {
            for (key, buckets) in self.rollups(level) {
                let merged: Vec<_> = buckets.iter().map(|(start, bucket)| (*start, *bucket)).collect();
                verifier.rollup(level, *key, &merged);
            }
        }
        verifier.finish(&self.unknown, &self.accounts)
    }
}

/// A daemon.
pub(crate) struct Simulation {
    rules: Rules,
    seen: HashSet<(u32, u32)>,
    series: HashMap<SeriesKey, Series>,
    tables: Tables,
}

/// All that ever came of a series.
#[derive(Default)]
struct Series {
    /// Measurements in time, and whether each is stored.
    in_time: BTreeMap<EventTime, (f64, bool)>,
    /// All, late ones too.
    all: BTreeMap<EventTime, f64>,
}

impl Simulation {
    /// Starts with nothing; `log_time` is that of all partitions at the end.
    pub(crate) fn new(rules: Rules, log_time: LogTime) -> Self {
        let accounts = Accounts { log_times: vec![Some(log_time); 16], ..Accounts::default() };
        let tables = Tables { accounts, ..Tables::default() };
        Self { rules, seen: HashSet::new(), series: HashMap::new(), tables }
    }

    /// Takes in a copy of an uplink.
    pub(crate) fn take(&mut self, due: &Due) {
        let uplink = &due.uplink;
        let counts = &mut self.tables.accounts.counts;
        counts.uplinks += 1;
        if !self.seen.insert((uplink.device, uplink.fcnt)) {
            counts.duplicate += 1;
        } else if uplink.fate == Fate::Bad {
            counts.uplinks_quarantined += 1;
            *self.tables.accounts.quarantine.entry("decoder_error".into()).or_default() += 1;
        } else {
            counts.uplinks_decoded += 1;
            for (place, field) in uplink.kind.spec().fields.iter().enumerate() {
                let rule = self.rules.of(uplink.kind, field);
                let value = (field.value)(uplink.readings[field.reading]);
                let series = self.series.entry((uplink.device, place)).or_default();
                let rows = series.take(
                    uplink.received_at,
                    value,
                    rule,
                    self.rules.lateness_horizon_us,
                    &mut self.tables.accounts.counts,
                );
                self.tables.raw.entry((uplink.device, place)).or_default().extend(rows);
            }
        }
    }

    /// Gives what the tables hold.
    pub(crate) fn end(mut self) -> Tables {
        for rows in self.tables.raw.values_mut() {
            rows.sort_by_key(|row| row.at);
            self.tables.accounts.raw_rows += rows.len() as u64;
        }
        for (key, series) in &self.series {
            self.tables.hours.insert(*key, series.rollup(HOUR_US));
            self.tables.days.insert(*key, series.rollup(DAY_US));
        }
        self.tables
    }
}

impl Series {
    fn take(&mut self, at: EventTime, value: f64, rule: FieldRule, horizon_us: i64, counts: &mut Counts) -> Vec<Row> {
        counts.measurements += 1;
        self.all.insert(at, value);
        let newest = self.in_time.keys().next_back().copied();
        if newest.is_some_and(|newest| at.0 <= newest.0 - horizon_us) {
            counts.stored += 1;
            return vec![Row { at, value }];
        }
        self.in_time.insert(at, (value, false));
        let mut rows = Vec::new();
        let (mut before, mut selected): (Option<f64>, Option<(EventTime, f64)>) = (None, None);
        for (&this_at, (this, stored)) in &mut self.in_time {
            let select = match selected {
                None => true,
                Some((selected_at, _)) if rule.heartbeat_us > 0 && this_at.0 - selected_at.0 >= rule.heartbeat_us => true,
                Some((_, selected)) if rule.deadband > 0.0 => (*this - selected).abs() > rule.deadband,
                Some(_) => before != Some(*this),
            };
            if select {
                selected = Some((this_at, *this));
            }
            if select && !*stored {
                *stored = true;
                rows.push(Row { at: this_at, value: *this });
            }
            before = Some(*this);
        }
        let itself = rows.iter().filter(|row| row.at == at).count() as u64;
        counts.stored += itself;
        counts.unchanged += 1 - itself;
        counts.stored_afterwards += rows.len() as u64 - itself;
        rows
    }

    fn rollup(&self, width_us: i64) -> BTreeMap<EventTime, Bucket> {
        let start = |at: EventTime| EventTime(at.0 - at.0.rem_euclid(width_us));
        let starts: HashSet<EventTime> = self.all.keys().map(|at| start(*at)).collect();
        let bucket = |of: EventTime| {
            let inside: Vec<(EventTime, f64)> =
                self.all.iter().filter(|(at, _)| start(**at) == of).map(|(at, value)| (*at, *value)).collect();
            let values = || inside.iter().map(|(_, value)| *value);
            Bucket {
                count: inside.len() as u64,
                // In another order than the expectation's: sums are equal but for rounding.
                sum: values().rev().sum(),
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
                first: inside[0],
                last: inside[inside.len() - 1],
            }
        };
        starts.into_iter().map(|of| (of, bucket(of))).collect()
    }
}
