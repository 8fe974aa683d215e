//! What a program has when it works: what all share, what is left of it through its lives, and its client.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anatase_client::{Bytes, Error, ErrorKind, RawClient, Result, TransactionClient};
use anatase_core::coverage::Coverage;

use super::{
    Work, anything, bank, counter, crowd, hasty, janitor, large, list_append, mortal, order,
    patient, raw_mix, raw_register, register, ring, skew, snapshots,
};
use crate::check::{Anomaly, Checker, Violation};
use crate::client::{SimClient, SimRuntime};
use crate::history::Held;
use crate::record::{Ledger, RecordedTransaction, Recorder};
use crate::scenario::{Knobs, Program, Scenario, Way};

/// What all programs of a run share.
pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) keys: u32,
    pub(crate) ways: Vec<Way>,
    /// The kinds of work there are.
    pub(crate) works: Vec<Work>,
    pub(crate) calm: bool,
    pub(crate) zombies: bool,
    pub(crate) knobs: Knobs,
    /// No more rounds are begun.
    pub(crate) stop: AtomicBool,
    /// All is well, and has been for a while: this one's turn to work on, counted from 1. One after the
    /// other, so that nobody is in anybody's way.
    pub(crate) encore: AtomicU32,
    unique: AtomicU64,
    found: Mutex<Vec<Violation>>,
    met: Mutex<Coverage>,
}

impl Stage {
    pub(crate) fn new(scenario: &Scenario, ledger: &Ledger) -> Self {
        let mut works: Vec<Work> = scenario.programs.iter().map(|program| program.work).collect();
        works.sort_unstable();
        works.dedup();
        let ways = match scenario.ways.is_empty() {
            true => vec![Way::TwoPhase],
            false => scenario.ways.clone(),
        };
        Self {
            ledger: ledger.clone(),
            keys: scenario.shape.keys.max(1),
            ways,
            works,
            calm: scenario.is_calm(),
            zombies: scenario.has_zombies(),
            knobs: scenario.knobs.clone(),
            stop: AtomicBool::new(false),
            encore: AtomicU32::new(0),
            unique: AtomicU64::new(1),
            found: Mutex::default(),
            met: Mutex::default(),
        }
    }

    pub(crate) fn found(&self) -> Vec<Violation> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn coverage(&self) -> Coverage {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds up what a client's machines have met.
    pub(super) fn meet(&self, store: &TransactionClient<SimRuntime>) {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).merge(&store.coverage());
    }

    pub(super) fn tell(&self, anomaly: Anomaly, story: String) {
        let violation = Violation::new(Checker::Invariant, anomaly, story);
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
    }
}

/// A client's program, through all its lives.
pub(crate) struct Post {
    stage: Arc<Stage>,
    program: Program,
    pub(super) n: u32,
    left: AtomicU32,
    done: AtomicBool,
    /// It waits for the encore.
    rests: AtomicBool,
    /// What a [`Work::RawMix`] has written.
    pub(super) map: Mutex<raw_mix::Map>,
}

impl Post {
    pub(crate) fn new(stage: Arc<Stage>, program: Program, n: u32) -> Self {
        let (left, done, rests) = (program.rounds.into(), false.into(), false.into());
        Self { stage, program, n, left, done, rests, map: Mutex::default() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// When it has its turn in the encore, counted from 1.
    pub(crate) fn turn(&self) -> u32 {
        self.n + 1
    }

    /// Whether all that is left for it to do is the encore.
    pub(crate) fn rests(&self) -> bool {
        self.is_done() || self.rests.load(Ordering::Relaxed)
    }

    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.program.work.name(), self.n)
    }

    /// One of its lives.
    pub(crate) async fn live(self: Arc<Self>, client: SimClient) {
        self.rests.store(false, Ordering::Relaxed);
        let recorder = Recorder::new(&self.stage.ledger, &client, self.stage.knobs.timeout());
        let work = self.program.work;
        loop {
            let settings = self.stage.knobs.client();
            let desk = if work.is_raw() {
                let raw = recorder.other("connect", client.raw_with(settings)).await;
                raw.map(|raw| Desk::new(&self, &client, &recorder, None, Some(raw)))
            } else {
                let start = client.transactions_with(settings);
                let store = recorder.other("connect", start).await;
                store.map(|store| Desk::new(&self, &client, &recorder, Some(store), None))
            };
            match desk {
                Ok(desk) => {
                    desk.work(work).await;
                    break;
                }
                // PD cannot be reached: once more, until all is over.
                Err(_) if self.stage.encore.load(Ordering::Relaxed) == 0 => {}
                Err(_) => break,
            }
        }
        self.done.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.stage.stop.load(Ordering::Relaxed) || self.left.load(Ordering::Relaxed) == 0
    }
}

/// Where a client works: what it needs for a round.
pub(crate) struct Desk {
    pub(super) post: Arc<Post>,
    pub(super) stage: Arc<Stage>,
    pub(super) client: SimClient,
    pub(super) recorder: Recorder,
    store: Option<TransactionClient<SimRuntime>>,
    raw: Option<RawClient<SimRuntime>>,
}

impl Desk {
    fn new(
        post: &Arc<Post>,
        client: &SimClient,
        recorder: &Recorder,
        store: Option<TransactionClient<SimRuntime>>,
        raw: Option<RawClient<SimRuntime>>,
    ) -> Self {
        let (post, stage) = (post.clone(), post.stage.clone());
        Self { post, stage, client: client.clone(), recorder: recorder.clone(), store, raw }
    }

