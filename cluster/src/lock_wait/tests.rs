//! Waiting for locks, row by row: transactions.md §13, §14, §20.4; cases.md LCK, MOC-16, PRP-16.

use std::time::Duration;

use anatase_proto::{
    kvrpcpb::{
        GetLockWaitInfoRequest, KeyError, Op, PessimisticLockKeyResultType as ResultType,
        PessimisticLockRequest, PessimisticLockResponse, PessimisticLockWakeUpMode as WakeUpMode,
        write_conflict::Reason,
    },
    rpc::Rpc,
    tikvpb::{
        BatchCommandsRequest, batch_commands_request,
        batch_commands_request::request::Cmd as Asked,
        batch_commands_response::response::Cmd as Answered,
    },
};

use crate::{
    Answer, Cluster, ClusterConfig, Event, Failure, Fault, Loss, On, Served, Ticket,
    testing::{key, small, text},
};

fn fair(request: &mut PessimisticLockRequest) {
    request.wake_up_mode = WakeUpMode::WakeUpModeForceLock as i32;
}

fn normal(_: &mut PessimisticLockRequest) {}

impl Cluster {
    /// Parks a request for `k`.
    fn parks(
        &mut self,
        start_ts: u64,
        name: &str,
        change: impl FnOnce(&mut PessimisticLockRequest),
    ) -> Ticket {
        self.lock_or_park(start_ts, start_ts, &[name], change).unwrap_err()
    }

    /// Who was woken, and how, in words.
    fn woken(&mut self) -> Vec<(Ticket, String)> {
        self.take_woken().into_iter().map(|it| (it.ticket, outcome(&it.answer))).collect()
    }

    fn pass(&mut self, ms: u64) -> Vec<(Ticket, String)> {
        self.advance(Duration::from_millis(ms));
        self.woken()
    }
}

fn outcome(answer: &Answer<PessimisticLockResponse>) -> String {
    match &answer.result {
        Err(failure) => format!("{failure}"),
        Ok(response) => told(response),
    }
}

fn told(response: &PessimisticLockResponse) -> String {
    let failed = response.results.iter().all(|it| it.r#type() == ResultType::LockResultFailed);
    assert!(response.errors.is_empty() || failed, "{response:?}");
    if let Some(error) = &response.region_error {
        return match () {
            () if error.not_leader.is_some() => "not leader",
            () if error.epoch_not_match.is_some() => "epoch not match",
            () if error.region_not_found.is_some() => "region not found",
            () => "another region error",
        }
        .to_owned();
    }
    match (response.errors.first(), response.results.first()) {
        (Some(error), _) => error_name(error),
        (None, Some(result)) if result.locked_with_conflict_ts != 0 => {
            format!("{} with conflict {}", text(&result.value), result.locked_with_conflict_ts)
        }
        (None, _) => "locked".to_owned(),
    }
}

fn error_name(error: &KeyError) -> String {
    if let Some(conflict) = &error.conflict {
        assert_eq!(conflict.reason(), Reason::PessimisticRetry);
        return format!("conflict {} {}", conflict.conflict_ts, conflict.conflict_commit_ts);
    }
    if let Some(lock) = &error.locked {
        return format!("locked by {}, {} ms", lock.lock_version, lock.duration_to_last_update_ms);
    }
    match &error.deadlock {
        Some(deadlock) => format!("deadlock with {}", deadlock.lock_ts),
        None => error.abort.clone(),
    }
}

/// `k` is locked by the transaction 10.
fn held() -> Cluster {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 10, &["k"]), []);
    cluster
}

