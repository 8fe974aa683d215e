//! The transactional API end to end: client, core, real gRPC, embedded cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anatase::{
    CommitOutcome, ErrorKind, KvPair, Transaction, TransactionClient, TransactionOptions,
};
use anatase_cluster::serve::Server;
use anatase_cluster::{Fault, Loss, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded, serve};

async fn client(server: &Server) -> TransactionClient {
    TransactionClient::new([server.pd_address()]).await.expect("a client")
}

async fn put(client: &TransactionClient, pairs: &[(&str, &str)]) {
    let txn = client.begin_optimistic().await.unwrap();
    for (key, value) in pairs {
        txn.put(*key, *value).await.unwrap();
    }
    txn.commit().await.unwrap();
}

async fn read(client: &TransactionClient, key: &str) -> Option<String> {
    let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
    let value = snapshot.get(key).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[tokio::test]
async fn a_round_trip_over_regions() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1"), ("h", "2"), ("z", "3")]).await;
        let before = client.current_timestamp().await.unwrap();
        let txn = client.begin_optimistic().await.unwrap();
        assert_eq!(txn.get("h").await.unwrap().as_deref(), Some(&b"2"[..]));
        txn.put("h", "two").await.unwrap();
        txn.delete("a").await.unwrap();
        txn.insert("m", "new").await.unwrap();
        // It reads its own writes, in every way, and nobody else does.
        assert_eq!(txn.get("h").await.unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(txn.get("a").await.unwrap(), None);
        let own = txn.scan(.., 10).await.unwrap();
        let own: Vec<&[u8]> = own.iter().map(|pair| pair.key().as_ref()).collect();
        assert_eq!(own, [b"h", b"m", b"z"]);
        assert_eq!(read(&client, "h").await.as_deref(), Some("2"));
        txn.commit().await.unwrap();
        assert_eq!(read(&client, "h").await.as_deref(), Some("two"));
        assert_eq!(read(&client, "a").await, None);
        // The past does not change.
        let past = client.snapshot(before).batch_get(["z", "a", "m"]).await.unwrap();
        let past: Vec<Option<&[u8]>> = past.iter().map(|value| value.as_deref()).collect();
        assert_eq!(past, [Some(&b"3"[..]), Some(&b"1"[..]), None]);
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
    })
    .await;
}

#[tokio::test]
async fn a_conflict_is_typed_and_aborts() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "0")]).await;
        let slow = client.begin_optimistic().await.unwrap();
        slow.put("a", "slow").await.unwrap();
        slow.put("z", "slow").await.unwrap();
        put(&client, &[("a", "fast")]).await;
        let start = slow.start_timestamp();
        let error = slow.commit().await.unwrap_err();
        let ErrorKind::WriteConflict(conflict) = error.kind() else {
            panic!("{error:?}");
        };
        assert_eq!(conflict.start_ts, start);
        assert!(conflict.conflict_commit_ts > start.version());
        assert_eq!(conflict.key, "a");
        assert!(!error.is_undetermined());
        let insert = client.begin_optimistic().await.unwrap();
        insert.insert("a", "again").await.unwrap();
        let exists = insert.commit().await.unwrap_err();
        assert!(matches!(exists.kind(), ErrorKind::KeyExists { .. }), "{exists:?}");
        // A lock is a write without a value: it conflicts, and changes nothing.
        let guard = client.begin_optimistic().await.unwrap();
        guard.lock_keys(["a"]).await.unwrap();
        put(&client, &[("a", "faster")]).await;
        assert!(guard.commit().await.is_err());
        assert_eq!(read(&client, "a").await.as_deref(), Some("faster"));
        assert_eq!(read(&client, "z").await, None);
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0, "cleaned up in the background");
    })
    .await;
}

async fn balance(txn: &Transaction, account: u64) -> anatase::Result<u64> {
    let value = txn.get(format!("account{account:02}")).await?;
    let value = value.expect("the account exists");
    Ok(std::str::from_utf8(&value).unwrap().parse().unwrap())
}

