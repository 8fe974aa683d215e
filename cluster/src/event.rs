//! What may happen to a cluster between two calls, as a value: so that a fault can let it happen
//! right before a certain call ([`Fault::Before`](crate::Fault::Before)).

use std::time::Duration;

use bytes::Bytes;

use crate::{Cluster, region::RegionId, store::StoreId};

/// Something that happens to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// [`Cluster::split`] at a transactional user key.
    Split(Bytes),
    /// [`Cluster::merge`].
    Merge {
        /// The region that goes.
        source: RegionId,
        /// The region that stays.
        target: RegionId,
    },
    /// [`Cluster::transfer_leader`].
    TransferLeader {
        /// The region.
        region: RegionId,
        /// The store whose peer is to lead.
        store: StoreId,
    },
    /// [`Cluster::stop_store`], and then [`Cluster::elect_leaders`].
    StopStore(StoreId),
    /// [`Cluster::raise_max_ts`].
    RaiseMaxTs {
        /// The store that reads.
        store: StoreId,
        /// Where.
        ts: u64,
    },
    /// [`Cluster::hold_max_ts`].
    HoldMaxTs(RegionId),
    /// [`Cluster::expire`].
    Expire {
        /// The transaction.
        start_ts: u64,
    },
    /// [`Cluster::advance`].
    Advance(Duration),
}