/// transactions.md §20.4: whatever lets go of the lock wakes who waits for it.
#[test]
fn a_request_is_woken_when_the_lock_goes() {
    type Let = fn(&mut Cluster);
    let rows: [(&str, Let, &str, &str); 6] = [
        ("release", |it| it.release(10, 10, &["k"]), "conflict 10 0", "locked"),
        ("rollback", |it| assert_eq!(it.roll_back(10, &["k"]), None), "conflict 10 0", "locked"),
        ("resolved", |it| assert_eq!(it.resolve(&[(10, 0)], &[]), None), "conflict 10 0", "locked"),
        (
            "expired",
            |it| drop(it.status("k", 10, |it| it.current_ts = u64::MAX)),
            "conflict 10 0",
            "locked",
        ),
        (
            "commit",
            |it| {
                pessimistic_prewrite(it, false);
                assert_eq!(it.commit(10, 30, &["k"]), None);
            },
            "conflict 10 30",
            "v with conflict 30",
        ),
        ("one-phase commit", |it| pessimistic_prewrite(it, true), "conflict 10 11", "locked"),
    ];
    for (what, let_go, in_normal, in_fair) in rows {
        for (change, expected) in
            [(normal as fn(&mut PessimisticLockRequest), in_normal), (fair, in_fair)]
        {
            let mut cluster = held();
            let ticket = cluster.parks(20, "k", change);
            assert_eq!(cluster.woken(), []);
            let_go(&mut cluster);
            assert_eq!(cluster.woken(), [(ticket, expected.to_owned())], "{what}");
            let has = cluster.locks_of(20).len() == 1;
            assert_eq!(has, expected != in_normal, "{what}: only fair locking is granted it");
            assert_eq!(cluster.woken(), [], "told once");
        }
    }
}

fn pessimistic_prewrite(cluster: &mut Cluster, one_pc: bool) {
    use anatase_proto::kvrpcpb::prewrite_request::PessimisticAction::DoPessimisticCheck;
    let response = cluster.prewritten_pessimistic(10, 10, &[("k", DoPessimisticCheck)], |it| {
        it.try_one_pc = one_pc;
    });
    assert_eq!(response.errors, []);
}

/// wire.md §3.3: `wait_timeout`.
#[test]
fn a_request_waits_no_longer_than_it_says_and_the_store_allows() {
    for (asked, waits) in
        [(0, 1000), (1, 1), (300, 300), (1000, 1000), (5000, 1000), (i64::MAX, 1000)]
    {
        let mut cluster = held();
        let ticket = cluster.parks(20, "k", |it| it.wait_timeout = asked);
        let until = cluster.now_ms() + waits;
        assert_eq!(cluster.next_wake_ms(), Some(until), "{asked}");
        assert_eq!(cluster.pass(waits - 1), [], "{asked}");
        assert_eq!(cluster.pass(1), [(ticket, "locked by 10, 0 ms".to_owned())], "{asked}");
        assert_eq!(cluster.next_wake_ms(), None);
    }
    for asked in [-1, i64::MIN] {
        let refused = held().lock_or_park(20, 20, &["k"], |it| it.wait_timeout = asked).unwrap();
        assert_eq!(told(&refused), "locked by 10, 0 ms", "no wait");
    }
    let config = ClusterConfig::default().stores(1).wait_for_lock_timeout(Duration::from_secs(9));
    let mut cluster = config.build();
    assert_eq!(cluster.lock(10, 10, &["k"]), []);
    let ticket = cluster.parks(20, "k", normal);
    assert_eq!(cluster.pass(8999), []);
    assert_eq!(cluster.pass(1)[0].0, ticket);
}

/// TiKV's order: by start timestamp; one is woken, the others that stood there 20 ms later.
#[test]
fn who_began_first_is_woken_first_and_the_others_a_little_later() {
    let mut cluster = held();
    let young = cluster.parks(40, "k", normal);
    let old = cluster.parks(20, "k", normal);
    let middle = cluster.parks(30, "k", normal);
    cluster.release(10, 10, &["k"]);
    assert_eq!(cluster.woken(), [(old, "conflict 10 0".to_owned())]);
    // Somebody is quicker than they, and a newcomer waits for that one.
    assert_eq!(cluster.lock(15, 15, &["k"]), []);
    let late = cluster.parks(50, "k", normal);
    let early = cluster.parks(18, "k", normal);
    assert_eq!(cluster.pass(19), []);
    // The newcomer that began before them stands in front of them: nobody behind is woken.
    assert_eq!(cluster.pass(1), []);
    cluster.release(15, 15, &["k"]);
    assert_eq!(cluster.woken(), [(early, "conflict 15 0".to_owned())]);
    let rest = cluster.pass(20);
    let expected = [middle, young, late].map(|ticket| (ticket, "conflict 15 0".to_owned()));
    assert_eq!(rest, expected);
}

