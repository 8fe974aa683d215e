//! The inputs of a story.
//!
//! | input | meaning |
//! |---|---|
//! | `get K`, `put K=V`, `delete K`, `batch_get K…`, `batch_put K=V…`, `batch_delete K…` | raw operations |
//! | `put K=V ttl N`, `batch_put_ttl K=V:N…`, `ttl K` | raw operations with times to live |
//! | `atomic put …`, `atomic delete …` and so on | the same in atomic mode |
//! | `cas K V W`, `cas K V W ttl N`, `cad K V` | compare-and-swap and -delete; `-` for no value, `""` for the empty one |
//! | `delete_range A..B`, `checksum A..B`, `regions A..B…` | |
//! | `keys K…`, `locate K`, `locate_end K`, `locate_id ID`, `try K`, `pd_id ID` | regions of keys; one region |
//! | `seen ID VERSION USED LATEST` | a store told of other buckets |
//! | `copr ID VERSION A..B DATA` | a question to a coprocessor, for a region at a version |
//! | `scan A..B N`, `rscan A..B N`, `batch_scan N A..B…` | raw scans |
//! | `tget K @TS`, `tbatch_get @TS K…`, `tscan A..B N @TS`, `trscan A..B N @TS` | snapshot reads |
//! | `commit @TS K=V -K !K=V lock:K absent:K …`, `txn WORD…` | a commit, and how: see `commits.rs` |
//! | `lock @TS @TS primary P [OPTIONS] K !K …` | pessimistic locks: start, for update; `!K` presumes that there is no value, `=K` is held already; options are `new`, `first`, `nowait`, `wait:MS`, `values`, `existence`, `only`, `force`, `open:MS` |
//! | `release @TS @TS [end] K…` | releases pessimistic locks; `end`: no heartbeat any more |
//! | `lost @TS` | whether a transaction's locks are no longer kept alive |
//! | `rollback @TS K…`, `tso`, `ready` | |
//! | `scan_locks A..B @TS N`, `resolve_locks A..B @TS [N] [async]`, `status K of @TS [for @TS]` | locks of others |
//! | `resolving` | what is being resolved, and for whom |
//! | `N words` | the answer to request N, see `answers.rs`; also `lost`, `refused`, `status CODE TEXT` |
//! | `page N` | at the very beginning: snapshot scans ask for N pairs at a time |
//! | `wait`, `pass MS` | time goes on |
//! | `split ID at K as NEW`, `merge ID`, `leader ID STORE` | what PD knows from now on; store 0: nobody leads |
//! | `buckets ID VERSION K…`, `pd_limit N` | what PD tells of buckets (`-`: no end); how many regions at once |
//! | `cancel N`, `close`, `link_down STORE` | |
//! | `low`, `stale MS`, `min`, `external`, `set_external @TS`, `interval MS` | other timestamps |
//! | `set NAME [VALUE]` | a setting, before anything else |
//! | `members N`, `pd_leader N`, `pd_lags`, `pd_catches_up` | what PD is, see `pd.rs` |
//! | `pd_lies` | where PD knows no region it names the last one |
//! | `many N tso` | N operations at once |
//! | `stats NAME…` | numbers |
//! | `silence pd`, `silence tso`, `speak` | PD answers by itself, or does not |
//! | `silence stores` | stores leave health checks to the story: `serving`, `not_serving`, `refused`, … |
//! | `region KEY` | what is known of the region of a key |
//! | `stores`, `health STORE SCORE` | what is known of each store; a store's own word |
//! | `move STORE ADDRESS`, `remove STORE` | where PD says that a store is; that it has left |

use std::sync::Arc;
use std::time::Duration;

use super::answers::{self, bytes, version};
use super::{Story, failure};
use crate::txn::{IsolationLevel, Priority, ReadOptions};
use crate::wire::Response;
use crate::{
    ColumnFamily, Core, KeyRange, KvPair, LockKey, LockPlan, LockWait, Notice, Operation,
    PessimisticRollbackPlan, RawCompareAndSwap, RawCoprocessor, RawOperation, RawSwap,
    ReadOperation, RegionLookup, RegionVersion, ResolveLocksPlan, ScanLocksPlan, ScanSpec, StoreId,
    Timestamp, TxnStatusPlan, Value,
};

