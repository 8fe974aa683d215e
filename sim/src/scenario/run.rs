//! From a scenario to a report.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anatase_client::{Instant, ResolveLocksOptions};

use super::{Choices, Report, Scenario, Tally};
use crate::check::truth::Truth;
use crate::check::{self, Anomaly, Checker, Violation, liveness, residue};
use crate::entropy::{Entropy, Seeded, Tape};
use crate::history::{History, Outcome};
use crate::record::{Range, Recorder};
use crate::sim::{Sim, SimConfig, Stalled};
use crate::workload::{Post, Stage};
use crate::{Ledger, SimClient};

/// All that has to end after the world was healed ends within this: the longest round of a workload, and
/// what its client does in the background.
const PATIENCE: Duration = Duration::from_secs(300);

/// Longer than any lock lives without a heartbeat (20 s), and timestamps are ahead of the clock.
const LOCKS_LIVE: Duration = Duration::from_secs(60);

/// Runs a scenario, and judges it. Never panics: if the code under test does, that is a violation.
pub fn run(scenario: &Scenario) -> Report {
    run_in(SimConfig::new(0), scenario)
}

/// The same, with everything that was sent and answered in [`Report::log`].
pub fn run_logged(scenario: &Scenario) -> Report {
    run_in(SimConfig { log: true, ..SimConfig::new(0) }, scenario)
}

/// The same with a bug in all clients.
#[cfg(anatase_planted)]
pub fn run_with_plant(scenario: &Scenario, plant: anatase_core::Plant) -> Report {
    run_in(SimConfig::new(0).plant(plant), scenario)
}

fn run_in(world: SimConfig, scenario: &Scenario) -> Report {
    match scenario.choices.clone() {
        Choices::Seed(seed) => run_with(world, scenario, Seeded::new(seed)),
        Choices::Tape(tape) => run_with(world, scenario, Tape::new(tape)),
    }
}

fn run_with(world: SimConfig, scenario: &Scenario, entropy: impl Entropy + 'static) -> Report {
    let mut run = Run::new(world, scenario, entropy);
    let played = catch_unwind(AssertUnwindSafe(|| run.play()));
    match played {
        Ok(Ok(())) => {}
        Ok(Err(Stalled::StandsStill { at })) => {
            let story = format!("at {at:?} more and more happens, and no time passes");
            run.tell(Checker::Liveness, Anomaly::StandsStill, story);
        }
        Ok(Err(stalled @ (Stalled::Nothing { .. } | Stalled::Impatient { .. }))) => {
            run.tell(Checker::Liveness, Anomaly::Hanging, stalled.to_string());
        }
        Err(panic) => {
            let story = format!("at {:?}: {}", run.sim.now(), said(&*panic));
            run.tell(Checker::Assertion, Anomaly::Panicked, story);
        }
    }
    run.report()
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

struct Run<'a> {
    scenario: &'a Scenario,
    sim: Sim,
    ledger: Ledger,
    stage: Arc<Stage>,
    posts: Vec<Arc<Post>>,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(world: SimConfig, scenario: &'a Scenario, entropy: impl Entropy + 'static) -> Self {
        let config =
            world.cluster(scenario.cluster()).profile(scenario.profile.clone()).wire(scenario.wire);
        let config = SimConfig { faults: scenario.faults.clone(), patience: PATIENCE, ..config };
        let ledger = Ledger::default();
        let stage = Arc::new(Stage::new(scenario, &ledger));
        Self {
            scenario,
            sim: Sim::with_entropy(config, entropy),
            ledger,
            stage,
            posts: Vec::new(),
            report: Report::default(),
        }
    }

    fn tell(&mut self, checker: Checker, anomaly: Anomaly, story: String) {
        self.report.violations.push(Violation::new(checker, anomaly, story));
    }

    fn play(&mut self) -> Result<(), Stalled> {
        for (n, program) in self.scenario.programs.iter().enumerate() {
            let client = self.sim.client(&format!("{} {n}", program.work.name()));
            let post = Arc::new(Post::new(self.stage.clone(), *program, n as u32));
            self.posts.push(post.clone());
            client.on_boot(move |client| post.clone().live(client));
        }
        while !self.rests() && self.sim.now() < self.scenario.lasts {
            self.sim.run_for(Duration::from_millis(50))?;
        }
        self.sim.heal();
        let healed = self.sim.instant();
        self.stage.stop.store(true, Ordering::Relaxed);
        self.wait_for(healed, |post| post.rests())?;
        // Locks of those who are no more live for a while: who reads before may have to wait for them.
        self.sim.run_for(LOCKS_LIVE)?;
        let well = self.sim.instant();
        for turn in 1..=self.posts.len() as u32 {
            self.stage.encore.store(turn, Ordering::Relaxed);
            let since = self.sim.instant();
            self.wait_for(since, |post| post.is_done() || post.turn() > turn)?;
        }
        self.settle("the programs")?;
        if self.scenario.is_calm() {
            // Nobody died and nothing was lost: everybody has cleaned up behind himself, but for those who
            // had no time left and do not know.
            let history = self.history();
            let in_doubt =
                history.transactions().filter(|(_, txn)| txn.outcome == Outcome::Undetermined);
            self.no_locks(&in_doubt.filter_map(|(_, txn)| txn.start_ts).collect());
        }
        self.sim.run_for(LOCKS_LIVE)?;
        self.examine()?;
        self.judge(healed, well);
        Ok(())
    }

    fn rests(&self) -> bool {
        self.posts.iter().all(|post| post.rests())
    }

    /// Until it is so for all programs, within [`PATIENCE`].
    fn wait_for(&mut self, since: Instant, what: impl Fn(&Post) -> bool) -> Result<(), Stalled> {
        while !self.posts.iter().all(|post| what(post)) && self.sim.instant() < since + PATIENCE {
            self.sim.run_for(Duration::from_millis(50))?;
        }
        for post in self.posts.clone().iter().filter(|post| !what(post)) {
            let story = format!("{} is not done {PATIENCE:?} after all was well", post.name());
            self.tell(Checker::Liveness, Anomaly::Hanging, story);
        }
        Ok(())
    }

    /// Nothing is left to do, soon.
    fn settle(&mut self, whose: &str) -> Result<(), Stalled> {
        let left = self.sim.drain(PATIENCE)?;
        if !left.is_quiet() {
            let story = format!("{whose} left {left:?}");
            self.tell(Checker::Residue, Anomaly::LeftWork, story);
        }
        Ok(())
    }

    fn no_locks(&mut self, but: &BTreeSet<u64>) {
        let truth = self.sim.cluster(|cluster| Truth::of(cluster, &[]));
        self.report.violations.extend(residue::locks(&truth, but));
    }

    /// A fresh client in a healed world.
    fn examine(&mut self) -> Result<(), Stalled> {
        let examiner = self.sim.client("examiner");
        let examined = examiner.spawn(examine(examiner.clone(), self.stage.clone()));
        match self.sim.run_until(examined)? {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let story = format!("all was well, and the examiner was told {error:?}");
                self.tell(Checker::Liveness, Anomaly::Unavailable, story);
            }
            Err(lost) => {
                let story = format!("the examiner: {lost:?}");
                self.tell(Checker::Liveness, Anomaly::Hanging, story);
            }
        }
        self.settle("the examiner")?;
        self.no_locks(&BTreeSet::new());
        Ok(())
    }

    fn judge(&mut self, healed: Instant, well: Instant) {
        let truth = self.sim.cluster(|cluster| Truth::of(cluster, &[]));
        let history = self.history();
        let demand = liveness::Demand { well, ..liveness::Demand::new(healed, self.sim.instant()) };
        let mut found = check::history(&history, &truth);
        found.extend(liveness::check(&history, demand));
        let mut tally = Tally::of(&history);
        let resolved = truth.resolved();
        for work in &self.stage.works {
            work.judge(self.scenario, &history, &resolved, &mut found, &mut tally);
        }
        self.report.violations.extend(found);
        self.report.tally = tally;
    }

    fn history(&self) -> History {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn report(mut self) -> Report {
        let history = self.history();
        let mut report = Report { history, ..self.report };
        report.log = self.sim.take_log();
        report.digest = self.sim.digest();
        report.stats = self.sim.stats();
        report.simulated = self.sim.now();
        report.struck = self.sim.struck();
        report.violations.extend(self.stage.found());
        // What a client knows, it tells when it is dropped.
        drop(self.sim);
        report.coverage = self.stage.coverage();
        report
    }
}

