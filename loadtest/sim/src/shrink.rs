//! Makes a plan that fails smaller: faults are left out while the same rule is still broken.
//!
//! A fault is known by its number in the run: how many could have come before it. A run without some of them draws the same
//! as the run with them up to the first that is left out. How much is tried is bounded in runs, not in time, so that a seed
//! always shrinks to the same.

use std::collections::BTreeSet;

use crate::run::{Options, Report, run, run_without};

/// A plan that fails, and what is left of it.
#[derive(Debug)]
pub struct Shrunk {
    /// How many faults the whole plan had when it failed.
    pub faults_before: usize,
    /// Numbers of the faults that are left out.
    pub left_out: BTreeSet<u64>,
    /// The run without them; it breaks the same rule.
    pub report: Report,
    /// How many runs were tried.
    pub runs: usize,
}

/// Shrinks what a seed leads to in at most so many runs; `None` when nothing is wrong with it.
#[must_use]
pub fn shrink(options: Options, runs_max: usize) -> Option<Shrunk> {
    let report = run(options);
    let check = report.violation.as_ref()?.check;
    let mut best = Shrunk { faults_before: report.faults.len(), left_out: BTreeSet::new(), report, runs: 0 };
    // All at once, then halves, quarters and so on; single faults as often as that leaves out one more.
    let mut width = best.report.fault_numbers.max(1);
    loop {
        let before = best.report.faults.len();
        let mut from = 0;
        while from < best.report.fault_numbers {
            if best.runs >= runs_max {
                return Some(best);
            }
            let to = from.saturating_add(width);
            best.try_without(options, check, from..to);
            from = to;
        }
        match width {
            1 if best.report.faults.len() == before => return Some(best),
            _ => width = width.div_ceil(2).max(1),
        }
    }
}

impl Shrunk {
    /// Leaves out these too, if the same rule is then still broken, with fewer faults.
    fn try_without(&mut self, options: Options, check: &str, numbers: std::ops::Range<u64>) {
        let mut left_out = self.left_out.clone();
        left_out.extend(numbers);
        if left_out == self.left_out {
            return;
        }
        self.runs += 1;
        let report = run_without(options, &left_out);
        let is_same = report.violation.as_ref().is_some_and(|violation| violation.check == check);
        if is_same && report.faults.len() < self.report.faults.len() {
            (self.left_out, self.report) = (left_out, report);
        }
    }
}
