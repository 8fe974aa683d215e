//! Pessimistic transactions end to end: client, core, real gRPC, embedded cluster.

use std::time::{Duration, Instant};

use anatase::{
    AssertionLevel, CommitOutcome, CommittedBy, Error, ErrorKind, Transaction, TransactionClient,
    TransactionOptions,
};
use anatase_cluster::serve::Server;
use anatase_cluster::{CommitWay, Fault, LockKind, On};
use anatase_proto::rpc::Rpc;
use anatase_tests::{bounded, serve};

async fn client(server: &Server) -> TransactionClient {
    TransactionClient::new([server.pd_address()]).await.expect("a client")
}

async fn put(client: &TransactionClient, pairs: &[(&'static str, &'static str)]) {
    let put = async |txn: &Transaction| {
        for (key, value) in pairs {
            txn.put(*key, *value).await?;
        }
        Ok(())
    };
    client.run(put).await.unwrap();
}

async fn read(client: &TransactionClient, key: &str) -> Option<String> {
    let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
    snapshot.get(key).await.unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn text(value: Option<anatase::Value>) -> Option<String> {
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn locked(server: &Server) -> Vec<String> {
    server.with(|cluster| {
        let locks = cluster.locks();
        locks.iter().map(|lock| String::from_utf8(lock.key.to_vec()).unwrap()).collect()
    })
}

async fn none_locked(server: &Server) {
    while !locked(server).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// transactions.md §13: who wants a locked key waits at the store, and has it as soon as it is free.
#[tokio::test]
async fn a_lock_is_waited_for_and_then_granted() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1"), ("h", "1")]).await;
        let first = client.begin_pessimistic().await.unwrap();
        assert!(first.is_pessimistic());
        assert_eq!(text(first.get_for_update("a").await.unwrap()).as_deref(), Some("1"));
        let second = client.begin_pessimistic().await.unwrap();
        let waiting = tokio::spawn(async move {
            let value = second.get_for_update("a").await?;
            second.put("a", "3").await?;
            second.commit().await?;
            Ok::<_, Error>(text(value))
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        // Readers do not wait for pessimistic locks.
        assert_eq!(read(&client, "a").await.as_deref(), Some("1"));
        first.put("a", "2").await.unwrap();
        let begun = Instant::now();
        first.commit().await.unwrap();
        // It reads what the first has written: as of when it has the lock, not as of its start.
        assert_eq!(waiting.await.unwrap().unwrap().as_deref(), Some("2"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// transactions.md §13.1: the wait is the caller's to say, and what is not granted is told by name.
#[tokio::test]
async fn waits_are_bounded_as_asked() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        let holder = client.begin_pessimistic().await.unwrap();
        holder.put("a", "1").await.unwrap();
        let txn = client.begin_pessimistic().await.unwrap();
        let begun = Instant::now();
        let error = txn.lock_keys(["a"]).no_wait().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LockNotAvailable { .. }), "{error:?}");
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        let begun = Instant::now();
        let error = txn.lock_keys(["a"]).wait(Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LockWaitTimeout { .. }), "{error:?}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(1), "{took:?}");
        let error = txn.lock_keys(["a"]).timeout(Duration::from_millis(100)).await.unwrap_err();
        assert!(!error.is_undetermined() && !error.is_conflict(), "{error:?}");
        holder.rollback().await.unwrap();
        txn.put("a", "2").await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(read(&client, "a").await.as_deref(), Some("2"));
        client.close().await;
    })
    .await;
}

/// peers.md D10: one lock request, and one timestamp, for a key that is read for update and written.
#[tokio::test]
async fn d10_a_held_key_costs_nothing_more() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        let txn = client.begin_pessimistic().await.unwrap();
        txn.get_for_update("a").await.unwrap();
        let calls = |rpc| server.with(|cluster| cluster.calls(rpc));
        let before = calls(Rpc::KvPessimisticLock);
        txn.put("a", "2").await.unwrap();
        txn.delete("a").await.unwrap();
        txn.put("a", "3").await.unwrap();
        assert!(txn.lock_keys(["a"]).await.unwrap()[0].already);
        // And what it has written itself is what it reads.
        assert_eq!(text(txn.get_for_update("a").await.unwrap()).as_deref(), Some("3"));
        assert_eq!(calls(Rpc::KvPessimisticLock), before);
        txn.commit().await.unwrap();
        client.close().await;
    })
    .await;
}