async fn total(client: &TransactionClient) -> u64 {
    let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
    let accounts = snapshot.scan("account".."accountx", 100).await.unwrap();
    assert_eq!(accounts.len(), 20);
    accounts
        .iter()
        .map(|pair| std::str::from_utf8(pair.value()).unwrap().parse::<u64>().unwrap())
        .sum()
}

/// 32 concurrent transfers at a time, with splits and moves of leaders: no money is made or lost, in
/// no snapshot, and no lock stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_keep_the_total_while_regions_split_and_leaders_move() {
    bounded(async {
        let server = serve(3, &["account05", "account10", "account15"]).await;
        let client = client(&server).await;
        let opening = client.begin_optimistic().await.unwrap();
        for account in 0..20 {
            opening.put(format!("account{account:02}"), "100").await.unwrap();
        }
        opening.commit().await.unwrap();
        let workers: Vec<_> = (0..32)
            .map(|worker: u64| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut dice = Dice::new(worker + 100);
                    let (mut done, mut conflicts) = (0, 0_u64);
                    while done < 8 {
                        let (from, to) = (dice.below(20), dice.below(20));
                        if from == to {
                            continue;
                        }
                        let txn = client.begin_optimistic().await?;
                        let (has, gets) = (balance(&txn, from).await?, balance(&txn, to).await?);
                        let amount = dice.below(30).min(has);
                        txn.put(format!("account{from:02}"), (has - amount).to_string()).await?;
                        txn.put(format!("account{to:02}"), (gets + amount).to_string()).await?;
                        match txn.commit().await {
                            Ok(_) => done += 1,
                            Err(error) if matches!(error.kind(), ErrorKind::WriteConflict(_)) => {
                                conflicts += 1;
                                let pause = 1 + dice.below(1 << conflicts.min(6));
                                tokio::time::sleep(Duration::from_millis(pause)).await;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(conflicts)
                })
            })
            .collect();
        let mut dice = Dice::new(7);
        let watch = {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    assert_eq!(total(&client).await, 2_000);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        };
        while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            server.with(|cluster| {
                if cluster.regions().count() < 16 {
                    cluster.split(format!("account{:02}", dice.below(20)));
                }
                let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
                let region = regions[dice.below(regions.len() as u64) as usize];
                cluster.transfer_leader(region, 1 + dice.below(3));
            });
        }
        for worker in workers {
            worker.await.unwrap().unwrap();
        }
        watch.await.unwrap();
        assert_eq!(total(&client).await, 2_000);
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
    })
    .await;
}

/// peers.md D3: the answer to the primary's commit is lost, and the store with it: undetermined, never
/// aborted, although the transaction is committed.
#[tokio::test]
async fn d3_a_lost_connection_in_the_commit_is_undetermined() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        for (executed, fault) in
            [(true, Fault::DropResponse(Loss::Reset)), (false, Fault::DropRequest(Loss::Reset))]
        {
            put(&client, &[("a", "old"), ("z", "old")]).await;
            let txn = client.begin_optimistic().await.unwrap();
            txn.put("a", "new").await.unwrap();
            txn.put("z", "new").await.unwrap();
            server.with(|cluster| {
                cluster.faults().always(On::rpc(Rpc::KvCommit), fault.clone());
            });
            let begun = Instant::now();
            let outcome = txn.commit().timeout(Duration::from_millis(600)).outcome().await;
            let CommitOutcome::Undetermined(error) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(error.is_undetermined());
            assert!(begun.elapsed() < Duration::from_secs(1));
            server.with(|cluster| cluster.faults().clear());
            // A later reader finds out; the lock of one that was never committed lives on until its
            // time is over.
            let value = read(&client, "a").await;
            assert_eq!(value.as_deref() == Some("new"), executed);
            assert_eq!(read(&client, "z").await, value, "all or nothing");
        }
        client.close().await;
    })
    .await;
}

