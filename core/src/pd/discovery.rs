//! Finding PD's leader (`control-plane.md` §14.1).
//!
//! ```text
//! Idle ─▶ Asking(candidate) ─▶ Idle        a member names a leader
//!            │     ▲
//!            ▼     │ next candidate, or after a pause the first again
//!          Resting ┘                       as long as somebody wants PD
//! ```
//!
//! As long as no leader has ever been found there is a limit to it: after `Config::pd_init_attempts`
//! rounds (100, a second apart at most) whoever waits is told so. Who wants PD after that begins anew.
//!
//! Candidates are the members as last told, then the seeds; those that could not be reached come
//! last. One discovery is under way at a time, however many calls failed.
//!
//! Members can disagree: a follower hears of an election later than the members who took part. So
//! when a member itself has said that it does not lead, another's word that it does is only hearsay:
//! it counts if nobody in the round names somebody else.

use std::sync::Arc;
use std::time::Duration;

use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;

use super::{Pd, is_same};
use crate::command::{Destination, WakeReason};
use crate::error::{Error, ErrorKind, Failure};
use crate::id::CommandId;
use crate::shared::{CommandOwner, Owner, Shared, Tag, TimerTarget, Wake};
use crate::timer::TimerId;
use crate::wire::reply::{self, Members};
use crate::wire::{Head, Request, Response};

/// First pause after a round in which no member named a leader (PD's client: 20 ms).
pub(super) const FIRST_REST: Duration = Duration::from_millis(20);
/// Longest such pause, once a leader has been found.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(1);

/// How long to rest after this many rounds in vain, if nothing shorter is wanted.
fn rest_after(fruitless: u32) -> Duration {
    FIRST_REST * (1 << fruitless.saturating_sub(1).min(16))
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Discovery {
    Idle,
    Asking {
        /// Whom this round asks, in this order.
        candidates: Vec<Arc<str>>,
        candidate: usize,
        command: CommandId,
        timer: TimerId,
    },
    Resting {
        timer: TimerId,
    },
}

/// What is said about a leader that denies being one.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Hearsay {
    pub(super) denied: Option<Arc<str>>,
    /// Who named it all the same, and what else they said.
    named: Option<(Arc<str>, Members)>,
}

impl Pd {
    /// Whom to ask, in this order.
    fn candidates(&self) -> Vec<Arc<str>> {
        let new_seeds = self
            .seeds
            .iter()
            .filter(|seed| !self.members.iter().any(|member| is_same(member, seed)));
        let all = self.members.iter().chain(new_seeds);
        let (faulty, well): (Vec<_>, Vec<_>) = all.partition(|it| self.is_faulty(it));
        well.into_iter().chain(faulty).cloned().collect()
    }
}

impl Shared {
    /// Answered by [`Wake::PdReady`] once a leader is known.
    pub(crate) fn pd_await_ready(&mut self, owner: Owner, tag: Tag) {
        if self.pd.leader.is_some() {
            self.wake(owner, tag, Wake::PdReady(Ok(())));
        } else {
            self.pd.ready.push((owner, tag));
            self.pd_discover();
        }
    }

    fn pd_is_wanted(&self) -> bool {
        !self.pd.parked.is_empty() || !self.pd.ready.is_empty() || self.tso.is_wanted(&self.oracle)
    }

    /// Forgets who waits for [`Wake::PdReady`].
    pub(crate) fn pd_forget(&mut self, owner: Owner) {
        self.pd.ready.retain(|(waiter, _)| *waiter != owner);
    }

    /// Looks for the leader, unless that is under way already.
    pub(crate) fn pd_discover(&mut self) {
        if let Discovery::Idle = self.pd.discovery {
            self.pd_ask_candidate(self.pd.candidates(), 0);
        }
    }