/// transactions.md §13.2: an insert finds out at once; what was found is trusted at commit.
#[tokio::test]
async fn an_insert_of_what_exists_fails_at_once() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        let txn = client.begin_pessimistic().await.unwrap();
        let error = txn.insert("a", "2").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::KeyExists { key: "a".into() });
        txn.insert("b", "2").await.unwrap();
        // Locked before, asked about later.
        txn.lock_keys(["c"]).await.unwrap();
        txn.insert("c", "2").await.unwrap();
        txn.get_for_update("a").await.unwrap();
        let error = txn.insert("a", "2").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::KeyExists { key: "a".into() });
        txn.commit().await.unwrap();
        assert_eq!(read(&client, "b").await.as_deref(), Some("2"));
        assert_eq!(read(&client, "c").await.as_deref(), Some("2"));
        assert_eq!(read(&client, "a").await.as_deref(), Some("1"));
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// transactions.md §13.6: of two that wait for each other one is told, with the circle, and the other
/// goes on.
#[tokio::test]
async fn a_deadlock_is_found_and_told() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        let one = client.begin_pessimistic().await.unwrap();
        let other = client.begin_pessimistic().await.unwrap();
        one.put("a", "1").await.unwrap();
        other.put("h", "2").await.unwrap();
        let waiting = tokio::spawn(async move {
            let told = one.put("h", "1").await;
            (one, told)
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let told = other.put("a", "2").await;
        let error = told.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let ErrorKind::Deadlock(deadlock) = error.kind() else { panic!("{error:?}") };
        assert_eq!(deadlock.lock_key, "a");
        assert_eq!(deadlock.wait_chain.len(), 2, "{deadlock:?}");
        assert!(error.is_conflict());
        other.rollback().await.unwrap();
        let (one, told) = waiting.await.unwrap();
        told.unwrap();
        one.commit().await.unwrap();
        assert_eq!(read(&client, "h").await.as_deref(), Some("1"));
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// peers.md D9: a call that fails gives back what it took, and nothing else.
#[tokio::test]
async fn d9_a_failed_call_gives_back_what_it_took_only() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        let holder = client.begin_pessimistic().await.unwrap();
        holder.put("z", "1").await.unwrap();
        let txn = client.begin_pessimistic().await.unwrap();
        txn.put("b", "1").await.unwrap();
        let error = txn.lock_keys(["a", "b", "h", "z"]).no_wait().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LockNotAvailable { .. }), "{error:?}");
        while locked(&server) != ["b", "z"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Dropped while it waits: the same.
        let waits = txn.lock_keys(["a", "z"]).into_future();
        let gone = tokio::time::timeout(Duration::from_millis(100), waits).await;
        assert!(gone.is_err());
        while locked(&server) != ["b", "z"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The transaction goes on.
        txn.put("h", "1").await.unwrap();
        txn.commit().await.unwrap();
        holder.rollback().await.unwrap();
        assert_eq!(read(&client, "h").await.as_deref(), Some("1"));
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// Rolled back, dropped, or left by whoever awaited the rollback: the locks go.
#[tokio::test]
async fn the_locks_of_a_transaction_that_ends_are_released() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        for how in 0..4 {
            let txn = client.begin_pessimistic().await.unwrap();
            txn.put("a", "1").await.unwrap();
            txn.put("z", "1").await.unwrap();
            assert_eq!(locked(&server), ["a", "z"]);
            match how {
                0 => txn.rollback().await.unwrap(),
                1 => drop(txn),
                // Never polled.
                2 => drop(txn.rollback()),
                _ => drop(txn.commit()),
            }
            none_locked(&server).await;
        }
        let txn = client.begin_pessimistic().await.unwrap();
        txn.put("a", "1").await.unwrap();
        drop(txn);
        // The release is waited for.
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// transactions.md §16.4: who has died holds its keys until its time is over, and no longer.
#[tokio::test]
async fn the_locks_of_a_dead_client_expire() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let other = client(&server).await;
        let doomed = client(&server).await;
        let txn = doomed.begin_pessimistic().await.unwrap();
        let start = txn.start_timestamp();
        txn.put("a", "1").await.unwrap();
        txn.put("z", "1").await.unwrap();
        std::mem::forget(txn);
        let waiting = tokio::spawn(async move {
            let txn = other.begin_pessimistic().await?;
            txn.put("z", "2").await?;
            txn.put("a", "2").await?;
            txn.commit().await?;
            other.close().await;
            Ok::<_, Error>(())
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished());
        server.with(|cluster| cluster.expire(start.version()));
        waiting.await.unwrap().unwrap();
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// transactions.md §13.1: what can be asked about keys that are locked.
#[tokio::test]
async fn a_lock_can_tell_what_is_there() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1"), ("h", "2")]).await;
        let txn = client.begin_pessimistic().await.unwrap();
        let rows = txn.lock_keys(["h", "b", "a"]).return_values().await.unwrap();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.key.as_ref(), row.existed, row.value.as_deref(), row.already))
            .collect();
        assert_eq!(
            told,
            [
                (&b"a"[..], Some(true), Some(&b"1"[..]), false),
                (b"b", Some(false), None, false),
                (b"h", Some(true), Some(b"2"), false),
            ]
        );
        let rows = txn.lock_keys(["c", "a"]).check_existence().await.unwrap();
        assert_eq!((rows[0].already, rows[0].locked), (true, true));
        assert_eq!((rows[1].existed, rows[1].value.is_none()), (Some(false), true));
        // Only what exists: the other is not locked.
        let rows = txn.lock_keys(["x"]).only_if_exists().await.unwrap();
        assert_eq!((rows[0].locked, rows[0].existed), (false, Some(false)));
        assert_eq!(locked(&server), ["a", "b", "c", "h"]);
        let values = txn.batch_get_for_update(["h", "q", "h"]).await.unwrap();
        let values: Vec<_> = values.into_iter().map(text).collect();
        assert_eq!(values, [Some("2".to_owned()), None, Some("2".to_owned())]);
        txn.rollback().await.unwrap();
        // An optimistic transaction tells the same, from its snapshot.
        let txn = client.begin_optimistic().await.unwrap();
        let rows = txn.lock_keys(["h", "b"]).return_values().await.unwrap();
        assert_eq!((rows[0].existed, rows[1].value.as_deref()), (Some(false), Some(&b"2"[..])));
        // Nothing was asked: each key once, all the same.
        let rows = txn.lock_keys(["z", "c", "z"]).await.unwrap();
        let told: Vec<_> = rows.iter().map(|row| (&row.key[..], row.locked, row.existed)).collect();
        assert_eq!(told, [(&b"c"[..], true, None), (&b"z"[..], true, None)]);
        assert!(locked(&server).is_empty());
        client.close().await;
    })
    .await;
}

