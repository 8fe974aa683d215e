//! Transcript tests: a protocol run as text that reads like a story.
//!
//! A line that begins with `$` is an input; the lines after it are everything that the core did in
//! answer. The whole text is compared, so a story also says what does *not* happen.
//!
//! ```text
//! $ get b                                     an operation is submitted
//! > 1 store 1 RawGet b | region 1             the core sends request 1
//! $ 1 not_leader 2                            its answer: the peer on store 2 leads
//! > 2 store 2 RawGet b | region 1 retry
//! $ 2 value x
//! = value x                                   the operation ends
//! ```
//!
//! PD is played by the harness (`pd.rs`), from a list of regions; every region has three replicas, on the
//! stores 1, 2 and 3, and its peer on store *s* is number *10·region + s*. `$ wait` lets time run to
//! the next wake-up. Other inputs are listed in `script.rs`.

mod answers;
mod commits;
mod describe;
mod pd;
mod script;

pub(crate) use answers::serving as serving_answer;

use std::collections::BTreeMap;
use std::time::Duration;

use anatase_proto::keyspacepb::KeyspaceState;
use anatase_proto::metapb;
use anatase_proto::rpc::Rpc;

use crate::codec::{KeyCodec, Prefix, encode};
use crate::{
    Api, AskTimestamps, Call, Command, CommandId, Config, Core, Error, Event, Failure, GrpcStatus,
    Instant, KeyMode, OpId, OpOptions, Operation, WakeReason, wire,
};

/// Plays `text` and fails on the first difference.
#[track_caller]
pub(crate) fn story(mode: KeyMode, regions: &str, text: &str) {
    play(Story::new(mode, regions), text);
}

/// The same under API V2. What goes over the wire is told as it is, prefixes included, and has to be
/// answered so; `<00>` is a byte. A region's bound is a key of the keyspace, or with `^` before it
/// anything else that is memcomparable. What keyspaces there are says [`keyspace_of`].
#[track_caller]
pub(crate) fn story_in(keyspace: &str, mode: KeyMode, regions: &str, text: &str) {
    let mut story = Story::new(mode, regions);
    story.config.api = Api::V2 { keyspace: keyspace.into() };
    story.core = Core::new(story.config.clone(), 7, story.now);
    if let Some(prefix) = keyspace_of(keyspace).and_then(|(id, _)| Prefix::new(mode, id)) {
        story.codec = KeyCodec::Keyspace(prefix);
    }
    play(story, text);
}

#[track_caller]
fn play(story: Story, text: &str) {
    let (told, expected) = perform(story, text);
    assert!(told == expected, "the story went otherwise:\n\n{told}\n==== expected:\n\n{expected}");
}

/// A decision table: each row is a name, the regions, and what is told. All rows are played; the names of
/// those that go otherwise are told together.
#[track_caller]
pub(crate) fn rows(mode: KeyMode, rows: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (row, regions, text) in rows {
        let (told, expected) = perform(Story::new(mode, regions), text);
        if told != expected {
            wrong += &format!("==== {row}:\n{told}---- expected:\n{expected}");
        }
    }
    assert!(wrong.is_empty(), "rows went otherwise:\n{wrong}");
}

/// What is told, and what should have been.
fn perform(mut story: Story, text: &str) -> (String, String) {
    let mut told = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(input) = line.strip_prefix('$') {
            told.push_str(line);
            told.push('\n');
            story.input(input.trim());
            story.earlier.push_str(line);
            story.earlier.push('\n');
            story.earlier.push_str(&story.told);
            told.push_str(&std::mem::take(&mut story.told));
        }
    }
    let expected: String = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|l| format!("{l}\n"))
        .collect();
    (told, expected)
}

