//! Random operations among random troubles, against a model that fits in a few lines.
//!
//! The real core talks to the embedded cluster over a network in virtual time (`anatase_tests::world`),
//! so that ten thousand cases, each with its elections, lost answers and minutes of waiting, take a
//! minute of real time. What fails, fails again: the cases are drawn from a seed that is printed, and
//! quickcheck shrinks and prints the case itself.
//!
//! ```text
//! ANATASE_MODEL_SEED=7 ANATASE_MODEL_CASES=100000 cargo test -p anatase-tests --test model
//! ```

mod raw;
mod recovery;
mod txn;
mod waiting;

use std::env;
use std::fmt::Display;
use std::str::FromStr;

use anatase_cluster::{Cluster, ClusterConfig};
use anatase_core::{Config, ErrorKind, KeyMode};
use anatase_tests::Dice;
use anatase_tests::trouble::KEYS;
use anatase_tests::world::pd_endpoints;
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// Plays `cases` cases of `property`, or as many as the environment asks for.
fn check<C: Arbitrary + std::fmt::Debug>(property: fn(C) -> bool, size: usize, cases: u64) {
    let seed = from_env("ANATASE_MODEL_SEED", 20_260_101);
    let cases = from_env("ANATASE_MODEL_CASES", cases);
    let told = Told(format!("ANATASE_MODEL_SEED={seed} ANATASE_MODEL_CASES={cases}"));
    QuickCheck::new()
        .rng(Gen::from_size_and_seed(size, seed))
        .tests(cases)
        .max_tests(cases)
        .quickcheck(property);
    drop(told);
}

fn from_env<T: FromStr<Err: Display>>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

/// Says how to see a failure again.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "for whoever reads the failure")]
            {
                eprintln!("to see it again: {} cargo test -p anatase-tests --test model", self.0);
            }
        }
    }
}

/// A cluster of four stores with three replicas of each region, and one or three members of PD.
fn cluster(mode: KeyMode, dice: &mut Dice) -> Cluster {
    let mut config = ClusterConfig::default().stores(4).pd_members(1 + 2 * dice.below(2) as usize);
    for key in KEYS {
        if dice.chance(1, 6) && mode == KeyMode::Raw {
            config = config.split_keys_raw([key]);
        }
        if dice.chance(1, 8) {
            config = config.split_keys([key]);
        }
    }
    config.right_derive(dice.chance(1, 2)).build()
}

/// Small sizes, so that a few keys make several batches and pages.
fn config(mode: KeyMode, cluster: &Cluster, dice: &mut Dice) -> Config {
    let mut config = Config::new(pd_endpoints(cluster), mode);
    config.raw_batch_keys = [1, 2, 512][dice.below(3) as usize];
    config.raw_batch_put_size = [1, 8, 16 << 10][dice.below(3) as usize];
    config.txn_batch_size = [1, 8, 16 << 10][dice.below(3) as usize];
    config.batch_get_keys = [1, 3, 5_120][dice.below(3) as usize];
    config.scan_batch_size = [1, 2, 256][dice.below(3) as usize];
    config.max_batches = [1, 2, 128][dice.below(3) as usize];
    config.max_region_loads = [1, 64][dice.below(2) as usize];
    config.resolve_lite_threshold = [1, 512][dice.below(2) as usize];
    config.fate_cache_size = [0, 1, 2_048][dice.below(3) as usize];
    let attempt = std::time::Duration::from_millis([400, 3_000, 30_000][dice.below(3) as usize]);
    config.attempt_timeout = attempt;
    config.scan_attempt_timeout = attempt;
    config
}

/// Whether an operation may end so among troubles. What is left out would be a lie about the request
/// or about the protocol.
fn excusable(kind: &ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::InvalidArgument | ErrorKind::Protocol | ErrorKind::Closed | ErrorKind::Cancelled
    )
}