impl Story {
    pub(super) fn input(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Ok(number) = word.parse() {
            return self.answer_line(number, rest.trim());
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        match word {
            "page" => self.set_page(words[0].parse().expect("a number of pairs")),
            "wait" => self.wait(),
            "pass" => self.pass(Duration::from_millis(words[0].parse().expect("milliseconds"))),
            "split" => self.split(&words),
            "leader" => {
                let id: u64 = words[0].parse().expect("an id");
                let leader = words[1].parse().expect("a store");
                for region in self.regions.iter_mut().filter(|region| region.id == id) {
                    region.leader = leader;
                }
            }
            "cancel" => {
                let number: u32 = words[0].parse().expect("an operation");
                let op = self.ops.iter().find(|(_, n)| **n == number).map(|(op, _)| *op);
                let told = self.core.cancel(self.now, op.expect("an operation"));
                self.tell(format!("~ {told:?}"));
                self.drain();
            }
            "close" => {
                self.core.close(self.now);
                self.drain();
            }
            "idle" => {
                let idle = self.core.is_idle();
                self.tell(format!("~ {idle}"));
            }
            "set" => self.set(&words),
            "members" => self.members = words[0].parse().expect("a number"),
            "pd_leader" => self.pd_leader = words[0].parse().expect("a member"),
            "pd_lags" => self.lagging = Some(self.regions.clone()),
            "pd_lies" => self.pd_lies = true,
            "pd_limit" => self.pd_limit = Some(words[0].parse().expect("a number of regions")),
            "buckets" => {
                let keys = words[2..].iter().map(|key| (*key).to_owned()).collect();
                self.buckets.insert(number(words[0]), (number(words[1]), keys));
            }
            "merge" => self.merge(&words),
            "pd_catches_up" => self.lagging = None,
            "txn" => self.txn = words.iter().map(|word| (*word).to_owned()).collect(),
            "commit" => {
                let plan = super::commits::plan(&self.txn, &words);
                self.submit(Operation::Commit(Box::new(plan)), self.patience);
            }
            "many" => {
                for _ in 0..words[0].parse().expect("how many") {
                    self.submit(operation(words[1], &words[2..]), self.patience);
                }
            }
            "stats" => self.tell_stats(&words),
            "resolving" => {
                for one in self.core.resolutions() {
                    let line = super::describe::resolution(&one, &self.ops);
                    self.tell(line);
                }
            }
            "link_down" => {
                let store = StoreId(words[0].parse().expect("a store"));
                self.core.handle_notice(self.now, Notice::LinkDown { store });
                self.drain();
            }
            "silence" => match rest {
                "pd" => self.pd_is_silent = true,
                "stores" => self.stores_are_silent = true,
                _ => self.tso_is_silent = true,
            },
            "speak" => (self.pd_is_silent, self.tso_is_silent) = (false, false),
            "safe_point" => self.safe_point = timestamp(words[0]).version(),
            "with" => {
                let mut operation = operation(words[1], &words[2..]);
                let Operation::Read { options, .. } = &mut operation else {
                    panic!("only reads have options");
                };
                *options = Some(read_options(words[0]).into());
                self.submit(operation, self.patience);
            }
            "atomic" => {
                let mut operation = operation(words[0], &words[1..]);
                if let Operation::Raw { op, .. } = &mut operation {
                    match op {
                        RawOperation::Put { atomic, .. }
                        | RawOperation::Delete { atomic, .. }
                        | RawOperation::BatchPut { atomic, .. }
                        | RawOperation::BatchDelete { atomic, .. } => *atomic = true,
                        other => panic!("{other:?} has no atomic mode"),
                    }
                }
                self.submit(operation, self.patience);
            }
            "move" | "remove" => {
                let store = words[0].parse().expect("a store");
                self.addresses.insert(store, words.get(1).copied().unwrap_or_default().into());
            }
            "region" => {
                let known = self.core.region_facts(words[0].as_bytes());
                let line =
                    known.map_or("~ unknown".into(), |facts| super::describe::region(&facts));
                self.tell(line);
            }
            "lost" => {
                let lost = self.core.locks_lost(timestamp(words[0]));
                self.tell(lost.map_or("~ kept, or none".into(), |why| format!("~ {why:?}")));
            }
            "health" => {
                let [store, score] =
                    [0, 1].map(|n: usize| words[n].parse::<u32>().expect("a number"));
                let store = StoreId(store.into());
                self.core.handle_notice(self.now, Notice::Health { store, slow_score: score });
                self.drain();
            }
            "stores" => {
                for facts in self.core.store_facts() {
                    self.tell(super::describe::store(&facts));
                }
            }
            _ => {
                self.submit(operation(word, &words), self.patience);
            }
        }
    }

    fn answer_line(&mut self, number: u32, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(ask) = self.asks.get(&number).cloned() {
            let answer = match failure(word, rest) {
                Some(failure) => Err(failure),
                None if word.starts_with('@') => Ok(self.hand_out_up_to(word, ask.count)),
                None => Ok(self.hand_out(ask.count)),
            };
            return self.answer(ask.id, answer);
        }
        let Some(call) = self.commands.get(&number).cloned() else {
            panic!("no request has the number {number}; so far:\n{}", self.whole());
        };
        let answer = match failure(word, rest) {
            Some(failure) => Err(failure),
            None if call.to.store.is_none() => Ok(self.pd_says(&call, word, rest)),
            None => Ok(answers::answer(self, &call, word, rest).expect("words for an answer")),
        };
        if let Ok(Response::Timestamps(_)) = answer {
            panic!("only the timestamp stream hands these out");
        }
        self.answer(call.id, answer);
    }

    /// `set NAME [VALUE]`, before anything else: the core is made anew.
    fn set(&mut self, words: &[&str]) {
        assert!(self.next_op == 1 && self.next == 1, "settings come first");
        let value = || words[1].parse().expect("a number");
        match words[0] {
            "forwarding" => self.config.enable_forwarding = true,
            "followers" => self.config.enable_follower_handle = true,
            "visibility" => self.config.check_visibility = true,
            "validate" => self.config.validate_read_timestamp = true,
            "attempts" => self.config.pd_init_attempts = value(),
            "proxy" => self.config.tso_follower_proxy = true,
            "company" => self.config.tso_max_wait = Duration::from_millis(value().into()),
            "concurrency" => self.config.tso_concurrency = value() as usize,
            "batch" => self.config.max_timestamp_batch = value(),
            "scan_locks" => self.config.scan_lock_limit = value(),
            "permits" => self.config.max_background_resolves = value() as usize,
            "limit" => self.config.max_store_requests = Some(value() as usize),
            "txn_batch" => self.config.txn_batch_size = value() as usize,
            "breaker" => self.config.pd_breaker.error_percent = value(),
            "refresh" => {
                let interval = Duration::from_secs(value().into());
                self.config.regions_refresh_interval = Some(interval);
            }
            other => panic!("no such setting: {other}"),
        }
        self.config.pd_breaker.min_qps = 0;
        self.core = Core::new(self.config.clone(), 7, self.now);
    }

    fn tell_stats(&mut self, words: &[&str]) {
        let stats = self.core.stats();
        let numbers: Vec<String> = words
            .iter()
            .map(|word| {
                let number = match *word {
                    "rounds" => stats.pd_rounds,
                    "stray" => stats.stray_responses,
                    "batches" => stats.timestamp_batches,
                    "timestamps" => stats.timestamps,
                    "largest" => stats.largest_timestamp_batch,
                    "regressions" => stats.timestamp_regressions,
                    "failures" => stats.failures,
                    "misses" => stats.follower_misses,
                    "refusals" => stats.breaker_refusals,
                    other => panic!("no such number: {other}"),
                };
                format!("{word} {number}")
            })
            .collect();
        self.tell(format!("~ {}", numbers.join(", ")));
    }

    /// `merge ID`: with the region behind it, which is no more.
    fn merge(&mut self, words: &[&str]) {
        let id = number(words[0]);
        let at = self.regions.iter().position(|region| region.id == id).expect("a region");
        let right = self.regions.remove(at + 1);
        let left = &mut self.regions[at];
        left.end = right.end;
        left.version = left.version.max(right.version) + 1;
    }

    /// `split ID at KEY as NEW`: the left half keeps the id.
    fn split(&mut self, words: &[&str]) {
        let id: u64 = words[0].parse().expect("an id");
        let at = self.regions.iter().position(|region| region.id == id).expect("a region");
        let left = &mut self.regions[at];
        left.version += 1;
        let mut right = left.clone();
        left.end = words[2].into();
        right.start = words[2].into();
        right.id = words[4].parse().expect("an id");
        self.regions.insert(at + 1, right);
    }
}

fn pair(word: &str) -> KvPair {
    let (key, value) = word.split_once('=').expect("key=value");
    KvPair { key: bytes(key), value: bytes(value) }
}

pub(super) fn timestamp(word: &str) -> Timestamp {
    Timestamp::from_version(version(word)).expect("a timestamp")
}

fn range(word: &str) -> KeyRange {
    let (start, end) = word.split_once("..").expect("start..end");
    KeyRange { start: bytes(start), end: bytes(end) }
}

/// `-` for no value, `""` for the empty one.
fn value(word: &str) -> Option<Value> {
    match word {
        "-" => None,
        "\"\"" => Some(Value::new()),
        word => Some(bytes(word)),
    }
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn scan(words: &[&str], reverse: bool) -> ScanSpec {
    let range = range(words[0]);
    ScanSpec { range, limit: words[1].parse().expect("a limit"), reverse, key_only: false }
}

fn lock_plan(words: &[&str]) -> LockPlan {
    let mut plan = LockPlan {
        start_ts: timestamp(words[0]),
        for_update_ts: timestamp(words[1]),
        primary: bytes(words[3]),
        new_primary: false,
        keys: Vec::new(),
        wait: LockWait::Forever,
        return_values: false,
        check_existence: false,
        lock_only_if_exists: false,
        force: false,
        is_first_lock: false,
        open_for: Duration::ZERO,
        options: Arc::default(),
    };
    let ms = |word: &str| Duration::from_millis(number(word));
    for word in &words[4..] {
        match *word {
            "new" => plan.new_primary = true,
            "first" => plan.is_first_lock = true,
            "nowait" => plan.wait = LockWait::NoWait,
            "values" => plan.return_values = true,
            "existence" => plan.check_existence = true,
            "only" => plan.lock_only_if_exists = true,
            "force" => plan.force = true,
            _ => match (word.strip_prefix("wait:"), word.strip_prefix("open:")) {
                (Some(wait), _) => plan.wait = LockWait::For(ms(wait)),
                (_, Some(open)) => plan.open_for = ms(open),
                (None, None) => plan.keys.push(LockKey {
                    key: bytes(word.trim_start_matches(['!', '='])),
                    presume_not_exists: word.starts_with('!'),
                    held: word.starts_with('='),
                }),
            },
        }
    }
    plan
}

/// `rc,low,nofill,step=3,task=7,timeout=100,tag=t,group=g,source=s`, any of them.
fn read_options(words: &str) -> ReadOptions {
    let mut options = ReadOptions::default();
    for word in words.split(',') {
        let (name, rest) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "rc" => options.isolation = IsolationLevel::Rc,
            "rccheck" => options.isolation = IsolationLevel::RcCheckTs,
            "low" => options.priority = Priority::Low,
            "high" => options.priority = Priority::High,
            "nofill" => options.not_fill_cache = true,
            "step" => options.sample_step = number(rest) as u32,
            "task" => options.task_id = number(rest),
            "timeout" => options.timeout = Some(Duration::from_millis(number(rest))),
            "tag" => options.resource_group_tag = bytes(rest),
            "group" => options.resource_group_name = Some(rest.into()),
            "source" => options.request_source = Some(rest.into()),
            other => panic!("no such option: {other}"),
        }
    }
    options
}

fn operation(word: &str, words: &[&str]) -> Operation {
    let raw = |op| Operation::Raw { op, cf: ColumnFamily::DEFAULT };
    let read = |op, at: &str| Operation::read(op, timestamp(at));
    let keys = |words: &[&str]| words.iter().map(|word| bytes(word)).collect();
    // No word is the empty key.
    let key = |words: &[&str]| bytes(words.first().unwrap_or(&""));
    match word {
        "get" => raw(RawOperation::Get { key: bytes(words[0]) }),
        "put" => {
            let KvPair { key, value } = pair(words[0]);
            let ttl_secs = words.get(2).map_or(0, |word| number(word));
            raw(RawOperation::Put { key, value, ttl_secs, atomic: false })
        }
        "ttl" => raw(RawOperation::GetKeyTtl { key: bytes(words[0]) }),
        "cas" => {
            let ttl_secs = words.get(4).map_or(0, |word| number(word));
            let new = value(words[2]).expect("a value");
            raw(RawOperation::CompareAndSwap(Box::new(RawCompareAndSwap {
                key: bytes(words[0]),
                previous: value(words[1]),
                swap: RawSwap::Put { value: new, ttl_secs },
            })))
        }
        "cad" => raw(RawOperation::CompareAndSwap(Box::new(RawCompareAndSwap {
            key: bytes(words[0]),
            previous: value(words[1]),
            swap: RawSwap::Delete,
        }))),
        "delete_range" => raw(RawOperation::DeleteRange { range: range(words[0]) }),
        "checksum" => raw(RawOperation::Checksum { range: range(words[0]) }),
        "regions" => Operation::Regions { ranges: words.iter().map(|word| range(word)).collect() },
        "keys" => Operation::GroupKeys { keys: keys(words) },
        "locate" => Operation::Region(RegionLookup::Containing(key(words))),
        "locate_end" => Operation::Region(RegionLookup::Before(key(words))),
        "locate_id" => Operation::Region(RegionLookup::ById(number(words[0]))),
        "try" => Operation::Region(RegionLookup::Cached(key(words))),
        "pd_id" => Operation::Region(RegionLookup::ByIdFromPd(number(words[0]))),
        "seen" => Operation::BucketsSeen {
            region: RegionVersion { id: number(words[0]), conf_ver: 1, version: number(words[1]) },
            used: number(words[2]),
            latest: number(words[3]),
        },
        "copr" => raw(RawOperation::Coprocessor(Box::new(RawCoprocessor {
            name: "plug-in".into(),
            version_req: "*".into(),
            region: RegionVersion { id: number(words[0]), conf_ver: 1, version: number(words[1]) },
            ranges: vec![range(words[2])],
            data: bytes(words[3]),
        }))),
        "delete" => raw(RawOperation::Delete { key: bytes(words[0]), atomic: false }),
        "batch_get" => raw(RawOperation::BatchGet { keys: keys(words) }),
        "batch_delete" => raw(RawOperation::BatchDelete { keys: keys(words), atomic: false }),
        "batch_put" => {
            let pairs = words.iter().map(|word| pair(word)).collect();
            raw(RawOperation::BatchPut { pairs, ttls_secs: vec![0], atomic: false })
        }
        "batch_put_ttl" => {
            let both = words.iter().map(|word| word.split_once(':').expect("key=value:ttl"));
            let (pairs, ttls_secs) = both.map(|(kv, ttl)| (pair(kv), number(ttl))).unzip();
            raw(RawOperation::BatchPut { pairs, ttls_secs, atomic: false })
        }
        "batch_scan" => raw(RawOperation::BatchScan {
            scans: words[1..].iter().map(|word| scan(&[word, words[0]], false)).collect(),
        }),
        "scan" | "rscan" => raw(RawOperation::Scan(scan(words, word == "rscan"))),
        "tget" => read(ReadOperation::Get { key: bytes(words[0]) }, words[1]),
        "tbatch_get" => read(ReadOperation::BatchGet { keys: keys(&words[1..]) }, words[0]),
        "tscan" | "trscan" => read(ReadOperation::Scan(scan(words, word == "trscan")), words[2]),
        "rollback" => {
            Operation::Rollback { start_ts: timestamp(words[0]), keys: keys(&words[1..]) }
        }
        "lock" => Operation::Lock(Box::new(lock_plan(words))),
        "release" => {
            let stop_heartbeat = words.get(2) == Some(&"end");
            Operation::PessimisticRollback(Box::new(PessimisticRollbackPlan {
                start_ts: timestamp(words[0]),
                for_update_ts: timestamp(words[1]),
                keys: keys(&words[2 + usize::from(stop_heartbeat)..]),
                stop_heartbeat,
                options: Arc::default(),
            }))
        }
        "scan_locks" => Operation::ScanLocks(Box::new(ScanLocksPlan {
            range: range(words[0]),
            max_version: timestamp(words[1]),
            limit: words[2].parse().expect("a limit"),
        })),
        "resolve_locks" => Operation::ResolveLocks(Box::new(ResolveLocksPlan {
            range: range(words[0]),
            safe_point: timestamp(words[1]),
            async_commit_only: words.contains(&"async"),
            batch_size: words.get(2).and_then(|word| word.parse().ok()).unwrap_or(0),
        })),
        "status" => Operation::TxnStatus(Box::new(TxnStatusPlan {
            start_ts: timestamp(words[2]),
            primary: bytes(words[0]),
            caller: words.get(4).map(|word| timestamp(word)),
        })),
        "tso" => Operation::Timestamp,
        "low" => Operation::LowResolutionTimestamp,
        "stale" => {
            let ms = words[0].parse().expect("milliseconds");
            Operation::StaleTimestamp { previous: Duration::from_millis(ms) }
        }
        "min" => Operation::MinTimestamp,
        "external" => Operation::ExternalTimestamp,
        "interval" => Operation::SetLowResolutionInterval(Duration::from_millis(number(words[0]))),
        "set_external" => Operation::SetExternalTimestamp(timestamp(words[0])),
        "ready" => Operation::Ready,
        other => panic!("no such input: {other}"),
    }
}
