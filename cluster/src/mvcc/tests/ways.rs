//! Async commit and one-phase commit in a prewrite, row by row: transactions.md §20.3, §8.5, and
//! what becomes of the locks: §20.1, §20.4; cases.md ASY-04, ASY-09, ASY-14, OPC-01, OPC-02.

use anatase_proto::kvrpcpb::{
    Action, BatchGetRequest, CommitRequest, CommitRole, Context, GetRequest, IsolationLevel, Op,
    PrewriteResponse, ScanLockRequest, ScanRequest, TxnHeartBeatRequest, write_conflict::Reason,
};

use crate::{
    Cluster, ClusterConfig, LockKind, WriteKind,
    testing::{in_async, in_one_phase, key, small, text},
    timestamp::compose,
};

/// Both timestamps of an answer without errors.
fn told(response: PrewriteResponse) -> (u64, u64) {
    assert_eq!((response.errors, response.region_error), (vec![], None));
    (response.min_commit_ts, response.one_pc_commit_ts)
}

const PUT: &[(Op, &str, &str)] = &[(Op::Put, "k", "v")];

// §20.3: "Async/1PC ts"

#[test]
fn the_timestamp_is_above_all_reads_and_no_more_than_allowed() {
    // max_ts of the store, start, min and max of the request; the timestamp
    let rows = [
        (0, 10, 0, 0, 11),
        (0, 10, 11, 0, 11),
        (0, 10, 30, 0, 30),
        (20, 10, 11, 0, 21),
        (20, 10, 11, 21, 21),
        (20, 10, 11, 20, 0),
        (0, 10, 30, 29, 0),
        (0, 10, 30, 30, 30),
        (9, 10, 0, 10, 0),
    ];
    for (max_ts, start_ts, min, max, expected) in rows {
        let row = (max_ts, start_ts, min, max);
        let asked = |asynchronous: bool, one_phase: bool| {
            let mut cluster = small();
            cluster.raise_max_ts(1, max_ts);
            let response = cluster.prewritten(start_ts, PUT, |request| {
                request.use_async_commit = asynchronous;
                request.try_one_pc = one_phase;
                request.min_commit_ts = min;
                request.max_commit_ts = max;
            });
            (told(response), cluster)
        };

        let (answer, cluster) = asked(true, false);
        assert_eq!(answer, (expected, 0), "{row:?}");
        let lock = &cluster.locks()[0];
        assert_eq!(lock.use_async_commit, expected != 0, "{row:?}");
        let minimum = if expected == 0 { min } else { expected };
        assert_eq!(lock.min_commit_ts, minimum, "fallen back: as the client said; {row:?}");

        for both in [false, true] {
            let (answer, cluster) = asked(both, true);
            assert_eq!(answer, (if both { expected } else { 0 }, expected), "{row:?}");
            if expected == 0 {
                assert_eq!(cluster.locks()[0].min_commit_ts, min);
                assert!(!cluster.locks()[0].use_async_commit && cluster.writes("k").is_empty());
            } else {
                assert_eq!(cluster.locks(), []);
                assert_eq!(cluster.writes("k")[0].commit_ts, expected);
            }
        }
    }
}

#[test]
fn the_end_of_time_breaks_nothing() {
    for one_phase in [false, true] {
        let mut cluster = small();
        let response = cluster.prewritten(u64::MAX, PUT, |request| {
            request.use_async_commit = true;
            request.try_one_pc = one_phase;
            request.min_commit_ts = u64::MAX;
        });
        assert_eq!(response.min_commit_ts, u64::MAX);
    }
}

