//! Where choices come from.
//!
//! Whatever a world does by chance it asks of one [`Entropy`], and says what for: a [`Stream`] is a
//! purpose and the one it is for. So a part that is taken away, a client or a kind of fault, takes
//! its own choices with it and leaves all others as they were. That is what makes a scenario shrink.
//!
//! | source | a choice is | for |
//! |---|---|---|
//! | [`Seeded`] | a hash of (seed, stream, how manieth) | soak, CI |
//! | [`Tape`] | the next bytes of a tape | libFuzzer, quickcheck |
//! | [`Odometer`] | a digit of a number that counts up from run to run | all runs of a small world |
//!
//! Of any source zero is the calm choice: no fault, no delay. A tape that has come to its end gives
//! zeros, so a shorter tape is a calmer world.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a choice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Which of the things that happen at one instant happens first. For each client; servers and
    /// faults share a number of their own.
    Tie,
    /// How long a request travels. For each client.
    There,
    /// How long an answer travels. For each client.
    Back,
    /// What becomes of a message. For each client.
    Fate,
    /// Whether a request that nobody waits for any more arrives. For each client.
    Stray,
    /// How soon a woken task runs. For each client.
    Schedule,
    /// The seeds of cores. For each client.
    Seed,
    /// When the nemesis strikes and how. For each kind of fault.
    Nemesis,
    /// Choices of the application's. For each client.
    Application,
    /// The shape of a world: what a swarm turns on.
    Shape,
}

/// How many purposes there are.
const PURPOSES: usize = Purpose::Shape as usize + 1;

/// Choices that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// What they are for.
    pub purpose: Purpose,
    /// For whom.
    pub entity: u64,
}

impl Stream {
    /// The choices of `entity` for `purpose`.
    pub const fn new(purpose: Purpose, entity: u64) -> Self {
        Self { purpose, entity }
    }
}

/// A source of choices.
pub trait Entropy: Send {
    /// The next choice of `stream`: a number below `bound`; 0 if `bound` is 0.
    fn below(&mut self, stream: Stream, bound: u32) -> u32;
}

impl dyn Entropy + '_ {
    /// True in `ppm` out of a million cases. Zero is false.
    pub fn chance(&mut self, stream: Stream, ppm: u32) -> bool {
        ppm > 0 && self.below(stream, MILLION) >= MILLION.saturating_sub(ppm)
    }

    /// 64 bits.
    pub fn word(&mut self, stream: Stream) -> u64 {
        let high = u64::from(self.below(stream, u32::MAX));
        high << 32 | u64::from(self.below(stream, u32::MAX))
    }

    /// A number of nanoseconds below `bound`.
    pub fn nanos_below(&mut self, stream: Stream, bound: u64) -> u64 {
        match u32::try_from(bound) {
            Ok(bound) => u64::from(self.below(stream, bound)),
            Err(_) => {
                let part = u128::from(self.below(stream, u32::MAX));
                ((part * u128::from(bound)) >> 32) as u64
            }
        }
    }

    /// A waiting time of this mean, exponential in good approximation. Zero is the shortest.
    ///
    pub fn waiting(&mut self, stream: Stream, mean: u64) -> u64 {
        waiting(!self.below(stream, u32::MAX), mean)
    }

    /// The same, but zero is the longest: for what is better late.
    pub fn respite(&mut self, stream: Stream, mean: u64) -> u64 {
        waiting(self.below(stream, u32::MAX), mean)
    }
}

/// An exponential waiting time of this mean from a random word: the larger, the sooner.
///
/// Made of integers, so that it is the same on every platform: the number of leading zeros of a
/// random word is a waiting time in coin flips, and the bits after them fill the steps.
fn waiting(word: u32, mean: u64) -> u64 {
    let zeros = word.leading_zeros().min(31);
    // The bits after the first one, as a fraction: large ones are early in their step.
    let fraction = u64::from(!(word << zeros << 1) >> 1);
    let steps = u128::from(u64::from(zeros) << 31 | fraction);
    // ln 2 turns flips into means.
    let scaled = steps * u128::from(mean) * 693_147 / 1_000_000;
    u64::try_from(scaled >> 31).unwrap_or(u64::MAX)
}

