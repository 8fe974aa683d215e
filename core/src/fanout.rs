//! Many keys, many regions: group, send, regroup what moved.
//!
//! Items are sorted by key, so a region's share is a run of consecutive items and a *piece* is two
//! indices. A piece waits to be grouped, is cut along the borders of regions and the limits of a
//! batch, and goes out as a call pinned to the region it was grouped under. A batch whose region
//! moved comes back as a piece and is grouped again, alone: the others go on.
//!
//! ```text
//! pending ─▶ (locate) ─▶ batches ─▶ flying ─▶ Answer(batch)
//!    ▲                                 │
//!    ├── region moved ◀────────────────┤
//!    └── after a pause ◀── parked ◀────┘ the owner wants it again (a lock was in the way)
//! ```
//!
//! The work is linear in the items: each is looked at once per grouping, and only what moved is
//! grouped again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Range;

use crate::backoff::{Backoff, BackoffKind};
use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::id::{Handle, RegionVersion};
use crate::operation::Key;
use crate::region::loader::Seek;
use crate::region_call::{Abandoned, Target};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Waiter, Wake};
use crate::wire::Response;

/// What a fan-out does with its items.
pub(crate) trait Job: Clone + Debug + Hash {
    /// How many items there are.
    fn len(&self) -> usize;
    /// The key of an item. Keys ascend with the index, equal keys included.
    fn key(&self, index: usize) -> &Key;
    /// What an item adds to its batch: its key's length, where it is no more than a key.
    fn weight(&self, index: usize) -> usize {
        self.key(index).len()
    }
    /// A batch is closed before the item with which it would hold more than this many.
    fn max_items(&self) -> usize {
        usize::MAX
    }
    /// A batch is closed once it weighs this much.
    fn max_weight(&self) -> usize {
        usize::MAX
    }
    /// The request for a batch.
    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec;
}

/// Consecutive items, to be grouped.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Piece {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) backoff: Backoff,
    /// An earlier copy may have been received whose answer is not known.
    pub(crate) is_retry: bool,
    /// The grouping that they come from, and how many items the whole operation had in that region.
    pub(crate) grouped: Option<(RegionVersion, usize)>,
    /// An earlier sending may have been executed.
    pub(crate) doubt: bool,
}