#[test]
fn every_read_raises_max_ts_but_one_of_the_latest_and_a_stale_one() {
    let mut cluster = ClusterConfig::default().build();
    for _ in 0..9 {
        cluster.timestamp();
    }
    let now = cluster.timestamp();
    let max_ts = |cluster: &Cluster| cluster.store(1).unwrap().max_ts;
    let before = max_ts(&cluster);
    cluster.read("k", u64::MAX).unwrap();
    assert_eq!(max_ts(&cluster), before, "ASY-14");
    cluster.read("k", now - 5).unwrap();
    assert_eq!(max_ts(&cluster), now - 5);
    let lower = cluster.read("k", now - 9);
    assert_eq!((lower, max_ts(&cluster)), (Ok(None), now - 5));
    // On a replica: the leader remembers it.
    let region = cluster.region_of(b"k").unwrap().id;
    let mut context = cluster.context_for(region);
    context.replica_read = true;
    context.peer.as_mut().unwrap().store_id = 2;
    context.peer.as_mut().unwrap().id = cluster.peer_on(region, 2).unwrap();
    let request = GetRequest {
        context: Some(Box::new(context)),
        key: key("k"),
        version: now - 3,
        need_commit_ts: false,
    };
    assert_eq!(cluster.call(2, request).result.unwrap().region_error, None);
    assert_eq!(max_ts(&cluster), now - 3);
    // Every kind of read does.
    let mut cluster = small();
    let max_ts = |cluster: &Cluster| cluster.store(1).unwrap().max_ts;
    cluster.ask("k", |context| ScanRequest { context, version: 5, ..Default::default() });
    assert_eq!(max_ts(&cluster), 5);
    cluster.ask("k", |context| BatchGetRequest { context, version: 6, ..Default::default() });
    assert_eq!(max_ts(&cluster), 6);
    cluster.ask("k", |context| ScanLockRequest { context, max_version: 7, ..Default::default() });
    assert_eq!(max_ts(&cluster), 7);
    let rc = IsolationLevel::Rc as i32;
    assert_eq!(cluster.read_with("k", 8, |context| context.isolation_level = rc), Ok(None));
    assert_eq!(max_ts(&cluster), 8);
    let (start, stale) = (9, |context: &mut Context| context.stale_read = true);
    cluster.ask("k", |mut context| {
        stale(context.as_mut().unwrap());
        GetRequest { context, key: key("k"), version: start, need_commit_ts: false }
    });
    assert_eq!(max_ts(&cluster), 8, "a stale read does not");
    // "Insert/CheckNotExists update max_ts to start_ts"
    let now = 100;
    for (op, start_ts) in [(Op::Insert, now - 2), (Op::CheckNotExists, now - 1), (Op::Put, now)] {
        let name = format!("{op:?}");
        assert_eq!(cluster.prewrite(start_ts, &[(op, &name, "v")]), []);
        let raised = if op == Op::Put { now - 1 } else { start_ts };
        assert_eq!(max_ts(&cluster), raised);
    }
}

// §20.3: what is written

#[test]
fn the_primary_names_the_other_keys_and_everybody_sees_it() {
    let mut cluster = small();
    let mutations = [(Op::Put, "p", "v"), (Op::Del, "s", ""), (Op::Lock, "t", "")];
    let answer = told(cluster.prewritten(10, &mutations, in_async(&["s", "t", "far"])));
    assert_eq!(answer, (11, 0));
    let locks = cluster.locks_of(10);
    let kinds: Vec<_> = locks.iter().map(|lock| (text(&lock.key), lock.kind)).collect();
    let expected = [("p", LockKind::Put), ("s", LockKind::Delete), ("t", LockKind::Lock)]
        .map(|(name, kind)| (name.to_owned(), kind));
    assert_eq!(kinds, expected);
    assert!(locks.iter().all(|lock| lock.use_async_commit && lock.min_commit_ts == 11));
    assert_eq!(locks[0].secondaries, ["s", "t", "far"]);
    assert!(locks[1].secondaries.is_empty() && locks[2].secondaries.is_empty());

    let scanned = cluster.ask("", |context| ScanLockRequest {
        context,
        max_version: 10,
        ..Default::default()
    });
    let status = cluster.status("p", 10, |_| {}).lock_info.unwrap();
    let checked = cluster.secondaries(10, &["s", "t"]).locks;
    assert_eq!(scanned.locks[0], *status);
    assert_eq!(scanned.locks[1..], checked);
    assert_eq!(
        (text(&status.key), text(&status.primary_lock), status.lock_version, status.lock_ttl),
        ("p".into(), "p".into(), 10, 3000)
    );
    assert_eq!((status.txn_size, status.lock_type(), status.min_commit_ts), (3, Op::Put, 11));
    assert!(status.use_async_commit);
    assert_eq!(status.secondaries, ["s", "t", "far"]);
}

#[test]
fn a_request_without_the_primary_makes_locks_without_secondaries() {
    let mut cluster = small();
    let answer = told(cluster.prewritten(10, &[(Op::Put, "s", "v")], |request| {
        in_async(&[])(request);
        request.primary_lock = key("p");
    }));
    assert_eq!(answer, (11, 0));
    let lock = &cluster.locks()[0];
    assert!(lock.use_async_commit && lock.secondaries.is_empty());
}

