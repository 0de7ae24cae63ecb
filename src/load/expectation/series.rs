//! Owns the in-order rule of one series: which measurements must stand in the raw table.

use crate::load::FieldRule;
use dataflows::model::{EventTime, LogTime};

/// One measurement of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measured {
    /// Its event time.
    pub at: EventTime,
    /// Its value.
    pub value: f64,
    /// How it stands to what came before.
    pub order: Order,
    /// When the log had it at the latest; none where no answer came: it may not be there at all.
    pub by: Option<LogTime>,
}

/// How a measurement stands to what came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Within the lateness horizon.
    InTurn,
    /// It came beyond the lateness horizon: it is stored as it is and nothing else depends on it.
    Late,
    /// One or the other: what it was sent behind may have been refused, and then it was not late.
    Unknown,
}

/// What the raw table must hold of one series.
///
/// Where answers are missing, the series may be in one of several states: with the uplink, and without.
/// All of them are followed, and a row is required when each of them stores it.
#[derive(Clone, PartialEq, Debug)]
pub struct SeriesExpectation {
    /// Each measurement, in the order of the event times, and whether its row is required.
    pub rows: Vec<(Measured, bool)>,
}

/// What the next measurement of a series is held against.
#[derive(Clone, Copy, PartialEq, Debug)]
struct State {
    /// The value before.
    previous: f64,
    /// The last stored one.
    stored_at: EventTime,
    stored: f64,
}

/// More states than this are not followed: nothing behind them is required.
const STATES_MAX: usize = 64;

impl SeriesExpectation {
    /// Applies the rule of in-order arrival to measurements in the order of their event times.
    pub fn in_order(measured: Vec<Measured>, rule: FieldRule) -> Self {
        let mut states: Vec<Option<State>> = vec![None];
        let all_answered = measured.iter().all(|m| m.by.is_some());
        let rows = measured.into_iter().map(|m| {
            match m.order {
                Order::Late if all_answered => (m, true),
                // What it came behind may be missing: then it was not late, and stands in the order.
                Order::Late | Order::Unknown => {
                    follow(&mut states, &Measured { by: None, ..m }, rule);
                    (m, false)
                }
                Order::InTurn => {
                    let all_store = states.len() <= STATES_MAX && states.iter().all(|state| stores(*state, &m, rule));
                    follow(&mut states, &m, rule);
                    (m, all_store && m.by.is_some())
                }
            }
        });
        Self { rows: rows.collect() }
    }
}

/// Moves every state behind `m`; where `m` may not be there, the states before it stay possible.
fn follow(states: &mut Vec<Option<State>>, m: &Measured, rule: FieldRule) {
    if states.len() > STATES_MAX {
        return;
    }
    let before = if m.by.is_some() { std::mem::take(states) } else { states.clone() };
    for state in before {
        let stored = match state {
            Some(state) if !stores(Some(state), m, rule) => State { previous: m.value, ..state },
            _ => State { previous: m.value, stored_at: m.at, stored: m.value },
        };
        if !states.contains(&Some(stored)) {
            states.push(Some(stored));
        }
    }
}

