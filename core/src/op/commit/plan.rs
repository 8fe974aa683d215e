//! What is to be committed, checked once and unchangeable from then on; and which protocols it is fit
//! for (`transactions.md` §5, §7.1, §12.1).

use std::sync::Arc;
use std::time::Duration;

use crate::error::{AssertionFailure, Error, ErrorKind};
use crate::op::commit::LARGE;
use crate::operation::{CommitPlan, Fallbacks, Key, LockState, Mutation};
use crate::time::Instant;
use crate::timestamp::Timestamp;
use crate::txn::TxnOptions;
use crate::wire::ContextExtra;

/// Locks live this long, plus more for larger transactions (§12.1), in milliseconds.
const DEFAULT_LOCK_TTL: u64 = 3_000;
const MAX_LOCK_TTL: u64 = 20_000;
/// A lock lives this long times the square root of the transaction's MiB.
const TTL_FACTOR: u64 = 6_000;
/// Below this size a transaction's locks get the default time to live.
const TTL_THRESHOLD: u64 = 16 << 10;
/// Async commit is for so many keys at most (§1.4), since the primary's lock names them all …
const ASYNC_COMMIT_KEYS: usize = 256;
/// … and for so many bytes of keys.
const ASYNC_COMMIT_KEY_BYTES: usize = 4_096;
/// How far the commit timestamp of an async or one-phase commit may lie ahead of the time of its
/// prewrite, in milliseconds (§7.2).
const SAFE_WINDOW: u64 = 2_000;
/// Bits of a timestamp below the milliseconds.
const LOGICAL_BITS: u32 = 18;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) start_ts: Timestamp,
    pub(super) mutations: Vec<Mutation>,
    /// The keys that are locked, in order. Empty if nothing is.
    pub(super) locked: Vec<Key>,
    pub(super) primary: Key,
    /// Where the primary is among `locked`.
    pub(super) lead: usize,
    /// The prewrite is a pessimistic one, as of this timestamp.
    pub(super) for_update_ts: Option<Timestamp>,
    pub(super) options: Arc<TxnOptions>,
    /// What goes with prewrites and commits.
    pub(super) context: Option<Arc<ContextExtra>>,
    /// What the transaction ends with although it is prewritten.
    pub(super) stashed: Option<Box<AssertionFailure>>,
    /// The protocols that it is fit for, besides two phases.
    pub(super) modes: Modes,
    /// Bytes of keys and values.
    pub(super) size: u64,
    /// At how many bytes a batch is closed.
    pub(super) batch_size: usize,
    /// How long it had been open when it was handed in, and when that was.
    open_for: Duration,
    begun: Instant,
    #[cfg(anatase_planted)]
    pub(super) planted: Option<crate::Plant>,
}

/// Which faster protocols are in use. With both on, a store tries one phase, and async commit only
/// where that is not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Modes {
    pub(super) async_commit: bool,
    pub(super) one_pc: bool,
}

impl Modes {
    /// A prewrite may be what commits the transaction.
    pub(super) fn any(self) -> bool {
        self.async_commit || self.one_pc
    }

    /// What was given up on the way from `self` to two phases, or to what is left.
    pub(super) fn fallbacks(self, left: Self) -> Fallbacks {
        Fallbacks {
            from_async: self.async_commit && !left.async_commit,
            from_one_phase: self.one_pc && !left.one_pc,
        }
    }
}

