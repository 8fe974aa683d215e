//! Commits, told: the faster protocols, their fallbacks, and what can be chosen.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// transactions.md §7.1, §7.3, §8.1; cases ASY-01, ASY-02. A timestamp first; the primary names the other
/// keys; committed at the largest of the locks' timestamps, and all keys in the background, each batch on
/// its own.
#[test]
fn an_async_commit_is_told_when_the_last_lock_is_there() {
    story(
        Txn,
        TWO,
        "
        $ txn async
        $ commit @900.0 a=1 b=2 m=3
        > 1 store 1 KvPrewrite a*=1 b=2 @900.0 size 2 min @1000.2 max @2900.0 async with b m | region 1
        > 2 store 1 KvPrewrite m=3 @900.0 size 1 min @1000.2 max @2900.0 async | region 2
        $ 2 ok min @1000.2
        $ 1 ok min @1000.7
        > 3 store 1 KvCommit a b primary at @1000.7 async | region 1
        > 4 store 1 KvCommit m at @1000.7 async | region 2
        = committed @1000.7 async
        $ idle
        ~ false
        $ 3 ok
        $ idle
        ~ false
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.3; case OPC-01: one request, at the store's timestamp.
#[test]
fn a_commit_in_one_phase() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc
        $ commit @900.0 a=1 b=2
        > 1 store 1 KvPrewrite a*=1 b=2 @900.0 size 2 min @1000.2 max @2900.0 1pc | region 1
        $ 1 ok one @1000.5
        = committed @1000.5 in one phase
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.1: «both may be set on one request».
#[test]
fn both_at_once_is_one_phase_where_it_is_one_request() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc
        $ commit @900.0 a=1 b=2
        > 1 store 1 KvPrewrite a*=1 b=2 @900.0 size 2 min @1000.2 max @2900.0 1pc async with b | region 1
        $ 1 ok one @1000.5
        = committed @1000.5 in one phase
        $ idle
        ~ true
        ",
    );
}

/// … and one phase is dropped as soon as it takes two; case OPC-03.
#[test]
fn both_at_once_is_async_where_it_is_more() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 min @1000.2 max @2900.0 async | region 2
        $ 1 ok min @1000.2
        $ 2 ok min @1000.2
        > 3 store 1 KvCommit a primary at @1000.2 async | region 1
        > 4 store 1 KvCommit m at @1000.2 async | region 2
        = committed @1000.2 async, not in one phase
        $ 3 ok
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.1, two batches of one region.
#[test]
fn one_phase_is_dropped_where_it_is_more_than_one_request() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc
        $ commit @900.0 a=#16384 b=2
        > 1 store 1 KvPrewrite a*=xxxxxxxxxxxx…(16384 bytes) @900.0 size 2 min @1000.2 max @2900.0 | region 1
        > 2 store 1 KvPrewrite b=2 @900.0 size 2 min @1000.2 max @2900.0 | region 1
        $ 1 ok
        $ 2 ok
        > 3 store 1 KvCommit a b primary at @1000.2 | region 1
        $ 3 ok
        = committed @1000.2, not in one phase
        ",
    );
}

/// Case OPC-03: «also when the split is discovered at prewrite».
#[test]
fn one_phase_is_dropped_when_the_region_has_split() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 min @1000.2 max @2900.0 1pc | region 1
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 2 store 1 KvPrewrite a*=1 @900.0 size many min @1000.2 max @2900.0 | region 1 retry
        > 3 store 1 KvPrewrite d=2 @900.0 size many min @1000.2 max @2900.0 | region 3 retry
        $ 2 ok
        $ 3 ok
        > 4 store 1 KvCommit a primary at @1000.2 | region 1
        $ 4 ok
        > 5 store 1 KvCommit d at @1000.2 | region 3
        = committed @1000.2, not in one phase
        $ 5 ok
        ",
    );
}

