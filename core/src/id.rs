//! Names for numbers: operations, commands, stores, regions.

use std::fmt;

/// Names an operation. Stale after the operation's [`Event::Done`](crate::Event::Done).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub(crate) Handle);

/// Names a command in flight; pairs an answer with its question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(crate) Handle);

impl OpId {
    /// The slot of the operation: small, dense, reused. A driver may index a table with it, and
    /// must compare [`OpId::generation`] before it trusts what it finds.
    pub const fn index(self) -> usize {
        self.0.index as usize
    }

    /// How often the slot had been used before.
    pub const fn generation(self) -> u32 {
        self.0.generation
    }
}

impl CommandId {
    /// As one number, for use as a request id on the wire.
    pub const fn to_u64(self) -> u64 {
        (self.0.generation as u64) << 32 | self.0.index as u64
    }

    /// The inverse of [`CommandId::to_u64`]. Any number is an id; one that names nothing is answered
    /// by a counted no-op.
    pub const fn from_u64(id: u64) -> Self {
        Self(Handle { index: id as u32, generation: (id >> 32) as u32 })
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op{}", self.0)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// An index into a generational slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// A store's number in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A region at one version of its boundaries and one version of its membership.
///
/// Two regions with the same id and different epochs may cover different ranges: whatever was
/// grouped under the one must be regrouped under the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionVersion {
    /// The region's id, which survives splits and merges.
    pub id: u64,
    /// Grows with each change of membership.
    pub conf_ver: u64,
    /// Grows with each split and merge.
    pub version: u64,
}

impl fmt::Display for RegionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{}", self.id, self.conf_ver, self.version)
    }
}

/// A replica of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The replica's id, unique in the cluster.
    pub id: u64,
    /// The store that holds it.
    pub store: StoreId,
    /// What it may do.
    pub role: PeerRole,
    /// It votes but holds no data.
    pub witness: bool,
}

/// What a replica takes part in (`metapb.PeerRole`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRole {
    /// It votes and can lead.
    Voter,
    /// It replicates but does not vote.
    Learner,
    /// A voter as soon as the joint change of membership is over.
    IncomingVoter,
    /// A learner as soon as the joint change of membership is over.
    DemotingVoter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_ids_survive_the_wire() {
        let id = CommandId(Handle { index: 7, generation: u32::MAX });
        assert_eq!(CommandId::from_u64(id.to_u64()), id);
        assert_eq!(CommandId(Handle { index: 3, generation: 0 }).to_u64(), 3);
    }
}