/// A transaction that is in a fair statement and has locked `a`, which another wrote meanwhile: it is "2".
async fn locked_in_spite_of_a_newer_version(client: &TransactionClient) -> Transaction {
    let holder = client.begin_pessimistic().await.unwrap();
    holder.put("a", "2").await.unwrap();
    let txn = client.begin_pessimistic().await.unwrap();
    txn.start_fair_locking().unwrap();
    assert!(txn.is_in_fair_locking() && txn.start_fair_locking().is_err());
    let waiting = tokio::spawn(async move {
        let value = txn.get_for_update("a").await;
        (txn, value)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    holder.commit().await.unwrap();
    let (txn, value) = waiting.await.unwrap();
    assert_eq!(text(value.unwrap()).as_deref(), Some("2"));
    txn
}

/// transactions.md §14: a fair lock is granted in spite of a newer version, and tells what is there.
#[tokio::test]
async fn fair_locking_is_not_overtaken() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1"), ("h", "1")]).await;
        let txn = locked_in_spite_of_a_newer_version(&client).await;
        // The statement begins anew with what it has seen; the key it asks for again stays its own.
        let calls = || server.with(|cluster| cluster.calls(Rpc::KvPessimisticLock));
        let before = calls();
        txn.retry_fair_locking().unwrap();
        assert_eq!(text(txn.get_for_update("a").await.unwrap()).as_deref(), Some("2"));
        assert_eq!(calls(), before);
        txn.get_for_update("h").await.unwrap();
        // A transaction does not commit in the middle of a statement.
        txn.done_fair_locking().unwrap();
        txn.put("a", "3").await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(read(&client, "a").await.as_deref(), Some("3"));
        let txn = client.begin_pessimistic().await.unwrap();
        txn.start_fair_locking().unwrap();
        txn.lock_keys(["a"]).await.unwrap();
        let error = txn.commit().await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        none_locked(&server).await;
        client.close().await;
    })
    .await;
}

