//! docs/states.md against the machines: every state and every input has its place there, what it calls
//! impossible never happens, and whatever else it says is seen to happen, here or in a story.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anatase_cluster::{ClusterConfig, CommitWay, Fault, Loss, On, PdFault, RegionFault};
use anatase_core::coverage::{Coverage, Input, State};
use anatase_core::txn::TxnOptions;
use anatase_core::{
    CommitPlan, Config, KeyMode, KeyRange, LockKey, LockPlan, LockState, LockWait, Mutation,
    MutationOp, OpId, Operation, PessimisticPlan, ReadOperation, Reply, ResolveLocksPlan, ScanSpec,
    Timestamp,
};
use anatase_proto::pdpb::ErrorType;
use anatase_proto::rpc::Rpc;
use anatase_tests::Dice;
use anatase_tests::trouble::{KEYS, Trouble};
use anatase_tests::world::{Network, World, pd_endpoints};
use bytes::Bytes;
use quickcheck::{Arbitrary, Gen};

// ---- worlds --------------------------------------------------------------------------------------

/// A transaction that is open.
#[derive(Clone)]
struct Txn {
    start: Timestamp,
    pessimistic: bool,
    primary: Option<Bytes>,
    for_update_ts: Timestamp,
    held: BTreeMap<Bytes, LockState>,
}

