//! Computes the expected results of the execs on exec-events, and compares them record by record with the output for a
//! reader of committed records. Called by [`super::rig`] when all output has been written.
//!
//! The producers' own counts are not used: an exec counts when, and as often as, it is on the topic.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use driftline_kafka::{ClientSettings, OffsetRange, ReaderEvent, Record, TopicReader};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, ContainerId, ExecEvent, Finding, decode};

use crate::workload::finding_of;

/// Examples kept of each kind of violation.
const EXAMPLES: usize = 5;
/// Topics that are read, inputs before their outputs.
pub(super) const READ: [Topic; 5] =
    [Topic::ExecEvents, Topic::Findings, Topic::Alerts, Topic::AlertsOcsf, Topic::DeadLetters];

/// A kind of violation, in the order in which the report lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Violation {
    /// An exec with a drift has no finding.
    FindingLost,
    /// A revision of a finding exists twice, or a number is missing.
    FindingTwice,
    /// A finding of an exec without a drift, or of an exec that is not on the topic.
    FindingUnexpected,
    /// A finding whose image was not known.
    FindingUnresolved,
    /// Findings of a container are in another order than its execs.
    OrderBroken,
    /// A finding is in no alert.
    AlertLacksFinding,
    /// A finding is in two alerts, or twice in one, or an alert contains a finding that is not on the topic.
    AlertHasFindingTwice,
    /// The number of findings in an alert differs from the findings that it holds.
    AlertMiscounts,
    /// Revisions of an alert are not 1, 2, 3 and so on.
    AlertRevisionsBroken,
    /// The last revision of an alert is not marked final.
    AlertNotFinal,
    /// A revision has no OCSF message, or more than one, or a message has no revision.
    OcsfDiffers,
    /// A record was dead-lettered.
    DeadLettered,
    /// A record is after the offset that its group has committed: its results are still missing.
    NotTaken,
    /// A group has committed more than the topic has, or less than was taken.
    OffsetsWrong,
    /// A service found a contradiction in its own state, or panicked.
    InvariantBroken,
    /// Output did not resume in time after a fault.
    Stalled,
    /// Memory of a service grew under a steady load.
    MemoryGrew,
}

/// All violations, with a few examples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Counts of records.
    pub counts: BTreeMap<String, usize>,
    /// Number of violations of each kind.
    pub wrong: BTreeMap<Violation, usize>,
    /// Examples of each kind.
    pub examples: BTreeMap<Violation, Vec<String>>,
}

impl Verdict {
    /// Adds a violation.
    pub fn note(&mut self, wrong: Violation, example: impl FnOnce() -> String) {
        *self.wrong.entry(wrong).or_default() += 1;
        let examples = self.examples.entry(wrong).or_default();
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    /// Whether there is no violation.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Whether results are missing, so that reading once more may help.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        let missing = [
            Violation::FindingLost,
            Violation::AlertLacksFinding,
            Violation::AlertNotFinal,
            Violation::OcsfDiffers,
            Violation::OffsetsWrong,
            Violation::NotTaken,
        ];
        missing.iter().any(|wrong| self.wrong.contains_key(wrong))
    }
}

/// One alert, built up from its revisions.
#[derive(Debug, Default)]
struct Chain {
    revision: i32,
    is_final: bool,
    findings: Vec<String>,
    stated: i64,
}

/// The records read so far, and their violations.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    verdict: Verdict,
    /// Expected findings, by container, in the order of the execs.
    expected: BTreeMap<ContainerId, Vec<String>>,
    known: BTreeSet<String>,
    /// Revision and place on the topic of each finding.
    revisions: BTreeMap<String, i32>,
    found: BTreeMap<ContainerId, Vec<String>>,
    alerts: BTreeMap<String, Chain>,
    alert_revisions: BTreeSet<String>,
    ocsf: BTreeMap<String, usize>,
    /// Offset of the last record of a partition.
    last: BTreeMap<(Topic, i32), i64>,
    /// Place of the exec of each expected finding, and place of each finding.
    places: BTreeMap<(Topic, String), (i32, i64)>,
    /// Committed offset of the group that reads a partition.
    committed: BTreeMap<(Topic, i32), i64>,
}