/// transactions.md §7.7.
#[test]
fn causal_consistency_asks_for_no_timestamp_first() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ 1 ok min @1000.2
        > 2 store 1 KvCommit a primary at @1000.2 async | region 1
        = committed @1000.2 async
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.2: «Failure aborts (no fallback)». Nothing was sent, so nothing is undone.
#[test]
fn a_timestamp_that_cannot_be_had_aborts_with_nothing_sent() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc
        $ silence tso
        $ commit @900.0 a=1
        > 1 PD Tso 1
        $ pass 60000
        $ wait
        ~ 3s: AttemptTimeout
        x 1
        = aborted, PdUnavailable: no PD leader found through pd:1: timestamps from PD at http://pd:1: no answer in time
        $ idle
        ~ true
        ",
    );
}

/// Nothing was sent.
#[test]
fn cancelling_before_the_prewrite_leaves_nothing() {
    story(
        Txn,
        TWO,
        "
        $ txn async
        $ silence tso
        $ commit @900.0 a=1
        > 1 PD Tso 1
        $ cancel 1
        ~ RollingBack
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.1, «no commit_ts_upper_bound_check»; the other conditions are in `plan.rs`.
#[test]
fn an_upper_bound_rules_the_faster_protocols_out() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc until @5000.0
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 ok
        = committed @1000.1
        ",
    );
}

/// peers.md D4; transactions.md §8.4, §22.25; case ASY-09: the one without a timestamp is not hidden by the
/// others, and the commit is a plain one of two phases.
#[test]
fn an_async_commit_falls_back_when_a_store_cannot_give_a_timestamp() {
    story(
        Txn,
        TWO,
        "
        $ txn async
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 min @1000.2 max @2900.0 async | region 2
        $ 2 ok
        $ 1 ok min @1000.2
        > 3 store 1 KvCommit a primary at @1000.2 | region 1
        $ 3 ok
        > 4 store 1 KvCommit m at @1000.2 | region 2
        = committed @1000.2, not async
        $ 4 ok
        ",
    );
}

/// … in whatever order they answer.
#[test]
fn d4_one_store_without_a_timestamp_is_enough() {
    story(
        Txn,
        TWO,
        "
        $ txn async
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 min @1000.2 max @2900.0 async | region 2
        $ 1 ok min @1000.2
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1000.2 | region 1
        $ 3 ok
        > 4 store 1 KvCommit m at @1000.2 | region 2
        = committed @1000.2, not async
        $ 4 ok
        ",
    );
}

/// transactions.md §8.4: what is sent after it is a plain prewrite.
#[test]
fn what_is_sent_after_the_fallback_says_so() {
    story(
        Txn,
        TWO,
        "
        $ txn async
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 min @1000.2 max @2900.0 async | region 2
        $ 1 locked a primary z of @800.0 ttl 3000
        > 3 store 1 KvCheckTxnStatus z of @800.0 for @900.0 now @1000.2 | region 2
        $ 2 ok
        $ 3 rolled_back
        > 4 store 1 KvResolveLock a of @800.0 rolled back | region 1
        $ 4 ok
        > 5 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 | region 1
        $ 5 ok
        > 6 store 1 KvCommit a primary at @1000.3 | region 1
        $ 6 ok
        > 7 store 1 KvCommit m at @1000.3 | region 2
        = committed @1000.3, not async
        $ 7 ok
        ",
    );
}

/// transactions.md §8.4: no timestamp, and both flags are gone.
#[test]
fn one_phase_falls_back_to_two() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 1pc async | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.2 | region 1
        $ 2 ok
        = committed @1000.2, not async, not in one phase
        ",
    );
}

/// transactions.md §22.24, peers.md D5: after a split, only the part with the primary.
#[test]
fn the_primary_names_its_secondaries_wherever_it_goes() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 async with d | region 1
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 2 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 async with d | region 1 retry
        > 3 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 async | region 3 retry
        $ 2 ok min @1000.2
        $ 3 ok min @1000.3
        > 4 store 1 KvCommit a primary at @1000.3 async | region 1
        > 5 store 1 KvCommit d at @1000.3 async | region 3
        = committed @1000.3 async
        $ 4 ok
        $ 5 ok
        ",
    );
}

