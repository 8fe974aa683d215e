//! How a core behaves.

use std::sync::Arc;
use std::time::Duration;

use crate::pd::BreakerConfig;

/// Which of TiKV's two APIs a core speaks. It decides how keys are written in PD's region bounds,
/// and in which half of a keyspace they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyMode {
    /// Raw keys: region bounds are keys as they are, but under API V2.
    Raw,
    /// Transactional keys: region bounds are memcomparable.
    Txn,
}

/// Which version of TiKV's API a core speaks (raw.md §2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Api {
    /// Version 1: keys as they are, no keyspaces.
    #[default]
    V1,
    /// Version 1 against stores that have TTLs enabled. A declaration: on the wire it is version 1,
    /// because nothing else may be sent.
    V1Ttl,
    /// Version 2: every key lies in a keyspace, which is looked up by name before anything is sent.
    V2 {
        /// Its name; empty for [`DEFAULT_KEYSPACE`].
        keyspace: Arc<str>,
    },
}

/// The keyspace that every cluster of API V2 has.
pub const DEFAULT_KEYSPACE: &str = "DEFAULT";

/// How a core behaves. Two cores in one process share nothing, settings included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// Where PD is: `host:port` or a URL, at least one.
    pub pd_endpoints: Vec<Arc<str>>,
    /// Raw or transactional.
    pub mode: KeyMode,
    /// Which version of the API, and in which keyspace.
    pub api: Api,
    /// How many operations may be in flight before [`Full`](crate::Full).
    pub max_operations: usize,
    /// How long one attempt of a short request may take (client-go's ReadTimeoutShort, 30 s).
    pub attempt_timeout: Duration,
    /// How long one attempt of a scan or batch read may take (client-go's ReadTimeoutMedium, 60 s).
    pub scan_attempt_timeout: Duration,
    /// What a store is told as the limit of a write's execution (client-go's MaxWriteExecutionTime, 20 s).
    pub max_write_execution: Duration,
    /// How many requests may be out to one store at once; the others wait for their turn. `None`: any
    /// number.
    pub max_store_requests: Option<usize>,
    /// For how long a store may say nothing to anybody while an attempt waits for it, before a health
    /// check is sent (1 s); at least a millisecond.
    pub probe_after: Duration,
    /// How long a store may take to answer a health check (client-go's StoreLivenessTimeout, 1 s).
    pub probe_timeout: Duration,
    /// How long one call to PD may take (client-go's PDServerTimeout, 3 s).
    pub pd_timeout: Duration,
    /// How long one request for PD's members may take (1 s in PD's client).
    pub pd_member_timeout: Duration,
    /// In how many rounds through all of PD's members a leader is looked for, as long as none has ever
    /// been found, before whoever waits is told that there is none (100 in PD's client). At least one.
    /// A keyspace is asked for as long as these rounds may take.
    pub pd_init_attempts: u32,
    /// The longest pause between two such rounds (1 s in PD's client); at least 20 ms.
    pub pd_init_interval: Duration,
    /// How often PD's members are asked for without cause (60 s in PD's client).
    pub pd_refresh_interval: Duration,
    /// How many lookups of regions may be under way at once.
    pub max_region_loads: usize,
    /// How many timestamps one request may ask for (10 000 in PD's client).
    pub max_timestamp_batch: u32,
    /// How many requests for timestamps may be on their way: 1 is one at a time, a larger number n is
    /// 2·n (PD's client's TSOClientRPCConcurrency: 1).
    pub tso_concurrency: usize,
    /// How long whoever wants a timestamp waits for company, so that fewer requests carry more (0, not
    /// at all, in PD's client). At most 10 ms, to which longer ones are brought; anything but zero
    /// allows one request at a time only.
    pub tso_max_wait: Duration,
    /// Timestamps are asked of a member of PD drawn at random, which passes the question on to the
    /// leader, so that the leader has fewer connections (off in PD's client, too). Allows one request
    /// at a time only.
    pub tso_follower_proxy: bool,
    /// How old a low-resolution timestamp may be (client-go: 2 s). Adapts; zero counts as 1 ms.
    pub low_resolution_interval: Duration,
    /// A snapshot at a timestamp larger than any that PD has handed out is refused, for which PD is
    /// asked if the timestamp is not known here. (In client-go this is off unless an application
    /// turns it on; here it is on, because such a read breaks the promises of async commit.)
    pub validate_read_timestamp: bool,
    /// A read of a snapshot fails if the cluster's garbage collection may have removed what it should
    /// have seen: PD is asked for the safe point every 10 s while snapshots are read, and reads wait for
    /// it where it was not told for 90 s. Off only where nothing is ever collected.
    pub check_visibility: bool,
    /// A leader of PD that cannot be reached is asked through a follower (off in client-go, too).
    pub enable_forwarding: bool,
    /// Followers of PD are asked about regions, too (off in client-go, too).
    pub enable_follower_handle: bool,
    /// When PD is left alone because it is overloaded (never, in client-go, too).
    pub pd_breaker: BreakerConfig,
    /// How long a region is trusted without being used (600 s in client-go).
    pub region_ttl: Duration,
    /// A random part of this is added to `region_ttl` (60 s in client-go).
    pub region_ttl_jitter: Duration,
    /// How often all regions are asked of PD anew, page by page and in the background, at most; a core
    /// that is not used asks nothing (client-go's RegionsRefreshInterval). `None`, the default as in
    /// client-go: each when it is wanted and not known, or no more to be trusted.
    pub regions_refresh_interval: Option<Duration>,
    /// At how many bytes of keys and values a batch of prewrites, or of commits, is closed (16 KiB).
    pub txn_batch_size: usize,
    /// At how many bytes of keys and values a raw batch put is closed (16 KiB).
    pub raw_batch_put_size: usize,
    /// How many keys a raw batch get or batch delete holds at most (512).
    pub raw_batch_keys: usize,
    /// How many keys a snapshot's batch get holds at most (5 120).
    pub batch_get_keys: usize,
    /// How many pairs a page of a snapshot's scan holds at most (256).
    pub scan_batch_size: u32,
    /// How many batches of one operation may be under way at once (128).
    pub max_batches: usize,
    /// A transaction below this many keys in a region is resolved key by key (512).
    pub resolve_lite_threshold: u64,
    /// How many fates of other transactions are remembered (2 048).
    pub fate_cache_size: usize,
    /// Of how many transactions the locks are cleaned up at once in the background, for readers that
    /// have gone on; beyond that readers wait for it (10 000).
    pub max_background_resolves: usize,
    /// How many locks a page of a scan of locks holds at most (1 024).
    pub scan_lock_limit: u32,
    /// The bug that is planted.
    #[cfg(anatase_planted)]
    pub planted: Option<crate::Plant>,
}

