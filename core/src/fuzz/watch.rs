//! What is held against the outputs of a core while it runs: who was told what, which command is
//! whose turn, and that no transaction is torn apart.

use std::collections::{BTreeMap, BTreeSet};

use anatase_core::wire::{Head, Response};
use anatase_core::{
    Call, Command, CommandId, CommitOutcome, CommittedBy, Error, ErrorKind, Event, Failure, Key,
    OpId, Operation, Reply,
};
use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;
use prost::Message;

/// Everything a driver can know.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    /// Operations whose owner waits to hear of them.
    live: BTreeMap<OpId, Kind>,
    /// Every operation there ever was.
    pub(crate) ops: Vec<OpId>,
    /// Commands that wait for an answer, in the order given out.
    pub(crate) waiting: Vec<Command>,
    /// Commands that have had one, or were withdrawn.
    pub(crate) over: Vec<Command>,
    /// Those among them that were answered since the outputs were last taken out: the core may have
    /// withdrawn them before it saw the answer.
    raced: BTreeSet<CommandId>,
    /// The largest timestamp that anybody was told.
    newest: u64,
    /// All that were told: no two transactions begin at one.
    told: BTreeSet<u64>,
    /// By start timestamp.
    transactions: BTreeMap<u64, Transaction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    /// It has to be given one above every timestamp that was told before it was asked for.
    Timestamp {
        above: u64,
    },
    Write,
    /// Of pessimistic locks.
    Lock,
    Commit {
        start_ts: u64,
    },
}

/// A transaction that is being committed.
#[derive(Clone, Default)]
struct Transaction {
    keys: BTreeSet<Key>,
    /// Keys that a store said are locked.
    landed: BTreeSet<Key>,
    /// Those among them whose locks say when the transaction is committed, if all do.
    timed: BTreeMap<Key, u64>,
    /// How many requests for such a lock may have been executed, besides those that were answered.
    copies: BTreeMap<Key, u32>,
    /// How many requests that commit everything at once may have been executed.
    whole: u32,
    /// At these timestamps a store said to have committed everything at once.
    at_once: BTreeSet<u64>,
    /// A key has a lock of two phases: from now on it takes the primary's commit.
    plain: bool,
    decision: Decision,
    /// Something happened after which nobody can tell the outcome from outside.
    may_be_undetermined: bool,
}

/// What became of the last request that commits the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Decision {
    #[default]
    NotAsked,
    /// It is on its way, or was withdrawn, or its answer was lost or made no sense.
    Open,
    /// The store answered otherwise, or it never left.
    NotYet,
    Committed,
}

impl Transaction {
    fn is_committed_by_locks(&self) -> bool {
        !self.plain && self.keys.iter().all(|key| self.timed.contains_key(key))
    }

    /// What may be committed is neither undone nor told as aborted.
    #[track_caller]
    fn is_undoable(&self, what: &str) {
        let undecided = matches!(self.decision, Decision::NotAsked | Decision::NotYet);
        assert!(undecided, "{:?}, and {what}", self.decision);
        assert!(self.whole == 0 && self.at_once.is_empty(), "perhaps at once, and {what}");
        let may_be = |key: &Key| {
            self.timed.contains_key(key) || self.copies.get(key).is_some_and(|copies| *copies > 0)
        };
        let by_locks = !self.plain && !self.keys.is_empty() && self.keys.iter().all(may_be);
        assert!(!by_locks, "perhaps by its locks, and {what}");
    }