/// docs/transactions.md, «Outcomes»: a transaction that inserts a key of its own may be run again after an
/// undetermined commit, and takes effect once, whether the first run did or not.
#[tokio::test]
async fn a_key_of_its_own_makes_an_undetermined_transaction_safe_to_run_again() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        let two_phases = TransactionOptions::new_optimistic();
        let mut stock = 100;
        put(&client, &[("stock", "100")]).await;
        for (n, (options, rpc, fault, executed)) in [
            (two_phases.clone(), Rpc::KvCommit, Fault::DropResponse(Loss::Reset), true),
            (two_phases.clone(), Rpc::KvCommit, Fault::DropRequest(Loss::Reset), false),
            (
                two_phases.clone().use_async_commit(),
                Rpc::KvPrewrite,
                Fault::DropResponse(Loss::Reset),
                true,
            ),
            (
                two_phases.use_async_commit(),
                Rpc::KvPrewrite,
                Fault::DropRequest(Loss::Reset),
                false,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let take_one = async || {
                let txn = client.begin_with_options(options.clone()).await.unwrap();
                txn.insert(format!("order/{n}"), "1 widget").await.unwrap();
                let left = txn.get("stock").await.unwrap().expect("a number");
                let left: u64 = String::from_utf8_lossy(&left).parse().unwrap();
                txn.put("stock", (left - 1).to_string()).await.unwrap();
                txn
            };
            server.with(|cluster| cluster.faults().always(On::rpc(rpc), fault));
            let txn = take_one().await;
            let outcome = txn.commit().timeout(Duration::from_millis(600)).outcome().await;
            assert!(matches!(outcome, CommitOutcome::Undetermined(_)), "{n}: {outcome:?}");
            server.with(|cluster| cluster.faults().clear());
            let again = loop {
                match take_one().await.commit_outcome().await {
                    CommitOutcome::Aborted(error) if error.is_conflict() => {}
                    told => break told,
                }
            };
            match again {
                CommitOutcome::Committed { .. } => assert!(!executed, "{n}"),
                CommitOutcome::Aborted(error) => {
                    let exists = matches!(error.kind(), ErrorKind::KeyExists { .. });
                    assert!(exists && executed, "{n}: {error:?}");
                }
                CommitOutcome::Undetermined(error) => panic!("{n}: {error:?}"),
            }
            stock -= 1;
            assert_eq!(read(&client, "stock").await, Some(stock.to_string()), "{n}: once");
        }
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
    })
    .await;
}

/// The answer is lost once: a later copy of the request finds out, and the commit is reported as one.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_once_is_committed() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        for rpc in [Rpc::KvPrewrite, Rpc::KvCommit] {
            for fault in [Fault::DropResponse(Loss::Reset), Fault::DropRequest(Loss::Reset)] {
                let txn = client.begin_optimistic().await.unwrap();
                txn.put("a", format!("{rpc:?} {fault:?}")).await.unwrap();
                txn.put("z", "z").await.unwrap();
                server.with(|cluster| cluster.faults().next(On::rpc(rpc), fault.clone()));
                assert!(txn.commit().await.unwrap().is_some());
                let expected = format!("{rpc:?} {fault:?}");
                assert_eq!(read(&client, "a").await, Some(expected));
            }
        }
        client.close().await;
    })
    .await;
}

/// A client dies between prewrite and commit. Others wait for its locks no longer than they may live,
/// then roll it back.
#[tokio::test]
async fn the_locks_of_a_dead_client_are_resolved() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let other = client(&server).await;
        put(&other, &[("a", "old"), ("z", "old")]).await;
        let doomed = client(&server).await;
        let txn = doomed.begin_optimistic().await.unwrap();
        txn.put("a", "doomed").await.unwrap();
        txn.put("z", "doomed").await.unwrap();
        let silent = Fault::DropRequest(Loss::Silent);
        server.with(|cluster| {
            cluster.faults().always(On::rpc(Rpc::KvCommit), silent.clone());
            cluster.faults().always(On::rpc(Rpc::KvBatchRollback), silent);
        });
        let commit = tokio::spawn(async move { txn.commit().await.map(drop) });
        while server.with(|cluster| cluster.locks().len()) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        commit.abort();
        // A reader pushes the transaction and passes; it need not wait.
        let begun = Instant::now();
        assert_eq!(read(&other, "z").await.as_deref(), Some("old"));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        server.with(|cluster| cluster.faults().clear());
        // A writer waits until the lock's time is over (3 s).
        put(&other, &[("a", "next"), ("z", "next")]).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(read(&other, "a").await.as_deref(), Some("next"));
        other.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
    })
    .await;
}