/// A key that was locked in spite of a newer version is read, once it is held, as it was told with the
/// lock: not as of the timestamp of the call, before which that version was not there.
#[tokio::test]
async fn what_is_held_is_read_as_it_was_locked() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        let txn = locked_in_spite_of_a_newer_version(&client).await;
        assert_eq!(text(txn.get_for_update("a").await.unwrap()).as_deref(), Some("2"));
        txn.done_fair_locking().unwrap();
        assert_eq!(text(txn.get_for_update("a").await.unwrap()).as_deref(), Some("2"));
        txn.rollback().await.unwrap();
        client.close().await;
    })
    .await;
}

/// Ways to commit, as they are told; what a store finds unfit commits in two phases.
#[tokio::test]
async fn how_it_was_committed_is_told() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        let fast = |options: TransactionOptions| options.use_async_commit().try_one_pc();
        for (options, keys, refuse, by) in [
            (TransactionOptions::new_optimistic(), ["a", "b"], None, CommittedBy::TwoPhase),
            (fast(TransactionOptions::new_optimistic()), ["a", "b"], None, CommittedBy::OnePhase),
            (fast(TransactionOptions::new_optimistic()), ["a", "z"], None, CommittedBy::Async),
            (fast(TransactionOptions::new_pessimistic()), ["a", "b"], None, CommittedBy::OnePhase),
            (fast(TransactionOptions::new_pessimistic()), ["a", "z"], None, CommittedBy::Async),
            (
                fast(TransactionOptions::new_pessimistic()),
                ["a", "b"],
                Some(CommitWay::OnePhase),
                CommittedBy::TwoPhase,
            ),
            (
                fast(TransactionOptions::new_optimistic()),
                ["a", "z"],
                Some(CommitWay::Async),
                CommittedBy::TwoPhase,
            ),
        ] {
            if let Some(way) = refuse {
                let on = On::rpc(Rpc::KvPrewrite);
                server.with(|cluster| cluster.faults().next(on, Fault::FallBack(way)));
            }
            let txn = client.begin_with_options(options.clone()).await.unwrap();
            for key in keys {
                txn.put(key, "1").await.unwrap();
            }
            let outcome = txn.commit_outcome().await;
            let CommitOutcome::Committed { at: Some(at), by: told } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(told, Some(by), "{options:?} {keys:?}");
            let seen = client.snapshot(at).batch_get(keys).await.unwrap();
            assert!(seen.iter().all(Option::is_some));
        }
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// transactions.md §2.3b: what a store is told to be so, and is not.
#[tokio::test]
async fn an_assertion_that_does_not_hold_aborts() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        for pessimistic in [false, true] {
            let options = if pessimistic {
                TransactionOptions::new_pessimistic()
            } else {
                TransactionOptions::new_optimistic()
            };
            let options = options.assertion_level(AssertionLevel::Strict);
            let txn = client.begin_with_options(options.clone()).await.unwrap();
            txn.put("a", "2").await.unwrap();
            txn.assert_exists("a").unwrap();
            txn.put("b", "2").await.unwrap();
            txn.assert_exists("b").unwrap();
            let error = txn.commit().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::AssertionFailed(_)), "{error:?}");
            none_locked(&server).await;
            assert_eq!(read(&client, "a").await.as_deref(), Some("1"));
        }
        client.close().await;
    })
    .await;
}

