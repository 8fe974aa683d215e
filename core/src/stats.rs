//! What a core has done so far, in numbers.

/// Counters since the core was made. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stats {
    /// Operations submitted.
    pub operations: u64,
    /// Operations refused for want of room.
    pub refused: u64,
    /// Commands given out, timestamp batches and PD calls included.
    pub commands: u64,
    /// Answers that belonged to no command in flight: late, repeated or unknown.
    pub stray_responses: u64,
    /// Attempts of region calls, first attempts included.
    pub attempts: u64,
    /// Answers with a region error.
    pub region_errors: u64,
    /// Attempts that failed before an answer.
    pub failures: u64,
    /// Pauses before a retry.
    pub backoffs: u64,
    /// Health checks sent to stores.
    pub probes: u64,
    /// Regions asked of PD.
    pub region_loads: u64,
    /// Rounds through PD's members in which none named a leader.
    pub pd_rounds: u64,
    /// Timestamp batches asked of PD.
    pub timestamp_batches: u64,
    /// Timestamps asked of PD.
    pub timestamps: u64,
    /// The most timestamps that were asked for in one request.
    pub largest_timestamp_batch: u64,
    /// Answers with timestamps that were not larger than all before. Never handed out.
    pub timestamp_regressions: u64,
    /// Questions that a follower of PD could not answer, so that the leader was asked.
    pub follower_misses: u64,
    /// Questions that were put off because PD is overloaded.
    pub breaker_refusals: u64,
    /// Locks of other transactions met.
    pub locks_met: u64,
    /// Inputs stamped earlier than the one before.
    pub clock_steps_back: u64,
}