/// Fair locking hands the lock from one to the next; those behind learn whom they wait for now.
#[test]
fn fair_requests_get_the_lock_one_after_the_other() {
    let mut cluster = held();
    let second = cluster.parks(30, "k", fair);
    let first = cluster.parks(20, "k", fair);
    let plain = cluster.parks(25, "k", normal);
    cluster.advance(Duration::from_millis(400));
    cluster.release(10, 10, &["k"]);
    assert_eq!(cluster.woken(), [(first, "locked".to_owned())]);
    assert_eq!(cluster.locks()[0].start_ts, 20);
    let holders: Vec<_> = cluster.parked().iter().map(|it| (it.txn, it.wait_for_txn)).collect();
    assert_eq!(holders, [(30, 20), (25, 20)]);
    // transactions.md §13.4: so the client knows that the holder is alive.
    let over = |ticket| (ticket, "locked by 20, 600 ms".to_owned());
    assert_eq!(cluster.pass(600), [second, plain].map(over));
}

/// After a request in normal mode a fair one is not left behind.
#[test]
fn a_fair_request_behind_one_in_normal_mode_gets_the_lock_after_the_delay() {
    let mut cluster = held();
    let plain = cluster.parks(20, "k", normal);
    let next = cluster.parks(25, "k", normal);
    let fair_one = cluster.parks(30, "k", fair);
    let behind = cluster.parks(40, "k", normal);
    cluster.release(10, 10, &["k"]);
    assert_eq!(cluster.woken(), [(plain, "conflict 10 0".to_owned())]);
    let woken = cluster.pass(20);
    assert_eq!(woken, [(next, "conflict 10 0".to_owned()), (fair_one, "locked".to_owned())]);
    assert_eq!(cluster.parked().len(), 1);
    cluster.release(30, 30, &["k"]);
    assert_eq!(cluster.woken(), [(behind, "conflict 30 0".to_owned())]);
    // Where somebody was quicker it waits on, until its own time is over.
    let mut cluster = held();
    cluster.parks(20, "k", normal);
    let fair_one = cluster.parks(30, "k", fair);
    cluster.release(10, 10, &["k"]);
    assert_eq!(cluster.lock(15, 15, &["k"]), []);
    assert_eq!(cluster.pass(20).len(), 1);
    let mut quicker = cluster.clone();
    assert_eq!(cluster.pass(980), [(fair_one, "locked by 15, 1000 ms".to_owned())]);
    quicker.release(15, 15, &["k"]);
    assert_eq!(quicker.woken(), [(fair_one, "locked".to_owned())], "it stands in the queue again");
}

/// While a fair request waits, its transaction may end.
#[test]
fn a_fair_request_that_comes_too_late_is_told_why() {
    let mut cluster = held();
    let ticket = cluster.parks(20, "k", fair);
    assert_eq!(cluster.roll_back(20, &["k"]), None);
    cluster.release(10, 10, &["k"]);
    let (woken, why) = cluster.woken().remove(0);
    assert_eq!(woken, ticket);
    assert!(why.starts_with("PessimisticLockRolledBack"), "{why}");
}

/// A request for many keys waits for one of them, locks none meanwhile, and is for its client to ask
/// again.
#[test]
fn many_keys_wait_together() {
    let mut cluster = held();
    let ticket = cluster.lock_or_park(20, 20, &["a", "k", "z"], normal).unwrap_err();
    assert_eq!(cluster.locked_keys(), ["k"]);
    assert_eq!(text(&cluster.parked()[0].key), "k");
    cluster.release(10, 10, &["k"]);
    assert_eq!(cluster.woken(), [(ticket, "conflict 10 0".to_owned())]);
    assert_eq!(cluster.locked_keys(), [""; 0]);
}