impl Plan {
    pub(super) fn new(plan: CommitPlan, batch_size: usize, now: Instant) -> Result<Self, Error> {
        let invalid = |text: &str| Err(Error::new(ErrorKind::InvalidArgument, text));
        let CommitPlan { start_ts, mutations, open_for, options, pessimistic, stashed_assertion } =
            plan;
        if start_ts == Timestamp::MAX {
            return invalid("the maximal timestamp starts no transaction");
        }
        if !mutations.is_sorted_by(|a, b| a.key < b.key) {
            return invalid("mutations have to be sorted by key, without duplicates");
        }
        if mutations.iter().any(|m| m.locked.is_held() && (pessimistic.is_none() || !m.locks())) {
            return invalid("a pessimistic lock is held that would not be committed");
        }
        let mut locked: Vec<Key> = Vec::with_capacity(mutations.len());
        locked.extend(mutations.iter().filter(|m| m.locks()).map(|m| m.key.clone()));
        let (lead, primary) = match &pessimistic {
            // What is locked already names the primary.
            Some(chosen) => match locked.binary_search(&chosen.primary) {
                Ok(lead) => (lead, chosen.primary.clone()),
                Err(_) => return invalid("the primary is not among the keys to be locked"),
            },
            // A primary has to be a key that is locked, or nobody could ask it for the fate of the
            // transaction (`peers.md` D14). Where nothing is locked there is no fate to ask for.
            None => match locked.first().or(mutations.first().map(|m| &m.key)) {
                Some(primary) => (0, primary.clone()),
                None => return invalid("nothing to commit"),
            },
        };
        // §7.2: a check that was put off until now makes the prewrite a pessimistic one.
        let lazy = mutations.iter().any(|m| m.locked == LockState::CheckAtPrewrite);
        let for_update_ts = match &pessimistic {
            Some(chosen) => Some(chosen.for_update_ts),
            None => lazy.then_some(start_ts),
        };
        let size = mutations.iter().map(|m| m.size() as u64).sum();
        let modes = modes(&mutations, &locked, &options, stashed_assertion.is_some());
        Ok(Self {
            start_ts,
            mutations,
            locked,
            primary,
            lead,
            for_update_ts,
            context: options.write_context(),
            options,
            stashed: stashed_assertion,
            modes,
            size,
            batch_size,
            open_for,
            begun: now,
            #[cfg(anatase_planted)]
            planted: None,
        })
    }

    #[cfg(anatase_planted)]
    pub(super) fn with(self, planted: Option<crate::Plant>) -> Self {
        Self { planted, ..self }
    }

    pub(super) fn is_pessimistic(&self) -> bool {
        self.for_update_ts.is_some()
    }

    /// Its locks have to be kept alive while it commits.
    pub(super) fn is_large(&self) -> bool {
        self.size > LARGE
    }

