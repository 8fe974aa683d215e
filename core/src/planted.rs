//! Bugs that are planted on purpose, to see that the checkers of the simulator find them.
//!
//! Under `cfg(anatase_planted)`, which nothing but `RUSTFLAGS="--cfg anatase_planted"` turns on, a
//! core breaks one rule of the protocol at one place: that of `Config::planted`. Without it there
//! is neither the enum nor the setting, and `planted!` is the constant `false`. docs/planted.md
//! says how they are found.

/// Whether this bug is planted: a variant of `Plant`. `$owner` is anything with a field `planted`.
#[cfg(anatase_planted)]
macro_rules! planted {
    ($owner:expr, $plant:ident) => {
        $owner.planted == Some($crate::planted::Plant::$plant)
    };
}

/// No bug is ever planted in this build.
#[cfg(not(anatase_planted))]
macro_rules! planted {
    ($owner:expr, $plant:ident) => {
        false
    };
}

#[cfg(anatase_planted)]
macro_rules! plants {
    ($($(#[$about:meta])* $plant:ident $name:literal,)*) => {
        /// A bug. Each breaks one rule, at one place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Plant {
            $($(#[$about])* $plant,)*
        }

        impl Plant {
            /// All of them, [`Plant::Harmless`] and [`Plant::Canary`] included.
            pub const ALL: &[Self] = &[$(Self::$plant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$plant => $name,)*
                }
            }
        }
    };
}

#[cfg(anatase_planted)]
plants! {
    // ---- routing ----
    /// What a store tells of the regions that there are now is not heeded: the stale region is used
    /// again (control-plane.md §4.8). `region_call/mod.rs`, `epoch_not_match`.
    StaleRegionReused "stale-region-reused",
    /// Keys are not cut at the end of a region: those behind it go to the left neighbour
    /// (transactions.md §6). `fanout.rs`, `group`.
    RegionEndIgnored "region-end-ignored",
    /// A batch whose region has moved counts as served (transactions.md §8.3). `fanout.rs`, `wake`.
    MovedBatchServed "moved-batch-served",
    /// Of a batch whose region has moved only the first key is sent again (transactions.md §6).
    /// `fanout.rs`, `wake`.
    RegroupForgetsTail "regroup-forgets-tail",
    /// A scan goes on behind the first key of the next region (transactions.md §17.4).
    /// `op/scan.rs`, `page_ended`.
    ScanSkipsBorder "scan-skips-border",
    /// A request that is sent again does not say so (transactions.md §8.2). `region_call/mod.rs`,
    /// `send_attempt`.
    RetryNotTold "retry-not-told",
    /// A request whose answer is lost counts as never executed (transactions.md §11).
    /// `region_call/mod.rs`, `failed`.
    LostAnswerForgotten "lost-answer-forgotten",

    // ---- two phases ----
    /// A key that another transaction has locked counts as prewritten (transactions.md §8.3).
    /// `op/commit/prewrite.rs`, `prewriting`.
    LockedKeyPrewritten "locked-key-prewritten",
    /// Secondaries are committed together with the primary, not after it (transactions.md §22.7).
    /// `op/commit/primary.rs`, `commit_primary`.
    SecondariesWithPrimary "secondaries-with-primary",
    /// A transaction is committed right after its start, not at a timestamp that PD hands out when
    /// all is locked (transactions.md §22.8). `op/commit/mod.rs`, `stamping`.
    CommitRightAfterStart "commit-right-after-start",
    /// Once the primary is committed, nobody commits the others (transactions.md §7.4).
    /// `op/commit/settle.rs`, `settle`.
    SecondariesNotSettled "secondaries-not-settled",

    // ---- async commit ----
    /// The primary's lock does not name the other keys (transactions.md §22.24).
    /// `op/commit/prewrite.rs`, `message`.
    SecondariesLeftOut "secondaries-left-out",
    /// The commit timestamp is the smallest of the locks', not the largest (transactions.md
    /// §22.23). `op/commit/prewrite.rs`, `landed`.
    EarliestOfLocks "earliest-of-locks",
    /// Stores choose a commit timestamp without being told what PD has handed out (transactions.md
    /// §22.9). `op/commit/mod.rs`, `start`.
    NotLinearized "not-linearized",
    /// The timestamp that is told is not the one that is committed at (transactions.md §7.4).
    /// `op/commit/settle.rs`, `settle`.
    OtherTimestampTold "other-timestamp-told",

    // ---- one phase ----
    /// A store that has locked, rather than committed, counts as having committed (transactions.md
    /// §8.4). `op/commit/prewrite.rs`, `landed`.
    FallbackTakenForCommit "fallback-taken-for-commit",
    /// One phase is asked of each region of several (transactions.md §7.1).
    /// `op/commit/prewrite.rs`, `advance` and `message`.
    OnePhaseInParts "one-phase-in-parts",

    // ---- pessimistic ----
    /// A rollback gives no lock back (transactions.md §10). `op/pessimistic_rollback.rs`,
    /// `PessimisticRollback::start`.
    LocksNotReleased "locks-not-released",
    /// Locks are released as of the start, and those taken later stay (transactions.md §10).
    /// `op/pessimistic_rollback.rs`, `Release::start`.
    ReleasedAsOfStart "released-as-of-start",
    /// The first `for_update_ts` of a transaction stays its only one (transactions.md §13.2).
    /// `txn/transaction.rs`, `lock_call`.
    ForUpdateTsNotRaised "for-update-ts-not-raised",
    /// Keys whose lock request got no answer count as locked, and as without value (transactions.md
    /// §13.4). `op/lock.rs`, `request` and `locking`.
    LostLockHeld "lost-lock-held",
    /// A prewrite that is refused, because a pessimistic lock is gone, counts as landed
    /// (transactions.md §8.3). `op/commit/prewrite.rs`, `prewriting`.
    LockLossIgnored "lock-loss-ignored",

    // ---- fair locking ----
    /// A prewrite does not say as of when its locks were forced (transactions.md §22.27).
    /// `op/commit/prewrite.rs`, `message`.
    ConstraintsDropped "constraints-dropped",
    /// That a key was locked in spite of a conflict is forgotten, and with it as of when
    /// (transactions.md §14). `txn/transaction.rs`, `locked`.
    ConflictForgotten "conflict-forgotten",
    /// What an attempt has locked and the next does not want is kept by nobody and never released
    /// (transactions.md §14). `txn/transaction.rs`, `release`.
    AttemptNotReleased "attempt-not-released",

    // ---- resolver ----
    /// A lock is judged as if its time were over in any case (transactions.md §16.2).
    /// `resolve/inquiry.rs`, `check`.
    LiveRolledBack "live-rolled-back",
    /// A transaction whose primary is committed counts as rolled back (transactions.md §16.2).
    /// `resolve/inquiry.rs`, `checked`.
    CommittedRolledBack "committed-rolled-back",
    /// Readers pass the locks of transactions that could not be pushed behind them (transactions.md
    /// §16.2). `resolve/inquiry.rs`, `alive`.
    ReadersPassUnpushed "readers-pass-unpushed",
    /// Readers pass by the locks of what is committed, rather than read through them
    /// (transactions.md §17.2). `resolve/mod.rs`, `pay`.
    CommittedPassedBy "committed-passed-by",
    /// An async commit whose time is over counts as committed, without a look at its other keys
    /// (transactions.md §16.3). `resolve/inquiry.rs`, `recover`.
    RecoveryAsksNobody "recovery-asks-nobody",
    /// An async commit is recovered at what the primary's lock allows, not at what all do
    /// (transactions.md §16.3). `resolve/inquiry.rs`, `recovery`.
    SecondariesFloorIgnored "secondaries-floor-ignored",
    /// Reads do not see locks (transactions.md §17.2). `op/read_view.rs`, `resolve`.
    ReadsSkipLocks "reads-skip-locks",

    // ---- heartbeats ----
    /// Nothing keeps locks alive (transactions.md §12.2). `heartbeat.rs`, `keep_alive`.
    NoHeartbeat "no-heartbeat",
    /// A heartbeat asks for 20 s from the start of the transaction, not from now (transactions.md
    /// §12.2). `heartbeat.rs`, `beat`.
    ShortHeartbeat "short-heartbeat",

    // ---- undetermined ----
    /// What nobody knows is told as aborted (transactions.md §22.1). `op/commit/settle.rs`,
    /// `in_doubt`.
    DoubtToldAsAborted "doubt-told-as-aborted",
    /// What nobody knows is told as committed (transactions.md §22.1). `op/commit/settle.rs`,
    /// `in_doubt`.
    DoubtToldAsCommitted "doubt-told-as-committed",
    /// What may be committed is cleaned up, its primary last (transactions.md §22.3).
    /// `op/commit/settle.rs`, `in_doubt`.
    DoubtCleanedUp "doubt-cleaned-up",
    /// A commit whose time runs out while its decisive request is out is told as aborted
    /// (transactions.md §11). `op/commit/mod.rs`, `stop`.
    DeadlineToldAsAborted "deadline-told-as-aborted",

    // ---- what is remembered ----
    /// What one snapshot has learned of locks holds for all (transactions.md §22.21).
    /// `op/read_view.rs`, `recall`.
    PassesForAllSnapshots "passes-for-all-snapshots",

    // ---- timestamps ----
    /// Those who share a request are told the same timestamp (control-plane.md §14.3).
    /// `tso/mod.rs`, `tso_answer`.
    TimestampToldTwice "timestamp-told-twice",
    /// Who comes while a request is out is told what it brings, though it may be older than the
    /// asking (control-plane.md §14.3). `tso/mod.rs`, `tso_ask`.
    TimestampFromBefore "timestamp-from-before",

    // ---- raw ----
    /// A compare-and-swap whose answer is lost is sent again (peers.md D17). `op/point.rs`,
    /// `start`.
    SwapRepeated "swap-repeated",

    // ---- the gate itself ----
    /// No bug: each pause is a little longer. Nobody may find it. `region_call/mod.rs`,
    /// `pause_call`.
    Harmless "harmless",
    /// Commits are told and not made. Who does not find this in each run with commits is blind.
    /// `op/commit/mod.rs`, `start`.
    Canary "canary",
}

#[cfg(anatase_planted)]
impl std::fmt::Display for Plant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(anatase_planted)]
impl std::str::FromStr for Plant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|plant| plant.name() == name);
        found.copied().ok_or_else(|| format!("no such plant: {name}"))
    }
}
