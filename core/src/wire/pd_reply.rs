//! PD's answers.
//!
//! PD says «no» in the header of an answer with gRPC status OK. That is PD's own word and no failure
//! of the connection (`peers.md` D24), with one exception: a member that has just become leader
//! counts its cluster as not bootstrapped until it has loaded it.

use std::sync::Arc;

use anatase_proto::{keyspacepb, pdpb};

use crate::codec::MAX_KEYSPACE;
use crate::error::{Error, ErrorKind, KeyspaceProblem};
use crate::id::Peer;
use crate::operation::Key;
use crate::timestamp::Timestamp;
use crate::wire::key_error::impossible;
use crate::wire::region_error::{RegionInfo, peer};
use crate::wire::reply::another;
use crate::wire::{Keyspace, Response};

/// The members of PD (`control-plane.md` §14.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Members {
    /// 0 if the member did not say.
    pub(crate) cluster_id: u64,
    /// Where the leader is; `None` if there is none.
    pub(crate) leader: Option<Arc<str>>,
    /// Where all members are, the leader included.
    pub(crate) members: Vec<Arc<str>>,
}

/// A region as PD knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LoadedRegion {
    pub(crate) region: RegionInfo,
    /// The replica that leads, if PD knows of one.
    pub(crate) leader: Option<Peer>,
    /// The ids of replicas that PD has not heard from for long.
    pub(crate) down_peers: Vec<u64>,
    /// Its buckets, if there are any: their version and their borders, as PD sees them.
    pub(crate) buckets: Option<(u64, Vec<Key>)>,
}

/// Answers `GetMembers`.
pub(crate) fn members(response: Response) -> Result<Members, Error> {
    let Response::GetMembers(message) = response else {
        return Err(another("GetMembers"));
    };
    check(message.header.as_ref())?;
    let leader = message.leader.and_then(|leader| leader.client_urls.into_iter().next());
    let urls = message.members.into_iter().flat_map(|member| member.client_urls);
    Ok(Members {
        cluster_id: message.header.map_or(0, |header| header.cluster_id),
        leader: leader.filter(|url| !url.is_empty()).map(Into::into),
        members: urls.filter(|url| !url.is_empty()).map(Into::into).collect(),
    })
}

/// Answers a question for regions; empty if PD knows no such region, or does not know it yet. Of
/// several, those that make no sense and those without a leader are left out: whoever wants one of
/// them asks for it alone.
pub(crate) fn regions(response: Response) -> Result<Vec<LoadedRegion>, Error> {
    match response {
        Response::BatchScanRegions(message) => scanned(message.header.as_ref(), message.regions),
        Response::ScanRegions(message) => scanned(message.header.as_ref(), message.regions),
        one => Ok(region(one)?.into_iter().collect()),
    }
}

fn scanned(
    header: Option<&pdpb::ResponseHeader>,
    regions: Vec<pdpb::Region>,
) -> Result<Vec<LoadedRegion>, Error> {
    if !is_known(header)? {
        return Ok(Vec::new());
    }
    let loaded = regions.into_iter().filter_map(|region| {
        let leader = region.leader.and_then(peer)?;
        let down = region.down_peers.into_iter().filter_map(|stats| stats.peer);
        Some(LoadedRegion {
            region: RegionInfo::from_proto(region.region?)?,
            leader: Some(leader),
            down_peers: down.map(|peer| peer.id).collect(),
            buckets: region.buckets.map(|buckets| (buckets.version, buckets.keys)),
        })
    });
    Ok(loaded.collect())
}

/// Whether PD knows what it was asked for.
fn is_known(header: Option<&pdpb::ResponseHeader>) -> Result<bool, Error> {
    use pdpb::ErrorType::{NotBootstrapped, RegionNotFound, RegionsNotContainAllKeyRange};
    match refusal(header) {
        None => Ok(true),
        Some((RegionNotFound | NotBootstrapped | RegionsNotContainAllKeyRange, _)) => Ok(false),
        Some((kind, text)) => Err(refused(kind, text)),
    }
}

