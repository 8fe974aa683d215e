//! Any inputs, in any order, and the six rules of the contract.
//!
//! A run draws steps, plays them on a core, and then lets the cluster be healthy, silent or gone
//! until the core has nothing left to do. Beside the core lives a *twin*: a clone that gets the same
//! inputs, but never sees the clock go back. In the end everything is played once more from a
//! recording. All three have to agree.

use std::time::Duration;

use anatase_core::wire::{Response, TimestampBatch};
use anatase_core::{
    Api, Cancel, Command, CommandId, Config, Core, Event, Failure, Full, Input, Instant, Notice,
    StoreId,
};
use anatase_proto::pdpb;
use bytes::Bytes;
use prost::Message;
#[cfg(test)]
use quickcheck::{Gen, QuickCheck};

use super::messages::World;
use super::script::{Ending, Script, Step, operation, options};
use super::states;
use super::watch::{Watch, id_of};

/// How many wake-ups a run may need after its last step. The longest chain of waits is that of
/// 2 ms … 500 ms within a budget of 80 s, times a few operations that wait one after another; or one answer
/// that is waited for for half a minute, and asked after each millisecond, if it is configured so.
const PATIENCE: usize = 100_000;

struct Run {
    seed: u64,
    config: Config,
    core: Core,
    /// Its clock never goes back, unlike the core's.
    twin: Core,
    now: Instant,
    world: World,
    watch: Watch,
    recording: Vec<(Instant, Input)>,
    commands: Vec<Command>,
    events: Vec<Event>,
    /// The twin has seen another number of steps back, which its statistics tell.
    clocks_differ: bool,
    closed: bool,
}

fn config(script: &Script) -> Config {
    let mut chance = script.chance(script.seed);
    let seeds = chance.pick(&[&["pd:1"][..], &["pd:1", "pd:2"]]);
    let mut config = Config::new(seeds.iter().map(|seed| (*seed).into()).collect(), script.mode);
    // Small, so that a few keys make several batches and a few operations a crowd.
    config.max_operations = chance.pick(&[1, 4, 1_000, 1_000]);
    config.raw_batch_keys = chance.pick(&[1, 2, 512]);
    config.raw_batch_put_size = chance.pick(&[1, 8, 16 << 10]);
    config.txn_batch_size = chance.pick(&[0, 8, 16 << 10]);
    config.batch_get_keys = chance.pick(&[1, 3, 5_120]);
    config.scan_batch_size = chance.pick(&[1, 2, 256]);
    config.max_batches = chance.pick(&[1, 2, 128]);
    config.max_region_loads = chance.pick(&[1, 64]);
    config.regions_refresh_interval = chance.pick(&[None, None, Some(Duration::from_secs(1))]);
    config.max_timestamp_batch = chance.pick(&[1, 10_000]);
    config.tso_concurrency = chance.pick(&[0, 1, 3]);
    config.tso_max_wait = Duration::from_millis(chance.pick(&[0, 0, 3]));
    config.tso_follower_proxy = chance.one_in(4);
    config.pd_init_attempts = chance.pick(&[0, 3, 100]);
    config.pd_init_interval = Duration::from_millis(chance.pick(&[0, 1_000]));
    config.low_resolution_interval = Duration::from_millis(chance.pick(&[0, 1, 700, 2_000]));
    config.validate_read_timestamp = chance.one_in(2);
    config.enable_forwarding = chance.one_in(2);
    config.enable_follower_handle = chance.one_in(2);
    config.pd_breaker.error_percent = chance.pick(&[0, 1, 100]);
    config.pd_breaker.min_qps = chance.pick(&[0, 1]);
    config.pd_breaker.window = Duration::from_millis(chance.pick(&[0, 1, 10_000]));
    config.fate_cache_size = chance.pick(&[0, 1, 2_048]);
    config.resolve_lite_threshold = chance.pick(&[1, 512]);
    config.region_ttl = Duration::from_secs(chance.pick(&[1, 600]));
    if chance.one_in(4) {
        config.api = Api::V2 { keyspace: "".into() };
    }
    config.max_store_requests = chance.pick(&[None, None, Some(0), Some(1), Some(3)]);
    config.probe_after = Duration::from_millis(chance.pick(&[0, 1, 1_000, u64::MAX]));
    config.probe_timeout = Duration::from_millis(chance.pick(&[1, 1_000]));
    config
}

