//! The oracle: the expected results of a workload, and every difference from them.
//!
//! It is derived from the workload (which bytes were written where, which program was run), never from the detection.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use driftline_schemas::{Alert, Container, ContainerId, Finding, FindingState};

use crate::collect::Collected;

/// The expected results of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expected {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub container_name: String,
    /// Reference of its image.
    pub image: String,
    /// Config digest of its image.
    pub image_id: String,
    /// Pod namespace and name.
    pub pod: (String, String),
    /// Path of the image program that was run many times, and the total number of runs.
    pub silent_program: (String, usize),
    /// Programs that must be found, in the order in which they ran.
    pub drifts: Vec<Drift>,
}

/// A program run that must be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// Description of the step, for people.
    pub what: String,
    /// Path in the container.
    pub path: String,
    /// Argument vector.
    pub args: Vec<String>,
    /// Digest of the written bytes.
    pub sha256: String,
    /// Expected origin.
    pub origin: String,
    /// Expected category.
    pub category: String,
}

impl Expected {
    /// Whether every expected record has arrived; [`Self::differences`] checks for records that must not appear.
    #[must_use]
    pub fn is_complete(&self, collected: &Collected) -> bool {
        let ours = |found: Option<&Container>| found.is_some_and(|container| container.id == self.container);
        let count = i64::try_from(self.drifts.len()).unwrap_or(i64::MAX);
        let newest = collected.newest_alerts();
        let mut last = newest
            .iter()
            .filter(|alert| ours(alert.container.as_ref()) && alert.r#final && alert.finding_count >= count);
        // The two topics are read in no particular order.
        let finished = last.any(|alert| has_ocsf(collected, &uid(alert)));
        let findings = collected.newest_findings();
        finished
            && findings.iter().filter(|found| ours(found.container.as_ref())).count() >= self.drifts.len()
            && self.execs_seen(collected) >= self.silent_program.1
    }

    /// Every difference between the workload and the results; empty when there is none. Records of other containers
    /// must have been removed, see [`Collected::keep_only`].
    #[must_use]
    pub fn differences(&self, collected: &Collected) -> Vec<String> {
        let mut differences = Vec::new();
        self.compare_execs(collected, &mut differences);
        self.compare_findings(collected, &mut differences);
        self.compare_alerts(collected, &mut differences);
        if !collected.dead_letters.is_empty() {
            differences.push(format!("{} dead letters", collected.dead_letters.len()));
        }
        differences
    }

    /// The number of reported execs is compared with the number of started programs, not with the collector's own
    /// count.
    fn compare_execs(&self, collected: &Collected, differences: &mut Vec<String>) {
        let (path, made) = &self.silent_program;
        let seen = self.execs_seen(collected);
        if seen != *made {
            differences.push(format!("{path} was run {made} times and seen {seen} times"));
        }
    }

    fn execs_seen(&self, collected: &Collected) -> usize {
        let path = self.silent_program.0.as_bytes();
        let ours = collected.execs.iter().filter(|exec| exec.container_id == self.container && exec.path == path);
        ours.map(|exec| &exec.event_id).collect::<std::collections::BTreeSet<_>>().len()
    }

    fn compare_findings(&self, collected: &Collected, differences: &mut Vec<String>) {
        let mut missing: Vec<&Drift> = self.drifts.iter().collect();
        for finding in collected.newest_findings() {
            if finding.state == FindingState::Retracted {
                differences.push(format!("a retracted finding: {}", describe(finding)));
                continue;
            }
            match missing.iter().position(|drift| self.matches(drift, finding)) {
                Some(at) => drop(missing.remove(at)),
                None => differences.push(format!("an unexpected finding: {}", describe(finding))),
            }
        }
        for drift in missing {
            differences.push(format!("no finding for: {} ({} {})", drift.what, drift.origin, drift.path));
        }
    }

    fn matches(&self, drift: &Drift, finding: &Finding) -> bool {
        let (Some(subject), Some(process)) = (&finding.subject, &finding.process) else { return false };
        subject.path == drift.path
            && process.args == drift.args
            && subject.sha256.map(|digest| digest.to_string()).as_deref() == Some(&drift.sha256)
            && finding.origin.as_str() == drift.origin
            && finding.category == drift.category
            && self.is_ours(finding)
    }

    fn is_ours(&self, finding: &Finding) -> bool {
        finding.container.as_ref().is_some_and(|container| {
            let pod = container.pod.as_ref().map(|pod| (pod.namespace.clone(), pod.name.clone()));
            container.id == self.container
                && container.image_id.as_str() == self.image_id
                && pod.as_ref() == Some(&self.pod)
        })
    }

    fn compare_alerts(&self, collected: &Collected, differences: &mut Vec<String>) {
        let newest = collected.newest_alerts();
        let [alert] = newest.as_slice() else {
            differences.push(format!("{} alerts instead of one for the container", newest.len()));
            return;
        };
        let found: Vec<_> = alert.findings.iter().filter_map(|f| f.subject.as_ref()).map(|s| &s.path).collect();
        for drift in self.drifts.iter().filter(|drift| !found.contains(&&drift.path)) {
            differences.push(format!("the alert does not name {}", drift.path));
        }
        if found.len() != self.drifts.len() {
            differences.push(format!("the alert has {} findings instead of {}", found.len(), self.drifts.len()));
        }
        let parts: i32 = alert.contributions.iter().map(|part| part.points).sum();
        if parts != alert.score {
            differences.push(format!("the parts of the score sum up to {parts}, the score is {}", alert.score));
        }
        compare_revisions(collected, differences);
        compare_ocsf(collected, alert, differences);
    }
}

/// Revision numbers start at 1 and have no gaps; a repeated number is the same revision sent again.
fn compare_revisions(collected: &Collected, differences: &mut Vec<String>) {
    let mut revisions: BTreeMap<&str, i32> = BTreeMap::new();
    for (alert, _) in &collected.alerts {
        let last = revisions.entry(alert.alert_id.as_str()).or_default();
        if alert.revision > *last + 1 {
            differences.push(format!("revision {} follows {last}", alert.revision));
        }
        *last = alert.revision.max(*last);
    }
}

/// The id of a revision in OCSF.
fn uid(alert: &Alert) -> String {
    format!("{}:{}", alert.alert_id, alert.revision)
}

fn has_ocsf(collected: &Collected, uid: &str) -> bool {
    collected.ocsf.iter().any(|message| {
        serde_json::from_str::<serde_json::Value>(message)
            .is_ok_and(|json| json.pointer("/metadata/uid").and_then(|value| value.as_str()) == Some(uid))
    })
}

fn compare_ocsf(collected: &Collected, newest: &Alert, differences: &mut Vec<String>) {
    let uid = uid(newest);
    if !has_ocsf(collected, &uid) {
        differences.push(format!("no OCSF message has the uid {uid}"));
    }
}

fn describe(finding: &Finding) -> String {
    let subject = finding.subject.as_ref();
    format!(
        "{} {} {} sha256 {} in {} args {:?} unresolved {:?}",
        finding.origin.as_str(),
        finding.category,
        subject.map_or("-", |subject| &subject.path),
        subject.and_then(|subject| subject.sha256).map_or_else(|| "-".to_owned(), |digest| digest.to_string()),
        finding.container.as_ref().map_or("-", |container| container.id.as_str()),
        finding.process.as_ref().map(|process| &process.args),
        finding.unresolved,
    )
}
