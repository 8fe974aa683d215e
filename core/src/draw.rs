//! Random draws that do not disturb each other.
//!
//! A draw is a hash of (seed, stream, number of the draw). There is no generator that all share:
//! an operation owns a stream, so that adding, removing or reordering other operations changes none
//! of its jitter, and a replayed or shrunk scenario keeps the timing of what it keeps.

/// A stream of draws. Copying it copies its position: the copies give the same draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Draws {
    seed: u64,
    stream: u64,
    n: u32,
}

impl Draws {
    /// The beginning of a stream.
    pub(crate) const fn new(seed: u64, stream: u64) -> Self {
        Self { seed, stream, n: 0 }
    }

    /// A number below `bound`; 0 if `bound` is 0.
    ///
    /// Scaling 64 bits down instead of taking a remainder leaves a bias below 2⁻³².
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let word = self.word();
        ((u128::from(word) * u128::from(bound)) >> 64) as u32
    }

    /// 64 bits.
    pub(crate) fn word(&mut self) -> u64 {
        // Each input is mixed before the next one is added: were they only summed, stream 1 would
        // be stream 0 one draw later.
        let word = mix(mix(mix(self.seed) ^ self.stream) ^ u64::from(self.n));
        self.n = self.n.wrapping_add(1);
        word
    }
}

/// One step of splitmix64: an odd constant (2⁶⁴ divided by the golden ratio) keeps zero from
/// being a fixed point, then two rounds of xor-shift and multiply spread each bit over the word.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(seed: u64, stream: u64, count: usize) -> Vec<u64> {
        let mut draws = Draws::new(seed, stream);
        (0..count).map(|_| draws.word()).collect()
    }

    /// A recorded run must replay on every platform and with every later version.
    #[test]
    fn draws_are_fixed_for_ever() {
        // The first output of splitmix64 from state 0, from its reference implementation.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(words(1, 2, 3), GOLDEN);
        let mut draws = Draws::new(1, 2);
        assert_eq!([draws.below(1000), draws.below(1000), draws.below(1000)], GOLDEN_BELOW);
    }

    const GOLDEN: [u64; 3] =
        [16_613_338_946_343_043_936, 13_264_548_337_748_323_810, 16_803_123_258_551_283_528];
    const GOLDEN_BELOW: [u32; 3] = [900, 719, 910];

    #[test]
    fn no_stream_is_another_one_shifted() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..8 {
            for stream in 0..8 {
                for word in words(seed, stream, 64) {
                    assert!(seen.insert(word), "{seed}/{stream} repeats a word");
                }
            }
        }
    }

    #[test]
    fn what_others_draw_changes_nothing() {
        let alone = words(7, 3, 10);
        let mut ours = Draws::new(7, 3);
        let mut theirs = Draws::new(7, 4);
        let mixed: Vec<u64> = (0..10)
            .map(|i| {
                for _ in 0..i {
                    theirs.word();
                }
                ours.word()
            })
            .collect();
        assert_eq!(alone, mixed);
    }

    #[test]
    fn draws_stay_below_the_bound_and_reach_all_of_it() {
        let mut draws = Draws::new(0, 0);
        assert_eq!((draws.below(0), draws.below(1)), (0, 0));
        let mut hits = [0_u32; 10];
        for _ in 0..10_000 {
            hits[draws.below(10) as usize] += 1;
        }
        assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
        let largest = (0..1000).map(|_| draws.below(u32::MAX)).max();
        assert!(largest > Some(u32::MAX / 100 * 98));
    }
}