impl Run {
    fn new(script: &Script) -> Self {
        let config = config(script);
        let now = Instant::from_nanos(1_000_000_000);
        let core = Core::new(config.clone(), script.seed, now);
        let world = World::new(script.mode, &config.api);
        Self {
            seed: script.seed,
            config,
            twin: core.clone(),
            core,
            now,
            world,
            watch: Watch::default(),
            recording: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            clocks_differ: false,
            closed: false,
        }
    }

    // ---- inputs --------------------------------------------------------------------------------

    fn input(&mut self, input: Input) -> Result<Option<anatase_core::OpId>, Full> {
        self.input_at(self.now, input)
    }

    /// The core's clock shows `at`, the twin's the time.
    fn input_at(&mut self, at: Instant, input: Input) -> Result<Option<anatase_core::OpId>, Full> {
        self.recording.push((at, input.clone()));
        let twins = self.twin.handle(self.now, input.clone());
        let ours = self.core.handle(at, input);
        assert_eq!(ours, twins);
        assert_eq!(self.core.poll_timeout(), self.twin.poll_timeout());
        ours
    }

    fn step(&mut self, step: &Step, script: &Script, number: u64) {
        match *step {
            Step::Submit { seed } => self.submit(seed, script, number),
            Step::Answer { which, seed, good } => {
                let Some(command) = self.watch.take(which) else { return };
                let mut chance = script.chance(seed);
                let answer = match good {
                    true => Ok(self.world.good(&command)),
                    false => self.world.any(&mut chance, &command),
                };
                self.answer(&command, answer);
            }
            Step::Flow { rounds, seed, odds } => {
                let mut chance = script.chance(seed);
                for _ in 0..rounds {
                    self.drain();
                    for _ in 0..self.watch.waiting.len() {
                        let which = chance.word() as usize;
                        let Some(command) = self.watch.take(which) else { break };
                        let answer = match chance.one_in(odds) {
                            true => self.world.any(&mut chance, &command),
                            false => Ok(self.world.good(&command)),
                        };
                        self.answer(&command, answer);
                    }
                }
            }
            Step::Say { which, ref bytes } => {
                let Some(command) = self.watch.take(which) else { return };
                let answer = decoded(&command, bytes);
                self.answer(&command, answer);
            }
            Step::AnswerAgain { which, seed } => {
                if self.watch.over.is_empty() {
                    return;
                }
                let command = self.watch.over[which % self.watch.over.len()].clone();
                let answer = self.world.any(&mut script.chance(seed), &command);
                self.stray(id_of(&command), answer);
            }
            Step::AnswerNobody { id, seed } => {
                let id = CommandId::from_u64(id);
                // It may be an id that is out, or will be found in the outputs.
                self.drain();
                if !self.watch.waiting.iter().any(|command| id_of(command) == id) {
                    let answer = Ok(self.world.nonsense(&mut script.chance(seed)));
                    self.stray(id, answer);
                }
            }
            Step::Cancel { which } => self.cancel(which),
            Step::LinkDown { store } => {
                let notice = Notice::LinkDown { store: StoreId(store) };
                self.input(Input::Notice(notice)).expect("no operation");
            }
            Step::Pass { ms } => {
                self.now = self.now + Duration::from_millis(ms);
                self.timeout(self.now);
            }
            Step::Wake => self.wake(),
            Step::Back { ms } => {
                self.clocks_differ |= ms > 0;
                let back = self.now.as_nanos().saturating_sub(ms * 1_000_000);
                self.timeout(Instant::from_nanos(back));
            }
            Step::Drain => {
                self.drain();
            }
            Step::Fork => {
                self.compare();
                self.twin = self.core.clone();
                assert_eq!(self.core.digest(), self.twin.digest());
                self.clocks_differ = false;
            }
            Step::Foreign { locks } => self.world.foreign += locks,
            Step::Move { seed } => self.world.change(&mut script.chance(seed)),
            Step::Close => {
                self.input(Input::Close).expect("no operation");
                self.closed = true;
            }
        }
    }

