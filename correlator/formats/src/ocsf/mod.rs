//! An alert as an OCSF Detection Finding (class 2004), profiles `container` and `host`.
//!
//! A value is in the OCSF attribute for it, if there is one. The rest is in `evidences[].data` (of one finding) and
//! `unmapped` (of the alert). `test_golden` compares with reviewed files, and those are valid under the published
//! schema.

mod evidence;
mod objects;

use driftline_schemas::{Activity, Alert, AlertFinding, Confidence, HashState, Origin, Severity, Step};
use std::borrow::Cow;
use std::fmt::Write as _;

use driftline_correlator_core::text::utc::milliseconds;
use driftline_correlator_core::{FormatError, SiemFormat, mitre, strongest};
use driftline_schemas::topics::Topic;

use objects::{
    Analytic, Attack, ContainerData, DetectionFinding, Device, FindingInfo, Metadata, Named, Observable, Product,
    RelatedEvent, Remediation, Resource, Score, Unmapped,
};

/// [`VERSION`], for `concat!`.
macro_rules! version {
    () => {
        "1.8.0"
    };
}

/// Version of the standard.
pub const VERSION: &str = version!();

/// OCSF Detection Finding, JSON.
pub const FORMAT: SiemFormat = SiemFormat {
    name: "ocsf",
    topic: Topic::AlertsOcsf,
    schema: concat!("ocsf/", version!(), "/detection_finding"),
    encode,
};

const CATEGORY_UID: u32 = 2;
const CLASS_UID: u32 = 2004;

/// Flags of an alert from which something was left out.
const TRUNCATING_FLAGS: [&str; 3] = ["findings_capped", "details_dropped", "shortened"];

/// Writes `alert` as one line of JSON.
///
/// # Errors
/// Never fails for an alert that the correlator emitted.
pub fn encode(alert: &Alert) -> Result<Vec<u8>, FormatError> {
    serde_json::to_vec(&detection_finding(alert)).map_err(failed)
}

/// Writes `alert` as indented JSON for a person.
///
/// # Errors
/// As [`encode`].
pub fn encode_pretty(alert: &Alert) -> Result<Vec<u8>, FormatError> {
    serde_json::to_vec_pretty(&detection_finding(alert)).map_err(failed)
}

fn failed(error: serde_json::Error) -> FormatError {
    FormatError { format: FORMAT.name, why: error.to_string() }
}

fn detection_finding(alert: &Alert) -> DetectionFinding<'_> {
    let (activity_id, activity_name) = activity(alert.activity);
    let (severity_id, severity) = severity_of(alert.severity);
    let (risk_level_id, risk_level) = risk_level(alert.severity);
    let confidence = strongest(&alert.findings).map(|finding| confidence_of(finding.confidence));
    let status = status(alert.activity);
    DetectionFinding {
        activity_id,
        activity_name,
        category_uid: CATEGORY_UID,
        category_name: "Findings",
        class_uid: CLASS_UID,
        class_name: "Detection Finding",
        type_uid: CLASS_UID * 100 + activity_id,
        type_name: format!("Detection Finding: {activity_name}"),
        time: milliseconds(alert.emitted_ns),
        start_time: milliseconds(alert.first_seen_ns),
        end_time: milliseconds(alert.last_seen_ns),
        count: alert.finding_count,
        severity_id,
        severity,
        confidence_id: confidence.map(|(id, _)| id),
        confidence: confidence.map(|(_, name)| name),
        risk_score: alert.score,
        risk_level_id,
        risk_level,
        status_id: status.map(|(id, _)| id),
        status: status.map(|(_, name)| name),
        is_alert: true,
        message: &alert.message,
        metadata: metadata(alert),
        finding_info: finding_info(alert),
        evidences: evidence::evidences(alert),
        resources: resources(alert),
        device: device(alert),
        observables: observables(alert),
        remediation: remediation(alert),
        unmapped: unmapped(alert),
    }
}

fn activity(activity: Activity) -> (u32, &'static str) {
    match activity {
        Activity::Create => (1, "Create"),
        Activity::Update => (2, "Update"),
        Activity::Close => (3, "Close"),
    }
}

/// Only the states that driftline decides; in between, whoever works on the alert sets the status.
fn status(activity: Activity) -> Option<(u32, &'static str)> {
    match activity {
        Activity::Create => Some((1, "New")),
        Activity::Update => None,
        Activity::Close => Some((4, "Resolved")),
    }
}

