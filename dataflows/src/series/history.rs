//! Tells what changed. Invariant: raw rows are only ever added, and while every measurement comes
//! in less than the horizon behind the newest of its series, the rows contain those of in-order
//! arrival.

use super::few::Few;
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

/// The measurements of one series that are within the horizon, and what is needed of those before.
///
/// State: of numbers 56 bytes, and the list of [`Few`] where more than one is within the horizon; at most
/// [`HISTORY_PER_SERIES_MAX`] measurements. When there are more, the oldest go behind the anchor early, and what comes
/// in before them counts as late.
#[derive(Clone, Debug)]
pub(crate) enum History<V> {
    /// Nothing is in order for good yet.
    Fresh(Few<Recent<V>>),
    /// As it usually is.
    Anchored(Anchor<V>, Few<Recent<V>>),
}

/// What the rule needs of the measurements that are in order for good.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Anchor<V> {
    last_at: EventTime,
    last: V,
    selected_at: EventTime,
    selected: V,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Recent<V> {
    at: EventTime,
    value: V,
    /// The rule selects it, as the history is now.
    selected: bool,
    /// It was emitted, as the history was once.
    stored: bool,
}

impl<V> Default for History<V> {
    fn default() -> Self {
        Self::Fresh(Few::None)
    }
}

impl<V: Sample> History<V> {
    /// Reads a little of it.
    pub(crate) fn touch(&self) -> usize {
        self.recent().len()
    }

    /// Reads the oldest and the newest measurement, which may stand elsewhere.
    pub(crate) fn touch_recent(&self) -> usize {
        let ends = [self.recent().first(), self.recent().last()];
        ends.into_iter().flatten().map(|recent| usize::from(recent.selected)).sum()
    }

    /// Gives the newest measurement by event time.
    pub(crate) fn newest(&self) -> Option<(EventTime, &V)> {
        self.newest_with(self.recent())
    }

    /// Puts a measurement in order and emits all that is selected now and was not emitted before:
    /// itself, or later ones that it shows in a new light.
    pub(crate) fn arrive(&mut self, at: EventTime, value: V, rule: &Rule, emit: impl FnMut(EventTime, &V)) -> Arrival {
        let mut recent = std::mem::take(self.recent_mut()).unpack();
        let arrival = self.arrive_among(&mut recent, at, value, rule, emit);
        *self.recent_mut() = Few::pack(recent);
        arrival
    }

    /// As [`History::arrive`], with the measurements within the horizon taken out.
    fn arrive_among(
        &mut self,
        recent: &mut SmallVec<[Recent<V>; 1]>,
        at: EventTime,
        value: V,
        rule: &Rule,
        emit: impl FnMut(EventTime, &V),
    ) -> Arrival {
        self.settle(recent, at, rule.horizon_us);
        if let Some(anchor) = self.anchor()
            && at <= anchor.last_at
        {
            return if at == anchor.last_at { Arrival::Duplicate } else { Arrival::Late };
        }
        if self.newest_with(recent).is_some_and(|(newest, _)| at.0 <= newest.0.saturating_sub(rule.horizon_us)) {
            return Arrival::Late;
        }
        let position = recent.iter().rposition(|recent| recent.at <= at).map_or(0, |before| before + 1);
        if position > 0 && recent[position - 1].at == at {
            return Arrival::Duplicate;
        }
        // No more than it takes: most series have as many within the horizon as before.
        recent.reserve_exact(1);
        recent.insert(position, Recent { at, value, selected: false, stored: false });
        self.select_from(recent, position, rule, emit);
        let arrival = if recent[position].selected { Arrival::Stored } else { Arrival::Unchanged };
        // A horizon of nothing leaves nothing recent, also if it is longer next time.
        self.settle(recent, at, rule.horizon_us);
        arrival
    }

    /// Runs the rule from `position` to the end.
    fn select_from(&self, recent: &mut [Recent<V>], position: usize, rule: &Rule, mut emit: impl FnMut(EventTime, &V)) {
        let before = recent[..position].iter().rev().find(|recent| recent.selected);
        let before = before.map(|recent| (recent.at, recent.value.clone()));
        let anchor = || self.anchor().map(|anchor| (anchor.selected_at, anchor.selected.clone()));
        let mut last_selected = before.or_else(anchor);
        for index in position..recent.len() {
            let (earlier, later) = recent.split_at_mut(index);
            let current = &mut later[0];
            let predecessor = earlier.last().map(|recent| &recent.value).or(self.anchor().map(|anchor| &anchor.last));
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
    fn settle(&mut self, recent: &mut SmallVec<[Recent<V>; 1]>, at: EventTime, horizon_us: i64) {
        let newest = self.newest_with(recent).map_or(at, |(newest, _)| newest.max(at));
        let limit = newest.0.saturating_sub(horizon_us);
        let behind = recent.iter().take_while(|recent| recent.at.0 <= limit).count();
        let settled = behind.max(recent.len().saturating_sub(HISTORY_PER_SERIES_MAX));
        for Recent { at, value, selected, .. } in recent.drain(..settled) {
            match self {
                Self::Anchored(anchor, _) => {
                    if selected {
                        (anchor.selected_at, anchor.selected) = (at, value.clone());
                    }
                    (anchor.last_at, anchor.last) = (at, value);
                }
                Self::Fresh(_) => {
                    let anchor = Anchor { last_at: at, last: value.clone(), selected_at: at, selected: value };
                    *self = Self::Anchored(anchor, Few::None);
                }
            }
        }
    }

    /// The newest measurement where those within the horizon are `recent`.
    fn newest_with<'a>(&'a self, recent: &'a [Recent<V>]) -> Option<(EventTime, &'a V)> {
        let anchor = || self.anchor().map(|anchor| (anchor.last_at, &anchor.last));
        recent.last().map(|recent| (recent.at, &recent.value)).or_else(anchor)
    }
}

impl<V> History<V> {
    fn anchor(&self) -> Option<&Anchor<V>> {
        match self {
            Self::Fresh(_) => None,
            Self::Anchored(anchor, _) => Some(anchor),
        }
    }

    fn recent(&self) -> &[Recent<V>] {
        let (Self::Fresh(recent) | Self::Anchored(_, recent)) = self;
        recent.as_slice()
    }

    fn recent_mut(&mut self) -> &mut Few<Recent<V>> {
        let (Self::Fresh(recent) | Self::Anchored(_, recent)) = self;
        recent
    }
}

/// [`History`] to be saved.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct HistoryState<V> {
    anchor: Option<Anchor<V>>,
    recent: SmallVec<[Recent<V>; 1]>,
}

impl<V> Default for HistoryState<V> {
    fn default() -> Self {
        Self { anchor: None, recent: SmallVec::new() }
    }
}

impl<V: Clone> History<V> {
    /// Gives the state to be saved.
    pub(crate) fn save(&self) -> HistoryState<V> {
        HistoryState { anchor: self.anchor().cloned(), recent: self.recent().iter().cloned().collect() }
    }

    /// Takes up a saved state.
    pub(crate) fn restore(HistoryState { anchor, recent }: HistoryState<V>) -> Self {
        let recent = Few::pack(recent);
        match anchor {
            None => Self::Fresh(recent),
            Some(anchor) => Self::Anchored(anchor, recent),
        }
    }
}
