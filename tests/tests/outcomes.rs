//! What is told of a commit, and what became of it: every way to commit, each of its requests, and
//! everything that can happen to a request (`transactions.md` §11).
//!
//! Real core, embedded cluster, virtual time. After each commit everything is mended, the locks that are
//! left get their time to expire, every key is read, and what is found is held against what was told. The
//! table that comes out is the one in `docs/transactions.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anatase_cluster::{ClusterConfig, Fault, Loss, On, WriteKind};
use anatase_core::txn::{BufferLimits, LockCall, LockOptions, Transaction, TxnMode, TxnOptions};
use anatase_core::{
    CommitOutcome, CommitPlan, CommittedBy, Config, KeyMode, LockKey, Mutation, MutationOp,
    Operation, ReadOperation, Reply, Timestamp,
};
use anatase_proto::rpc::Rpc;
use anatase_tests::world::{Network, World, pd_endpoints};

/// A way to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    name: &'static str,
    mode: TxnMode,
    async_commit: bool,
    one_pc: bool,
    /// Its keys; the regions are split at `g`.
    keys: &'static [&'static str],
    by: CommittedBy,
}

const TWO_REGIONS: &[&str] = &["a", "b", "x"];
const ONE_REGION: &[&str] = &["a", "b"];

const WAYS: [Way; 6] = [
    way("optimistic, two phases", TxnMode::Optimistic, false, false, CommittedBy::TwoPhase),
    way("optimistic, async", TxnMode::Optimistic, true, false, CommittedBy::Async),
    way("optimistic, one phase", TxnMode::Optimistic, false, true, CommittedBy::OnePhase),
    way("pessimistic, two phases", TxnMode::Pessimistic, false, false, CommittedBy::TwoPhase),
    way("pessimistic, async", TxnMode::Pessimistic, true, false, CommittedBy::Async),
    way("pessimistic, one phase", TxnMode::Pessimistic, false, true, CommittedBy::OnePhase),
];

const fn way(
    name: &'static str,
    mode: TxnMode,
    async_commit: bool,
    one_pc: bool,
    by: CommittedBy,
) -> Way {
    let keys = if one_pc { ONE_REGION } else { TWO_REGIONS };
    Way { name, mode, async_commit, one_pc, keys, by }
}

/// What happens to a request, from a certain one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Lost,
    Reset,
    Unanswered,
    Broken,
    Late,
}

const MISHAPS: [(&str, Mishap); 5] = [
    ("request lost", Mishap::Lost),
    ("connection broken before", Mishap::Reset),
    ("reply lost", Mishap::Unanswered),
    ("connection broken after", Mishap::Broken),
    ("reply 70 s late", Mishap::Late),
];

impl Mishap {
    fn fault(self) -> Fault {
        match self {
            Self::Lost => Fault::DropRequest(Loss::Silent),
            Self::Reset => Fault::DropRequest(Loss::Reset),
            Self::Unanswered => Fault::DropResponse(Loss::Silent),
            Self::Broken => Fault::DropResponse(Loss::Reset),
            Self::Late => Fault::Delay(Duration::from_secs(70)),
        }
    }
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Prewrite { secondary: bool },
    Commit { secondary: bool },
}

const PATIENCE: Duration = Duration::from_secs(60);

fn world(seed: u64) -> World {
    let cluster = ClusterConfig::default().stores(3).split_keys(["g"]).build();
    let config = Config::new(pd_endpoints(&cluster), KeyMode::Txn);
    let network = Network { late_one_in: 0, ..Network::default() };
    World::new(cluster, config, network, seed)
}

fn timestamp(world: &mut World) -> Timestamp {
    match world.run(Operation::Timestamp, PATIENCE) {
        Ok(Reply::Timestamp(at)) => at,
        other => panic!("{other:?}"),
    }
}

fn get(world: &mut World, key: &'static str) -> Option<bytes::Bytes> {
    let at = timestamp(world);
    match world.run(Operation::read(ReadOperation::Get { key: key.into() }, at), PATIENCE) {
        Ok(Reply::Value(value)) => value,
        other => panic!("{key}: {other:?}"),
    }
}

