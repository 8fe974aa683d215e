//! Where keys live (`control-plane.md` §4): the regions that are known, and how they become known.

pub(crate) mod buckets;
mod cache;
#[cfg(test)]
mod cases;
mod entry;
mod facts;
pub(crate) mod loader;
#[cfg(test)]
mod model;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

pub(crate) use cache::{EpochVerdict, Inserted, RegionCache};
pub(crate) use entry::{InvalidReason, NewRegion};
pub use facts::RegionFacts;