pub(crate) struct Story {
    pub(crate) core: Core,
    pub(crate) config: Config,
    pub(crate) now: Instant,
    /// When an operation that is submitted has to be over.
    pub(crate) patience: Duration,
    /// What was chosen for commits.
    txn: Vec<String>,
    pub(crate) regions: Vec<RegionSpec>,
    codec: KeyCodec,
    /// The physical part of PD's next timestamp; the start of a story is at 1 s.
    pub(crate) physical_ms: u64,
    logical: u64,
    told: String,
    /// What was told before the input that is being played.
    earlier: String,
    commands: BTreeMap<u32, Call>,
    asks: BTreeMap<u32, AskTimestamps>,
    ids: BTreeMap<CommandId, u32>,
    next: u32,
    ops: BTreeMap<OpId, u32>,
    next_op: u32,
    /// PD's members, `pd:1` and so on, and which of them leads.
    pub(crate) members: u64,
    pub(crate) pd_leader: u64,
    /// The regions as a PD knows them that is out of date.
    pub(crate) lagging: Option<Vec<RegionSpec>>,
    /// PD answers nothing by itself.
    pub(crate) pd_is_silent: bool,
    /// Stores answer no health checks by themselves.
    pub(crate) stores_are_silent: bool,
    /// Where PD says that stores are, if not at `storeN:1`; empty: they have left.
    pub(crate) addresses: BTreeMap<u64, String>,
    /// PD answers everything but timestamps by itself.
    pub(crate) tso_is_silent: bool,
    /// The safe point that PD tells.
    pub(crate) safe_point: u64,
    /// Where PD knows no region it names the last one it knows.
    pub(crate) pd_lies: bool,
    /// How many regions PD tells at once, if fewer than it is asked for.
    pub(crate) pd_limit: Option<usize>,
    /// Buckets by region, as PD tells them.
    pub(crate) buckets: BTreeMap<u64, (u64, Vec<String>)>,
    /// The last error that an operation ended with.
    pub(crate) last_error: Option<Error>,
}

#[derive(Clone, Debug)]
pub(crate) struct RegionSpec {
    pub(crate) id: u64,
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) version: u64,
    pub(crate) leader: u64,
}

impl RegionSpec {
    fn peer(&self, store: u64) -> metapb::Peer {
        metapb::Peer { id: self.id * 10 + store, store_id: store, ..Default::default() }
    }

    fn to_proto(&self, codec: KeyCodec) -> metapb::Region {
        let bound = |key: &str| match key.strip_prefix('^') {
            Some(other) => encode(&answers::bytes(other)),
            None if key.is_empty() => Default::default(),
            None => codec.to_pd(&answers::bytes(key)),
        };
        metapb::Region {
            id: self.id,
            start_key: bound(&self.start),
            end_key: bound(&self.end),
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: self.version }),
            peers: (1..=3).map(|store| self.peer(store)).collect(),
            ..Default::default()
        }
    }
}

/// The number and the state of a keyspace.
fn keyspace_of(name: &str) -> Option<(u32, KeyspaceState)> {
    match name {
        "" | "DEFAULT" => Some((0, KeyspaceState::Enabled)),
        "tenant" => Some((5, KeyspaceState::Enabled)),
        "last" => Some((0xff_ffff, KeyspaceState::Enabled)),
        "disabled" => Some((6, KeyspaceState::Disabled)),
        _ => None,
    }
}

/// `"..k=1 k..=2"`: regions by their bounds.
fn parse_regions(text: &str) -> Vec<RegionSpec> {
    text.split_whitespace()
        .map(|word| {
            let (range, id) = word.split_once('=').expect("bounds=id");
            let (start, end) = range.split_once("..").expect("start..end");
            let id = id.parse().expect("an id");
            RegionSpec { id, start: start.into(), end: end.into(), version: 1, leader: 1 }
        })
        .collect()
}

