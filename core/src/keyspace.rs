//! Which keyspace the keys of this core lie in (control-plane.md §11, `Config::api`).
//!
//! ```text
//! V1        Global                                      there is none
//! V2        Unknown ─▶ Loading ─▶ Known                 the first operation asks PD, all of them wait
//!              ▲          │
//!              └──────────┘ PD refuses, or cannot be reached: those who wait hear it
//! ```
//!
//! The configuration names a keyspace, keys are written with its number, and only PD knows the number.
//! Until it has told, no key can be written and none be read: operations wait in `Op::Starting`, under
//! their own deadlines. The question goes to PD's leader by the same road as any other, so a lost
//! connection is retried there, and a refusal is final at once. A refusal is not remembered: whoever
//! comes next asks again, since a keyspace may be made or enabled meanwhile. What is known stays known,
//! for the number of a name never changes.

use std::sync::Arc;

use crate::codec::{KeyCodec, Prefix};
use crate::config::{Api, DEFAULT_KEYSPACE};
use crate::error::Error;
use crate::shared::{Owner, Shared, Tag, Wake};
use crate::wire::reply::{self, impossible};
use crate::wire::{Keyspace, Response};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tenancy {
    /// API V1: no keyspaces.
    Global,
    /// Nobody has asked, or the last who did was refused.
    Unknown { name: Arc<str> },
    /// PD is being asked.
    Loading { name: Arc<str>, waiting: Vec<(Owner, Tag)> },
    /// From here on keys can be written.
    Known(Keyspace),
}

impl Tenancy {
    pub(crate) fn new(api: &Api) -> Self {
        match api {
            Api::V1 | Api::V1Ttl => Self::Global,
            Api::V2 { keyspace } if keyspace.is_empty() => {
                Self::Unknown { name: DEFAULT_KEYSPACE.into() }
            }
            Api::V2 { keyspace } => Self::Unknown { name: keyspace.clone() },
        }
    }

    /// Whether keys can be written.
    pub(crate) fn is_settled(&self) -> bool {
        match self {
            Self::Global | Self::Known(_) => true,
            Self::Unknown { .. } | Self::Loading { .. } => false,
        }
    }

    /// What requests have to name.
    pub(crate) fn keyspace(&self) -> Option<&Keyspace> {
        match self {
            Self::Known(keyspace) => Some(keyspace),
            Self::Global | Self::Unknown { .. } | Self::Loading { .. } => None,
        }
    }

    /// The name that PD is asked for.
    fn wanted(&self) -> Option<&Arc<str>> {
        match self {
            Self::Unknown { name } | Self::Loading { name, .. } => Some(name),
            Self::Global | Self::Known(_) => None,
        }
    }
}

impl Shared {
    /// Answered by [`Wake::Keyspace`].
    pub(crate) fn await_keyspace(&mut self, owner: Owner, tag: Tag) {
        match &mut self.tenancy {
            Tenancy::Global | Tenancy::Known(_) => self.wake(owner, tag, Wake::Keyspace(Ok(()))),
            Tenancy::Loading { waiting, .. } => waiting.push((owner, tag)),
            Tenancy::Unknown { name } => {
                let name = name.clone();
                self.tenancy = Tenancy::Loading { name: name.clone(), waiting: vec![(owner, tag)] };
                self.pd_ask_keyspace(&name);
            }
        }
    }

    /// Forgets who waits, and tells what went wrong with the question so far. The question stays: its
    /// answer is of use to whoever comes next.
    pub(crate) fn forget_keyspace_waiter(&mut self, owner: Owner) -> Option<Error> {
        if let Tenancy::Loading { waiting, .. } = &mut self.tenancy {
            waiting.retain(|(waiter, _)| *waiter != owner);
        }
        self.pd.keyspace_trouble()
    }

    pub(crate) fn read_keyspace(&self, answer: Response) -> Result<Keyspace, Error> {
        match self.tenancy.wanted() {
            Some(name) => reply::keyspace(answer, name),
            None => Err(impossible("a keyspace that was not asked for")),
        }
    }

    /// The question has been answered, or given up.
    pub(crate) fn on_keyspace(&mut self, answer: Result<Keyspace, Error>) {
        let Some(name) = self.tenancy.wanted().cloned() else {
            return;
        };
        // The number was looked at when the answer was read.
        let known = answer.and_then(|keyspace| match Prefix::new(self.config.mode, keyspace.id) {
            Some(prefix) => Ok((keyspace, prefix)),
            None => Err(impossible("a keyspace with too large a number")),
        });
        let (next, told) = match known {
            Ok((keyspace, prefix)) => {
                self.codec = KeyCodec::Keyspace(prefix);
                (Tenancy::Known(keyspace), Ok(()))
            }
            Err(error) => (Tenancy::Unknown { name }, Err(error)),
        };
        if let Tenancy::Loading { waiting, .. } = std::mem::replace(&mut self.tenancy, next) {
            for (owner, tag) in waiting {
                self.wake(owner, tag, Wake::Keyspace(told.clone()));
            }
        }
    }
}