/// Parts of a million.
pub(crate) const MILLION: u32 = 1_000_000;

/// Choices that are hashes of a seed.
#[derive(Clone, Debug)]
pub struct Seeded {
    seed: u64,
    /// How many choices each stream has made. The small entities are most of all.
    near: [Vec<u64>; PURPOSES],
    far: BTreeMap<Stream, u64>,
}

impl Seeded {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed), near: Default::default(), far: BTreeMap::new() }
    }

    fn count(&mut self, stream: Stream) -> u64 {
        const NEAR: u64 = 256;
        let slot = if stream.entity < NEAR {
            let row = &mut self.near[stream.purpose as usize];
            let at = stream.entity as usize;
            if row.len() <= at {
                row.resize(at + 1, 0);
            }
            &mut row[at]
        } else {
            self.far.entry(stream).or_default()
        };
        *slot += 1;
        *slot
    }
}

impl Entropy for Seeded {
    fn below(&mut self, stream: Stream, bound: u32) -> u32 {
        let n = self.count(stream);
        // Each input is mixed before the next is added, or neighbours would be the same stream.
        let word = mix(mix(mix(self.seed ^ stream.purpose as u64) ^ stream.entity) ^ n);
        ((u128::from(word) * u128::from(bound)) >> 64) as u32
    }
}

/// One step of splitmix64.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Choices that are read from a tape, whatever they are for. Past its end all are zero.
#[derive(Clone, Debug)]
pub struct Tape {
    bytes: Vec<u8>,
    at: usize,
}

impl Tape {
    /// From bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), at: 0 }
    }

    /// How many bytes have been used.
    pub fn used(&self) -> usize {
        self.at
    }
}

impl Entropy for Tape {
    /// A small bound takes one byte, a larger one two or four.
    fn below(&mut self, _: Stream, bound: u32) -> u32 {
        let width = match bound {
            0 | 1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let mut word = 0_u64;
        for _ in 0..width {
            word = word << 8 | u64::from(self.bytes.get(self.at).copied().unwrap_or(0));
            self.at = (self.at + 1).min(self.bytes.len());
        }
        ((word * u64::from(bound)) >> (8 * width)) as u32
    }
}

/// All choices, one combination a run.
///
/// ```
/// use anatase_sim::{Entropy, Odometer, Purpose, Stream};
///
/// let stream = Stream::new(Purpose::Application, 0);
/// let mut odometer = Odometer::new(u32::MAX);
/// let mut seen = Vec::new();
/// loop {
///     let first = odometer.below(stream, 2);
///     // What is chosen from may depend on what was chosen.
///     let second = if first == 0 { 0 } else { odometer.below(stream, 3) };
///     seen.push((first, second));
///     if !odometer.advance() {
///         break;
///     }
/// }
/// assert_eq!(seen, [(0, 0), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Clone, Debug)]
pub struct Odometer {
    /// The digits of this run so far: what was chosen, and of how many.
    digits: Vec<(u32, u32)>,
    at: usize,
    width: u32,
}

impl Odometer {
    /// Of a choice among more than `width`, only so many are tried, evenly spread. A world draws
    /// delays in nanoseconds, and nobody waits for all of those.
    pub fn new(width: u32) -> Self {
        Self { digits: Vec::new(), at: 0, width: width.max(1) }
    }

    /// Sets out for the next run. False if there is none: all have been.
    pub fn advance(&mut self) -> bool {
        self.digits.truncate(self.at);
        self.at = 0;
        while let Some((digit, of)) = self.digits.pop() {
            if digit + 1 < of {
                self.digits.push((digit + 1, of));
                return true;
            }
        }
        false
    }

