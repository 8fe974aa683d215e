//! How long to wait before trying again, and when to stop trying.
//!
//! A [`Backoff`] is one budget of waiting, shared by everything that one operation (or one part of
//! it) retries: the waits of all kinds are added up, and each kind grows at its own pace. The rules
//! are those of control-plane.md §3; three of them surprise:
//!
//! - The budget is tested *before* a wait, so the last wait may go beyond it by as much as a cap.
//! - Waiting for a busy server costs nothing, up to ten minutes: a loaded cluster should slow its
//!   clients down, not fail them.
//! - The error in the end is that of the kind that waited the longest in sum, not of the last one:
//!   a store that was down for half a minute explains more than the stale region found after it.
//!
//! The core does not sleep: [`Backoff::next`] says how long, its caller sets the timer. So there is
//! no interrupted sleep, and an attempt counts as soon as its wait is handed out.
//!
//! One thing of the reference is not here: an error about another cluster's id ends the process
//! there. Such an error ends an operation before it gets here (see `region_call::react`).

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// What is waited for. The kinds of TiFlash are left out: the core does not talk to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BackoffKind {
    /// A store could not be reached, or did not answer.
    TikvRpc,
    /// Another transaction's lock is in the way of a write.
    TxnLock,
    /// Another transaction's lock is in the way of a read.
    TxnLockFast,
    /// PD could not be reached, or knows no region for a key.
    PdRpc,
    /// The region has moved, split or merged.
    RegionMiss,
    /// The region is between leaders, or between configurations.
    RegionScheduling,
    /// The server asked for time.
    ServerBusy,
    /// The store's disk is full.
    DiskFull,
    /// The region is being recovered by an operator.
    RegionRecoveryInProgress,
    /// A lock's transaction has not written its primary yet.
    TxnNotFound,
    /// The leader dropped the command when it changed its term.
    StaleCommand,
    /// A new leader does not know the largest timestamp yet.
    MaxTsNotSynced,
    /// PD's timestamps are behind the one that a commit has to wait for.
    CommitTsLag,
    /// The replica exists but has not received the region's data yet.
    RegionNotInitialized,
    /// The replica keeps no data.
    IsWitness,
}

/// How a wait is spread, so that clients that failed together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jitter {
    /// Not at all.
    None,
    /// Half of it is fixed, half is drawn.
    Equal,
}

struct Policy {
    base_ms: u32,
    cap_ms: u32,
    jitter: Jitter,
}

/// How long a busy server may be waited for outside of the budget (control-plane.md §3.3).
const EXCLUDED_LIMIT: Duration = Duration::from_secs(600);

const KINDS: usize = 15;

impl BackoffKind {
    const ALL: [Self; KINDS] = [
        Self::TikvRpc,
        Self::TxnLock,
        Self::TxnLockFast,
        Self::PdRpc,
        Self::RegionMiss,
        Self::RegionScheduling,
        Self::ServerBusy,
        Self::DiskFull,
        Self::RegionRecoveryInProgress,
        Self::TxnNotFound,
        Self::StaleCommand,
        Self::MaxTsNotSynced,
        Self::CommitTsLag,
        Self::RegionNotInitialized,
        Self::IsWitness,
    ];

    /// control-plane.md §3.1. The fast lock wait starts at `BackoffLockFast`, 10 ms, which
    /// overrides the 2 ms that its declaration names.
    const fn policy(self) -> Policy {
        let (base_ms, cap_ms, jitter) = match self {
            Self::TikvRpc => (100, 2_000, Jitter::Equal),
            Self::TxnLock => (100, 3_000, Jitter::Equal),
            Self::TxnLockFast => (10, 3_000, Jitter::Equal),
            Self::PdRpc => (500, 3_000, Jitter::Equal),
            Self::RegionMiss => (2, 500, Jitter::None),
            Self::RegionScheduling => (2, 500, Jitter::None),
            Self::ServerBusy => (2_000, 10_000, Jitter::Equal),
            Self::DiskFull => (500, 5_000, Jitter::None),
            Self::RegionRecoveryInProgress => (100, 10_000, Jitter::Equal),
            Self::TxnNotFound => (2, 500, Jitter::None),
            Self::StaleCommand => (2, 1_000, Jitter::None),
            Self::MaxTsNotSynced => (2, 500, Jitter::None),
            Self::CommitTsLag => (2, 500, Jitter::None),
            Self::RegionNotInitialized => (2, 1_000, Jitter::None),
            Self::IsWitness => (1_000, 10_000, Jitter::Equal),
        };
        Policy { base_ms, cap_ms, jitter }
    }