/// Answers `GetRegion`, `GetPrevRegion` and `GetRegionByID`; `None` if PD knows no such region, or does
/// not know it yet.
pub(crate) fn region(response: Response) -> Result<Option<LoadedRegion>, Error> {
    let (Response::GetRegion(message)
    | Response::GetPrevRegion(message)
    | Response::GetRegionById(message)) = response
    else {
        return Err(another("GetRegion"));
    };
    if !is_known(message.header.as_ref())? {
        return Ok(None);
    }
    let Some(region) = message.region else {
        return Ok(None);
    };
    let Some(region) = RegionInfo::from_proto(region) else {
        return Err(impossible("a region without id, epoch or replica"));
    };
    let down = message.down_peers.into_iter().filter_map(|stats| stats.peer);
    Ok(Some(LoadedRegion {
        region,
        leader: message.leader.and_then(peer),
        down_peers: down.map(|peer| peer.id).collect(),
        buckets: message.buckets.map(|buckets| (buckets.version, buckets.keys)),
    }))
}

/// Answers `GetStore` with the store's address; `None` if the store has left the cluster
/// (`control-plane.md` §5.1).
pub(crate) fn store_address(response: Response) -> Result<Option<Arc<str>>, Error> {
    let Response::GetStore(message) = response else {
        return Err(another("GetStore"));
    };
    match refusal(message.header.as_ref()) {
        None => {}
        Some((pdpb::ErrorType::StoreTombstone, _)) => return Ok(None),
        // PD has no type for it: the reference, too, reads the text.
        Some((_, text)) if text.contains("invalid store ID") && text.contains("not found") => {
            return Ok(None);
        }
        Some((kind, text)) => return Err(refused(kind, text)),
    }
    let Some(store) = message.store else {
        return Ok(None);
    };
    use anatase_proto::metapb::{NodeState, StoreState};
    // A state that this client does not know is no reason not to talk to the store.
    if store.state == StoreState::Tombstone as i32 || store.node_state == NodeState::Removed as i32
    {
        return Ok(None);
    }
    if store.address.is_empty() {
        return Err(impossible("a store without address"));
    }
    Ok(Some(store.address.into()))
}

/// Answers `LoadKeyspace` for `name` (control-plane.md §11, wire.md §8). A keyspace can be used if it is
/// enabled and its number fits into three bytes. The reference checks the state for transactions only;
/// here both kinds of client do.
pub(crate) fn keyspace(response: Response, name: &Arc<str>) -> Result<Keyspace, Error> {
    use keyspacepb::KeyspaceState;
    use keyspacepb::keyspace_meta::Keyspace as Identity;
    let Response::LoadKeyspace(message) = response else {
        return Err(another("LoadKeyspace"));
    };
    let unusable = |problem: KeyspaceProblem| {
        let text = format!("keyspace {name:?} cannot be used: {problem}");
        Err(Error::new(ErrorKind::Keyspace { name: name.clone(), problem }, text))
    };
    match refusal(message.header.as_ref()) {
        None => {}
        Some((pdpb::ErrorType::EntryNotFound, _)) => return unusable(KeyspaceProblem::NotFound),
        // Older PDs have no type for it.
        Some((_, text)) if text.contains("keyspace does not exist") => {
            return unusable(KeyspaceProblem::NotFound);
        }
        Some((kind, text)) => return Err(refused(kind, text)),
    }
    let Some(meta) = message.keyspace else {
        return unusable(KeyspaceProblem::NotFound);
    };
    match KeyspaceState::try_from(meta.state) {
        Ok(KeyspaceState::Enabled) => {}
        Ok(KeyspaceState::Disabled) => return unusable(KeyspaceProblem::Disabled),
        Ok(KeyspaceState::Archived) => return unusable(KeyspaceProblem::Archived),
        Ok(KeyspaceState::Tombstone) => return unusable(KeyspaceProblem::Tombstone),
        // A state that this client does not know is not one in which keyspaces are to be used.
        Err(_) => return unusable(KeyspaceProblem::Unsupported),
    }
    match meta.keyspace {
        Some(Identity::Id(id)) if id <= MAX_KEYSPACE => {
            let name = if meta.name.is_empty() { name.clone() } else { meta.name.into() };
            Ok(Keyspace { id, name })
        }
        // A number that does not fit, or the identity of API V3, which has a namespace besides.
        Some(Identity::Id(_) | Identity::KeyspaceIdentity(_)) => {
            unusable(KeyspaceProblem::Unsupported)
        }
        // The default keyspace's number is 0. In a `oneof` also a 0 is written, so this is no keyspace.
        None => unusable(KeyspaceProblem::Unsupported),
    }
}

