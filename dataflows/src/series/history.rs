//! Tells what changed. Invariant: raw rows are only ever added, and while every measurement comes
//! in less than the horizon behind the newest of its series, the rows contain those of in-order
//! arrival.

use crate::limits::HISTORY_PER_SERIES_MAX;
use crate::model::EventTime;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::sync::Arc;

/// A value that can be compared with its predecessor and with the last one selected.
pub(crate) trait Sample: Clone + PartialEq {
    /// Whether the value differs enough to be stored.
    fn changed(&self, predecessor: &Self, _selected: &Self, _deadband: f64) -> bool {
        self != predecessor
    }
}

/// Latitude, longitude and altitude.
pub(crate) type Place = (f64, f64, Option<f64>);

impl Sample for f64 {
    fn changed(&self, predecessor: &Self, selected: &Self, deadband: f64) -> bool {
        if deadband > 0.0 { (self - selected).abs() > deadband } else { self != predecessor }
    }
}

impl Sample for Arc<str> {}
impl Sample for Place {}

/// When a measurement is selected to be stored.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rule {
    /// 0, or by how much a number must differ from the last one selected.
    pub(crate) deadband: f64,
    /// 0, or the longest time between two that are selected. Unit: microseconds.
    pub(crate) heartbeat_us: i64,
    /// How far behind the newest a measurement is still put in order. Unit: microseconds.
    pub(crate) horizon_us: i64,
}

/// What became of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It is selected and was emitted.
    Stored,
    /// It is unchanged.
    Unchanged,
    /// It came in at or behind the horizon: the caller stores it as it is.
    Late,
    /// The series has a measurement at that time.
    Duplicate,
}

/// The measurements of one series that are within the horizon, and what is needed of those before: as it is worked on,
/// and as it is saved. Between two measurements it is [packed](super::packed).
///
/// State: at most [`HISTORY_PER_SERIES_MAX`] measurements. When there are more, the oldest go
/// behind the anchor early, and what comes in before them counts as late.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct History<V> {
    pub(crate) anchor: Option<Anchor<V>>,
    pub(crate) recent: SmallVec<[Recent<V>; 1]>,
}

/// What the rule needs of the measurements that are in order for good.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Anchor<V> {
    pub(crate) last_at: EventTime,
    pub(crate) last: V,
    selected_at: EventTime,
    selected: V,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Recent<V> {
    pub(crate) at: EventTime,
    pub(crate) value: V,
    /// The rule selects it, as the history is now.
    pub(crate) selected: bool,
    /// It was emitted, as the history was once.
    stored: bool,
}

impl<V> Default for History<V> {
    fn default() -> Self {
        Self { anchor: None, recent: SmallVec::new() }
    }
}

impl<V: Sample> History<V> {
    /// Gives the newest measurement by event time.
    fn newest(&self) -> Option<(EventTime, &V)> {
        let anchor = || self.anchor.as_ref().map(|anchor| (anchor.last_at, &anchor.last));
        self.recent.last().map(|recent| (recent.at, &recent.value)).or_else(anchor)
    }

    /// Puts a measurement in order and emits all that is selected now and was not emitted before:
    /// itself, or later ones that it shows in a new light.
    pub(crate) fn arrive(&mut self, at: EventTime, value: V, rule: &Rule, emit: impl FnMut(EventTime, &V)) -> Arrival {
        self.settle(at, rule.horizon_us);
        if let Some(anchor) = &self.anchor
            && at <= anchor.last_at
        {
            return if at == anchor.last_at { Arrival::Duplicate } else { Arrival::Late };
        }
        if self.newest().is_some_and(|(newest, _)| at.0 <= newest.0.saturating_sub(rule.horizon_us)) {
            return Arrival::Late;
        }
        let position = self.recent.iter().rposition(|recent| recent.at <= at).map_or(0, |before| before + 1);
        if position > 0 && self.recent[position - 1].at == at {
            return Arrival::Duplicate;
        }
        // No more than it takes: there are many series, and most have as many recent measurements as before.
        self.recent.reserve_exact(1);
        self.recent.insert(position, Recent { at, value, selected: false, stored: false });
        self.select_from(position, rule, emit);
        let arrival = if self.recent[position].selected { Arrival::Stored } else { Arrival::Unchanged };
        // A horizon of nothing leaves nothing recent, also if it is longer next time.
        self.settle(at, rule.horizon_us);
        arrival
    }

    /// Runs the rule from `position` to the end.
    fn select_from(&mut self, position: usize, rule: &Rule, mut emit: impl FnMut(EventTime, &V)) {
        let before = self.recent[..position].iter().rev().find(|recent| recent.selected);
        let before = before.map(|recent| (recent.at, recent.value.clone()));
        let anchor = || self.anchor.as_ref().map(|anchor| (anchor.selected_at, anchor.selected.clone()));
        let mut last_selected = before.or_else(anchor);
        for index in position..self.recent.len() {
            let (earlier, later) = self.recent.split_at_mut(index);
            let current = &mut later[0];
            let predecessor = earlier.last().map(|recent| &recent.value).or(self.anchor.as_ref().map(|anchor| &anchor.last));
            current.selected = match (predecessor, &last_selected) {
                (Some(predecessor), Some((selected_at, selected))) => {
                    current.value.changed(predecessor, selected, rule.deadband)
                        || (rule.heartbeat_us > 0 && current.at.0 - selected_at.0 >= rule.heartbeat_us)
                }
                _ => true,
            };
            if current.selected {
                if !current.stored {
                    current.stored = true;
                    emit(current.at, &current.value);
                }
                last_selected = Some((current.at, current.value.clone()));
            }
        }
    }

    /// Moves behind the anchor what is at or behind the horizon, or too much, as a measurement at
    /// `at` comes in. Done before, and not only after, it keeps a single one recent where
    /// measurements are further apart than the horizon.
    fn settle(&mut self, at: EventTime, horizon_us: i64) {
        let newest = self.newest().map_or(at, |(newest, _)| newest.max(at));
        let limit = newest.0.saturating_sub(horizon_us);
        let behind = self.recent.iter().take_while(|recent| recent.at.0 <= limit).count();
        let settled = behind.max(self.recent.len().saturating_sub(HISTORY_PER_SERIES_MAX));
        for recent in self.recent.drain(..settled) {
            let selected = match self.anchor.take() {
                Some(anchor) if !recent.selected => (anchor.selected_at, anchor.selected),
                _ => (recent.at, recent.value.clone()),
            };
            let (selected_at, selected) = selected;
            self.anchor = Some(Anchor { last_at: recent.at, last: recent.value, selected_at, selected });
        }
    }
}