    /// transactions.md §8.4, §11, seen from outside.
    fn prewritten(
        &mut self,
        asked: &kvrpcpb::PrewriteRequest,
        keys: Vec<Key>,
        answer: &Result<Response, Failure>,
    ) {
        let reply = match answer {
            Err(Failure::NotSent(_)) => return self.not_executed(asked, &keys),
            // What the answer was to, or what it said, nobody knows.
            Err(Failure::MaybeExecuted(_)) => return,
            Ok(Response::Prewrite(reply)) => reply,
            Ok(_) => return,
        };
        if let Some(error) = &reply.region_error {
            if error.undetermined_result.is_none() {
                self.not_executed(asked, &keys);
            }
            return;
        }
        self.not_executed(asked, &keys);
        let locks = |it: &kvrpcpb::Mutation| it.op() != kvrpcpb::Op::CheckNotExists;
        let shows = !reply.errors.is_empty() && asked.mutations.iter().all(locks);
        if !asked.try_one_pc && shows {
            // A part has been refused: had the whole been committed, it would have shown.
            self.whole = 0;
        }
        if !reply.errors.is_empty() {
            return;
        }
        if reply.one_pc_commit_ts != 0 {
            self.may_be_undetermined = true;
            self.at_once.insert(reply.one_pc_commit_ts);
        } else if reply.min_commit_ts == 0 {
            self.plain = true;
            if asked.try_one_pc {
                // The whole is locked as for two phases. Had a copy committed it before, the store
                // would have told when; one that comes later finds these locks, or what became of them.
                self.whole = 0;
            }
        } else if asked.use_async_commit && !asked.try_one_pc {
            for key in &keys {
                self.timed.insert(key.clone(), reply.min_commit_ts);
            }
        } else if asked.try_one_pc {
            // Half of a commit at once.
            self.may_be_undetermined = true;
            self.at_once.insert(reply.min_commit_ts);
        }
        self.landed.extend(keys);
    }

    fn not_executed(&mut self, asked: &kvrpcpb::PrewriteRequest, keys: &[Key]) {
        if asked.try_one_pc {
            self.whole = self.whole.saturating_sub(1);
        } else if asked.use_async_commit {
            for key in keys {
                if let Some(copies) = self.copies.get_mut(key) {
                    *copies = copies.saturating_sub(1);
                }
            }
        }
    }
}

/// The application's keys: without the four bytes of a keyspace.
fn keys_of(call: &Call, prewrite: &kvrpcpb::PrewriteRequest) -> Vec<Key> {
    let prefix = match &call.request.head {
        Head::Store(context) if context.keyspace.is_some() => 4,
        _ => 0,
    };
    prewrite.mutations.iter().map(|it| it.key.slice(prefix..)).collect()
}

pub(crate) fn id_of(command: &Command) -> CommandId {
    match command {
        Command::Call(call) => call.id,
        Command::Timestamps(ask) => ask.id,
        Command::Abort { id } => *id,
    }
}

impl Watch {
    pub(crate) fn submitted(&mut self, id: OpId, operation: &Operation) {
        let kind = match operation {
            Operation::Commit(plan) => {
                let start_ts = plan.start_ts.version();
                let keys = plan.mutations.iter().map(|mutation| mutation.key.clone()).collect();
                let transaction = Transaction { keys, ..Default::default() };
                self.transactions.insert(start_ts, transaction);
                Kind::Commit { start_ts }
            }
            Operation::Timestamp => Kind::Timestamp { above: self.newest },
            Operation::Read { .. }
            | Operation::ScanLocks(_)
            | Operation::ResolveLocks(_)
            | Operation::TxnStatus(_)
            | Operation::Ready
            | Operation::LowResolutionTimestamp
            | Operation::StaleTimestamp { .. }
            | Operation::MinTimestamp
            | Operation::ExternalTimestamp => Kind::Read,
            Operation::Lock(_) => Kind::Lock,
            _ => Kind::Write,
        };
        assert_eq!(self.live.insert(id, kind), None, "{id:?} is in use");
        self.ops.push(id);
    }

    /// A commit was begun in the middle: every key is locked, with `timed` by locks that commit it
    /// then; with `whole` it may have been committed at once.
    pub(crate) fn assume(&mut self, start_ts: u64, timed: Option<u64>, whole: bool) {
        let Some(transaction) = self.transactions.get_mut(&start_ts) else { return };
        transaction.landed = transaction.keys.clone();
        transaction.plain = timed.is_none();
        transaction.timed = timed
            .iter()
            .flat_map(|at| transaction.keys.iter().map(|key| (key.clone(), *at)))
            .collect();
        if whole {
            transaction.whole = 1;
            transaction.may_be_undetermined = true;
        }
    }

    pub(crate) fn is_live(&self, id: OpId) -> bool {
        self.live.contains_key(&id)
    }

    pub(crate) fn cancelled(&mut self, id: OpId) {
        self.live.remove(&id);
    }

