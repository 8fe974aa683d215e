//! Commits, lock calls and inquiries, each begun in some state, under any wakes.
//!
//! The machines run in a core whose PD says where the regions are, and which no store ever hears of:
//! calls come to their end here, by an answer that fits or one that does not, by a failure, with doubt or
//! without; and machines are woken for what they wait for, and for what they do not. What is held:
//!
//! - nothing panics, and each operation ends exactly once, whatever it is told, when its time is up;
//! - what [`Watch`] knows of transactions: no key but the primary is committed without a decision,
//!   nothing is undone or told as aborted that may be committed, doubt ends by a definite answer only;
//! - no lock of another transaction is committed or rolled back unless a store has told its fate.
//!
//! The first eight bytes say what is begun and how; each eight after them are a step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use super::chance::Chance;
use super::messages::World;
use super::script::{commit_plan, lock_plan};
use super::watch::{Watch, id_of};
use crate::backoff::{Backoff, budget};
use crate::id::Handle;
use crate::op::Op;
use crate::op::commit::Commit;
use crate::op::commit::constructed::Beginning;
use crate::resolve::Resolved;
use crate::shared::{CallEnd, Owner, Tag, Wake};
use crate::wire::{Head, Request, Response};
use crate::{
    Api, Call, Cancel, Command, CommandId, CommitPlan, Config, Core, Destination, Error, ErrorKind,
    Event, Instant, KeyMode, OpId, OpOptions, Operation, ReadOperation, Timestamp,
};

const RECORD: usize = 8;
const STEPS: usize = 64;
/// How many wake-ups a run may need after its last step.
const PATIENCE: usize = 5_000;