    /// Milliseconds since the transaction began, by this side's clock: the only one that counts what
    /// PD's timestamps do not show yet.
    fn elapsed(&self, now: Instant) -> u64 {
        let elapsed = self.open_for.saturating_add(now.since(self.begun));
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// The largest commit timestamp that a store may give (§7.2). Too small a one, if the clock stood
    /// still, costs speed only (§22.11).
    pub(super) fn max_commit_ts(&self, now: Instant) -> Timestamp {
        let window = self.elapsed(now).saturating_add(SAFE_WINDOW);
        let version = window.saturating_mul(1 << LOGICAL_BITS);
        let version = self.start_ts.version().saturating_add(version);
        Timestamp::from_version(version).unwrap_or(Timestamp::MAX)
    }

    /// Milliseconds that locks live, which count from the transaction's start (§8.1, §12.1).
    pub(super) fn lock_ttl(&self, max_commit_ts: Option<Timestamp>, now: Instant) -> u64 {
        let ttl = lock_ttl(self.size, self.elapsed(now));
        match max_commit_ts {
            // §22.12: whoever finds the lock expired has made sure by then that no prewrite that is
            // late still commits.
            Some(max) if self.modes.async_commit && self.is_pessimistic() => {
                ttl.max(max.physical_ms().saturating_sub(self.start_ts.physical_ms()) + 1)
            }
            Some(_) | None => ttl,
        }
    }
}

/// §7.1.
///
/// Stricter than the reference in one point. Where a key is only checked, the transaction is not
/// committed with the last of its locks: the check may still fail, and it leaves no lock by which
/// others could see that it has not been made. A resolver that finds all locks would commit what the
/// check then refuses.
fn modes(mutations: &[Mutation], locked: &[Key], options: &TxnOptions, stashed: bool) -> Modes {
    if options.commit_ts_upper_bound.is_some() || stashed || locked.is_empty() {
        return Modes::default();
    }
    let bytes: usize = locked.iter().map(Key::len).sum();
    Modes {
        async_commit: options.enable_async_commit
            && locked.len() == mutations.len()
            && locked.len() <= ASYNC_COMMIT_KEYS
            && bytes <= ASYNC_COMMIT_KEY_BYTES,
        one_pc: options.enable_one_pc,
    }
}

/// §12.1. A lock's time counts from the start of the transaction, so the time it has been open is
/// added.
fn lock_ttl(size: u64, elapsed_ms: u64) -> u64 {
    let base = if size < TTL_THRESHOLD {
        DEFAULT_LOCK_TTL
    } else {
        let squared = u128::from(TTL_FACTOR).pow(2) * u128::from(size) / (1 << 20);
        u64::try_from(squared.isqrt()).unwrap_or(u64::MAX).clamp(DEFAULT_LOCK_TTL, MAX_LOCK_TTL)
    };
    base.saturating_add(elapsed_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{MutationOp, PessimisticPlan};

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn ts(physical_ms: u64) -> Timestamp {
        Timestamp::compose(physical_ms, 5).unwrap()
    }

    fn put(key: &'static str) -> Mutation {
        Mutation::new(key, MutationOp::Put("v".into()))
    }

    fn check(key: &'static str) -> Mutation {
        Mutation::new(key, MutationOp::CheckNotExists)
    }

    fn held(key: &'static str) -> Mutation {
        Mutation { locked: LockState::Held, ..put(key) }
    }

    fn plan(mutations: Vec<Mutation>) -> Result<Plan, Error> {
        Plan::new(CommitPlan::new(ts(900), mutations), 16 << 10, NOW)
    }

    fn pessimistic(primary: &'static str, mutations: Vec<Mutation>) -> Result<Plan, Error> {
        let chosen = PessimisticPlan { primary: primary.into(), for_update_ts: ts(950) };
        let plan = CommitPlan { pessimistic: Some(chosen), ..CommitPlan::new(ts(900), mutations) };
        Plan::new(plan, 16 << 10, NOW)
    }

    /// transactions.md §12.1.
    #[test]
    fn a_lock_lives_longer_in_a_larger_transaction_and_from_its_start_on() {
        assert_eq!(lock_ttl(100, 0), 3_000);
        assert_eq!(lock_ttl((16 << 10) - 1, 0), 3_000);
        assert_eq!(lock_ttl(16 << 10, 0), 3_000);
        assert_eq!(lock_ttl(1 << 20, 0), 6_000);
        assert_eq!(lock_ttl(4 << 20, 0), 12_000);
        assert_eq!(lock_ttl(100 << 20, 0), 20_000);
        assert_eq!(lock_ttl(100, 500), 3_500);
        assert_eq!(lock_ttl(100 << 20, 700), 20_700);
    }

    /// transactions.md §8.1, §22.12; case 2PC-35: the time that counts is this side's.
    #[test]
    fn a_pessimistic_lock_of_an_async_commit_outlives_the_last_commit_timestamp() {
        let options = TxnOptions { enable_async_commit: true, ..TxnOptions::default() };
        let chosen = PessimisticPlan { primary: "a".into(), for_update_ts: ts(950) };
        let new = |mutations, pessimistic| {
            let plan = CommitPlan {
                open_for: Duration::from_secs(7),
                options: Arc::new(options.clone()),
                pessimistic,
                ..CommitPlan::new(ts(900), mutations)
            };
            Plan::new(plan, 16 << 10, NOW).unwrap()
        };
        let later = NOW + Duration::from_millis(500);
        let optimistic = new(vec![put("a")], None);
        let max = optimistic.max_commit_ts(later);
        assert_eq!((max.physical_ms(), max.logical()), (900 + 7_500 + 2_000, 5));
        assert_eq!(optimistic.lock_ttl(Some(max), later), 10_500);
        // Three seconds and the time open are more than the window here …
        let locked = new(vec![held("a")], Some(chosen));
        assert_eq!(locked.lock_ttl(Some(max), later), 10_500);
        // … and less where more than a second was spent between the two.
        let far = Timestamp::compose(900 + 12_000, 0).unwrap();
        assert_eq!(locked.lock_ttl(Some(far), later), 12_001);
        assert_eq!(locked.lock_ttl(None, later), 10_500);
    }

    #[test]
    fn a_time_without_end_overflows_nothing() {
        let open_for = Duration::MAX;
        let plan = CommitPlan { open_for, ..CommitPlan::new(ts(900), vec![put("a")]) };
        let plan = Plan::new(plan, 16 << 10, NOW).unwrap();
        assert_eq!(plan.max_commit_ts(NOW), Timestamp::MAX);
        assert_eq!(plan.lock_ttl(Some(Timestamp::MAX), NOW), u64::MAX);
    }

    /// peers.md D14; transactions.md §22.32.
    #[test]
    fn d14_the_primary_is_a_key_that_is_locked() {
        let mixed = plan(vec![check("a"), put("b")]).unwrap();
        assert_eq!((mixed.primary, mixed.locked), (Key::from("b"), vec![Key::from("b")]));
        let checks = plan(vec![check("a")]).unwrap();
        assert_eq!((checks.primary, checks.locked), (Key::from("a"), vec![]));
    }

    /// transactions.md §5: «keep the pre-selected pessimistic primary».
    #[test]
    fn d9_a_pessimistic_transaction_keeps_its_primary() {
        let plan = pessimistic("m", vec![put("a"), held("m"), put("z")]).unwrap();
        assert_eq!((plan.primary, plan.lead), (Key::from("m"), 1));
        assert_eq!(plan.for_update_ts, Some(ts(950)));
        // peers.md D9: the peer loses the primary's entry and panics at the commit.
        for lost in [vec![put("a")], vec![put("a"), check("m")]] {
            assert_eq!(pessimistic("m", lost).unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn plans_that_make_no_sense_are_refused_before_anything_is_sent() {
        let stray = Mutation { locked: LockState::Held, ..check("b") };
        for bad in [
            plan(vec![]),
            plan(vec![put("b"), put("a")]),
            plan(vec![put("a"), put("a")]),
            plan(vec![held("a")]),
            pessimistic("a", vec![put("a"), stray]),
            Plan::new(CommitPlan::new(Timestamp::MAX, vec![put("a")]), 1, NOW),
        ] {
            assert_eq!(bad.unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
    }

    /// transactions.md §7.2: «for_update_ts := start_ts (forces pessimistic prewrite on the server)».
    #[test]
    fn a_check_put_off_makes_the_prewrite_pessimistic() {
        let lazy = Mutation { locked: LockState::CheckAtPrewrite, ..put("a") };
        assert_eq!(plan(vec![lazy]).unwrap().for_update_ts, Some(ts(900)));
        assert_eq!(plan(vec![put("a")]).unwrap().for_update_ts, None);
    }

    /// transactions.md §7.1, and cases ASY-03 and OPC-01: one row for each condition.
    #[test]
    fn each_condition_decides_about_the_mode() {
        let on =
            TxnOptions { enable_async_commit: true, enable_one_pc: true, ..TxnOptions::default() };
        let bounded = TxnOptions { commit_ts_upper_bound: Some(ts(2_000)), ..on.clone() };
        let only_async = TxnOptions { enable_one_pc: false, ..on.clone() };
        let only_one = TxnOptions { enable_async_commit: false, ..on.clone() };
        let wide = |keys: usize, len: usize| -> Vec<Mutation> {
            let key = |n| Mutation::new(format!("{n:0len$}"), MutationOp::Delete);
            (0..keys).map(key).collect()
        };
        let stashed = Some(Box::new(AssertionFailure {
            start_ts: 1,
            key: "a".into(),
            assertion: crate::operation::Assertion::Exist,
            existing_start_ts: 0,
            existing_commit_ts: 0,
        }));
        let rows = [
            ("as chosen", TxnOptions::default(), vec![put("a")], false, (false, false)),
            ("both", on.clone(), vec![put("a")], false, (true, true)),
            ("async only", only_async, vec![put("a")], false, (true, false)),
            ("one phase only", only_one, vec![put("a")], false, (false, true)),
            ("upper bound", bounded, vec![put("a")], false, (false, false)),
            ("stashed assertion", on.clone(), vec![put("a")], true, (false, false)),
            ("256 keys", on.clone(), wide(256, 16), false, (true, true)),
            ("257 keys", on.clone(), wide(257, 15), false, (false, true)),
            ("4096 bytes", on.clone(), wide(128, 32), false, (true, true)),
            ("more bytes", on.clone(), wide(128, 33), false, (false, true)),
            ("own: a check", on.clone(), vec![check("a"), put("b")], false, (false, true)),
            ("own: nothing locked", on, vec![check("a")], false, (false, false)),
        ];
        for (row, options, mutations, is_stashed, expected) in rows {
            let plan = CommitPlan {
                options: Arc::new(options),
                stashed_assertion: stashed.clone().filter(|_| is_stashed),
                ..CommitPlan::new(ts(900), mutations)
            };
            let Modes { async_commit, one_pc } = Plan::new(plan, 16 << 10, NOW).unwrap().modes;
            assert_eq!((async_commit, one_pc), expected, "{row}");
        }
    }
}
