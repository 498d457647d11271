//! The score of a session: one table, each row documented, each row that applied shown in the alert.

use driftline_schemas::correlator_state::ExecFacts;
use driftline_schemas::{
    ADDED_BINARY, ADDED_SCRIPT, CONTAINER_THROTTLED, Container, Contribution, Severity, Sha256, UNPROVEN_PROGRAM,
};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::finding::{Label, SessionFinding};
use crate::limits::STARTUP_NS;
use crate::window::Span;

/// The most points that lowering rows may subtract together.
pub(crate) const LOWERING_MAX: i32 = 15;

/// Base from which nothing is lowered: a base that is High by itself stays High.
pub(crate) const LOWERING_BASE_MAX: i32 = 70;

/// The row that keeps the score at the alert threshold, when only lowering rows take it below and a program ran which the
/// image is proven not to contain.
const PROVEN_FOREIGN: &str = "proven_foreign";

/// The input of the rows: the active findings of a session taken together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub labels: BTreeSet<Arc<Label>>,
    pub exec: ExecFacts,
    pub events: Option<Span>,
    /// Whether a finding proves that a program ran which the image does not contain.
    pub proven_foreign: bool,
    pub container: ContainerFacts,
}

/// The fields of the container's record that the rows use.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerFacts {
    pub privileged: bool,
    pub host_namespaces: Vec<String>,
    pub started_ns: Option<i64>,
}

impl Facts {
    /// Adds one finding.
    pub(crate) fn take(&mut self, finding: &SessionFinding) {
        self.labels.insert(finding.label.clone());
        self.take_without_label(finding);
    }

    /// Adds a finding without its label, for when the list of labels is full.
    pub(crate) fn take_without_label(&mut self, finding: &SessionFinding) {
        self.exec = ExecFacts {
            deleted: self.exec.deleted || finding.facts.deleted,
            entered: self.exec.entered || finding.facts.entered,
            interactive: self.exec.interactive || finding.facts.interactive,
            container_root: self.exec.container_root || finding.facts.container_root,
        };
        self.proven_foreign |= finding.is_proven_foreign();
        let at = Span::at(finding.event_time_ns);
        self.events = Some(self.events.unwrap_or(at).with(finding.event_time_ns));
    }

    /// Whether every way of entry of a finding is among the facts.
    pub(crate) fn has_entries_of(&self, finding: &SessionFinding) -> bool {
        (self.exec.entered || !finding.facts.entered) && (self.exec.interactive || !finding.facts.interactive)
    }

    pub(crate) fn strongest(&self) -> Option<Severity> {
        self.labels.iter().map(|label| label.severity).max()
    }

    pub(crate) fn categories(&self) -> BTreeSet<&str> {
        self.labels.iter().map(|label| label.category.as_str()).collect()
    }

    /// Categories that count. Context findings describe what happened around a finding and have rows of their own. That
    /// something is unproven supports no other finding. A program that is executed and one that an interpreter is given are
    /// the same to the detector, which may see both of one script (`#!/usr/bin/env python3`).
    fn weighty_categories(&self) -> BTreeSet<&str> {
        let is_weighty =
            |label: &&Arc<Label>| label.severity > Severity::Informational && label.category != UNPROVEN_PROGRAM;
        let categories = self.labels.iter().filter(is_weighty).map(|label| label.category.as_str());
        categories.map(|category| if category == ADDED_SCRIPT { ADDED_BINARY } else { category }).collect()
    }
}

