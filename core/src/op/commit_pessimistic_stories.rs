//! Commits of pessimistic transactions, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// transactions.md §8.1, §22.27: actions and constraints for each key, the primary that the locks name, and no
/// commit before `for_update_ts`.
#[test]
fn a_pessimistic_prewrite_says_what_is_locked() {
    story(
        Txn,
        TWO,
        "
        $ txn primary m @950.0
        $ commit @900.0 a=1 ^b=2 ^@940.0:m=3 ?n=4
        > 1 store 1 KvPrewrite a=1 ^b=2 @900.0 size 2 as of @950.0 min @950.1 | region 1
        > 2 store 1 KvPrewrite ^@940.0:m*=3 ?n=4 @900.0 size 2 as of @950.0 min @950.1 | region 2
        $ 1 ok
        $ 2 ok
        > 3 store 1 KvCommit m n primary at @1000.1 | region 2
        $ 3 ok
        > 4 store 1 KvCommit a b at @1000.1 | region 1
        = committed @1000.1
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §6: the primary's batch first, alone; here the middle one of three regions.
#[test]
fn d9_the_primary_is_committed_first_wherever_it_stands() {
    story(
        Txn,
        TWO,
        "
        $ split 2 at p as 3
        $ txn primary m @950.0
        $ commit @900.0 a=1 ^m=2 z=3
        > 1 store 1 KvPrewrite a=1 @900.0 size 1 as of @950.0 min @950.1 | region 1
        > 2 store 1 KvPrewrite ^m*=2 @900.0 size 1 as of @950.0 min @950.1 | region 2
        > 3 store 1 KvPrewrite z=3 @900.0 size 1 as of @950.0 min @950.1 | region 3
        $ 1 ok
        $ 2 ok
        $ 3 ok
        > 4 store 1 KvCommit m primary at @1000.1 | region 2
        $ 4 ok
        > 5 store 1 KvCommit z at @1000.1 | region 3
        > 6 store 1 KvCommit a at @1000.1 | region 1
        = committed @1000.1
        $ 5 ok
        $ 6 ok
        $ idle
        ~ true
        ",
    );
}

/// … and in the middle of a region, where every key is a batch of its own.
#[test]
fn the_primary_is_committed_first_among_the_batches_of_its_region() {
    story(
        Txn,
        TWO,
        "
        $ set txn_batch 1
        $ txn primary b @950.0
        $ commit @900.0 a=1 ^b=2 c=3
        > 1 store 1 KvPrewrite a=1 @900.0 size 3 as of @950.0 min @950.1 | region 1
        > 2 store 1 KvPrewrite ^b*=2 @900.0 size 3 as of @950.0 min @950.1 | region 1
        > 3 store 1 KvPrewrite c=3 @900.0 size 3 as of @950.0 min @950.1 | region 1
        $ 1 ok
        $ 2 ok
        $ 3 ok
        > 4 store 1 KvCommit b primary at @1000.1 | region 1
        $ 4 ok
        > 5 store 1 KvCommit a at @1000.1 | region 1
        > 6 store 1 KvCommit c at @1000.1 | region 1
        = committed @1000.1
        $ 5 ok
        $ 6 ok
        $ idle
        ~ true
        ",
    );
}

/// The primary is in the right half of a region that splits.
#[test]
fn the_primary_moves_while_its_commit_is_out() {
    story(
        Txn,
        TWO,
        "
        $ txn primary d @950.0
        $ commit @900.0 a=1 ^d=2
        > 1 store 1 KvPrewrite a=1 ^d*=2 @900.0 size 2 as of @950.0 min @950.1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a d primary at @1000.1 | region 1
        $ split 1 at d as 3
        $ 2 epoch 1 3
        > 3 store 1 KvCommit d primary at @1000.1 | region 3 retry
        $ 3 ok
        > 4 store 1 KvCommit a at @1000.1 | region 1 retry
        = committed @1000.1
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §8.3, §7.4: BatchRollback of all keys, the primary first; case PES: the lock was lost.
#[test]
fn a_lock_that_is_lost_aborts_and_everything_is_rolled_back() {
    story(
        Txn,
        TWO,
        "
        $ txn primary b @950.0
        $ commit @900.0 a=1 ^b=2 ^m=3
        > 1 store 1 KvPrewrite a=1 ^b*=2 @900.0 size 2 as of @950.0 min @950.1 | region 1
        > 2 store 1 KvPrewrite ^m=3 @900.0 size 1 as of @950.0 min @950.1 | region 2
        $ 1 abort PessimisticLockNotFound
        x 2
        > 3 store 1 KvBatchRollback b | region 1
        = aborted, Refused: PessimisticLockNotFound
        $ 3 ok
        > 4 store 1 KvBatchRollback a | region 1
        > 5 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ 5 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §22.35: it is resolved.
#[test]
fn a_younger_lock_is_no_conflict_for_a_pessimistic_transaction() {
    story(
        Txn,
        TWO,
        "
        $ txn primary a @950.0
        $ commit @900.0 ^a=1 b=2
        > 1 store 1 KvPrewrite ^a*=1 b=2 @900.0 size 2 as of @950.0 min @950.1 | region 1
        $ 1 locked b primary z of @990.0 ttl 100
        > 2 store 1 KvCheckTxnStatus z of @990.0 for @900.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock b of @990.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite ^a*=1 b=2 @900.0 size 2 as of @950.0 min @950.1 | region 1
        $ 4 ok
        > 5 store 1 KvCommit a b primary at @1000.2 | region 1
        $ 5 ok
        = committed @1000.2
        ",
    );
}

/// transactions.md §8.1, §22.12: the locks outlive the last possible commit timestamp.
#[test]
fn an_async_commit_of_a_pessimistic_transaction() {
    story(
        Txn,
        TWO,
        "
        $ txn async primary a @950.0 open 100
        $ commit @900.0 ^a=1
        > 1 store 1 KvPrewrite ^a*=1 @900.0 size 1 ttl 3100 as of @950.0 min @1000.2 max @3000.0 async | region 1
        $ 1 ok min @1000.5
        > 2 store 1 KvCommit a primary at @1000.5 async | region 1
        = committed @1000.5 async
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §8.1: `for_update_ts` + 1 where that is more.
#[test]
fn the_earliest_commit_is_after_the_latest_lock() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc primary a @2000.0
        $ commit @900.0 ^a=1
        > 1 store 1 KvPrewrite ^a*=1 @900.0 size 1 as of @2000.0 min @2000.1 max @2900.0 1pc | region 1
        $ 1 ok one @2000.5
        = committed @2000.5 in one phase
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.4: «PessimisticRollback of mutations if pessimistic».
#[test]
fn one_phase_that_fails_releases_the_pessimistic_locks() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal primary a @950.0
        $ commit @900.0 ^a=1 b=2 ^c=3
        > 1 store 1 KvPrewrite ^a*=1 b=2 ^c=3 @900.0 size 3 as of @950.0 min @950.1 max @2900.0 1pc | region 1
        $ 1 conflict b @960.0 @970.0
        > 2 store 1 KvPessimisticRollback a c of @900.0 until @950.0 | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 251658240 was first
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// Nothing was prewritten; the locks of before are given back.
#[test]
fn a_deadline_before_the_prewrite_releases_the_pessimistic_locks() {
    story(
        Txn,
        TWO,
        "
        $ txn async primary a @950.0
        $ silence tso
        $ commit @900.0 ^a=1 ^m=2
        > 1 PD Tso 1
        $ pass 60000
        $ wait
        ~ 3s: AttemptTimeout
        x 1
        = aborted, PdUnavailable: no PD leader found through pd:1: timestamps from PD at http://pd:1: no answer in time
        > 2 store 1 KvPessimisticRollback a of @900.0 until @950.0 | region 1
        > 3 store 1 KvPessimisticRollback m of @900.0 until @950.0 | region 2
        $ 2 ok
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.2: as of the start.
#[test]
fn a_check_put_off_is_made_by_the_prewrite() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 ?!a=1
        > 1 store 1 KvPrewrite ?a*!=1 @900.0 size 1 as of @900.0 | region 1
        $ 1 conflict a @950.0 @960.0
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 2 ok
        ",
    );
}

/// peers.md D6; transactions.md §20.3: the store then checks keys without lock, too.
#[test]
fn a_lost_pessimistic_prewrite_is_sent_again_as_a_retry() {
    story(
        Txn,
        TWO,
        "
        $ txn primary a @950.0
        $ commit @900.0 ^a=1 b=2
        > 1 store 1 KvPrewrite ^a*=1 b=2 @900.0 size 2 as of @950.0 min @950.1 | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPrewrite ^a*=1 b=2 @900.0 size 2 as of @950.0 min @950.1 | region 1 retry
        $ 2 not_leader 1
        > 3 store 1 KvPrewrite ^a*=1 b=2 @900.0 size 2 as of @950.0 min @950.1 | region 1 retry
        $ 3 ok
        > 4 store 1 KvCommit a b primary at @1088.1 | region 1
        $ 4 ok
        = committed @1088.1
        ",
    );
}

/// peers.md D9: told, and nothing panics.
#[test]
fn a_plan_without_its_primary_is_refused() {
    story(
        Txn,
        TWO,
        "
        $ txn primary z @950.0
        $ commit @900.0 ^a=1
        = InvalidArgument: the primary is not among the keys to be locked
        $ idle
        ~ true
        ",
    );
}
