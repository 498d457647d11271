//! Seeds hold, and bugs that are planted on purpose are noticed.

use driftline_sim::{Options, Plant, Trace, run};

/// Far fewer than a run of `make sim`; enough that each planted bug is noticed.
const SEEDS: u64 = 300;

fn options(seed: u64, plant: Option<Plant>) -> Options {
    Options { seed, plant, trace: Trace::Off }
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
        let report = run(Options { seed, plant: None, trace: Trace::On });
        (report.hits, report.effects, report.outputs, report.trace)
    };
    assert_eq!(outcome(5), outcome(5));
    assert_ne!(outcome(5), outcome(6));
}

#[test]
fn every_planted_bug_is_caught() {
    for plant in Plant::ALL {
        let caught = (1..=SEEDS).find(|seed| run(options(*seed, Some(plant))).violation.is_some());
        assert!(caught.is_some(), "{} was not noticed in {SEEDS} seeds", plant.name());
    }
}
