//! Addresses that keep presenting tokens that nobody has: they are asked to wait.
//!
//! Invariant: a token that is known is never refused for it. Behind a proxy all senders have one address, and one broken
//! device among them must not shut out the others; so this only tells who knocks in vain to knock less, and costs nobody
//! else anything. What a proxy says of addresses behind it is not believed.

use dataflows::model::{EventTime, SECOND_US};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// So many unknown tokens are answered as such, at once.
const BURST: f64 = 100.0;
/// And so many a second for ever.
const PER_SECOND: f64 = 1.0;
/// Nobody is asked to wait for longer. Unit: seconds.
const WAIT_MAX_S: f64 = 60.0;
/// Most addresses that are remembered. Those beyond are answered as if they came for the first time.
const ADDRESSES_MAX: usize = 4096;

/// How many unknown tokens came from where, lately.
///
/// State: at most [`ADDRESSES_MAX`] addresses, each until what it did has decayed.
#[derive(Default)]
pub(super) struct Strangers(Mutex<HashMap<IpAddr, Tries>>);

#[derive(Clone, Copy)]
struct Tries {
    count: f64,
    at: EventTime,
}

impl Tries {
    /// Those that have not decayed.
    fn now(self, now: EventTime) -> f64 {
        let seconds = now.0.saturating_sub(self.at.0).max(0) as f64 / SECOND_US as f64;
        (self.count - seconds * PER_SECOND).max(0.0)
    }
}

impl Strangers {
    /// Takes notice of an unknown token. Gives how long its sender is to wait, if it is. Unit: seconds.
    pub(super) fn tried(&self, from: IpAddr, now: EventTime) -> Option<u32> {
        let from = site(from);
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= ADDRESSES_MAX && !tries.contains_key(&from) {
            tries.retain(|_, tries| tries.now(now) > 0.0);
            if tries.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        let known = tries.entry(from).or_insert(Tries { count: 0.0, at: now });
        let count = (known.now(now) + 1.0).min(BURST + WAIT_MAX_S * PER_SECOND);
        *known = Tries { count, at: now };
        (count > BURST).then(|| ((count - BURST) / PER_SECOND).ceil() as u32)
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(nth: u32) -> IpAddr {
        IpAddr::V4(nth.into())
    }

    #[test]
    fn who_keeps_trying_is_asked_to_wait_and_then_may_try_again() {
        let strangers = Strangers::default();
        let tried = |from: &str, second: i64| strangers.tried(from.parse().unwrap(), EventTime(second * SECOND_US));
        for _ in 0..100 {
            assert_eq!(tried("10.0.0.1", 0), None);
        }
        assert_eq!(tried("10.0.0.1", 0), Some(1));
        assert_eq!(tried("10.0.0.2", 0), None, "another address");
        assert_eq!(tried("10.0.0.1", 2), None, "it decays");
        for _ in 0..1000 {
            tried("10.0.0.1", 2);
        }
        assert_eq!(tried("10.0.0.1", 2), Some(60), "and never lasts long");
        assert_eq!(tried("10.0.0.1", 1), Some(60), "a clock that goes back makes it no worse");
        assert_eq!(tried("10.0.0.1", 63), None);
        for nth in 0..101 {
            let answer = tried(&format!("2001:db8::{nth}"), 0);
            assert_eq!(answer, (nth == 100).then_some(1), "one site");
        }
        assert_eq!(tried("2001:db8:0:1::", 0), None, "another site");
    }

    #[test]
    fn no_more_addresses_are_remembered_than_there_may_be() {
        let strangers = Strangers::default();
        for nth in 0..10_000 {
            assert_eq!(strangers.tried(address(nth), EventTime(0)), None);
        }
        assert_eq!(strangers.0.lock().unwrap().len(), ADDRESSES_MAX);
        // They have decayed, and make room.
        assert_eq!(strangers.tried(address(20_000), EventTime(SECOND_US)), None);
        assert_eq!(strangers.0.lock().unwrap().len(), 1);
    }
}
