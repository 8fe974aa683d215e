//! Pessimistic locks that are waited for at the stores, in virtual time: who waits has the lock
//! milliseconds after it is free, and not a time-out later (`transactions.md` §13.4).

use std::sync::Arc;
use std::time::Duration;

use anatase_cluster::ClusterConfig;
use anatase_core::txn::TxnOptions;
use anatase_core::{
    Config, Error, ErrorKind, KeyMode, LockKey, LockPlan, LockReply, LockWait, OpId, Operation,
    PessimisticRollbackPlan, Reply, Timestamp,
};
use anatase_tests::world::{Network, World, pd_endpoints};

const LONG: Duration = Duration::from_secs(60);

fn world(seed: u64) -> World {
    let cluster = ClusterConfig::default().split_keys(["m"]).build();
    let config = Config::new(pd_endpoints(&cluster), KeyMode::Txn);
    World::new(cluster, config, Network { late_one_in: 0, ..Network::default() }, seed)
}

fn timestamp(world: &mut World) -> Timestamp {
    match world.run(Operation::Timestamp, LONG) {
        Ok(Reply::Timestamp(ts)) => ts,
        other => panic!("{other:?}"),
    }
}

/// A request of the transaction for a key, which is its primary.
fn ask(world: &mut World, start_ts: Timestamp, key: &'static str, force: bool) -> OpId {
    let for_update_ts = timestamp(world);
    let plan = LockPlan {
        start_ts,
        for_update_ts,
        primary: key.into(),
        new_primary: true,
        keys: vec![LockKey::new(key)],
        wait: LockWait::For(Duration::from_secs(5)),
        return_values: false,
        check_existence: false,
        lock_only_if_exists: false,
        force,
        is_first_lock: false,
        open_for: Duration::ZERO,
        options: Arc::new(TxnOptions::default()),
    };
    world.submit(Operation::Lock(Box::new(plan)), LONG)
}

fn locked(result: Result<Reply, Error>) -> Result<LockReply, Error> {
    match result? {
        Reply::Locked(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

fn release(world: &mut World, start_ts: Timestamp, key: &'static str) {
    let plan = PessimisticRollbackPlan {
        start_ts,
        for_update_ts: Timestamp::MAX,
        keys: vec![key.into()],
        stop_heartbeat: true,
        options: Arc::new(TxnOptions::default()),
    };
    world.run(Operation::PessimisticRollback(Box::new(plan)), LONG).unwrap();
}

/// Two wait for the lock of a third. Both have it in the end, one after the other.
#[test]
fn a_free_lock_is_had_at_once() {
    for seed in 0..50 {
        let world = &mut world(seed);
        let [first, second, third] = [(); 3].map(|()| timestamp(world));
        let op = ask(world, first, "k", true);
        locked(world.finish(op)).unwrap();
        let waiting = ask(world, second, "k", true);
        let last = ask(world, third, "k", true);
        world.pass(Duration::from_millis(300));
        assert_eq!(world.cluster.parked().len(), 2, "at the store, not here");
        assert!(world.is_open(waiting) && world.is_open(last));
        release(world, first, "k");
        let free = world.now();
        assert!(locked(world.finish(waiting)).is_ok());
        assert!(world.now().since(free) < Duration::from_millis(10), "seed {seed}");
        assert!(world.is_open(last), "one has it");
        release(world, second, "k");
        let free = world.now();
        assert!(locked(world.finish(last)).is_ok());
        assert!(world.now().since(free) < Duration::from_millis(10), "seed {seed}");
    }
}

/// What is held longer than somebody wants to wait.
#[test]
fn a_lock_that_is_not_let_go_of_is_waited_for_and_no_longer() {
    let world = &mut world(1);
    let [first, second] = [(); 2].map(|()| timestamp(world));
    let op = ask(world, first, "k", false);
    locked(world.finish(op)).unwrap();
    let begun = world.now();
    let waiting = ask(world, second, "k", false);
    let error = locked(world.finish(waiting)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LockWaitTimeout { .. }), "{error}");
    let waited = world.now().since(begun);
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_millis(5500), "{waited:?}");
}

/// What closes a circle over two stores fails at once, and the other goes on when that one has let
/// go.
#[test]
fn a_deadlock_ends_at_once() {
    for seed in 0..20 {
        let world = &mut world(seed);
        let [first, second] = [(); 2].map(|()| timestamp(world));
        for (start_ts, key) in [(first, "a"), (second, "z")] {
            let op = ask(world, start_ts, key, false);
            locked(world.finish(op)).unwrap();
        }
        let waiting = ask(world, first, "z", true);
        world.pass(Duration::from_millis(50));
        let begun = world.now();
        let closing = ask(world, second, "a", true);
        let error = locked(world.finish(closing)).unwrap_err();
        let ErrorKind::Deadlock(deadlock) = error.kind() else { panic!("{error}") };
        assert_eq!(deadlock.wait_chain.len(), 2);
        assert!(world.now().since(begun) < Duration::from_millis(20), "seed {seed}");
        release(world, second, "z");
        assert!(locked(world.finish(waiting)).is_ok());
    }
}
