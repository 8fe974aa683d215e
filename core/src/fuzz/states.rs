//! Whatever the servers say, a pair of state and input that docs/states.md calls impossible is never met.
//! That the page has each pair, and that the others are met, is for `tests/tests/states.rs`.

use anatase_core::coverage::Coverage;

const PAGE: &str = include_str!("../../../docs/states.md");

/// What the page says of this pair.
fn says(machine: &str, state: &str, input: &str) -> Option<&'static str> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
    let (_, section) = PAGE.split_once(&format!("## {machine}\n"))?;
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let mut rows = section.lines().filter(|line| line.starts_with('|')).map(cells);
    let column = rows.next()?.position(|name| name == input)?;
    rows.find_map(|mut row| (row.next() == Some(state)).then(|| row.nth(column - 1)).flatten())
}

/// Checks what a core has met.
pub(crate) fn hold(met: &Coverage) {
    for (machine, state, input, count) in met.rows().filter(|(.., count)| *count > 0) {
        let said = says(machine.name(), state.name(), input.name());
        let pair = (machine, state, input);
        assert!(said.is_some_and(|said| said != "—"), "{pair:?} is {said:?}, and was met: {count}");
    }
}

#[test]
fn the_page_is_read_as_it_is_meant() {
    assert_eq!(says("commit", "Releasing", "late"), Some("nothing"));
    assert_eq!(says("commit", "Releasing", "closed"), Some("—"));
    assert_eq!(says("lock", "Locking", "closed"), Some("Draining"));
    assert_eq!(says("inquiry", "Pausing", "pause"), Some("Stamping"));
    assert_eq!(says("lock", "Settled", "late"), None);
    assert_eq!(says("lock", "Locking", "luck"), None);
}