impl Story {
    pub(crate) fn new(mode: KeyMode, regions: &str) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut config = Config::new(vec!["pd:1".into()], mode);
        // Stories name timestamps as they like; `set validate` has them checked.
        config.validate_read_timestamp = false;
        // And `set visibility` has the safe point asked for.
        config.check_visibility = false;
        Self {
            config: config.clone(),
            core: Core::new(config, 7, now),
            now,
            patience: Duration::from_secs(60),
            txn: Vec::new(),
            regions: parse_regions(regions),
            codec: KeyCodec::new(mode),
            physical_ms: 1_000,
            logical: 0,
            told: String::new(),
            earlier: String::new(),
            commands: BTreeMap::new(),
            asks: BTreeMap::new(),
            ids: BTreeMap::new(),
            next: 1,
            ops: BTreeMap::new(),
            next_op: 1,
            members: 1,
            pd_leader: 1,
            lagging: None,
            pd_is_silent: false,
            tso_is_silent: false,
            safe_point: 0,
            pd_lies: false,
            pd_limit: None,
            buckets: BTreeMap::new(),
            stores_are_silent: false,
            addresses: BTreeMap::new(),
            last_error: None,
        }
    }

    /// Begins anew with another page size.
    pub(crate) fn set_page(&mut self, pairs: u32) {
        self.config.scan_batch_size = pairs;
        self.core = Core::new(self.config.clone(), 7, self.now);
    }

    /// Plays one input and gives what was told, for what a whole text cannot say.
    pub(crate) fn play(&mut self, line: &str) -> String {
        self.input(line);
        std::mem::take(&mut self.told)
    }

    /// Request number `number` as it left the core.
    pub(crate) fn call(&self, number: u32) -> &Call {
        &self.commands[&number]
    }

    fn whole(&self) -> String {
        format!("{}{}", self.earlier, self.told)
    }

    pub(crate) fn tell(&mut self, line: impl AsRef<str>) {
        self.told.push_str(line.as_ref().trim_end());
        self.told.push('\n');
    }

    pub(crate) fn submit(&mut self, operation: Operation, timeout: Duration) -> OpId {
        let options = OpOptions { deadline: self.now + timeout, stream: u64::from(self.next_op) };
        let id = self.core.submit(self.now, operation, options).expect("room");
        self.ops.insert(id, self.next_op);
        self.next_op += 1;
        self.drain();
        id
    }

    pub(crate) fn answer(&mut self, id: CommandId, response: Result<wire::Response, Failure>) {
        self.core.handle_response(self.now, id, response);
        self.drain();
    }

    pub(crate) fn wait(&mut self) {
        let Some(wakeup) = self.core.poll_timeout() else {
            return self.tell("~ nothing to wait for");
        };
        self.pass(wakeup.at.since(self.now));
        // Stores that answer health checks by themselves need no words.
        let told = self.stores_are_silent || wakeup.reason != WakeReason::Probe;
        if told {
            self.tell(format!("~ {:?}: {:?}", rounded(wakeup.at), wakeup.reason));
        }
        self.core.handle_timeout(self.now);
        self.drain();
        if !told {
            self.wait();
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.physical_ms += time.as_millis() as u64;
    }

    /// Writes down what the core wants, and plays PD.
    pub(crate) fn drain(&mut self) {
        loop {
            let mut answers = Vec::new();
            while let Some(command) = self.core.poll_command() {
                match command {
                    Command::Call(call) => {
                        let is_check = call.request.rpc == Rpc::HealthCheck;
                        let probe = is_check && call.to.store.is_some();
                        if probe && !self.stores_are_silent {
                            answers.push((call.id, Ok(answers::serving("serving"))));
                        } else if call.to.store.is_none() && !self.pd_is_silent {
                            let response = self.play_pd(&call);
                            answers.push((call.id, response));
                        } else {
                            let number = self.name(call.id);
                            let line = format!("> {number} {}", describe::call(&call));
                            self.tell(line);
                            self.commands.insert(number, call);
                        }
                    }
                    Command::Timestamps(ask) => {
                        if self.pd_is_silent || self.tso_is_silent {
                            let number = self.name(ask.id);
                            let place = describe::pd(&ask.to, ask.forward_to.as_deref(), false);
                            self.tell(format!("> {number} {place} Tso {}", ask.count));
                            self.asks.insert(number, ask);
                        } else {
                            let batch = self.hand_out(ask.count);
                            answers.push((ask.id, Ok(batch)));
                        }
                    }
                    Command::Abort { id } => {
                        if let Some(number) = self.ids.get(&id) {
                            let line = format!("x {number}");
                            self.tell(line);
                        }
                    }
                }
            }
            while let Some(Event::Done { op, result }) = self.core.poll_event() {
                let number = self.ops.get(&op).copied().unwrap_or_default();
                let line = match result {
                    Ok(reply) => format!("= {}{}", self.op_name(number), describe::reply(&reply)),
                    Err(error) => {
                        let line = format!("= {}{}", self.op_name(number), describe::error(&error));
                        self.last_error = Some(error);
                        line
                    }
                };
                self.tell(line);
            }
            if answers.is_empty() {
                return;
            }
            for (id, response) in answers {
                self.core.handle_response(self.now, id, response);
            }
        }
    }

    /// Operations are named only where there is more than one.
    fn op_name(&self, number: u32) -> String {
        if self.next_op > 2 { format!("op {number}: ") } else { String::new() }
    }

    fn name(&mut self, id: CommandId) -> u32 {
        let number = self.next;
        self.next += 1;
        self.ids.insert(id, number);
        number
    }

    fn address(&self, store: u64) -> String {
        self.addresses.get(&store).cloned().unwrap_or_else(|| format!("store{store}:1"))
    }
}

/// Time since the start of the story, to the millisecond, so that jitter below it can be read over.
fn rounded(at: Instant) -> Duration {
    let since = at.since(Instant::from_nanos(1_000_000_000));
    Duration::from_millis(since.as_millis() as u64)
}

/// The failures that a story can name.
fn failure(word: &str, rest: &str) -> Option<Failure> {
    match word {
        "lost" => Some(Failure::maybe_executed("connection lost")),
        "refused" => Some(Failure::not_sent("connection refused")),
        "status" => {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let code = GrpcStatus(code.parse().expect("a status code"));
            Some(Failure::status(code, text.to_owned()))
        }
        _ => None,
    }
}