/// Transactions of all kinds among troubles. Nobody looks at what comes of them: the model test does.
struct Play {
    world: World,
    dice: Dice,
    open: Vec<Txn>,
    flying: BTreeMap<OpId, Option<LockPlan>>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let members = 1 + 2 * dice.below(2) as usize;
        let mut shape = ClusterConfig::default().stores(4).pd_members(members);
        for key in KEYS {
            if dice.chance(1, 8) {
                shape = shape.split_keys([key]);
            }
        }
        let cluster = shape.build();
        let mut config = Config::new(pd_endpoints(&cluster), KeyMode::Txn);
        config.txn_batch_size = [1, 8, 16 << 10][dice.below(3) as usize];
        config.max_batches = [1, 2, 128][dice.below(3) as usize];
        config.max_region_loads = [1, 64][dice.below(2) as usize];
        config.resolve_lite_threshold = [1, 512][dice.below(2) as usize];
        config.fate_cache_size = [0, 2_048][dice.below(2) as usize];
        config.max_background_resolves = [0, 16][dice.below(2) as usize];
        config.attempt_timeout =
            Duration::from_millis([400, 3_000, 30_000][dice.below(3) as usize]);
        let network = Network { strays: true, ..Network::default() };
        let world = World::new(cluster, config, network, seed);
        Self { world, dice, open: Vec::new(), flying: BTreeMap::new() }
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis([5, 50, 500, 5_000, 60_000][self.dice.below(5) as usize])
    }

    fn keys(&mut self) -> BTreeSet<Bytes> {
        let many = 1 + self.dice.below(5);
        let key = |n: u64| Bytes::from_static(KEYS[n as usize]);
        (0..many).map(|_| key(self.dice.below(KEYS.len() as u64))).collect()
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        match self.world.run(Operation::Timestamp, Duration::from_secs(5)) {
            Ok(Reply::Timestamp(at)) => Some(at),
            Ok(_) | Err(_) => None,
        }
    }

    fn submit(&mut self, operation: Operation, lock: Option<LockPlan>) {
        let patience = self.patience();
        let op = self.world.submit(operation, patience);
        self.flying.insert(op, lock);
    }

    fn collect(&mut self) {
        let ids: Vec<OpId> = self.flying.keys().copied().collect();
        for id in ids {
            let Some(result) = self.world.take(id) else { continue };
            let Some(Some(plan)) = self.flying.remove(&id) else { continue };
            let Some(txn) = self.open.iter_mut().find(|txn| txn.start == plan.start_ts) else {
                continue;
            };
            if let Ok(Reply::Locked(reply)) = result {
                for key in reply.keys.into_iter().filter(|key| key.locked) {
                    let at = match plan.force {
                        true => LockState::HeldAt(key.conflict_ts.unwrap_or(plan.for_update_ts)),
                        false => LockState::Held,
                    };
                    txn.held.insert(key.key, at);
                }
                txn.for_update_ts = txn.for_update_ts.max(plan.for_update_ts);
            } else if plan.new_primary {
                txn.primary = None;
            }
        }
    }

    fn begin(&mut self) {
        if let Some(start) = self.timestamp() {
            let pessimistic = self.dice.chance(1, 2);
            let held = BTreeMap::new();
            let txn = Txn { start, pessimistic, primary: None, for_update_ts: start, held };
            self.open.push(txn);
            if self.open.len() > 4 {
                self.open.remove(0);
            }
        }
    }

    fn lock(&mut self) {
        let Some(at) = self.open.iter().position(|txn| txn.pessimistic) else { return };
        let keys = self.keys();
        let for_update_ts = match self.dice.chance(2, 3) {
            true => self.timestamp(),
            false => None,
        };
        let txn = &mut self.open[at];
        let for_update_ts = for_update_ts.unwrap_or(txn.for_update_ts);
        let mut keys: Vec<Bytes> =
            keys.into_iter().filter(|key| !txn.held.contains_key(key)).collect();
        let force = self.dice.chance(1, 4);
        keys.truncate(if force { 1 } else { 9 });
        let Some(first) = keys.first().cloned() else { return };
        let new_primary = txn.primary.is_none();
        let primary = txn.primary.get_or_insert(first).clone();
        // Lost with a call that is still out: whoever locks has to have it first.
        let has_primary = keys.contains(&primary);
        keys.retain(|key| *key >= primary || !has_primary);
        if keys.is_empty() {
            return;
        }
        let wait = match self.dice.below(4) {
            0 => LockWait::NoWait,
            1 => LockWait::Forever,
            _ => LockWait::For(Duration::from_millis(self.dice.below(2_000))),
        };
        let plan = LockPlan {
            start_ts: txn.start,
            for_update_ts,
            primary,
            new_primary,
            keys: keys.into_iter().map(LockKey::new).collect(),
            wait,
            return_values: self.dice.chance(1, 2),
            check_existence: false,
            lock_only_if_exists: false,
            force,
            is_first_lock: false,
            open_for: Duration::ZERO,
            options: Arc::default(),
        };
        self.submit(Operation::Lock(Box::new(plan.clone())), Some(plan));
    }

    fn commit(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.below(self.open.len() as u64) as usize;
        let txn = self.open.remove(at);
        let mut mutations: BTreeMap<Bytes, Mutation> = BTreeMap::new();
        for key in self.keys() {
            let op = match self.dice.below(6) {
                0 => MutationOp::Delete,
                1 => MutationOp::Insert("v".into()),
                2 => MutationOp::Lock,
                _ => MutationOp::Put("v".into()),
            };
            let locked = match txn.pessimistic && self.dice.chance(1, 4) {
                true => LockState::CheckAtPrewrite,
                false => LockState::Not,
            };
            mutations.insert(key.clone(), Mutation { locked, ..Mutation::new(key, op) });
        }
        for (key, locked) in txn.held {
            let op = MutationOp::Put("w".into());
            mutations.insert(key.clone(), Mutation { locked, ..Mutation::new(key, op) });
        }
        let primary = txn.primary.filter(|primary| mutations.contains_key(primary));
        let pessimistic = match (txn.pessimistic, primary) {
            (true, Some(primary)) => {
                Some(PessimisticPlan { primary, for_update_ts: txn.for_update_ts })
            }
            (true, None) => return,
            (false, _) => None,
        };
        let mut options = TxnOptions::default();
        options.enable_async_commit = self.dice.chance(1, 2);
        options.enable_one_pc = self.dice.chance(1, 2);
        options.causal_consistency = self.dice.chance(1, 4);
        if self.dice.chance(1, 4) {
            let later = txn.start.physical_ms() + self.dice.below(1_500);
            options.commit_wait_until = Timestamp::compose(later, 0);
            options.commit_wait_timeout = Duration::from_millis(self.dice.below(2_000));
        }
        let mutations = mutations.into_values().collect();
        let options = Arc::new(options);
        let plan = CommitPlan { options, pessimistic, ..CommitPlan::new(txn.start, mutations) };
        self.submit(Operation::Commit(Box::new(plan)), None);
    }

    fn read(&mut self) {
        let at = match self.dice.chance(1, 8) {
            true => Some(Timestamp::MAX),
            false => self.timestamp(),
        };
        let Some(at) = at else { return };
        let keys: Vec<Bytes> = self.keys().into_iter().collect();
        let op = match self.dice.below(3) {
            0 => ReadOperation::Get { key: keys[0].clone() },
            1 => ReadOperation::BatchGet { keys },
            _ => {
                let range = KeyRange { start: keys[0].clone(), end: Bytes::new() };
                let (limit, reverse, key_only) = (9, self.dice.chance(1, 2), false);
                ReadOperation::Scan(ScanSpec { range, limit, reverse, key_only })
            }
        };
        self.submit(Operation::read(op, at), None);
    }

    fn sweep(&mut self) {
        let Some(safe_point) = self.timestamp() else { return };
        let range = KeyRange { start: Bytes::new(), end: Bytes::new() };
        let async_commit_only = self.dice.chance(1, 4);
        let plan = ResolveLocksPlan { range, safe_point, async_commit_only, batch_size: 2 };
        self.submit(Operation::ResolveLocks(Box::new(plan)), None);
    }

    fn strike(&mut self, r#gen: &mut Gen) {
        let loss = if self.dice.chance(1, 3) { Loss::Silent } else { Loss::Reset };
        let one = match self.dice.chance(1, 2) {
            true => Fault::DropResponse(loss),
            false => Fault::DropRequest(loss),
        };
        const RPCS: [Rpc; 12] = [
            Rpc::KvPrewrite,
            Rpc::KvCommit,
            Rpc::KvBatchRollback,
            Rpc::KvPessimisticLock,
            Rpc::KvPessimisticRollback,
            Rpc::KvCheckTxnStatus,
            Rpc::KvCheckSecondaryLocks,
            Rpc::KvResolveLock,
            Rpc::PdTso,
            Rpc::PdGetRegion,
            Rpc::PdGetRegion,
            Rpc::PdBatchScanRegions,
        ];
        let pd_says_no = PdFault { kind: ErrorType::Unknown, message: "as drawn".to_owned() };
        let faults = self.world.cluster.faults();
        let fault = match self.dice.below(24) {
            0 => Fault::FallBack(CommitWay::Async),
            1 => Fault::FallBack(CommitWay::OnePhase),
            // A commit in one phase that is lost, and a region that splits.
            2..5 => {
                let key = KEYS[self.dice.below(KEYS.len() as u64) as usize];
                let wait = Duration::from_millis(self.dice.below(40));
                faults.times(1, On::rpc(Rpc::KvPrewrite), one);
                self.world.later(wait, move |world| {
                    world.cluster.split(key);
                });
                return;
            }
            5..8 => one,
            8..10 => Fault::Delay(Duration::from_millis(self.dice.below(900))),
            10 => RegionFault::RaftEntryTooLarge { entry_size: 9 << 20 }.into(),
            11 => pd_says_no.into(),
            12 => Fault::DoNotWait,
            // PD tells what is no longer so.
            13..15 => {
                self.world.cluster.freeze_routes();
                let keys = self.keys();
                keys.iter().for_each(|key| {
                    self.world.cluster.split(key);
                });
                let wait = Duration::from_millis(self.dice.below(9_000));
                self.world.later(wait, |world| world.cluster.thaw_routes());
                return;
            }
            _ => return Trouble::arbitrary(r#gen).strike(&mut self.world),
        };
        let rpc = RPCS[self.dice.below(RPCS.len() as u64) as usize];
        let times = [1, 1, 3, 1_000][self.dice.below(4) as usize];
        faults.times(times, On::rpc(rpc), fault);
    }

    fn step(&mut self, r#gen: &mut Gen) {
        match self.dice.below(34) {
            0..5 => self.begin(),
            5..10 => self.lock(),
            10..15 => self.commit(),
            15..18 => self.read(),
            18 => self.sweep(),
            19..24 => self.strike(r#gen),
            24..27 => {
                for _ in 0..self.dice.below(24) {
                    self.world.turn();
                }
            }
            27..30 => {
                let wait = self.dice.below(3_000);
                self.world.pass(Duration::from_millis(wait));
            }
            30 | 31 => {
                let at = self.dice.below(self.flying.len().max(1) as u64) as usize;
                if let Some(op) = self.flying.keys().nth(at).copied() {
                    self.world.cancel(op);
                    self.flying.remove(&op);
                }
            }
            32 if self.dice.chance(1, 2) => {
                self.world.crash();
                self.flying.clear();
                self.open.clear();
            }
            32 => self.world.mend(),
            _ => self.world.pass(Duration::from_secs(25)),
        }
        self.collect();
    }

    fn run(seed: u64) -> Coverage {
        let mut play = Self::new(seed);
        let mut r#gen = Gen::from_size_and_seed(100, seed);
        for _ in 0..20 + play.dice.below(60) {
            play.step(&mut r#gen);
        }
        if play.dice.chance(1, 4) {
            play.world.close();
        }
        play.world.heal();
        play.world.pass(Duration::from_secs(90));
        play.world.coverage()
    }
}

// ---- the page ------------------------------------------------------------------------------------

/// What is hardly ever met in a world: the story in the core, and the pairs that it meets. Another way
/// through the worlds must not make a hole of them.
const STORIES: &[(&str, &[(State, Input)])] = &[
    (
        "pessimistic_stories::a_store_that_does_not_let_requests_wait_is_asked_slower_and_slower",
        &[(State::LockLocking, Input::Pause)],
    ),
    (
        "coverage_stories::a_lock_is_released_when_pd_knows_its_region_again",
        &[(State::LockReleasing, Input::NotLocated), (State::LockReleasing, Input::Pause)],
    ),
    (
        "coverage_stories::no_timestamp_for_a_commit_to_come_after",
        &[(State::CommitLinearizing, Input::NoTimestamp)],
    ),
    (
        "stories::a_prewritten_lock_with_another_primary_is_corrupt",
        &[(State::CommitPrewriting, Input::NotResolved)],
    ),
    (
        "commit_outcome_stories::cancelling_while_the_primary_is_asked_is_too_late",
        &[(State::CommitInquiring, Input::Answered), (State::CommitInquiring, Input::Cancelled)],
    ),
    (
        "commit_outcome_stories::a_primary_that_cannot_be_asked_leaves_the_outcome_open",
        &[(State::CommitInquiring, Input::Failed)],
    ),
    (
        "commit_outcome_stories::a_deadline_while_the_primary_is_asked_is_undetermined",
        &[(State::CommitInquiring, Input::Deadline)],
    ),
    (
        "coverage_stories::no_timestamp_for_a_commit_whose_keys_are_locked",
        &[(State::CommitStamping, Input::NoTimestamp)],
    ),
    (
        "coverage_stories::a_primary_is_committed_when_pd_knows_its_region_again",
        &[
            (State::CommitCommittingPrimary, Input::NotLocated),
            (State::CommitCommittingPrimary, Input::Pause),
        ],
    ),
    (
        "commit_stories::cancelling_during_the_commit_is_too_late",
        &[(State::CommitCommittingPrimary, Input::Cancelled)],
    ),
    (
        "coverage_stories::a_commit_settles_when_pd_knows_the_region_again",
        &[(State::CommitSettling, Input::NotLocated), (State::CommitSettling, Input::Pause)],
    ),
    (
        "limits::every_step_of_a_commit_has_the_budget_of_its_row",
        &[
            (State::CommitSettling, Input::Failed),
            (State::CommitSettling, Input::Deadline),
            (State::CommitRollingBack, Input::Deadline),
        ],
    ),
    (
        "coverage_stories::a_commit_whose_release_is_refused",
        &[(State::CommitReleasing, Input::Failed)],
    ),
    (
        "coverage_stories::a_commit_releases_when_pd_knows_the_region_again",
        &[
            (State::CommitReleasing, Input::Regroup),
            (State::CommitReleasing, Input::Located),
            (State::CommitReleasing, Input::NotLocated),
            (State::CommitReleasing, Input::Pause),
        ],
    ),
    (
        "coverage_stories::locks_looked_into_for_a_commit_that_was_dropped",
        &[(State::CommitReleasing, Input::Late)],
    ),
    (
        "coverage_stories::a_commit_whose_release_is_never_answered",
        &[(State::CommitReleasing, Input::Deadline)],
    ),
    (
        "coverage_stories::a_lock_call_that_meets_a_corrupt_lock",
        &[(State::LockLocking, Input::NotResolved)],
    ),
    (
        "coverage_stories::locks_looked_into_for_a_call_that_waits_for_its_requests",
        &[(State::LockDraining, Input::Late)],
    ),
    (
        "coverage_stories::a_deadlock_with_itself_is_told_at_the_deadline_while_a_request_is_out",
        &[(State::LockDraining, Input::Deadline)],
    ),
    (
        "coverage_stories::a_cancelled_deadlock_with_itself_drains_and_releases",
        &[(State::LockDraining, Input::Cancelled)],
    ),
    (
        "coverage_stories::a_release_that_is_never_answered_is_given_up",
        &[(State::LockReleasing, Input::Deadline)],
    ),
    (
        "coverage_stories::a_cancelled_deadlock_with_itself_goes_on_releasing",
        &[(State::LockReleasing, Input::Cancelled)],
    ),
    (
        "coverage_stories::locks_looked_into_for_a_call_that_has_failed",
        &[(State::LockResting, Input::Pause), (State::LockResting, Input::Late)],
    ),
    (
        "coverage_stories::a_deadlock_is_told_at_the_deadline",
        &[(State::LockResting, Input::Deadline)],
    ),
    (
        "coverage_stories::a_deadlock_is_cancelled_in_the_moment_before_it_is_told",
        &[(State::LockResting, Input::Cancelled)],
    ),
    (
        "coverage_stories::no_timestamp_to_judge_a_lock_by",
        &[(State::InquiryStamping, Input::NoTimestamp)],
    ),
    (
        "coverage_stories::a_region_that_is_found_too_late_while_the_time_is_asked",
        &[(State::InquiryStamping, Input::Late)],
    ),
    (
        "limits::every_question_on_the_way_has_the_budget_of_its_row",
        &[(State::InquiryChecking, Input::Failed)],
    ),
    (
        "coverage_stories::a_region_that_is_found_too_late_while_the_primary_is_asked",
        &[(State::InquiryChecking, Input::Late)],
    ),
    ("coverage_stories::a_recovery_that_cannot_ask", &[(State::InquiryRecovering, Input::Failed)]),
    (
        "recovery_stories::secondaries_are_found_where_they_moved",
        &[(State::InquiryRecovering, Input::Regroup)],
    ),
    (
        "coverage_stories::a_recovery_waits_until_pd_knows_the_region",
        &[(State::InquiryRecovering, Input::NotLocated), (State::InquiryRecovering, Input::Pause)],
    ),
    (
        "recovery_stories::readers_and_writers_of_one_async_commit_recover_it_once",
        &[(State::InquiryRecovering, Input::Joined)],
    ),
    (
        "coverage_stories::a_region_that_is_found_too_late_for_the_next_recovery",
        &[(State::InquiryRecovering, Input::Late)],
    ),
    ("coverage_stories::a_reader_joins_during_a_pause", &[(State::InquiryPausing, Input::Joined)]),
    (
        "coverage_stories::a_region_that_is_found_too_late_during_a_pause",
        &[(State::InquiryPausing, Input::Late)],
    ),
    (
        "coverage_stories::locks_are_cleaned_when_pd_knows_the_region_again",
        &[(State::InquirySettled, Input::NotLocated), (State::InquirySettled, Input::Pause)],
    ),
    (
        "coverage_stories::a_region_that_is_found_too_late_while_locks_are_cleaned",
        &[(State::InquirySettled, Input::Late)],
    ),
];

/// What stands for «cannot occur».
const NEVER: &str = "—";

/// Machine, state and input, as the page names them.
type Place = (String, String, String);

/// The page's word for each pair, by the names in it; and what is wrong with its tables.
fn page(text: &str) -> (BTreeMap<Place, String>, Vec<String>) {
    let mut cells = BTreeMap::new();
    let mut wrong = Vec::new();
    let (mut machine, mut columns) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            (machine, columns) = (title.to_owned(), Vec::new());
        }
        let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) else {
            continue;
        };
        let words: Vec<String> = row.split(" | ").map(|word| word.trim().to_owned()).collect();
        if machine.is_empty() {
            continue;
        }
        if words[0] == "state" {
            columns = words;
            continue;
        }
        if words.len() != columns.len() {
            wrong.push(format!("{machine}: {} has {} cells", words[0], words.len()));
            continue;
        }
        for (input, word) in columns.iter().zip(&words).skip(1) {
            if word.is_empty() {
                wrong.push(format!("{machine}: {} × {input} is empty", words[0]));
            }
            let place = (machine.clone(), words[0].clone(), input.clone());
            if cells.insert(place, word.clone()).is_some() {
                wrong.push(format!("{machine}: {} × {input} is there twice", words[0]));
            }
        }
    }
    (cells, wrong)
}

