//! How a story writes down requests, replies and errors.

use anatase_proto::keyspacepb::LoadKeyspaceRequest;
use anatase_proto::kvrpcpb::prewrite_request::PessimisticAction;
use anatase_proto::rpc::Rpc;
use anatase_proto::{kvrpcpb, pdpb};
use bytes::Bytes;

use crate::wire::{Head, Request};
use crate::{
    Call, CommitOutcome, CommittedBy, Destination, Error, Found, LockReply, LockedKey, RegionFacts,
    Reply, StoreFacts, Timestamp,
};

pub(super) fn text(bytes: &Bytes) -> String {
    if bytes.len() > 12 && bytes.iter().all(|byte| *byte == 0xff) {
        return format!("<ff × {}>", bytes.len());
    }
    if bytes.len() > 12 && bytes[4..].iter().all(|byte| *byte == 0xff) {
        return format!("{}<ff × {}>", text(&bytes.slice(..4)), bytes.len() - 4);
    }
    // Not Rust's escapes: the text stands in a Rust string.
    let show = |byte: &u8| match byte.is_ascii_graphic() {
        true => char::from(*byte).to_string(),
        false => format!("<{byte:02x}>"),
    };
    let shown: String = bytes.iter().take(12).map(show).collect();
    if bytes.len() > 12 { format!("{shown}…({} bytes)", bytes.len()) } else { shown }
}

fn texts(list: &[Bytes]) -> String {
    list.iter().map(text).collect::<Vec<_>>().join(" ")
}

pub(super) fn ts(version: u64) -> String {
    match Timestamp::from_version(version) {
        Some(Timestamp::MAX) => "@max".into(),
        Some(ts) => format!("@{}.{}", ts.physical_ms(), ts.logical()),
        None => "@0".into(),
    }
}

/// `PD`, `PD 2`, `PD 2 for 1` (forwarding), `PD 2 itself` (a follower may answer).
pub(super) fn pd(to: &Destination, forward_to: Option<&str>, itself: bool) -> String {
    let name = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let mut place = match name(&to.address).as_str() {
        "1" => "PD".to_owned(),
        other => format!("PD {other}"),
    };
    if let Some(leader) = forward_to {
        place += &format!(" for {}", name(leader));
    }
    if itself {
        place += " itself";
    }
    place
}

pub(super) fn call(call: &Call) -> String {
    let request = &call.request;
    let place = match &request.head {
        Head::Store(context) => {
            let store = call.to.store.map(|store| store.0).unwrap_or_default();
            assert_eq!(store, context.peer.store.0, "the context names the store that is asked");
            assert_eq!(context.peer.id, context.region.id * 10 + store, "the peer of that store");
            let usual = *call.to.address == *format!("store{store}:1");
            let at = if usual { String::new() } else { format!(" at {}", call.to.address) };
            let retry = if context.is_retry { " retry" } else { "" };
            let mut place = format!(" | region {}{retry}", context.region.id);
            if let Some(keyspace) = &context.keyspace {
                place += &format!(" keyspace {}", keyspace.name);
            }
            if let Some(extra) = &context.extra {
                let list = |list: &[u64]| list.iter().map(|v| ts(*v)).collect::<Vec<_>>().join(" ");
                if !extra.resolved_locks.is_empty() {
                    place += &format!(" ignoring {}", list(&extra.resolved_locks));
                }
                if !extra.committed_locks.is_empty() {
                    place += &format!(" through {}", list(&extra.committed_locks));
                }
                place += &chosen(&request.head);
            }
            return format!("store {store}{at} {}{place}", body(request));
        }
        Head::Pd { forward_to, allow_follower, .. } => {
            pd(&call.to, forward_to.as_deref(), *allow_follower)
        }
        Head::None => match call.to.store {
            Some(store) => format!("store {store}"),
            None => pd(&call.to, None, false),
        },
    };
    format!("{place} {}", body(request))
}