/// Whether an answer to a question for regions has any: a follower of PD may not know yet what its
/// leader knows.
pub(crate) fn knows_region(response: &Response) -> bool {
    let is_well = |header: Option<&pdpb::ResponseHeader>| refusal(header).is_none();
    match response {
        Response::GetRegion(message)
        | Response::GetPrevRegion(message)
        | Response::GetRegionById(message) => {
            is_well(message.header.as_ref()) && message.region.is_some()
        }
        Response::ScanRegions(message) => {
            is_well(message.header.as_ref()) && !message.regions.is_empty()
        }
        Response::BatchScanRegions(message) => {
            is_well(message.header.as_ref()) && !message.regions.is_empty()
        }
        // About no region, so that no follower is asked for it.
        Response::Get(_)
        | Response::GetGcState(_)
        | Response::PessimisticLock(_)
        | Response::PessimisticRollback(_)
        | Response::TxnHeartBeat(_)
        | Response::CheckSecondaryLocks(_)
        | Response::ScanLock(_)
        | Response::BatchGet(_)
        | Response::Scan(_)
        | Response::Prewrite(_)
        | Response::Commit(_)
        | Response::BatchRollback(_)
        | Response::CheckTxnStatus(_)
        | Response::ResolveLock(_)
        | Response::RawGet(_)
        | Response::RawPut(_)
        | Response::RawDelete(_)
        | Response::RawBatchGet(_)
        | Response::RawBatchPut(_)
        | Response::RawBatchDelete(_)
        | Response::RawScan(_)
        | Response::RawGetKeyTtl(_)
        | Response::RawCompareAndSwap(_)
        | Response::RawDeleteRange(_)
        | Response::RawChecksum(_)
        | Response::RawCoprocessor(_)
        | Response::HealthCheck(_)
        | Response::GetMembers(_)
        | Response::GetStore(_)
        | Response::LoadKeyspace(_)
        | Response::GetMinTs(_)
        | Response::GetExternalTimestamp(_)
        | Response::SetExternalTimestamp(_)
        | Response::Timestamps(_) => false,
    }
}

/// Answers `GetMinTS`; `None` if PD has nothing to say about it.
pub(crate) fn min_timestamp(response: Response) -> Result<Option<Timestamp>, Error> {
    let Response::GetMinTs(message) = response else {
        return Err(another("GetMinTS"));
    };
    check(message.header.as_ref())?;
    let Some(pdpb::Timestamp { physical, logical, .. }) = message.timestamp else {
        return Ok(None);
    };
    match (u64::try_from(physical), u64::try_from(logical)) {
        (Ok(0), Ok(0)) => Ok(None),
        (Ok(physical), Ok(logical)) => Timestamp::compose(physical, logical)
            .map(Some)
            .ok_or_else(|| impossible("a smallest timestamp out of range")),
        (Err(_), _) | (_, Err(_)) => Err(impossible("a smallest timestamp below zero")),
    }
}

/// Answers `GetExternalTimestamp`; `None` if none was ever set.
pub(crate) fn external_timestamp(response: Response) -> Result<Option<Timestamp>, Error> {
    let Response::GetExternalTimestamp(message) = response else {
        return Err(another("GetExternalTimestamp"));
    };
    check(message.header.as_ref())?;
    Ok(Timestamp::from_version(message.timestamp))
}