pub(super) fn body(bytes: &[u8]) {
    let mut records = bytes.chunks(RECORD).map(|bytes| {
        let mut record = [0; RECORD];
        record[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(record)
    });
    let first = records.next().unwrap_or_default();
    let mut run = Run::new(first);
    run.begin(&mut Chance::of_bytes(first));
    for step in records.take(STEPS) {
        run.step(&mut Chance::of_bytes(step));
    }
    run.end();
}

/// What stores have told of transactions that were in the way.
#[derive(Default)]
struct Fates {
    /// Versions at which they may be committed.
    committed: BTreeMap<u64, BTreeSet<u64>>,
    /// Those that are rolled back, or were found without a trace.
    gone: BTreeSet<u64>,
}

struct Run {
    core: Core,
    now: Instant,
    world: World,
    watch: Watch,
    fates: Fates,
    op: OpId,
    /// Calls that were seen, and what the watch was told of them.
    calls: BTreeMap<Handle, Seen>,
}

struct Seen {
    owner: Owner,
    tag: Tag,
    call: Call,
    /// A store may say for good that it does not know.
    decisive: bool,
    lost: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut config = Config::new(vec!["pd:1".into()], KeyMode::Txn);
        config.txn_batch_size = if seed & 1 == 0 { 0 } else { 16 << 10 };
        config.validate_read_timestamp = false;
        config.check_visibility = false;
        let core = Core::new(config, seed, now);
        let world = World::new(KeyMode::Txn, &Api::V1);
        let op = OpId(Handle { index: 0, generation: 0 });
        let (watch, fates) = (Watch::default(), Fates::default());
        Self { core, now, world, watch, fates, op, calls: BTreeMap::new() }
    }

    // ---- beginning -----------------------------------------------------------------------------

    fn begin(&mut self, chance: &mut Chance) {
        let kind = chance.below(16);
        for _ in 0..chance.below(6) {
            self.world.change(chance);
        }
        let options = OpOptions { deadline: self.now + Duration::from_secs(20), stream: 1 };
        let start_ts = Timestamp::compose(1_000, 1).expect("a timestamp");
        let at = Timestamp::compose(1_000, 2 + chance.below(9)).expect("a timestamp");
        let beginning = match kind {
            0..3 => Beginning::Start,
            3 | 4 => Beginning::Prewriting,
            5 => Beginning::Stamping,
            6 | 7 => Beginning::CommittingPrimary,
            8 => Beginning::SettlingAsync,
            9 => Beginning::Inquiring,
            10 => Beginning::RollingBack,
            11 => Beginning::Releasing,
            // A lock call, a reader, a writer: the last two are there for the locks that they meet.
            12 | 13 => {
                return self.submit(Operation::Lock(lock_plan(chance, start_ts).into()), options);
            }
            14 => {
                let keys = vec![super::script::key(chance), "c".into()];
                let read = ReadOperation::BatchGet { keys };
                return self.submit(Operation::read(read, at), options);
            }
            _ => Beginning::Start,
        };
        let plan = commit_plan(chance, start_ts);
        self.commit(plan, beginning, at, options);
    }

    fn submit(&mut self, operation: Operation, options: OpOptions) {
        let told = operation.clone();
        self.op = self.core.plant(options, |cx| Op::start(operation, cx));
        self.watch.submitted(self.op, &told);
        self.look();
    }

    fn commit(
        &mut self,
        plan: CommitPlan,
        beginning: Beginning,
        at: Timestamp,
        options: OpOptions,
    ) {
        let told = Operation::Commit(plan.clone().into());
        self.op = self.core.plant(options, |cx| Commit::begin_at(plan.clone(), beginning, at, cx));
        self.watch.submitted(self.op, &told);
        let first = self.core.inside().events.front();
        if matches!(first, Some(Event::Done { result: Err(_), .. })) {
            // Refused: it is no plan.
            return self.look();
        }
        let start_ts = plan.start_ts.version();
        match beginning {
            Beginning::Start
            | Beginning::Prewriting
            | Beginning::RollingBack
            | Beginning::Releasing => {}
            Beginning::Stamping | Beginning::CommittingPrimary => {
                self.watch.assume(start_ts, None, false);
            }
            Beginning::SettlingAsync => {
                self.watch.assume(start_ts, Some(at.version()), false);
            }
            Beginning::Inquiring => self.watch.assume(start_ts, None, true),
        }
        self.look();
    }

    // ---- steps ---------------------------------------------------------------------------------

    fn step(&mut self, chance: &mut Chance) {
        match chance.below(32) {
            0..20 => self.end_call(chance),
            20..22 => self.lose(chance),
            22..27 => {
                let owner = self.owner(chance);
                let (tag, wake) = (chance.below(24) as Tag, self.wake(chance));
                self.core.rouse(owner, tag, wake);
            }
            27..29 => self.time(),
            29 => self.world.change(chance),
            30 => {
                let cancelled = self.core.cancel(self.now, self.op);
                assert_eq!(cancelled != Cancel::Unknown, self.watch.is_live(self.op));
                self.watch.cancelled(self.op);
            }
            _ => self.core.close(self.now),
        }
        self.look();
    }

    /// Somebody who waits, mostly the operation itself.
    fn owner(&self, chance: &mut Chance) -> Owner {
        let owners: Vec<Owner> = self.calls.values().map(|seen| seen.owner).collect();
        match chance.one_in(2) && !owners.is_empty() {
            true => chance.pick(&owners),
            false => Owner::Op(self.op),
        }
    }

    /// A wake that is not of a call.
    fn wake(&mut self, chance: &mut Chance) -> Wake {
        let fails = chance.one_in(3);
        let at = Timestamp::compose(1_000, chance.below(40)).expect("a timestamp");
        let error = error(chance, false);
        let done = || if fails { Err(error.clone()) } else { Ok(()) };
        match chance.below(8) {
            0 | 1 => Wake::Timestamp(if fails { Err(error) } else { Ok(at) }),
            2 => Wake::Located(done()),
            3 => Wake::Resolved(if fails { Err(error) } else { Ok(Resolved::default()) }),
            4 => Wake::PdReady(done()),
            5 => Wake::Keyspace(done()),
            6 => Wake::SafePoint(done()),
            _ => Wake::Pause,
        }
    }

    fn pick(&mut self, chance: &mut Chance) -> Option<Handle> {
        let handles: Vec<Handle> = self.calls.keys().copied().collect();
        (!handles.is_empty()).then(|| chance.pick(&handles))
    }

    /// The request of a call goes out, and is not heard of again.
    fn lose(&mut self, chance: &mut Chance) {
        let Some(handle) = self.pick(chance) else { return };
        let Some(seen) = self.calls.get_mut(&handle) else { return };
        let Some(call) = self.core.inside().calls.get_mut(handle) else { return };
        call.lose();
        if !std::mem::replace(&mut seen.lost, true) {
            self.watch.sent(&seen.call);
        }
    }

    /// A call comes to its end, in any way.
    fn end_call(&mut self, chance: &mut Chance) {
        let Some(handle) = self.pick(chance) else { return };
        let Some(seen) = self.calls.remove(&handle) else { return };
        let Seen { owner, tag, call, decisive, lost } = seen;
        let how = chance.below(16);
        let again = chance.one_in(4);
        let end = match how {
            0 | 1 => CallEnd::Failed { error: error(chance, decisive), doubt: lost || again },
            2 if pinned(call.request.rpc) => {
                CallEnd::Regroup { backoff: Backoff::new(budget::COMMIT), doubt: lost || again }
            }
            _ => {
                let command = Command::Call(call.clone());
                let mut response = match how {
                    3..9 => self.world.good(&command),
                    9 => self.world.nonsense(chance),
                    _ => self.world.store_answer(chance, &call),
                };
                // What a region's replica has to say of itself is for the call.
                response.take_region_error();
                CallEnd::Answered {
                    response,
                    region: crate::RegionVersion { id: 1, conf_ver: 1, version: 1 },
                    range: None,
                    doubt: lost || again,
                    attempts: 1 + u32::from(lost || again),
                }
            }
        };
        self.tell(&call, &end, lost);
        // The call is over: nothing of it is heard any more.
        self.core.inside().calls.remove(handle);
        self.core.rouse(owner, tag, Wake::Call(end));
    }

    /// What the end of a call means to those who watch.
    fn tell(&mut self, call: &Call, end: &CallEnd, lost: bool) {
        let command = Command::Call(call.clone());
        match end {
            CallEnd::Answered { response, doubt, .. } => {
                if *doubt && !lost {
                    self.watch.sent(call);
                }
                self.watch.sent(call);
                self.fates.told(call, response);
                self.watch.answered(&command, &Ok(response.clone()));
            }
            CallEnd::Regroup { doubt, .. } => {
                if *doubt && !lost {
                    self.watch.sent(call);
                }
            }
            CallEnd::Failed { error, doubt } => {
                let sent = *doubt || *error.kind() == ErrorKind::Undetermined;
                if sent && !lost {
                    self.watch.sent(call);
                }
            }
        }
    }

    fn time(&mut self) {
        if let Some(wakeup) = self.core.poll_timeout() {
            self.now = self.now.max(wakeup.at);
            self.core.handle_timeout(self.now);
        }
    }

    // ---- looking -------------------------------------------------------------------------------

    /// Sees what there is to be seen: PD is answered, new calls are judged.
    fn look(&mut self) {
        loop {
            self.judge();
            while let Some(event) = self.core.poll_event() {
                let Event::Done { op, .. } = &event;
                assert_eq!(*op, self.op);
                self.watch.event(&event);
            }
            let Some(command) = self.core.poll_command() else { break };
            let answered = match &command {
                Command::Abort { .. } => false,
                Command::Timestamps(_) => true,
                // Nobody knows where stores are, so no call ever leaves.
                Command::Call(call) => call.request.rpc != Rpc::PdGetStore,
            };
            if answered {
                let answer = self.world.good(&command);
                self.core.handle_response(self.now, id_of(&command), Ok(answer));
            }
        }
    }

    fn judge(&mut self) {
        let calls = &mut self.calls;
        let shared = self.core.inside();
        // Those that have ended by themselves, without having left.
        calls.retain(|handle, _| shared.calls.get(*handle).is_some());
        let mut fresh = Vec::new();
        for (handle, call) in shared.calls.iter() {
            let (owner, tag, spec) = call.asks();
            if calls.contains_key(&handle) {
                continue;
            }
            let request = Request { rpc: spec.rpc, head: Head::None, body: spec.body.clone() };
            let to = Destination { address: "store1:1".into(), store: None };
            let (id, deadline) = (CommandId(handle), Instant::NEVER);
            let call = Call { id, to, deadline, request };
            let decisive = spec.decisive || spec.once;
            fresh.push((handle, Seen { owner, tag, call, decisive, lost: false }));
        }
        for (handle, seen) in fresh {
            // As if it left at once; whether it does is decided later.
            self.watch.clone().sent(&seen.call);
            self.fates.hold(&seen.call);
            self.calls.insert(handle, seen);
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    fn end(&mut self) {
        let mut closed = false;
        for _ in 0..PATIENCE {
            self.look();
            if !closed && self.core.is_idle() {
                closed = true;
                self.core.close(self.now);
                continue;
            }
            if self.core.poll_timeout().is_none() {
                break;
            }
            self.time();
        }
        assert_eq!(self.core.poll_timeout(), None, "it never comes to rest");
        self.watch.nothing_is_left();
        assert!(self.core.is_idle());
    }
}

/// Whether calls for this are made for a region at one version.
fn pinned(rpc: Rpc) -> bool {
    rpc != Rpc::KvCheckTxnStatus && rpc != Rpc::KvGet
}

fn error(chance: &mut Chance, decisive: bool) -> Error {
    let kind = chance.pick(&[
        ErrorKind::RegionUnavailable,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Undetermined,
        ErrorKind::Protocol,
        ErrorKind::TxnRetryable,
        ErrorKind::PdUnavailable,
        ErrorKind::Closed,
    ]);
    let kind = match kind {
        ErrorKind::Undetermined if !decisive => ErrorKind::RegionUnavailable,
        kind => kind,
    };
    Error::new(kind, "as the fuzzer wants it")
}

impl Fates {
    /// A store has answered.
    fn told(&mut self, call: &Call, response: &Response) {
        match response {
            Response::CheckTxnStatus(reply) if reply.error.is_none() => {
                if let Ok(asked) = call.request.message::<kvrpcpb::CheckTxnStatusRequest>()
                    && call.request.rpc == Rpc::KvCheckTxnStatus
                {
                    match (reply.commit_version, reply.lock_ttl) {
                        (0, 0) => {
                            self.gone.insert(asked.lock_ts);
                        }
                        (0, _) => {}
                        (at, _) => {
                            self.committed.entry(asked.lock_ts).or_default().insert(at);
                        }
                    }
                    let lock = reply.lock_info.iter().map(|lock| lock.min_commit_ts);
                    self.committed.entry(asked.lock_ts).or_default().extend(lock);
                }
            }
            Response::CheckSecondaryLocks(reply) if reply.error.is_none() => {
                if let Ok(asked) = call.request.message::<kvrpcpb::CheckSecondaryLocksRequest>()
                    && call.request.rpc == Rpc::KvCheckSecondaryLocks
                {
                    let start = asked.start_version;
                    // Fewer locks than keys: it never was committed, unless it says when.
                    if reply.commit_ts == 0 && reply.locks.len() < asked.keys.len() {
                        self.gone.insert(start);
                    }
                    let told = reply.locks.iter().map(|lock| lock.min_commit_ts);
                    let told = told.chain([reply.commit_ts]);
                    self.committed.entry(start).or_default().extend(told);
                }
            }
            _ => {}
        }
    }

    /// A lock of another transaction is to be dealt with: somebody has said how.
    fn hold(&self, call: &Call) {
        if call.request.rpc != Rpc::KvResolveLock {
            return;
        }
        let asked: kvrpcpb::ResolveLockRequest = call.request.message().expect("its message");
        let one = (asked.start_version, asked.commit_version);
        let many = asked.txn_infos.iter().map(|info| (info.txn, info.status));
        for (start, at) in many.chain(asked.txn_infos.is_empty().then_some(one)) {
            match at {
                0 => assert!(self.gone.contains(&start), "rolled back unasked: {asked:?}"),
                at => {
                    let told = self.committed.get(&start).is_some_and(|told| told.contains(&at));
                    assert!(told, "committed unasked: {asked:?}");
                }
            }
        }
    }
}
