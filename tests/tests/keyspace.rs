//! API V2 end to end: keyspaces on one cluster, each as if it were alone (raw.md §6).

use std::time::Duration;

use anatase::{Config, ErrorKind, KeyspaceProblem, RawClient, TransactionClient};
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{Api, ClusterConfig, Keyspace, KeyspaceState, codec::encode_key};
use anatase_proto::kvrpcpb::{ApiVersion, Mutation, PrewriteRequest};
use anatase_tests::bounded;

const LAST: u32 = 0xff_ffff;

/// Neighbours, one far away, the last, and two that are not to be used.
fn keyspaces() -> [Keyspace; 6] {
    [
        Keyspace::new(1, "one"),
        Keyspace::new(2, "two"),
        Keyspace::new(LAST - 1, "before-last"),
        Keyspace::new(LAST, "last"),
        Keyspace::new(7, "disabled").state(KeyspaceState::Disabled),
        Keyspace::new(8, "archived").state(KeyspaceState::Archived),
    ]
}

/// A cluster of API V2. `aligned`: regions end where keyspaces do; otherwise most of them hold keys of
/// several, and some split a keyspace in the middle.
async fn serve(aligned: bool) -> Server {
    let config = ClusterConfig::default().api(Api::V2).keyspaces(keyspaces());
    let config = if aligned {
        config.split_at_keyspaces(true)
    } else {
        config.split_keys([
            &b"r\0\0\0m"[..],
            b"r\0\0\x01c",
            b"r\xff\xff\xfem",
            b"s",
            b"x\0\0\x01c",
            b"x\0\0\x02",
            b"x\xff\xff\xffm",
        ])
    };
    Server::start(config.build(), ServeOptions::default()).await.expect("a cluster on loopback")
}

async fn raw(server: &Server, keyspace: &str) -> RawClient {
    let config = Config::default().with_keyspace(keyspace);
    RawClient::new_with_config([server.pd_address()], config).await.expect("a client")
}

async fn txn(server: &Server, keyspace: &str) -> TransactionClient {
    let config = Config::default().with_keyspace(keyspace);
    TransactionClient::new_with_config([server.pd_address()], config).await.expect("a client")
}

const ALL: [&str; 5] = ["DEFAULT", "one", "two", "before-last", "last"];
const KEYS: [&str; 4] = ["", "a", "m", "z"];

fn texts<'a>(keys: impl IntoIterator<Item = &'a anatase::Key>) -> Vec<String> {
    keys.into_iter().map(|key| String::from_utf8_lossy(key.as_ref()).into_owned()).collect()
}

fn reversed<T: Clone>(list: &[T]) -> Vec<T> {
    list.iter().rev().cloned().collect()
}

/// Every keyspace has the same keys with values of its own, the empty key among them; scans without
/// bounds, in both directions, see its own and nothing else.
#[tokio::test]
async fn raw_clients_of_different_keyspaces_do_not_see_each_other() {
    for aligned in [true, false] {
        bounded(async {
            let server = serve(aligned).await;
            let mut clients = Vec::new();
            for name in ALL {
                let client = raw(&server, name).await;
                client.batch_put(KEYS.map(|key| (key, name))).await.unwrap();
                clients.push((name, client));
            }
            for (name, client) in &clients {
                let own = Some(name.as_bytes());
                assert_eq!(client.get("").await.unwrap().as_deref(), own);
                let values = client.batch_get(["z", "b", ""]).await.unwrap();
                let values: Vec<Option<&[u8]>> = values.iter().map(|v| v.as_deref()).collect();
                assert_eq!(values, [own, None, own]);
                for pair in client.scan(.., 100).await.unwrap() {
                    assert_eq!(&pair.value()[..], name.as_bytes());
                }
                assert_eq!(texts(&client.scan_keys(.., 100).await.unwrap()), KEYS, "{name}");
                let down = client.scan_keys_reverse(.., 100).await.unwrap();
                assert_eq!(texts(&down), reversed(&KEYS), "{name}");
                assert_eq!(texts(&client.scan_keys("a".."z", 100).await.unwrap()), ["a", "m"]);
                assert_eq!(texts(&client.scan_keys("b".., 100).await.unwrap()), ["m", "z"]);
                let down = client.scan_keys_reverse(.."m", 100).await.unwrap();
                assert_eq!(texts(&down), ["a", ""]);
                let down = client.scan_keys_reverse("b".., 1).await.unwrap();
                assert_eq!(texts(&down), ["z"]);
            }
            // What one deletes the others keep.
            clients[1].1.delete("").await.unwrap();
            clients[1].1.batch_delete(["a", "m", "z"]).await.unwrap();
            for (name, client) in &clients {
                let left = if *name == "one" { 0 } else { KEYS.len() };
                assert_eq!(client.scan_keys(.., 100).await.unwrap().len(), left, "{name}");
            }
            // Under V2 raw keys have TTLs.
            clients[2].1.put_with_ttl("t", "v", 1_000).await.unwrap();
            assert_eq!(clients[2].1.get("t").await.unwrap().as_deref(), Some(&b"v"[..]));
        })
        .await;
    }
}

