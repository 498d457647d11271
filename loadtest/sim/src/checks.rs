//! Invariants that hold after every step, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, decode};
use driftline_service_core::Counts;

use crate::broker::{Broker, TopicPartition};
use crate::violation::{Checked, Violation};
use crate::watch::Core;
use crate::world::ProcessId;

/// Invariant 1, for one process: every received record is settled, held or handed over.
pub(crate) fn conservation(process: ProcessId, counts: &Counts) -> Checked {
    let came = counts.received + counts.taken_over;
    let settled: u64 = counts.settled.values().sum();
    let went = settled + counts.held + counts.handed_over;
    if came == went {
        return Ok(());
    }
    let what = format!(
        "process {process}: received {} + taken over {} is not settled {settled} + held {} + handed over {}",
        counts.received, counts.taken_over, counts.held, counts.handed_over
    );
    Err(Violation::new("conservation of a process", what))
}

/// The content of a state partition for readers of committed records.
pub(crate) fn changelog(broker: &Broker, topic_partition: TopicPartition) -> BTreeMap<String, Vec<u8>> {
    let mut image = BTreeMap::new();
    for (_, data) in broker.committed_records(topic_partition) {
        let key = String::from_utf8_lossy(data.key.as_deref().unwrap_or_default()).into_owned();
        match &data.value {
            Some(value) => drop(image.insert(key, value.clone())),
            None => drop(image.remove(&key)),
        }
    }
    image.retain(|key, _| !key.starts_with("schema/"));
    image
}

/// Checks that a restore of the committed changelog gives the state of the core.
pub(crate) fn changelog_is_state<S: Core>(core: &S, broker: &Broker, topic_partition: TopicPartition) -> Checked {
    let check = "changelog is state";
    let written = changelog(broker, topic_partition);
    let mut live = BTreeMap::new();
    for key in core.keys(topic_partition.1) {
        let value = core.state(topic_partition.1, &key).map_err(|error| Violation::new(check, error.to_string()))?;
        let value =
            value.ok_or_else(|| Violation::new(check, format!("{topic_partition:?}: nothing stands under {key}")))?;
        live.insert(key, value);
    }
    if written == live {
        return Ok(());
    }
    let keys: BTreeSet<&String> = written.keys().chain(live.keys()).collect();
    let differ = keys.into_iter().find(|key| written.get(*key) != live.get(*key)).cloned().unwrap_or_default();
    let side = match (written.contains_key(&differ), live.contains_key(&differ)) {
        (true, false) => "only in the changelog",
        (false, true) => "only in the core",
        _ => "different in both",
    };
    Err(Violation::new(check, format!("{topic_partition:?}: {differ} is {side}")))
}

/// All committed revisions, in log order per partition.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub findings: Vec<Finding>,
    pub alerts: Vec<Alert>,
    pub dead_letters: Vec<String>,
}

impl Outputs {
    /// Reads the committed records.
    pub(crate) fn read(broker: &Broker) -> Checked<Self> {
        let mut outputs = Self::default();
        for topic_partition in broker.topic_partitions(Topic::Findings) {
            for (_, data) in broker.committed_records(topic_partition) {
                // This topic also contains poison records.
                outputs.findings.extend(decode::<Finding>(data.value.as_deref().unwrap_or_default()));
            }
        }
        for topic_partition in broker.topic_partitions(Topic::Alerts) {
            for (_, data) in broker.committed_records(topic_partition) {
                let alert = decode::<Alert>(data.value.as_deref().unwrap_or_default());
                outputs.alerts.push(alert.map_err(|error| Violation::new("alerts can be read", error.to_string()))?);
            }
        }
        for topic_partition in broker.topic_partitions(Topic::DeadLetters) {
            let letters = broker.committed_records(topic_partition).map(|(_, data)| {
                let origin = data.headers.iter().filter(|(name, _)| {
                    ["driftline-service", "driftline-topic", "driftline-partition", "driftline-offset"].contains(name)
                });
                origin.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join("/")
            });
            outputs.dead_letters.extend(letters);
        }
        Ok(outputs)
    }

    /// Checks that each revision exists once, numbered from 1 without gaps, and that no dead letter exists twice.
    pub(crate) fn check(&self) -> Checked {
        let findings = self.findings.iter().map(|finding| (finding.finding_id.as_str(), finding.revision));
        revisions("revisions of findings", findings)?;
        let alerts = self.alerts.iter().map(|alert| (alert.alert_id.as_str(), alert.revision));
        revisions("revisions of alerts", alerts)?;
        let mut letters = BTreeSet::new();
        match self.dead_letters.iter().find(|letter| !letters.insert(letter.as_str())) {
            Some(twice) => Err(Violation::new("dead letters once", format!("{twice} came twice"))),
            None => Ok(()),
        }
    }
}

fn revisions<'a>(check: &'static str, all: impl Iterator<Item = (&'a str, i32)>) -> Checked {
    let mut last: BTreeMap<&str, i32> = BTreeMap::new();
    for (id, revision) in all {
        let before = last.insert(id, revision).unwrap_or(0);
        if revision != before + 1 {
            return Err(Violation::new(check, format!("{id}: revision {revision} after {before}")));
        }
    }
    Ok(())
}
