//! Scans of a snapshot with a transaction's writes laid over it (`transactions.md` §4.2).
//!
//! A cursor without any I/O. It says which page of the snapshot it wants, is fed with it, and gives
//! out one pair at a time; pages may be fed ahead of time.
//!
//! ```text
//!            next: Pair                     next: Pair
//!            ┌──────┐                       ┌──────┐
//!            ▼      │      feed             ▼      │
//!   new ──▶ hungry ─┴────────────────────▶ fed ────┴──▶ (the page is used up) ──▶ hungry
//!            │ next: Feed                   │
//!            │                              └─ (nothing is left to feed) ──▶ next: End
//! ```
//!
//! Of two equal keys the buffer's word counts. A deleted key hides the snapshot's; a key that has only
//! flags hides nothing. What lies in the buffer behind the last key of a page is held back until the
//! next page is there, since the snapshot may have keys before it.
//!
//! The buffer is not held on to between two steps, and may change: each step sees it as it is. A write
//! behind the cursor is not seen any more, one before it is.

use std::collections::VecDeque;
use std::ops::Bound;

use super::Buffer;
use crate::error::{Error, ErrorKind};
use crate::operation::{Key, KeyRange, KvPair, ScanSpec, Value, next_key};

/// A scan of buffer and snapshot together. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Union {
    range: KeyRange,
    reverse: bool,
    key_only: bool,
    /// The last key that was given out or passed over.
    passed: Option<Key>,
    /// What was fed and not given out.
    fed: VecDeque<KvPair>,
    /// The part of the range that no page has covered. `None` if all is covered.
    rest: Option<KeyRange>,
}

/// What a [`Union`] has come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnionStep {
    /// The next pair, in the order of the scan.
    Pair(KvPair),
    /// A page has to be fed first: [`Union::wants`] tells which.
    Feed,
    /// There are no more.
    End,
}

impl Union {
    /// A scan of `range` from its start, or from its end down. An empty or reversed range has nothing.
    pub fn new(range: KeyRange, reverse: bool, key_only: bool) -> Self {
        let rest = Some(range.clone()).filter(|range| !range.is_empty());
        Self { range, reverse, key_only, passed: None, fed: VecDeque::new(), rest }
    }

    /// The next page of the snapshot, of so many pairs; `None` if all are there.
    pub fn wants(&self, limit: u32) -> Option<ScanSpec> {
        let range = self.rest.clone()?;
        Some(ScanSpec { range, limit, reverse: self.reverse, key_only: self.key_only })
    }

    /// How many pairs of the snapshot have been fed and not come to their turn.
    pub fn fed(&self) -> usize {
        self.fed.len()
    }