#[test]
fn one_phase_leaves_records_of_each_kind_and_no_lock() {
    let mut cluster = small();
    cluster.put(1, 2, "d", "old");
    cluster.read("p", 20).unwrap();
    let mutations = [
        (Op::Put, "p", "v"),
        (Op::Del, "d", ""),
        (Op::Lock, "l", ""),
        (Op::Insert, "i", "w"),
        (Op::CheckNotExists, "c", ""),
    ];
    assert_eq!(told(cluster.prewritten(10, &mutations, in_one_phase)), (0, 21));
    assert_eq!(cluster.locks(), []);
    let of =
        |name: &str| cluster.writes(name).first().map(|it| (it.commit_ts, it.start_ts, it.kind));
    assert_eq!(of("p"), Some((21, 10, WriteKind::Put)));
    assert_eq!(of("d"), Some((21, 10, WriteKind::Delete)));
    assert_eq!(of("l"), Some((21, 10, WriteKind::Lock)));
    assert_eq!(of("i"), Some((21, 10, WriteKind::Put)));
    assert_eq!(of("c"), None);
    assert_eq!(cluster.read("p", 20), Ok(None), "OPC-02");
    assert_eq!(cluster.read("p", 21), Ok(Some("v".into())));
    assert_eq!(cluster.read("d", 21), Ok(None));
    assert_eq!(cluster.commit(10, 30, &["p"]), None, "committed, whatever the timestamp");
    assert!(cluster.roll_back(10, &["p"]).unwrap().abort.contains("already committed"));
}

#[test]
fn keys_that_are_only_checked_have_a_timestamp_but_not_above_reads() {
    for (min, expected) in [(0, 11), (15, 15)] {
        let mut cluster = small();
        cluster.raise_max_ts(1, 50);
        let answer = told(cluster.prewritten(10, &[(Op::CheckNotExists, "c", "")], |request| {
            in_async(&[])(request);
            request.min_commit_ts = min;
            // Not compared with it either.
            request.max_commit_ts = 9;
        }));
        assert_eq!(answer, (expected, 0));
        assert_eq!(cluster.locks(), []);
    }
}

#[test]
fn one_phase_commit_of_nothing_falls_back() {
    let mut cluster = small();
    let response = cluster.prewritten(10, PUT, |request| {
        in_one_phase(request);
        request.mutations.clear();
    });
    assert_eq!(told(response), (0, 0));
}

#[test]
fn one_key_that_fails_and_neither_way_writes_anything() {
    let mut cluster = small();
    cluster.put(1, 20, "newer", "v");
    cluster.prewrite(5, &[(Op::Put, "locked", "v")]);
    for one_phase in [false, true] {
        for bad in ["newer", "locked"] {
            let mutations = [(Op::Put, "a", "v"), (Op::Put, bad, "v"), (Op::Put, "z", "v")];
            let response = cluster.prewritten(10, &mutations, |request| {
                request.use_async_commit = true;
                request.try_one_pc = one_phase;
            });
            assert_eq!(response.errors.len(), 1);
            assert_eq!((response.min_commit_ts, response.one_pc_commit_ts), (0, 0));
            assert_eq!(cluster.locked_keys(), ["locked"]);
            assert!(cluster.writes("a").is_empty() && cluster.writes("z").is_empty());
        }
    }
}

// §20.3: "Own prewrite lock present"

#[test]
fn a_copy_is_told_what_the_first_was_and_an_answer_is_the_largest_of_its_keys() {
    let mut cluster = small();
    let mutations = [(Op::Put, "a", "v"), (Op::Put, "b", "v")];
    let send = |cluster: &mut Cluster, of: &[(Op, &str, &str)]| {
        told(cluster.prewritten(10, of, in_async(&["b"])))
    };
    assert_eq!(send(&mut cluster, &mutations[..1]), (11, 0));
    cluster.raise_max_ts(1, 50);
    let locks = cluster.locks();
    assert_eq!(send(&mut cluster, &mutations[..1]), (11, 0), "not computed again");
    assert_eq!(cluster.locks(), locks);
    assert_eq!(send(&mut cluster, &mutations), (51, 0));
    let minima: Vec<_> = cluster.locks().iter().map(|lock| lock.min_commit_ts).collect();
    assert_eq!(minima, [11, 51]);
}

