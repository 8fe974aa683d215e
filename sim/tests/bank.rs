//! A bank under everything that can go wrong: money is neither made nor lost.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use anatase_client::ResolveLocksOptions;
use anatase_sim::{Profile, Seeded, Sim, Stats};
use support::{Tally, audit, bank, config};

/// Lets it all happen, heals, drains, sweeps, and audits.
fn run(seed: u64, profile: Profile) -> (u64, Stats, std::sync::Arc<Tally>) {
    let (mut sim, tally) = bank(config(seed, profile.clone()), 3, 12);
    sim.run_for(Duration::from_secs(20)).expect("time goes on");
    sim.heal();
    let left = sim.drain(Duration::from_secs(180)).expect("time goes on");
    assert!(left.is_quiet(), "seed {seed}: {left:#?}");
    if profile == Profile::calm() {
        assert!(left.is_empty(), "seed {seed}: {left:#?}");
    }
    sweep(&mut sim, seed);
    (sim.digest(), sim.stats(), tally)
}

/// A fresh client reads everything, and puts an end to whatever is locked still: pessimistic locks of
/// the dead are in no reader's way.
fn sweep(sim: &mut Sim, seed: u64) {
    let janitor = sim.client("janitor");
    let swept = janitor.spawn({
        let janitor = janitor.clone();
        async move {
            let bank = janitor.transactions().await?;
            let now = bank.current_timestamp().await?;
            audit(bank.snapshot(now)).await?;
            bank.cleanup_locks(.., now, ResolveLocksOptions::default()).await?;
            audit(bank.snapshot(bank.current_timestamp().await?)).await?;
            bank.close().await;
            Ok::<_, anatase_client::Error>(())
        }
    });
    let swept = sim.run_until(swept).expect("it comes to its end").expect("nobody crashes now");
    assert!(swept.is_ok(), "seed {seed}: {swept:?}");
    // Locks are resolved in the background, too.
    let left = sim.drain(Duration::from_secs(60)).expect("time goes on");
    assert!(left.is_empty(), "seed {seed}: {left:#?}");
}

#[test]
fn a_calm_bank_keeps_its_total() {
    let (digest, stats, tally) = run(1, Profile::calm());
    assert_eq!(run(1, Profile::calm()).0, digest);
    assert!(tally.committed.load(Ordering::Relaxed) > 10, "{tally:?}");
    assert_eq!((stats.resets, stats.zombies, stats.faults), (0, 0, 0), "{stats:?}");
}

/// Everything on in half of the seeds, swarms in the others.
#[test]
fn a_bank_keeps_its_total_whatever_goes_wrong() {
    let mut sums = [0_u64; 9];
    for seed in 0..200 {
        let profile = match seed % 2 {
            0 => Profile::rough(),
            _ => Profile::swarm(&mut Seeded::new(seed)),
        };
        let (digest, _, tally) = run(seed, profile.clone());
        assert_eq!(run(seed, profile).0, digest, "seed {seed} went another way");
        let now = [
            &tally.committed,
            &tally.by_two_phase,
            &tally.by_async,
            &tally.by_one_phase,
            &tally.aborted,
            &tally.undetermined,
            &tally.failed,
            &tally.audits,
            &tally.cancelled,
        ];
        sums.iter_mut().zip(now).for_each(|(sum, n)| *sum += n.load(Ordering::Relaxed));
    }
    // Each of the ways in which it can end was taken, most often the good one.
    let [
        committed,
        two_phase,
        by_async,
        one_phase,
        aborted,
        undetermined,
        failed,
        audits,
        cancelled,
    ] = sums;
    assert!(committed > 2_000 && audits > 200, "{sums:?}");
    assert!(two_phase > 200 && by_async > 200 && one_phase > 100, "{sums:?}");
    assert!(aborted > 20 && failed > 20 && cancelled > 5 && undetermined > 0, "{sums:?}");
}