    /// Takes the `which`th waiting command for an answer.
    pub(crate) fn take(&mut self, which: usize) -> Option<Command> {
        if self.waiting.is_empty() {
            return None;
        }
        let command = self.waiting.remove(which % self.waiting.len());
        self.raced.insert(id_of(&command));
        self.over.push(command.clone());
        Some(command)
    }

    /// The outputs were taken out: what the core has withdrawn is known.
    pub(crate) fn drained(&mut self) {
        self.raced.clear();
    }

    pub(crate) fn nothing_is_left(&self) {
        assert!(self.live.is_empty(), "never told: {:?}", self.live);
        assert!(self.waiting.is_empty(), "neither answered nor withdrawn: {:?}", self.waiting);
    }

    // ---- commands ------------------------------------------------------------------------------

    pub(crate) fn command(&mut self, command: Command) {
        if let Command::Abort { id } = command {
            match self.waiting.iter().position(|command| id_of(command) == id) {
                Some(index) => {
                    let withdrawn = self.waiting.remove(index);
                    self.over.push(withdrawn);
                }
                None => assert!(self.raced.remove(&id), "{id:?} was not to be withdrawn"),
            }
            return;
        }
        let id = id_of(&command);
        let known = self.waiting.iter().chain(&self.over).any(|command| id_of(command) == id);
        assert!(!known, "{id:?} was given out before");
        if let Command::Call(call) = &command {
            keys_lie_in_the_keyspace(call);
            self.sent(call);
        }
        self.waiting.push(command);
    }

    /// transactions.md §8–§11, as far as they can be told from outside.
    pub(crate) fn sent(&mut self, call: &Call) {
        match call.request.rpc {
            Rpc::KvCommit => {
                let commit: kvrpcpb::CommitRequest = message(call);
                let Some(transaction) = self.transactions.get_mut(&commit.start_version) else {
                    panic!("a commit that nobody asked for: {commit:?}");
                };
                let landed = &transaction.landed;
                assert!(transaction.keys.is_subset(landed), "not every key is locked: {commit:?}");
                if commit.use_async_commit {
                    assert!(transaction.is_committed_by_locks(), "not by its locks: {commit:?}");
                    let at = transaction.timed.values().max().copied();
                    assert_eq!(Some(commit.commit_version), at, "{commit:?}");
                    transaction.decision = Decision::Committed;
                } else if commit.commit_role() == kvrpcpb::CommitRole::Primary {
                    assert_ne!(transaction.decision, Decision::Committed, "{commit:?}");
                    transaction.decision = Decision::Open;
                    transaction.may_be_undetermined = true;
                } else {
                    assert_eq!(transaction.decision, Decision::Committed, "{commit:?}");
                }
            }
            Rpc::KvPrewrite => {
                let prewrite: kvrpcpb::PrewriteRequest = message(call);
                let Some(transaction) = self.transactions.get_mut(&prewrite.start_version) else {
                    panic!("a prewrite that nobody asked for: {prewrite:?}");
                };
                if prewrite.try_one_pc {
                    assert_eq!(prewrite.mutations.len(), transaction.keys.len(), "{prewrite:?}");
                    transaction.whole += 1;
                    transaction.may_be_undetermined = true;
                } else if prewrite.use_async_commit {
                    for key in keys_of(call, &prewrite) {
                        *transaction.copies.entry(key).or_default() += 1;
                    }
                    transaction.may_be_undetermined = true;
                }
            }
            Rpc::KvBatchRollback => {
                let rollback: kvrpcpb::BatchRollbackRequest = message(call);
                if let Some(transaction) = self.transactions.get(&rollback.start_version) {
                    transaction.is_undoable(&format!("undone: {rollback:?}"));
                }
            }
            Rpc::KvPessimisticRollback => {
                let release: kvrpcpb::PessimisticRollbackRequest = message(call);
                if let Some(transaction) = self.transactions.get(&release.start_version) {
                    transaction.is_undoable(&format!("released: {release:?}"));
                }
            }
            _ => {}
        }
    }