#[test]
fn a_copy_that_meets_a_lock_that_fell_back_falls_back_as_a_whole() {
    let mutations = [(Op::Put, "a", "v"), (Op::Put, "b", "v"), (Op::Put, "c", "v")];
    for (both, one_phase) in [(false, false), (false, true), (true, true)] {
        let mut cluster = small();
        cluster.prewrite_with(10, &mutations[1..2], |request| request.primary_lock = key("a"));
        let asynchronous = both || !one_phase;
        let answer = told(cluster.prewritten(10, &mutations, |request| {
            request.use_async_commit = asynchronous;
            request.try_one_pc = one_phase;
            request.secondaries = vec![key("b"), key("c")];
        }));
        assert_eq!(answer, (0, 0));
        let locks = cluster.locks();
        let kept: Vec<_> = locks.iter().map(|lock| lock.use_async_commit).collect();
        assert_eq!(kept, [asynchronous, false, false], "{both} {one_phase}");
        assert!(cluster.writes("a").is_empty(), "nothing is committed");
        // Committed in two phases all the same.
        assert_eq!(cluster.commit(10, 20, &["a", "b", "c"]), None);
    }
}

// §8.5

#[test]
fn a_late_copy_of_what_is_committed_is_told_when() {
    let rows = [(true, false, (20, 0)), (false, true, (0, 20)), (true, true, (20, 20))];
    for (asynchronous, one_phase, expected) in rows {
        let late = |cluster: &mut Cluster| {
            told(cluster.prewritten(10, &[(Op::Put, "a", "v"), (Op::Put, "k", "v")], |request| {
                request.use_async_commit = asynchronous;
                request.try_one_pc = one_phase;
                request.max_commit_ts = 15;
            }))
        };
        let mut cluster = small();
        cluster.put(10, 20, "k", "v");
        assert_eq!(late(&mut cluster), expected, "conflict with itself");
        assert!(cluster.locks().is_empty() && cluster.writes("a").is_empty());
        cluster.put(25, 26, "k", "w");
        assert_eq!(late(&mut cluster), expected, "conflict with a later one");
        cluster.prewrite(30, &[(Op::Put, "k", "x")]);
        assert_eq!(late(&mut cluster), expected, "another's lock");
        assert_eq!(cluster.locked_keys(), ["k"]);
    }
}

#[test]
fn a_late_copy_does_not_begin_anew_because_its_timestamp_is_too_large() {
    for one_phase in [false, true] {
        let mut cluster = small();
        cluster.put(10, 20, "k", "v");
        cluster.raise_max_ts(1, 50);
        let answer = told(cluster.prewritten(10, PUT, |request| {
            request.use_async_commit = !one_phase;
            request.try_one_pc = one_phase;
            request.max_commit_ts = 40;
            // Otherwise the record is met before any timestamp is computed.
            request.skip_constraint_check = true;
        }));
        assert_eq!(answer, if one_phase { (0, 20) } else { (20, 0) });
        assert_eq!(cluster.locks(), []);
    }
}

#[test]
fn what_was_rolled_back_stays_so_in_every_way() {
    for one_phase in [false, true] {
        let mut cluster = small();
        cluster.roll_back(10, &["k"]);
        let response = cluster.prewritten(10, PUT, |request| {
            request.use_async_commit = true;
            request.try_one_pc = one_phase;
        });
        let conflict = response.errors[0].conflict.as_ref().unwrap();
        assert_eq!(conflict.reason(), Reason::SelfRolledBack);
    }
}

/// Whether a request is a retry makes no difference to an optimistic one: its checks are never
/// skipped (§20.3, "Pessimistic txn, un-locked key").
#[test]
fn a_retry_of_an_optimistic_prewrite_is_checked_like_any_other() {
    for retry in [false, true] {
        let mut cluster = small();
        cluster.put(10, 20, "k", "v");
        cluster.put(21, 22, "l", "v");
        let mut send = |start_version, name: &str| {
            let mutation =
                anatase_proto::kvrpcpb::Mutation { key: key(name), ..Default::default() };
            cluster.ask(name, |mut context| {
                context.as_mut().unwrap().is_retry_request = retry;
                anatase_proto::kvrpcpb::PrewriteRequest {
                    context,
                    mutations: vec![mutation],
                    primary_lock: key(name),
                    start_version,
                    use_async_commit: true,
                    ..Default::default()
                }
            })
        };
        assert_eq!(told(send(10, "k")), (20, 0));
        assert_eq!(send(15, "l").errors[0].conflict.as_ref().unwrap().reason(), Reason::Optimistic);
    }
}