/// What was chosen for the transaction, as it goes over the wire.
fn chosen(head: &Head) -> String {
    let Head::Store(context) = head else { return String::new() };
    let context = context.to_proto();
    let mut words = String::new();
    match context.priority() {
        kvrpcpb::CommandPri::Low => words += " low",
        kvrpcpb::CommandPri::Normal => {}
        kvrpcpb::CommandPri::High => words += " high",
    }
    if context.sync_log {
        words += " sync";
    }
    if !context.resource_group_tag.is_empty() {
        words += &format!(" tag {}", text(&context.resource_group_tag));
    }
    if let Some(control) = &context.resource_control_context {
        words += &format!(" group {}", control.resource_group_name);
    }
    if !context.request_source.is_empty() {
        words += &format!(" source {}", context.request_source);
    }
    if context.txn_source > 0 {
        words += &format!(" origin {}", context.txn_source);
    }
    match context.disk_full_opt() {
        kvrpcpb::DiskFullOpt::NotAllowedOnFull => {}
        kvrpcpb::DiskFullOpt::AllowedOnAlmostFull => words += " almost_full",
        kvrpcpb::DiskFullOpt::AllowedOnAlreadyFull => words += " already_full",
    }
    words
}

fn body(request: &Request) -> String {
    fn m<M: prost::Message + Default>(request: &Request) -> M {
        request.message().expect("the message of its RPC")
    }
    let name = format!("{:?}", request.rpc);
    let what = match request.rpc {
        Rpc::RawGet => text(&m::<kvrpcpb::RawGetRequest>(request).key),
        Rpc::RawPut => {
            let put: kvrpcpb::RawPutRequest = m(request);
            let ttl = if put.ttl > 0 { format!(" ttl {}", put.ttl) } else { String::new() };
            let atomic = atomic(put.for_cas);
            format!("{}={}{ttl}{atomic}", text(&put.key), text(&put.value))
        }
        Rpc::RawDelete => {
            let delete: kvrpcpb::RawDeleteRequest = m(request);
            format!("{}{}", text(&delete.key), atomic(delete.for_cas))
        }
        Rpc::RawGetKeyTtl => text(&m::<kvrpcpb::RawGetKeyTtlRequest>(request).key),
        Rpc::RawCompareAndSwap => {
            let swap: kvrpcpb::RawCasRequest = m(request);
            let previous = match swap.previous_not_exist {
                true => "-".into(),
                false => format!("\"{}\"", text(&swap.previous_value)),
            };
            let new = match swap.delete {
                true => "deleted".into(),
                false => format!("\"{}\"", text(&swap.value)),
            };
            let ttl = if swap.ttl > 0 { format!(" ttl {}", swap.ttl) } else { String::new() };
            format!("{} from {previous} to {new}{ttl}", text(&swap.key))
        }
        Rpc::RawDeleteRange => {
            let delete: kvrpcpb::RawDeleteRangeRequest = m(request);
            format!("{}..{}", text(&delete.start_key), text(&delete.end_key))
        }
        Rpc::RawChecksum => ranges(&m::<kvrpcpb::RawChecksumRequest>(request).ranges),
        Rpc::RawCoprocessor => {
            let question: kvrpcpb::RawCoprocessorRequest = m(request);
            format!("{} {}", ranges(&question.ranges), text(&question.data))
        }
        Rpc::RawBatchGet => texts(&m::<kvrpcpb::RawBatchGetRequest>(request).keys),
        Rpc::RawBatchDelete => {
            let delete: kvrpcpb::RawBatchDeleteRequest = m(request);
            format!("{}{}", texts(&delete.keys), atomic(delete.for_cas))
        }
        Rpc::RawBatchPut => {
            let put: kvrpcpb::RawBatchPutRequest = m(request);
            let pair =
                |pair: &kvrpcpb::KvPair| format!("{}={}", text(&pair.key), text(&pair.value));
            let pairs = put.pairs.iter().map(pair).collect::<Vec<_>>().join(" ");
            #[allow(deprecated, reason = "old stores read it")]
            let legacy = put.ttl;
            assert_eq!(legacy, put.ttls.first().copied().unwrap_or(0), "raw.md §3");
            let ttls = match put.ttls.is_empty() {
                true => String::new(),
                false => format!(" ttls {:?}", put.ttls),
            };
            format!("{pairs}{ttls}{}", atomic(put.for_cas))
        }
        Rpc::RawScan => {
            let scan: kvrpcpb::RawScanRequest = m(request);
            let reverse = if scan.reverse { " reverse" } else { "" };
            let (start, end) = (text(&scan.start_key), text(&scan.end_key));
            format!("{start}..{end} limit {}{reverse}", scan.limit)
        }
        Rpc::KvGet => {
            let get: kvrpcpb::GetRequest = m(request);
            format!("{} {}", text(&get.key), ts(get.version))
        }
        Rpc::KvBatchGet => {
            let get: kvrpcpb::BatchGetRequest = m(request);
            format!("{} {}", texts(&get.keys), ts(get.version))
        }
        Rpc::KvScan => {
            let scan: kvrpcpb::ScanRequest = m(request);
            let reverse = if scan.reverse { " reverse" } else { "" };
            let (start, end) = (text(&scan.start_key), text(&scan.end_key));
            format!("{start}..{end} limit {} {}{reverse}", scan.limit, ts(scan.version))
        }
        Rpc::KvPrewrite => prewrite(&m(request)),
        Rpc::KvCommit => {
            let commit: kvrpcpb::CommitRequest = m(request);
            let role = match commit.commit_role() {
                kvrpcpb::CommitRole::Primary => " primary",
                kvrpcpb::CommitRole::Secondary | kvrpcpb::CommitRole::Unknown => "",
            };
            let by = if commit.use_async_commit { " async" } else { "" };
            format!("{}{role} at {}{by}", texts(&commit.keys), ts(commit.commit_version))
        }
        Rpc::KvBatchRollback => texts(&m::<kvrpcpb::BatchRollbackRequest>(request).keys),
        Rpc::KvPessimisticLock => pessimistic_lock(&m(request)),
        Rpc::KvPessimisticRollback => {
            let release: kvrpcpb::PessimisticRollbackRequest = m(request);
            let (of, until) = (ts(release.start_version), ts(release.for_update_ts));
            let keys = if release.keys.is_empty() { "*".into() } else { texts(&release.keys) };
            format!("{keys} of {of} until {until}")
        }
        Rpc::KvTxnHeartBeat => {
            let beat: kvrpcpb::TxnHeartBeatRequest = m(request);
            let (of, ttl) = (ts(beat.start_version), beat.advise_lock_ttl);
            format!("{} of {of} ttl {ttl}", text(&beat.primary_lock))
        }
        Rpc::KvCheckTxnStatus => {
            let check: kvrpcpb::CheckTxnStatusRequest = m(request);
            let rollback = if check.rollback_if_not_exist { " or roll back" } else { "" };
            let kind = if check.resolving_pessimistic_lock { " pessimistic" } else { "" };
            let sync = if check.force_sync_commit { " as two-phase" } else { "" };
            assert!(check.verify_is_primary, "transactions.md §22.17");
            format!(
                "{} of {} for {} now {}{kind}{rollback}{sync}",
                text(&check.primary_key),
                ts(check.lock_ts),
                ts(check.caller_start_ts),
                ts(check.current_ts)
            )
        }
        Rpc::KvResolveLock => {
            let resolve: kvrpcpb::ResolveLockRequest = m(request);
            let keys = if resolve.keys.is_empty() { "*".into() } else { texts(&resolve.keys) };
            let fate = |version: u64| match version {
                0 => "rolled back".into(),
                at => format!("committed {}", ts(at)),
            };
            if resolve.txn_infos.is_empty() {
                let fate = fate(resolve.commit_version);
                return format!("{name} {keys} of {} {fate}", ts(resolve.start_version));
            }
            let one = |info: &kvrpcpb::TxnInfo| format!("{} {}", ts(info.txn), fate(info.status));
            resolve.txn_infos.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Rpc::KvCheckSecondaryLocks => {
            let check: kvrpcpb::CheckSecondaryLocksRequest = m(request);
            format!("{} of {}", texts(&check.keys), ts(check.start_version))
        }
        Rpc::KvScanLock => {
            let scan: kvrpcpb::ScanLockRequest = m(request);
            let (start, end) = (text(&scan.start_key), text(&scan.end_key));
            format!("{start}..{end} until {} limit {}", ts(scan.max_version), scan.limit)
        }
        Rpc::PdGetRegion | Rpc::PdGetPrevRegion => {
            text(&m::<pdpb::GetRegionRequest>(request).region_key)
        }
        Rpc::PdBatchScanRegions => {
            let scan: pdpb::BatchScanRegionsRequest = m(request);
            let limit = scan.limit;
            let one = |range: &pdpb::KeyRange| {
                format!("{}..{}", text(&range.start_key), text(&range.end_key))
            };
            match &scan.ranges[..] {
                [first, .., last] if scan.ranges.len() > 8 => {
                    let (first, last) = (one(first), one(last));
                    format!("{first} … {last}: {} ranges, limit {limit}", scan.ranges.len())
                }
                few => {
                    let few = few.iter().map(one).collect::<Vec<_>>().join(" ");
                    format!("{few} limit {limit}")
                }
            }
        }
        Rpc::PdGetRegionById => m::<pdpb::GetRegionByIdRequest>(request).region_id.to_string(),
        Rpc::PdScanRegions => {
            let scan: pdpb::ScanRegionsRequest = m(request);
            format!("{}..{} limit {}", text(&scan.start_key), text(&scan.end_key), scan.limit)
        }
        Rpc::LoadKeyspace => m::<LoadKeyspaceRequest>(request).name,
        Rpc::PdSetExternalTimestamp => {
            ts(m::<pdpb::SetExternalTimestampRequest>(request).timestamp)
        }
        Rpc::PdGetStore => m::<pdpb::GetStoreRequest>(request).store_id.to_string(),
        _ => String::new(),
    };
    if what.is_empty() { name } else { format!("{name} {what}") }
}

fn atomic(for_cas: bool) -> &'static str {
    if for_cas { " atomic" } else { "" }
}

