//! Owns the fleet's randomness: one 64-bit state, the same numbers for a seed on every machine and version.

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// Scrambles 64 bits. A bijection: different inputs give different outputs.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Random {
    /// Starts the `stream`th generator of a seed; streams do not resemble each other.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(mix(seed).wrapping_add(stream)))
    }

    /// Gives 64 even bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Gives a number below `bound`, or 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Gives a number from 0 to 1, 1 excluded.
    pub(crate) fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Picks an index with the probability of its weight. The weights' sum is not 0.
    pub(crate) fn pick(&mut self, weights: impl Iterator<Item = u32> + Clone) -> usize {
        let mut left = self.below(weights.clone().map(u64::from).sum());
        for (index, weight) in weights.enumerate() {
            match left.checked_sub(u64::from(weight)) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        unreachable!("`left` starts below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut random = Random::new(7, 3);
        assert_eq!([random.bits(), random.below(100), random.pick([1, 0, 5].into_iter()) as u64], FIRST_OF_7_3);
    }

    #[test]
    fn weights_are_honoured() {
        let mut random = Random::new(1, 0);
        let mut picked = [0u32; 3];
        (0..4_000).for_each(|_| picked[random.pick([1, 0, 3].into_iter())] += 1);
        assert_eq!(picked[1], 0);
        assert!((900..1_100).contains(&picked[0]), "{picked:?}");
    }

    // Recorded: a change of it changes every recorded run.
    const FIRST_OF_7_3: [u64; 3] = [5_123_015_643_707_495_125, 98, 2];
}