// §20.1: "async-commit lock", and its fall-back

fn expiring() -> (Cluster, u64) {
    let mut cluster = small();
    let start_ts = compose(1000, 0);
    let mutations = [(Op::Put, "p", "v"), (Op::Put, "s", "v")];
    told(cluster.prewritten(start_ts, &mutations, in_async(&["s"])));
    (cluster, start_ts)
}

#[test]
fn an_async_primary_is_neither_rolled_back_nor_pushed() {
    let (mut cluster, start_ts) = expiring();
    for current_ts in [compose(2000, 0), compose(4001, 0), u64::MAX] {
        for caller in [0, compose(3000, 0), u64::MAX] {
            let locks = cluster.locks();
            let status = cluster.status("p", start_ts, |request| {
                (request.caller_start_ts, request.current_ts) = (caller, current_ts);
                request.rollback_if_not_exist = true;
            });
            assert_eq!((status.error.clone(), status.action()), (None, Action::NoAction));
            assert_eq!((status.lock_ttl, status.commit_version), (3000, 0));
            let info = status.lock_info.unwrap();
            assert_eq!(
                (&info.secondaries[..], info.min_commit_ts),
                (&[key("s")][..], start_ts + 1)
            );
            assert_eq!(cluster.locks(), locks);
        }
    }
    let error = cluster.status("s", start_ts, |_| {}).error.unwrap();
    assert!(error.primary_mismatch.is_some(), "looked at first");
}

#[test]
fn force_sync_commit_judges_an_async_primary_as_any_other() {
    let (cluster, start_ts) = expiring();
    let reader = compose(2000, 0);
    let ask = |caller, current_ts| {
        let mut cluster = cluster.clone();
        let status = cluster.status("p", start_ts, |request| {
            (request.caller_start_ts, request.current_ts) = (caller, current_ts);
            request.force_sync_commit = true;
        });
        (status.action(), status.lock_ttl, cluster.locked_keys().len())
    };
    assert_eq!(ask(0, compose(4000, 0)), (Action::NoAction, 3000, 2));
    assert_eq!(ask(reader, reader), (Action::MinCommitTsPushed, 3000, 2));
    assert_eq!(ask(0, compose(4001, 0)), (Action::TtlExpireRollback, 0, 1));
}

#[test]
fn heartbeats_lengthen_an_async_primary_and_do_not_move_its_minimum() {
    let (mut cluster, start_ts) = expiring();
    let response = cluster.ask("p", |context| TxnHeartBeatRequest {
        context,
        primary_lock: key("p"),
        start_version: start_ts,
        advise_lock_ttl: 9000,
        min_commit_ts: start_ts + 500,
        ..Default::default()
    });
    assert_eq!((response.error, response.lock_ttl), (None, 9000));
    assert_eq!(cluster.locks()[0].min_commit_ts, start_ts + 1);
}

// §20.4

#[test]
fn an_async_commit_is_committed_at_its_minimum_and_not_below() {
    for (role, use_async_commit) in [(CommitRole::Primary, true), (CommitRole::Unknown, false)] {
        let mut cluster = small();
        cluster.raise_max_ts(1, 50);
        let mutations = [(Op::Put, "p", "v"), (Op::Put, "s", "w")];
        assert_eq!(told(cluster.prewritten(10, &mutations, in_async(&["s"]))), (51, 0));
        let mut commit = |commit_version| {
            cluster.ask("p", |context| CommitRequest {
                context,
                start_version: 10,
                keys: vec![key("p"), key("s")],
                commit_version,
                commit_role: role as i32,
                primary_key: key("p"),
                use_async_commit,
                ..Default::default()
            })
        };
        let expired = commit(50).error.unwrap().commit_ts_expired.unwrap();
        assert_eq!((expired.attempted_commit_ts, expired.min_commit_ts), (50, 51));
        assert_eq!((commit(51).error, commit(51).error), (None, None));
        assert_eq!(cluster.read("s", 51), Ok(Some("w".into())));
        assert_eq!(cluster.read("s", 50), Ok(None));
    }
}

