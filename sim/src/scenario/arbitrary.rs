//! Scenarios for quickcheck.

use quickcheck::{Arbitrary, Gen};

use super::{Scenario, shrink};

/// Drawn from a seed, so that each that fails can be named in one number; smaller ones by the rules of
/// [`shrink()`](super::shrink()).
impl Arbitrary for Scenario {
    fn arbitrary(g: &mut Gen) -> Self {
        Self::of_seed(u64::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(shrink::candidates(self, None).into_iter())
    }
}