/// transactions.md §22.23: over all parts, also after a split, and what is sent later asks for no less.
#[test]
fn the_largest_min_commit_ts_of_all_parts_counts() {
    story(
        Txn,
        TWO,
        "
        $ txn async
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 min @1000.2 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 min @1000.2 max @2900.0 async | region 2
        $ 1 ok min @1500.0
        $ 2 stale_command
        $ wait
        ~ 2ms: Backoff
        > 3 store 1 KvPrewrite m=2 @900.0 size 1 min @1000.2 max @2900.0 async | region 2 retry
        $ 3 ok min @1200.0
        > 4 store 1 KvCommit a primary at @1500.0 async | region 1
        > 5 store 1 KvCommit m at @1500.0 async | region 2
        = committed @1500.0 async
        $ 4 ok
        $ 5 ok
        ",
    );
}

/// transactions.md §22.23: MaxTimestampNotSynced.
#[test]
fn a_leader_that_does_not_know_the_largest_timestamp_is_waited_for() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ 1 max_ts_not_synced
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1 retry
        $ 2 ok min @1000.5
        > 3 store 1 KvCommit a primary at @1000.5 async | region 1
        = committed @1000.5 async
        $ 3 ok
        ",
    );
}

/// Own: see `plan.rs`. One phase is well, since it is one request.
#[test]
fn a_key_that_is_only_checked_rules_async_commit_out() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc
        $ commit @900.0 absent:a b=1
        > 1 store 1 KvPrewrite absent a b*=1 @900.0 size 2 min @1000.2 max @2900.0 1pc | region 1
        $ 1 ok one @1000.5
        = committed @1000.5 in one phase
        $ commit @900.0 absent:a m=1
        > 2 store 1 KvPrewrite absent a @900.0 size 1 min @1000.3 max @2900.0 | region 1
        > 3 store 1 KvPrewrite m*=1 @900.0 size 1 min @1000.3 max @2900.0 | region 2
        $ 2 ok
        $ 3 ok
        > 4 store 1 KvCommit m primary at @1000.3 | region 2
        $ 4 ok
        = op 2: committed @1000.3, not in one phase
        ",
    );
}

/// transactions.md §6.1: prewrite, commit and rollback.
#[test]
fn what_was_chosen_goes_with_each_request() {
    story(
        Txn,
        TWO,
        "
        $ txn high sync tag t group g source s origin 7 almost_full
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1 high sync tag t group g source s origin 7 almost_full
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1 high sync tag t group g source s origin 7 almost_full
        $ 2 ok
        = committed @1000.1
        $ commit @900.0 a=1
        > 3 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1 high sync tag t group g source s origin 7 almost_full
        $ 3 conflict a @950.0 @960.0
        > 4 store 1 KvBatchRollback a | region 1 high sync tag t group g source s
        = op 2: aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 4 ok
        $ txn low already_full
        $ commit @900.0 a=1
        > 5 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1 low already_full
        ",
    );
}

/// transactions.md §7.6; case OPT-01.
#[test]
fn a_commit_waits_until_pd_is_past_a_timestamp() {
    story(
        Txn,
        TWO,
        "
        $ txn after @1003.0
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        $ wait
        ~ 2ms: Backoff
        $ wait
        ~ 6ms: Backoff
        > 2 store 1 KvCommit a primary at @1006.3 | region 1
        $ 2 ok
        = committed @1006.3
        ",
    );
}

/// transactions.md §7.6: further ahead than the timeout, which is a second (case OPT-02).
#[test]
fn a_commit_that_would_wait_for_too_long_is_aborted_at_once() {
    story(
        Txn,
        TWO,
        "
        $ txn after @2002.0
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, CommitTsLag: PD is at 262144001, and the commit has to be after 524812288
        $ 2 ok
        ",
    );
}

/// transactions.md §7.6: «timeout=0 → CommitTSLag immediately».
#[test]
fn no_patience_at_all_fails_on_the_first_lag() {
    story(
        Txn,
        TWO,
        "
        $ txn after @1000.9 patience 0
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, CommitTsLag: PD is at 262144001, and the commit has to be after 262144009
        $ 2 ok
        ",
    );
}