impl Cluster {
    /// Lets it happen now. What makes no sense does nothing.
    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Split(key) => {
                self.split(key);
            }
            Event::Merge { source, target } => {
                self.merge(source, target);
            }
            Event::TransferLeader { region, store } => {
                self.transfer_leader(region, store);
            }
            Event::StopStore(store) => {
                self.stop_store(store);
                self.elect_leaders();
            }
            Event::RaiseMaxTs { store, ts } => self.raise_max_ts(store, ts),
            Event::HoldMaxTs(region) => self.hold_max_ts(region),
            Event::Expire { start_ts } => {
                self.expire(start_ts);
            }
            Event::Advance(by) => self.advance(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use anatase_proto::{
        kvrpcpb::{Op, RawGetRequest},
        rpc::Rpc,
    };

    use super::*;
    use crate::{
        ClusterConfig, CommitWay, Failure, Fault, Loss, On, StoreState,
        testing::{in_async, in_one_phase, key, small, text},
        timestamp::compose,
    };

    /// Sends prewrites one after the other with the routes of now, and says which met a region
    /// error.
    fn batches(cluster: &mut Cluster, keys: &[&str]) -> Vec<bool> {
        let contexts: Vec<_> = keys
            .iter()
            .map(|name| cluster.context_for(cluster.region_of(name.as_bytes()).unwrap().id))
            .collect();
        let mut send = |(name, context): (&&str, anatase_proto::kvrpcpb::Context)| {
            let request = anatase_proto::kvrpcpb::PrewriteRequest {
                context: Some(Box::new(context.clone())),
                mutations: vec![anatase_proto::kvrpcpb::Mutation {
                    key: key(name),
                    ..Default::default()
                }],
                primary_lock: key(keys[0]),
                start_version: 10,
                use_async_commit: true,
                ..Default::default()
            };
            let store = context.peer.unwrap().store_id;
            let answer = cluster.call(store, request).result;
            answer.is_ok_and(|response| response.region_error.is_none())
        };
        keys.iter().zip(contexts).map(&mut send).collect()
    }

    #[test]
    fn a_split_between_two_batches() {
        let mut cluster = ClusterConfig::default().stores(1).split_keys(["m"]).build();
        let on = On::rpc(Rpc::KvPrewrite).after(1);
        cluster.faults().next(on, Event::Split(key("t")));
        assert_eq!(batches(&mut cluster, &["a", "x", "b"]), [true, false, true]);
        assert_eq!(cluster.regions().count(), 3);
        assert_eq!(cluster.locked_keys(), ["a", "b"]);
        assert!(cluster.faults().rules().is_empty());
    }

    #[test]
    fn each_event_before_the_call_that_it_is_for() {
        let new = || ClusterConfig::default().split_keys(["m"]).build();
        let [left, right] = ["a", "z"].map(|name| new().region_of(name.as_bytes()).unwrap().id);
        let lead = new().leader_of(left).unwrap();
        let other = if lead == 1 { 2 } else { 1 };
        let rows: [(Event, bool); 7] = [
            (Event::Split(key("c")), false),
            (Event::Merge { source: right, target: left }, false),
            (Event::TransferLeader { region: left, store: other }, false),
            (Event::StopStore(lead), false),
            (Event::HoldMaxTs(left), false),
            (Event::Advance(Duration::from_secs(1)), true),
            (Event::RaiseMaxTs { store: lead, ts: 500 }, true),
        ];
        for (event, passes) in rows {
            let mut cluster = new();
            let before = cluster.now_ms();
            cluster.faults().next(On::rpc(Rpc::KvPrewrite), event.clone());
            assert_eq!(batches(&mut cluster, &["a"]), [passes], "{event:?}");
            let minimum = cluster.locks().first().map(|lock| lock.min_commit_ts);
            match event {
                Event::Advance(_) => assert_eq!(cluster.now_ms(), before + 1000),
                Event::RaiseMaxTs { ts, .. } => assert_eq!(minimum, Some(ts + 1)),
                Event::StopStore(store) => {
                    assert_eq!(cluster.store(store).unwrap().state, StoreState::Stopped);
                    assert_ne!(cluster.leader_of(left), Some(store));
                }
                _ => assert_eq!(minimum, None),
            }
        }
    }

    #[test]
    fn the_store_that_stops_refuses_the_call_and_other_calls_do_not_matter() {
        let mut cluster = small();
        cluster.faults().next(On::rpc(Rpc::RawGet), Event::StopStore(1));
        assert_eq!(cluster.read("k", 5), Ok(None));
        let region = cluster.region_of_raw(b"k").unwrap().id;
        let context = Some(Box::new(cluster.context_for(region)));
        let get = RawGetRequest { context, key: key("k"), ..Default::default() };
        assert_eq!(cluster.call(1, get).result, Err(Failure::Lost(Loss::Refused)));
    }

    #[test]
    fn a_transaction_expires_with_all_its_locks_and_no_other() {
        let mut cluster = small();
        let start_ts = compose(1000, 7);
        let mutations = [(Op::Put, "p", "v"), (Op::Put, "s", "v")];
        cluster.prewrite(start_ts, &mutations);
        cluster.prewrite(start_ts + 1, &[(Op::Put, "other", "v")]);
        let status = |cluster: &mut Cluster| {
            cluster.status("p", start_ts, |request| request.current_ts = compose(1001, 0)).lock_ttl
        };
        assert_eq!(status(&mut cluster), 3000);
        assert_eq!(cluster.expire(start_ts), 2);
        let left: Vec<_> = cluster.locks().iter().map(|it| (text(&it.key), it.ttl)).collect();
        assert_eq!(left, [("other".into(), 3000), ("p".into(), 0), ("s".into(), 0)]);
        assert_eq!(status(&mut cluster), 0);
        assert_eq!(cluster.locked_keys(), ["other", "s"]);
        assert_eq!(cluster.expire(start_ts + 5), 0);
    }

    /// transactions.md §8.4: zeros tell a client to fall back.
    #[test]
    fn a_way_that_is_refused_leaves_ordinary_locks() {
        for way in [CommitWay::Async, CommitWay::OnePhase] {
            for (asynchronous, one_phase) in [(true, false), (false, true), (true, true)] {
                let mut cluster = small();
                cluster.faults().next(On::rpc(Rpc::KvPrewrite), Fault::FallBack(way));
                let mutations = [(Op::Put, "p", "v"), (Op::Put, "s", "v")];
                let response = cluster.prewritten(10, &mutations, |request| {
                    if asynchronous {
                        in_async(&["s"])(request);
                    }
                    if one_phase {
                        in_one_phase(request);
                    }
                });
                assert_eq!(response.errors, []);
                let struck = match way {
                    CommitWay::Async => asynchronous,
                    CommitWay::OnePhase => one_phase,
                };
                let zeros = (response.min_commit_ts, response.one_pc_commit_ts) == (0, 0);
                assert_eq!(zeros, struck, "{way:?} {asynchronous} {one_phase}");
                assert_eq!(cluster.faults().rules().is_empty(), struck);
                if struck {
                    let locks = cluster.locks();
                    assert_eq!(locks.len(), 2);
                    assert!(locks.iter().all(|lock| !lock.use_async_commit));
                    assert!(locks.iter().all(|lock| lock.secondaries.is_empty()));
                    assert_eq!(cluster.commit(10, 20, &["p", "s"]), None);
                }
            }
        }
    }

    /// What is executed and not told: transactions.md §8.5, cases.md ASY-12.
    #[test]
    fn a_lost_answer_is_found_out_by_asking_again() {
        for (one_phase, lost) in [(false, Loss::Reset), (true, Loss::Silent)] {
            let mut cluster = small();
            cluster.faults().next(On::rpc(Rpc::KvPrewrite), Fault::DropResponse(lost));
            let region = cluster.region_of(b"k").unwrap().id;
            let request = anatase_proto::kvrpcpb::PrewriteRequest {
                context: Some(Box::new(cluster.context_for(region))),
                mutations: vec![anatase_proto::kvrpcpb::Mutation {
                    key: key("k"),
                    ..Default::default()
                }],
                primary_lock: key("k"),
                start_version: 10,
                use_async_commit: !one_phase,
                try_one_pc: one_phase,
                ..Default::default()
            };
            let first = cluster.call(1, request.clone()).result;
            assert_eq!(first, Err(Failure::Lost(lost)));
            cluster.raise_max_ts(1, 50);
            let second = cluster.call(1, request).result.unwrap();
            let answer = (second.errors, second.min_commit_ts, second.one_pc_commit_ts);
            assert_eq!(answer, if one_phase { (vec![], 0, 11) } else { (vec![], 11, 0) });
        }
    }
}