#[tokio::test]
async fn transactions_of_different_keyspaces_do_not_see_each_other() {
    for aligned in [true, false] {
        bounded(async {
            let server = serve(aligned).await;
            let mut clients = Vec::new();
            for name in ALL {
                let client = txn(&server, name).await;
                let txn = client.begin_optimistic().await.unwrap();
                for key in &KEYS[1..] {
                    txn.put(*key, name).await.unwrap();
                }
                txn.commit().await.unwrap();
                clients.push((name, client));
            }
            for (name, client) in &clients {
                let at = client.current_timestamp().await.unwrap();
                let snapshot = client.snapshot(at);
                let own = Some(name.as_bytes());
                assert_eq!(snapshot.get("m").await.unwrap().as_deref(), own);
                let values = snapshot.batch_get(["z", "b", "a"]).await.unwrap();
                let values: Vec<Option<&[u8]>> = values.iter().map(|v| v.as_deref()).collect();
                assert_eq!(values, [own, None, own]);
                let up = snapshot.scan(.., 100).await.unwrap();
                assert_eq!(texts(up.iter().map(|pair| pair.key())), KEYS[1..], "{name}");
                let down = snapshot.scan_reverse(.., 100).await.unwrap();
                let down = texts(down.iter().map(|pair| pair.key()));
                assert_eq!(down, reversed(&KEYS[1..]), "{name}");
                let down = snapshot.scan_reverse("b".., 1).await.unwrap();
                assert_eq!(texts(down.iter().map(|pair| pair.key())), ["z"]);
            }
            // Two that write «the same» key at once are no conflict.
            let (one, two) = (&clients[1].1, &clients[2].1);
            let (a, b) =
                (one.begin_optimistic().await.unwrap(), two.begin_optimistic().await.unwrap());
            a.put("a", "1").await.unwrap();
            b.put("a", "2").await.unwrap();
            a.commit().await.unwrap();
            assert!(b.commit().await.unwrap().is_some());
        })
        .await;
    }
}

/// O4: errors speak of the application's keys.
#[tokio::test]
async fn o4_errors_carry_the_keys_of_the_application() {
    bounded(async {
        let server = serve(false).await;
        for name in ["one", "last"] {
            let client = txn(&server, name).await;
            let (slow, fast) = (
                client.begin_optimistic().await.unwrap(),
                client.begin_optimistic().await.unwrap(),
            );
            for txn in [&slow, &fast] {
                txn.put("stock", "1").await.unwrap();
            }
            fast.commit().await.unwrap();
            let error = slow.commit().await.unwrap_err();
            let ErrorKind::WriteConflict(conflict) = error.kind() else { panic!("{error}") };
            assert_eq!((&conflict.key[..], &conflict.primary[..]), (&b"stock"[..], &b"stock"[..]));

            let txn = client.begin_optimistic().await.unwrap();
            txn.insert("stock", "2").await.unwrap();
            let error = match txn.commit().await {
                Err(error) => error,
                Ok(outcome) => panic!("{outcome:?}"),
            };
            let ErrorKind::KeyExists { key } = error.kind() else { panic!("{error}") };
            assert_eq!(&key[..], b"stock");
            client.close().await;
        }
        // Physically the keys of both are there, each under its prefix.
        let keys: Vec<_> = server.with(|cluster| cluster.txn_keys().cloned().collect());
        assert_eq!(keys, [&b"x\0\0\x01stock"[..], b"x\xff\xff\xffstock"]);
    })
    .await;
}