/// Reads everything, takes away every lock, reads again, and commits in each way.
async fn examine(client: SimClient, stage: Arc<Stage>) -> anatase_client::Result<()> {
    let recorder = Recorder::new(&stage.ledger, &client, stage.knobs.timeout());
    if stage.works.iter().any(|work| work.is_raw()) {
        return examine_raw(&client, &recorder, &stage).await;
    }
    let start = client.transactions_with(stage.knobs.client());
    let store = recorder.other("connect", start).await?;
    for _ in 0..2 {
        let now = recorder.timestamp(&store).await?;
        let snapshot = recorder.snapshot(store.snapshot(now));
        for work in &stage.works {
            snapshot.scan(Range::prefix(work.prefix()), 1000, false).await?;
        }
        let clean = store.cleanup_locks(.., now, ResolveLocksOptions::default());
        recorder.other("clean up", clean).await?;
    }
    for way in &stage.ways {
        let key = anatase_client::Bytes::from_static(b"examined");
        let causal = *way == super::Way::Causal;
        let txn = recorder.transaction(&store, way.options(), causal).await?;
        if way.is_pessimistic() {
            txn.lock_and_read(std::slice::from_ref(&key)).await?;
        }
        txn.write(&key, Some(format!("{way:?}").into())).await?;
        txn.commit().await.into_result()?;
    }
    recorder
        .other("close", async {
            store.close().await;
            Ok(())
        })
        .await
}

/// The same where keys are raw: there are no locks.
async fn examine_raw(
    client: &SimClient,
    recorder: &Recorder,
    stage: &Stage,
) -> anatase_client::Result<()> {
    let raw = recorder.other("connect", client.raw_with(stage.knobs.client())).await?;
    recorder.other("scan", raw.scan(.., 1000)).await?;
    recorder.other("put", raw.put("examined", "so")).await?;
    recorder.other("get", raw.get("examined")).await?;
    recorder
        .other("close", async {
            raw.close().await;
            Ok(())
        })
        .await
}
