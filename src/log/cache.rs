//! Owns the memory of readers: a few values, least recently used first to go, within a bound in bytes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// Values by key, at most `bytes_max` of them together, but at least the newest.
pub(super) struct Cache<K, V> {
    bytes_max: usize,
    held: Mutex<Held<K, V>>,
}

struct Held<K, V> {
    values: HashMap<K, (Arc<V>, usize, u64)>,
    bytes: usize,
    uses: u64,
}

impl<K: Hash + Eq + Copy, V> Cache<K, V> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Mutex::new(Held { values: HashMap::new(), bytes: 0, uses: 0 }) }
    }

    pub(super) fn get(&self, key: K) -> Option<Arc<V>> {
        let mut held = self.held.lock().expect(UNPOISONED);
        held.uses += 1;
        let now = held.uses;
        held.values.get_mut(&key).map(|(value, _, used)| {
            *used = now;
            value.clone()
        })
    }

    /// Takes a value of `bytes` in, in place of one with its key. Gives the last one that had to go for it.
    pub(super) fn put(&self, key: K, value: Arc<V>, bytes: usize) -> Option<Arc<V>> {
        let mut held = self.held.lock().expect(UNPOISONED);
        let mut gone = held.remove(key);
        while held.bytes + bytes > self.bytes_max {
            let Some(oldest) = held.values.iter().min_by_key(|(_, (_, _, used))| *used).map(|(key, _)| *key) else { break };
            gone = held.remove(oldest);
        }
        held.uses += 1;
        let now = held.uses;
        held.bytes += bytes;
        held.values.insert(key, (value, bytes, now));
        gone
    }
}

impl<K: Hash + Eq, V> Held<K, V> {
    fn remove(&mut self, key: K) -> Option<Arc<V>> {
        let (value, bytes, _) = self.values.remove(&key)?;
        self.bytes -= bytes;
        Some(value)
    }
}

const UNPOISONED: &str = "nothing panics while it holds the cache";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Cache::new(10);
        let held = |cache: &Cache<u8, ()>| (0..9).filter(|key| cache.get(*key).is_some()).collect::<Vec<_>>();
        assert!(cache.put(1, Arc::new(()), 4).is_none());
        cache.put(2, Arc::new(()), 4);
        cache.get(1);
        assert!(cache.put(3, Arc::new(()), 4).is_some(), "what had to go is given back");
        assert_eq!(held(&cache), [1, 3]);
        assert!(cache.put(3, Arc::new(()), 6).is_some(), "so is what it takes the place of");
        assert_eq!(held(&cache), [1, 3]);
        cache.put(4, Arc::new(()), 100);
        assert_eq!(held(&cache), [4]);
    }
}