fn severity_of(severity: Severity) -> (u32, &'static str) {
    let id = match severity {
        Severity::Informational => 1,
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    };
    (id, severity.title())
}

fn risk_level(severity: Severity) -> (u32, &'static str) {
    match severity {
        Severity::Informational => (0, "Info"),
        Severity::Low => (1, "Low"),
        Severity::Medium => (2, "Medium"),
        Severity::High => (3, "High"),
        Severity::Critical => (4, "Critical"),
    }
}

fn confidence_of(confidence: Confidence) -> (u32, &'static str) {
    match confidence {
        Confidence::Low => (1, "Low"),
        Confidence::Medium => (2, "Medium"),
        Confidence::High => (3, "High"),
    }
}

fn metadata(alert: &Alert) -> Metadata<'_> {
    Metadata {
        version: VERSION,
        product: Product { name: "driftline", vendor_name: "driftline", version: env!("CARGO_PKG_VERSION") },
        profiles: ["container", "host"],
        uid: format!("{}:{}", alert.alert_id, alert.revision),
        correlation_uid: alert.alert_id.as_str(),
        sequence: alert.revision,
        log_name: "alerts",
        is_truncated: alert.flags.iter().any(|flag| TRUNCATING_FLAGS.contains(&flag.as_str())),
    }
}

fn finding_info(alert: &Alert) -> FindingInfo<'_> {
    let emitted = milliseconds(alert.emitted_ns);
    FindingInfo {
        uid: alert.alert_id.as_str(),
        title: &alert.title,
        desc: &alert.message,
        types: &alert.categories,
        created_time: (alert.activity == Activity::Create).then_some(emitted),
        modified_time: emitted,
        first_seen_time: milliseconds(alert.first_seen_ns),
        last_seen_time: milliseconds(alert.last_seen_ns),
        analytic: strongest(&alert.findings).map(|finding| Analytic {
            type_id: 1,
            r#type: "Rule",
            uid: &finding.detector,
            name: &finding.category,
        }),
        attacks: alert.techniques.iter().map(|id| attack(id)).collect(),
        related_events: alert.findings.iter().map(related_event).collect(),
        related_events_count: alert.finding_count,
    }
}

fn attack(id: &str) -> Attack<'_> {
    let named =
        |id| Named { uid: id, name: mitre::technique(id).map(|technique| technique.name), src_url: mitre::link(id) };
    let parent = mitre::parent(id);
    let tactic = mitre::technique(id).map(|technique| technique.tactic);
    Attack {
        version: mitre::VERSION,
        tactic: tactic.map(|tactic| Named { uid: tactic.id, name: Some(tactic.name), src_url: None }),
        technique: named(parent),
        sub_technique: (parent != id).then(|| named(id)),
    }
}

fn related_event(finding: &AlertFinding) -> RelatedEvent<'_> {
    RelatedEvent {
        uid: finding.finding_id.as_str(),
        title: &finding.category,
        severity_id: severity_of(finding.severity).0,
        count: finding.count,
        first_seen_time: milliseconds(finding.event_time_ns),
    }
}

/// The cluster first, then the pod and its workload.
fn resources(alert: &Alert) -> Vec<Resource<'_>> {
    let pod = alert.container.as_ref().and_then(|container| container.pod.as_ref());
    let owner = alert.container.as_ref().and_then(|container| container.owner.as_ref());
    let cluster_kind = if pod.is_some() { "Kubernetes Cluster" } else { "Cluster" };
    let mut resources = vec![Resource {
        r#type: cluster_kind.to_owned(),
        name: &alert.node.cluster,
        uid: Some(&alert.resource),
        namespace: None,
        labels: Vec::new(),
    }];
    resources.extend(pod.map(|pod| Resource {
        r#type: "Kubernetes Pod".to_owned(),
        name: &pod.name,
        uid: known(&pod.uid),
        namespace: known(&pod.namespace),
        labels: pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    }));
    resources.extend(owner.map(|owner| Resource {
        r#type: format!("Kubernetes {}", owner.kind),
        name: &owner.name,
        uid: None,
        namespace: pod.and_then(|pod| known(&pod.namespace)),
        labels: Vec::new(),
    }));
    resources
}

/// OCSF requires at least one identifier of a device; without a node name there is none.
fn device(alert: &Alert) -> Option<Device<'_>> {
    let node = &alert.node;
    let identifier = known(&node.provider_id).or_else(|| known(&node.name));
    identifier.is_some().then(|| Device {
        type_id: 1,
        r#type: "Server",
        hostname: known(&node.name),
        uid: identifier,
        instance_uid: known(&node.provider_id),
        zone: known(&node.zone),
    })
}