fn key(n: u64) -> String {
    format!("k{n:03}")
}

fn a_range(dice: &mut Dice) -> (std::ops::Range<String>, u32) {
    (key(dice.below(110))..key(dice.below(110)), 1 + dice.below(60) as u32)
}

fn check(
    model: &BTreeMap<String, String>,
    range: &std::ops::Range<String>,
    limit: u32,
    up: &[KvPair],
    down: &[KvPair],
) {
    let within = |key: &&String| **key >= range.start && **key < range.end;
    let expected: Vec<(&[u8], &[u8])> = model
        .iter()
        .filter(|(key, _)| within(key))
        .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
        .collect();
    let told = |pairs: &[KvPair]| -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|KvPair(key, value)| (key.as_ref().to_vec(), value.to_vec())).collect()
    };
    let take = |pairs: &mut dyn Iterator<Item = &(&[u8], &[u8])>| -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.take(limit as usize).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    };
    assert_eq!(told(up), take(&mut expected.iter()), "{range:?} limit {limit}");
    assert_eq!(told(down), take(&mut expected.iter().rev()), "{range:?} limit {limit}");
}

/// Scans of a snapshot equal a map, over any bounds, in both directions, with writes of the transaction
/// laid over, before and after splits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_equal_a_model() {
    bounded(async {
        let server = serve(3, &["k020", "k050"]).await;
        let client = client(&server).await;
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        let mut dice = Dice::new(3);
        for round in 0..8 {
            let txn = client.begin_optimistic().await.unwrap();
            for _ in 0..30 {
                let key = key(dice.below(100));
                if dice.chance(1, 3) {
                    model.remove(&key);
                    txn.delete(key).await.unwrap();
                } else {
                    model.insert(key.clone(), format!("v{round}"));
                    txn.put(key, format!("v{round}")).await.unwrap();
                }
            }
            // With the writes of the open transaction laid over the snapshot …
            for _ in 0..15 {
                let (range, limit) = a_range(&mut dice);
                let up = txn.scan(range.clone(), limit).await.unwrap();
                let down = txn.scan_reverse(range.clone(), limit).await.unwrap();
                check(&model, &range, limit, &up, &down);
            }
            server.with(|cluster| cluster.split(key(dice.below(100))));
            txn.commit().await.unwrap();
            server.with(|cluster| {
                let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
                for region in regions {
                    cluster.transfer_leader(region, 1 + dice.below(3));
                }
            });
            let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
            // … and after its commit.
            for _ in 0..15 {
                let (range, limit) = a_range(&mut dice);
                let up = snapshot.scan(range.clone(), limit).await.unwrap();
                let down = snapshot.scan_reverse(range.clone(), limit).await.unwrap();
                check(&model, &range, limit, &up, &down);
            }
            let all = snapshot.scan_keys_reverse(.., 200).await.unwrap();
            let all: Vec<&[u8]> = all.iter().map(AsRef::as_ref).collect();
            assert_eq!(all, model.keys().rev().map(String::as_bytes).collect::<Vec<_>>());
        }
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn bad_input() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        let nothing = client.begin_optimistic().await.unwrap();
        assert_eq!(nothing.scan("b".."a", 5).await.unwrap(), vec![]);
        assert_eq!(nothing.scan(.., 0).await.unwrap(), vec![]);
        assert_eq!(nothing.batch_get(Vec::<String>::new()).await.unwrap(), vec![]);
        let empty = nothing.put("k", "").await.unwrap_err();
        assert_eq!(empty.kind(), &ErrorKind::InvalidArgument);
        let long = nothing.put("k".repeat(70_000), "v").await.unwrap_err();
        assert_eq!(long.kind(), &ErrorKind::KeyTooLarge { size: 70_000, limit: 65_535 });
        assert_eq!(nothing.commit().await.unwrap(), None, "nothing to commit");
        let large = client.begin_optimistic().await.unwrap();
        large.put("k", "v".repeat(9 << 20)).await.unwrap();
        let error = large.commit().await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TooLarge, "{error}");
        client.close().await;
        let closed = client.begin_optimistic().await.map(drop).unwrap_err();
        assert_eq!(closed.kind(), &ErrorKind::Closed);
    })
    .await;
}