/// Answers `GetGCState`: versions below this may be gone.
pub(crate) fn txn_safe_point(response: Response) -> Result<u64, Error> {
    let Response::GetGcState(message) = response else {
        return Err(another("GetGCState"));
    };
    check(message.header.as_ref())?;
    // No state is the state before the first collection.
    Ok(message.gc_state.map_or(0, |state| state.txn_safe_point))
}

/// Answers `SetExternalTimestamp`.
pub(crate) fn set_external_timestamp(response: Response) -> Result<(), Error> {
    let Response::SetExternalTimestamp(message) = response else {
        return Err(another("SetExternalTimestamp"));
    };
    check(message.header.as_ref())
}

fn check(header: Option<&pdpb::ResponseHeader>) -> Result<(), Error> {
    match refusal(header) {
        None => Ok(()),
        Some((kind, text)) => Err(refused(kind, text)),
    }
}

/// What the header says against the request.
fn refusal(header: Option<&pdpb::ResponseHeader>) -> Option<(pdpb::ErrorType, &str)> {
    let error = header?.error.as_ref()?;
    match pdpb::ErrorType::try_from(error.r#type) {
        Ok(pdpb::ErrorType::Ok) => None,
        Ok(kind) => Some((kind, &error.message)),
        Err(_) => Some((pdpb::ErrorType::Unknown, &error.message)),
    }
}

fn refused(error: pdpb::ErrorType, text: &str) -> Error {
    let kind = match error {
        pdpb::ErrorType::NotBootstrapped => ErrorKind::PdUnavailable,
        pdpb::ErrorType::Ok
        | pdpb::ErrorType::Unknown
        | pdpb::ErrorType::StoreTombstone
        | pdpb::ErrorType::AlreadyBootstrapped
        | pdpb::ErrorType::IncompatibleVersion
        | pdpb::ErrorType::RegionNotFound
        | pdpb::ErrorType::GlobalConfigNotFound
        | pdpb::ErrorType::DuplicatedEntry
        | pdpb::ErrorType::EntryNotFound
        | pdpb::ErrorType::InvalidValue
        | pdpb::ErrorType::DataCompacted
        | pdpb::ErrorType::RegionsNotContainAllKeyRange => ErrorKind::PdRefused,
    };
    Error::new(kind, format!("PD answered {}: {text}", error.as_str_name()))
}

#[cfg(test)]
mod tests {
    use anatase_proto::metapb::{self, NodeState, StoreState};

    use super::*;
    use crate::id::{PeerRole, RegionVersion, StoreId};

    fn header(cluster_id: u64) -> Option<pdpb::ResponseHeader> {
        Some(pdpb::ResponseHeader { cluster_id, error: None })
    }

    fn says_no(kind: i32, text: &str) -> Option<pdpb::ResponseHeader> {
        let error = pdpb::Error { r#type: kind, message: text.into() };
        Some(pdpb::ResponseHeader { cluster_id: 1, error: Some(Box::new(error)) })
    }

    fn member(urls: &[&str]) -> pdpb::Member {
        let client_urls = urls.iter().map(|url| url.to_string()).collect();
        pdpb::Member { client_urls, ..Default::default() }
    }

    /// control-plane.md §14.1, wire.md §7.3.
    #[test]
    fn members_name_the_cluster_and_its_leader() {
        let message = pdpb::GetMembersResponse {
            header: header(7),
            members: vec![member(&["http://a", "http://a2"]), member(&[""]), member(&["http://b"])],
            leader: Some(Box::new(member(&["http://b"]))),
            ..Default::default()
        };
        let expected = Members {
            cluster_id: 7,
            leader: Some("http://b".into()),
            members: ["http://a", "http://a2", "http://b"].map(Into::into).into(),
        };
        assert_eq!(members(Response::GetMembers(message.into())), Ok(expected));
        // «missing or without client_urls = no leader, try next seed»
        for leader in [None, Some(Box::new(member(&[]))), Some(Box::new(member(&[""])))] {
            let message = pdpb::GetMembersResponse { leader, ..Default::default() };
            let members = members(Response::GetMembers(message.into())).unwrap();
            assert_eq!((members.cluster_id, members.leader), (0, None));
        }
        let message = pdpb::GetMembersResponse { header: says_no(1, "why"), ..Default::default() };
        let error = members(Response::GetMembers(message.into())).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PdRefused);
        assert!(error.message().contains("why"));
    }

