//! Seeds hold, and mutants are noticed.

use driftline_sim::{Mutant, Options, Trace, run};

/// Far fewer than a run of `make sim`; enough that each mutant is noticed.
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