    fn submit(&mut self, seed: u64, script: &Script, number: u64) {
        let mut chance = script.chance(seed);
        let operation = operation(&mut chance, script.mode, number);
        let options = options(&mut chance, self.now, script.ending, number);
        let (taken, refused) = (self.core.stats().operations, self.core.stats().refused);
        match self.input(Input::Submit(operation.clone(), options)) {
            Ok(id) => {
                assert_eq!(self.core.stats().operations, taken + 1);
                self.watch.submitted(id.expect("a submitted operation has an id"), &operation);
            }
            Err(Full(returned)) => {
                assert_eq!(returned, operation, "handed back unharmed");
                assert_eq!(self.core.stats().refused, refused + 1);
            }
        }
    }

    fn answer(&mut self, command: &Command, answer: Result<Response, Failure>) {
        let strays = self.core.stats().stray_responses;
        self.input(Input::Response(id_of(command), answer.clone())).expect("no operation");
        // An answer that finds nobody was overtaken by a withdrawal that still waits to be polled.
        if self.core.stats().stray_responses == strays {
            self.watch.answered(command, &answer);
        } else {
            assert!(matches!(self.drain(), 1..), "the answer to {command:?} found nobody");
        }
    }

    /// Rule 2: an answer to nothing is counted, and changes nothing else.
    fn stray(&mut self, id: CommandId, answer: Result<Response, Failure>) {
        let before = self.core.stats().clone();
        self.input(Input::Response(id, answer)).expect("no operation");
        let mut after = self.core.stats().clone();
        after.stray_responses -= 1;
        assert_eq!(after, before);
    }

    fn cancel(&mut self, which: usize) {
        if self.watch.ops.is_empty() {
            return;
        }
        let id = self.watch.ops[which % self.watch.ops.len()];
        // What was told before it was cancelled is not told after.
        self.drain();
        self.recording.push((self.now, Input::Cancel(id)));
        let cancel = self.core.cancel(self.now, id);
        assert_eq!(self.twin.cancel(self.now, id), cancel);
        assert_eq!(cancel != Cancel::Unknown, self.watch.is_live(id));
        self.watch.cancelled(id);
    }

    fn timeout(&mut self, at: Instant) {
        self.input_at(at, Input::Timeout).expect("no operation");
        // Rule 4, in its strict form: whatever was due by now is behind us.
        let next = self.core.poll_timeout();
        assert!(next.is_none_or(|wakeup| wakeup.at > self.now), "{next:?} at {:?}", self.now);
    }

    fn wake(&mut self) {
        if let Some(wakeup) = self.core.poll_timeout() {
            assert!(wakeup.at < Instant::NEVER, "«never» is no time to wake up at");
            self.now = self.now.max(wakeup.at);
            self.timeout(self.now);
        }
    }

    // ---- outputs -------------------------------------------------------------------------------

    /// Takes all outputs out; says how many there were.
    fn drain(&mut self) -> usize {
        let before = self.commands.len() + self.events.len();
        loop {
            let command = self.core.poll_command();
            assert_eq!(command, self.twin.poll_command());
            let Some(command) = command else { break };
            self.commands.push(command.clone());
            self.watch.command(command);
        }
        self.watch.drained();
        loop {
            let event = self.core.poll_event();
            assert_eq!(event, self.twin.poll_event());
            let Some(event) = event else { break };
            self.watch.event(&event);
            self.events.push(event);
        }
        self.commands.len() + self.events.len() - before
    }

