//! One region, by a key or by its id (`control-plane.md` §4.5).
//!
//! | what is looked up | the cache's word counts if | otherwise |
//! |---|---|---|
//! | `Containing`, `Before` | the region holds the key and can be used | it is loaded, like for a request |
//! | `ById` | it is the latest version of this id and can be used | PD's leader is asked by id; no such region: an error at once |
//! | `Cached` | as `Containing`, and nothing says that it should be loaded anew | none |
//! | `ByIdFromPd` | never | PD's leader is asked; what it says is not cached |
//!
//! ```text
//! Containing, Before ─▶ Locating ─▶ done       ById, ByIdFromPd ─▶ Asking ─▶ done
//!                          │ ▲ a pause
//!                          └─┘ no such region that can be asked, yet
//! ```

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::codec::CodecError;
use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, RegionLookup, Reply};
use crate::region::LocatedRegion;
use crate::region::loader::Seek;
use crate::region_call::Abandoned;
use crate::shared::{Cx, Tag, Waiter, Wake};
use crate::wire::Response;
use crate::wire::reply;

const LOCATE: Tag = 0;
const PAUSE: Tag = 1;
const ASK: Tag = 2;

/// Waiting for one region.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Lookup {
    /// For that of a key.
    Locating { key: Key, seek: Seek, backoff: Backoff },
    /// For PD's word on an id; `keep`: it is to be cached.
    Asking { id: u64, keep: bool },
}

impl Lookup {
    pub(crate) fn start(what: RegionLookup, cx: &mut Cx<'_>) -> Step {
        let locating = |key, seek| {
            let backoff = Backoff::new(budget::PD);
            Self::Locating { key, seek, backoff }
        };
        match what {
            RegionLookup::Containing(key) => locating(key, Seek::Containing).locate(cx),
            RegionLookup::Before(key) => locating(key, Seek::Before).locate(cx),
            RegionLookup::Cached(key) => done(cx.shared.try_locate(&key)),
            RegionLookup::ById(id) => match cx.shared.locate_id(id) {
                Some(found) => done(Some(found)),
                None => Self::ask(id, true, cx),
            },
            RegionLookup::ByIdFromPd(id) => Self::ask(id, false, cx),
        }
    }

    fn wait(self) -> Step {
        Step::Next(Op::Lookup(Box::new(self)))
    }

    fn ask(id: u64, keep: bool, cx: &mut Cx<'_>) -> Step {
        cx.ask_region_by_id(ASK, id);
        Self::Asking { id, keep }.wait()
    }

    fn locate(self, cx: &mut Cx<'_>) -> Step {
        let Self::Locating { key, seek, .. } = &self else {
            return super::misrouted("a region located");
        };
        let waiter = Waiter::Owner(cx.owner, LOCATE);
        let located = cx.shared.locate(key, *seek, None, waiter);
        match located.and_then(|version| cx.shared.regions.located(version)) {
            Some(found) => done(Some(found)),
            None => self.wait(),
        }
    }

    pub(crate) fn wake(self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (self, tag, wake) {
            (machine @ Self::Locating { .. }, LOCATE, Wake::Located(Ok(())))
            | (machine @ Self::Locating { .. }, PAUSE, Wake::Pause) => machine.locate(cx),
            (Self::Locating { key, seek, mut backoff }, LOCATE, Wake::Located(Err(error))) => {
                match cx.after_no_region(PAUSE, &mut backoff, error) {
                    Ok(()) => Self::Locating { key, seek, backoff }.wait(),
                    Err(error) => Step::Done(Err(error)),
                }
            }
            (Self::Asking { id, keep }, ASK, Wake::Pd(answer)) => {
                match told(id, keep, answer, cx) {
                    Ok(found) => done(Some(found)),
                    // §4.5: what is known of it, unless it has been called another region.
                    Err(error) => match cx.shared.old_region(id).filter(|_| keep) {
                        Some(old) => done(Some(old)),
                        None => Step::Done(Err(error)),
                    },
                }
            }
            (machine, _, _) => machine.wait(),
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let cause = match self {
            Self::Locating { backoff, .. } => backoff.last().cloned(),
            Self::Asking { .. } => {
                cx.shared.pd_abandon(cx.owner);
                None
            }
        };
        let left = Abandoned { doubt: false, cause, attempts: 0 };
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}

fn done(found: Option<LocatedRegion>) -> Step {
    Step::Done(Ok(Reply::Region(found.map(Box::new))))
}

/// What PD says of an id.
fn told(
    id: u64,
    keep: bool,
    answer: Result<Response, Error>,
    cx: &mut Cx<'_>,
) -> Result<LocatedRegion, Error> {
    let unavailable = |text: &str| {
        let text = format!("region {id}: {text}");
        Error::new(ErrorKind::RegionUnavailable, text)
    };
    let Some(loaded) = answer.and_then(reply::region)? else {
        return Err(unavailable("PD knows none of this id"));
    };
    let bounds = (&loaded.region.start, &loaded.region.end);
    if let Err(CodecError::OutsideKeyspace) = cx.shared.codec.range_from_pd(bounds.0, bounds.1) {
        return Err(unavailable("it holds no key of the keyspace"));
    }
    let region = cx.shared.decode_region(loaded)?;
    if region.version.id != id {
        return Err(Error::new(
            ErrorKind::Protocol,
            format!("PD was asked for region {id} and told of {}", region.version),
        ));
    }
    let found = LocatedRegion::from(&region);
    if keep {
        // Older than what the stores have told: then that is the answer (§4.4).
        cx.shared.install(region);
        return Ok(cx.shared.locate_id(id).unwrap_or(found));
    }
    Ok(found)
}

impl Cx<'_> {
    /// PD has said no, or knows no region that can be asked; the latter passes, so there is a pause
    /// under `tag`.
    ///
    /// # Errors
    /// If it does not pass, or the budget is spent.
    pub(super) fn after_no_region(
        &mut self,
        tag: Tag,
        backoff: &mut Backoff,
        error: Error,
    ) -> Result<(), Error> {
        if *error.kind() != ErrorKind::RegionUnavailable {
            return Err(error);
        }
        let draws = &mut *self.draws;
        let draw = |bound| draws.below(bound);
        let wait = backoff.next(BackoffKind::RegionMiss, None, error, draw)?;
        self.pause(tag, wait, WakeReason::Backoff);
        Ok(())
    }
}