/// A lock that a dead client left is resolved by the next one of the same keyspace.
#[tokio::test]
async fn locks_are_resolved_within_the_keyspace() {
    bounded(async {
        let server = serve(false).await;
        let client = txn(&server, "two").await;
        server.with(|cluster| {
            let region = cluster.region_of(b"x\0\0\x02k").unwrap().id;
            let mut context = cluster.context_for(region);
            context.api_version = ApiVersion::V2.into();
            let put = |key: &'static [u8]| Mutation {
                key: key.into(),
                value: "lost".into(),
                ..Default::default()
            };
            let prewrite = PrewriteRequest {
                context: Some(context.into()),
                mutations: vec![put(b"x\0\0\x02k"), put(b"x\0\0\x02p")],
                primary_lock: (&b"x\0\0\x02p"[..]).into(),
                start_version: cluster.timestamp(),
                lock_ttl: 1,
                ..Default::default()
            };
            let leader = cluster.leader_of(region).unwrap();
            assert_eq!(cluster.call(leader, prewrite).result.unwrap().errors, []);
            cluster.advance(Duration::from_secs(9));
        });
        let at = client.current_timestamp().await.unwrap();
        assert_eq!(client.snapshot(at).get("k").await.unwrap(), None);
        client.close().await;
    })
    .await;
}

/// O3: the state of a keyspace is checked before anything is sent to a store, by both kinds of client.
#[tokio::test]
async fn o3_a_keyspace_has_to_be_there_and_enabled() {
    bounded(async {
        let server = serve(true).await;
        let rows = [
            ("nobody", KeyspaceProblem::NotFound, "PD knows none of this name"),
            ("disabled", KeyspaceProblem::Disabled, "DISABLED"),
            ("archived", KeyspaceProblem::Archived, "ARCHIVED"),
        ];
        for (name, problem, text) in rows {
            let config = Config::default().with_keyspace(name);
            let endpoints = [server.pd_address()];
            let raw = RawClient::new_with_config(endpoints.clone(), config.clone()).await;
            let txn = TransactionClient::new_with_config(endpoints, config).await;
            for error in [raw.expect_err("no client"), txn.expect_err("no client")] {
                let expected = ErrorKind::Keyspace { name: name.into(), problem };
                assert_eq!(error.kind(), &expected);
                let said = error.to_string();
                assert!(said.contains(name) && said.contains(text), "{said}");
                assert!(!error.is_retryable());
            }
        }
        assert!(server.with(|c| c.set_keyspace_state("disabled", KeyspaceState::Enabled)));
        raw(&server, "disabled").await.put("k", "v").await.unwrap();
    })
    .await;
}

/// O3: the largest number that a keyspace can have; a client that adds one to it is in another mode.
#[tokio::test]
async fn o3_the_last_keyspace_is_like_the_others() {
    bounded(async {
        for split in [&[][..], &[&b"s"[..]], &[b"r\xff\xff\xffk"]] {
            let config = ClusterConfig::default().api(Api::V2).keyspaces(keyspaces());
            let cluster = config.split_keys(split).build();
            let server = Server::start(cluster, ServeOptions::default()).await.unwrap();
            let client = raw(&server, "last").await;
            client.batch_put([("a", "1"), ("z", "2")]).await.unwrap();
            assert_eq!(texts(&client.scan_keys(.., 9).await.unwrap()), ["a", "z"]);
            assert_eq!(texts(&client.scan_keys_reverse(.., 9).await.unwrap()), ["z", "a"]);
            server.with(|cluster| {
                let keys: Vec<_> =
                    cluster.raw_pairs("default").map(|(key, _)| key.clone()).collect();
                assert_eq!(keys, [encode_key(b"r\xff\xff\xffa"), encode_key(b"r\xff\xff\xffz")]);
            });
        }
    })
    .await;
}