    /// Takes what the snapshot has for [`Union::wants`]: as many pairs as were asked for, or as there
    /// are.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it cannot be the answer: more pairs than were asked for, or out of
    /// place. The scan is over then.
    pub fn feed(&mut self, limit: u32, page: Vec<KvPair>) -> Result<(), Error> {
        if limit == 0 && page.is_empty() {
            return Ok(());
        }
        let rest = self.rest.take();
        let in_order = |pair: &[KvPair]| match pair {
            [a, b] if self.reverse => a.key > b.key,
            [a, b] => a.key < b.key,
            _ => true,
        };
        let inside = |pair: &KvPair| rest.as_ref().is_some_and(|rest| rest.contains(&pair.key));
        // Neighbours in order and both ends inside are all in order and inside.
        let ends = [page.first(), page.last()];
        let sound = page.len() <= limit as usize
            && ends.into_iter().flatten().all(inside)
            && page.windows(2).all(in_order);
        if !sound {
            self.fed.clear();
            self.range = KeyRange::new(&b"\0"[..], &b"\0"[..]);
            let text = "a page of a scan holds pairs that were not asked for";
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        // A page that is not full says that there is nothing behind its last key.
        if let (Some(rest), Some(last)) = (rest, page.last())
            && page.len() == limit as usize
        {
            self.rest = behind(rest, &last.key, self.reverse);
        }
        self.fed.extend(page);
        Ok(())
    }

    /// The next pair of the union of `buffer` and what was fed.
    ///
    /// Costs a lookup in the buffer, and passes over each deleted key and each key with flags only
    /// once.
    pub fn next(&mut self, buffer: &Buffer) -> UnionStep {
        loop {
            let theirs = self.fed.front().map(|pair| pair.key.clone());
            if self.range.is_empty() {
                return UnionStep::End;
            }
            let (mut ours, mut hidden) = (None, false);
            {
                let (low, high) = self.window(theirs.as_ref());
                let mut kept = buffer.between(low, high);
                let mut step = || if self.reverse { kept.next_back() } else { kept.next() };
                while let Some(kept) = step() {
                    let Some(value) = kept.value else {
                        continue;
                    };
                    hidden = theirs.as_ref() == Some(kept.key);
                    ours = value.map(|value| (kept.key.clone(), value.clone()));
                    if hidden || ours.is_some() {
                        break;
                    }
                }
            }
            let theirs = if hidden || ours.is_none() { self.fed.pop_front() } else { None };
            return match (ours, theirs) {
                (Some((key, value)), _) => {
                    self.passed = Some(key.clone());
                    let value = if self.key_only { Value::new() } else { value };
                    UnionStep::Pair(KvPair { key, value })
                }
                (None, Some(theirs)) => {
                    self.passed = Some(theirs.key.clone());
                    if hidden {
                        continue;
                    }
                    UnionStep::Pair(theirs)
                }
                (None, None) => {
                    // All up to here is passed, if only what was deleted or flagged.
                    if self.rest.is_some() { UnionStep::Feed } else { UnionStep::End }
                }
            };
        }
    }

    /// Where the buffer's next key may lie that comes no later than `theirs`, or else than what the
    /// pages cover.
    fn window<'a>(&'a self, theirs: Option<&'a Key>) -> (Bound<&'a Key>, Bound<&'a Key>) {
        let end = |key: &'a Key| match key.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(key),
        };
        if self.reverse {
            let covered = self.rest.as_ref().map_or(&self.range.start, |rest| &rest.end);
            let high = self.passed.as_ref().map_or(end(&self.range.end), Bound::Excluded);
            match (theirs, &self.rest) {
                (Some(theirs), _) => (Bound::Included(theirs), high),
                // Nothing is covered yet: the rest has no end, or the range's.
                (None, Some(rest)) if rest.end == self.range.end => {
                    (Bound::Excluded(&self.range.end), Bound::Excluded(&self.range.end))
                }
                (None, _) => (Bound::Included(covered), high),
            }
        } else {
            let low = Bound::Included(&self.range.start);
            let low = self.passed.as_ref().map_or(low, Bound::Excluded);
            match (theirs, &self.rest) {
                (Some(theirs), _) => (low, Bound::Included(theirs)),
                (None, Some(rest)) => (low, Bound::Excluded(&rest.start)),
                (None, None) => (low, end(&self.range.end)),
            }
        }
    }
}

