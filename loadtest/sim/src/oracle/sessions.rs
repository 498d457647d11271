//! Sessions by their definition: a finding joins the first session of its subject that is near enough and would not
//! exceed the length cap, or opens one. The content of a session is computed from the last revision of each finding.

use driftline_schemas::topics::Topic;
use driftline_schemas::{
    Activity, Alert, AlertId, Confidence, FileClass, Finding, FindingId, FindingState, Origin, Severity, decode,
};
use std::collections::{BTreeMap, BTreeSet};

use crate::broker::Broker;
use crate::checks::Outputs;
use crate::violation::{Checked, Violation};
use crate::world::{SECOND_NS, World};

const ALERTS: &str = "oracle: alerts";

/// The settings of sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub gap_ns: i64,
    pub cap_ns: i64,
}

/// Flags of an alert whose content does not depend on its findings alone.
const CLOUDED: [&str; 3] = ["late", "length_capped", "session_evicted"];

#[derive(Debug)]
pub(super) struct Session {
    pub id: AlertId,
    first_ns: i64,
    last_ns: i64,
    /// In order of first arrival, each in its last revision.
    pub findings: Vec<Finding>,
}

/// The fields of an alert that are compared with its session.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    severity: Severity,
    score: i32,
    count: i64,
    categories: BTreeSet<String>,
    span_ns: (i64, i64),
    shown: BTreeSet<FindingId>,
}

pub(super) fn subject(finding: &Finding) -> (String, String) {
    let id = finding.container.as_ref().map_or(finding.node.name.clone(), |container| container.id.to_string());
    (finding.node.cluster.clone(), id)
}

fn subject_of(alert: &Alert) -> String {
    alert.container.as_ref().map_or(alert.node.name.clone(), |container| container.id.to_string())
}

pub(super) fn sessions(broker: &Broker, limits: Limits) -> BTreeMap<(String, String), Vec<Session>> {
    let mut all: BTreeMap<(String, String), Vec<Session>> = BTreeMap::new();
    for topic_partition in broker.topic_partitions(Topic::Findings) {
        for (_, data) in broker.committed_records(topic_partition) {
            let Ok(finding) = decode::<Finding>(data.value.as_deref().unwrap_or_default()) else { continue };
            let subject = subject(&finding);
            let sessions = all.entry(subject.clone()).or_default();
            let of_same =
                |session: &Session| session.findings.iter().position(|old| old.finding_id == finding.finding_id);
            if let Some((session, at)) =
                sessions.iter_mut().find_map(|session| of_same(session).map(|at| (session, at)))
            {
                if let Some(old) = session.findings.get_mut(at) {
                    *old = finding;
                }
                continue;
            }
            let time_ns = finding.event_time_ns;
            let near = |session: &Session| {
                let near = time_ns >= session.first_ns - limits.gap_ns && time_ns <= session.last_ns + limits.gap_ns;
                near && session.last_ns.max(time_ns) - session.first_ns.min(time_ns) <= limits.cap_ns
            };
            if let Some(session) = sessions.iter_mut().find(|session| near(session)) {
                session.first_ns = session.first_ns.min(time_ns);
                session.last_ns = session.last_ns.max(time_ns);
                session.findings.push(finding);
            } else {
                let id = AlertId::of(&subject.0, &subject.1, &finding.finding_id);
                sessions.push(Session { id, first_ns: time_ns, last_ns: time_ns, findings: vec![finding] });
            }
        }
    }
    all
}

/// Subjects of alerts whose flags report omitted or shortened content.
pub(crate) fn clouded(alerts: &[Alert]) -> BTreeSet<String> {
    let clouded = alerts.iter().filter(|alert| alert.flags.iter().any(|flag| CLOUDED.contains(&flag.as_str())));
    clouded.map(subject_of).collect()
}

/// Subjects with a session that was evicted for the memory limit. The session's last revision may not have reported the
/// eviction, and later findings open other sessions.
pub(crate) fn evicted(world: &World, alerts: &[Alert], limits: Limits) -> BTreeSet<String> {
    let by_definition = sessions(&world.broker, limits).into_iter();
    let by_definition = by_definition.filter(|(_, all)| all.iter().any(|session| world.evicted.contains(&session.id)));
    let by_alert = alerts.iter().filter(|alert| world.evicted.contains(&alert.alert_id)).map(subject_of);
    by_definition.map(|((_, id), _)| id).chain(by_alert).collect()
}

/// Checks that the last revision of each alert is the summary of its session, and that no alert is missing or
/// unexpected.
pub(crate) fn check_alerts(broker: &Broker, outputs: &Outputs, limits: Limits, excused: &BTreeSet<String>) -> Checked {
    let mut last: BTreeMap<&AlertId, &Alert> = BTreeMap::new();
    last.extend(outputs.alerts.iter().map(|alert| (&alert.alert_id, alert)));
    let mut clouded = clouded(&outputs.alerts);
    clouded.extend(excused.iter().cloned());
    let mut expected = BTreeSet::new();
    for ((_, id), sessions) in sessions(broker, limits) {
        for session in &sessions {
            expected.insert(session.id.clone());
            if !clouded.contains(&id) {
                check_alert(&id, session, last.get(&session.id).copied())?;
            }
        }
    }
    // The correlator's findings about itself are on no topic.
    let of_itself = |alert: &Alert| alert.node.name == "driftline-correlator";
    let stranger = last.values().find(|alert| {
        !expected.contains(&alert.alert_id) && !clouded.contains(&subject_of(alert)) && !of_itself(alert)
    });
    match stranger {
        Some(alert) => Err(Violation::new(ALERTS, format!("alert {} is about no session", alert.alert_id))),
        None => Ok(()),
    }
}

