//! Owns the keys of one device: what it sent within the window, in twelve bytes each. A network that delivers at once
//! what it held back brings a device's whole day within an hour of log time: they are a good part of all memory then.

use super::{Digest, is_live};
use crate::limits::DEDUP_KEYS_PER_DEVICE_MAX;
use crate::model::LogTime;
use std::collections::VecDeque;

/// The keys of one device, oldest first.
///
/// State: at most [`DEDUP_KEYS_PER_DEVICE_MAX`] keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// What the times are counted from.
    base: LogTime,
    keys: VecDeque<Key>,
}

/// A digest in halves, so that it has no need to begin at a multiple of eight bytes.
#[derive(Clone, Copy, Debug)]
struct Key {
    /// Behind the base. Unit: microseconds; the window has fewer than 2^32.
    after_us: u32,
    digest: [u32; 2],
}

/// Room is made for so many at a time: twice as many as there are would be far too many.
const KEYS_ADDED: usize = 8;

impl Keys {
    /// Takes up saved keys, oldest first.
    pub(super) fn restore(saved: impl IntoIterator<Item = (LogTime, Digest)>) -> Self {
        let mut keys = Self::default();
        saved.into_iter().for_each(|(at, digest)| keys.push(at, digest));
        keys
    }

    /// Gives all, oldest first, with their times.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LogTime, Digest)> {
        self.keys.iter().map(|key| (self.time(key), key.digest()))
    }

    /// Reads a little of each cache line.
    pub(super) fn touch(&self) -> u32 {
        const LINE: usize = 64 / size_of::<Key>();
        self.keys.iter().step_by(LINE).fold(0, |touched, key| touched ^ key.after_us)
    }

    /// Whether some key makes copies of uplinks that come at `now`.
    pub(super) fn is_live(&self, now: LogTime) -> bool {
        self.keys.back().is_some_and(|key| is_live(self.time(key), now))
    }

    /// Forgets what makes no copies any more of uplinks that come at `now`.
    pub(super) fn expire(&mut self, now: LogTime) {
        while self.keys.front().is_some_and(|key| !is_live(self.time(key), now)) {
            self.keys.pop_front();
        }
    }

    /// Finds a digest, and tells when it came.
    pub(super) fn find(&self, digest: Digest) -> Option<(usize, LogTime)> {
        let place = self.keys.iter().position(|key| key.digest() == digest)?;
        Some((place, self.time(&self.keys[place])))
    }

    /// Forgets the key at a place.
    pub(super) fn remove(&mut self, place: usize) {
        self.keys.remove(place);
    }

    /// Adds a key that came at `now`; the oldest goes where there are too many. Log time never goes back; if it did, the key
    /// would count as come with the newest.
    pub(super) fn push(&mut self, now: LogTime, digest: Digest) {
        let now = self.keys.back().map_or(now, |newest| now.max(self.time(newest)));
        self.expire(now);
        if self.keys.len() == DEDUP_KEYS_PER_DEVICE_MAX {
            self.keys.pop_front();
        }
        if self.keys.len() == self.keys.capacity() {
            self.keys.reserve_exact(KEYS_ADDED);
        }
        let after_us = self.after_us(now);
        self.keys.push_back(Key { after_us, digest: [digest as u32, (digest >> 32) as u32] });
    }

    fn time(&self, key: &Key) -> LogTime {
        LogTime(self.base.0 + i64::from(key.after_us))
    }

    /// Counts a time from the base, which moves to the oldest key where the time is too far from it.
    fn after_us(&mut self, now: LogTime) -> u32 {
        if let Ok(after_us) = u32::try_from(now.0 - self.base.0) {
            return after_us;
        }
        let base = self.keys.front().map_or(now, |oldest| self.time(oldest));
        let moved_us = base.0 - self.base.0;
        for key in &mut self.keys {
            key.after_us = (i64::from(key.after_us) - moved_us) as u32;
        }
        self.base = base;
        u32::try_from(now.0 - base.0).expect("no key is newer, and what is older than the window is forgotten")
    }
}

impl Key {
    fn digest(&self) -> Digest {
        Digest::from(self.digest[0]) | Digest::from(self.digest[1]) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DEDUP_WINDOW_US;

    #[test]
    fn times_and_digests_come_back_over_many_windows() {
        let (mut keys, mut plain) = (Keys::default(), VecDeque::new());
        let mut now = LogTime(1_774_728_000_000_000);
        for step in 0..5_000_u64 {
            // From nothing to beyond the window, now and then far beyond.
            now.0 += (step * step % 97) as i64 * if step % 1_000 == 999 { DEDUP_WINDOW_US } else { DEDUP_WINDOW_US / 4_000 };
            let digest = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            plain.retain(|&(at, _)| is_live(at, now));
            if plain.len() == DEDUP_KEYS_PER_DEVICE_MAX {
                plain.pop_front();
            }
            plain.push_back((now, digest));
            keys.push(now, digest);
            assert!(keys.iter().eq(plain.iter().copied()), "step {step}");
            assert_eq!(keys.find(digest), Some((plain.len() - 1, now)));
        }
        assert!(Keys::restore(keys.iter()).iter().eq(plain), "what is saved is taken up");
    }

    #[test]
    fn time_that_goes_back_stands_still() {
        let mut keys = Keys::default();
        keys.push(LogTime(DEDUP_WINDOW_US), 1);
        keys.push(LogTime(0), 2);
        assert_eq!(keys.find(2), Some((1, LogTime(DEDUP_WINDOW_US))));
    }

    #[test]
    fn a_key_takes_twelve_bytes() {
        assert_eq!(size_of::<Key>(), 12);
    }
}