/// What is left of `range` behind `last`.
fn behind(range: KeyRange, last: &Key, reverse: bool) -> Option<KeyRange> {
    let rest = if reverse {
        // Nothing is below the empty key, and as an end it would mean the very opposite.
        if last.is_empty() {
            return None;
        }
        KeyRange { start: range.start, end: last.clone() }
    } else {
        KeyRange { start: next_key(last), end: range.end }
    };
    Some(rest).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static str, value: &'static str) -> KvPair {
        KvPair { key: key.into(), value: value.into() }
    }

    fn feed(union: &mut Union, limit: u32, keys: &[&'static str]) {
        let page = keys.iter().map(|key| pair(key, "theirs")).collect();
        union.feed(limit, page).unwrap();
    }

    /// What comes until the next page is needed or the end is reached.
    fn run(union: &mut Union, buffer: &Buffer) -> (Vec<String>, UnionStep) {
        let mut pairs = Vec::new();
        loop {
            match union.next(buffer) {
                UnionStep::Pair(KvPair { key, value }) => {
                    pairs.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
                }
                other => return (pairs, other),
            }
        }
    }

    /// peers.md D7: every state of a key is seen by gets and by scans, in both directions.
    #[test]
    fn d7_reads_see_every_kind_of_write() {
        type Write = fn(&mut Buffer);
        let insert: Write = |buffer| buffer.insert("k", "ours").unwrap();
        let delete: Write = |buffer| buffer.delete("k").unwrap();
        let put: Write = |buffer| buffer.put("k", "ours").unwrap();
        let lock: Write = |buffer| buffer.lock("k").unwrap();
        for (writes, get, scanned) in [
            (&[put][..], Some(Some("ours")), Some("k=ours")),
            (&[insert], Some(Some("ours")), Some("k=ours")),
            (&[delete], Some(None), None),
            (&[insert, delete], Some(None), None),
            (&[put, delete, insert], Some(Some("ours")), Some("k=ours")),
            (&[lock], None, Some("k=theirs")),
            (&[], None, Some("k=theirs")),
        ] {
            let mut buffer = Buffer::default();
            writes.iter().for_each(|write| write(&mut buffer));
            assert_eq!(buffer.get(b"k"), get.map(|value| value.map(Value::from)));
            for reverse in [false, true] {
                let mut union = Union::new(KeyRange::default(), reverse, false);
                feed(&mut union, 9, &["k"]);
                let expected: Vec<String> = scanned.map(str::to_owned).into_iter().collect();
                assert_eq!(run(&mut union, &buffer), (expected, UnionStep::End));
            }
        }
    }

    /// cases.md BUF-16, across the end of a page: what may still come before is waited for.
    #[test]
    fn what_lies_behind_a_page_is_held_back() {
        let mut buffer = Buffer::default();
        for key in ["a", "c", "e", "g"] {
            buffer.put(key, "ours").unwrap();
        }
        buffer.delete("d").unwrap();
        let mut up = Union::new(KeyRange::new("b", "g"), false, false);
        assert_eq!(up.next(&buffer), UnionStep::Feed, "something may come before `c`");
        assert_eq!(up.wants(2).map(|spec| spec.range), Some(KeyRange::new("b", "g")));
        feed(&mut up, 2, &["b", "d"]);
        let told = run(&mut up, &buffer);
        assert_eq!(told, (vec!["b=theirs".into(), "c=ours".into()], UnionStep::Feed));
        assert_eq!(up.wants(2).map(|spec| spec.range), Some(KeyRange::new(&b"d\0"[..], "g")));
        feed(&mut up, 2, &["dd"]);
        let told = run(&mut up, &buffer);
        assert_eq!(told, (vec!["dd=theirs".into(), "e=ours".into()], UnionStep::End));

        let mut down = Union::new(KeyRange::new("b", ""), true, true);
        assert_eq!(down.next(&buffer), UnionStep::Feed, "something may come before `g`");
        feed(&mut down, 2, &["h", "d"]);
        let told = run(&mut down, &buffer);
        assert_eq!(told.0, ["h=theirs", "g=", "e="]);
        assert_eq!(told.1, UnionStep::Feed);
        assert_eq!(down.wants(2).map(|spec| spec.range), Some(KeyRange::new("b", "d")));
        feed(&mut down, 2, &[]);
        assert_eq!(run(&mut down, &buffer), (vec!["c=".into()], UnionStep::End));
    }

    /// Pages may come ahead of time, and writes between two steps.
    #[test]
    fn a_step_sees_the_buffer_as_it_is() {
        let mut buffer = Buffer::default();
        let mut union = Union::new(KeyRange::default(), false, false);
        feed(&mut union, 2, &["b", "d"]);
        feed(&mut union, 2, &["f"]);
        assert_eq!((union.fed(), union.wants(2)), (3, None));
        assert_eq!(union.next(&buffer), UnionStep::Pair(pair("b", "theirs")));
        buffer.put("a", "behind").unwrap();
        buffer.put("b", "behind").unwrap();
        buffer.put("c", "before").unwrap();
        buffer.delete("d").unwrap();
        let told = run(&mut union, &buffer);
        assert_eq!(told, (vec!["c=before".into(), "f=theirs".into()], UnionStep::End));
    }

    /// The empty key comes last on the way down, and below it there is nothing: not the end again.
    #[test]
    fn a_scan_down_ends_at_the_empty_key() {
        let mut buffer = Buffer::default();
        buffer.put("", "ours").unwrap();
        let mut union = Union::new(KeyRange::default(), true, false);
        feed(&mut union, 1, &["a"]);
        assert_eq!(run(&mut union, &buffer), (vec!["a=theirs".into()], UnionStep::Feed));
        feed(&mut union, 1, &[""]);
        assert_eq!(run(&mut union, &buffer), (vec!["=ours".into()], UnionStep::End));
    }

    #[test]
    fn a_page_that_was_not_asked_for_is_refused() {
        for (page, reverse) in [
            (&["a"][..], false),
            (&["g"], false),
            (&["c", "d", "e"], false),
            (&["d", "c"], false),
            (&["c", "c"], false),
            (&["c", "d"], true),
        ] {
            let mut union = Union::new(KeyRange::new("b", "g"), reverse, false);
            let page = page.iter().map(|key| pair(key, "v")).collect();
            assert_eq!(union.feed(2, page).unwrap_err().kind(), &ErrorKind::Protocol);
            let mut buffer = Buffer::default();
            buffer.put("c", "v").unwrap();
            assert_eq!(union.next(&buffer), UnionStep::End);
            assert_eq!(union.wants(2), None);
        }
        // Nothing is wanted any more.
        let mut over = Union::new(KeyRange::new("b", "a"), false, false);
        assert_eq!((over.wants(2), over.next(&Buffer::default())), (None, UnionStep::End));
        assert!(over.feed(2, vec![pair("a", "v")]).is_err());
    }
}
