//! The content of a session, from which its alert is written.

use driftline_schemas::{Contribution, Severity};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use driftline_schemas::correlator_state::{CountedFindings, CountedLabel, CountedRepeats};
use std::sync::Arc;

use super::{Finality, Session, flag};
use crate::finding::{FoldKey, Label, SessionFinding};
use crate::limits::{LABELS_MAX, REPEATS_MAX};
use crate::memory;
use crate::score::{Facts, Score, score};
use crate::window::Span;

/// Memory of a program whose repeats are only counted.
const REPEATS_BYTES: usize = memory::entry(size_of::<(FoldKey, [i64; 3])>());

/// Which findings an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The findings that were not retracted.
    Active,
    /// All findings: every one was retracted, and the alert lists them.
    Withdrawn,
}

/// The content of a session.
#[derive(Debug)]
pub(crate) struct SessionContent<'a> {
    pub scope: Scope,
    pub score: Score,
    pub span: Span,
    /// Number of findings, repeats included.
    pub count: i64,
    pub categories: BTreeSet<&'a str>,
    pub techniques: BTreeSet<&'a str>,
    /// Strongest first.
    pub folds: Vec<Fold<'a>>,
}

/// A finding and its repeats.
#[derive(Debug)]
pub(crate) struct Fold<'a> {
    pub first: &'a SessionFinding,
    /// The most severe of them: an amendment or a later rule may have judged a repeat more severely.
    pub strongest: &'a SessionFinding,
    pub span: Span,
    pub count: i64,
    novelty: Novelty,
}

/// Whether the last revision had a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Novelty {
    New,
    Known,
}

impl<'a> SessionContent<'a> {
    /// The folds that a revision shows, at most `kept`: of the last one, the strongest. Of any other, the strongest fold
    /// and then those that no revision had, so that many findings of programs that are known hide no new one.
    pub(crate) fn shown(&self, finality: Finality, kept: usize) -> impl Iterator<Item = &Fold<'a>> {
        let (strongest, others) = self.folds.split_at_checked(1).unwrap_or((&self.folds, &[]));
        let is_ahead = move |fold: &&Fold<'_>| finality == Finality::MoreMayCome && fold.novelty == Novelty::New;
        let ahead = others.iter().filter(is_ahead);
        let rest = others.iter().filter(move |fold| !is_ahead(fold));
        strongest.iter().chain(ahead).chain(rest).take(kept)
    }
}

/// Findings that are only counted.
#[derive(Debug, Default)]
pub(super) struct Beyond {
    pub(super) count: i64,
    pub(super) facts: Facts,
    repeats: BTreeMap<FoldKey, Repeats>,
    /// Bytes of its labels in memory.
    label_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Repeats {
    count: i64,
    span: Span,
}

impl Beyond {
    /// Counts a finding; returns the flag to set when a list was full.
    pub(super) fn take(&mut self, finding: &SessionFinding) -> Option<&'static str> {
        let at = Span::at(finding.event_time_ns);
        self.count += 1;
        let room = self.repeats.len() < REPEATS_MAX;
        if let Some(repeats) = self.repeats.get_mut(&finding.fold) {
            *repeats = Repeats { count: repeats.count + 1, span: repeats.span.with(finding.event_time_ns) };
        } else if room {
            self.repeats.insert(finding.fold, Repeats { count: 1, span: at });
        }
        if self.facts.labels.len() >= LABELS_MAX && !self.facts.labels.contains(&finding.label) {
            self.facts.take_without_label(finding);
            return Some(flag::LISTS_CAPPED);
        }
        if !self.facts.labels.contains(&finding.label) {
            self.label_bytes += finding.label.memory_bytes();
        }
        self.facts.take(finding);
        None
    }

    /// Whether a finding of this detector, path and digest was counted.
    pub(super) fn has(&self, finding: &SessionFinding) -> bool {
        self.repeats.contains_key(&finding.fold)
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.label_bytes + self.repeats.len() * REPEATS_BYTES
    }

    /// The same, computed again from the content.
    #[cfg(test)]
    pub(super) fn count_memory_bytes(&self) -> usize {
        let labels: usize = self.facts.labels.iter().map(|label| label.memory_bytes()).sum();
        labels + self.repeats.len() * REPEATS_BYTES
    }

    /// The state for the changelog; `None` when nothing was counted.
    pub(super) fn state(&self) -> Option<CountedFindings> {
        let span = self.facts.events?;
        let label = |label: &Arc<Label>| CountedLabel {
            severity: label.severity,
            category: label.category.clone(),
            techniques: label.techniques.clone(),
        };
        let repeats = |(fold, repeats): (&FoldKey, &Repeats)| CountedRepeats {
            fold: fold.0,
            count: repeats.count,
            first_event_ns: repeats.span.first_ns,
            last_event_ns: repeats.span.last_ns,
        };
        Some(CountedFindings {
            count: self.count,
            first_event_ns: span.first_ns,
            last_event_ns: span.last_ns,
            facts: self.facts.exec,
            labels: self.facts.labels.iter().map(label).collect(),
            repeats: self.repeats.iter().map(repeats).collect(),
            proven_foreign: self.facts.proven_foreign,
        })
    }

