//! What decides about a cluster's future, for whoever explores what can become of it.
//!
//! [`Cluster`] is [`Hash`]: two clusters of one configuration that hash alike answer alike, whatever
//! they are asked from then on. What is left out decides nothing: the configuration, which never
//! changes, and how many calls were counted. A clone hashes like its original.

use std::hash::{Hash, Hasher};

use anatase_proto::prost::Message;

use crate::{Cluster, faults::Faults, lock_wait::Waiter};

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Without `..`: what is new has to be thought of here.
        let Self {
            config: _,
            now,
            oracle,
            stores,
            regions,
            raw,
            coprocessor,
            mvcc,
            lock_wait,
            pd,
            faults,
            last_id,
        } = self;
        (now, oracle, stores, regions, raw).hash(state);
        // A plug-in is set, not changed, and addresses differ from run to run.
        coprocessor.is_some().hash(state);
        (mvcc, lock_wait, pd, faults, last_id).hash(state);
    }
}

impl Hash for Faults {
    /// The rules in force. How often calls came in and rules struck is only counted.
    fn hash<H: Hasher>(&self, state: &mut H) {
        for rule in self.rules() {
            (&rule.on, &rule.fault, rule.left).hash(state);
        }
    }
}

impl Hash for Waiter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { at, context, key, absent, request, is_first_lock, wait, lock } = self;
        (at, context.encode_to_vec(), key, absent, request).hash(state);
        (is_first_lock, wait, lock).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    use std::time::Duration;

    use anatase_proto::{kvrpcpb::Op, rpc::Rpc};

    use super::*;
    use crate::{Fault, Loss, On, testing::small};

    fn digest(cluster: &Cluster) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(cluster)
    }

    #[test]
    fn whatever_changes_an_answer_changes_the_digest() {
        type Happens<'a> = &'a dyn Fn(&mut Cluster);
        let region = small().region_of(b"k").unwrap().id;
        let rows: [(&str, Happens<'_>); 12] = [
            ("time", &|it| it.advance(Duration::from_millis(1))),
            ("a timestamp", &|it| assert_ne!(it.timestamp(), 0)),
            ("a lock", &|it| drop(it.prewrite(10, &[(Op::Put, "k", "v")]))),
            ("another value", &|it| drop(it.prewrite(10, &[(Op::Put, "k", "w")]))),
            ("an expired lock", &|it| {
                it.prewrite(10, &[(Op::Put, "k", "v")]);
                it.expire(10);
            }),
            ("a record", &|it| {
                it.prewrite(10, &[(Op::Put, "k", "v")]);
                it.commit(10, 20, &["k"]);
            }),
            ("a rollback", &|it| assert_eq!(it.roll_back(10, &["k"]), None)),
            ("a read", &|it| it.raise_max_ts(1, 99)),
            ("a leader that does not know", &|it| it.hold_max_ts(region)),
            ("a split", &|it| assert!(it.split("m").is_some())),
            ("a fault", &|it| {
                it.faults().next(On::rpc(Rpc::KvGet), Fault::DropRequest(Loss::Silent));
            }),
            ("frozen routes", &|it| it.freeze_routes()),
        ];
        let mut seen = vec![("nothing", digest(&small()))];
        for (name, happens) in rows {
            let mut cluster = small();
            happens(&mut cluster);
            let found = digest(&cluster);
            let same = seen.iter().find(|(_, other)| *other == found);
            assert_eq!(same, None, "{name}");
            assert_eq!(digest(&cluster.clone()), found, "{name}");
            seen.push((name, found));
        }
    }

    /// Two ways to the same state are one state.
    #[test]
    fn what_was_only_counted_does_not_matter() {
        let (mut asked, quiet) = (small(), small());
        asked.read("k", 0).unwrap();
        assert_eq!(digest(&asked), digest(&quiet));
        asked.faults().next(On::rpc(Rpc::KvGet), Fault::DropRequest(Loss::Silent));
        asked.faults().clear();
        assert_eq!(digest(&asked), digest(&quiet));
    }
}