    /// Rules 5 and 6: the clone has lived through the same and is the same.
    fn compare(&self) {
        if !self.clocks_differ {
            assert_eq!(self.core.digest(), self.twin.digest());
            assert_eq!(self.core.stats(), self.twin.stats());
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    fn end(&mut self, ending: Ending) {
        let mut closed = false;
        for _ in 0..PATIENCE {
            self.drain();
            if !closed && self.core.is_idle() {
                // Open transactions are kept alive until then.
                closed = true;
                self.input(Input::Close).expect("no operation");
                continue;
            }
            match ending {
                Ending::Silent => {}
                Ending::Healthy | Ending::Refused => {
                    if let Some(command) = self.watch.take(0) {
                        let answer = match ending {
                            Ending::Healthy => Ok(self.world.good(&command)),
                            _ => Err(Failure::not_sent("connection refused")),
                        };
                        self.answer(&command, answer);
                        continue;
                    }
                }
            }
            if self.core.poll_timeout().is_none() {
                break;
            }
            self.wake();
        }
        assert_eq!(self.core.poll_timeout(), None, "it never comes to rest");
        self.watch.nothing_is_left();
        states::hold(self.core.coverage());
        assert!(self.core.is_idle());
        self.compare();
    }

    /// Rule 5: the same configuration, seed and inputs give the same outputs and the same state,
    /// however often the outputs are taken out.
    fn replay(self) {
        let start = Instant::from_nanos(1_000_000_000);
        let mut core = Core::new(self.config, self.seed, start);
        for (now, input) in self.recording {
            // A core that was full is full again.
            let _ = core.handle(now, input);
        }
        let commands: Vec<Command> = std::iter::from_fn(|| core.poll_command()).collect();
        let events: Vec<Event> = std::iter::from_fn(|| core.poll_event()).collect();
        assert_eq!(commands, self.commands);
        assert_eq!(events, self.events);
        assert_eq!(core.digest(), self.core.digest());
    }
}

/// A driver's work: the bytes that came as answer to a command, decoded. Malformed ones come from a
/// server that may have executed what it was asked.
fn decoded(command: &Command, bytes: &Bytes) -> Result<Response, Failure> {
    let malformed = |error: &dyn std::fmt::Display| Failure::maybe_executed(error.to_string());
    match command {
        Command::Call(call) => {
            Response::decode(call.request.rpc, bytes.clone()).map_err(|error| malformed(&error))
        }
        Command::Timestamps(ask) => {
            let answer = pdpb::TsoResponse::decode(bytes.clone());
            let answer = answer.map_err(|error| malformed(&error))?;
            let batch = TimestampBatch::from_proto(&answer, ask.count);
            batch.map(Response::Timestamps).map_err(|error| malformed(&error))
        }
        Command::Abort { .. } => unreachable!("nobody answers an abort"),
    }
}

/// Plays it, and holds the six rules against it. Gives what was sent.
pub(crate) fn play(script: &Script) -> Vec<Command> {
    let mut run = Run::new(script);
    for (number, step) in script.steps.iter().enumerate() {
        run.step(step, script, number as u64 + 1);
        if number % 16 == 0 {
            run.compare();
        }
    }
    run.end(script.ending);
    let commands = run.commands.clone();
    run.replay();
    commands
}

#[cfg(test)]
fn holds(script: Script) -> bool {
    play(&script);
    true
}

/// Always the same runs: what fails here fails everywhere.
#[test]
fn any_inputs_in_any_order_keep_the_contract() {
    let from = |size, seed, tests| {
        QuickCheck::new()
            .rng(Gen::from_size_and_seed(size, seed))
            .tests(tests)
            .quickcheck(holds as fn(Script) -> bool);
    };
    from(30, 1, 2_000);
    from(200, 2, 500);
}
