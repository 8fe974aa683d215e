//! Numbers that look drawn and are not: the same seed, the same run.

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    state: u64,
    /// Numbers to be given out before any that look drawn.
    first: [u8; 7],
    given: usize,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, first: [0; 7], given: 7 }
    }

    /// The first numbers are the seed's own bytes, so that a fuzzer that turns one of them over turns
    /// over one choice.
    pub(crate) fn of_bytes(seed: u64) -> Self {
        let [a, b, c, d, e, f, g, _] = seed.to_le_bytes();
        Self { state: seed, first: [a, b, c, d, e, f, g], given: 0 }
    }

    pub(crate) fn word(&mut self) -> u64 {
        if let Some(byte) = self.first.get(self.given) {
            self.given += 1;
            return u64::from(*byte);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// Something once in `n` times.
    pub(crate) fn rarely<T>(&mut self, n: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(n).then(|| make(self))
    }
}
