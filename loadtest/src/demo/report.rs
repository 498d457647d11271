//! The output of the demo. `driftline alerts show` prints the alert itself, as for a user.

use anstyle::{AnsiColor, Style};
use std::path::Path;

use crate::collect::Collected;
use crate::expected::Expected;

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Whether event times are of this run, so that latencies are meaningful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Programs ran just now.
    Live,
    /// Programs ran when the recording was made.
    Replayed,
}

/// Prints the present step.
pub(super) fn step(what: &str) {
    anstream::println!("{BOLD}==>{BOLD:#} {what}");
}

/// Lists the findings, and how long each alert revision took.
pub(super) fn findings(collected: &Collected, timing: Timing) {
    step(&format!("{} findings", collected.newest_findings().len()));
    for finding in collected.newest_findings() {
        let path = finding.subject.as_ref().map_or("-", |subject| &subject.path);
        anstream::println!("    {:<13}  {:<13}  {path}", finding.severity.title(), finding.origin.as_str());
    }
    step(&format!("{} alert revisions", collected.alerts.len()));
    let mut latencies = Vec::new();
    for (alert, read_ns) in &collected.alerts {
        let took_ms = (read_ns - alert.last_seen_ns) / 1_000_000;
        let timed = timing == Timing::Live && !alert.r#final;
        let note = if timed { format!("readable {took_ms} ms after the exec") } else { String::new() };
        let last = if alert.r#final { " final" } else { "" };
        anstream::println!(
            "    revision {}{last:<6}  {:<13}  score {:>3}  findings {}  {note}",
            alert.revision,
            alert.severity.title(),
            alert.score,
            alert.finding_count,
        );
        if timed {
            latencies.push(took_ms);
        }
    }
    latencies.sort_unstable();
    if let Some(median) = latencies.get(latencies.len() / 2) {
        step(&format!("from exec to alert readable on the topic: median {median} ms of {} revisions", latencies.len()));
    }
}

/// Prints whether the result was as expected.
pub(super) fn verdict(expected: &Expected, differences: &[String], out: &Path) {
    step(&format!("raw JSON: {}/{{findings,alerts,alerts.ocsf}}.jsonl", out.display()));
    if differences.is_empty() {
        anstream::println!(
            "{GOOD}ok{GOOD:#}: {} programs found, each with path, arguments, digest, image and pod; {} runs of the image's own stayed silent",
            expected.drifts.len(),
            expected.silent_program.1,
        );
        return;
    }
    anstream::println!("{BAD}not as expected{BAD:#}:");
    for difference in differences {
        anstream::println!("    {difference}");
    }
}
