//! Tests that seeds pass, and that mutants are noticed.

use driftline_sim::{Mutant, Options, Trace, run, run_without, shrink};

/// Far fewer than in a run of `make sim`, but enough that each mutant is noticed.
const SEEDS: u64 = 300;

fn options(seed: u64, mutant: Option<Mutant>) -> Options {
    Options { seed, mutant, trace: Trace::Off }
}

#[test]
fn seeds_hold() {
    for seed in 1..=40 {
        let report = run(options(seed, None));
        assert_eq!(report.violation, None, "make sim SEED={seed}");
        assert!(report.effects > 0);
    }
}

#[test]
fn a_seed_decides_everything() {
    let outcome = |seed| {
        let report = run(Options { seed, mutant: None, trace: Trace::On });
        (report.hits, report.effects, report.outputs, report.trace)
    };
    assert_eq!(outcome(5), outcome(5));
    assert_ne!(outcome(5), outcome(6));
}

#[test]
fn every_mutant_is_noticed() {
    for mutant in Mutant::ALL {
        let noticed = (1..=SEEDS).find(|seed| run(options(*seed, Some(mutant))).violation.is_some());
        assert!(noticed.is_some(), "{} was not noticed in {SEEDS} seeds", mutant.name());
    }
}

/// Runs for shrinking one plan.
const SHRINK_RUNS: usize = 60;

#[test]
fn a_plan_that_fails_is_made_smaller_and_still_fails() {
    // Both mutants need faults to be noticed, so not all faults can be left out.
    for mutant in [Mutant::NoFencing, Mutant::TornRestoreAccepted] {
        let seed = (1..=SEEDS).find(|seed| run(options(*seed, Some(mutant))).violation.is_some()).unwrap();
        let whole = run(options(seed, Some(mutant)));
        let shrunk = shrink(options(seed, Some(mutant)), SHRINK_RUNS).unwrap();
        let (before, after) = (whole.faults.len(), shrunk.report.faults.len());
        assert_eq!(shrunk.faults_before, before);
        assert!((1..before).contains(&after), "{}: {after} of {before}", mutant.name());
        let again = run_without(options(seed, Some(mutant)), &shrunk.left_out);
        let check = |violation: &Option<driftline_sim::Violation>| violation.as_ref().map(|violation| violation.check);
        assert_eq!(check(&again.violation), check(&whole.violation));
        assert_eq!((again.violation, again.faults), (shrunk.report.violation, shrunk.report.faults));
        assert!(shrunk.runs <= SHRINK_RUNS);
        assert!(shrink(options(seed, None), SHRINK_RUNS).is_none(), "without the mutant nothing is wrong");
    }
}