impl Piece {
    /// Whether this item is among them.
    pub(crate) fn has(&self, index: usize) -> bool {
        (self.start..self.end).contains(&index)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Consecutive items of one region.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Batch {
    pub(crate) piece: Piece,
    pub(crate) region: RegionVersion,
    /// How many items the whole operation has in this region; `None` if that is not known, because the
    /// batch comes from another grouping.
    pub(crate) region_items: Option<usize>,
}

#[derive(Clone, Debug, Hash)]
struct Flying {
    batch: Batch,
    call: Handle,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Fanout<J> {
    pub(crate) job: J,
    pending: VecDeque<Piece>,
    batches: VecDeque<Batch>,
    flying: BTreeMap<Tag, Flying>,
    parked: BTreeMap<Tag, Piece>,
    /// Waiting for the region of the first pending item.
    locating: Option<Tag>,
    max_flying: usize,
    /// Only the batch with the leading item may fly, alone, until [`Fanout::open`].
    gated: bool,
    /// The item whose batch goes before the others.
    lead: usize,
    first_tag: Tag,
    next_tag: Tag,
}

/// What a wake-up meant.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing for the owner.
    Nothing,
    /// A batch was answered; `batch.piece.doubt` tells whether an earlier copy of it may have been
    /// executed, too. Follow with [`Fanout::park`] or [`Fanout::again`] if it has to be sent
    /// again, then with [`Fanout::advance`].
    Answer { batch: Batch, response: Response },
    /// A batch failed for good. `doubt`: it may have been executed.
    Failed { piece: Piece, error: Error, doubt: bool },
}

impl<J: Job> Fanout<J> {
    /// A fan-out over all items of `job`, with waits numbered from `first_tag` on.
    pub(crate) fn new(job: J, backoff: Backoff, max_flying: usize, first_tag: Tag) -> Self {
        let end = job.len();
        let all = Piece { start: 0, end, backoff, is_retry: false, grouped: None, doubt: false };
        let pending = if all.end == 0 { VecDeque::new() } else { VecDeque::from([all]) };
        Self {
            job,
            pending,
            batches: VecDeque::new(),
            flying: BTreeMap::new(),
            parked: BTreeMap::new(),
            locating: None,
            max_flying,
            gated: false,
            lead: 0,
            first_tag,
            next_tag: first_tag,
        }
    }

    /// Holds everything back but the batch with this item.
    pub(crate) fn gate(mut self, lead: usize) -> Self {
        self.gated = true;
        self.lead = lead;
        self
    }

    /// Lets the other batches go.
    pub(crate) fn open(&mut self) {
        self.gated = false;
    }

    /// Nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.pending.is_empty()
            && self.batches.is_empty()
            && self.flying.is_empty()
            && self.parked.is_empty()
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// The items that wait to be sent for the first time, or were answered without doubt.
    pub(crate) fn unsent(&self) -> Vec<Range<usize>> {
        let waiting = self.pending.iter().chain(self.batches.iter().map(|batch| &batch.piece));
        let unsent = waiting.filter(|piece| !piece.doubt && !piece.is_retry);
        unsent.map(|piece| piece.start..piece.end).collect()
    }

    /// A number for a wait of this fan-out or of its owner. Each is given once.
    pub(crate) fn fresh_tag(&mut self) -> Tag {
        let tag = self.next_tag;
        self.next_tag += 1;
        tag
    }

    /// Whether a wake-up with this tag can belong to this fan-out.
    pub(crate) fn owns(&self, tag: Tag) -> bool {
        (self.first_tag..self.next_tag).contains(&tag)
    }

    /// Whether something is yet to come under this tag.
    pub(crate) fn awaits(&self, tag: Tag) -> bool {
        self.locating == Some(tag)
            || self.flying.contains_key(&tag)
            || self.parked.contains_key(&tag)
    }

    /// The number after the last one given.
    pub(crate) fn end_tag(&self) -> Tag {
        self.next_tag
    }

    /// Sends what can be sent.
    pub(crate) fn advance(&mut self, cx: &mut Cx<'_>) {
        if self.gated {
            return self.advance_first(cx);
        }
        while self.flying.len() < self.max_flying {
            match self.batches.pop_front() {
                Some(batch) => self.send(batch, cx),
                None => {
                    if !self.group(cx) {
                        return;
                    }
                }
            }
        }
    }

    fn advance_first(&mut self, cx: &mut Cx<'_>) {
        if !self.flying.is_empty() || self.locating.is_some() {
            return;
        }
        let lead = self.lead;
        let leads = |batch: &Batch| batch.piece.has(lead);
        if !self.batches.iter().any(leads) && !self.group_lead(cx) {
            return;
        }
        if let Some(at) = self.batches.iter().position(leads)
            && let Some(batch) = self.batches.remove(at)
        {
            self.send(batch, cx);
        }
    }

    /// As [`Fanout::group`], for the region of the leading item. What lies before that region waits.
    fn group_lead(&mut self, cx: &mut Cx<'_>) -> bool {
        let lead = self.lead;
        let Some(at) = self.pending.iter().position(|piece| piece.has(lead)) else {
            return false;
        };
        let Some(mut piece) = self.pending.remove(at) else {
            return false;
        };
        if piece.start < lead {
            let tag = self.fresh_tag();
            let waiter = Waiter::Owner(cx.owner, tag);
            let key = self.job.key(lead);
            let Some(region) = cx.shared.locate(key, Seek::Containing, None, waiter) else {
                self.locating = Some(tag);
                self.pending.push_front(piece);
                return false;
            };
            let first = cx.shared.regions.start_of(region).unwrap_or_default();
            let before =
                partition_point(lead - piece.start, |n| self.job.key(piece.start + n) < first);
            if before > 0 {
                let cut = piece.start + before;
                self.pending.push_back(Piece { end: cut, ..piece.clone() });
                piece.start = cut;
            }
        }
        self.pending.push_front(piece);
        self.group(cx)
    }

    fn send(&mut self, batch: Batch, cx: &mut Cx<'_>) {
        let spec = self.job.request(&batch, cx);
        let tag = self.fresh_tag();
        let target = Target::Region(batch.region);
        // Not a fork: it is the same items that come back from a region that is no more, and their
        // waits have to grow from region to region.
        let call = cx.call(tag, target, spec, batch.piece.backoff.clone());
        self.flying.insert(tag, Flying { batch, call });
    }

    /// Cuts the share of one region off the first pending piece. False if there is nothing to cut,
    /// or the region has to be waited for.
    fn group(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.locating.is_some() {
            return false;
        }
        let Some(mut piece) = self.pending.pop_front() else {
            return false;
        };
        let tag = self.fresh_tag();
        let waiter = Waiter::Owner(cx.owner, tag);
        let key = self.job.key(piece.start);
        let until = (piece.end - piece.start > 1).then(|| self.job.key(piece.end - 1));
        let Some(region) = cx.shared.locate(key, Seek::Containing, until, waiter) else {
            self.locating = Some(tag);
            self.pending.push_front(piece);
            return false;
        };
        let end = match cx.shared.regions.end_of(region) {
            Some(end) if !end.is_empty() && !planted!(cx.shared.config, RegionEndIgnored) => {
                let rest = piece.end - piece.start;
                piece.start + partition_point(rest, |n| self.job.key(piece.start + n) < end)
            }
            Some(_) | None => piece.end,
        };
        // The key of the first item was just found in the region; never cut nothing.
        let end = end.max(piece.start + 1);
        let region_items = match piece.grouped {
            None => Some(end - piece.start),
            Some((grouped, items)) => (grouped == region).then_some(items),
        };
        let before = self.batches.len();
        let mut start = piece.start;
        while start < end {
            let cut = self.cut(start, end);
            let grouped = piece.grouped.or(region_items.map(|items| (region, items)));
            let share = Piece { start, end: cut, grouped, ..piece.clone() };
            self.batches.push_back(Batch { piece: share, region, region_items });
            start = cut;
        }
        if (piece.start..end).contains(&self.lead) {
            // The leading item's batch goes first, also when it comes back from a region that moved.
            self.batches.rotate_left(before);
        }
        piece.start = end;
        if piece.start < piece.end {
            self.pending.push_front(piece);
        }
        true
    }

    /// Where the batch that begins at `start` ends.
    fn cut(&self, start: usize, end: usize) -> usize {
        let mut weight = 0;
        for index in start..end {
            if index > start
                && (weight >= self.job.max_weight() || index - start >= self.job.max_items())
            {
                return index;
            }
            weight += self.job.weight(index);
        }
        end
    }

    /// Takes a wake-up of one of this fan-out's waits.
    pub(crate) fn wake(&mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Progress {
        match wake {
            Wake::Located(result) if self.locating == Some(tag) => {
                self.locating = None;
                match result {
                    Ok(()) => Progress::Nothing,
                    Err(error) => self.not_located(error, cx),
                }
            }
            Wake::Call(end) => match self.flying.remove(&tag) {
                Some(_)
                    if matches!(end, CallEnd::Regroup { .. })
                        && planted!(cx.shared.config, MovedBatchServed) =>
                {
                    Progress::Nothing
                }
                Some(mut flying) => {
                    if matches!(end, CallEnd::Regroup { .. })
                        && planted!(cx.shared.config, RegroupForgetsTail)
                    {
                        flying.batch.piece.end = flying.batch.piece.start + 1;
                    }
                    self.call_ended(flying.batch, end)
                }
                None => Progress::Nothing,
            },
            Wake::Pause => {
                if let Some(piece) = self.parked.remove(&tag) {
                    self.queue(piece);
                }
                Progress::Nothing
            }
            Wake::Located(_)
            | Wake::Timestamp(_)
            | Wake::Resolved(_)
            | Wake::PdReady(_)
            | Wake::Keyspace(_)
            | Wake::SafePoint(_)
            | Wake::Pd(_) => Progress::Nothing,
        }
    }

    /// PD has said no, or knows no region that can be asked; the latter passes.
    fn not_located(&mut self, error: Error, cx: &mut Cx<'_>) -> Progress {
        let Some(mut piece) = self.pending.pop_front() else {
            return Progress::Nothing;
        };
        let error = match error.kind() {
            ErrorKind::RegionUnavailable => {
                let draws = &mut *cx.draws;
                let draw = |bound| draws.below(bound);
                match piece.backoff.next(BackoffKind::RegionMiss, None, error, draw) {
                    Ok(wait) => {
                        let tag = self.park(piece);
                        cx.pause(tag, wait, WakeReason::Backoff);
                        return Progress::Nothing;
                    }
                    Err(error) => error,
                }
            }
            _ => error,
        };
        let doubt = piece.doubt;
        Progress::Failed { piece, error, doubt }
    }

    fn call_ended(&mut self, mut batch: Batch, end: CallEnd) -> Progress {
        match end {
            CallEnd::Answered { response, doubt, attempts, .. } => {
                batch.piece.doubt |= doubt;
                // transactions.md §8.2: whatever is sent for these items from now on, an earlier copy
                // may have been received.
                batch.piece.is_retry |= attempts > 1;
                Progress::Answer { batch, response }
            }
            CallEnd::Regroup { backoff, doubt } => {
                batch.piece.backoff.absorb(&backoff);
                batch.piece.is_retry = true;
                batch.piece.doubt |= doubt;
                self.queue(batch.piece);
                Progress::Nothing
            }
            CallEnd::Failed { error, doubt } => {
                let doubt = doubt || batch.piece.doubt;
                Progress::Failed { piece: batch.piece, error, doubt }
            }
        }
    }

    /// Groups and sends these items again.
    pub(crate) fn again(&mut self, piece: Piece) {
        self.queue(piece);
    }

    /// The leading item's piece goes to the head of the line: the others may be held back for it.
    fn queue(&mut self, piece: Piece) {
        if piece.has(self.lead) && self.locating.is_none() {
            self.pending.push_front(piece);
        } else {
            self.pending.push_back(piece);
        }
    }

    /// Keeps these items under a fresh tag until [`Fanout::unpark`], or until a pause with that tag
    /// is over.
    pub(crate) fn park(&mut self, piece: Piece) -> Tag {
        let tag = self.fresh_tag();
        self.parked.insert(tag, piece);
        tag
    }

    /// Takes parked items out.
    pub(crate) fn unpark(&mut self, tag: Tag) -> Option<Piece> {
        self.parked.remove(&tag)
    }

    /// Puts parked items back under their tag.
    pub(crate) fn repark(&mut self, tag: Tag, piece: Piece) {
        self.parked.insert(tag, piece);
    }

    /// Whether anything has been sent of which the answer is still out, or was lost.
    pub(crate) fn is_in_doubt(&self, cx: &Cx<'_>) -> bool {
        let mut waiting = self.pending.iter().chain(self.parked.values());
        waiting.any(|piece| piece.doubt)
            || self.batches.iter().any(|batch| batch.piece.doubt)
            || self
                .flying
                .values()
                .any(|flying| flying.batch.piece.doubt || cx.shared.call_is_in_doubt(flying.call))
    }

    /// Whether everything that has no answer yet may have been executed all the same, so that nothing
    /// shows that it was not.
    pub(crate) fn is_all_in_doubt(&self, cx: &Cx<'_>) -> bool {
        let mut waiting = self.pending.iter().chain(self.parked.values());
        waiting.all(|piece| piece.doubt)
            && self.batches.iter().all(|batch| batch.piece.doubt)
            && self
                .flying
                .values()
                .all(|flying| flying.batch.piece.doubt || cx.shared.call_is_in_doubt(flying.call))
    }

    /// Whether all items are still together, in what is or would be one request.
    pub(crate) fn is_whole(&self) -> bool {
        let waiting = self.pending.iter().chain(self.parked.values());
        let batches = self.batches.iter().chain(self.flying.values().map(|flying| &flying.batch));
        let mut pieces = waiting.chain(batches.map(|batch| &batch.piece));
        pieces.next().is_some_and(|piece| piece.len() == self.job.len())
    }

    /// Sends nothing more: what is out is waited for, everything else is given up.
    pub(crate) fn settle(&mut self, cx: &mut Cx<'_>) {
        let flying = std::mem::take(&mut self.flying);
        let (out, rest) = flying.into_iter().partition(|(_, one)| cx.shared.send_no_more(one.call));
        self.flying = rest;
        self.abandon(cx);
        self.flying = out;
    }

    /// Gives everything up. What is told of all batches together: whether any may have been executed.
    pub(crate) fn abandon(&mut self, cx: &mut Cx<'_>) -> Abandoned {
        let mut all = Abandoned { doubt: false, cause: None, attempts: 0 };
        let waiting = self.pending.iter().chain(self.parked.values());
        let mut last = None;
        for piece in waiting.chain(self.batches.iter().map(|batch| &batch.piece)) {
            all.doubt |= piece.doubt;
            last = last.or(piece.backoff.last());
        }
        let last = last.cloned();
        for flying in std::mem::take(&mut self.flying).into_values() {
            all.doubt |= flying.batch.piece.doubt;
            if let Some(one) = cx.abandon(flying.call) {
                all.doubt |= one.doubt;
                all.attempts = all.attempts.max(one.attempts);
                all.cause = all.cause.or(one.cause);
            }
        }
        all.cause = all.cause.or(last);
        self.pending.clear();
        self.batches.clear();
        self.parked.clear();
        self.locating = None;
        all
    }
}

/// The first of `0..len` for which `before` is false, where it is true for a prefix.
fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