/// When time makes a jump, what was to happen happens in its order.
#[test]
fn a_jump_of_time_changes_no_outcome() {
    let mut cluster = held();
    let first = cluster.parks(20, "k", normal);
    let second = cluster.parks(30, "k", |it| it.wait_timeout = 100);
    cluster.release(10, 10, &["k"]);
    let woken = cluster.pass(60_000);
    assert_eq!(woken, [first, second].map(|ticket| (ticket, "conflict 10 0".to_owned())));
}

/// A region that is split, merged or led elsewhere, or whose store stops, has no queue any more.
#[test]
fn a_parked_request_ends_with_what_its_region_has_become() {
    type Change = fn(&mut Cluster);
    let rows: [(Change, &str); 7] = [
        (|it| assert!(it.split("x").is_some()), "epoch not match"),
        (
            |it| {
                let ids: Vec<_> = it.regions().map(|region| region.id).collect();
                assert!(it.merge(ids[1], ids[0]));
            },
            "region not found",
        ),
        (
            |it| {
                let ids: Vec<_> = it.regions().map(|region| region.id).collect();
                assert!(it.merge(ids[0], ids[1]));
            },
            "epoch not match",
        ),
        (
            |it| {
                let id = it.region_of(b"k").unwrap().id;
                let leader = it.leader_of(id).unwrap();
                assert!(it.transfer_leader(id, leader % 3 + 1));
            },
            "not leader",
        ),
        (|it| it.remove_leader(it.region_of(b"k").unwrap().id), "not leader"),
        (
            |it| {
                let id = it.region_of(b"k").unwrap().id;
                it.stop_store(it.leader_of(id).unwrap());
            },
            "connection reset",
        ),
        // Another region's changes are no concern of it.
        (|it| assert!(it.split("a").is_some()), ""),
    ];
    for (at, (change, expected)) in rows.into_iter().enumerate() {
        for mode in [normal as fn(&mut PessimisticLockRequest), fair] {
            let mut cluster = ClusterConfig::default().split_keys(["b"]).build();
            assert_eq!(cluster.lock(10, 10, &["k"]), []);
            let ticket = cluster.parks(20, "k", mode);
            change(&mut cluster);
            let woken = cluster.woken();
            if expected.is_empty() {
                assert_eq!(woken, [], "row {at}");
            } else {
                assert_eq!(woken, [(ticket, expected.to_owned())], "row {at}");
            }
        }
    }
}

/// transactions.md §13.6; cases.md LCK-12, PRP-16: over regions on several stores.
#[test]
fn who_closes_a_circle_is_told_so() {
    for mode in [normal as fn(&mut PessimisticLockRequest), fair] {
        let mut cluster = ClusterConfig::default().split_keys(["b", "c"]).build();
        let leaders: std::collections::BTreeSet<_> =
            cluster.regions().filter_map(|region| region.leader).collect();
        assert_eq!(leaders.len(), 3, "each key on another store");
        for (start_ts, name) in [(10, "a"), (20, "b"), (30, "c")] {
            assert_eq!(cluster.lock(start_ts, start_ts, &[name]), []);
        }
        cluster.parks(10, "b", mode);
        cluster.parks(20, "c", |it| {
            mode(it);
            it.context.as_mut().unwrap().resource_group_tag = key("tag");
        });
        let response = cluster.lock_or_park(30, 30, &["a"], mode).unwrap();
        assert_eq!(told(&response), "deadlock with 10");
        let deadlock = response.errors[0].deadlock.as_ref().unwrap();
        assert_eq!((deadlock.lock_ts, text(&deadlock.lock_key)), (10, "a".to_owned()));
        assert_eq!(deadlock.deadlock_key_hash, farmhash::fingerprint64(b"c"));
        let chain: Vec<_> = deadlock
            .wait_chain
            .iter()
            .map(|it| (it.txn, it.wait_for_txn, text(&it.key), text(&it.resource_group_tag)))
            .collect();
        let entry =
            |txn, holder, name: &str, tag: &str| (txn, holder, name.to_owned(), tag.to_owned());
        let expected = [entry(10, 20, "b", ""), entry(20, 30, "c", "tag"), entry(30, 10, "a", "")];
        assert_eq!(chain, expected);
        assert!(
            deadlock.wait_chain.iter().all(|it| it.key_hash == farmhash::fingerprint64(&it.key))
        );
        assert_eq!(cluster.parked().len(), 2, "the others wait on");
        cluster.release(30, 30, &["c"]);
        let woken = cluster.woken();
        assert_eq!(woken.len(), 1, "and who waited for it goes on: {woken:?}");
    }
}