impl Config {
    /// client-go's numbers.
    pub fn new(pd_endpoints: Vec<Arc<str>>, mode: KeyMode) -> Self {
        Self {
            pd_endpoints,
            mode,
            api: Api::V1,
            max_operations: 1 << 20,
            attempt_timeout: Duration::from_secs(30),
            scan_attempt_timeout: Duration::from_secs(60),
            max_write_execution: Duration::from_secs(20),
            max_store_requests: None,
            probe_after: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(1),
            pd_timeout: Duration::from_secs(3),
            pd_member_timeout: Duration::from_secs(1),
            pd_init_attempts: 100,
            pd_init_interval: Duration::from_secs(1),
            pd_refresh_interval: Duration::from_secs(60),
            max_region_loads: 64,
            max_timestamp_batch: 10_000,
            tso_concurrency: 1,
            tso_max_wait: Duration::ZERO,
            tso_follower_proxy: false,
            low_resolution_interval: Duration::from_secs(2),
            validate_read_timestamp: true,
            check_visibility: true,
            enable_forwarding: false,
            enable_follower_handle: false,
            pd_breaker: BreakerConfig::default(),
            region_ttl: Duration::from_secs(600),
            region_ttl_jitter: Duration::from_secs(60),
            regions_refresh_interval: None,
            txn_batch_size: 16 << 10,
            raw_batch_put_size: 16 << 10,
            raw_batch_keys: 512,
            batch_get_keys: 5_120,
            scan_batch_size: 256,
            max_batches: 128,
            resolve_lite_threshold: 512,
            fate_cache_size: 2_048,
            max_background_resolves: 10_000,
            scan_lock_limit: 1_024,
            #[cfg(anatase_planted)]
            planted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(duration: Duration) -> u64 {
        duration.as_millis() as u64
    }

    /// Each default, and where it comes from. Without `..`: a new setting has to be given its row.
    /// Milliseconds, bytes, or pieces. «Own» has no counterpart in the reference.
    #[test]
    fn the_defaults_are_those_of_the_tables() {
        let Config {
            pd_endpoints,
            mode,
            api,
            max_operations,
            attempt_timeout,
            scan_attempt_timeout,
            max_write_execution,
            max_store_requests,
            probe_after,
            probe_timeout,
            pd_timeout,
            pd_member_timeout,
            pd_init_attempts,
            pd_init_interval,
            pd_refresh_interval,
            max_region_loads,
            max_timestamp_batch,
            tso_concurrency,
            tso_max_wait,
            tso_follower_proxy,
            low_resolution_interval,
            validate_read_timestamp,
            check_visibility,
            enable_forwarding,
            enable_follower_handle,
            pd_breaker,
            region_ttl,
            region_ttl_jitter,
            regions_refresh_interval,
            txn_batch_size,
            raw_batch_put_size,
            raw_batch_keys,
            batch_get_keys,
            scan_batch_size,
            max_batches,
            resolve_lite_threshold,
            fate_cache_size,
            max_background_resolves,
            scan_lock_limit,
            #[cfg(anatase_planted)]
                planted: _,
        } = Config::new(vec!["pd:1".into()], KeyMode::Raw);
        assert_eq!((pd_endpoints, mode), (vec!["pd:1".into()], KeyMode::Raw));
        assert_eq!(api, Api::V1, "raw.md §2");
        let BreakerConfig { error_percent, min_qps, window, cool_down, probes } = pd_breaker;
        let count = |number: usize| number as u64;
        let rows = [
            ("own, operations at once", count(max_operations), 1 << 20),
            ("raw.md §1, RPC timeout", ms(attempt_timeout), 30_000),
            ("transactions.md §17.4, ReadTimeoutMedium", ms(scan_attempt_timeout), 60_000),
            ("raw.md §1, MaxWriteExecutionTime", ms(max_write_execution), 20_000),
            ("own, silence before a probe", ms(probe_after), 1_000),
            ("control-plane.md §5.2, timeout", ms(probe_timeout), 1_000),
            ("control-plane.md §14.1, request timeout", ms(pd_timeout), 3_000),
            ("control-plane.md §14.1, GetMembers", ms(pd_member_timeout), 1_000),
            ("control-plane.md §14.1, init retries", pd_init_attempts.into(), 100),
            ("control-plane.md §14.1, between them", ms(pd_init_interval), 1_000),
            ("control-plane.md §14.1, member refresh", ms(pd_refresh_interval), 60_000),
            ("own, lookups at once", count(max_region_loads), 64),
            ("control-plane.md §14.3, nominal batch", max_timestamp_batch.into(), 10_000),
            ("control-plane.md §14.3, concurrency", count(tso_concurrency), 1),
            ("control-plane.md §14.3, max batch wait", ms(tso_max_wait), 0),
            ("control-plane.md §12.2, update loop", ms(low_resolution_interval), 2_000),
            ("control-plane.md §4.2, base", ms(region_ttl), 600_000),
            ("control-plane.md §4.2, jitter", ms(region_ttl_jitter), 60_000),
            ("transactions.md §6, commit batch", count(txn_batch_size), 16_384),
            ("raw.md §1, rawBatchPutSize", count(raw_batch_put_size), 16_384),
            ("raw.md §1, rawBatchPairCount", count(raw_batch_keys), 512),
            ("transactions.md §17.3, batch get", count(batch_get_keys), 5_120),
            ("transactions.md §17.4, page of a scan", scan_batch_size.into(), 256),
            ("own, batches at once", count(max_batches), 128),
            ("transactions.md §1.4, lite threshold", resolve_lite_threshold, 512),
            ("transactions.md §1.4, resolved-status cache", count(fate_cache_size), 2_048),
            ("transactions.md §1.4, async resolve permits", count(max_background_resolves), 10_000),
            ("transactions.md §1.4, GCScanLockLimit", scan_lock_limit.into(), 1_024),
            ("control-plane.md §4.6, threshold", error_percent.into(), 0),
            ("control-plane.md §4.6, min QPS", min_qps.into(), 10),
            ("control-plane.md §4.6, window", ms(window), 30_000),
            ("control-plane.md §4.6, cool-down", ms(cool_down), 10_000),
            ("control-plane.md §4.6, half-open successes", probes.into(), 1),
        ];
        for (row, found, expected) in rows {
            assert_eq!(found, expected, "{row}");
        }
        let switches = [
            ("control-plane.md §5.6, StoreLimit is 0", max_store_requests.is_some(), false),
            ("control-plane.md §12.4; on here, see the field", validate_read_timestamp, true),
            ("transactions.md §17.7, CheckVisibility", check_visibility, true),
            ("control-plane.md §14.1, forwarding", enable_forwarding, false),
            ("control-plane.md §14.3, follower proxy", tso_follower_proxy, false),
            ("control-plane.md §14.2, follower handle", enable_follower_handle, false),
            ("control-plane.md §4.10, full refresh", regions_refresh_interval.is_some(), false),
        ];
        for (row, found, expected) in switches {
            assert_eq!(found, expected, "{row}");
        }
    }
}