    /// Whether its waits are outside of the budget.
    const fn is_excluded(self) -> bool {
        matches!(self, Self::ServerBusy)
    }

    /// The wait before attempt `n` of this kind, counted from 0 (control-plane.md §3.2).
    ///
    /// `draw(bound)` gives a uniform number below `bound`; kinds without jitter do not draw.
    fn wait(self, n: u32, draw: impl FnOnce(u32) -> u32) -> Duration {
        let Policy { base_ms, cap_ms, jitter } = self.policy();
        let doubled = u64::from(base_ms).checked_shl(n.min(32)).unwrap_or(u64::MAX);
        let full = doubled.min(u64::from(cap_ms)) as u32;
        let ms = match jitter {
            Jitter::None => full,
            Jitter::Equal => full / 2 + draw(full / 2),
        };
        Duration::from_millis(u64::from(ms))
    }

    /// The error of an operation that has spent its budget, most of it on this kind.
    ///
    /// `lock` is the last [`ErrorKind::LockWaitTimeout`] seen: the kinds that wait for locks name
    /// the lock they gave up on.
    fn exhausted(self, last: Error, lock: Option<ErrorKind>) -> Error {
        let (kind, message) = match self {
            Self::TikvRpc => (ErrorKind::StoreUnavailable, "no answer from the store"),
            Self::TxnLock | Self::TxnLockFast => {
                (lock_wait_timeout(lock), "a lock of another transaction did not go away")
            }
            Self::TxnNotFound => (
                lock_wait_timeout(lock),
                "the transaction that holds a lock neither wrote its primary nor went away",
            ),
            Self::PdRpc => (ErrorKind::PdUnavailable, "no answer from PD"),
            Self::RegionMiss => {
                (ErrorKind::RegionUnavailable, "the region kept moving, splitting or merging")
            }
            Self::RegionScheduling => (ErrorKind::RegionUnavailable, "the region has no leader"),
            Self::ServerBusy => (ErrorKind::ServerBusy, "the server is busy"),
            Self::DiskFull => (ErrorKind::DiskFull, "the store's disk is full"),
            Self::RegionRecoveryInProgress => {
                (ErrorKind::RegionUnavailable, "the region is being recovered")
            }
            Self::StaleCommand => {
                (ErrorKind::RegionUnavailable, "the leader kept changing its term")
            }
            Self::MaxTsNotSynced => {
                (ErrorKind::RegionUnavailable, "the leader does not know the largest timestamp")
            }
            Self::CommitTsLag => {
                (ErrorKind::CommitTsLag, "the timestamps of PD are behind the awaited one")
            }
            Self::RegionNotInitialized => {
                (ErrorKind::RegionUnavailable, "the replica has not received the region yet")
            }
            Self::IsWitness => (ErrorKind::RegionUnavailable, "the replica keeps no data"),
        };
        let (region, store) = (last.region(), last.store());
        Error::new(kind, message).at(region, store).because(Some(last))
    }
}

fn lock_wait_timeout(seen: Option<ErrorKind>) -> ErrorKind {
    seen.unwrap_or(ErrorKind::LockWaitTimeout { key: Default::default(), lock_ts: 0 })
}

/// Budgets of control-plane.md §3.4 and transactions.md §1.3, in full: where the reference
/// multiplies with the session's back-off weight, 2 by default, the product stands here.
pub(crate) mod budget {
    use std::time::Duration;

