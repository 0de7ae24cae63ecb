//! All measurements of one series in event-time order, and which of them are selected.

use crate::limits::HISTORY_PER_SERIES_MAX;
use crate::model::{EventTime, Value};

/// Every measurement that was ever put in order.
#[derive(Debug, Default)]
pub(super) struct Chain {
    links: Vec<Link>,
    /// So many links are in order for good: they came before the horizon.
    settled: usize,
}

#[derive(Debug)]
struct Link {
    at: EventTime,
    value: Value,
    selected: bool,
    stored: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Stored,
    Unchanged,
    LateDuplicate,
}

impl Chain {
    /// Puts a measurement in order; gives what became of it, and all that is to be stored now.
    pub(super) fn arrive(
        &mut self,
        at: EventTime,
        value: Value,
        deadband: f64,
        heartbeat_us: i64,
        horizon_us: i64,
    ) -> (Verdict, Vec<(EventTime, Value)>) {
        self.settle(horizon_us);
        let settled = self.links[..self.settled].last().map(|link| link.at);
        let open = &self.links[self.settled..];
        if settled == Some(at) || (settled < Some(at) && self.is_in_time(at, horizon_us) && open.iter().any(|l| l.at == at)) {
            return (Verdict::LateDuplicate, Vec::new());
        }
        if settled > Some(at) || !self.is_in_time(at, horizon_us) {
            return (Verdict::Stored, vec![(at, value)]);
        }
        self.links.push(Link { at, value, selected: false, stored: false });
        self.links.sort_by_key(|link| link.at);
        let mut stored = Vec::new();
        for place in 0..self.links.len() {
            if self.links[place].at < at {
                continue;
            }
            let before = &self.links[..place];
            let selected = match (before.last(), before.iter().rfind(|link| link.selected)) {
                (Some(predecessor), Some(selected)) => {
                    let link = &self.links[place];
                    changed(&link.value, &predecessor.value, &selected.value, deadband)
                        || (heartbeat_us > 0 && link.at.0 - selected.at.0 >= heartbeat_us)
                }
                _ => true,
            };
            let link = &mut self.links[place];
            link.selected = selected;
            if selected && !link.stored {
                link.stored = true;
                stored.push((link.at, link.value.clone()));
            }
        }
        let itself = self.links.iter().find(|link| link.at == at).expect("it was put in just now");
        let verdict = if itself.selected { Verdict::Stored } else { Verdict::Unchanged };
        self.settle(horizon_us);
        (verdict, stored)
    }

    fn is_in_time(&self, at: EventTime, horizon_us: i64) -> bool {
        self.links.last().is_none_or(|newest| at.0 > newest.at.0.saturating_sub(horizon_us))
    }

    fn settle(&mut self, horizon_us: i64) {
        let Some(newest) = self.links.last().map(|link| link.at) else { return };
        let behind = self.links.iter().filter(|link| link.at.0 <= newest.0.saturating_sub(horizon_us)).count();
        let too_many = self.links.len().saturating_sub(HISTORY_PER_SERIES_MAX);
        self.settled = self.settled.max(behind).max(too_many);
    }
}

fn changed(value: &Value, predecessor: &Value, selected: &Value, deadband: f64) -> bool {
    match (value, selected) {
        (Value::Number(value), Value::Number(selected)) if deadband > 0.0 => (value - selected).abs() > deadband,
        _ => value != predecessor,
    }
}

/// Gives what is stored of measurements of one series that come in in event-time order; of two at
/// one time the first in the list counts.
pub fn in_order(measurements: &[(EventTime, Value)], deadband: f64, heartbeat_us: i64) -> Vec<(EventTime, Value)> {
    let mut sorted = measurements.to_vec();
    sorted.sort_by_key(|(at, _)| *at);
    sorted.dedup_by_key(|(at, _)| *at);
    let mut stored: Vec<(EventTime, Value)> = Vec::new();
    let mut predecessor: Option<Value> = None;
    for (at, value) in sorted {
        let selected = match (&predecessor, stored.last()) {
            (Some(predecessor), Some((selected_at, selected))) => {
                changed(&value, predecessor, selected, deadband) || (heartbeat_us > 0 && at.0 - selected_at.0 >= heartbeat_us)
            }
            _ => true,
        };
        if selected {
            stored.push((at, value.clone()));
        }
        predecessor = Some(value);
    }
    stored
}