/// transactions.md §7.6: the waits are 2, 4, 8 … ms, and no longer than the timeout in sum.
#[test]
fn a_commit_wait_that_runs_out() {
    story(
        Txn,
        TWO,
        "
        $ txn after @1015.0 patience 20
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ silence tso
        $ 1 ok
        > 2 PD Tso 1
        $ 2 @1000.5
        $ wait
        ~ 2ms: Backoff
        > 3 PD Tso 1
        $ 3 @1000.6
        $ wait
        ~ 6ms: Backoff
        > 4 PD Tso 1
        $ 4 @1000.7
        $ wait
        ~ 14ms: Backoff
        > 5 PD Tso 1
        $ 5 @1000.8
        $ wait
        ~ 30ms: Backoff
        > 6 PD Tso 1
        $ 6 @1000.9
        > 7 store 1 KvBatchRollback a | region 1
        = aborted, CommitTsLag: the timestamps of PD are behind the awaited one: PD is at 262144009, and the commit has to be after 266076160
        $ 7 ok
        ",
    );
}

/// transactions.md §7.2: with the wait, also where consistency is causal.
#[test]
fn an_async_commit_waits_before_its_prewrites() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal after @1003.0
        $ commit @900.0 a=1
        $ wait
        ~ 2ms: Backoff
        $ wait
        ~ 6ms: Backoff
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 ttl 3006 min @1006.4 max @2906.0 async | region 1
        $ 1 ok min @1008.0
        > 2 store 1 KvCommit a primary at @1008.0 async | region 1
        = committed @1008.0 async
        $ 2 ok
        ",
    );
}

