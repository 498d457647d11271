//! The result of a run, as a table or as JSON. Called by [`super`].

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::oracle::{Verdict, Violation};
use super::plan::DECK;
use super::rig::{Batch, Outcome, in_seconds};
use super::steady::Memory;

/// Figures of one kind of fault, or of all.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Number of faults.
    pub count: usize,
    /// Ends of services that the rig did not cause.
    pub exits: usize,
    /// Median of the time until findings appeared again.
    pub findings_p50_ms: Option<u64>,
    /// Longest of them.
    pub findings_max_ms: Option<u64>,
    /// Median of the time until alerts appeared again.
    pub alerts_p50_ms: Option<u64>,
    /// Longest of them.
    pub alerts_max_ms: Option<u64>,
    /// Longest time in which a partition of one of the topics had no output.
    pub standstill_max_ms: u64,
}

/// A run's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Seed of the first batch; each batch's is one more.
    pub seed: u64,
    /// Figures by kind of fault.
    pub kinds: BTreeMap<&'static str, Row>,
    /// Of all kinds.
    pub all: Row,
    /// Longest time without a finding.
    pub findings_silence_ms: u64,
    /// Longest time without an alert.
    pub alerts_silence_ms: u64,
    /// Execs made.
    pub execs: u64,
    /// Duration in seconds.
    pub seconds: u64,
    /// Memory of the services under steady load.
    pub memory: Vec<Memory>,
    /// Number of records read, and the violations.
    pub verdict: Verdict,
    /// Seeds of batches with violations.
    pub failed: Vec<u64>,
}

impl Report {
    /// Sums up batches.
    #[must_use]
    pub fn of(seed: u64, batches: &[Batch]) -> Self {
        let outcomes: Vec<&Outcome> = batches.iter().flat_map(|batch| &batch.outcomes).collect();
        let kinds = DECK.iter().filter_map(|(kind, _)| {
            let of_kind: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.kind == *kind).copied().collect();
            (!of_kind.is_empty()).then(|| (kind.as_str(), row(&of_kind)))
        });
        let mut verdict = Verdict::default();
        for batch in batches {
            for (name, count) in &batch.verdict.counts {
                *verdict.counts.entry(name.clone()).or_default() += count;
            }
            for (wrong, count) in &batch.verdict.wrong {
                *verdict.wrong.entry(*wrong).or_default() += count;
            }
            for (wrong, examples) in &batch.verdict.examples {
                verdict.examples.entry(*wrong).or_default().extend(examples.iter().cloned());
            }
        }
        Self {
            seed,
            kinds: kinds.collect(),
            all: row(&outcomes),
            findings_silence_ms: batches.iter().map(|batch| batch.findings_silence_ms).max().unwrap_or(0),
            alerts_silence_ms: batches.iter().map(|batch| batch.alerts_silence_ms).max().unwrap_or(0),
            execs: batches.iter().map(|batch| batch.execs).sum(),
            seconds: batches.iter().map(|batch| batch.seconds).sum(),
            memory: batches.iter().flat_map(|batch| batch.memory.iter().cloned()).collect(),
            verdict,
            failed: batches.iter().filter(|batch| !batch.verdict.is_good()).map(|batch| batch.seed).collect(),
        }
    }

    /// The table, followed by the violations.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<30}{:>6}{:>7}{:>14}{:>9}{:>13}{:>9}{:>12}\n",
            "FAULT", "COUNT", "EXITS", "FINDINGS P50", "MAX", "ALERTS P50", "MAX", "STANDSTILL"
        );
        for (name, row) in self.kinds.iter().map(|(name, row)| (*name, row)).chain([("all", &self.all)]) {
            let _ = writeln!(
                text,
                "{name:<30}{:>6}{:>7}{:>14}{:>9}{:>13}{:>9}{:>12}",
                row.count,
                row.exits,
                in_seconds(row.findings_p50_ms),
                in_seconds(row.findings_max_ms),
                in_seconds(row.alerts_p50_ms),
                in_seconds(row.alerts_max_ms),
                in_seconds(Some(row.standstill_max_ms)),
            );
        }
        if !self.memory.is_empty() {
            let _ = writeln!(text, "\n{:<30}{:>14}{:>14}{:>14}", "RESIDENT", "BEFORE", "AFTER", "MOST");
            for memory in &self.memory {
                let _ = writeln!(text, "{}", memory.line());
            }
        }
        let counts = self.verdict.counts.iter().map(|(name, count)| format!("{count} {name}"));
        let _ = write!(
            text,
            "\nseed {}; {} faults in {} min {} s; {} execs made; read: {}\nlongest silence: findings {}, alerts {}\n",
            self.seed,
            self.all.count,
            self.seconds / 60,
            self.seconds % 60,
            self.execs,
            counts.collect::<Vec<_>>().join(", "),
            in_seconds(Some(self.findings_silence_ms)),
            in_seconds(Some(self.alerts_silence_ms)),
        );
        let count = |wrong| self.verdict.wrong.get(&wrong).copied().unwrap_or(0);
        let lost = count(Violation::FindingLost) + count(Violation::AlertLacksFinding);
        let twice = count(Violation::FindingTwice) + count(Violation::AlertHasFindingTwice);
        let other = self.verdict.wrong.values().sum::<usize>() - lost - twice;
        let _ = writeln!(text, "{lost} lost, {twice} twice, {other} otherwise wrong");
        for (wrong, count) in &self.verdict.wrong {
            let _ = writeln!(text, "  {wrong:?}: {count}");
            for example in self.verdict.examples.get(wrong).into_iter().flatten() {
                let _ = writeln!(text, "    {example}");
            }
        }
        text
    }
}

fn row(outcomes: &[&Outcome]) -> Row {
    let findings = sorted(outcomes.iter().map(|outcome| outcome.findings_ms));
    let alerts = sorted(outcomes.iter().map(|outcome| outcome.alerts_ms));
    Row {
        count: outcomes.len(),
        exits: outcomes.iter().map(|outcome| outcome.exits).sum(),
        findings_p50_ms: findings.get(findings.len() / 2).copied(),
        findings_max_ms: findings.last().copied(),
        alerts_p50_ms: alerts.get(alerts.len() / 2).copied(),
        alerts_max_ms: alerts.last().copied(),
        standstill_max_ms: outcomes.iter().map(|outcome| outcome.standstill_ms).max().unwrap_or(0),
    }
}

fn sorted(times: impl Iterator<Item = Option<u64>>) -> Vec<u64> {
    let mut times: Vec<u64> = times.flatten().collect();
    times.sort_unstable();
    times
}