    /// One raw call (raw.md §1).
    pub(crate) const RAW: Duration = Duration::from_secs(20);
    /// A timestamp for an operation: 15 s, weighted.
    pub(crate) const TSO: Duration = Duration::from_secs(2 * 15);
    /// A snapshot's get, batch get, or page of a scan: 20 s, weighted.
    pub(crate) const SNAPSHOT: Duration = Duration::from_secs(2 * 20);
    /// Prewrite, all batches together: 40 s, weighted.
    pub(crate) const PREWRITE: Duration = Duration::from_secs(2 * 40);
    /// The commit of the primary's batch: 40 s, weighted.
    pub(crate) const COMMIT: Duration = Duration::from_secs(2 * 40);
    /// The commits of the other batches, after the outcome is decided: 41 s, weighted.
    pub(crate) const SECONDARIES: Duration = Duration::from_secs(2 * 41);
    /// Undoing a transaction's locks: 20 s, weighted.
    pub(crate) const CLEANUP: Duration = Duration::from_secs(2 * 20);
    /// Taking pessimistic locks, waits for locks of others not counted: 20 s, weighted.
    pub(crate) const PESSIMISTIC_LOCK: Duration = Duration::from_secs(2 * 20);
    /// One heartbeat: 20 s, weighted.
    pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2 * 20);
    /// Resolving another transaction's locks, apart from the operation that met them.
    pub(crate) const RESOLVE: Duration = Duration::from_secs(40);
    /// One page of a scan of locks, and putting an end to their transactions: 100 s, weighted.
    pub(crate) const GC: Duration = Duration::from_secs(2 * 100);
    /// What became of a transaction: 20 s.
    pub(crate) const TXN_STATUS: Duration = Duration::from_secs(20);
    /// A question to PD for no particular operation (a range task's locating): 20 s, weighted.
    pub(crate) const PD: Duration = Duration::from_secs(2 * 20);
    /// Fetching a region's buckets in the background: 20 s.
    pub(crate) const BUCKETS: Duration = Duration::from_secs(20);
    /// A page of a refresh of all regions: as long as the refreshes are apart, weighted.
    pub(crate) const fn region_refresh(interval: Duration) -> Duration {
        interval.saturating_mul(2)
    }
    /// What never gives up by itself: only a deadline ends it.
    pub(crate) const UNLIMITED: Duration = Duration::MAX;
}

/// One budget of waiting. Allocates nothing before the first wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Backoff {
    budget: Duration,
    spent: Option<Box<Spent>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Spent {
    /// How often each kind has waited since this budget was made or forked: its exponent.
    attempts: [u32; KINDS],
    /// How long each kind has waited.
    slept: [Duration; KINDS],
    /// How long all have waited, the excluded ones included.
    total: Duration,
    /// How long the excluded ones have waited.
    excluded: Duration,
    /// How many waits there were.
    waits: u32,
    /// What the last wait was for.
    last: Option<Error>,
    /// The last lock that was waited for.
    lock: Option<ErrorKind>,
}

impl Backoff {
    /// A fresh budget. [`budget::UNLIMITED`] is without limit; zero allows no wait at all (for the
    /// reference zero, too, is without limit).
    pub(crate) const fn new(budget: Duration) -> Self {
        Self { budget, spent: None }
    }

    /// How long to wait before the next attempt, or the error with which to give up.
    ///
    /// `clamp` shortens this one wait (a lock's remaining time to live); the kind's exponent grows
    /// as if it had not. `draw(bound)` has to give a uniform number below `bound`.
    ///
    /// # Errors
    /// When the budget is spent: the error of the kind that waited longest, with `cause` as its
    /// cause, or `cause` itself if only excluded kinds have waited.
    pub(crate) fn next(
        &mut self,
        kind: BackoffKind,
        clamp: Option<Duration>,
        cause: Error,
        draw: impl FnOnce(u32) -> u32,
    ) -> Result<Duration, Error> {
        if self.is_spent(kind) {
            return Err(self.give_up(cause));
        }
        let spent = self.spent.get_or_insert_default();
        let index = kind as usize;
        let wait = kind.wait(spent.attempts[index], draw);
        let wait = clamp.map_or(wait, |clamp| wait.min(clamp));
        spent.attempts[index] = spent.attempts[index].saturating_add(1);
        spent.slept[index] = spent.slept[index].saturating_add(wait);
        spent.total = spent.total.saturating_add(wait);
        if kind.is_excluded() {
            spent.excluded = spent.excluded.saturating_add(wait);
        }
        spent.waits = spent.waits.saturating_add(1);
        if let ErrorKind::LockWaitTimeout { .. } = cause.kind() {
            spent.lock = Some(cause.kind().clone());
        }
        spent.last = Some(cause);
        Ok(wait)
    }