    /// The core has taken this answer.
    pub(crate) fn answered(&mut self, command: &Command, answer: &Result<Response, Failure>) {
        let Command::Call(call) = command else { return };
        match call.request.rpc {
            Rpc::KvPrewrite => {
                let prewrite: kvrpcpb::PrewriteRequest = message(call);
                let Some(transaction) = self.transactions.get_mut(&prewrite.start_version) else {
                    return;
                };
                transaction.prewritten(&prewrite, keys_of(call, &prewrite), answer);
            }
            Rpc::KvCheckTxnStatus => {
                let asked: kvrpcpb::CheckTxnStatusRequest = message(call);
                // Its own, and not that of a lock that was met.
                if asked.current_ts == 0
                    && let Some(transaction) = self.transactions.get_mut(&asked.lock_ts)
                    && let Ok(Response::CheckTxnStatus(reply)) = answer
                    && reply.region_error.is_none()
                {
                    // An error says that there is no record, whatever stands beside it.
                    match reply.commit_version {
                        _ if reply.error.is_some() => transaction.whole = 0,
                        0 => transaction.whole = 0,
                        at => {
                            transaction.at_once.insert(at);
                        }
                    }
                }
            }
            Rpc::KvCommit => {
                let commit: kvrpcpb::CommitRequest = message(call);
                let Some(transaction) = self.transactions.get_mut(&commit.start_version) else {
                    return;
                };
                if commit.commit_role() == kvrpcpb::CommitRole::Primary && !commit.use_async_commit
                {
                    transaction.decision = decision(answer);
                }
            }
            _ => {}
        }
    }

    // ---- events --------------------------------------------------------------------------------

    pub(crate) fn event(&mut self, event: &Event) {
        let Event::Done { op, result } = event;
        let Some(kind) = self.live.remove(op) else {
            panic!("{op:?} was told twice, or after it was cancelled: {result:?}");
        };
        match kind {
            Kind::Read => {
                if let Err(error) = result {
                    assert!(!error.is_undetermined(), "a read in doubt: {error:?}");
                }
            }
            Kind::Lock => {
                if let Err(error) = result {
                    // What may have been taken is released: the call holds nothing.
                    assert!(!error.is_undetermined(), "a lock call in doubt: {error:?}");
                }
            }
            Kind::Write => {}
            Kind::Timestamp { above } => match result {
                Ok(Reply::Timestamp(told)) => {
                    assert!(told.version() > above, "{told} was told after {above}");
                    assert!(self.told.insert(told.version()), "{told} was told twice");
                    self.newest = self.newest.max(told.version());
                }
                Ok(other) => panic!("a timestamp was told as {other:?}"),
                Err(error) => assert!(!error.is_undetermined(), "a read in doubt: {error:?}"),
            },
            Kind::Commit { start_ts } => self.committed(start_ts, result),
        }
    }

    fn committed(&self, start_ts: u64, result: &Result<Reply, Error>) {
        let transaction = &self.transactions[&start_ts];
        let decision = transaction.decision;
        match result {
            Ok(Reply::Commit(CommitOutcome::Committed { at, by, .. })) => {
                assert!(at.version() > start_ts, "committed at {at}, before its start");
                match by {
                    CommittedBy::TwoPhase => {
                        let nothing_to_lock = decision == Decision::NotAsked;
                        assert!(nothing_to_lock || decision == Decision::Committed, "{decision:?}");
                        assert!(transaction.keys.is_subset(&transaction.landed));
                    }
                    CommittedBy::Async => {
                        assert!(transaction.is_committed_by_locks());
                        let last = transaction.timed.values().max().copied();
                        assert_eq!(Some(at.version()), last);
                    }
                    CommittedBy::OnePhase => {
                        assert!(transaction.at_once.contains(&at.version()), "{at}");
                    }
                }
            }
            Ok(Reply::Commit(CommitOutcome::Aborted(error))) => {
                transaction.is_undoable(&format!("told as aborted: {error:?}"));
                assert!(!error.is_undetermined(), "{error:?}");
            }
            Ok(Reply::Commit(CommitOutcome::Undetermined(error))) => {
                assert!(transaction.may_be_undetermined, "nothing is in doubt: {error:?}");
                assert!(error.is_undetermined(), "{error:?}");
            }
            Err(error) => {
                // Refused at once, or ended while the keyspace was not known: nothing was sent.
                let early = matches!(
                    error.kind(),
                    ErrorKind::InvalidArgument
                        | ErrorKind::Closed
                        | ErrorKind::Keyspace { .. }
                        | ErrorKind::PdUnavailable
                        | ErrorKind::PdRefused
                        | ErrorKind::Protocol
                        | ErrorKind::DeadlineExceeded
                );
                let unsent = decision == Decision::NotAsked && transaction.landed.is_empty();
                assert!(early && unsent && !error.is_undetermined(), "{error:?}");
            }
            Ok(other) => panic!("a commit was told as {other:?}"),
        }
    }
}

