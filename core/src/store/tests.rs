//! The table of stores, row by row of the module's two tables.

use super::*;
use crate::error::ErrorKind;
use crate::id::CommandId;
use crate::shared::TimerTarget;
use crate::timer::Timers;

const S: StoreId = StoreId(1);
const NOW: Instant = Instant::from_nanos(1_000);
const SECOND: Duration = Duration::from_secs(1);

fn call(index: u32) -> Handle {
    Handle { index, generation: 0 }
}

fn probe(sent: Instant) -> Probe {
    let mut timers: Timers<TimerTarget> = Timers::new();
    let timer = timers.set(sent + SECOND, crate::WakeReason::Probe, TimerTarget::Probe(S));
    Probe { command: CommandId(call(7)), timer, sent }
}

fn known(address: &str) -> Lookup {
    Lookup::Known { address: address.into(), ask: false }
}

/// A table with the store 1 at `a:1`.
fn table() -> StoreTable {
    let mut table = StoreTable::default();
    table.lookup(S, call(1), NOW);
    table.resolved(S, Ok(Some("a:1".into()))).1.unwrap();
    table
}

fn to_probe(ask: bool) -> Care {
    Care::Probe { address: "a:1".into(), ask }
}

#[test]
fn pd_is_asked_once_however_many_wait() {
    let mut table = StoreTable::default();
    assert_eq!(table.lookup(S, call(1), NOW), Lookup::Wait { ask: true });
    assert_eq!(table.lookup(S, call(2), NOW), Lookup::Wait { ask: false });
    let (woken, result, _) = table.resolved(S, Ok(Some("a:1".into())));
    assert_eq!((woken, result), (vec![call(1), call(2)], Ok(())));
    assert_eq!(table.lookup(S, call(3), NOW), known("a:1"));
}

/// §5.1: needCheck keeps the address in use while PD is asked.
#[test]
fn a_doubtful_address_is_used_while_pd_is_asked() {
    let mut table = table();
    table.check(S);
    let asked = Lookup::Known { address: "a:1".into(), ask: true };
    assert_eq!(table.lookup(S, call(1), NOW), asked);
    assert_eq!(table.lookup(S, call(1), NOW), known("a:1"));
    table.resolved(S, Ok(Some("b:1".into()))).1.unwrap();
    assert_eq!(table.lookup(S, call(1), NOW), known("b:1"));
}

