//! Where keys live (`control-plane.md` §4): the regions that are known, and how they become known.

mod cache;
pub(crate) mod loader;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(crate) use cache::{EpochVerdict, Inserted, InvalidReason, NewRegion, RegionCache};