fn stores(state: Option<State>, m: &Measured, rule: FieldRule) -> bool {
    let Some(state) = state else { return true };
    let changed = match rule.deadband {
        0.0 => m.value != state.previous,
        deadband => (m.value - state.stored).abs() > deadband,
    };
    changed || (rule.heartbeat_us > 0 && m.at.0 - state.stored_at.0 >= rule.heartbeat_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measurements as (minute, value, how it came), and the minutes whose rows are required.
    fn check(rule: FieldRule, measured: &[(i64, f64, Came)], required: &[i64]) {
        let minute = dataflows::model::MINUTE_US;
        let measured = measured.iter().map(|(at, value, came)| Measured {
            at: EventTime(at * minute),
            value: *value,
            order: match came {
                Came::Late => Order::Late,
                Came::Unknown => Order::Unknown,
                Came::InTurn | Came::Unanswered => Order::InTurn,
            },
            by: (*came != Came::Unanswered).then_some(LogTime(0)),
        });
        let rows = SeriesExpectation::in_order(measured.collect(), rule).rows;
        let got: Vec<i64> = rows.iter().filter(|(_, required)| *required).map(|(m, _)| m.at.0 / minute).collect();
        assert_eq!(got, required);
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Came {
        InTurn,
        Late,
        Unknown,
        Unanswered,
    }
    use Came::{InTurn, Late, Unanswered, Unknown};

    const CHANGES: FieldRule = FieldRule { deadband: 0.0, heartbeat_us: 0 };
    const HOURLY: FieldRule = FieldRule { deadband: 0.0, heartbeat_us: dataflows::model::HOUR_US };
    const DEADBAND: FieldRule = FieldRule { deadband: 0.5, heartbeat_us: 0 };

    #[test]
    fn changes_are_required() {
        check(CHANGES, &[(1, 5.0, InTurn), (2, 5.0, InTurn), (3, 6.0, InTurn), (90, 6.0, InTurn)], &[1, 3]);
    }

    #[test]
    fn silence_ends_with_the_heartbeat() {
        check(HOURLY, &[(0, 5.0, InTurn), (59, 5.0, InTurn), (60, 5.0, InTurn), (119, 5.0, InTurn)], &[0, 60]);
    }

    #[test]
    fn a_deadband_counts_from_the_stored_value() {
        check(DEADBAND, &[(1, 5.0, InTurn), (2, 5.5, InTurn), (3, 5.6, InTurn), (4, 5.2, InTurn)], &[1, 3]);
    }

    #[test]
    fn late_ones_are_required_and_change_nothing() {
        check(CHANGES, &[(1, 5.0, InTurn), (2, 7.0, Late), (3, 7.0, Late), (4, 5.0, InTurn)], &[1, 2, 3]);
    }

    #[test]
    fn one_that_may_have_been_late_is_held_against_nothing() {
        check(CHANGES, &[(1, 5.0, Unknown), (2, 5.0, InTurn), (3, 6.0, InTurn)], &[3]);
        check(CHANGES, &[(1, 5.0, Unknown), (2, 6.0, InTurn), (3, 6.0, InTurn)], &[2]);
    }

    #[test]
    fn behind_an_unanswered_one_only_what_is_stored_either_way_is_required() {
        check(CHANGES, &[(1, 5.0, InTurn), (2, 6.0, Unanswered), (3, 6.0, InTurn), (4, 7.0, InTurn)], &[1, 4]);
        check(CHANGES, &[(1, 5.0, InTurn), (2, 6.0, Unanswered), (3, 5.0, InTurn), (4, 5.0, InTurn)], &[1]);
        check(CHANGES, &[(1, 5.0, InTurn), (2, 5.0, Unanswered), (3, 6.0, InTurn), (4, 6.0, InTurn)], &[1, 3]);
        check(CHANGES, &[(1, 5.0, Unanswered), (2, 5.0, InTurn), (3, 6.0, InTurn)], &[3]);
        check(CHANGES, &[(1, 5.0, Late), (2, 5.0, Unanswered), (3, 5.0, InTurn), (4, 6.0, InTurn)], &[4]);
    }

    #[test]
    fn too_many_possible_states_require_nothing_behind_them() {
        let unanswered = (0..7).map(|n| (n, f64::from(n as i32) / 10.0, Unanswered));
        let mut measured: Vec<_> = [(-1, -9.0, InTurn)].into_iter().chain(unanswered).collect();
        measured.push((8, 9.0, InTurn));
        check(DEADBAND, &measured, &[-1, 8]);
        let all: Vec<_> = (0..200).map(|n| (n, f64::from(n as i32), Unanswered)).chain([(300, 9e9, InTurn)]).collect();
        check(DEADBAND, &all, &[]);
    }
}