    fn pd_ask_candidate(&mut self, candidates: Vec<Arc<str>>, candidate: usize) {
        let Some(address) = candidates.get(candidate).cloned() else {
            return match self.pd.hearsay.named.take() {
                Some((by, members)) => self.pd_accept(&by, members),
                None => self.pd_rest(),
            };
        };
        let deadline = self.now + self.config.pd_member_timeout;
        let request =
            Request::new(Rpc::PdGetMembers, Head::None, &pdpb::GetMembersRequest::default());
        let to = Destination { address, store: None };
        let command = self.send(CommandOwner::Discovery, to, deadline, request);
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, TimerTarget::Discovery);
        self.pd.discovery = Discovery::Asking { candidates, candidate, command, timer };
    }

    fn pd_rest(&mut self) {
        self.stats.pd_rounds += 1;
        self.pd.fruitless = self.pd.fruitless.saturating_add(1);
        let longest = match self.pd.cluster_id {
            0 if self.pd.fruitless >= self.config.pd_init_attempts => return self.pd_give_up(),
            0 => self.config.pd_init_interval.max(FIRST_REST),
            _ => LONGEST_REST,
        };
        let wait = rest_after(self.pd.fruitless).min(longest);
        // Half of it drawn, so that clients that lost the same leader do not come back in step.
        let half = wait.as_nanos() as u64 / 2;
        let drawn = half * u64::from(self.draws.below(1 << 16)) / (1 << 16);
        let at = self.now + Duration::from_nanos(half + drawn);
        let timer = self.set_timer(at, WakeReason::PdRefresh, TimerTarget::Discovery);
        self.pd.discovery = Discovery::Resting { timer };
        self.loads_without_pd();
        self.pd_end_scans();
        self.pd_end_parked();
        self.tso_end_parked();
    }

    /// §14.1: «init retries». No leader was found in as many rounds as there may be at first.
    fn pd_give_up(&mut self) {
        self.pd.discovery = Discovery::Idle;
        let error = self.pd.why_unavailable();
        self.pd.fruitless = 0;
        for (owner, tag) in std::mem::take(&mut self.pd.ready) {
            self.wake(owner, tag, Wake::PdReady(Err(error.clone())));
        }
        // Nobody looks for a leader any more: none of these would ever be sent.
        self.pd_end_all_parked(&error);
        self.tso_give_up(&error);
    }

    pub(crate) fn pd_discovery_timer(&mut self) {
        match std::mem::replace(&mut self.pd.discovery, Discovery::Idle) {
            Discovery::Idle => {}
            Discovery::Asking { candidates, candidate, command, .. } => {
                self.abort(command);
                let error = Error::new(ErrorKind::PdUnavailable, "no answer in time");
                self.pd.found_faulty(&candidates[candidate]);
                self.pd_candidate_failed(candidates, candidate, error);
            }
            // Whoever wants PD next begins again; an idle core must not go on asking.
            Discovery::Resting { .. } if !self.pd_is_wanted() => {}
            Discovery::Resting { .. } => self.pd_discover(),
        }
    }

    fn pd_candidate_failed(&mut self, candidates: Vec<Arc<str>>, candidate: usize, error: Error) {
        let text = format!("PD at {}", candidates[candidate]);
        self.pd.last_error = Some(Error::new(ErrorKind::PdUnavailable, text).because(Some(error)));
        self.pd_ask_candidate(candidates, candidate + 1);
    }

    pub(crate) fn pd_discovery_answer(&mut self, answer: Result<Response, Failure>) {
        let asking = std::mem::replace(&mut self.pd.discovery, Discovery::Idle);
        let Discovery::Asking { candidates, candidate, timer, .. } = asking else {
            self.pd.discovery = asking;
            return;
        };
        self.timers.cancel(timer);
        let by = candidates[candidate].clone();
        let members = match answer {
            Ok(response) => {
                self.pd.heard_from(&by);
                reply::members(response).and_then(|members| self.pd_check(members))
            }
            Err(failure) => {
                self.pd.found_faulty(&by);
                Err(Error::new(ErrorKind::PdUnavailable, failure.reason().to_string()))
            }
        };
        let members = match members {
            Ok(members) => members,
            Err(error) => return self.pd_candidate_failed(candidates, candidate, error),
        };
        let is_denied = match (&self.pd.hearsay.denied, &members.leader) {
            (Some(denied), Some(leader)) => is_same(denied, leader),
            (None, _) | (_, None) => false,
        };
        if is_denied {
            self.pd.hearsay.named.get_or_insert((by, members));
            return self.pd_ask_candidate(candidates, candidate + 1);
        }
        self.pd_accept(&by, members);
    }

    /// Whether this is our cluster, with a leader.
    fn pd_check(&self, members: Members) -> Result<Members, Error> {
        let (theirs, ours) = (members.cluster_id, self.pd.cluster_id);
        if theirs == 0 || (ours != 0 && theirs != ours) {
            let text = format!("it belongs to cluster {theirs}, not {ours}");
            return Err(Error::new(ErrorKind::PdRefused, text));
        }
        if members.leader.is_none() {
            return Err(Error::new(ErrorKind::PdUnavailable, "it knows no leader"));
        }
        Ok(members)
    }

    fn pd_accept(&mut self, by: &Arc<str>, members: Members) {
        let Some(leader) = members.leader else {
            return self.pd_rest();
        };
        self.pd_find_way(by, &leader);
        self.pd.cluster_id = members.cluster_id;
        self.pd.members = members.members;
        self.pd.leader = Some(leader);
        self.pd.discovery = Discovery::Idle;
        self.pd.hearsay = Default::default();
        self.pd.fruitless = 0;
        self.pd.refreshed = Some(self.now);
        self.pd.last_error = None;
        for (owner, tag) in std::mem::take(&mut self.pd.ready) {
            self.wake(owner, tag, Wake::PdReady(Ok(())));
        }
        for task in std::mem::take(&mut self.pd.parked) {
            self.pd_send_task(task);
        }
        self.tso_flush();
    }

    /// Refreshes the members without holding anybody up, if that has not been done for long, and
    /// looks after them.
    pub(crate) fn pd_refresh_if_old(&mut self) {
        let old = self
            .pd
            .refreshed
            .is_some_and(|at| self.now.since(at) >= self.config.pd_refresh_interval);
        if old {
            self.pd.refreshed = Some(self.now);
            self.pd_discover();
        }
        self.pd_look_after_members();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KeyMode};
    use crate::story::Story;

    fn names(pd: &Pd) -> Vec<Arc<str>> {
        pd.candidates()
    }

    #[test]
    fn seeds_come_after_members_and_once() {
        let config = Config::new(vec!["a:1".into(), "b:1".into()], KeyMode::Raw);
        let mut pd = Pd::new(&config);
        assert_eq!(names(&pd), ["a:1".into(), "b:1".into()] as [Arc<str>; 2]);
        pd.members = vec!["http://b:1".into(), "http://c:1".into()];
        let all: [Arc<str>; 3] = ["http://b:1".into(), "http://c:1".into(), "a:1".into()];
        assert_eq!(names(&pd), all);
        pd.found_faulty(&"b:1".into());
        let all: [Arc<str>; 3] = ["http://c:1".into(), "a:1".into(), "http://b:1".into()];
        assert_eq!(names(&pd), all);
        pd.heard_from("https://b:1/");
        assert_eq!(names(&pd)[0], "http://b:1".into());
    }

    /// control-plane.md §14.1 (there 20 ms to 100 ms, and once a second at the start): the pauses between
    /// rounds of discovery double from 20 ms to 1 s; half of each is drawn.
    #[test]
    fn the_pauses_of_a_discovery() {
        let mut story = Story::new(KeyMode::Raw, "..=1");
        story.play("silence pd");
        story.play("ready");
        let mut rest = |round: usize| {
            story.play(&format!("{round} refused"));
            let before = story.now;
            story.play("wait");
            story.now.since(before).as_millis()
        };
        for (round, full) in (1..).zip([20, 40, 80, 160, 320, 640]) {
            let rested = rest(round);
            assert!((full / 2..full).contains(&rested), "{round}: {rested}");
        }
        let longest: Vec<u128> = (7..37).map(&mut rest).collect();
        assert!((500..550).contains(longest.iter().min().unwrap()), "{longest:?}");
        assert!((950..1_000).contains(longest.iter().max().unwrap()), "{longest:?}");
    }

    /// control-plane.md §14.1, init retries: 100 rounds and 1 s, for cluster id and members, and as long
    /// for the keyspace. (The service mode is not asked for. Other than there, half of each pause is
    /// drawn.) Each is given as (attempts, interval in ms), and what becomes of it.
    #[test]
    fn at_the_start_the_rounds_are_counted() {
        for (attempts, interval, rounds, longest) in [
            (100, 1_000, 100, 1_000),
            (1, 1_000, 1, 0),
            (0, 1_000, 1, 0),
            (9, 50, 9, 50),
            (4, 0, 4, 20),
        ] {
            let mut story = Story::new(KeyMode::Raw, "..=1");
            assert_eq!(
                (story.config.pd_init_attempts, story.config.pd_init_interval.as_millis()),
                (100, 1_000)
            );
            story.config.pd_init_attempts = attempts;
            story.config.pd_init_interval = Duration::from_millis(interval);
            story.core = crate::Core::new(story.config.clone(), 7, story.now);
            story.patience = Duration::from_secs(1_000);
            story.play("silence pd");
            story.play("ready");
            let (mut told, mut pause) = (String::new(), 0);
            for round in 1..=rounds {
                assert!(!told.contains('='), "{attempts} {round}: {told}");
                told = story.play(&format!("{round} refused"));
                let before = story.now;
                if round < rounds {
                    story.play("wait");
                }
                pause = pause.max(story.now.since(before).as_millis());
            }
            let plural =
                if rounds == 1 { "a round".to_owned() } else { format!("{rounds} rounds") };
            let end = format!("= PdUnavailable: no PD leader found through pd:1 in {plural}: ");
            assert!(told.starts_with(&end), "{told}");
            assert!((longest * 9 / 10..=longest).contains(&pause) || longest == 20, "{pause}");
            assert!(pause <= longest, "{pause}");
        }
    }
}
