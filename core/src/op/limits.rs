//! What every request is allowed, and how much goes into one (raw.md §1, control-plane.md §3.4).

use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::story::Story;
use crate::wire::Head;
use crate::{KeyMode, KeyMode::Raw, KeyMode::Txn};

const ONE: &str = "..=1";

/// The number of the request that was told last.
fn last_request(told: &str) -> Option<u32> {
    let line = told.lines().rfind(|line| line.starts_with("> "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// raw.md §1: the RPC timeout, and `max_execution_duration_ms` of every raw request.
#[test]
fn a_store_is_told_how_long_a_request_may_run() {
    for (input, rpc, max_execution_ms) in [
        ("get b", Rpc::RawGet, 30_000),
        ("put b=1", Rpc::RawPut, 30_000),
        ("ttl b", Rpc::RawGetKeyTtl, 30_000),
        ("scan a..c 9", Rpc::RawScan, 30_000),
        ("rscan a..c 9", Rpc::RawScan, 30_000),
        ("checksum a..c", Rpc::RawChecksum, 30_000),
        ("delete b", Rpc::RawDelete, 20_000),
        ("cas b 1 2", Rpc::RawCompareAndSwap, 20_000),
        ("batch_get a b", Rpc::RawBatchGet, 20_000),
        ("batch_put a=1 b=2", Rpc::RawBatchPut, 20_000),
        ("batch_delete a b", Rpc::RawBatchDelete, 20_000),
        ("delete_range a..c", Rpc::RawDeleteRange, 20_000),
    ] {
        let mut story = Story::new(Raw, ONE);
        story.play(input);
        let call = story.call(1);
        assert_eq!(call.request.rpc, rpc, "{input}");
        assert_eq!(call.deadline.since(story.now), Duration::from_secs(30), "{input}");
        let Head::Store(context) = &call.request.head else { panic!("{input}: no context") };
        assert_eq!(context.max_execution_ms, max_execution_ms, "{input}");
    }
}

/// raw.md §3, §3.1, §3.2: what is nothing to ask for is answered at once.
#[test]
fn nothing_is_sent_for_nothing() {
    for input in [
        "batch_get",
        "batch_put",
        "batch_delete",
        "scan a..c 0",
        "scan c..a 9",
        "rscan c..a 9",
        "batch_scan 0 a..c",
        "delete_range c..a",
        "checksum c..a",
    ] {
        let mut story = Story::new(Raw, ONE);
        let told = story.play(input);
        assert!(told.starts_with('=') && !told.contains("InvalidArgument"), "{input}: {told}");
        assert_eq!(told.lines().count(), 1, "{input}: {told}");
        assert!(story.core.is_idle(), "{input}");
    }
}

/// Has the region move until the operation gives up. The waits are 2, 4, … 256 and then 500 ms each,
/// so the time tells the budget: it ends with the first wait that reaches it.
fn spend(mode: KeyMode, input: &str) -> (Duration, String) {
    let mut story = Story::new(mode, ONE);
    let start = story.now;
    let mut told = story.play(input);
    loop {
        let request = last_request(&told).unwrap_or_else(|| panic!("{input}: {told}"));
        told = story.play(&format!("{request} key_not_in_region"));
        if told.starts_with("= ") {
            return (story.now.since(start), told);
        }
        told = story.play("wait");
    }
}

/// control-plane.md §3.4, raw.md §1: «raw ops 20 000» (not weighted here), «snapshot get / batch get /
/// scan next 20 000 W», «cleanup 20 000 W».
#[test]
fn every_operation_has_the_budget_of_its_row() {
    for (mode, input, budget) in [
        (Raw, "get b", 20),
        (Raw, "put b=1", 20),
        (Raw, "ttl b", 20),
        (Raw, "delete b", 20),
        (Raw, "cas b 1 2", 20),
        (Raw, "batch_get a b", 20),
        (Raw, "batch_put a=1 b=2", 20),
        (Raw, "batch_delete a b", 20),
        (Raw, "scan a..c 9", 20),
        (Raw, "rscan a..c 9", 20),
        (Raw, "checksum a..c", 20),
        (Raw, "delete_range a..c", 20),
        (Txn, "tget b @900.1", 40),
        (Txn, "tbatch_get @900.1 a b", 40),
        (Txn, "tscan a..c 9 @900.1", 40),
        (Txn, "rollback @900.1 a", 40),
    ] {
        let (spent, told) = spend(mode, input);
        let (budget, last) = (Duration::from_secs(budget), Duration::from_millis(500));
        assert!((budget..budget + last).contains(&spent), "{input}: {spent:?} {told}");
        assert!(told.starts_with("= RegionUnavailable"), "{input}: {told}");
    }
}

/// Plays on until nothing happens any more, or after 40 000 waits. Requests are answered as `answer`
/// says by what they are; gives when the operation ended, and when everything did.
fn play_out(
    story: &mut Story,
    input: &str,
    answer: impl Fn(&str) -> &'static str,
) -> (Option<Duration>, Duration) {
    let start = story.now;
    let (mut ended, mut last) = (None, Duration::ZERO);
    let mut told = story.play(input);
    for _ in 0..40_000 {
        if told.lines().any(|line| line.starts_with("= ")) {
            ended = ended.or(Some(story.now.since(start)));
        }
        let mut next = String::new();
        for line in told.lines().filter(|line| line.starts_with("> ")) {
            let number = line.split_whitespace().nth(1).expect("a number");
            if answer(line) != SILENCE {
                next += &story.play(&format!("{number} {}", answer(line)));
            }
        }
        told = if next.is_empty() { story.play("wait") } else { next };
        last = story.now.since(start);
        if told.contains("nothing to wait for") || (ended.is_some() && story.core.is_idle()) {
            break;
        }
    }
    (ended, last)
}

const MOVED: &str = "key_not_in_region";
const SILENCE: &str = "";

/// control-plane.md §3.4: «TSO fetch 15 000 W», «locate region 20 000 W», «async resolve 40 000 (no W)».
#[test]
fn every_question_on_the_way_has_the_budget_of_its_row() {
    type Row = (&'static str, &'static [&'static str], fn(&str) -> &'static str, u64);
    let rows: [Row; 6] = [
        ("tso", &["ready", "silence tso"], |_| "status 8 slow down", 30),
        (
            "get b",
            &["ready", "silence pd"],
            |line| if line.contains("Members") { "names 1" } else { "status 8 slow down" },
            40,
        ),
        (
            "locate_id 1",
            &["ready", "silence pd"],
            |line| if line.contains("Members") { "names 1" } else { "status 8 slow down" },
            40,
        ),
        (
            "regions a..z",
            &["ready", "silence pd"],
            |line| if line.contains("Members") { "names 1" } else { "status 8 slow down" },
            40,
        ),
        (
            "keys a z",
            &["ready", "silence pd"],
            |line| if line.contains("Scan") { "empty" } else { "unknown" },
            40,
        ),
        (
            "tget b @1000.1",
            &[],
            |line| if line.contains("KvGet") { "locked b p of @900.0" } else { MOVED },
            40,
        ),
    ];
    for (input, before, answer, budget) in rows {
        let mut story = Story::new(Txn, ONE);
        story.patience = Duration::from_secs(600);
        before.iter().for_each(|line| drop(story.play(line)));
        let (ended, _) = play_out(&mut story, input, answer);
        let (budget, last) = (Duration::from_secs(budget), Duration::from_secs(4));
        assert!((budget..budget + last).contains(&ended.unwrap()), "{input}: {ended:?}");
    }
}

/// control-plane.md §3.4: «prewrite / commit primary 40 000 W / 40 000 W», «commit secondaries 41 000 W»,
/// «cleanup 20 000 W». The secondaries wait no longer than the primary might have, and all in all no
/// longer than 82 s.
#[test]
fn every_step_of_a_commit_has_the_budget_of_its_row() {
    type Row = (&'static str, fn(&str) -> &'static str, u64, u64);
    let rows: [Row; 5] = [
        ("prewrite", |line| if line.contains("Prewrite") { MOVED } else { "ok" }, 80, 0),
        ("primary", |line| if line.contains("Commit") { MOVED } else { "ok" }, 80, 0),
        ("secondaries", |line| if line.contains("Commit z") { MOVED } else { "ok" }, 0, 80),
        (
            "secondaries, silent",
            |line| if line.contains("Commit z") { SILENCE } else { "ok" },
            0,
            82,
        ),
        (
            "cleanup",
            |line| {
                if line.contains("Prewrite a") {
                    "abort no"
                } else if line.contains("Rollback") {
                    MOVED
                } else {
                    "ok"
                }
            },
            0,
            40,
        ),
    ];
    for (row, answer, budget, after) in rows {
        let mut story = Story::new(Txn, "..k=1 k..=2");
        story.patience = Duration::from_secs(600);
        let (ended, last) = play_out(&mut story, "commit @900.1 a=1 z=2", answer);
        let (ended, over) = (ended.unwrap(), Duration::from_millis(600));
        let budget = Duration::from_secs(budget);
        assert!((budget..budget + over).contains(&ended), "{row}: {ended:?}");
        let after = Duration::from_secs(after);
        assert!((after..after + over).contains(&(last - ended)), "{row}: {last:?} {ended:?}");
    }
}

/// How many items each request of an operation carries.
fn shares(input: &str) -> Vec<usize> {
    let mut story = Story::new(Raw, ONE);
    let count = story.play(input).lines().filter(|line| line.starts_with("> ")).count();
    let share = |number: usize| {
        let request = &story.call(number as u32).request;
        match request.rpc {
            Rpc::RawBatchGet => {
                request.message::<kvrpcpb::RawBatchGetRequest>().expect("keys").keys.len()
            }
            Rpc::RawBatchDelete => {
                request.message::<kvrpcpb::RawBatchDeleteRequest>().expect("keys").keys.len()
            }
            Rpc::RawBatchPut => {
                request.message::<kvrpcpb::RawBatchPutRequest>().expect("pairs").pairs.len()
            }
            other => panic!("{other:?} is no batch"),
        }
    };
    (1..=count).map(share).collect()
}

/// raw.md §1, rawBatchPairCount and «a reimplementation may cut at exactly 512».
#[test]
fn a_batch_of_keys_is_cut_at_512() {
    for (keys, expected) in [
        (1, &[1][..]),
        (511, &[511]),
        (512, &[512]),
        (513, &[512, 1]),
        (1_024, &[512, 512]),
        (1_300, &[512, 512, 276]),
    ] {
        let words: Vec<String> = (0..keys).map(|key| format!("k{key:04}")).collect();
        for operation in ["batch_get", "batch_delete"] {
            let input = format!("{operation} {}", words.join(" "));
            assert_eq!(shares(&input), expected, "{operation} of {keys}");
        }
    }
}

/// raw.md §1, rawBatchPutSize: a batch is closed once it holds 16 KiB of keys and values; the last pair
/// may exceed it, and no pair is split. Sizes of pairs, the key of one byte included.
#[test]
fn a_batch_of_pairs_is_closed_at_16_kib() {
    for (sizes, expected) in [
        (&[2, 2, 2][..], &[3][..]),
        (&[16_384, 2], &[1, 1]),
        (&[16_383, 2, 2], &[2, 1]),
        (&[16_382, 2, 2], &[2, 1]),
        (&[16_381, 2, 2], &[3]),
        (&[2, 40_000, 2], &[2, 1]),
        (&[40_000, 40_000], &[1, 1]),
    ] {
        let pair = |(at, size): (usize, &usize)| {
            format!("{}={}", char::from(b'a' + at as u8), "v".repeat(size - 1))
        };
        let words: Vec<String> = sizes.iter().enumerate().map(pair).collect();
        assert_eq!(shares(&format!("batch_put {}", words.join(" "))), expected, "{sizes:?}");
    }
}

/// Small batches are no matter of the number of pairs.
#[test]
fn pairs_are_not_counted() {
    let words: Vec<String> = (0..600).map(|key| format!("k{key:04}=v")).collect();
    assert_eq!(shares(&format!("batch_put {}", words.join(" "))), [600]);
}