fn check_alert(subject: &str, session: &Session, alert: Option<&Alert>) -> Checked {
    let fail = |what: String| Err(Violation::new(ALERTS, format!("{subject}, session {}: {what}", session.id)));
    let active: Vec<&Finding> = session.findings.iter().filter(|found| found.state == FindingState::Active).collect();
    let Some(alert) = alert else {
        // The session may have been retracted before it reached the threshold, and again afterwards.
        let enough = summarize(&active, &session.findings).severity >= Severity::Low;
        return if enough { fail("no alert".to_owned()) } else { Ok(()) };
    };
    if active.is_empty() {
        let closed = alert.activity == Activity::Close && alert.score == 0;
        return if closed { Ok(()) } else { fail("everything was retracted, and it is not closed".to_owned()) };
    }
    if !alert.r#final || alert.activity == Activity::Close {
        return fail(format!("revision {} is the last, and not a final update", alert.revision));
    }
    let expected = summarize(&active, &session.findings);
    let found = Summary {
        severity: alert.severity,
        score: alert.score,
        count: alert.finding_count,
        categories: alert.categories.iter().cloned().collect(),
        span_ns: (alert.first_seen_ns, alert.last_seen_ns),
        shown: alert.findings.iter().map(|finding| finding.finding_id.clone()).collect(),
    };
    if expected == found {
        return Ok(());
    }
    fail(format!("expected {expected:?}, found {found:?}"))
}

/// The summary of the active findings.
fn summarize(active: &[&Finding], all: &[Finding]) -> Summary {
    let times = || active.iter().map(|finding| finding.event_time_ns);
    let mut folds = BTreeSet::new();
    let shown = active.iter().filter(|finding| {
        let file = finding.subject.as_ref().map(|subject| (subject.path.clone(), subject.sha256));
        let of_image = (finding.subject.is_none() && finding.container.is_some()).then(|| finding.category.clone());
        folds.insert((finding.detector.clone(), file, of_image))
    });
    let score = score(active, all);
    Summary {
        severity: match score {
            85.. => Severity::Critical,
            65.. => Severity::High,
            40.. => Severity::Medium,
            15.. => Severity::Low,
            _ => Severity::Informational,
        },
        score,
        count: i64::try_from(active.len()).unwrap_or(i64::MAX),
        categories: active.iter().map(|finding| finding.category.clone()).collect(),
        span_ns: (times().min().unwrap_or(0), times().max().unwrap_or(0)),
        shown: shown.map(|finding| finding.finding_id.clone()).collect(),
    }
}

/// The least score of the alert threshold.
const LOW_POINTS: i32 = 15;

/// The score table, for the facts that occur here. Any finding of a container contains the container's facts.
fn score(active: &[&Finding], all: &[Finding]) -> i32 {
    let strongest = active.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Informational);
    let base = match strongest {
        Severity::Informational => 0,
        Severity::Low => 20,
        Severity::Medium => 45,
        Severity::High => 70,
        Severity::Critical => 90,
    };
    let categories: BTreeSet<&str> = active.iter().map(|finding| finding.category.as_str()).collect();
    let any = |fact: &dyn Fn(&Finding) -> bool| active.iter().any(|finding| fact(finding));
    let process = |fact: fn(&driftline_schemas::Process) -> bool| {
        active.iter().any(|finding| finding.process.as_ref().is_some_and(fact))
    };
    let described =
        all.iter().filter_map(|finding| finding.container.as_ref()).find(|container| !container.name.is_empty());
    let mut points = base;
    let mut raise = |applies: bool, by: i32| points += if applies { by } else { 0 };
    let weighty: BTreeSet<&str> = categories
        .iter()
        .filter(|category| **category != "Unproven Program Executed")
        .map(|category| if *category == "Added Script Executed" { "Added Binary Executed" } else { category })
        .collect();
    raise(weighty.len() > 1, 15);
    raise(weighty.len() > 2, 15);
    let deleted = |finding: &Finding| {
        finding.subject.as_ref().is_some_and(|subject| subject.deleted && subject.class != FileClass::Memfd)
    };
    raise(any(&deleted), 15);
    raise(process(|process| process.entered_from_outside && process.tty.is_some()), 10);
    raise(described.is_some_and(|container| container.privileged || !container.host_namespaces.is_empty()), 10);
    raise(categories.contains("Container Throttled"), 10);
    raise(process(|process| process.container_root_user), 5);
    let times = || active.iter().map(|finding| finding.event_time_ns);
    let at_start = described.filter(|container| container.started_ns != 0).is_some_and(|container| {
        let near = |time_ns: i64| (time_ns - container.started_ns).abs() <= 30 * SECOND_NS;
        times().all(near)
    });
    let is_foreign = |finding: &Finding| {
        let image = [Origin::Image, Origin::Touched, Origin::Inconsistent, Origin::HostNamespace];
        let unknown = [Origin::Unresolved, Origin::Unproven, Origin::None];
        finding.confidence == Confidence::High && !image.contains(&finding.origin) && !unknown.contains(&finding.origin)
    };
    if base < 70 && at_start && !process(|process| process.entered_from_outside) {
        let floor = if any(&is_foreign) { LOW_POINTS.min(points) } else { 0 };
        points = (points - 10).max(floor);
    }
    points.clamp(0, 100)
}