    /// How many choices this run has made.
    pub fn choices(&self) -> usize {
        self.at
    }
}

impl Entropy for Odometer {
    fn below(&mut self, _: Stream, bound: u32) -> u32 {
        if bound <= 1 {
            return 0;
        }
        let of = bound.min(self.width);
        if self.at == self.digits.len() {
            self.digits.push((0, of));
        }
        // A program that is not deterministic may ask for fewer than the last time.
        let digit = self.digits[self.at].0.min(of - 1);
        self.digits[self.at] = (digit, of);
        self.at += 1;
        if of == bound || of == 1 {
            return digit;
        }
        (u64::from(digit) * u64::from(bound - 1) / u64::from(of - 1)) as u32
    }
}

/// A source that is looked at, or [advanced](Odometer::advance), when the world is over.
impl<E: Entropy> Entropy for Arc<Mutex<E>> {
    fn below(&mut self, stream: Stream, bound: u32) -> u32 {
        self.lock().unwrap_or_else(PoisonError::into_inner).below(stream, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Stream = Stream::new(Purpose::Tie, 0);
    const B: Stream = Stream::new(Purpose::Tie, 1);
    const FAR: Stream = Stream::new(Purpose::Tie, 1 << 40);

    /// Saved scenarios replay on every platform and with every later version.
    #[test]
    fn seeded_choices_are_fixed_for_ever() {
        let mut seeded = Seeded::new(7);
        let drawn: Vec<u32> = [A, A, B, FAR].map(|s| seeded.below(s, u32::MAX)).into();
        assert_eq!(drawn, [146_455_367, 1_212_844_488, 521_924_344, 3_398_447_701]);
    }

    #[test]
    fn a_stream_does_not_disturb_another() {
        let (mut alone, mut both) = (Seeded::new(1), Seeded::new(1));
        for _ in 0..100 {
            both.below(B, 10);
            both.below(FAR, 10);
            assert_eq!(alone.below(A, 1000), both.below(A, 1000));
        }
    }

    #[test]
    fn choices_are_below_their_bound_and_spread() {
        let mut seeded = Seeded::new(3);
        let mut seen = [0_u32; 5];
        for _ in 0..5000 {
            seen[seeded.below(A, 5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(seeded.below(A, 0), 0);
    }

    #[test]
    fn a_tape_ends_in_zeros() {
        let mut tape = Tape::new([255, 128, 0, 255, 255]);
        assert_eq!(tape.below(A, 10), 9);
        assert_eq!(tape.below(B, 0x200), 0x100);
        assert_eq!(tape.used(), 3);
        assert_eq!(tape.below(A, u32::MAX), 0xffff_0000 - 1);
        assert_eq!((tape.below(A, 2), tape.used()), (0, 5));
        let calm: &mut dyn Entropy = &mut tape;
        assert!(!calm.chance(A, 999_999));
        assert!(calm.chance(A, 1_000_000));
        assert!(calm.waiting(A, 1_000_000) < 1_000);
        assert!(calm.respite(A, 1_000_000) > 20_000_000);
    }

    #[test]
    fn an_odometer_tries_everything_once() {
        let mut odometer = Odometer::new(3);
        let mut seen = Vec::new();
        loop {
            seen.push((odometer.below(A, 2), odometer.below(A, 101)));
            if !odometer.advance() {
                break;
            }
        }
        assert_eq!(seen, [(0, 0), (0, 50), (0, 100), (1, 0), (1, 50), (1, 100)]);
    }

    #[test]
    fn waiting_times_have_their_mean_and_a_tail() {
        let mut seeded = Seeded::new(9);
        let seeded: &mut dyn Entropy = &mut seeded;
        let times: Vec<u64> = (0..20_000).map(|_| seeded.waiting(A, 1000)).collect();
        let mean = times.iter().sum::<u64>() / 20_000;
        assert!((900..1150).contains(&mean), "{mean}");
        let respites = (0..20_000).map(|_| seeded.respite(A, 1000)).sum::<u64>() / 20_000;
        assert!((900..1150).contains(&respites), "{respites}");
        let late = times.iter().filter(|time| **time > 3000).count();
        assert!((500..1500).contains(&late), "{late} of 20000, e^-3 would be 996");
    }
}