    /// control-plane.md §3.3: whether a wait of this kind is beyond the budget.
    fn is_spent(&self, kind: BackoffKind) -> bool {
        if self.budget == budget::UNLIMITED {
            return false;
        }
        let (total, excluded) = match &self.spent {
            Some(spent) => (spent.total, spent.excluded),
            None => (Duration::ZERO, Duration::ZERO),
        };
        if kind.is_excluded() && excluded >= EXCLUDED_LIMIT && excluded >= self.budget {
            return true;
        }
        total.saturating_sub(excluded) >= self.budget
    }

    fn give_up(&self, cause: Error) -> Error {
        let Some(spent) = &self.spent else { return cause };
        let lock = match cause.kind() {
            ErrorKind::LockWaitTimeout { .. } => Some(cause.kind().clone()),
            _ => spent.lock.clone(),
        };
        // Of equals the first in the order of declaration, so that runs agree.
        let worst = BackoffKind::ALL
            .into_iter()
            .filter(|kind| !kind.is_excluded() && !spent.slept[*kind as usize].is_zero())
            .max_by_key(|kind| (spent.slept[*kind as usize], std::cmp::Reverse(*kind)));
        match worst {
            Some(kind) => kind.exhausted(cause, lock),
            None => cause,
        }
    }

    /// A part's share: what was spent so far counts in it, but each kind starts over with its
    /// shortest wait, because the part talks to somebody else.
    #[must_use]
    pub(crate) fn fork(&self) -> Self {
        let mut fork = self.clone();
        if let Some(spent) = &mut fork.spent {
            spent.attempts = [0; KINDS];
        }
        fork
    }

    /// Takes over what a fork has spent.
    ///
    /// Forks wait side by side, so their waits are not added up. The reference takes the totals of
    /// whichever fork ended last; here no total ever falls, so that the order in which forks end
    /// does not matter and no budget grows back.
    pub(crate) fn absorb(&mut self, fork: &Self) {
        let Some(theirs) = &fork.spent else { return };
        let ours = self.spent.get_or_insert_default();
        for (ours, theirs) in ours.slept.iter_mut().zip(theirs.slept) {
            *ours = theirs.max(*ours);
        }
        for (ours, theirs) in ours.attempts.iter_mut().zip(theirs.attempts) {
            *ours = theirs.max(*ours);
        }
        ours.total = ours.total.max(theirs.total);
        ours.excluded = ours.excluded.max(theirs.excluded);
        ours.waits = ours.waits.max(theirs.waits);
        if theirs.last.is_some() {
            ours.last.clone_from(&theirs.last);
        }
        if theirs.lock.is_some() {
            ours.lock.clone_from(&theirs.lock);
        }
    }

    /// How much may be waited in all.
    pub(crate) const fn budget(&self) -> Duration {
        self.budget
    }

    /// How long was waited in all.
    #[cfg(test)]
    pub(crate) fn total(&self) -> Duration {
        self.spent.as_ref().map_or(Duration::ZERO, |spent| spent.total)
    }

