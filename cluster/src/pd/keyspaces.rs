//! Keyspaces (wire.md §8).

use anatase_proto::{
    keyspacepb::{
        self, GetAllKeyspacesRequest, GetAllKeyspacesResponse, KeyspaceMeta,
        LoadKeyspaceByIdRequest, LoadKeyspaceRequest, LoadKeyspaceResponse,
        get_all_keyspaces_request::StartKeyspace, keyspace_meta,
        load_keyspace_by_id_request::Keyspace as WantedKeyspace,
    },
    pdpb::ErrorType,
};
use bytes::Bytes;

use super::Refused;
use crate::{Cluster, codec::encode_key};

/// The keyspace that is always there.
const DEFAULT: &str = "DEFAULT";

/// What may be done with a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyspaceState {
    /// It is used.
    #[default]
    Enabled,
    /// Its use is suspended.
    Disabled,
    /// It is not to be used any more.
    Archived,
    /// It is gone.
    Tombstone,
}

/// A keyspace as PD knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Keyspace {
    /// Its number. PD gives no number above 2^24 - 1, and clients refuse one.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What may be done with it.
    pub state: KeyspaceState,
}

impl Keyspace {
    /// An enabled keyspace.
    pub fn new(id: u32, name: impl Into<String>) -> Self {
        Self { id, name: name.into(), state: KeyspaceState::Enabled }
    }

    /// The same in another state.
    #[must_use]
    pub fn state(mut self, state: KeyspaceState) -> Self {
        self.state = state;
        self
    }

    pub(super) fn default_one() -> Self {
        Self::new(0, DEFAULT)
    }

    fn to_proto(&self) -> KeyspaceMeta {
        let state = match self.state {
            KeyspaceState::Enabled => keyspacepb::KeyspaceState::Enabled,
            KeyspaceState::Disabled => keyspacepb::KeyspaceState::Disabled,
            KeyspaceState::Archived => keyspacepb::KeyspaceState::Archived,
            KeyspaceState::Tombstone => keyspacepb::KeyspaceState::Tombstone,
        };
        KeyspaceMeta {
            name: self.name.clone(),
            state: state.into(),
            keyspace: Some(keyspace_meta::Keyspace::Id(self.id)),
            ..Default::default()
        }
    }

    /// Where its raw and its transactional keys begin and end, as user keys.
    fn bounds(&self) -> [Vec<u8>; 4] {
        let prefix = |mode: u8| u32::from_be_bytes([mode, 0, 0, 0]) | (self.id & 0x00ff_ffff);
        let [raw, txn] = [prefix(b'r'), prefix(b'x')];
        [raw, raw + 1, txn, txn + 1].map(|bound| bound.to_be_bytes().to_vec())
    }
}

fn answer(found: Option<&Keyspace>) -> Result<LoadKeyspaceResponse, Refused> {
    match found {
        Some(keyspace) => {
            Ok(LoadKeyspaceResponse { keyspace: Some(keyspace.to_proto()), ..Default::default() })
        }
        None => Err(Refused(ErrorType::EntryNotFound, "keyspace does not exist".to_owned())),
    }
}

pub(super) fn load_keyspace(
    cluster: &mut Cluster,
    request: LoadKeyspaceRequest,
) -> Result<LoadKeyspaceResponse, Refused> {
    let name = if request.name.is_empty() { DEFAULT } else { &request.name };
    answer(cluster.pd.keyspaces.iter().find(|keyspace| keyspace.name == name))
}

pub(super) fn load_keyspace_by_id(
    cluster: &mut Cluster,
    request: LoadKeyspaceByIdRequest,
) -> Result<LoadKeyspaceResponse, Refused> {
    let id = match request.keyspace {
        Some(WantedKeyspace::Id(id)) => id,
        None => 0,
        // API V3 has no place here.
        Some(WantedKeyspace::KeyspaceIdentity(_)) => return answer(None),
    };
    answer(cluster.pd.keyspaces.iter().find(|keyspace| keyspace.id == id))
}

/// In the order of numbers, from one on; a limit of 0 is none.
pub(super) fn get_all_keyspaces(
    cluster: &mut Cluster,
    request: GetAllKeyspacesRequest,
) -> Result<GetAllKeyspacesResponse, Refused> {
    let start = match request.start_keyspace {
        Some(StartKeyspace::StartId(id)) => id,
        Some(StartKeyspace::StartKeyspaceIdentity(_)) | None => 0,
    };
    let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    let mut found: Vec<&Keyspace> =
        cluster.pd.keyspaces.iter().filter(|keyspace| keyspace.id >= start).collect();
    found.sort_by_key(|keyspace| keyspace.id);
    let keyspaces = found.into_iter().take(limit).map(Keyspace::to_proto).collect();
    Ok(GetAllKeyspacesResponse { keyspaces, ..Default::default() })
}

impl Cluster {
    /// The keyspaces that PD knows, the default one first.
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.pd.keyspaces
    }

    /// Changes the state of a keyspace. False if there is none of this name.
    pub fn set_keyspace_state(&mut self, name: &str, state: KeyspaceState) -> bool {
        let found = self.pd.keyspaces.iter_mut().find(|keyspace| keyspace.name == name);
        found.map(|keyspace| keyspace.state = state).is_some()
    }

    /// Splits regions where keyspaces begin and end.
    pub(crate) fn split_at_keyspaces(&mut self) {
        let bounds: Vec<Bytes> = self
            .pd
            .keyspaces
            .iter()
            .flat_map(Keyspace::bounds)
            .map(|bound| encode_key(&bound))
            .collect();
        for bound in bounds {
            self.split_at(bound);
        }
    }
}
