//! What keeps a part of the daemon from the database, for `/readyz`, `/status` and the metrics.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What keeps which part of the daemon from the database now.
#[derive(Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Troubles {
    /// Gives one part its place.
    pub(super) fn of(&self, part: &'static str) -> Trouble {
        Trouble { part, all: self.clone() }
    }

    /// Gives some part's trouble, if there is any.
    pub(super) fn any(&self) -> Option<String> {
        self.lock().values().next().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part's place. Dropping it clears its trouble.
pub(super) struct Trouble {
    part: &'static str,
    all: Troubles,
}

impl Trouble {
    /// It cannot do its work.
    pub(super) fn set(&self, error: &impl Display) {
        self.all.lock().insert(self.part, error.to_string());
    }

    /// It can.
    pub(super) fn clear(&self) {
        self.all.lock().remove(self.part);
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.clear();
    }
}