/// What a store is asked about is the keyspace's own, and nothing else.
fn keys_lie_in_the_keyspace(call: &Call) {
    let keys = match call.request.rpc {
        Rpc::KvGet => vec![message::<kvrpcpb::GetRequest>(call).key],
        Rpc::KvBatchGet => message::<kvrpcpb::BatchGetRequest>(call).keys,
        // Of a scan the lower bound: the upper one may be the next keyspace's first key.
        Rpc::KvScan => {
            let scan: kvrpcpb::ScanRequest = message(call);
            vec![if scan.reverse { scan.end_key } else { scan.start_key }]
        }
        Rpc::KvPrewrite => {
            let prewrite: kvrpcpb::PrewriteRequest = message(call);
            let keys = prewrite.mutations.into_iter().map(|mutation| mutation.key);
            keys.chain([prewrite.primary_lock]).collect()
        }
        Rpc::KvCommit => message::<kvrpcpb::CommitRequest>(call).keys,
        Rpc::KvBatchRollback => message::<kvrpcpb::BatchRollbackRequest>(call).keys,
        Rpc::KvResolveLock => message::<kvrpcpb::ResolveLockRequest>(call).keys,
        Rpc::KvCheckSecondaryLocks => message::<kvrpcpb::CheckSecondaryLocksRequest>(call).keys,
        Rpc::KvScanLock => vec![message::<kvrpcpb::ScanLockRequest>(call).start_key],
        Rpc::KvPessimisticRollback => message::<kvrpcpb::PessimisticRollbackRequest>(call).keys,
        Rpc::KvCheckTxnStatus => vec![message::<kvrpcpb::CheckTxnStatusRequest>(call).primary_key],
        Rpc::RawGet => vec![message::<kvrpcpb::RawGetRequest>(call).key],
        Rpc::RawPut => vec![message::<kvrpcpb::RawPutRequest>(call).key],
        Rpc::RawDelete => vec![message::<kvrpcpb::RawDeleteRequest>(call).key],
        Rpc::RawBatchGet => message::<kvrpcpb::RawBatchGetRequest>(call).keys,
        Rpc::RawBatchDelete => message::<kvrpcpb::RawBatchDeleteRequest>(call).keys,
        Rpc::RawScan => {
            let scan: kvrpcpb::RawScanRequest = message(call);
            vec![if scan.reverse { scan.end_key } else { scan.start_key }]
        }
        _ => return,
    };
    let Head::Store(context) = &call.request.head else { panic!("not for a store: {call:?}") };
    if context.keyspace.is_none() {
        return;
    }
    let mode = if format!("{:?}", call.request.rpc).starts_with("Raw") { b'r' } else { b'x' };
    for key in keys {
        assert!(key.starts_with(&[mode, 0, 0, 0]), "{key:?} lies elsewhere: {call:?}");
    }
}

fn message<M: Message + Default>(call: &Call) -> M {
    call.request.message().expect("the message of its RPC")
}

fn decision(answer: &Result<Response, Failure>) -> Decision {
    match answer {
        Err(Failure::NotSent(_)) => Decision::NotYet,
        Err(Failure::MaybeExecuted(_)) => Decision::Open,
        Ok(Response::Commit(reply)) => match (&reply.region_error, &reply.error) {
            (None, None) => Decision::Committed,
            (Some(error), _) if error.undetermined_result.is_some() => Decision::Open,
            _ => Decision::NotYet,
        },
        Ok(_) => Decision::Open,
    }
}