/// transactions.md §7.1, §7.3: no async commit, and the primary is not committed.
#[test]
fn a_commit_timestamp_beyond_the_bound_aborts_before_the_primary() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc until @1000.0
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, CommitTsTooLarge: the commit timestamp 262144001 is beyond 262144000
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// Stricter than the reference (§9, notes).
#[test]
fn the_bound_holds_for_the_second_timestamp_too() {
    story(
        Txn,
        TWO,
        "
        $ txn until @1010.0
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ pass 20
        $ 2 expired a @1000.1 @1010.0
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, CommitTsTooLarge: the commit timestamp 267386882 is beyond 264765440
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.3, MaxTxnTimeUse.
#[test]
fn a_transaction_of_yesterday_is_not_committed_in_two_phases() {
    story(
        Txn,
        TWO,
        "
        $ txn open 86400000
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 ttl 86403000 | region 1
        $ pass 86400000
        $ 1 ok
        = aborted, TxnRetryable: the transaction has been open for a day: it takes too long
        > 2 store 1 KvBatchRollback a | region 1
        $ 2 ok
        ",
    );
}

/// transactions.md §5, §8.1; case AST-02.
#[test]
fn assertions_go_with_the_mutations_if_they_are_to_be_checked() {
    story(
        Txn,
        TWO,
        "
        $ txn strict
        $ commit @900.0 a=1~exist -b~exist c=2~absent
        > 1 store 1 KvPrewrite a*=1~exist -b~exist c=2~absent @900.0 size 3 strict | region 1
        $ 1 ok
        > 2 store 1 KvCommit a b c primary at @1000.1 | region 1
        $ 2 ok
        = committed @1000.1
        $ txn fast
        $ commit @900.0 a=1~exist
        > 3 store 1 KvPrewrite a*=1~exist @900.0 size 1 fast | region 1
        $ 3 ok
        > 4 store 1 KvCommit a primary at @1000.2 | region 1
        $ 4 ok
        = op 2: committed @1000.2
        $ txn
        $ commit @900.0 a=1~exist
        > 5 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        ",
    );
}

/// transactions.md §6; case AST-03: it withdraws nobody, and another error is told instead.
#[test]
fn an_assertion_that_fails_is_the_weakest_error() {
    story(
        Txn,
        TWO,
        "
        $ txn strict
        $ commit @900.0 a=1~absent m=2
        > 1 store 1 KvPrewrite a*=1~absent @900.0 size 1 strict | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 strict | region 2
        $ 1 assertion a
        $ 2 conflict m @950.0 @960.0
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 3 ok
        > 4 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// … and if there is no other, itself.
#[test]
fn an_assertion_that_fails_is_told_when_all_others_are_locked() {
    story(
        Txn,
        TWO,
        "
        $ txn strict
        $ commit @900.0 a=1~absent m=2
        > 1 store 1 KvPrewrite a*=1~absent @900.0 size 1 strict | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 strict | region 2
        $ 1 assertion a
        $ 2 ok
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, AssertionFailed: the key was believed to have no value, and has had one since 9
        $ 3 ok
        > 4 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §5: no async commit; prewritten all the same, and then undone.
#[test]
fn a_stashed_assertion_is_told_after_the_prewrite() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc stash a
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, AssertionFailed: the key was believed to have a value, and has none
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §5: «if prewrite fails its error wins».
#[test]
fn the_error_of_the_prewrite_is_told_instead_of_a_stashed_assertion() {
    story(
        Txn,
        TWO,
        "
        $ txn stash a primary a @950.0
        $ commit @900.0 ^a=1
        > 1 store 1 KvPrewrite ^a*=1 @900.0 size 1 as of @950.0 min @950.1 | region 1
        $ 1 abort PessimisticLockNotFound
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, Refused: PessimisticLockNotFound
        $ 2 ok
        ",
    );
}

/// transactions.md §8.3: policy NoResolve.
#[test]
fn locks_are_conflicts_where_nobody_wants_to_resolve() {
    story(
        Txn,
        TWO,
        "
        $ txn no_resolve
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary z of @800.0
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 209715200 was first
        $ 2 ok
        ",
    );
}

/// transactions.md §8.3, §22.37.
#[test]
fn an_existing_key_that_nobody_asked_about_is_no_duplicate() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 exists a
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, Protocol: the server sent what it cannot: a key exists of which nobody asked that it does not: the key exists
        $ 2 ok
        ",
    );
}

/// peers.md D6; transactions.md §8.2: on all later requests for these keys, also after a lock.
#[test]
fn d6_a_prewrite_says_retry_once_an_attempt_was_not_answered() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 stale_command
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1 retry
        $ 2 locked a primary z of @800.0 ttl 100
        > 3 store 1 KvCheckTxnStatus z of @800.0 for @900.0 now @1002.1 | region 2
        $ 3 rolled_back
        > 4 store 1 KvResolveLock a of @800.0 rolled back | region 1
        $ 4 ok
        > 5 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1 retry
        $ 5 ok
        > 6 store 1 KvCommit a primary at @1002.2 | region 1
        $ 6 ok
        = committed @1002.2
        ",
    );
}

/// transactions.md §12.2: an optimistic transaction of more than 32 MiB is kept alive once its primary
/// is there, until the outcome is known.
#[test]
fn a_very_large_transaction_is_kept_alive_until_it_is_committed() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=#34000000 m=1
        > 1 store 1 KvPrewrite a*=xxxxxxxxxxxx…(34000000 bytes) @900.0 size 1 ttl 20000 | region 1
        > 2 store 1 KvPrewrite m=1 @900.0 size 1 ttl 20000 | region 2
        $ 2 ok
        $ 1 ok
        > 3 store 1 KvCommit a primary at @1000.1 | region 1
        $ wait
        ~ 10s: Heartbeat
        > 4 store 1 KvTxnHeartBeat a of @900.0 ttl 30100 | region 1
        $ 4 ok
        $ wait
        ~ 20s: Heartbeat
        > 5 store 1 KvTxnHeartBeat a of @900.0 ttl 40100 | region 1
        $ 3 ok
        x 5
        > 6 store 1 KvCommit m at @1000.1 | region 2
        = committed @1000.1
        $ 5 ok
        $ 6 ok
        $ wait
        ~ nothing to wait for
        $ idle
        ~ true
        ",
    );
}