fn ranges(list: &[kvrpcpb::KeyRange]) -> String {
    let one =
        |range: &kvrpcpb::KeyRange| format!("{}..{}", text(&range.start_key), text(&range.end_key));
    list.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn prewrite(prewrite: &kvrpcpb::PrewriteRequest) -> String {
    let action = |index: usize| {
        let action = prewrite.pessimistic_actions.get(index).copied().unwrap_or(-1);
        PessimisticAction::try_from(action).expect("one for each mutation")
    };
    let one = |(index, mutation): (usize, &kvrpcpb::Mutation)| {
        let key = text(&mutation.key);
        let held = match action(index) {
            PessimisticAction::SkipPessimisticCheck => String::new(),
            PessimisticAction::DoPessimisticCheck => "^".into(),
            PessimisticAction::DoConstraintCheck => "?".into(),
        };
        let mut constraints = prewrite.for_update_ts_constraints.iter();
        let held = match constraints.find(|constraint| constraint.index as usize == index) {
            Some(constraint) => format!("{held}{}:", ts(constraint.expected_for_update_ts)),
            None => held,
        };
        let belief = match mutation.assertion() {
            kvrpcpb::Assertion::None => "",
            kvrpcpb::Assertion::Exist => "~exist",
            kvrpcpb::Assertion::NotExist => "~absent",
        };
        let star = if mutation.key == prewrite.primary_lock { "*" } else { "" };
        let what = match mutation.op() {
            kvrpcpb::Op::Put => format!("{key}{star}={}", text(&mutation.value)),
            kvrpcpb::Op::Insert => format!("{key}{star}!={}", text(&mutation.value)),
            kvrpcpb::Op::Del => format!("-{key}{star}"),
            kvrpcpb::Op::Lock => format!("lock {key}{star}"),
            kvrpcpb::Op::CheckNotExists => format!("absent {key}{star}"),
            other => format!("{other:?} {key}{star}"),
        };
        format!("{held}{what}{belief}")
    };
    assert_eq!(prewrite.pessimistic_actions.len(), prewrite.mutations.len());
    assert!(prewrite.min_commit_ts > prewrite.start_version, "readers can push it");
    let async_primary = prewrite.use_async_commit
        && prewrite.mutations.iter().any(|mutation| mutation.key == prewrite.primary_lock);
    assert!(
        prewrite.secondaries.is_empty() || async_primary,
        "peers.md D5: only the primary of an async commit ships secondaries"
    );
    let size = match prewrite.txn_size {
        u64::MAX => "many".into(),
        size => size.to_string(),
    };
    let mutations: Vec<_> = prewrite.mutations.iter().enumerate().map(one).collect();
    let mut line = format!("{} {} size {size}", mutations.join(" "), ts(prewrite.start_version));
    // Only what is out of the ordinary.
    if prewrite.lock_ttl != 3_000 {
        line += &format!(" ttl {}", prewrite.lock_ttl);
    }
    if prewrite.for_update_ts > 0 {
        line += &format!(" as of {}", ts(prewrite.for_update_ts));
    }
    if prewrite.min_commit_ts != prewrite.start_version + 1 {
        line += &format!(" min {}", ts(prewrite.min_commit_ts));
    }
    if prewrite.max_commit_ts > 0 {
        line += &format!(" max {}", ts(prewrite.max_commit_ts));
    }
    match prewrite.assertion_level() {
        kvrpcpb::AssertionLevel::Off => {}
        kvrpcpb::AssertionLevel::Fast => line += " fast",
        kvrpcpb::AssertionLevel::Strict => line += " strict",
    }
    if prewrite.try_one_pc {
        line += " 1pc";
    }
    if prewrite.use_async_commit {
        line += " async";
    }
    if !prewrite.secondaries.is_empty() {
        line += &format!(" with {}", texts(&prewrite.secondaries));
    }
    line
}

pub(super) fn region(facts: &RegionFacts<'_>) -> String {
    let leader = facts.leader().map_or(0, |leader| leader.store.0);
    let invalid = if facts.is_invalid() { ", invalid" } else { "" };
    let buckets = facts
        .buckets()
        .map_or(String::new(), |(version, keys)| format!(", buckets {version}: {}", texts(keys)));
    format!("~ region {} led from store {leader}{invalid}{buckets}", facts.version())
}

pub(super) fn store(facts: &StoreFacts) -> String {
    let place = match &facts.address {
        Some(address) => format!("at {address}"),
        None if facts.gone => "gone".into(),
        None => "somewhere".into(),
    };
    let life = if facts.reachable { "" } else { ", unreachable" };
    let wait = match facts.estimated_wait.as_millis() {
        0 => String::new(),
        ms => format!(", busy for {ms} ms"),
    };
    let slow = match facts.slow_score.max(facts.feedback_score) {
        80.. => ", slow",
        _ => "",
    };
    format!("~ store {} {place}, epoch {}{life}{slow}{wait}", facts.id, facts.epoch)
}

fn pessimistic_lock(lock: &kvrpcpb::PessimisticLockRequest) -> String {
    let key = |mutation: &kvrpcpb::Mutation| {
        assert_eq!(mutation.op(), kvrpcpb::Op::PessimisticLock);
        let presumed = match mutation.assertion() {
            kvrpcpb::Assertion::NotExist => "!",
            kvrpcpb::Assertion::None | kvrpcpb::Assertion::Exist => "",
        };
        format!("{presumed}{}", text(&mutation.key))
    };
    assert_eq!(lock.min_commit_ts, lock.for_update_ts + 1, "transactions.md §13.3");
    let keys: Vec<String> = lock.mutations.iter().map(key).collect();
    let (of, at) = (ts(lock.start_version), ts(lock.for_update_ts));
    let wait = match lock.wait_timeout {
        -1 => "no wait".into(),
        i64::MAX => "wait".into(),
        ms => format!("wait {ms}"),
    };
    let force = lock.wake_up_mode() == kvrpcpb::PessimisticLockWakeUpMode::WakeUpModeForceLock;
    let flags = [
        (lock.is_first_lock, " first"),
        (lock.return_values, " values"),
        (lock.check_existence, " existence"),
        (lock.lock_only_if_exists, " if exists"),
        (force, " force"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let (keys, primary, ttl) = (keys.join(" "), text(&lock.primary_lock), lock.lock_ttl);
    format!("{keys} primary {primary} of {of} at {at} ttl {ttl} {wait}{flags}")
}

fn locked(reply: &LockReply) -> String {
    let key = |key: &LockedKey| {
        let found = match &key.found {
            Found::NotAsked => String::new(),
            Found::Missing => "-".into(),
            Found::Exists => "=…".into(),
            Found::Value(value) => format!("={}", text(value)),
        };
        let left = if key.locked { "" } else { " (not locked)" };
        let conflict = match key.conflict_ts {
            Some(at) => format!(" conflict {}", ts(at.version())),
            None => String::new(),
        };
        format!(" {}{found}{left}{conflict}", text(&key.key))
    };
    format!("locked{}", reply.keys.iter().map(key).collect::<String>())
}

pub(super) fn resolution(
    one: &crate::Resolution,
    ops: &std::collections::BTreeMap<crate::OpId, u32>,
) -> String {
    let waiter = |waiter: &crate::ResolutionWaiter| {
        let op =
            waiter.op.and_then(|id| ops.get(&id)).map_or("nobody".into(), |n| format!("op {n}"));
        let caller = waiter.caller.map_or(0, Timestamp::version);
        format!("{op} at {} for {}", text(&waiter.key), ts(caller))
    };
    let waiters: Vec<String> = one.waiters.iter().map(waiter).collect();
    let kind = if one.pessimistic { " pessimistic" } else { "" };
    let (start, primary) = (ts(one.start_ts.version()), text(&one.primary));
    format!("~ {:?}{kind} {start} by {primary}: {}", one.stage, waiters.join(", "))
}

pub(super) fn reply(reply: &Reply) -> String {
    let value = |value: &Option<Bytes>| match value {
        Some(value) => format!("value {}", text(value)).trim_end().to_owned(),
        None => "none".into(),
    };
    match reply {
        Reply::Done => "done".into(),
        Reply::Value(one) => value(one),
        Reply::Values(list) => list.iter().map(value).collect::<Vec<_>>().join(", "),
        Reply::Pairs(pairs) => {
            let pair = |pair: &crate::KvPair| format!(" {}={}", text(&pair.key), text(&pair.value));
            format!("pairs{}", pairs.iter().map(pair).collect::<String>())
        }
        Reply::Ttl(Some(ttl)) => format!("ttl {ttl}"),
        Reply::Ttl(None) => "none".into(),
        Reply::Swapped { previous, swapped } => {
            format!("{}, before: {}", if *swapped { "swapped" } else { "kept" }, value(previous))
        }
        Reply::Checksum(sum) => {
            format!("sum {} of {} pairs, {} bytes", sum.crc64_xor, sum.total_kvs, sum.total_bytes)
        }
        Reply::Regions(regions) => {
            let range =
                |range: &crate::KeyRange| format!(" {}..{}", text(&range.start), text(&range.end));
            let one = |found: &crate::RegionRanges| {
                let ranges: String = found.ranges.iter().map(range).collect();
                let (region, bounds) = (found.region.version, range(&found.region.bounds));
                format!("region {}.{}{bounds}:{ranges}", region.id, region.version)
            };
            regions.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Reply::KeyGroups(groups) => {
            let one = |group: &crate::RegionKeys| {
                format!("region {}: {}", group.region.version.id, texts(&group.keys))
            };
            groups.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Reply::Region(None) => "none".into(),
        Reply::Region(Some(found)) => {
            let (start, end) = (text(&found.bounds.start), text(&found.bounds.end));
            let leader = found.leader.map_or(0, |leader| leader.store.0);
            let buckets = found.buckets.as_ref().map_or(String::new(), |buckets| {
                format!(", buckets {}: {}", buckets.version, texts(&buckets.keys))
            });
            format!("region {} {start}..{end} led from store {leader}{buckets}", found.version)
        }
        Reply::Locks(locks) => {
            let one = |lock: &crate::FoundLock| {
                format!(" {} of {}", text(&lock.key), ts(lock.start_ts.version()))
            };
            format!("locks{}", locks.iter().map(one).collect::<String>())
        }
        Reply::LocksResolved(done) => {
            format!("{} locks in {} regions resolved", done.locks, done.regions)
        }
        Reply::TxnState(state) => match state {
            crate::TxnState::Alive { ttl, pushed } => {
                format!("alive for {ttl:?}{}", if *pushed { ", pushed" } else { "" })
            }
            crate::TxnState::Committed { at } => format!("committed {}", ts(at.version())),
            crate::TxnState::RolledBack => "rolled back".into(),
        },
        Reply::Bytes(bytes) => format!("bytes {}", text(bytes)),
        Reply::Timestamp(at) => ts(at.version()),
        Reply::ExternalTimestamp(at) => at.map_or("none".into(), |at| ts(at.version())),
        Reply::Commit(CommitOutcome::Committed { at, by, fallbacks }) => {
            let by = match by {
                CommittedBy::TwoPhase => "",
                CommittedBy::Async => " async",
                CommittedBy::OnePhase => " in one phase",
            };
            let from_async = if fallbacks.from_async { ", not async" } else { "" };
            let from_one = if fallbacks.from_one_phase { ", not in one phase" } else { "" };
            format!("committed {}{by}{from_async}{from_one}", ts(at.version()))
        }
        Reply::Commit(CommitOutcome::Aborted(why)) => format!("aborted, {}", error(why)),
        Reply::Locked(reply) => locked(reply),
        Reply::Commit(CommitOutcome::Undetermined(why)) => format!("undetermined, {}", error(why)),
    }
}

pub(super) fn error(error: &Error) -> String {
    let kind = format!("{:?}", error.kind());
    let kind = kind.split(['(', '{', ' ']).next().unwrap_or_default();
    let doubt = if error.is_undetermined() { " in doubt" } else { "" };
    format!("{kind}{doubt}: {error}")
}