/// Whether `file::name` is a test in the core.
fn is_story(claim: &str) -> bool {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let Some((file, name)) = claim.split_once("::") else { return false };
    ["", "op", "resolve"].iter().any(|folder| {
        let text = fs::read_to_string(core.join(folder).join(format!("{file}.rs")));
        text.is_ok_and(|text| text.contains(&format!("#[test]\nfn {name}(")))
    })
}

/// Everything that is wrong, given what was met.
fn objections(text: &str, met: &Coverage) -> Vec<String> {
    let (mut cells, mut wrong) = page(text);
    for (machine, state, input, count) in met.rows() {
        let pair = format!("{}: {} × {}", machine.name(), state.name(), input.name());
        let place = (machine.name().into(), state.name().into(), input.name().into());
        let story = STORIES.iter().find(|(_, pairs)| pairs.contains(&(state, input)));
        match cells.remove(&place).as_deref() {
            None => wrong.push(format!("{pair} is not on the page")),
            Some(NEVER) if count > 0 => {
                wrong.push(format!("{pair} cannot occur, and did: {count}"))
            }
            Some(NEVER) if story.is_some() => wrong.push(format!("{pair} cannot occur in a story")),
            Some(NEVER) => {}
            Some(_) if count == 0 && story.is_none() => wrong.push(format!("{pair} was never met")),
            Some(_) => {}
        }
    }
    wrong.extend(cells.into_keys().map(|place| format!("{place:?} is none of the machines'")));
    let missing = STORIES.iter().filter(|(claim, _)| !is_story(claim));
    wrong.extend(missing.map(|(claim, _)| format!("no such story: {claim}")));
    wrong
}