/// What is committed in the end of [`TransactionClient::run`], and what is not run again.
#[tokio::test]
async fn a_closure_is_run_again_after_conflicts_only() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("n", "0")]).await;
        let count = async |txn: &Transaction| {
            let n: u64 = text(txn.get("n").await?).unwrap().parse().unwrap();
            txn.put("n", (n + 1).to_string()).await?;
            Ok(n + 1)
        };
        let counters = (0..8).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    client.run(count).await.unwrap();
                }
            })
        });
        for counter in counters.collect::<Vec<_>>() {
            counter.await.unwrap();
        }
        assert_eq!(read(&client, "n").await.as_deref(), Some("40"));
        // Its own error ends it, and undoes what it did.
        let mut runs = 0;
        let options = TransactionOptions::new_pessimistic();
        let told = client
            .run_with_options(options, async |txn| {
                runs += 1;
                txn.put("n", "lost").await?;
                Err::<(), _>(Error::application("no more"))
            })
            .await
            .unwrap_err();
        assert_eq!((runs, told.kind()), (1, &ErrorKind::Application));
        let source = std::error::Error::source(&told).expect("the application's");
        assert_eq!(source.to_string(), "no more");
        assert_eq!(read(&client, "n").await.as_deref(), Some("40"));
        assert!(locked(&server).is_empty());
        // So does what is in doubt.
        let mut runs = 0;
        let silent = Fault::DropResponse(anatase_cluster::Loss::Reset);
        server.with(|cluster| cluster.faults().always(On::rpc(Rpc::KvCommit), silent));
        let config = anatase::Config::default().with_timeout(Duration::from_millis(500));
        let hurried = TransactionClient::new_with_config([server.pd_address()], config).await;
        let hurried = hurried.unwrap();
        let told = hurried
            .run(async |txn| {
                runs += 1;
                txn.put("n", "41").await
            })
            .await
            .unwrap_err();
        assert!(told.is_undetermined() && runs == 1, "{runs} {told:?}");
        server.with(|cluster| cluster.faults().clear());
        assert_eq!(read(&client, "n").await.as_deref(), Some("41"));
        hurried.close().await;
        client.close().await;
    })
    .await;
}

/// A savepoint takes writes back, not locks.
#[tokio::test]
async fn locks_survive_a_savepoint() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        let txn = client.begin_pessimistic().await.unwrap();
        let savepoint = txn.savepoint();
        txn.put("a", "2").await.unwrap();
        txn.roll_back_to(savepoint).unwrap();
        assert_eq!(text(txn.get("a").await.unwrap()).as_deref(), Some("1"));
        assert_eq!(locked(&server), ["a"]);
        let kinds = server.with(|cluster| cluster.locks()[0].kind);
        assert_eq!(kinds, LockKind::Pessimistic);
        txn.commit().await.unwrap();
        assert_eq!(read(&client, "a").await.as_deref(), Some("1"));
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}

/// transactions.md §3, `WithStartTS`: it reads and conflicts as of then.
#[tokio::test]
async fn a_transaction_begins_where_it_is_told() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        let start = client.current_timestamp().await.unwrap();
        put(&client, &[("a", "2")]).await;
        let options = TransactionOptions::new_optimistic().start_timestamp(start);
        let txn = client.begin_with_options(options).await.unwrap();
        assert_eq!(txn.start_timestamp(), start);
        assert_eq!(text(txn.get("a").await.unwrap()).as_deref(), Some("1"));
        txn.put("a", "3").await.unwrap();
        assert!(txn.commit().await.unwrap_err().is_conflict());
        assert_eq!(read(&client, "a").await.as_deref(), Some("2"));
        client.close().await;
    })
    .await;
}

/// What docs/transactions.md says of reads: those of a pessimistic transaction are as of its start, and
/// protect nothing; what is read for update is what is there, and stays.
#[tokio::test]
async fn only_what_is_read_for_update_is_safe_from_a_lost_update() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        for (for_update, left) in [(false, "11"), (true, "111")] {
            put(&client, &[("n", "1")]).await;
            let txn = client.begin_pessimistic().await.unwrap();
            let mut seen = text(txn.get("n").await.unwrap()).unwrap();
            put(&client, &[("n", "11")]).await;
            if for_update {
                seen = text(txn.get_for_update("n").await.unwrap()).unwrap();
                assert_eq!(
                    text(txn.get("n").await.unwrap()).as_deref(),
                    Some("1"),
                    "as of its start"
                );
            }
            txn.put("n", format!("{seen}1")).await.unwrap();
            // Its lock is younger than the other's commit, so this is no conflict.
            txn.commit().await.unwrap();
            assert_eq!(read(&client, "n").await.as_deref(), Some(left));
        }
        client.close().await;
        assert!(locked(&server).is_empty());
    })
    .await;
}