impl ContainerFacts {
    pub(crate) fn of(container: Option<&Container>) -> Self {
        container.map_or_else(Self::default, |container| Self {
            privileged: container.privileged,
            host_namespaces: container.host_namespaces.clone(),
            started_ns: (container.started_ns != 0).then_some(container.started_ns),
        })
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct ScoreRow {
    /// Name, as shown in alerts.
    pub name: &'static str,
    /// Points; lowering rows are negative.
    pub points: i32,
    /// When it applies and why it has a weight.
    pub doc: &'static str,
    /// Returns the reason why the row applies, or `None`.
    why: fn(&Facts) -> Option<String>,
}

/// Number of rows at the head of [`ROWS`] that are bases, of which exactly one applies.
const BASES: usize = 5;

/// The table: bases, then raising rows, then lowering rows. Three more rows appear in alerts so that the points shown add
/// up to the score: `lowering_limit` adds the points that lowering rows subtracted beyond [`LOWERING_MAX`],
/// [`PROVEN_FOREIGN`] those that they subtracted below the alert threshold, `clamp` limits the sum to 0 to 100.
pub const ROWS: [ScoreRow; 13] = [
    ScoreRow {
        name: "base_informational",
        points: 0,
        doc: "The strongest finding is Informational: context, never an alert by itself.",
        why: |facts| base(facts, Severity::Informational),
    },
    ScoreRow {
        name: "base_low",
        points: 20,
        doc: "The strongest finding is Low.",
        why: |facts| base(facts, Severity::Low),
    },
    ScoreRow {
        name: "base_medium",
        points: 45,
        doc: "The strongest finding is Medium.",
        why: |facts| base(facts, Severity::Medium),
    },
    ScoreRow {
        name: "base_high",
        points: 70,
        doc: "The strongest finding is High.",
        why: |facts| base(facts, Severity::High),
    },
    ScoreRow {
        name: "base_critical",
        points: 90,
        doc: "The strongest finding is Critical.",
        why: |facts| base(facts, Severity::Critical),
    },
    ScoreRow {
        name: "second_category",
        points: 15,
        doc: "Findings of a second category, not counting Informational ones: different detectors agree.",
        why: |facts| nth_category(facts, 1),
    },
    ScoreRow {
        name: "third_category",
        points: 15,
        doc: "Findings of a third category.",
        why: |facts| nth_category(facts, 2),
    },
    ScoreRow {
        name: "file_deleted",
        points: 15,
        doc: "An executed file was deleted by the time it ran: somebody removed the trace.",
        why: |facts| facts.exec.deleted.then(|| "an executed file had no name left".to_owned()),
    },
    ScoreRow {
        name: "interactive_entry",
        points: 10,
        doc: "A program was started from outside the container with a terminal: somebody is at the keyboard.",
        why: |facts| facts.exec.interactive.then(|| "entered from outside with a terminal".to_owned()),
    },
    ScoreRow {
        name: "host_access",
        points: 10,
        doc: "The container is privileged or shares namespaces with its host: what runs in it can reach the node.",
        why: host_access,
    },
    ScoreRow {
        name: "container_throttled",
        points: 10,
        doc: "Execs of the container were left out because it made too many: what it ran meanwhile is not known whole.",
        why: throttled,
    },
    ScoreRow {
        name: "container_root",
        points: 5,
        doc: "A program ran as root of its container.",
        why: |facts| facts.exec.container_root.then(|| "ran as root of the container".to_owned()),
    },
    ScoreRow {
        name: "container_startup",
        points: -10,
        doc: "Everything happened within 30 seconds of the container's start and nothing came from outside: an entry point that unpacks programs.",
        why: startup,
    },
];

fn base(facts: &Facts, severity: Severity) -> Option<String> {
    (facts.strongest().unwrap_or(Severity::Informational) == severity)
        .then(|| format!("strongest finding is {}", severity.title()))
}

fn nth_category(facts: &Facts, index: usize) -> Option<String> {
    let count = facts.weighty_categories().len();
    (count > index).then(|| format!("{count} categories"))
}

fn host_access(facts: &Facts) -> Option<String> {
    let ContainerFacts { privileged, host_namespaces, .. } = &facts.container;
    match (privileged, host_namespaces.as_slice()) {
        (true, []) => Some("privileged".to_owned()),
        (true, shared) => Some(format!("privileged, host namespaces {}", shared.join(", "))),
        (false, []) => None,
        (false, shared) => Some(format!("host namespaces {}", shared.join(", "))),
    }
}

fn throttled(facts: &Facts) -> Option<String> {
    facts.categories().contains(CONTAINER_THROTTLED).then(|| "execs were left out, see the finding".to_owned())
}

/// A time before the start counts as well, within the same limit: the runtime may record the start a little late.
fn startup(facts: &Facts) -> Option<String> {
    let started_ns = facts.container.started_ns?;
    let events = facts.events?;
    let near = events.first_ns >= started_ns.saturating_sub(STARTUP_NS)
        && events.last_ns <= started_ns.saturating_add(STARTUP_NS);
    (near && !facts.exec.entered).then(|| "within 30 seconds of the container's start".to_owned())
}

/// A score with all its contributions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Score {
    pub points: i32,
    pub severity: Severity,
    /// The contributions; they add up to `points`.
    pub contributions: Vec<Contribution>,
}

/// Scores a session, for alerts from this severity on.
pub(crate) fn score(facts: &Facts, threshold: Severity) -> Score {
    score_with(&ROWS, facts, threshold)
}

fn score_with(rows: &[ScoreRow], facts: &Facts, threshold: Severity) -> Score {
    let (bases, others) = rows.split_at_checked(BASES).unwrap_or((rows, &[]));
    let mut contributions: Vec<Contribution> = bases.iter().filter_map(|row| row.apply(facts)).collect();
    let base = total(&contributions);
    let lowers = |row: &&ScoreRow| row.points < 0;
    contributions.extend(others.iter().filter(|row| !lowers(row)).filter_map(|row| row.apply(facts)));
    if base < LOWERING_BASE_MAX {
        let raised = total(&contributions);
        let lowering: Vec<Contribution> = others.iter().filter(lowers).filter_map(|row| row.apply(facts)).collect();
        let excess = -total(&lowering) - LOWERING_MAX;
        contributions.extend(lowering);
        adjust(&mut contributions, "lowering_limit", excess.max(0), "at most 15 points are taken away");
        if facts.proven_foreign && raised >= lowest_points(threshold) {
            let missing = lowest_points(threshold) - total(&contributions);
            adjust(&mut contributions, PROVEN_FOREIGN, missing.max(0), "a program ran that the image does not contain");
        }
    }
    let sum = total(&contributions);
    let points = sum.clamp(0, 100);
    adjust(&mut contributions, "clamp", points - sum, "a score is 0 to 100");
    Score { points, severity: band(points), contributions }
}

impl ScoreRow {
    fn apply(&self, facts: &Facts) -> Option<Contribution> {
        (self.why)(facts).map(|why| Contribution { name: self.name.to_owned(), points: self.points, why })
    }
}

fn adjust(contributions: &mut Vec<Contribution>, name: &str, points: i32, why: &str) {
    if points != 0 {
        contributions.push(Contribution { name: name.to_owned(), points, why: why.to_owned() });
    }
}

fn total(contributions: &[Contribution]) -> i32 {
    contributions.iter().map(|contribution| contribution.points).sum()
}

/// The least score of each severity but the lowest.
const BANDS: [(i32, Severity); 4] =
    [(85, Severity::Critical), (65, Severity::High), (40, Severity::Medium), (15, Severity::Low)];

/// The severity of a score.
pub(crate) fn band(points: i32) -> Severity {
    let reached = BANDS.into_iter().find(|(lowest, _)| points >= *lowest);
    reached.map_or(Severity::Informational, |(_, severity)| severity)
}

/// The least score of this severity.
fn lowest_points(severity: Severity) -> i32 {
    BANDS.into_iter().find(|(_, of_band)| *of_band == severity).map_or(0, |(lowest, _)| lowest)
}

/// Digest of the table, so that an alert names the table that scored it.
pub(crate) fn table_version() -> String {
    let rows = ROWS.iter().map(|row| format!("{}={};{}\n", row.name, row.points, row.doc));
    Sha256::of(rows.chain([PROVEN_FOREIGN.to_owned()]).collect::<String>().as_bytes()).to_digest()
}

#[cfg(test)]
mod tests;