    /// Restores the value that [`Self::state`] returned.
    pub(super) fn restored(state: CountedFindings) -> Self {
        let label = |label: CountedLabel| {
            let CountedLabel { severity, category, techniques } = label;
            Arc::new(Label { severity, category, techniques })
        };
        let repeats = |repeats: CountedRepeats| {
            let span = Span { first_ns: repeats.first_event_ns, last_ns: repeats.last_event_ns };
            (FoldKey(repeats.fold), Repeats { count: repeats.count, span })
        };
        let labels: BTreeSet<Arc<Label>> = state.labels.into_iter().map(label).collect();
        let label_bytes = labels.iter().map(|label| label.memory_bytes()).sum();
        let facts = Facts {
            labels,
            exec: state.facts,
            proven_foreign: state.proven_foreign,
            events: Some(Span { first_ns: state.first_event_ns, last_ns: state.last_event_ns }),
            ..Facts::default()
        };
        Self { count: state.count, facts, repeats: state.repeats.into_iter().map(repeats).collect(), label_bytes }
    }
}

impl Session {
    /// Whether every finding in the session was retracted.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.beyond.count == 0 && !self.findings.iter().any(SessionFinding::is_active)
    }

    /// Number of active findings, repeats included.
    pub(super) fn active_count(&self) -> i64 {
        self.findings.iter().filter(|finding| finding.is_active()).fold(self.beyond.count, |count, _| count + 1)
    }

    pub(super) fn severity(&self, threshold: Severity) -> Severity {
        score(&self.facts, threshold).severity
    }

    /// The content for an alert.
    pub(crate) fn content(&self, threshold: Severity) -> SessionContent<'_> {
        let scope = if self.is_withdrawn() { Scope::Withdrawn } else { Scope::Active };
        let in_scope = |finding: &&SessionFinding| scope == Scope::Withdrawn || finding.is_active();
        let findings: Vec<&SessionFinding> = self.findings.iter().filter(in_scope).collect();
        let spans = findings.iter().map(|finding| Span::at(finding.event_time_ns)).chain(self.beyond.facts.events);
        let labels: BTreeSet<_> =
            findings.iter().map(|finding| &finding.label).chain(&self.beyond.facts.labels).collect();
        SessionContent {
            scope,
            score: if scope == Scope::Active { score(&self.facts, threshold) } else { withdrawn() },
            span: spans.reduce(|all, one| all.with(one.first_ns).with(one.last_ns)).unwrap_or(self.span),
            count: findings.iter().fold(self.beyond.count, |count, _| count + 1),
            categories: labels.iter().map(|label| label.category.as_str()).collect(),
            techniques: labels.iter().flat_map(|label| &label.techniques).map(String::as_str).collect(),
            folds: self.fold(&findings),
        }
    }

    fn fold<'a>(&self, findings: &[&'a SessionFinding]) -> Vec<Fold<'a>> {
        let mut folds: BTreeMap<FoldKey, Fold<'a>> = BTreeMap::new();
        for &finding in findings {
            let at = Span::at(finding.event_time_ns);
            let fold = folds.entry(finding.fold).or_insert_with(|| {
                let beyond = self.beyond.repeats.get(&finding.fold).copied();
                let beyond = beyond.unwrap_or(Repeats { count: 0, span: at });
                let novelty = if beyond.count == 0 { Novelty::New } else { Novelty::Known };
                Fold { first: finding, strongest: finding, span: beyond.span, count: beyond.count, novelty }
            });
            if !self.joined_since_revision(finding) {
                fold.novelty = Novelty::Known;
            }
            fold.span = fold.span.with(finding.event_time_ns);
            fold.count += 1;
            if finding.order < fold.first.order {
                fold.first = finding;
            }
            if strength(finding) > strength(fold.strongest) {
                fold.strongest = finding;
            }
        }
        let mut folds: Vec<Fold<'a>> = folds.into_values().collect();
        folds.sort_by_key(|fold| (Reverse(fold.strongest.severity()), fold.first.order));
        folds
    }
}

/// Of findings of one severity the earlier is the stronger.
pub(super) fn strength(finding: &SessionFinding) -> (Severity, Reverse<i64>) {
    (finding.severity(), Reverse(finding.order))
}

fn withdrawn() -> Score {
    let why = "every finding was retracted".to_owned();
    Score {
        points: 0,
        severity: Severity::Informational,
        contributions: vec![Contribution { name: "withdrawn".to_owned(), points: 0, why }],
    }
}