    /// How many waits there were.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> u32 {
        self.spent.as_ref().map_or(0, |spent| spent.waits)
    }

    /// What the last wait was for: the cause to tell when a deadline ends an operation.
    pub(crate) fn last(&self) -> Option<&Error> {
        self.spent.as_ref().and_then(|spent| spent.last.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StoreId;

    fn cause(text: &str) -> Error {
        Error::new(ErrorKind::Refused, text)
    }

    fn zero(_: u32) -> u32 {
        0
    }

    fn most(bound: u32) -> u32 {
        bound - 1
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// control-plane.md §3.1 and §3.2: base, doubling, cap and jitter of every kind.
    #[test]
    fn every_kind_waits_as_its_row_says() {
        use BackoffKind::*;
        // kind, base, cap, jitter?
        let rows = [
            (TikvRpc, 100, 2_000, true),
            (TxnLock, 100, 3_000, true),
            (TxnLockFast, 10, 3_000, true),
            (PdRpc, 500, 3_000, true),
            (RegionMiss, 2, 500, false),
            (RegionScheduling, 2, 500, false),
            (ServerBusy, 2_000, 10_000, true),
            (DiskFull, 500, 5_000, false),
            (RegionRecoveryInProgress, 100, 10_000, true),
            (TxnNotFound, 2, 500, false),
            (StaleCommand, 2, 1_000, false),
            (MaxTsNotSynced, 2, 500, false),
            (CommitTsLag, 2, 500, false),
            (RegionNotInitialized, 2, 1_000, false),
            (IsWitness, 1_000, 10_000, true),
        ];
        assert_eq!(rows.map(|row| row.0), BackoffKind::ALL);
        for (index, (kind, base, cap, jitter)) in rows.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            for n in [0, 1, 2, 3, 8, 31, 32, 33, u32::MAX] {
                let full = (base << n.min(20)).min(cap);
                let (least, largest) =
                    if jitter { (full / 2, full / 2 + full / 2 - 1) } else { (full, full) };
                assert_eq!(kind.wait(n, zero), ms(least), "{kind:?} {n}");
                assert_eq!(kind.wait(n, most), ms(largest), "{kind:?} {n}");
            }
        }
    }

    /// control-plane.md §3.4, transactions.md §1.3, raw.md §1: every row of the table, in its order, in
    /// milliseconds, times 2 where «W». Rows of what is not there yet are named as such: whoever brings
    /// it gives it its number here.
    #[test]
    fn budgets_are_those_of_the_tables() {
        enum Row {
            Is(Duration),
            NotYet,
        }
        use Row::{Is, NotYet};
        let weighted = |base: u64| ms(base * 2);
        let rows = [
            ("TSO fetch", weighted(15_000), Is(budget::TSO)),
            ("prewrite", weighted(40_000), Is(budget::PREWRITE)),
            ("commit primary", weighted(40_000), Is(budget::COMMIT)),
            ("cleanup", weighted(20_000), Is(budget::CLEANUP)),
            ("pessimistic lock", weighted(20_000), Is(budget::PESSIMISTIC_LOCK)),
            ("pessimistic rollback", weighted(20_000), NotYet),
            ("keep-alive", weighted(20_000), Is(budget::HEARTBEAT)),
            ("txn status check", ms(20_000), Is(budget::TXN_STATUS)),
            ("GC resolve", weighted(100_000), Is(budget::GC)),
            ("locate region (range task)", weighted(20_000), Is(budget::PD)),
            ("wait scatter", weighted(120_000), NotYet),
            ("bucket refresh background", ms(20_000), Is(budget::BUCKETS)),
            ("region preload", weighted(20_000), Is(budget::PD)),
            ("snapshot get, batch get, scan next", weighted(20_000), Is(budget::SNAPSHOT)),
            ("commit secondaries", weighted(41_000), Is(budget::SECONDARIES)),
            ("pipelined", weighted(41_000), NotYet),
            ("broadcast txn status", weighted(10_000), NotYet),
            ("async resolve", ms(40_000), Is(budget::RESOLVE)),
            ("delete-range per region", weighted(100_000), NotYet),
            ("split regions, of one key", weighted(20_000), NotYet),
            ("split regions, of six or more", weighted(120_000), NotYet),
            ("raw ops", ms(20_000), Is(budget::RAW)),
            ("stream re-create loop", Duration::MAX, Is(budget::UNLIMITED)),
            ("periodic region refresh, of 300 s", weighted(300_000), {
                Is(budget::region_refresh(Duration::from_secs(300)))
            }),
        ];
        for (row, expected, here) in rows {
            match here {
                Is(found) => assert_eq!(found, expected, "{row}"),
                NotYet => {}
            }
        }
    }

    /// control-plane.md §3.1, last column.
    #[test]
    fn every_kind_gives_up_with_its_own_error() {
        use BackoffKind::*;
        let lock = ErrorKind::LockWaitTimeout { key: "k".into(), lock_ts: 7 };
        for (kind, error) in [
            (TikvRpc, ErrorKind::StoreUnavailable),
            (TxnLock, lock.clone()),
            (TxnLockFast, lock.clone()),
            (PdRpc, ErrorKind::PdUnavailable),
            (RegionMiss, ErrorKind::RegionUnavailable),
            (RegionScheduling, ErrorKind::RegionUnavailable),
            (DiskFull, ErrorKind::DiskFull),
            (RegionRecoveryInProgress, ErrorKind::RegionUnavailable),
            (TxnNotFound, lock.clone()),
            (StaleCommand, ErrorKind::RegionUnavailable),
            (MaxTsNotSynced, ErrorKind::RegionUnavailable),
            (CommitTsLag, ErrorKind::CommitTsLag),
            (RegionNotInitialized, ErrorKind::RegionUnavailable),
            (IsWitness, ErrorKind::RegionUnavailable),
        ] {
            let mut backoff = Backoff::new(ms(1));
            let met = Error::new(lock.clone(), "locked");
            backoff.next(kind, None, met, most).unwrap();
            let last = cause("last").at(None, Some(StoreId(3)));
            let gave_up = backoff.next(kind, None, last.clone(), most).unwrap_err();
            assert_eq!(gave_up.kind(), &error, "{kind:?}");
            assert_eq!(gave_up.cause(), Some(&last));
            assert_eq!(gave_up.store(), Some(StoreId(3)));
        }
    }

    /// control-plane.md §3.3: the test comes before the wait.
    #[test]
    fn the_last_wait_may_overshoot_the_budget() {
        let mut backoff = Backoff::new(ms(701));
        let kind = BackoffKind::DiskFull;
        assert_eq!(backoff.next(kind, None, cause("a"), zero), Ok(ms(500)));
        assert_eq!(backoff.next(kind, None, cause("b"), zero), Ok(ms(1_000)));
        assert_eq!((backoff.total(), backoff.waits()), (ms(1_500), 2));
        assert_eq!(backoff.last(), Some(&cause("b")));
        assert!(backoff.next(kind, None, cause("c"), zero).is_err());
        // A refused wait is not accounted, and the budget stays spent for all kinds.
        assert_eq!((backoff.total(), backoff.waits()), (ms(1_500), 2));
        assert!(backoff.next(BackoffKind::RegionMiss, None, cause("d"), zero).is_err());
    }

    /// control-plane.md §3.3: exhausted exactly when the budget is reached, not only passed.
    #[test]
    fn a_budget_reached_is_a_budget_spent() {
        let mut backoff = Backoff::new(ms(500));
        assert!(backoff.next(BackoffKind::DiskFull, None, cause("a"), zero).is_ok());
        assert!(backoff.next(BackoffKind::DiskFull, None, cause("b"), zero).is_err());
    }

    /// control-plane.md §3.2: a clamp shortens the wait, not the exponent.
    #[test]
    fn a_clamped_wait_still_counts_as_an_attempt() {
        let mut backoff = Backoff::new(budget::PREWRITE);
        let kind = BackoffKind::RegionMiss;
        assert_eq!(backoff.next(kind, Some(ms(1)), cause("a"), zero), Ok(ms(1)));
        assert_eq!(backoff.next(kind, Some(Duration::ZERO), cause("a"), zero), Ok(ms(0)));
        assert_eq!(backoff.next(kind, Some(ms(99)), cause("a"), zero), Ok(ms(8)));
        assert_eq!(backoff.total(), ms(9));
    }

    /// control-plane.md §3.3: server-busy waits outside of the budget, for ten minutes.
    #[test]
    fn a_busy_server_is_waited_for_outside_of_the_budget() {
        let mut backoff = Backoff::new(budget::RAW);
        let mut waited = Duration::ZERO;
        let gave_up = loop {
            match backoff.next(BackoffKind::ServerBusy, None, cause("busy"), most) {
                Ok(wait) => waited += wait,
                Err(error) => break error,
            }
        };
        assert!((ms(600_000)..ms(610_000)).contains(&waited), "{waited:?}");
        // Nobody but the busy server waited: its own words are the best error there is.
        assert_eq!(gave_up, cause("busy"));
        // The budget itself is untouched.
        assert!(backoff.next(BackoffKind::RegionMiss, None, cause("x"), most).is_ok());
    }

    /// control-plane.md §3.3: with a budget above ten minutes the budget is the limit.
    #[test]
    fn a_larger_budget_prolongs_the_wait_for_a_busy_server() {
        let mut backoff = Backoff::new(ms(700_000));
        let mut waited = Duration::ZERO;
        while let Ok(wait) = backoff.next(BackoffKind::ServerBusy, None, cause("busy"), zero) {
            waited += wait;
        }
        assert!(waited >= ms(700_000));
    }

    /// control-plane.md §3.3: the largest contributor names the error; excluded kinds do not.
    #[test]
    fn the_error_is_that_of_the_kind_that_waited_longest() {
        let mut backoff = Backoff::new(ms(200));
        for kind in [BackoffKind::ServerBusy, BackoffKind::RegionMiss, BackoffKind::TikvRpc] {
            backoff.next(kind, None, cause("earlier"), most).unwrap();
        }
        for _ in 0..5 {
            backoff.next(BackoffKind::RegionMiss, None, cause("moved"), most).unwrap();
        }
        // 99 ms for the store, 2 + 4 + 8 + 16 + 32 + 64 = 126 ms for the region.
        let gave_up = backoff.next(BackoffKind::TikvRpc, None, cause("last"), most).unwrap_err();
        assert_eq!(gave_up.kind(), &ErrorKind::RegionUnavailable);
        assert_eq!(gave_up.cause(), Some(&cause("last")));
    }

    #[test]
    fn without_a_wait_the_cause_is_the_error() {
        let mut backoff = Backoff::new(Duration::ZERO);
        assert_eq!(
            backoff.next(BackoffKind::TikvRpc, None, cause("first"), zero),
            Err(cause("first"))
        );
        assert_eq!(backoff, Backoff::new(Duration::ZERO));
    }

    /// control-plane.md §3.3: exponents restart in a fork, totals do not.
    #[test]
    fn a_fork_starts_its_exponents_over_and_keeps_the_totals() {
        let mut parent = Backoff::new(ms(20));
        let kind = BackoffKind::RegionMiss;
        for wait in [2, 4] {
            assert_eq!(parent.next(kind, None, cause("a"), zero), Ok(ms(wait)));
        }
        let (mut one, mut two) = (parent.fork(), parent.fork());
        assert_eq!(one.total(), ms(6));
        for wait in [2, 4, 8] {
            assert_eq!(one.next(kind, None, cause("b"), zero), Ok(ms(wait)));
        }
        assert!(one.next(kind, None, cause("b"), zero).is_err());
        assert_eq!(two.next(kind, None, cause("c"), zero), Ok(ms(2)));
        // In either order: 20 ms were waited, not 28.
        let mut other = parent.clone();
        parent.absorb(&one);
        parent.absorb(&two);
        other.absorb(&two);
        other.absorb(&one);
        assert_eq!((parent.total(), other.total()), (ms(20), ms(20)));
        assert!(parent.next(kind, None, cause("d"), zero).is_err());
        assert_eq!(parent.last(), Some(&cause("c")));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut backoff = Backoff::new(budget::UNLIMITED);
        for _ in 0..10_000 {
            backoff.next(BackoffKind::IsWitness, None, cause("a"), most).unwrap();
        }
    }

    /// An operation that never waits pays for the budget alone.
    #[test]
    fn idle_it_is_small() {
        assert!(size_of::<Backoff>() <= 24, "{}", size_of::<Backoff>());
    }
}