/// A store is killed under load and comes back: transactions go on, none has a wrong outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_and_restarted_store_is_survived() {
    bounded(async {
        let server = serve(3, &["k05"]).await;
        let client = client(&server).await;
        put(&client, &[("k00", "0"), ("k09", "0")]).await;
        let load = {
            let client = client.clone();
            tokio::spawn(async move {
                let mut sure = 0_u64;
                for _ in 0..60 {
                    let txn = client.begin_optimistic().await.unwrap();
                    let now: u64 = {
                        let value = txn.get("k00").await.unwrap().unwrap();
                        std::str::from_utf8(&value).unwrap().parse().unwrap()
                    };
                    txn.put("k00", (now + 1).to_string()).await.unwrap();
                    txn.put("k09", (now + 1).to_string()).await.unwrap();
                    match txn.commit().outcome().await {
                        CommitOutcome::Committed { .. } => {
                            sure = now + 1;
                        }
                        CommitOutcome::Undetermined(_) => {}
                        CommitOutcome::Aborted(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(15)).await;
                }
                sure
            })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.stop_store(1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.with(|cluster| cluster.elect_leaders());
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.start_store(1).await.unwrap();
        let sure = load.await.unwrap();
        let (a, b) = (read(&client, "k00").await, read(&client, "k09").await);
        assert_eq!(a, b, "all or nothing");
        let count: u64 = a.unwrap().parse().unwrap();
        assert!(count >= sure && sure > 20, "{count} {sure}");
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
    })
    .await;
}

/// A server that is busy is given time, within the deadline.
#[tokio::test]
async fn a_busy_server_is_waited_for() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1")]).await;
        server.with(|cluster| {
            let busy = RegionFault::busy("scheduler is busy");
            cluster.faults().next(On::rpc(Rpc::KvGet), busy);
        });
        let begun = Instant::now();
        assert_eq!(read(&client, "a").await.as_deref(), Some("1"));
        assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
        client.close().await;
    })
    .await;
}

/// peers.md D25: a transaction that is dropped, by `?`, by an aborted task or by a panic, takes nothing
/// down and leaves nothing behind; the client goes on.
#[tokio::test]
async fn d25_dropping_a_transaction_harms_nobody() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        drop(client.begin_optimistic().await.unwrap());
        let written = client.begin_optimistic().await.unwrap();
        written.put("a", "never").await.unwrap();
        drop(written);
        let panics = {
            let client = client.clone();
            tokio::spawn(async move {
                let txn = client.begin_optimistic().await.unwrap();
                txn.put("a", "never").await.unwrap();
                panic!("in the middle of a transaction");
            })
        };
        assert!(panics.await.unwrap_err().is_panic());
        // In the middle of its commit: undone in the background.
        let slow = Fault::Delay(Duration::from_secs(20));
        server.with(|cluster| cluster.faults().next(On::rpc(Rpc::KvPrewrite), slow));
        let txn = client.begin_optimistic().await.unwrap();
        txn.put("a", "never").await.unwrap();
        let commit = txn.commit().into_future();
        assert!(tokio::time::timeout(Duration::from_millis(100), commit).await.is_err());
        put(&client, &[("z", "after")]).await;
        assert_eq!(read(&client, "a").await, None);
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
    })
    .await;
}
