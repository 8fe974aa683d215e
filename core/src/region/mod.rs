//! Where keys live (`control-plane.md` §4): the regions that are known, and how they become known.

pub(crate) mod buckets;
mod cache;
#[cfg(test)]
mod care_rows;
#[cfg(test)]
mod cases;
mod entry;
mod facts;
#[cfg(test)]
mod load_rows;
pub(crate) mod loader;
#[cfg(test)]
mod lookup_rows;
#[cfg(test)]
mod model;
pub(crate) mod refresh;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

pub(crate) use cache::{EpochVerdict, Inserted, RegionCache};
pub(crate) use entry::{InvalidReason, NewRegion};
pub use facts::{LocatedRegion, RegionBuckets, RegionFacts};
