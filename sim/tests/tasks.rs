//! Tasks, timers, and what happens to clients: crash, pause, another clock, cancellation.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use anatase_client::Runtime;
use anatase_sim::{Lost, NetFault, Seeded, Sim, SimClient, SimConfig, Stalled};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn world() -> (Sim, SimClient) {
    let mut sim = Sim::new(SimConfig::new(1));
    let client = sim.client("alice");
    (sim, client)
}

/// Lets the others have a turn.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn sleeping_takes_no_real_time_and_the_right_virtual_time() {
    let (mut sim, client) = world();
    let task = client.spawn({
        let client = client.clone();
        async move {
            let begun = client.now();
            client.sleep(3600 * SECOND).await;
            client.now().since(begun)
        }
    });
    let slept = sim.run_until(task).unwrap().unwrap();
    assert!(slept >= 3600 * SECOND && slept < 3600 * SECOND + MS, "{slept:?}");
    assert!(sim.residue().is_empty());
}

#[test]
fn timers_go_off_in_their_order_and_not_when_they_are_dropped() {
    let (mut sim, client) = world();
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in [5_u32, 1, 4, 2, 3] {
        let (order, sleep) = (order.clone(), client.sleep(n * SECOND));
        let task = client.spawn(async move {
            sleep.await;
            order.lock().unwrap().push(n);
        });
        if n == 4 {
            // Its timer has to be set before it is dropped.
            sim.run_for(MS).unwrap();
            task.abort();
            assert_eq!(task.take(), Some(Err(Lost)));
        }
    }
    sim.run_for(10 * SECOND).unwrap();
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 5]);
    assert_eq!(sim.stats().timers, 4);
}

/// A task that never waits for anything takes turns with the others, and time goes on.
#[test]
fn who_spins_neither_stops_the_time_nor_the_others() {
    let mut config = SimConfig::new(1);
    config.profile.network.scheduling = Duration::ZERO;
    let mut sim = Sim::new(config);
    let client = sim.client("alice");
    let turns: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
    for turns in turns.clone() {
        client.spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
    }
    let slept = client.spawn(client.sleep(10 * MS));
    sim.run_until(slept).unwrap().unwrap();
    let turns: Vec<u64> = turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect();
    assert!(turns.iter().all(|n| *n > 500), "{turns:?}");
    let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
    assert!(most - least < most / 5, "{turns:?}");
}

#[test]
fn a_task_that_is_woken_often_has_one_turn() {
    let (mut sim, client) = world();
    let turns = Arc::new(AtomicU32::new(0));
    let waker = Arc::new(Mutex::new(None::<std::task::Waker>));
    client.spawn(poll_fn({
        let (turns, waker) = (turns.clone(), waker.clone());
        move |cx| {
            turns.fetch_add(1, Ordering::Relaxed);
            *waker.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }
    }));
    sim.run_for(MS).unwrap();
    let waker = waker.lock().unwrap().take().unwrap();
    (0..10).for_each(|_| waker.wake_by_ref());
    sim.run_for(MS).unwrap();
    assert_eq!(turns.load(Ordering::Relaxed), 2);
}

/// At one instant any order is possible: that is what ties are drawn for.
#[test]
fn tasks_run_in_any_order_and_in_the_same_for_the_same_seed() {
    let order = |seed| {
        let mut config = SimConfig::new(seed);
        config.profile.network.scheduling = Duration::ZERO;
        let mut sim = Sim::with_entropy(config, Seeded::new(seed));
        let client = sim.client("alice");
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in 0..3 {
            let order = order.clone();
            client.spawn(async move { order.lock().unwrap().push(n) });
        }
        sim.run_for(MS).unwrap();
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    };
    let mut orders: Vec<Vec<u32>> = (0..100).map(order).collect();
    assert_eq!(orders[7], order(7));
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 6, "all of them");
}

#[test]
fn a_future_that_waits_for_nothing_or_for_too_long_is_told_apart() {
    let (mut sim, client) = world();
    let stalled = sim.run_until(std::future::pending::<()>()).unwrap_err();
    assert!(matches!(stalled, Stalled::Nothing { .. }), "{stalled}");
    client.spawn({
        let client = client.clone();
        async move {
            loop {
                client.sleep(3600 * SECOND).await;
            }
        }
    });
    let stalled = sim.run_until(std::future::pending::<()>()).unwrap_err();
    assert!(matches!(stalled, Stalled::Impatient { .. }), "{stalled}");
    let left = sim.drain(SECOND).unwrap();
    assert_eq!(left.tasks, [("alice".into(), 1)]);
    assert_eq!((left.timers, left.is_quiet()), (1, false));
}

