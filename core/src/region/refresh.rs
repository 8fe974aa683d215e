//! Regions that are fetched although nobody waits for them (`control-plane.md` §4.9, §4.10).
//!
//! - *Buckets*: somebody has seen that a region's are newer than the cached ones. One question per
//!   region at a time, by its id, with a budget of 20 s; what comes back is cached like any region.
//! - *All regions*, if an application wants that ([`Config::regions_refresh_interval`]): page by page, one
//!   page at a time, so that at most a page of answers is held.
//!
//! ```text
//! resting ── a lookup, once it is due ──▶ page ──▶ page … ──▶ resting
//!                                           └── PD refuses, or cannot be reached ──▶ resting
//! ```
//!
//! The reference builds new indexes beside the old ones and then swaps them; what the stores had told in
//! the meantime is lost with the old ones. Here each page goes through the rules of every insert (§4.4): a
//! region that is cached in a newer version stays, everything else is replaced. Whoever uses a region
//! meanwhile is not disturbed: one that has not changed keeps its version, and so is found by it. And no
//! timer drives it: a core that is left alone does nothing.
//!
//! [`Config::regions_refresh_interval`]: crate::Config::regions_refresh_interval

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backoff::budget;
use crate::error::Error;
use crate::id::RegionVersion;
use crate::operation::Key;
use crate::shared::Shared;
use crate::time::Instant;
use crate::wire::Response;
use crate::wire::reply::{self, LoadedRegion};

/// More often than once a second makes no sense: client-go counts in seconds.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// What is fetched in the background.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Refresh {
    /// Regions whose buckets are being fetched, by id.
    buckets: BTreeSet<u64>,
    /// How far apart refreshes of all regions are; `None`: there are none.
    interval: Option<Duration>,
    /// When the next one is due; never without an interval.
    due: Instant,
    /// Where the page begins that is being fetched.
    page: Option<Key>,
}

impl Refresh {
    pub(crate) fn new(interval: Option<Duration>, now: Instant) -> Self {
        let interval = interval.map(|interval| interval.max(LEAST_INTERVAL));
        let due = interval.map_or(Instant::NEVER, |interval| now + interval);
        Self { buckets: BTreeSet::new(), interval, due, page: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }
}

impl Shared {
    /// Somebody who used buckets of version `used` (0: none, or unknown) was told that the region's
    /// are at `latest` (`UpdateBucketsIfNeeded`, §4.9).
    pub(crate) fn buckets_seen(&mut self, region: RegionVersion, used: u64, latest: u64) {
        let Some(cached) = self.regions.bucket_version(region) else {
            return;
        };
        // Whoever used older ones than the cached has been told what is known already.
        let outdated = used != 0 && used < cached;
        if !outdated && cached < latest && self.refresh.buckets.insert(region.id) {
            self.pd_ask_buckets(region.id);
        }
    }

    /// PD's answer to [`Shared::pd_ask_buckets`].
    pub(crate) fn on_bucket_region(&mut self, region: u64, answer: Result<Response, Error>) {
        self.refresh.buckets.remove(&region);
        let loaded = answer.and_then(reply::region);
        if let Ok(Some(loaded)) = loaded
            && let Ok(region) = self.decode_region(loaded)
        {
            self.install(region);
        }
    }

    /// Begins a refresh of all regions, unless one is under way.
    pub(super) fn refresh_regions(&mut self) {
        let Some(interval) = self.refresh.interval else {
            return;
        };
        self.refresh.due = self.now + interval;
        if self.refresh.page.is_none() && !self.closing {
            self.refresh.page = Some(Key::new());
            self.refresh_page();
        }
    }

    /// Asks for the page that is next, in the way that PD understands.
    pub(crate) fn refresh_page(&mut self) {
        let (Some(page), Some(interval)) = (self.refresh.page.clone(), self.refresh.interval)
        else {
            return;
        };
        if !self.pd_ask_page(page, budget::region_refresh(interval)) {
            self.refresh.page = None;
        }
    }

    /// A page, or why there is none.
    pub(crate) fn on_page(&mut self, page: Result<Vec<LoadedRegion>, Error>) {
        let Some(start) = self.refresh.page.take() else {
            return;
        };
        let mut end = start.clone();
        for loaded in page.unwrap_or_default() {
            // What cannot be used, or is somebody else's, is left out.
            let Ok(region) = self.decode_region(loaded) else { continue };
            end.clone_from(&region.range.end);
            self.install(region);
        }
        // An answer that leads no further ends it, as does the end of all keys.
        if end > start {
            // Not a slice of the frame that it came in.
            self.refresh.page = Some(Key::copy_from_slice(&end));
            self.refresh_page();
        }
    }
}