/// Reads the present content of the topics.
///
/// # Errors
/// When the cluster does not answer or a record of ours cannot be decoded.
pub(super) async fn read(kafka: &ClientSettings) -> anyhow::Result<Ledger> {
    let ranges = TopicReader::extent(kafka, &READ).await?;
    let mut ledger = Ledger::default();
    // Inputs are read first, so that their outputs can be compared with them. An end offset without a record is no
    // reason to wait.
    for topic in READ {
        let ranges: Vec<_> = ranges.iter().filter(|range| range.topic == topic).copied().collect();
        let mut reader = TopicReader::ranges(kafka, &ranges)?;
        loop {
            match reader.next().await {
                Some(ReaderEvent::Record(record)) => ledger.take(&record)?,
                Some(ReaderEvent::CaughtUp) => break,
                Some(ReaderEvent::Failed(error)) => return Err(error.into()),
                None => anyhow::bail!("the reader ended"),
            }
        }
    }
    Ok(ledger)
}

impl Ledger {
    fn take(&mut self, record: &Record) -> anyhow::Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        self.last.insert((record.topic, record.partition), record.offset);
        *self.verdict.counts.entry(record.topic.spec().stem.to_owned()).or_default() += 1;
        match record.topic {
            Topic::ExecEvents => self.exec(&ExecEvent::decode(value)?, (record.partition, record.offset)),
            Topic::Findings => self.finding(&decode(value)?, (record.partition, record.offset)),
            Topic::Alerts => self.alert(&decode(value)?),
            Topic::AlertsOcsf => {
                let json: serde_json::Value = serde_json::from_slice(value)?;
                let uid = json.pointer("/metadata/uid").and_then(|uid| uid.as_str()).unwrap_or("none").to_owned();
                *self.ocsf.entry(uid).or_default() += 1;
            }
            _ => self.verdict.note(Violation::DeadLettered, || format!("{:?}", record.headers)),
        }
        Ok(())
    }

    fn exec(&mut self, event: &ExecEvent, place: (i32, i64)) {
        let ExecEvent::Exec(exec) = event else { return };
        let Some(finding) = finding_of(exec).map(|id| id.to_string()) else { return };
        // The producer may have sent it twice.
        if self.known.insert(finding.clone()) {
            self.places.insert((Topic::ExecEvents, finding.clone()), place);
            self.expected.entry(exec.container_id.clone()).or_default().push(finding);
        }
    }

    fn finding(&mut self, finding: &Finding, place: (i32, i64)) {
        let id = finding.finding_id.to_string();
        let before = self.revisions.insert(id.clone(), finding.revision).unwrap_or(0);
        if finding.revision != before + 1 {
            self.verdict
                .note(Violation::FindingTwice, || format!("{id}: revision {} after {before}", finding.revision));
        }
        if before == 0 {
            self.places.insert((Topic::Findings, id.clone()), place);
            if !self.known.contains(&id) {
                let what = || format!("{id}: {} {}", finding.category, finding.note);
                self.verdict.note(Violation::FindingUnexpected, what);
            }
            let container = finding.container.as_ref().map(|container| container.id.clone()).unwrap_or_default();
            self.found.entry(container).or_default().push(id.clone());
        }
        if let Some(why) = &finding.unresolved {
            self.verdict.note(Violation::FindingUnresolved, || format!("{id}: {why}"));
        }
    }

    fn alert(&mut self, alert: &Alert) {
        let id = alert.alert_id.to_string();
        self.alert_revisions.insert(format!("{id}:{}", alert.revision));
        let chain = self.alerts.entry(id.clone()).or_default();
        let before = std::mem::replace(&mut chain.revision, alert.revision);
        if alert.revision != before + 1 {
            self.verdict.note(Violation::AlertRevisionsBroken, || format!("{id}: {} after {before}", alert.revision));
        }
        chain.is_final = alert.r#final;
        chain.stated = alert.finding_count;
        chain.findings = alert.findings.iter().map(|finding| finding.finding_id.to_string()).collect();
    }

    /// Compares a group's committed offsets with the content of its topic: every record must be covered, and no more.
    pub(super) fn compare_offsets(&mut self, group: &str, ranges: &[OffsetRange], committed: &BTreeMap<i32, i64>) {
        for range in ranges {
            let offset = committed.get(&range.partition).copied().unwrap_or(-1);
            self.committed.insert((range.topic, range.partition), offset);
            let last = self.last.get(&(range.topic, range.partition)).copied().unwrap_or(-1);
            // After the last record there are only markers of transactions.
            if offset <= last || offset > range.end {
                let what =
                    || format!("{group} {}: committed {offset}, last {last}, end {}", range.partition, range.end);
                self.verdict.note(Violation::OffsetsWrong, what);
            }
        }
    }

    /// Returns all violations.
    pub(super) fn verdict(mut self) -> Verdict {
        self.compare_findings();
        self.compare_alerts();
        self.compare_ocsf();
        self.verdict
    }

    /// The violation for a missing result: lost, if the group has committed past its input; otherwise not taken.
    fn missing(&self, topic: Topic, finding: &str, lost: Violation) -> Violation {
        let place = self.places.get(&(topic, finding.to_owned()));
        let is_taken = place.is_none_or(|(partition, offset)| {
            self.committed.get(&(topic, *partition)).is_none_or(|committed| offset < committed)
        });
        if is_taken { lost } else { Violation::NotTaken }
    }

    fn compare_findings(&mut self) {
        for (container, expected) in &self.expected {
            for id in expected.iter().filter(|id| !self.revisions.contains_key(*id)) {
                let violation = self.missing(Topic::ExecEvents, id, Violation::FindingLost);
                self.verdict.note(violation, || format!("exec of {id} of container {container}"));
            }
            let found = self.found.get(container).map(Vec::as_slice).unwrap_or_default();
            let standing: BTreeSet<&String> = found.iter().collect();
            let in_order = expected.iter().filter(|id| standing.contains(id));
            let known = found.iter().filter(|id| self.known.contains(*id));
            if !in_order.eq(known) {
                self.verdict.note(Violation::OrderBroken, || format!("container {container}"));
            }
        }
    }

    fn compare_alerts(&mut self) {
        let mut held: BTreeMap<&String, usize> = BTreeMap::new();
        for (id, chain) in &self.alerts {
            chain.findings.iter().for_each(|finding| *held.entry(finding).or_default() += 1);
            if usize::try_from(chain.stated).ok() != Some(chain.findings.len()) {
                let what = || format!("{id}: says {}, holds {}", chain.stated, chain.findings.len());
                self.verdict.note(Violation::AlertMiscounts, what);
            }
            if !chain.is_final {
                self.verdict.note(Violation::AlertNotFinal, || format!("{id} revision {}", chain.revision));
            }
        }
        for finding in self.revisions.keys().filter(|id| !held.contains_key(id)) {
            let violation = self.missing(Topic::Findings, finding, Violation::AlertLacksFinding);
            self.verdict.note(violation, || finding.clone());
        }
        for (finding, times) in held {
            if times > 1 || !self.revisions.contains_key(finding) {
                self.verdict.note(Violation::AlertHasFindingTwice, || format!("{finding}: {times} times"));
            }
        }
    }

    fn compare_ocsf(&mut self) {
        for uid in self.alert_revisions.iter().filter(|uid| !self.ocsf.contains_key(*uid)) {
            self.verdict.note(Violation::OcsfDiffers, || format!("{uid} has no message"));
        }
        for (uid, times) in &self.ocsf {
            if *times > 1 || !self.alert_revisions.contains(uid) {
                self.verdict.note(Violation::OcsfDiffers, || format!("{times} messages have {uid}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