    async fn work(&self, work: Work) {
        while !self.post.is_over() {
            self.post.left.fetch_sub(1, Ordering::Relaxed);
            // A fault may drop it at any step; then it is as if its owner had given up.
            let round = self.client.cancellable(Box::pin(self.round(work)));
            if let Some(Err(error)) = round.await {
                self.look_at(&error);
            }
            let pause = Duration::from_micros(u64::from(self.pick(50_000)));
            self.client.sleep(pause).await;
        }
        self.encore(work).await;
        if let Some(store) = &self.store {
            store.close().await;
        }
        if let Some(raw) = &self.raw {
            raw.close().await;
        }
    }

    /// Once all is well the same client, with all that it believes of the world, works on a little. What
    /// began after [`Stage::encore`] may not fail for want of a server.
    async fn encore(&self, work: Work) {
        self.post.rests.store(true, Ordering::Relaxed);
        while self.stage.encore.load(Ordering::Relaxed) != self.post.turn() {
            self.client.sleep(Duration::from_secs(1)).await;
        }
        // Who has less time than a lock lives may fail because of one.
        if !work.holds_long() && self.stage.knobs.timeout() >= Duration::from_secs(10) {
            for _ in 0..2 {
                if let Err(error) = self.round(work).await {
                    self.look_at(&error);
                }
            }
        }
    }

    async fn round(&self, work: Work) -> Result<()> {
        match work {
            Work::Bank => bank::round(self).await,
            Work::Ring => ring::round(self).await,
            Work::ListAppend => list_append::round(self).await,
            Work::Register => register::round(self).await,
            Work::RawRegister => raw_register::round(self).await,
            Work::Snapshots => snapshots::round(self).await,
            Work::WriteSkew => skew::round(self, false).await,
            Work::LockedSkew => skew::round(self, true).await,
            Work::Counter => counter::round(self).await,
            Work::Crowd => crowd::round(self).await,
            Work::Large => large::round(self).await,
            Work::Patient => patient::round(self).await,
            Work::Mortal => mortal::round(self).await,
            Work::Hasty => hasty::round(self).await,
            Work::Janitor => janitor::round(self).await,
            Work::Anything => anything::round(self).await,
            Work::Order => order::round(self).await,
            Work::RawMix => raw_mix::round(self).await,
        }
    }

    /// Errors are what a workload lives with; but not these.
    fn look_at(&self, error: &Error) {
        let misuse = match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::Protocol | ErrorKind::Unsupported => true,
            // What is new is looked at where it comes from.
            _ => false,
        };
        if misuse {
            let story = format!("{} was told {error:?}", self.post.name());
            self.stage.tell(Anomaly::Misuse, story);
        }
    }

    /// A number below `bound`.
    pub(super) fn pick(&self, bound: u32) -> u32 {
        self.client.choose(bound)
    }

    /// Some of the first `of` numbers, at most `most`, at least one, in any order.
    pub(super) fn some(&self, of: u32, most: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..of.max(1)).collect();
        let count = 1 + self.pick(most.clamp(1, of.max(1)));
        for n in 0..count as usize {
            let other = n + self.pick((all.len() - n) as u32) as usize;
            all.swap(n, other);
        }
        all.truncate(count as usize);
        all
    }

    /// All is well: nothing may fail that does not want to.
    pub(super) fn is_encore(&self) -> bool {
        self.stage.encore.load(Ordering::Relaxed) > 0
    }

    pub(super) fn way(&self) -> Way {
        let ways = &self.stage.ways;
        ways.get(self.pick(ways.len() as u32) as usize).copied().unwrap_or(Way::TwoPhase)
    }

    /// A number that nobody else is given.
    pub(super) fn unique(&self) -> u64 {
        self.stage.unique.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn key(&self, work: Work, n: u32) -> Bytes {
        work.key(n).into()
    }

    /// For transactional work: there is a client.
    pub(super) fn store(&self) -> Result<&TransactionClient<SimRuntime>> {
        self.store.as_ref().ok_or_else(|| Error::application("a raw client has no transactions"))
    }

    pub(super) fn raw(&self) -> Result<&RawClient<SimRuntime>> {
        self.raw.as_ref().ok_or_else(|| Error::application("no raw client"))
    }

    pub(super) async fn begin(&self, way: Way) -> Result<RecordedTransaction> {
        let causal = way == Way::Causal;
        self.recorder.transaction(self.store()?, way.options(), causal).await
    }

    /// Reads keys for writing: under locks, if the way is one with locks. Then one by one or all at once, or
    /// in a fair statement.
    pub(super) async fn read_to_write(
        &self,
        txn: &RecordedTransaction,
        way: Way,
        keys: &[Bytes],
    ) -> Result<Vec<Held>> {
        if !way.is_pessimistic() {
            return txn.batch_get(keys).await;
        }
        if way == Way::Fair {
            return txn.lock_fairly(keys, 1 + self.pick(3)).await;
        }
        if self.pick(2) == 0 {
            return txn.lock_and_read(keys).await;
        }
        let mut values = Vec::new();
        for key in keys {
            values.extend(txn.lock_and_read(std::slice::from_ref(key)).await?);
        }
        Ok(values)
    }

    /// Locks a key that was not read before, and reads it: as it is now if the way is one with locks.
    pub(super) async fn read_one(
        &self,
        txn: &RecordedTransaction,
        way: Way,
        key: &Bytes,
    ) -> Result<Held> {
        let keys = std::slice::from_ref(key);
        let mut values = match way {
            Way::Fair => txn.lock_fairly(keys, 1 + self.pick(2)).await?,
            Way::Pessimistic | Way::PessimisticAsync | Way::PessimisticOnePhase => {
                txn.lock_and_read(keys).await?
            }
            Way::TwoPhase | Way::Async | Way::OnePhase | Way::Causal => {
                return txn.get(key).await;
            }
        };
        Ok(values.pop().flatten())
    }
}

impl Drop for Desk {
    /// Also when its client dies.
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            self.stage.meet(store);
        }
    }
}
