//! `driftline-sim`: runs seeds. Prints each failing seed with the command to run it again, and how often each fault was
//! hit.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use clap::Parser;
use driftline_sim::{Fault, Hits, Mutant, Options, Report, Shrunk, Trace, run, shrink};

/// A run of this many seeds must hit every fault [`HITS_MIN`] times.
const SEEDS_FOR_HITS: u64 = 2_000;
const HITS_MIN: u64 = 50;
/// Runs in which a failing plan is made smaller: at a tenth of a second each, less than a minute.
const SHRINK_RUNS_MAX: usize = 300;
/// Seeds that once failed; see the file.
const FAILED_SEEDS: &str = include_str!("../seeds.txt");

/// Runs the production cores and their executor in virtual time over topics in memory, with seeded faults.
///
/// Runs the seeds that found something once (loadtest/sim/seeds.txt), then its range; with a mutant the range only.
///
/// Exits 1 when a rule is broken or, after 2,000 seeds or more, when a kind of fault was hit fewer than 50 times; with a
/// mutant it exits 1 when nothing noticed it.
#[derive(Debug, Parser)]
#[command(name = "driftline-sim", version)]
struct Arguments {
    /// How many seeds to run, beside those that failed once
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this one only
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Leave out the seeds that failed once, for example when a range is run in parts
    #[arg(long)]
    skip_failed: bool,
    /// File of the seeds that failed once, instead of the built-in list; one that fails now is appended
    #[arg(long, value_name = "FILE")]
    failed_seeds: Option<PathBuf>,
    /// Show the last steps before what went wrong
    #[arg(long)]
    verbose: bool,
    /// Plant a mutant, and expect it to be noticed; `all` plants one after the other
    #[arg(long, value_name = "MUTANT")]
    plant: Option<String>,
    /// List the mutants that can be planted
    #[arg(long)]
    list_mutants: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

/// The seeds of a run, in their order.
#[derive(Debug)]
struct Seeds {
    failed: Vec<u64>,
    from: u64,
    count: u64,
}

impl Seeds {
    fn of(arguments: &Arguments, mutant: Option<Mutant>) -> Self {
        let (from, count) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
        let skipped = arguments.seed.is_some() || arguments.skip_failed || mutant.is_some();
        let text = arguments.failed_seeds.as_deref().and_then(|file| std::fs::read_to_string(file).ok());
        let listed = || failed_seeds(text.as_deref().unwrap_or(FAILED_SEEDS)).collect();
        Self { failed: if skipped { Vec::new() } else { listed() }, from, count }
    }

    fn len(&self) -> u64 {
        self.count.saturating_add(self.failed.len() as u64)
    }

    /// The seed at an index.
    fn at(&self, index: u64) -> u64 {
        let failed = usize::try_from(index).ok().and_then(|index| self.failed.get(index));
        failed.copied().unwrap_or_else(|| self.from.saturating_add(index).saturating_sub(self.failed.len() as u64))
    }
}

/// The seeds that such a file lists; a test checks that every line of the committed file can be parsed.
fn failed_seeds(text: &str) -> impl Iterator<Item = u64> {
    failed_lines(text).filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

fn failed_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

/// The file with one more seed; `None` when the seed is in it already.
fn with_seed(text: &str, seed: u64, violation: &str) -> Option<String> {
    let is_new = failed_seeds(text).all(|listed| listed != seed);
    let what = violation.lines().next().unwrap_or_default();
    is_new.then(|| format!("{text}{}{seed} {what}\n", if text.is_empty() || text.ends_with('\n') { "" } else { "\n" }))
}

/// Appends a failing seed, once.
fn append_failed(file: &Path, seed: u64, violation: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    with_seed(&text, seed, violation).map_or(Ok(()), |text| std::fs::write(file, text))
}

/// The totals of all seeds.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    hits: Hits,
    effects: u64,
    execs: u64,
    exact: u64,
    findings: u64,
    alerts: u64,
    /// The first failure.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    /// Its index among the seeds of the run.
    index: u64,
    seed: u64,
    report: Report,
}

impl Total {
    fn add(&mut self, index: u64, seed: u64, mut report: Report) {
        self.seeds += 1;
        for (fault, count) in std::mem::take(&mut report.hits) {
            *self.hits.entry(fault).or_default() += count;
        }
        self.effects += report.effects;
        self.execs += report.execs.0;
        self.exact += report.execs.1;
        self.findings += report.outputs.0;
        self.alerts += report.outputs.1;
        if report.violation.is_some() && self.failed.as_ref().is_none_or(|failed| index < failed.index) {
            self.failed = Some(Failed { index, seed, report });
        }
    }