const PAGE: &str = include_str!("../../docs/states.md");

/// Issue 5: «with no hole».
#[test]
fn every_state_meets_every_input_as_the_page_says() {
    let mut met = Coverage::new();
    for seed in 0..3_000 {
        met.merge(&Play::run(seed));
    }
    let wrong = objections(PAGE, &met);
    assert!(wrong.is_empty(), "{wrong:#?}\nmet: {met:#?}");
}

/// The test above can fail, in each of its ways.
#[test]
fn a_page_that_is_wrong_is_objected_to() {
    let mut met = Coverage::new();
    for seed in 0..60 {
        met.merge(&Play::run(seed));
    }
    let fails = |from: &str, to: &str, expected: &str| {
        assert!(PAGE.contains(from), "{from}");
        let wrong = objections(&PAGE.replace(from, to), &met);
        assert!(wrong.iter().any(|text| text.contains(expected)), "{from} → {to}: {wrong:#?}");
    };
    fails("| groups anew |", "| — |", "commit: Prewriting × regroup cannot occur, and did: ");
    fails("| New | — |", "| New | over |", "inquiry: New × answered was never met");
    fails("| Resting |", "| Sleeping |", "lock: Resting × pause is not on the page");
    fails("| Resting |", "| Sleeping |", "\"Sleeping\", \"pause\") is none of the machines'");
    fails("| foreign |", "| alien |", "commit: Stamping × foreign is not on the page");
    fails("| New | — |", "| New |", "inquiry: New has 16 cells");
    fails("| Resting |", "| Draining |", "lock: Draining × answered is there twice");
    fails("| Pausing | — |", "| Pausing |  |", "inquiry: Pausing × answered is empty");
    fails(
        "tells its error | — |\n\n- *timestamp*",
        "— | — |\n\n- *timestamp*",
        "lock: Resting × cancelled cannot occur in a story",
    );
    assert!(is_story("coverage_stories::a_reader_joins_during_a_pause"));
    assert!(!is_story("coverage_stories::a_reader_joins"));
}
