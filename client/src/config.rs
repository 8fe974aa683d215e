//! How a client behaves.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anatase_core::txn::BufferLimits;
use anatase_core::{Api, KeyMode};

use crate::http2::Http2Config;

/// Which version of its API the cluster serves: TiKV's `storage.api-version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiVersion {
    /// Version 1: keys as they are.
    #[default]
    V1,
    /// Version 1 with TTLs enabled for raw keys. On the wire this is version 1; choosing it only says
    /// what the cluster is.
    V1Ttl,
    /// Version 2: every key lies in a keyspace, [`Config::with_keyspace`].
    V2,
}

/// How a client behaves. Made with [`Config::default`] and changed step by step:
///
/// ```
/// use std::time::Duration;
/// # use anatase_client::Config;
/// let config = Config::default()
///     .with_timeout(Duration::from_secs(5))
///     .with_pd_timeout(Duration::from_secs(2));
/// ```
///
/// Two clients in one process share nothing, settings included.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    pub(crate) timeout: Duration,
    pub(crate) startup_timeout: Duration,
    pub(crate) startup_attempts: u32,
    pub(crate) startup_interval: Duration,
    pub(crate) pd_timeout: Duration,
    pub(crate) enable_forwarding: bool,
    pub(crate) enable_follower_handle: bool,
    pub(crate) tso_concurrency: usize,
    pub(crate) tso_max_wait: Duration,
    pub(crate) tso_follower_proxy: bool,
    pub(crate) low_resolution_interval: Duration,
    pub(crate) validate_read_timestamp: bool,
    pub(crate) pd_breaker_percent: u32,
    pub(crate) regions_refresh_interval: Option<Duration>,
    pub(crate) max_operations: usize,
    pub(crate) scan_page_size: u32,
    pub(crate) buffer_limits: BufferLimits,
    pub(crate) snapshot_cache_size: usize,
    pub(crate) check_visibility: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) api_version: ApiVersion,
    pub(crate) keyspace: Arc<str>,
    pub(crate) http2: Http2Config,
    #[cfg(anatase_planted)]
    pub(crate) planted: Option<anatase_core::Plant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(100),
            startup_attempts: 100,
            startup_interval: Duration::from_secs(1),
            pd_timeout: Duration::from_secs(3),
            enable_forwarding: false,
            enable_follower_handle: false,
            tso_concurrency: 1,
            tso_max_wait: Duration::ZERO,
            tso_follower_proxy: false,
            low_resolution_interval: Duration::from_secs(2),
            validate_read_timestamp: true,
            pd_breaker_percent: 0,
            regions_refresh_interval: None,
            max_operations: 1 << 20,
            scan_page_size: 256,
            buffer_limits: BufferLimits::default(),
            snapshot_cache_size: 16 << 20,
            check_visibility: true,
            seed: None,
            api_version: ApiVersion::V1,
            keyspace: anatase_core::DEFAULT_KEYSPACE.into(),
            http2: Http2Config::default(),
            #[cfg(anatase_planted)]
            planted: None,
        }
    }
}