/// transactions.md §13.2, step 7: nobody waits for a transaction that has no lock yet.
#[test]
fn who_does_not_wait_and_who_has_nothing_is_in_no_circle() {
    let circle = |first: bool, wait: i64| {
        let mut cluster = small();
        assert_eq!(cluster.lock(10, 10, &["a"]), []);
        assert_eq!(cluster.lock(20, 20, &["b"]), []);
        cluster.parks(10, "b", |it| it.is_first_lock = first);
        match cluster.lock_or_park(20, 20, &["a"], |it| it.wait_timeout = wait) {
            Ok(response) => told(&response),
            Err(_) => "parked".to_owned(),
        }
    };
    assert_eq!(circle(false, 0), "deadlock with 10");
    assert_eq!(circle(true, 0), "parked", "it is in no graph");
    assert_eq!(circle(false, -1), "locked by 10, 0 ms", "who does not wait closes nothing");
}

/// A lock that changes hands while others wait may close a circle.
#[test]
fn a_circle_is_found_when_a_lock_changes_hands() {
    let mut cluster = small();
    for (start_ts, name) in [(10, "k"), (20, "x"), (30, "y")] {
        assert_eq!(cluster.lock(start_ts, start_ts, &[name]), []);
    }
    let first = cluster.parks(20, "k", fair);
    let second = cluster.parks(30, "k", fair);
    // 20 waits for 30 twice: that is no circle as long as 10 has the key.
    let third = cluster.parks(20, "y", normal);
    cluster.release(10, 10, &["k"]);
    assert_eq!(
        cluster.woken(),
        [(first, "locked".to_owned()), (second, "deadlock with 20".to_owned())]
    );
    assert_eq!(cluster.parked().len(), 1);
    cluster.release(30, 30, &["y"]);
    assert_eq!(cluster.woken(), [(third, "conflict 30 0".to_owned())]);
}

#[test]
fn a_wait_that_is_over_is_in_no_circle() {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 10, &["a"]), []);
    assert_eq!(cluster.lock(20, 20, &["b"]), []);
    cluster.parks(10, "b", normal);
    assert_eq!(cluster.pass(1000).len(), 1);
    cluster.parks(20, "a", normal);
}

/// What a client sees that is lost, late, or not allowed to wait.
#[test]
fn faults_of_requests_that_wait() {
    let on = || On::rpc(Rpc::KvPessimisticLock);
    let mut cluster = held();
    cluster.faults().next(on(), Fault::DoNotWait);
    let at_once = cluster.lock_or_park(20, 20, &["k"], normal).unwrap();
    assert_eq!(told(&at_once), "locked by 10, 0 ms");
    let ticket = cluster.parks(20, "k", normal);
    cluster.release(10, 10, &["k"]);
    assert_eq!(cluster.woken()[0].0, ticket, "once only");

    // Late.
    let mut cluster = held();
    cluster.faults().next(on(), Fault::Delay(Duration::from_millis(70)));
    cluster.parks(20, "k", fair);
    cluster.release(10, 10, &["k"]);
    let woken = cluster.take_woken();
    assert_eq!(woken[0].answer.delay, Duration::from_millis(70));

    // The request never arrives; the answer gets lost, and the lock is granted to nobody.
    for loss in [Loss::Silent, Loss::Reset] {
        let mut cluster = held();
        let request =
            PessimisticLockRequest { wait_timeout: 0, ..cluster.lock_request(20, 20, &["k"]) };
        cluster.faults().next(on(), Fault::DropRequest(loss));
        cluster.faults().next(on(), Fault::DropResponse(loss));
        for parked in [0, 1] {
            let mut request = request.clone();
            fair(&mut request);
            let lost = Served::Answered(Answer::now(Err(Failure::Lost(loss))));
            assert_eq!(cluster.call_or_park(1, request), lost);
            assert_eq!(cluster.parked().len(), parked);
        }
        cluster.release(10, 10, &["k"]);
        assert_eq!(cluster.woken(), []);
        assert_eq!(cluster.locks()[0].start_ts, 20, "an orphan");
    }

    // The lock goes right before the request comes.
    let mut cluster = held();
    cluster.expire(10);
    cluster.faults().next(on(), Event::Split("x".into()));
    let stale = cluster.lock_or_park(20, 20, &["k"], normal).unwrap();
    assert_eq!(told(&stale), "epoch not match");
}

