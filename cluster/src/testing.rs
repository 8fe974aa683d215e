//! Short ways to say what the tests of this crate say all the time.

use anatase_proto::kvrpcpb::{
    self, Assertion, AssertionLevel, CheckSecondaryLocksRequest, CheckSecondaryLocksResponse,
    CheckTxnStatusRequest, CheckTxnStatusResponse, CommitRequest, Context, KeyError, Mutation, Op,
    PessimisticLockRequest, PessimisticLockResponse, PessimisticRollbackRequest, PrewriteRequest,
    PrewriteResponse, ResolveLockRequest, ScanRequest, TxnInfo,
    prewrite_request::PessimisticAction,
};
use bytes::Bytes;

use crate::{Cluster, ClusterConfig, Served, StoreCall, Ticket};

/// A cluster with one store and one region.
pub(crate) fn small() -> Cluster {
    ClusterConfig::default().stores(1).build()
}

pub(crate) fn key(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

impl Cluster {
    /// Calls the leader of the region of a transactional key; no region error is expected.
    pub(crate) fn ask<R: StoreCall>(
        &mut self,
        at: &str,
        request: impl FnOnce(Option<Box<Context>>) -> R,
    ) -> R::Response {
        let region = self.region_of(at.as_bytes()).unwrap().id;
        let store = self.leader_of(region).unwrap();
        let context = self.context_for(region);
        self.call(store, request(Some(Box::new(context)))).result.unwrap()
    }

    /// Prewrites `(op, key, value)`; the first key is the primary. Returns the errors.
    pub(crate) fn prewrite(&mut self, start_ts: u64, of: &[(Op, &str, &str)]) -> Vec<KeyError> {
        self.prewrite_with(start_ts, of, |_| {})
    }

    pub(crate) fn prewrite_with(
        &mut self,
        start_ts: u64,
        of: &[(Op, &str, &str)],
        change: impl FnOnce(&mut PrewriteRequest),
    ) -> Vec<KeyError> {
        self.prewritten(start_ts, of, change).errors
    }

    /// Prewrites, and returns all of the response.
    pub(crate) fn prewritten(
        &mut self,
        start_ts: u64,
        of: &[(Op, &str, &str)],
        change: impl FnOnce(&mut PrewriteRequest),
    ) -> PrewriteResponse {
        let mutations = of.iter().map(|(op, name, value)| Mutation {
            op: *op as i32,
            key: key(name),
            value: key(value),
            ..Default::default()
        });
        let mut request = PrewriteRequest {
            mutations: mutations.collect(),
            primary_lock: key(of[0].1),
            start_version: start_ts,
            lock_ttl: 3000,
            txn_size: of.len() as u64,
            min_commit_ts: start_ts.saturating_add(1),
            ..Default::default()
        };
        change(&mut request);
        let retry = request.context.as_ref().is_some_and(|context| context.is_retry_request);
        self.ask(of[0].1, |mut context| {
            context.as_mut().unwrap().is_retry_request = retry;
            PrewriteRequest { context, ..request }
        })
    }

    /// A request for pessimistic locks that does not wait; the first key is the primary.
    pub(crate) fn lock_request(
        &self,
        start_ts: u64,
        for_update_ts: u64,
        keys: &[&str],
    ) -> PessimisticLockRequest {
        let mutations = keys.iter().map(|name| Mutation {
            op: Op::PessimisticLock as i32,
            key: key(name),
            ..Default::default()
        });
        PessimisticLockRequest {
            context: self.region_of(keys[0].as_bytes()).map(|it| Box::new(self.context_for(it.id))),
            mutations: mutations.collect(),
            primary_lock: key(keys[0]),
            start_version: start_ts,
            for_update_ts,
            lock_ttl: 3000,
            wait_timeout: -1,
            min_commit_ts: for_update_ts.saturating_add(1),
            ..Default::default()
        }
    }

    /// Locks without waiting, and returns all of the response.
    pub(crate) fn locked_with(
        &mut self,
        start_ts: u64,
        for_update_ts: u64,
        keys: &[&str],
        change: impl FnOnce(&mut PessimisticLockRequest),
    ) -> PessimisticLockResponse {
        let mut request = self.lock_request(start_ts, for_update_ts, keys);
        change(&mut request);
        self.ask(keys[0], |_| request)
    }

    /// Locks without waiting. Returns the errors.
    pub(crate) fn lock(
        &mut self,
        start_ts: u64,
        for_update_ts: u64,
        keys: &[&str],
    ) -> Vec<KeyError> {
        self.locked_with(start_ts, for_update_ts, keys, |_| {}).errors
    }

    /// Locks, waiting for as long as the store allows if need be.
    pub(crate) fn lock_or_park(
        &mut self,
        start_ts: u64,
        for_update_ts: u64,
        keys: &[&str],
        change: impl FnOnce(&mut PessimisticLockRequest),
    ) -> Result<PessimisticLockResponse, Ticket> {
        let mut request = self.lock_request(start_ts, for_update_ts, keys);
        request.wait_timeout = 0;
        change(&mut request);
        let region = self.region_of(keys[0].as_bytes()).unwrap().id;
        let store = self.leader_of(region).unwrap();
        match self.call_or_park(store, request) {
            Served::Answered(answer) => Ok(answer.result.unwrap()),
            Served::Parked(ticket) => Err(ticket),
        }
    }

    /// Lets go of pessimistic locks; of all in the region of the empty key if none is named.
    pub(crate) fn release(&mut self, start_ts: u64, for_update_ts: u64, keys: &[&str]) {
        let response =
            self.ask(keys.first().unwrap_or(&""), |context| PessimisticRollbackRequest {
                context,
                start_version: start_ts,
                for_update_ts,
                keys: keys.iter().map(|name| key(name)).collect(),
            });
        assert_eq!(response.errors, []);
    }

    /// Prewrites puts of a pessimistic transaction, each key with what is said of it.
    pub(crate) fn prewritten_pessimistic(
        &mut self,
        start_ts: u64,
        for_update_ts: u64,
        of: &[(&str, PessimisticAction)],
        change: impl FnOnce(&mut PrewriteRequest),
    ) -> PrewriteResponse {
        let puts: Vec<_> = of.iter().map(|(name, _)| (Op::Put, *name, "v")).collect();
        self.prewritten(start_ts, &puts, |request| {
            request.for_update_ts = for_update_ts;
            request.pessimistic_actions = of.iter().map(|(_, action)| *action as i32).collect();
            request.min_commit_ts = for_update_ts.saturating_add(1);
            change(request);
        })
    }

    pub(crate) fn secondaries(
        &mut self,
        start_ts: u64,
        keys: &[&str],
    ) -> CheckSecondaryLocksResponse {
        self.ask(keys[0], |context| CheckSecondaryLocksRequest {
            context,
            keys: keys.iter().map(|name| key(name)).collect(),
            start_version: start_ts,
        })
    }

    pub(crate) fn commit(
        &mut self,
        start_ts: u64,
        commit_ts: u64,
        keys: &[&str],
    ) -> Option<Box<KeyError>> {
        self.ask(keys[0], |context| CommitRequest {
            context,
            start_version: start_ts,
            keys: keys.iter().map(|name| key(name)).collect(),
            commit_version: commit_ts,
            ..Default::default()
        })
        .error
    }

    /// Prewrites and commits one value.
    pub(crate) fn put(&mut self, start_ts: u64, commit_ts: u64, name: &str, value: &str) {
        assert_eq!(self.prewrite(start_ts, &[(Op::Put, name, value)]), []);
        assert_eq!(self.commit(start_ts, commit_ts, &[name]), None);
    }

    /// Prewrites and commits one deletion.
    pub(crate) fn delete(&mut self, start_ts: u64, commit_ts: u64, name: &str) {
        assert_eq!(self.prewrite(start_ts, &[(Op::Del, name, "")]), []);
        assert_eq!(self.commit(start_ts, commit_ts, &[name]), None);
    }

    pub(crate) fn roll_back(&mut self, start_ts: u64, keys: &[&str]) -> Option<Box<KeyError>> {
        self.ask(keys[0], |context| kvrpcpb::BatchRollbackRequest {
            context,
            start_version: start_ts,
            keys: keys.iter().map(|name| key(name)).collect(),
            ..Default::default()
        })
        .error
    }

    /// Reads a value; `Err` is the error.
    pub(crate) fn read(&mut self, name: &str, ts: u64) -> Result<Option<String>, Box<KeyError>> {
        self.read_with(name, ts, |_| {})
    }

    pub(crate) fn read_with(
        &mut self,
        name: &str,
        ts: u64,
        change: impl FnOnce(&mut Context),
    ) -> Result<Option<String>, Box<KeyError>> {
        let response = self.ask(name, |mut context| {
            change(context.as_mut().unwrap());
            kvrpcpb::GetRequest { context, key: key(name), version: ts, need_commit_ts: false }
        });
        match response.error {
            Some(error) => Err(error),
            None if response.not_found => Ok(None),
            None => Ok(Some(String::from_utf8(response.value.into()).unwrap())),
        }
    }

    /// Scans, and says `k=v` for a row and `!k` for a lock in the way.
    pub(crate) fn rows(&mut self, request: ScanRequest) -> Vec<String> {
        let at = String::from_utf8(request.start_key.to_vec()).unwrap();
        let pairs = self.ask(&at, |context| ScanRequest { context, ..request }).pairs;
        pairs
            .into_iter()
            .map(|pair| match pair.error {
                Some(error) => format!("!{}", text(&error.locked.unwrap().key)),
                None => format!("{}={}", text(&pair.key), text(&pair.value)),
            })
            .collect()
    }

    pub(crate) fn status(
        &mut self,
        primary: &str,
        lock_ts: u64,
        change: impl FnOnce(&mut CheckTxnStatusRequest),
    ) -> CheckTxnStatusResponse {
        let mut request = CheckTxnStatusRequest {
            primary_key: key(primary),
            lock_ts,
            verify_is_primary: true,
            ..Default::default()
        };
        change(&mut request);
        self.ask(primary, |context| CheckTxnStatusRequest { context, ..request })
    }

    pub(crate) fn resolve(&mut self, fates: &[(u64, u64)], keys: &[&str]) -> Option<Box<KeyError>> {
        let (start_version, commit_version) = match fates {
            [fate] => *fate,
            _ => (0, 0),
        };
        self.ask(keys.first().unwrap_or(&""), |context| ResolveLockRequest {
            context,
            start_version,
            commit_version,
            txn_infos: fates
                .iter()
                .map(|(txn, status)| TxnInfo { txn: *txn, status: *status, ..Default::default() })
                .collect(),
            keys: keys.iter().map(|name| key(name)).collect(),
            ..Default::default()
        })
        .error
    }

    pub(crate) fn locked_keys(&self) -> Vec<String> {
        self.locks().iter().map(|lock| text(&lock.key)).collect()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sets what the first mutation asserts, and the level.
pub(crate) fn assert_that(
    assertion: Assertion,
    level: AssertionLevel,
) -> impl FnOnce(&mut PrewriteRequest) {
    move |request| {
        request.mutations[0].assertion = assertion as i32;
        request.assertion_level = level as i32;
    }
}

/// Asks for async commit with these secondaries.
pub(crate) fn in_async(secondaries: &[&str]) -> impl FnOnce(&mut PrewriteRequest) {
    let secondaries: Vec<Bytes> = secondaries.iter().map(|name| key(name)).collect();
    move |request| {
        request.use_async_commit = true;
        request.secondaries = secondaries;
    }
}

/// Asks for one-phase commit.
pub(crate) fn in_one_phase(request: &mut PrewriteRequest) {
    request.try_one_pc = true;
}