    fn hits_of(&self, fault: Fault) -> u64 {
        self.hits.get(&fault).copied().unwrap_or(0)
    }

    /// Kinds of faults that a run of this length should have hit more often.
    fn too_seldom(&self) -> Vec<Fault> {
        let seldom = |fault: &Fault| self.seeds >= SEEDS_FOR_HITS && self.hits_of(*fault) < HITS_MIN;
        Fault::ALL.into_iter().filter(seldom).collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_mutants {
        Mutant::ALL.iter().for_each(|mutant| anstream::println!("{}", mutant.name()));
        return ExitCode::SUCCESS;
    }
    let succeeded = match arguments.plant.as_deref() {
        None => simulate(&arguments),
        Some("all") => Mutant::ALL.map(|mutant| notice(&arguments, mutant)).into_iter().all(|noticed| noticed),
        Some(name) => match Mutant::from_name(name) {
            Some(mutant) => notice(&arguments, mutant),
            None => {
                anstream::eprintln!("no mutant is called {name:?}; --list-mutants shows them");
                return ExitCode::from(2);
            }
        },
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the seeds; stops at the first failure.
fn all(arguments: &Arguments, mutant: Option<Mutant>) -> Total {
    let seeds = Seeds::of(arguments, mutant);
    let count = seeds.len();
    let trace = if arguments.verbose && mutant.is_none() { Trace::On } else { Trace::Off };
    let next = AtomicU64::new(0);
    let end = AtomicU64::new(count);
    let (sender, reports) = mpsc::channel();
    let mut total = Total::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.clamp(1, count.max(1)) {
            let (sender, next, end, seeds) = (sender.clone(), &next, &end, &seeds);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::AcqRel);
                    if index >= end.load(Ordering::Acquire) {
                        break;
                    }
                    let seed = seeds.at(index);
                    let report = run(Options { seed, mutant, trace });
                    if report.violation.is_some() {
                        // Earlier seeds that still run are completed, so that the outcome does not depend on threads.
                        end.fetch_min(index, Ordering::AcqRel);
                    }
                    if sender.send((index, seed, report)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, seed, report) in reports {
            total.add(index, seed, report);
            progress(arguments, total.seeds, count);
        }
    });
    total
}

/// Prints the progress, on a terminal.
fn progress(arguments: &Arguments, done: u64, of: u64) {
    let mut out = std::io::stderr();
    if !arguments.json && out.is_terminal() && (done.is_multiple_of(50) || done == of) {
        let _ = write!(out, "\r{done} of {of} seeds");
        let _ = if done == of { writeln!(out) } else { out.flush() };
    }
}

/// Runs the simulation; returns whether every check passed.
fn simulate(arguments: &Arguments) -> bool {
    let total = all(arguments, None);
    let seldom = total.too_seldom();
    if arguments.json {
        print_json(&total);
    } else {
        print_table(&total);
    }
    for fault in &seldom {
        anstream::eprintln!(
            "{} was hit {} times only; a run this long must hit it {HITS_MIN} times",
            fault.name(),
            total.hits_of(*fault)
        );
    }
    if let Some(Failed { seed, report, .. }) = &total.failed
        && let Some(violation) = &report.violation
    {
        show_failure(arguments, *seed, None);
        anstream::eprintln!("seed {seed}: {violation}\nmake sim SEED={seed}");
        if let Some(file) = &arguments.failed_seeds
            && let Err(error) = append_failed(file, *seed, &violation.to_string())
        {
            anstream::eprintln!("the seed is not in {}: {error}", file.display());
        }
    }
    total.failed.is_none() && seldom.is_empty()
}

/// Prints the shrunk plan of a failing seed: its faults, and the last steps if requested.
fn show_failure(arguments: &Arguments, seed: u64, mutant: Option<Mutant>) {
    let trace = if arguments.verbose { Trace::On } else { Trace::Off };
    let Some(Shrunk { faults_before, report, runs, .. }) = shrink(Options { seed, mutant, trace }, SHRINK_RUNS_MAX)
    else {
        return;
    };
    report.trace.iter().for_each(|step| anstream::eprintln!("{step}"));
    anstream::eprintln!("seed {seed}: {} of {faults_before} faults suffice, found in {runs} runs", report.faults.len());
    for (after, what) in &report.faults {
        anstream::eprintln!("    {:>9.3} s  {what}", after.as_secs_f64());
    }
    if let Some(violation) = &report.violation {
        anstream::eprintln!("with these: {violation}");
    }
}

fn print_table(total: &Total) {
    let width = Fault::ALL.iter().map(|fault| fault.name().len()).max().unwrap_or(0);
    anstream::println!("{:width$}  {:>9}", "FAULT", "HITS");
    for fault in Fault::ALL {
        anstream::println!("{:width$}  {:>9}", fault.name(), total.hits_of(fault));
    }
    let Total { seeds, effects, execs, exact, findings, alerts, .. } = total;
    anstream::println!(
        "\n{seeds} seeds: {execs} execs ({exact} compared exactly), {findings} findings, {alerts} alert revisions, {effects} moments at which a fault could come"
    );
}

fn print_json(total: &Total) {
    let hits: BTreeMap<&str, u64> = Fault::ALL.into_iter().map(|fault| (fault.name(), total.hits_of(fault))).collect();
    let failed = total.failed.as_ref().map(|Failed { seed, report, .. }| {
        let violation = report.violation.as_ref().map(ToString::to_string);
        serde_json::json!({ "seed": seed, "violation": violation, "trace": report.trace })
    });
    let json = serde_json::json!({
        "seeds": total.seeds, "execs": total.execs, "execs_compared_exactly": total.exact, "findings": total.findings,
        "alert_revisions": total.alerts, "effects": total.effects, "hits": hits, "failed": failed,
    });
    anstream::println!("{json:#}");
}

/// Whether a mutant was noticed.
fn notice(arguments: &Arguments, mutant: Mutant) -> bool {
    let total = all(arguments, Some(mutant));
    match total.failed.as_ref().and_then(|failed| Some((failed.index, failed.report.violation.as_ref()?))) {
        Some((index, violation)) => {
            let after = index.saturating_add(1);
            anstream::println!("{:31} noticed after {after:>4} seeds by {}", mutant.name(), violation.check);
            if arguments.verbose {
                anstream::println!("    {}", violation.what);
                if let Some(Failed { seed, .. }) = &total.failed {
                    show_failure(arguments, *seed, Some(mutant));
                }
            }
            true
        }
        None => {
            anstream::println!("{:31} NOT noticed in {} seeds", mutant.name(), total.seeds);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Arguments, FAILED_SEEDS, Mutant, Seeds, failed_lines, failed_seeds, with_seed};

    #[test]
    fn every_line_of_the_file_is_a_seed() {
        assert_eq!(failed_seeds(FAILED_SEEDS).count(), failed_lines(FAILED_SEEDS).count());
        assert!(failed_seeds(FAILED_SEEDS).count() > 0);
    }

    #[test]
    fn a_seed_that_failed_is_appended_once() {
        let text = with_seed("# failed once\n7 what", 9, "check: what\nmore").unwrap();
        assert_eq!(text, "# failed once\n7 what\n9 check: what\n");
        assert_eq!((with_seed(&text, 9, "again"), with_seed(&text, 7, "again")), (None, None));
    }

    #[test]
    fn failed_seeds_come_before_the_range_and_not_with_a_mutant() {
        let arguments = Arguments::parse_from(["driftline-sim", "--from", "500", "--seeds", "2"]);
        let seeds = Seeds::of(&arguments, None);
        let all: Vec<u64> = (0..seeds.len()).map(|index| seeds.at(index)).collect();
        assert_eq!(all, failed_seeds(FAILED_SEEDS).chain([500, 501]).collect::<Vec<_>>());
        let planted = Seeds::of(&arguments, Some(Mutant::NoFencing));
        assert_eq!((planted.len(), planted.at(0)), (2, 500));
    }
}