/// The values that a SIEM searches for across events: node, pod, and each finding's file and digest. The name of an
/// observable points to the attribute that holds the value, as the standard requires.
fn observables(alert: &Alert) -> Vec<Observable<'_>> {
    let at = |name: &str, (type_id, r#type): (u32, &'static str), value| Observable {
        name: name.to_owned(),
        type_id,
        r#type,
        value,
    };
    let mut observables = Vec::new();
    observables.extend(known(&alert.node.name).map(|name| at("device.hostname", (1, "Hostname"), name.into())));
    observables.push(at("resources[0].uid", (10, "Resource UID"), Cow::Borrowed(alert.resource.as_str())));
    for (index, finding) in alert.findings.iter().enumerate() {
        let Some(subject) = finding.subject.as_ref().filter(|subject| !subject.path.is_empty()) else { continue };
        let file = format!("evidences[{index}].file");
        observables.push(at(&format!("{file}.path"), (45, "File Path"), Cow::Borrowed(&subject.path)));
        observables.extend(
            subject.sha256.map(|digest| at(&format!("{file}.hashes[0].value"), (8, "Hash"), digest.to_string().into())),
        );
    }
    observables
}

/// Every response step as text, its commands indented below it, and the links apart.
fn remediation(alert: &Alert) -> Remediation<'_> {
    let mut desc = String::new();
    for (number, step) in (1..).zip(&alert.response) {
        write_step(&mut desc, number, step);
    }
    if desc.is_empty() {
        desc.push_str("Nothing to do.");
    }
    let links = alert.response.iter().flat_map(|step| &step.commands).filter(|command| command.starts_with("https://"));
    let mut references: std::collections::BTreeSet<_> = links.map(|link| Cow::Borrowed(link.as_str())).collect();
    references.extend(known(&alert.virustotal).map(Cow::Borrowed));
    Remediation { desc, references }
}

fn write_step(desc: &mut String, number: usize, step: &Step) {
    let _ = writeln!(desc, "{number}. {}: {}", step.title, step.text);
    for command in &step.commands {
        let _ = writeln!(desc, "    {command}");
    }
}

fn unmapped(alert: &Alert) -> Unmapped<'_> {
    let strongest = strongest(&alert.findings);
    Unmapped {
        r#final: alert.r#final,
        score: Score { total: alert.score, contributions: &alert.contributions },
        binary_kind: strongest.map(|finding| finding.origin).filter(|origin| *origin != Origin::None),
        confidence_reason: strongest.and_then(confidence_reason),
        fingerprint: alert.fingerprint.as_str(),
        virustotal: known(&alert.virustotal),
        flags: &alert.flags,
        cluster: &alert.node.cluster,
        project: known(&alert.node.project),
        location: known(&alert.node.location),
        owner: alert.container.as_ref().and_then(|container| container.owner.as_ref()),
        container: alert.container.as_ref().map(|container| ContainerData {
            image_ref: known(&container.image_ref),
            image_id_source: known(&container.image_id_source),
            pod_uid: container.pod.as_ref().and_then(|pod| known(&pod.uid)),
            service_account: known(&container.service_account),
            rootfs: known(&container.rootfs),
            privileged: container.privileged,
            host_namespaces: &container.host_namespaces,
            tty: container.tty,
            started_time: (container.started_ns != 0).then(|| milliseconds(container.started_ns)),
        }),
        versions: &alert.versions,
    }
}

/// Why the confidence of the verdict is not high.
fn confidence_reason(finding: &AlertFinding) -> Option<String> {
    if let Some(reason) = &finding.unresolved {
        return Some(format!("the image could not be consulted: {reason}"));
    }
    let subject = finding.subject.as_ref()?;
    let why = match subject.hash_state {
        HashState::Hashed | HashState::NotNeeded => return None,
        HashState::Changed if subject.sha256.is_some() => {
            let is_unproven = finding.origin == Origin::Unproven;
            return is_unproven.then(|| "the file changed right before or after the exec".to_owned());
        }
        HashState::Changed => "the file changed after it was executed",
        HashState::Gone => "the file was gone",
        HashState::Unreadable => "the file could not be read",
        HashState::TooLarge => "the file is larger than the limit",
        HashState::RefusedFs => "the file lies on a file system that is not read",
        HashState::OverBudget => "the container's hashing budget was used up",
    };
    Some(format!("no digest: {why}"))
}

/// The text, or `None` when it is empty because the fact is not known.
fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