#[test]
fn an_async_lock_blocks_reads_from_its_minimum_on_and_those_of_the_latest() {
    let mut cluster = small();
    cluster.put(1, 2, "p", "old");
    cluster.read("p", 50).unwrap();
    told(cluster.prewritten(10, &[(Op::Put, "p", "new")], in_async(&[])));
    assert_eq!(cluster.read("p", 50), Ok(Some("old".into())));
    assert!(cluster.read("p", 51).unwrap_err().locked.unwrap().use_async_commit);
    let latest = cluster.read("p", u64::MAX);
    assert!(latest.unwrap_err().locked.is_some(), "ASY-14: it may be committed");
    let committed = cluster.read_with("p", u64::MAX, |context| context.committed_locks = vec![10]);
    assert_eq!(committed, Ok(Some("new".into())));
    let resolved = cluster.read_with("p", 60, |context| context.resolved_locks = vec![10]);
    assert_eq!(resolved, Ok(Some("old".into())));
}

#[test]
fn a_replica_does_not_read_past_the_lock_of_a_primary() {
    let mut cluster = ClusterConfig::default().build();
    cluster.put(1, 2, "p", "old");
    cluster.prewrite(10, &[(Op::Put, "p", "new")]);
    let region = cluster.region_of(b"p").unwrap().id;
    let mut get = |store, replica_read| {
        let mut context = cluster.context_for(region);
        let peer = context.peer.as_mut().unwrap();
        (peer.store_id, peer.id) = (store, cluster.peer_on(region, store).unwrap());
        context.replica_read = replica_read;
        let request = GetRequest {
            context: Some(Box::new(context)),
            key: key("p"),
            version: u64::MAX,
            need_commit_ts: false,
        };
        cluster.call(store, request).result.unwrap().error.is_some()
    };
    assert_eq!((get(1, false), get(2, true)), (false, true));
}

/// A store's own timestamp may be another transaction's start. If that one was rolled back on the
/// key, the record that takes its place still says so.
#[test]
fn a_commit_at_the_start_of_a_rolled_back_transaction_keeps_the_rollback() {
    let by_status = |cluster: &mut Cluster| {
        let status = cluster.status("k", 20, |request| request.rollback_if_not_exist = true);
        assert_eq!(status.action(), Action::LockNotExistRollback);
    };
    let by_secondaries = |cluster: &mut Cluster| {
        assert_eq!(cluster.secondaries(20, &["k"]).locks, []);
    };
    let ways: [&dyn Fn(&mut Cluster); 2] = [&by_status, &by_secondaries];
    for roll_back in ways {
        for (minimum, commit_ts, kept) in [(20, 20, true), (11, 20, true), (11, 21, false)] {
            let mut cluster = small();
            told(cluster.prewritten(10, PUT, |request| {
                in_async(&[])(request);
                request.min_commit_ts = minimum;
            }));
            roll_back(&mut cluster);
            assert_eq!(cluster.commit(10, commit_ts, &["k"]), None);
            let debug = cluster.writes("k");
            assert_eq!(debug.len(), if kept { 1 } else { 2 }, "in the place of the rollback");
            // Either way it is known, and the late prewrite fails.
            let errors = cluster.prewrite(20, &[(Op::Put, "k", "late")]);
            let reason = errors[0].conflict.as_ref().unwrap().reason();
            let expected = if kept { Reason::SelfRolledBack } else { Reason::Optimistic };
            assert_eq!(reason, expected);
            assert_eq!(cluster.status("k", 20, |_| {}).error, None, "known to be rolled back");
        }
    }
}

#[test]
fn only_the_lock_of_an_async_commit_that_may_come_to_that_is_marked() {
    let marked = |asynchronous: bool, minimum| {
        let mut cluster = small();
        cluster.prewritten(10, PUT, |request| {
            request.use_async_commit = asynchronous;
            request.min_commit_ts = minimum;
        });
        for _ in 0..2 {
            cluster.secondaries(20, &["k"]);
        }
        let by_key = cluster.ask("k", |context| anatase_proto::kvrpcpb::MvccGetByKeyRequest {
            context,
            key: key("k"),
        });
        by_key.info.unwrap().lock.unwrap().rollback_ts
    };
    assert_eq!(marked(true, 20), [20], "once");
    assert_eq!(marked(true, 21), [0; 0], "it is committed above");
    assert_eq!(marked(false, 20), [0; 0], "PD gives a timestamp once");
}
