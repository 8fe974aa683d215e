//! Rows of the fact tables, for tests that hold each of them against what is here.

/// What a row of the facts is here.
pub(crate) enum Row {
    /// The same: ours, theirs.
    Same(u64, u64),
    /// Ours, theirs, and why they differ.
    Other(u64, u64, &'static str),
    /// Nothing here does this: why.
    Without(&'static str),
}

/// Holds each row against its word.
#[track_caller]
pub(crate) fn check<const N: usize>(rows: [(&str, Row); N]) {
    for (row, what) in rows {
        match what {
            Row::Same(ours, theirs) => assert_eq!(ours, theirs, "{row}"),
            Row::Other(ours, theirs, why) => assert!(ours != theirs && !why.is_empty(), "{row}"),
            Row::Without(why) => assert!(!why.is_empty(), "{row}"),
        }
    }
}
