//! News by its definition: the first finding of a session with its program (path and digest), origin or way of entry. An
//! alert has a revision for it within the pace, which shows the program.

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, AlertId, Finding, FindingId, FindingState, Origin, Sha256, Subject, decode};
use std::collections::{BTreeMap, BTreeSet};

use super::sessions::{Limits, clouded, sessions, subject};
use crate::broker::Broker;
use crate::violation::{Checked, Violation};
use crate::world::MILLISECOND_NS;

type Program = (String, Option<Sha256>);

/// What makes a finding news.
type Kind = (String, Option<Program>, Origin, bool, bool);

fn program(subject: &Subject) -> Program {
    (subject.path.clone(), subject.sha256)
}

fn kind(finding: &Finding) -> Kind {
    let process = finding.process.as_ref();
    let entered = process.is_some_and(|process| process.entered_from_outside);
    let interactive = entered && process.is_some_and(|process| process.tty.is_some());
    (finding.detector.clone(), finding.subject.as_ref().map(program), finding.origin, entered, interactive)
}

/// The committed records of a topic that can be decoded, with the time of each.
fn records<R: driftline_schemas::Record>(broker: &Broker, topic: Topic) -> Vec<(i64, R)> {
    let partitions = broker.topic_partitions(topic).into_iter();
    let records = partitions.flat_map(|topic_partition| broker.committed_records(topic_partition));
    let decoded = records.filter_map(|(_, data)| {
        let record = decode(data.value.as_deref().unwrap_or_default()).ok()?;
        Some((data.timestamp_ms * MILLISECOND_NS, record))
    });
    decoded.collect()
}

/// Checks every finding that was news when it was committed, unless the next revision of the finding came before its
/// alert's. An alert may be without a revision for `max_ns`.
pub(crate) fn check_news(broker: &Broker, limits: Limits, max_ns: i64, excused: &BTreeSet<String>) -> Checked {
    let mut revisions: BTreeMap<AlertId, Vec<(i64, Alert)>> = BTreeMap::new();
    let alerts: Vec<(i64, Alert)> = records(broker, Topic::Alerts);
    let mut clouded = clouded(&alerts.iter().map(|(_, alert)| alert.clone()).collect::<Vec<_>>());
    clouded.extend(excused.iter().cloned());
    for (at_ns, alert) in alerts {
        revisions.entry(alert.alert_id.clone()).or_default().push((at_ns, alert));
    }
    let mut alert_of: BTreeMap<FindingId, AlertId> = BTreeMap::new();
    for session in sessions(broker, limits).into_values().flatten() {
        alert_of.extend(session.findings.iter().map(|finding| (finding.finding_id.clone(), session.id.clone())));
    }
    let findings: Vec<(i64, Finding)> = records(broker, Topic::Findings);
    let mut known: BTreeMap<&AlertId, BTreeSet<Kind>> = BTreeMap::new();
    for (at, (at_ns, finding)) in findings.iter().enumerate() {
        let Some(id) = alert_of.get(&finding.finding_id) else { continue };
        let Some(revisions) = revisions.get(id).filter(|_| !clouded.contains(&subject(finding).1)) else { continue };
        let is_news = finding.state == FindingState::Active && known.entry(id).or_default().insert(kind(finding));
        let created_ns = revisions.first().map_or(0, |(created_ns, _)| *created_ns);
        let until_ns = created_ns.max(*at_ns) + max_ns;
        let is_replaced = findings
            .iter()
            .skip(at + 1)
            .any(|(later_ns, later)| later.finding_id == finding.finding_id && *later_ns <= until_ns);
        let mut in_time = revisions.iter().filter(|(emitted_ns, _)| (*at_ns..=until_ns).contains(emitted_ns));
        if is_news && !is_replaced && !in_time.any(|(_, alert)| shows(alert, finding)) {
            let emitted: Vec<_> =
                revisions.iter().map(|(emitted_ns, alert)| (emitted_ns - at_ns, alert.revision)).collect();
            let what = format!("{id}: no revision in time shows {:?}, of {emitted:?}", kind(finding));
            return Err(Violation::new("oracle: news", what));
        }
    }
    Ok(())
}

fn shows(alert: &Alert, finding: &Finding) -> bool {
    let shown = alert.findings.iter().map(|shown| shown.subject.as_ref().map(program));
    shown.into_iter().any(|shown| shown == finding.subject.as_ref().map(program))
}