/// §5.1, RGC-03: what PD says, and what becomes of the store.
#[test]
fn rgc_03_pds_word() {
    let refused = || Err(Error::new(ErrorKind::PdUnavailable, "no"));
    type Row = (&'static str, Result<Option<Arc<str>>, Error>, Lookup, u32);
    let rows: [Row; 4] = [
        ("the same", Ok(Some("a:1".into())), known("a:1"), 0),
        ("elsewhere: in place, the epoch untouched", Ok(Some("b:1".into())), known("b:1"), 0),
        ("removed: epoch + 1", Ok(None), Lookup::Gone, 1),
        (
            "no answer: unchanged, and still to be checked",
            refused(),
            Lookup::Known { address: "a:1".into(), ask: true },
            0,
        ),
    ];
    for (row, answer, then, epoch) in rows {
        let mut table = table();
        table.check(S);
        table.lookup(S, call(1), NOW);
        let _ = table.resolved(S, answer);
        assert_eq!(table.epoch(S), epoch, "{row}");
        assert_eq!(table.lookup(S, call(1), NOW), then, "{row}");
        assert_eq!(table.reachable(S), then != Lookup::Gone, "{row}");
    }
    // Told again that it is gone, its regions are no staler than before. It may come back.
    let mut table = table();
    table.resolved(S, Ok(None)).1.unwrap();
    table.resolved(S, Ok(None)).1.unwrap();
    assert_eq!(table.epoch(S), 1);
    table.check(S);
    assert_eq!(table.lookup(S, call(1), NOW), Lookup::Wait { ask: true });
}

/// control-plane.md §6.5 row 15.
#[test]
fn a_wrong_address_is_not_used_again() {
    let mut table = table();
    assert_eq!(table.misplaced(S), None);
    assert_eq!(table.lookup(S, call(1), NOW), Lookup::Wait { ask: true });
}

/// The second table of the module: Well → Doubted → Dead → Tried, and back.
/// control-plane.md §5.1, §5.3: probed once a second; PD is asked every 2 s (there: 30 s).
#[test]
fn a_life_in_steps() {
    let mut table = table();
    // Well: nobody probes it because it is wanted.
    assert_eq!(table.wanted(S, NOW), Care::Nothing);
    assert_eq!(table.suspect(S), to_probe(false));
    table.probing(S, probe(NOW));
    // Doubted: it may be chosen; one probe is enough.
    assert!(table.reachable(S));
    assert_eq!((table.suspect(S), table.wanted(S, NOW)), (Care::Nothing, Care::Nothing));
    // Any answer is a sign of life.
    assert_eq!(table.answered(S, Some(SECOND), NOW), Some(probe(NOW)));
    assert_eq!((table.probe(S), table.epoch(S)), (None, 0));
    // Dead: epoch + 1, PD is asked, and not again.
    table.probing(S, probe(NOW));
    assert!(table.found_dead(S, NOW));
    assert_eq!((table.reachable(S), table.epoch(S)), (false, 1));
    assert!(table.is_slow(S, NOW));
    table.resolved(S, Ok(Some("a:1".into()))).1.unwrap();
    assert!(!table.reachable(S), "the same address proves nothing");
    // Tried when it is wanted, a second later at the earliest; PD is asked after two.
    let just_before = Duration::from_nanos(1);
    assert_eq!(table.wanted(S, NOW + (SECOND - just_before)), Care::Nothing);
    assert_eq!(table.wanted(S, NOW + SECOND), to_probe(false));
    assert_eq!(table.wanted(S, NOW + (2 * SECOND - just_before)), to_probe(false));
    table.probing(S, probe(NOW + SECOND));
    assert_eq!(table.wanted(S, NOW + SECOND), Care::Nothing);
    assert!(!table.reachable(S));
    // §19.14: of many failures only the first moves the epoch.
    assert!(!table.found_dead(S, NOW + SECOND));
    assert_eq!(table.epoch(S), 1);
    assert_eq!(table.wanted(S, NOW + SECOND), Care::Nothing);
    assert_eq!(table.wanted(S, NOW + 2 * SECOND), to_probe(true));
    table.probing(S, probe(NOW + 2 * SECOND));
    // It answers the probe: well again, at its new epoch.
    assert_eq!(table.answered(S, None, NOW), Some(probe(NOW + 2 * SECOND)));
    assert_eq!((table.reachable(S), table.epoch(S)), (true, 1));
}

/// RGC-57: what was held against the store was held against another place.
#[test]
fn rgc_57_another_address_is_another_chance() {
    for tried in [false, true] {
        let mut table = table();
        table.probing(S, probe(NOW));
        table.found_dead(S, NOW);
        if tried {
            table.probing(S, probe(NOW));
        }
        let (_, _, pointless) = table.resolved(S, Ok(Some("b:1".into())));
        assert_eq!(pointless.is_some(), tried);
        assert!(table.reachable(S));
        assert_eq!(table.lookup(S, call(1), NOW), known("b:1"));
    }
}

#[test]
fn silence_is_judged_by_what_was_heard_last() {
    let mut table = table();
    assert_eq!(table.silence(S, SECOND, NOW), Silence::Total);
    table.answered(S, None, NOW);
    let halfway = NOW + SECOND / 2;
    assert_eq!(table.silence(S, SECOND, halfway), Silence::Broken(NOW));
    assert_eq!(table.silence(S, SECOND, NOW + SECOND), Silence::Total);
    table.probing(S, probe(NOW + SECOND));
    assert_eq!(table.silence(S, SECOND, NOW + SECOND), Silence::Total);
    table.found_dead(S, NOW + SECOND);
    assert_eq!(table.silence(S, SECOND, NOW + SECOND), Silence::Dead);
}

/// C12: who came first goes first, also after another was quicker; nobody overtakes a line.
#[test]
fn a_line_keeps_its_order() {
    let mut table = table();
    assert!(table.admit(S, call(1), 1, false));
    for n in 2..=4 {
        assert!(!table.admit(S, call(n), 1, false));
    }
    table.attempt_over(S);
    assert!(table.has_room(S, 1));
    assert_eq!(table.next_in_line(S), Some(call(2)));
    assert!(!table.admit(S, call(5), 1, false), "there is a line");
    assert!(table.admit(S, call(2), 1, true));
    assert_eq!(table.next_in_line(S), Some(call(3)));
    assert!(!table.admit(S, call(3), 1, true), "no room");
    let line: Vec<_> = std::iter::from_fn(|| table.next_in_line(S)).collect();
    assert_eq!(line, [call(3), call(4), call(5)]);
}

/// RGC-56: feedback reaches only the store it names; §5.5, §7.6: what «busy» leaves behind.
#[test]
fn rgc_56_health_is_each_stores_own() {
    let mut table = table();
    let other = StoreId(2);
    table.lookup(other, call(1), NOW);
    table.feedback(S, 100, NOW);
    table.feedback(StoreId(9), 100, NOW);
    assert_eq!((table.is_slow(S, NOW), table.is_slow(other, NOW)), (true, false));
    table.busy(other, 30, NOW);
    let facts = table.facts(NOW);
    let waits: Vec<u128> = facts.iter().map(|facts| facts.estimated_wait.as_millis()).collect();
    assert_eq!(waits, [0, 30]);
    assert!(!table.is_slow(other, NOW), "with an estimate it is not slow");
    table.busy(other, 0, NOW);
    assert!(table.is_slow(other, NOW));
}