/// Commits in this way, with this mishap, and checks what was told. Gives what was told.
fn outcome(way: &Way, which: Option<(Which, Mishap, bool)>, seed: u64) -> &'static str {
    let context = format!("{} {which:?}", way.name);
    let mut world = world(seed);
    let start = timestamp(&mut world);
    // The cluster has a region each on the stores that the keys' regions are led by.
    let options = Arc::new({
        let mut options = TxnOptions::default();
        (options.enable_async_commit, options.enable_one_pc) = (way.async_commit, way.one_pc);
        options
    });
    let mut txn = Transaction::new(start, way.mode, options, BufferLimits::default());
    if way.mode == TxnMode::Pessimistic {
        let keys = way.keys.iter().map(|key| LockKey::new(*key)).collect();
        let for_update_ts = timestamp(&mut world);
        let (none, now) = (Duration::ZERO, world.now());
        let call = txn.lock_call(keys, for_update_ts, &LockOptions::default(), none, now);
        let LockCall::Ask(plan) = call.expect("keys to lock") else { panic!("nothing is held") };
        match world.run(Operation::Lock(plan), PATIENCE) {
            Ok(Reply::Locked(locked)) => drop(txn.locked(locked).expect("its own reply")),
            other => panic!("{context}: {other:?}"),
        }
    }
    for key in way.keys {
        txn.buffer_mut().put(*key, format!("{key} of {start:?}")).expect("no limits");
    }
    let plan = txn.commit_plan(Duration::ZERO).expect("open").expect("something to commit");
    if let Some((which, mishap, for_good)) = which {
        let (rpc, secondary) = match which {
            Which::Prewrite { secondary } => (Rpc::KvPrewrite, secondary),
            Which::Commit { secondary } => (Rpc::KvCommit, secondary),
        };
        let key = if secondary { b"x" } else { b"a" };
        let region = world.cluster.region_of(key).expect("every key has one").id;
        let on = On::rpc(rpc).region(region);
        match for_good {
            true => world.cluster.faults().always(on, mishap.fault()),
            false => world.cluster.faults().next(on, mishap.fault()),
        };
    }
    let told = world.run(Operation::Commit(Box::new(plan)), PATIENCE);
    let struck = world.cluster.faults().struck();
    world.cluster.faults().clear();
    world.heal();
    // Late replies arrive, locks outlive their time, what goes on in the background comes to its end.
    world.pass(Duration::from_secs(120));
    let values: BTreeMap<&str, bool> =
        way.keys.iter().map(|key| (*key, get(&mut world, key).is_some())).collect();
    world.pass(Duration::from_secs(60));
    let committed: Vec<Option<u64>> = way
        .keys
        .iter()
        .map(|key| {
            let writes = world.cluster.writes(key);
            writes
                .iter()
                .find(|write| write.start_ts == start.version() && write.kind == WriteKind::Put)
                .map(|w| w.commit_ts)
        })
        .collect();
    let all = values.values().all(|there| *there) && committed.iter().all(|at| *at == committed[0]);
    let none = values.values().all(|there| !there) && committed.iter().all(Option::is_none);
    assert!(all || none, "{context}: torn: {values:?} {committed:?}");
    // Readers pass pessimistic locks by; who writes gets them out of the way.
    let start_ts = timestamp(&mut world);
    let put = |key: &&'static str| Mutation::new(*key, MutationOp::Put("last".into()));
    let plan = CommitPlan::new(start_ts, way.keys.iter().map(put).collect());
    let last = world.run(Operation::Commit(Box::new(plan)), PATIENCE);
    let Ok(Reply::Commit(CommitOutcome::Committed { .. })) = last else {
        panic!("{context}: {last:?}")
    };
    world.pass(Duration::from_secs(60));
    assert_eq!(world.cluster.locks(), [], "{context}: a lock is left");
    let Ok(Reply::Commit(told)) = told else { panic!("{context}: {told:?}") };
    match told {
        CommitOutcome::Committed { at, by, .. } => {
            assert!(all && committed[0] == Some(at.version()), "{context}: {at:?} {committed:?}");
            if struck == 0 {
                assert_eq!(by, way.by, "{context}");
            }
            "committed"
        }
        CommitOutcome::Aborted(error) => {
            assert!(none && !error.is_undetermined(), "{context}: {error:?} {committed:?}");
            "aborted"
        }
        CommitOutcome::Undetermined(error) => {
            assert!(error.is_undetermined(), "{context}: {error:?}");
            if all { "undetermined (it was committed)" } else { "undetermined (it was not)" }
        }
    }
}

/// The table of `docs/transactions.md`. It is printed when it differs.
#[test]
fn what_is_told_of_a_commit_is_what_became_of_it() {
    let mut table = String::from(
        "| transaction | request | what happens to it | the first time only | from then on |\n|---|---|---|---|---|\n",
    );
    for way in &WAYS {
        assert_eq!(outcome(way, None, 1), "committed", "{way:?}");
        let both = way.keys == TWO_REGIONS;
        let mut requests = vec![("prewrite of the primary", Which::Prewrite { secondary: false })];
        if both {
            requests.push(("prewrite of the others", Which::Prewrite { secondary: true }));
        }
        if way.by != CommittedBy::OnePhase {
            requests.push(("commit of the primary", Which::Commit { secondary: false }));
        }
        if both {
            requests.push(("commit of the others", Which::Commit { secondary: true }));
        }
        for (request, which) in requests {
            for (name, mishap) in MISHAPS {
                let told = [false, true].map(|for_good| {
                    // The outcome must not hang on a draw.
                    let told = outcome(way, Some((which, mishap, for_good)), 1);
                    for seed in 2..5 {
                        let again = outcome(way, Some((which, mishap, for_good)), seed);
                        assert_eq!(again, told, "{} {request} {name} seed {seed}", way.name);
                    }
                    told
                });
                let [once, for_good] = told;
                writeln!(table, "| {} | {request} | {name} | {once} | {for_good} |", way.name)
                    .unwrap();
            }
        }
    }
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/transactions.md");
    let docs = std::fs::read_to_string(docs).unwrap_or_default();
    assert!(docs.contains(&table), "docs/transactions.md has another table:\n{table}");
}

/// Whoever adds a kind of error says in `docs/transactions.md` what is to be done with it.
#[test]
fn each_kind_of_error_is_told_about() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let source = std::fs::read_to_string(format!("{root}/core/src/error.rs")).unwrap();
    let docs = std::fs::read_to_string(format!("{root}/docs/transactions.md")).unwrap();
    let (_, kinds) = source.split_once("pub enum ErrorKind {\n").expect("the kinds");
    let (kinds, _) = kinds.split_once("\n}\n").expect("their end");
    // Variants stand four blanks in, their fields eight.
    let names = kinds.lines().filter_map(|line| {
        let rest = line.strip_prefix("    ")?;
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        name.starts_with(|c: char| c.is_ascii_uppercase()).then_some(name)
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 30 && names.contains(&"Deadlock"), "{names:?}");
    let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `")).collect();
    for name in names {
        let told = rows.iter().any(|row| {
            row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`")))
        });
        assert!(told, "docs/transactions.md does not say what to do with {name}");
    }
}