/// Who cannot wait is answered as if it had waited in vain, so much later.
#[test]
fn a_caller_that_does_not_park_is_answered_right_and_late() {
    for mode in [normal as fn(&mut PessimisticLockRequest), fair] {
        let mut cluster = held();
        let mut request = cluster.lock_request(20, 20, &["k"]);
        request.wait_timeout = 300;
        mode(&mut request);
        cluster.faults().next(On::any(), Fault::Delay(Duration::from_millis(5)));
        let answer = cluster.call(1, request.clone());
        assert_eq!(answer.delay, Duration::from_millis(305));
        assert_eq!(outcome(&answer), "locked by 10, 0 ms");
        assert_eq!((cluster.parked().len(), cluster.next_wake_ms()), (0, None));
        let batch = |request| BatchCommandsRequest {
            request_ids: vec![7],
            requests: vec![batch_commands_request::Request {
                cmd: Some(Asked::PessimisticLock(request)),
            }],
            ..Default::default()
        };
        let message = cluster.call_batch(1, batch(request.clone())).messages.remove(0);
        assert_eq!(message.delay, Duration::from_millis(300));
        let Some(Answered::PessimisticLock(response)) = &message.response.responses[0].cmd else {
            panic!()
        };
        assert_eq!(told(response), "locked by 10, 0 ms");
        // And one that does, by its number in the batch.
        let bytes = anatase_proto::prost::Message::encode_to_vec(&batch(request));
        let answer = cluster.handle_batch_or_park(1, bytes.into());
        let [(7, ticket)] = answer.parked[..] else { panic!("{answer:?}") };
        cluster.release(10, 10, &["k"]);
        assert_eq!(cluster.woken()[0].0, ticket);
    }
}

/// wire.md §8: what a store tells of those who wait.
#[test]
fn a_store_tells_who_waits() {
    let mut cluster = ClusterConfig::default().split_keys(["m"]).build();
    for (start_ts, name) in [(10, "a"), (11, "z")] {
        assert_eq!(cluster.lock(start_ts, start_ts, &[name]), []);
        cluster.parks(start_ts + 10, name, normal);
    }
    let store = cluster.leader_of(cluster.region_of(b"z").unwrap().id).unwrap();
    let entries = cluster.call(store, GetLockWaitInfoRequest::default()).result.unwrap().entries;
    let told: Vec<_> = entries.iter().map(|it| (it.txn, it.wait_for_txn, text(&it.key))).collect();
    assert_eq!(told, [(21, 11, "z".to_owned())]);
}

/// A prewritten lock is waited for like any other.
#[test]
fn a_prewritten_lock_is_waited_for() {
    let mut cluster = small();
    assert_eq!(cluster.prewrite(10, &[(Op::Put, "k", "v")]), []);
    let ticket = cluster.parks(20, "k", fair);
    assert_eq!(cluster.commit(10, 15, &["k"]), None);
    assert_eq!(cluster.woken(), [(ticket, "locked".to_owned())], "committed below for_update_ts");
}
