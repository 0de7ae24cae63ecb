//! Owns how a history rests between two measurements of its series. Invariant: it says what the history said, in as
//! little memory as that takes.

use super::history::{Anchor, Arrival, History, Recent, Rule, Sample};
use crate::model::EventTime;
use smallvec::SmallVec;

/// A [`History`] that nobody works on.
///
/// State: of numbers 56 bytes; with more than one measurement within the horizon, a list that is as long as it has to be.
#[derive(Clone, Debug)]
pub(crate) enum PackedHistory<V> {
    /// Nothing is in order for good yet.
    Fresh(Few<Recent<V>>),
    /// As it usually is.
    Anchored(Anchor<V>, Few<Recent<V>>),
}

/// A list that is usually short.
#[derive(Clone, Debug)]
pub(crate) enum Few<T> {
    None,
    One(T),
    /// Two or more.
    Many(Box<[T]>),
}

impl<T> Few<T> {
    fn pack(mut list: SmallVec<[T; 1]>) -> Self {
        match list.len() {
            0 | 1 => list.pop().map_or(Self::None, Self::One),
            _ => Self::Many(list.into_boxed_slice()),
        }
    }

    fn unpack(self) -> SmallVec<[T; 1]> {
        match self {
            Self::None => SmallVec::new(),
            Self::One(one) => SmallVec::from_buf([one]),
            // The list's memory is taken over as it is.
            Self::Many(many) => SmallVec::from_vec(many.into_vec()),
        }
    }

    fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<V> Default for PackedHistory<V> {
    fn default() -> Self {
        Self::Fresh(Few::None)
    }
}

impl<V> From<History<V>> for PackedHistory<V> {
    fn from(History { anchor, recent }: History<V>) -> Self {
        let recent = Few::pack(recent);
        match anchor {
            None => Self::Fresh(recent),
            Some(anchor) => Self::Anchored(anchor, recent),
        }
    }
}

impl<V> From<PackedHistory<V>> for History<V> {
    fn from(packed: PackedHistory<V>) -> Self {
        match packed {
            PackedHistory::Fresh(recent) => Self { anchor: None, recent: recent.unpack() },
            PackedHistory::Anchored(anchor, recent) => Self { anchor: Some(anchor), recent: recent.unpack() },
        }
    }
}

impl<V: Sample> PackedHistory<V> {
    /// As [`History::arrive`].
    pub(crate) fn arrive(&mut self, at: EventTime, value: V, rule: &Rule, emit: impl FnMut(EventTime, &V)) -> Arrival {
        let mut history = History::from(std::mem::take(self));
        let arrival = history.arrive(at, value, rule, emit);
        *self = history.into();
        arrival
    }

    /// Reads a little of it.
    pub(crate) fn touch(&self) -> usize {
        self.recent().len()
    }

    /// Reads the newest measurement, which may stand elsewhere.
    pub(crate) fn touch_newest(&self) -> usize {
        self.recent().last().map_or(0, |recent| recent.selected.into())
    }

    /// Gives the newest measurement by event time.
    pub(crate) fn newest(&self) -> Option<(EventTime, &V)> {
        let anchor = match self {
            Self::Fresh(_) => None,
            Self::Anchored(anchor, _) => Some((anchor.last_at, &anchor.last)),
        };
        self.recent().last().map(|recent| (recent.at, &recent.value)).or(anchor)
    }

    fn recent(&self) -> &[Recent<V>] {
        let (Self::Fresh(recent) | Self::Anchored(_, recent)) = self;
        recent.as_slice()
    }
}
