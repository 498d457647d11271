//! Shrinks a failing plan: faults are left out as long as the same rule is still broken.
//!
//! A fault is identified by its number in the run: the number of possible faults before it. A run without some faults
//! makes the same draws as the run with them up to the first that is left out. The number of attempts is bounded in
//! runs, not in time, so that a seed always shrinks to the same plan.

use std::collections::BTreeSet;

use crate::run::{Options, Report, run, run_without};

/// A failing plan after shrinking.
#[derive(Debug)]
pub struct Shrunk {
    /// Number of faults in the whole plan when it failed.
    pub faults_before: usize,
    /// Numbers of the faults that are left out.
    pub left_out: BTreeSet<u64>,
    /// The run without them; it breaks the same rule.
    pub report: Report,
    /// Number of attempts.
    pub runs: usize,
}

/// Shrinks the plan of a seed with at most so many runs; `None` when the seed does not fail.
#[must_use]
pub fn shrink(options: Options, runs_max: usize) -> Option<Shrunk> {
    let report = run(options);
    let check = report.violation.as_ref()?.check;
    let mut best = Shrunk { faults_before: report.faults.len(), left_out: BTreeSet::new(), report, runs: 0 };
    // First all faults at once, then halves, quarters and so on; single faults as often as that leaves out one more.
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
    /// Leaves out these faults too, if the same rule is then still broken, with fewer faults.
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