impl Config {
    /// How long an operation may take, all its retries included, unless it says otherwise with
    /// `.timeout(…)`. 30 s by default: longer than an election or the restart of a store takes.
    ///
    /// A single attempt may take as long as the operation; a connection that has fallen silent is
    /// noticed by keepalive, see [`Config::with_keepalive`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long `new` looks for PD's leader, and then for the keyspace, before it fails. 100 s by
    /// default: as long as client-go, so that an application may be started before its cluster. It
    /// may fail earlier, see [`Config::with_startup_attempts`]; the error tells which addresses were
    /// tried, in how many rounds, and what became of the last attempt.
    #[must_use]
    pub fn with_startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = timeout;
        self
    }

    /// In how many rounds through all addresses `new` looks for PD's leader before it fails, and the
    /// longest pause between two of them. 100 and 1 s by default, as in client-go; at least one round,
    /// and 20 ms.
    #[must_use]
    pub fn with_startup_attempts(mut self, attempts: u32, interval: Duration) -> Self {
        self.startup_attempts = attempts;
        self.startup_interval = interval;
        self
    }

    /// How long one request to PD may take before another member is tried. 3 s by default, as in
    /// client-go.
    #[must_use]
    pub fn with_pd_timeout(mut self, timeout: Duration) -> Self {
        self.pd_timeout = timeout;
        self
    }

    /// Whether a leader of PD that cannot be reached is asked through a follower that can. Off by
    /// default, as in client-go.
    #[must_use]
    pub fn with_forwarding(mut self, enable: bool) -> Self {
        self.enable_forwarding = enable;
        self
    }

    /// Whether followers of PD are asked about regions, too, which takes load from the leader. They
    /// lag a little behind it; a region that turns out to be out of date is asked of the leader. Off
    /// by default, as in client-go.
    #[must_use]
    pub fn with_pd_follower_handle(mut self, enable: bool) -> Self {
        self.enable_follower_handle = enable;
        self
    }

    /// How many requests for timestamps may be on their way at once: one for 1, the default, and 2·n
    /// for a larger n (client-go's TSOClientRPCConcurrency). Each carries as many timestamps as are
    /// wanted at that moment, so more than one shortens the wait where PD is far away, and makes
    /// more work for PD.
    #[must_use]
    pub fn with_tso_concurrency(mut self, concurrency: usize) -> Self {
        self.tso_concurrency = concurrency;
        self
    }

    /// How long whoever wants a timestamp waits for others who want one, so that fewer requests carry
    /// more. 0 by default, as in client-go: nobody waits, and batches grow with the load all the same.
    /// At most 10 ms, to which longer ones are brought. With anything but zero one request is on its way
    /// at a time, whatever [`Config::with_tso_concurrency`] says.
    #[must_use]
    pub fn with_tso_max_wait(mut self, wait: Duration) -> Self {
        self.tso_max_wait = wait;
        self
    }

    /// Whether timestamps are asked of a member of PD drawn at random, which passes the question on to
    /// the leader. It takes connections, not work, from the leader, and makes each timestamp a hop
    /// slower. Off by default, as in client-go. With it one request is on its way at a time, whatever
    /// [`Config::with_tso_concurrency`] says.
    #[must_use]
    pub fn with_tso_follower_proxy(mut self, enable: bool) -> Self {
        self.tso_follower_proxy = enable;
        self
    }

    /// How old a low-resolution timestamp may be. 2 s by default, as in client-go; shorter for a
    /// while where stale timestamps of a shorter distance are asked for.
    #[must_use]
    pub fn with_low_resolution_interval(mut self, interval: Duration) -> Self {
        self.low_resolution_interval = interval;
        self
    }

    /// Whether a snapshot at a timestamp that PD has not handed out yet is refused. On by default
    /// (unlike in client-go, where an application has to turn it on): what such a read sees may
    /// change afterwards. It costs a question to PD only where a timestamp was not got through this
    /// client.
    #[must_use]
    pub fn with_read_timestamp_validation(mut self, enable: bool) -> Self {
        self.validate_read_timestamp = enable;
        self
    }

    /// At how many percent of region lookups that PD answers with signs of overload, or not in time,
    /// it is left alone for ten seconds. 0, the default, is never, as in client-go.
    #[must_use]
    pub fn with_pd_circuit_breaker(mut self, error_percent: u32) -> Self {
        self.pd_breaker_percent = error_percent;
        self
    }

    /// All regions are asked of PD anew every `interval`, in the background and ten thousand at a time, so
    /// that fewer requests go astray in a cluster that changes much; a client that is not used asks
    /// nothing. Off by default, as in client-go (RegionsRefreshInterval): each region is asked for when it
    /// is wanted, and corrected when a store says so. Shorter than a second is a second.
    ///
    /// Each page of it keeps a client busy for some ten milliseconds.
    #[must_use]
    pub fn with_regions_refresh_interval(mut self, interval: Duration) -> Self {
        self.regions_refresh_interval = Some(interval);
        self
    }

    /// How many operations may be under way at once; what comes on top fails at once with
    /// [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded). 2²⁰ by default.
    #[must_use]
    pub fn with_max_operations(mut self, max: usize) -> Self {
        self.max_operations = max;
        self
    }

    /// How many pairs a [`ScanStream`](crate::ScanStream) fetches at once, unless it says otherwise. 256
    /// by default, as in client-go; from 1 up to [`MAX_RAW_SCAN_LIMIT`](crate::MAX_RAW_SCAN_LIMIT),
    /// to which other numbers are brought.
    #[must_use]
    pub fn with_scan_page_size(mut self, pairs: u32) -> Self {
        self.scan_page_size = pairs;
        self
    }

    /// How many bytes a key and its value may have together in a transaction. A larger one is refused
    /// when it is written, with [`ErrorKind::EntryTooLarge`](crate::ErrorKind::EntryTooLarge).
    /// Unlimited by default, as in client-go: what a store does not take is refused at commit.
    #[must_use]
    pub fn with_max_entry_size(mut self, bytes: usize) -> Self {
        self.buffer_limits.entry = bytes;
        self
    }

    /// How many bytes all keys and values of a transaction may have together. A write that goes beyond
    /// is refused, with [`ErrorKind::TxnTooLarge`](crate::ErrorKind::TxnTooLarge), and the transaction
    /// can be committed without it. Unlimited by default, as in client-go.
    #[must_use]
    pub fn with_max_transaction_size(mut self, bytes: usize) -> Self {
        self.buffer_limits.total = bytes;
        self
    }

    /// How many bytes of keys and values a snapshot, or a transaction, keeps of what it has read by
    /// key, so that it need not be asked for again. What was read first is forgotten first. 16 MiB by
    /// default; 0 keeps nothing. (In client-go it is 10 GiB, and not to be set.)
    #[must_use]
    pub fn with_snapshot_cache_size(mut self, bytes: usize) -> Self {
        self.snapshot_cache_size = bytes;
        self
    }

    /// Whether a read fails with [`ErrorKind::TxnAbortedByGc`](crate::ErrorKind::TxnAbortedByGc) if
    /// the cluster's garbage collection may have removed what it should have seen. On by default, as in
    /// client-go: PD is asked for the safe point every 10 s while snapshots are read, and where it
    /// cannot be asked for 90 s reads wait for it. Without the check such a read gives wrong results.
    #[must_use]
    pub fn with_visibility_check(mut self, enable: bool) -> Self {
        self.check_visibility = enable;
        self
    }

    /// How long opening a connection may take, up to the server's first word. 5 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.http2.connect_timeout = timeout;
        self
    }

    /// A silent connection is pinged every `interval`, one to a store also when nothing is asked of
    /// it, and given up when the answer takes longer than `timeout`. 10 s and 3 s by default, as in
    /// client-go.
    #[must_use]
    pub fn with_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.http2.keepalive_interval = interval;
        self.http2.keepalive_timeout = timeout;
        self
    }

    /// The longest answer that is accepted, in bytes. Unlimited by default, as in client-go: the
    /// server decides how much it sends.
    #[must_use]
    pub fn with_grpc_max_decoding_message_size(mut self, bytes: usize) -> Self {
        self.http2.max_receive_size = bytes;
        self
    }

    /// HTTP/2's flow-control window of each stream and connection, in bytes. 128 MiB by default, as
    /// in client-go; larger than 2³¹−1 is cut down to that.
    #[must_use]
    pub fn with_grpc_window_size(mut self, bytes: u32) -> Self {
        self.http2.window_size = bytes.clamp(1 << 16, i32::MAX as u32);
        self
    }

    /// Where pauses and choices among equals come from; drawn by the operating system by default.
    /// With the same seed, the same inputs give the same behaviour.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Which version of its API the cluster serves. [`ApiVersion::V1`] by default. With
    /// [`ApiVersion::V2`], and no word about the keyspace, keys lie in the keyspace `DEFAULT`; with the
    /// others a keyspace has no meaning and is ignored.
    ///
    /// A cluster of another version refuses every operation, and says so
    /// ([`ErrorKind::Refused`](crate::ErrorKind::Refused)).
    #[must_use]
    pub fn with_api_version(mut self, version: ApiVersion) -> Self {
        self.api_version = version;
        self
    }

    /// Keys lie in the keyspace of this name, under API V2. The keyspace has to exist and to be enabled
    /// when the client is made, or `new` fails with
    /// [`ErrorKind::Keyspace`](crate::ErrorKind::Keyspace). Clients of two keyspaces do not see each
    /// other's keys.
    ///
    /// Keys are given, come back and are named in errors without the prefix that they have in TiKV.
    #[must_use]
    pub fn with_keyspace(mut self, name: impl Into<Arc<str>>) -> Self {
        self.keyspace = name.into();
        self.with_api_version(ApiVersion::V2)
    }

    /// As [`Config::with_keyspace`], with the keyspace `DEFAULT`, which every cluster of API V2 has.
    #[must_use]
    pub fn with_default_keyspace(self) -> Self {
        self.with_keyspace(anatase_core::DEFAULT_KEYSPACE)
    }

    /// With a bug, to see that it is found.
    #[cfg(anatase_planted)]
    #[must_use]
    pub fn with_plant(mut self, plant: anatase_core::Plant) -> Self {
        self.planted = Some(plant);
        self
    }

    /// The seed, drawn now if it was not given.
    pub(crate) fn draw_seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish())
    }

    pub(crate) fn for_http2(&self, seed: u64) -> Http2Config {
        Http2Config { seed, ..self.http2.clone() }
    }

    pub(crate) fn for_core(&self, endpoints: Vec<Arc<str>>, mode: KeyMode) -> anatase_core::Config {
        let mut config = anatase_core::Config::new(endpoints, mode);
        config.api = match self.api_version {
            ApiVersion::V1 => Api::V1,
            ApiVersion::V1Ttl => Api::V1Ttl,
            ApiVersion::V2 => Api::V2 { keyspace: self.keyspace.clone() },
        };
        config.max_operations = self.max_operations;
        config.pd_timeout = self.pd_timeout;
        config.enable_forwarding = self.enable_forwarding;
        config.enable_follower_handle = self.enable_follower_handle;
        config.tso_concurrency = self.tso_concurrency;
        config.tso_max_wait = self.tso_max_wait;
        config.tso_follower_proxy = self.tso_follower_proxy;
        config.pd_init_attempts = self.startup_attempts;
        config.pd_init_interval = self.startup_interval;
        config.low_resolution_interval = self.low_resolution_interval;
        config.validate_read_timestamp = self.validate_read_timestamp;
        config.check_visibility = self.check_visibility;
        config.pd_breaker.error_percent = self.pd_breaker_percent;
        config.regions_refresh_interval = self.regions_refresh_interval;
        config.pd_member_timeout = config.pd_member_timeout.min(self.pd_timeout);
        #[cfg(anatase_planted)]
        {
            config.planted = self.planted;
        }
        config
    }
}