/// Two tasks that wake each other for ever, in no time.
#[test]
fn a_world_that_goes_in_circles_says_so() {
    let mut config = SimConfig::new(1);
    config.profile.network.scheduling = Duration::ZERO;
    let mut sim = Sim::new(config);
    let client = sim.client("alice");
    let wakers = Arc::new(Mutex::new([None, None]));
    for n in 0..2 {
        let wakers = wakers.clone();
        client.spawn(poll_fn(move |cx| {
            let mut wakers = wakers.lock().unwrap();
            wakers[n] = Some(cx.waker().clone());
            if let Some(other) = &wakers[1 - n] {
                other.wake_by_ref();
            }
            Poll::<()>::Pending
        }));
    }
    assert!(matches!(sim.run_for(SECOND), Err(Stalled::StandsStill { .. })));
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_client_that_crashes_loses_everything_and_starts_again() {
    let (mut sim, client) = world();
    let (boots, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    client.on_boot({
        let boots = boots.clone();
        move |client| {
            boots.fetch_add(1, Ordering::Relaxed);
            async move {
                let db = client.transactions().await.unwrap();
                client.sleep(60 * SECOND).await;
                drop(db);
            }
        }
    });
    let guard = Dropped(dropped.clone());
    let task = client.spawn({
        let sleep = client.sleep(2 * SECOND);
        async move {
            sleep.await;
            drop(guard);
        }
    });
    sim.run_for(SECOND).unwrap();
    let dead = client.runtime();
    sim.strike(NetFault::CrashClient { client: 0, down: 10 * SECOND });
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(task.take(), Some(Err(Lost)));
    assert!(!client.is_up());
    let left = sim.residue();
    assert!(left.is_quiet(), "{left:?}");
    // Nothing runs in a client that is down, nor later in one that was.
    assert!(client.spawn(async {}).is_finished());
    sim.run_for(9 * SECOND).unwrap();
    assert_eq!(boots.load(Ordering::Relaxed), 1);
    sim.run_for(2 * SECOND).unwrap();
    assert_eq!((boots.load(Ordering::Relaxed), client.is_up(), client.crashes()), (2, true, 1));
    let ran = Arc::new(AtomicBool::new(false));
    dead.spawn({
        let ran = ran.clone();
        async move { ran.store(true, Ordering::Relaxed) }
    });
    sim.run_for(100 * SECOND).unwrap();
    assert!(!ran.load(Ordering::Relaxed));
    assert!(sim.residue().is_quiet(), "{:?}", sim.residue());
}

#[test]
fn a_paused_client_hears_everything_at_once_afterwards() {
    let (mut sim, client) = world();
    let task = client.spawn({
        let client = client.clone();
        async move {
            let raw = client.raw().await.unwrap();
            raw.get("k").await.unwrap();
            let begun = client.now();
            raw.get("k").await.unwrap();
            client.now().since(begun)
        }
    });
    // Until its second read is under way.
    while sim.cluster(|cluster| cluster.calls(anatase_proto::rpc::Rpc::RawGet)) < 1 {
        sim.step().unwrap();
    }
    let turns = sim.stats().wakes;
    sim.strike(NetFault::PauseClient { client: 0, lasts: SECOND });
    sim.run_for(900 * MS).unwrap();
    assert!(!task.is_finished());
    assert!(sim.stats().wakes - turns <= 1, "nothing runs");
    sim.run_until(task).unwrap().unwrap();
    assert!(sim.now() >= SECOND && sim.now() < 2 * SECOND, "{:?}", sim.now());
}

#[test]
fn a_skewed_clock_makes_waits_longer_or_shorter() {
    for (permille, slept) in [(500, 3000 * MS), (2000, 1500 * MS)] {
        let (mut sim, client) = world();
        let task = client.spawn({
            let client = client.clone();
            async move {
                let begun = client.now();
                client.sleep(2 * SECOND).await;
                client.now().since(begun)
            }
        });
        // Half of it is over when the clock changes.
        sim.run_for(SECOND).unwrap();
        sim.strike(NetFault::SkewClient { client: 0, permille });
        let measured = sim.run_until(task).unwrap().unwrap();
        assert_eq!(measured.as_millis(), 2000, "by its own clock");
        assert_eq!(sim.now().as_millis(), slept.as_millis(), "{permille}");
    }
}

#[test]
fn an_operation_can_be_cancelled_while_its_task_goes_on() {
    let (mut sim, client) = world();
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(dropped.clone());
    let task = client.spawn({
        let client = client.clone();
        async move {
            let sleep = client.sleep(100 * SECOND);
            let cancelled = client.cancellable(async move {
                sleep.await;
                drop(guard);
            });
            let first = cancelled.await;
            (first, client.cancellable(std::future::ready(7)).await)
        }
    });
    sim.run_for(SECOND).unwrap();
    sim.strike(NetFault::Cancel { client: 0, nth: 3 });
    assert_eq!(sim.run_until(task).unwrap().unwrap(), (None, Some(7)));
    assert!(dropped.load(Ordering::Relaxed) && sim.now() < 2 * SECOND);
    assert_eq!(sim.stats().cancelled, 1);
    // Nothing to cancel is nothing.
    sim.strike(NetFault::Cancel { client: 0, nth: 0 });
    assert_eq!(sim.stats().cancelled, 1);
}

/// Tasks hold the world and the world holds them: its end has to part them.
#[test]
fn a_world_that_is_dropped_takes_its_tasks_with_it() {
    let (mut sim, client) = world();
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(dropped.clone());
    client.on_boot(|client| async move {
        let db = client.transactions().await;
        client.sleep(3600 * SECOND).await;
        drop(db);
    });
    let task = client.spawn({
        let client = client.clone();
        async move {
            client.sleep(3600 * SECOND).await;
            drop(guard);
        }
    });
    sim.run_for(SECOND).unwrap();
    drop(sim);
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(task.take(), Some(Err(Lost)));
    assert!(client.spawn(async {}).is_finished(), "nothing runs any more");
}

/// A transaction that is cancelled on its way undoes what it did, in the background.
#[test]
fn a_cancelled_commit_leaves_no_lock_once_its_client_is_closed() {
    let (mut sim, client) = world();
    let task = client.spawn({
        let client = client.clone();
        async move {
            let db = client.transactions().await.unwrap();
            let txn = db.begin_optimistic().await.unwrap();
            txn.put("a", "1").await.unwrap();
            let outcome = client.cancellable(txn.commit().outcome()).await;
            db.close().await;
            outcome.is_none()
        }
    });
    while sim.residue().locks.is_empty() {
        assert!(sim.step().unwrap());
    }
    sim.strike(NetFault::Cancel { client: 0, nth: 0 });
    assert!(sim.run_until(task).unwrap().unwrap());
    let left = sim.drain(60 * SECOND).unwrap();
    assert!(left.is_empty(), "{left:?}");
}