/// R15: a client of another version than the cluster's is told so, in the store's words.
#[tokio::test]
async fn r15_the_versions_of_client_and_cluster_have_to_agree() {
    const MISMATCH: &str = "Api version in request does not match with TiKV storage";
    bounded(async {
        let v2 = serve(true).await;
        let v1 = ClusterConfig::default().build();
        let v1 = Server::start(v1, ServeOptions::default()).await.unwrap();
        let v1_ttl = ClusterConfig::default().api(Api::V1Ttl).build();
        let v1_ttl = Server::start(v1_ttl, ServeOptions::default()).await.unwrap();

        let said = |error: anatase::Error| {
            assert_eq!(error.kind(), &ErrorKind::Refused);
            assert!(!error.is_undetermined() && !error.is_retryable());
            error.to_string()
        };
        let config = |version| Config::default().with_api_version(version);
        // Keyspaces have no meaning under V1.
        let v1_config =
            Config::default().with_keyspace("nobody").with_api_version(anatase::ApiVersion::V1);

        let raw = RawClient::new_with_config([v2.pd_address()], v1_config).await.unwrap();
        let error = said(raw.put("k", "v").await.unwrap_err());
        assert!(error.contains(MISMATCH) && error.contains("storage: V2, request: V1"), "{error}");
        let error = said(raw.scan(.., 9).await.unwrap_err());
        assert!(error.contains(MISMATCH), "{error}");
        // The transactional keys of version 1 that such a cluster takes are those of the SQL layer.
        let txn = TransactionClient::new([v2.pd_address()]).await.unwrap();
        let snapshot = txn.snapshot(txn.current_timestamp().await.unwrap());
        let error = said(snapshot.get("k").await.unwrap_err());
        assert!(error.contains("Key mode mismatched with the request mode, cmd: get"), "{error}");
        assert_eq!(snapshot.get("t1").await.unwrap(), None);

        for server in [&v1, &v1_ttl] {
            let config = config(anatase::ApiVersion::V2);
            let raw = RawClient::new_with_config([server.pd_address()], config.clone()).await;
            let error = said(raw.unwrap().get("k").await.unwrap_err());
            assert!(error.contains(MISMATCH) && error.contains("request: V2"), "{error}");
            let txn = TransactionClient::new_with_config([server.pd_address()], config).await;
            let txn = txn.unwrap().begin_optimistic().await.unwrap();
            txn.put("k", "v").await.unwrap();
            let error = said(txn.commit().await.unwrap_err());
            assert!(error.contains(MISMATCH), "{error}");
        }

        // V1Ttl is a declaration: what is sent is V1.
        let ttl =
            RawClient::new_with_config([v1_ttl.pd_address()], config(anatase::ApiVersion::V1Ttl))
                .await;
        ttl.unwrap().put_with_ttl("k", "v", 1_000).await.unwrap();
        let plain =
            RawClient::new_with_config([v1.pd_address()], config(anatase::ApiVersion::V1Ttl)).await;
        let error = said(plain.unwrap().put_with_ttl("k", "v", 1).await.unwrap_err());
        assert!(error.contains("ttl is not enabled"), "{error}");
    })
    .await;
}

/// raw.md §4: there are no column families under V2.
#[tokio::test]
async fn column_families_are_refused_under_v2() {
    bounded(async {
        let server = serve(true).await;
        let client = raw(&server, "one").await;
        let error = client.get("k").cf("write").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Refused);
        assert!(error.to_string().contains("cf is deprecated in API V2"), "{error}");
        client.put("k", "v").cf("default").await.unwrap();
    })
    .await;
}