    fn proto_peer(id: u64) -> metapb::Peer {
        metapb::Peer { id, store_id: id + 10, ..Default::default() }
    }

    fn proto_region() -> metapb::Region {
        metapb::Region {
            id: 4,
            start_key: "b".into(),
            end_key: "d".into(),
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 5, version: 6 }),
            peers: vec![proto_peer(1), proto_peer(2)],
            ..Default::default()
        }
    }

    /// wire.md §7.5.
    #[test]
    fn a_region_comes_with_its_leader_and_the_replicas_that_are_down() {
        let down = |peer| pdpb::PeerStats { peer, down_seconds: 900 };
        let message = pdpb::GetRegionResponse {
            header: header(7),
            region: Some(proto_region()),
            leader: Some(proto_peer(2)),
            down_peers: vec![down(Some(proto_peer(1))), down(None)],
            buckets: Some(Box::new(metapb::Buckets {
                version: 3,
                keys: vec!["b".into(), "c".into(), "d".into()],
                ..Default::default()
            })),
            ..Default::default()
        };
        let peer = |id| Peer { id, store: StoreId(id + 10), role: PeerRole::Voter, witness: false };
        let expected = LoadedRegion {
            region: RegionInfo {
                version: RegionVersion { id: 4, conf_ver: 5, version: 6 },
                start: "b".into(),
                end: "d".into(),
                peers: vec![peer(1), peer(2)],
            },
            leader: Some(peer(2)),
            down_peers: vec![1],
            buckets: Some((3, vec!["b".into(), "c".into(), "d".into()])),
        };
        assert_eq!(region(Response::GetRegion(message.clone().into())), Ok(Some(expected.clone())));
        assert_eq!(
            region(Response::GetPrevRegion(message.clone().into())),
            Ok(Some(expected.clone()))
        );
        assert_eq!(region(Response::GetRegionById(message.into())), Ok(Some(expected)));
    }

    #[test]
    fn a_region_that_pd_does_not_know_is_not_an_error() {
        let message = pdpb::GetRegionResponse::default;
        let leaderless = pdpb::GetRegionResponse {
            region: Some(proto_region()),
            leader: Some(metapb::Peer::default()),
            ..message()
        };
        let found = region(Response::GetRegion(leaderless.into())).unwrap().unwrap();
        assert_eq!(found.leader, None);
        for header in [
            header(7),
            says_no(pdpb::ErrorType::RegionNotFound.into(), ""),
            // A member that has just become leader.
            says_no(pdpb::ErrorType::NotBootstrapped.into(), "cluster is not bootstrapped"),
        ] {
            let message = pdpb::GetRegionResponse { header, ..message() };
            assert_eq!(region(Response::GetRegion(message.into())), Ok(None));
        }
        for (message, kind) in [
            (
                pdpb::GetRegionResponse { header: says_no(1, "why"), ..message() },
                ErrorKind::PdRefused,
            ),
            (
                pdpb::GetRegionResponse { header: says_no(99, "new"), ..message() },
                ErrorKind::PdRefused,
            ),
            (
                pdpb::GetRegionResponse {
                    region: Some(metapb::Region { peers: vec![], ..proto_region() }),
                    ..message()
                },
                ErrorKind::Protocol,
            ),
        ] {
            let error = region(Response::GetRegion(message.into())).unwrap_err();
            assert_eq!(error.kind(), &kind);
        }
    }

    /// COD-03, control-plane.md §11.
    #[test]
    fn cod_03_a_keyspace_is_used_if_it_is_enabled_and_its_number_fits() {
        use anatase_proto::apipb::KeyspaceIdentity;
        use keyspacepb::keyspace_meta::Keyspace as Identity;
        use keyspacepb::{KeyspaceMeta, KeyspaceState, LoadKeyspaceResponse};

        let answer = |state: i32, keyspace| LoadKeyspaceResponse {
            header: header(7),
            keyspace: Some(KeyspaceMeta {
                name: "tenant".into(),
                state,
                keyspace,
                ..Default::default()
            }),
        };
        let says_no = |kind: pdpb::ErrorType, text| LoadKeyspaceResponse {
            header: says_no(kind.into(), text),
            keyspace: None,
        };
        let id = |id| Some(Identity::Id(id));
        let (enabled, none) = (KeyspaceState::Enabled as i32, LoadKeyspaceResponse::default());
        let v3 = Some(Identity::KeyspaceIdentity(KeyspaceIdentity::default()));
        let name: Arc<str> = "tenant".into();
        let unusable = |problem| Err(ErrorKind::Keyspace { name: name.clone(), problem });
        let rows = [
            (answer(enabled, id(5)), Ok(5)),
            (answer(enabled, id(0)), Ok(0)),
            (answer(enabled, id(MAX_KEYSPACE)), Ok(MAX_KEYSPACE)),
            (answer(enabled, id(MAX_KEYSPACE + 1)), unusable(KeyspaceProblem::Unsupported)),
            (answer(enabled, v3), unusable(KeyspaceProblem::Unsupported)),
            (answer(enabled, None), unusable(KeyspaceProblem::Unsupported)),
            (answer(KeyspaceState::Disabled as i32, id(5)), unusable(KeyspaceProblem::Disabled)),
            (answer(KeyspaceState::Archived as i32, id(5)), unusable(KeyspaceProblem::Archived)),
            (answer(KeyspaceState::Tombstone as i32, id(5)), unusable(KeyspaceProblem::Tombstone)),
            (answer(99, id(5)), unusable(KeyspaceProblem::Unsupported)),
            (none, unusable(KeyspaceProblem::NotFound)),
            (says_no(pdpb::ErrorType::EntryNotFound, "x"), unusable(KeyspaceProblem::NotFound)),
            (
                says_no(pdpb::ErrorType::Unknown, "[PD:keyspace]keyspace does not exist"),
                unusable(KeyspaceProblem::NotFound),
            ),
            (says_no(pdpb::ErrorType::Unknown, "why"), Err(ErrorKind::PdRefused)),
            (says_no(pdpb::ErrorType::NotBootstrapped, ""), Err(ErrorKind::PdUnavailable)),
        ];
        for (message, expected) in rows {
            let row = format!("{message:?}");
            let found = keyspace(Response::LoadKeyspace(message.into()), &name);
            let found = found.map_err(|error| error.kind().clone());
            assert_eq!(found, expected.map(|id| Keyspace { id, name: name.clone() }), "{row}");
        }
        let missing = LoadKeyspaceResponse::default();
        let error = keyspace(Response::LoadKeyspace(missing.into()), &name).unwrap_err();
        assert_eq!(
            error.to_string(),
            "keyspace \"tenant\" cannot be used: PD knows none of this name"
        );
    }

    /// wire.md §7.4, control-plane.md §12.5.
    #[test]
    fn other_timestamps_are_read_field_by_field() {
        let min = |timestamp| {
            let message = pdpb::GetMinTsResponse { timestamp, ..Default::default() };
            let answer = min_timestamp(Response::GetMinTs(message.into()));
            answer.map_err(|error| error.kind().clone())
        };
        let told =
            |physical, logical| Some(pdpb::Timestamp { physical, logical, ..Default::default() });
        assert_eq!(min(None), Ok(None));
        assert_eq!(min(told(0, 0)), Ok(None));
        assert_eq!(min(told(10, 7)), Ok(Timestamp::compose(10, 7)));
        for (physical, logical) in [(-1, 0), (0, -1), (1 << 46, 0), (1, 1 << 18)] {
            assert_eq!(min(told(physical, logical)), Err(ErrorKind::Protocol), "{physical}");
        }
        let external = |timestamp, header| {
            let message = pdpb::GetExternalTimestampResponse { timestamp, header };
            let answer = external_timestamp(Response::GetExternalTimestamp(message.into()));
            answer.map_err(|error| error.kind().clone())
        };
        assert_eq!(external(0, None), Ok(None));
        assert_eq!(external(7, None), Ok(Timestamp::from_version(7)));
        assert_eq!(external(7, says_no(1, "why")), Err(ErrorKind::PdRefused));
        let message = pdpb::SetExternalTimestampResponse {
            header: says_no(pdpb::ErrorType::InvalidValue.into(), "not back"),
        };
        let error = set_external_timestamp(Response::SetExternalTimestamp(message.into()));
        assert!(error.unwrap_err().message().contains("not back"));
    }

    /// wire.md §7.2: what sends a question from a follower to the leader.
    #[test]
    fn a_follower_knows_a_region_or_it_does_not() {
        let found = pdpb::GetRegionResponse { region: Some(proto_region()), ..Default::default() };
        let refused = pdpb::GetRegionResponse {
            header: says_no(pdpb::ErrorType::RegionNotFound.into(), ""),
            ..found.clone()
        };
        let scan = |regions| pdpb::ScanRegionsResponse { regions, ..Default::default() };
        let batch = |regions| pdpb::BatchScanRegionsResponse { regions, ..Default::default() };
        for (response, knows) in [
            (Response::GetRegion(found.clone().into()), true),
            (Response::GetPrevRegion(found.clone().into()), true),
            (Response::GetRegionById(found.into()), true),
            (Response::GetRegion(refused.clone().into()), false),
            (Response::GetRegionById(refused.into()), false),
            (Response::GetRegion(Default::default()), false),
            (Response::ScanRegions(scan(vec![pdpb::Region::default()]).into()), true),
            (Response::ScanRegions(scan(vec![]).into()), false),
            (Response::BatchScanRegions(batch(vec![pdpb::Region::default()]).into()), true),
            (Response::BatchScanRegions(batch(vec![]).into()), false),
            (Response::GetStore(Default::default()), false),
        ] {
            assert_eq!(knows_region(&response), knows, "{response:?}");
        }
    }

    /// control-plane.md §5.1: which stores are gone.
    #[test]
    fn a_store_has_an_address_or_is_gone() {
        let store = |address: &str, state: i32, node_state: i32| pdpb::GetStoreResponse {
            store: Some(metapb::Store {
                id: 1,
                address: address.into(),
                state,
                node_state,
                ..Default::default()
            }),
            ..Default::default()
        };
        let header = |header| pdpb::GetStoreResponse { header, ..Default::default() };
        let (up, offline) = (StoreState::Up as i32, StoreState::Offline as i32);
        let rows = [
            (store("s:1", up, NodeState::Serving as i32), Ok(Some("s:1".into()))),
            (store("s:1", offline, NodeState::Removing as i32), Ok(Some("s:1".into()))),
            // peers.md D29: an unknown state is no reason to give up, let alone to panic.
            (store("s:1", 99, 99), Ok(Some("s:1".into()))),
            (store("s:1", StoreState::Tombstone as i32, 0), Ok(None)),
            (store("s:1", offline, NodeState::Removed as i32), Ok(None)),
            (store("", up, 0), Err(ErrorKind::Protocol)),
            (header(None), Ok(None)),
            (header(says_no(pdpb::ErrorType::StoreTombstone.into(), "")), Ok(None)),
            (header(says_no(1, "invalid store ID 7, not found")), Ok(None)),
            (header(says_no(1, "something else")), Err(ErrorKind::PdRefused)),
            (
                header(says_no(pdpb::ErrorType::NotBootstrapped.into(), "")),
                Err(ErrorKind::PdUnavailable),
            ),
        ];
        for (message, expected) in rows {
            let row = format!("{message:?}");
            let answer = store_address(Response::GetStore(message.into()));
            assert_eq!(answer.map_err(|error| error.kind().clone()), expected, "{row}");
        }
    }
}
