//! What to do about an alert, step by step, with every value filled in.
//!
//! The steps follow the response that Google's Container Threat Detection documents for an added binary. Where that
//! response points to Google's console, the commands for a plain cluster or a single engine replace it. Attacked and
//! attackers choose the values: every value is quoted for the shell, filter or link that contains it, and a command
//! with unknown values is left out.

mod copy;
mod engine;
mod google;
mod image;
mod kubernetes;

use crate::text::{shell, utc};
use crate::{mitre, strongest};
use driftline_schemas::text::printable;
use driftline_schemas::{Alert, AlertFinding, Container, HashState, Mount, Node, Origin, Pod, Step};

use crate::resource::{GoogleCluster, google_cluster};
use engine::Engine;

/// The alert that the steps are about, and its container.
struct Scene<'a> {
    alert: &'a Alert,
    finding: &'a AlertFinding,
    workload: Workload<'a>,
    google: Option<GoogleCluster<'a>>,
}

/// How a person reaches the container.
enum Workload<'a> {
    /// Through Kubernetes.
    Pod { pod: &'a Pod, container: &'a Container },
    /// Through the engine on its node.
    Engine { engine: Engine, container: &'a Container },
    /// A loss has no container.
    None,
}

/// The steps for an alert that still applies.
pub(crate) fn steps(alert: &Alert) -> Vec<Step> {
    let Some(finding) = strongest(&alert.findings) else { return Vec::new() };
    let scene =
        Scene { alert, finding, workload: Workload::of(alert.container.as_ref()), google: google_cluster(&alert.node) };
    let parts = [review, image::check, cluster_and_node, workload, logs, investigate, research, respond];
    parts.iter().filter_map(|part| part(&scene)).collect()
}

/// The step for an alert that was withdrawn.
pub(crate) fn withdrawn(alert: &Alert) -> Vec<Step> {
    let text = "Every finding of this alert was retracted when more became known. Nothing needs to be done; what was \
                started because of it can be stopped.";
    vec![step("Withdrawn", text.to_owned(), vec![show(alert)])]
}

impl<'a> Workload<'a> {
    fn of(container: Option<&'a Container>) -> Self {
        match container {
            None => Self::None,
            Some(container) => match &container.pod {
                Some(pod) => Self::Pod { pod, container },
                None => Self::Engine { engine: Engine::of(&container.runtime), container },
            },
        }
    }
}

fn step(title: &str, text: String, commands: Vec<String>) -> Step {
    Step { title: title.to_owned(), text, commands }
}

fn show(alert: &Alert) -> String {
    format!("driftline alerts show {}", quote(alert.alert_id.as_str()))
}

fn quote(text: &str) -> String {
    shell::quote(text.as_bytes())
}

/// One sentence for each known fact.
fn sentences(facts: &[(&str, &str)]) -> String {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| format!("{name}: {value}.")).collect::<Vec<_>>().join(" ")
}

/// The period of the alert, as text.
fn period(alert: &Alert) -> String {
    let (first, last) = (utc::rfc3339(alert.first_seen_ns), utc::rfc3339(alert.last_seen_ns));
    if first == last { first } else { format!("{first} to {last}") }
}

fn review(scene: &Scene<'_>) -> Option<Step> {
    let Scene { alert, finding, .. } = scene;
    let node: &Node = &alert.node;
    let subject = finding.subject.as_ref();
    let arguments = finding.process.as_ref().map(shell::command_line).unwrap_or_default();
    let container = alert.container.as_ref();
    let pod = container.and_then(|container| container.pod.as_ref());
    let facts = [
        ("Program binary", subject.map_or("", |subject| &subject.path)),
        ("Arguments", arguments.as_str()),
        ("Affected resource", &alert.resource),
        ("Project", &node.project),
        ("Pod namespace", pod.map_or("", |pod| &pod.namespace)),
        ("Pod", pod.map_or("", |pod| &pod.name)),
        ("Container", container.map_or("", |container| &container.name)),
        ("Container image", container.map_or("", |container| &container.image_ref)),
        ("Node", &node.name),
        ("Node instance", &node.provider_id),
    ];
    let related = match alert.finding_count {
        1 => "Nothing else was found about it at about the same time so far.".to_owned(),
        count => format!(
            "This alert holds all {count} findings about it of that time; together they may show an attack where one \
             alone looks like carelessness."
        ),
    };
    let mut commands = vec![show(alert)];
    commands.extend((!alert.virustotal.is_empty()).then(|| alert.virustotal.clone()));
    Some(step("Review the finding", format!("{} Time: {}. {related}", sentences(&facts), period(alert)), commands))
}

fn cluster_and_node(scene: &Scene<'_>) -> Option<Step> {
    let node = &scene.alert.node;
    let mut commands: Vec<String> = scene.google.iter().map(google::cluster_link).collect();
    match &scene.workload {
        Workload::Engine { engine, .. } => commands.push(engine.info()),
        Workload::Pod { .. } => commands.extend(kubernetes::describe_node(node)),
        Workload::None => {}
    }
    let facts = [
        ("Cluster", node.cluster.as_str()),
        ("Node", &node.name),
        ("Instance", &node.provider_id),
        ("Zone", &node.zone),
    ];
    let text = format!("{} Note who owns them and whether other workloads on the node are exposed.", sentences(&facts));
    Some(step("Review the cluster and the node", text, commands))
}

fn workload(scene: &Scene<'_>) -> Option<Step> {
    let owner = scene.alert.container.as_ref().and_then(|container| container.owner.as_ref());
    let owned = owner.map(|owner| format!(" It belongs to {} {}.", owner.kind, owner.name)).unwrap_or_default();
    match &scene.workload {
        Workload::Pod { pod, .. } => {
            let text = format!("Look at pod {}/{}, its labels and its owner.{owned}", pod.namespace, pod.name);
            let mut commands: Vec<String> = scene.google.iter().map(|google| google::pod_link(google, pod)).collect();
            commands.extend(kubernetes::describe(pod, owner));
            Some(step("Review the pod", text, commands))
        }
        Workload::Engine { engine, container } => {
            let text =
                format!("Look at how container {} was started, on node {}.", container.name, scene.alert.node.name);
            Some(step("Review the container", text, engine.inspect(container)))
        }
        Workload::None => None,
    }
}

fn logs(scene: &Scene<'_>) -> Option<Step> {
    let alert = scene.alert;
    let mut commands = Vec::new();
    match &scene.workload {
        Workload::Pod { pod, container } => {
            commands.extend(scene.google.iter().flat_map(|google| google::pod_filters(google, pod)));
            commands.extend(kubernetes::logs(pod, container, alert));
        }
        Workload::Engine { engine, container } => commands.extend(engine.logs(container, alert)),
        Workload::None => {}
    }
    commands.extend(scene.google.iter().filter_map(|_| google::node_filter(&alert.node)));
    commands.push(format!(
        "journalctl --utc --since {} --until {}",
        journal_time(alert.first_seen_ns.saturating_sub(MARGIN_NS)),
        journal_time(alert.last_seen_ns.saturating_add(MARGIN_NS)),
    ));
    let filters = match (&scene.workload, &scene.google) {
        (Workload::Pod { .. }, Some(_)) => {
            " The filters are for the Logs Explorer: the pod's own log, the cluster's audit log, the node's console."
        }
        (_, Some(_)) => " The filter is for the Logs Explorer.",
        _ => "",
    };
    let text =
        format!("Look at {}, with some minutes before and after; the journal is the node's.{filters}", period(alert));
    Some(step("Check the logs", text, commands))
}

/// Margin around the alert within which logs are read.
const MARGIN_NS: i64 = 5 * 60 * 1_000_000_000;

/// A time as `journalctl` takes it.
fn journal_time(ns: i64) -> String {
    quote(&utc::rfc3339(ns).replace('T', " ").replace('Z', " UTC"))
}

fn investigate(scene: &Scene<'_>) -> Option<Step> {
    let mut commands = Vec::new();
    if let (Workload::Pod { .. }, Some(google)) = (&scene.workload, &scene.google) {
        commands.push(google::credentials(google));
    }
    let copy = copy::of(scene);
    commands.extend(copy.commands);
    let enter = match &scene.workload {
        Workload::Pod { pod, container } => kubernetes::enter(pod, container).to_vec(),
        Workload::Engine { engine, container } => engine.enter(container),
        Workload::None => return None,
    };
    let without_shell = if enter.len() > 1 { "; the last command is for images without a shell" } else { "" };
    let text = match &scene.finding.subject {
        Some(_) => format!("While the container still runs: {} Then look around inside{without_shell}.", copy.text),
        None => format!("While the container still runs, look around inside{without_shell}."),
    };
    commands.extend(enter);
    Some(step("Investigate the running container", text, commands))
}

fn research(scene: &Scene<'_>) -> Option<Step> {
    let alert = scene.alert;
    let mut commands: Vec<String> = alert.techniques.iter().filter_map(|id| mitre::link(id)).collect();
    let names = alert
        .techniques
        .iter()
        .map(|id| mitre::technique(id).map_or_else(|| id.clone(), |technique| format!("{id} {}", technique.name)));
    let names = names.collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    if !names.is_empty() {
        text = format!("MITRE ATT&CK describes the technique: {names}. ");
    }
    match scene.finding.subject.as_ref().map(|subject| (subject.sha256, subject.hash_state)) {
        Some((Some(digest), _)) => {
            text.push_str(&format!("Look the program's SHA-256 up: {digest}."));
            commands.push(alert.virustotal.clone());
        }
        Some((None, state)) => text.push_str(&format!("There is no digest to look up: {}.", no_digest(state))),
        None => {}
    }
    (!text.is_empty()).then(|| step("Research the attack", text.trim_end().to_owned(), commands))
}

fn no_digest(state: HashState) -> &'static str {
    match state {
        HashState::Hashed | HashState::NotNeeded => "the image's own has it",
        HashState::Changed => "the file changed after it was executed",
        HashState::Gone => "the file was gone",
        HashState::Unreadable => "the file could not be read",
        HashState::TooLarge => "the file is larger than the collector's limit",
        HashState::RefusedFs => "the file lies on a file system that the collector does not read",
        HashState::OverBudget => "the container had used up its hashing budget",
    }
}

fn respond(scene: &Scene<'_>) -> Option<Step> {
    let alert = scene.alert;
    let node = &alert.node;
    let image = alert.container.as_ref().map_or("", |container| &container.image_ref);
    let contact = alert.container.as_ref().and_then(|container| container.owner.as_ref());
    let contact = contact.map(|owner| format!("{} {}", owner.kind, owner.name));
    let contact = contact.or_else(|| (!node.project.is_empty()).then(|| format!("project {}", node.project)));
    let contact = contact.unwrap_or_else(|| format!("cluster {}", node.cluster));
    let (fate, commands) = match &scene.workload {
        Workload::Pod { pod, .. } => (
            "Stop or delete the pod, once what it shows is saved, and let a new one replace it.",
            kubernetes::remove(pod),
        ),
        Workload::Engine { engine, container } => (
            "Stop and delete the container, once what it shows is saved, and start a new one from the image.",
            engine.remove(container),
        ),
        Workload::None => {
            let text = "Find out why the collector on the node could not see everything: load, a crash, or somebody who stopped it. What ran in that time must be taken from other sources.";
            return Some(step("Respond", text.to_owned(), Vec::new()));
        }
    };
    if image::is_about_image(scene.finding) {
        let text = format!(
            "Weigh each action against what it interrupts. Tell the owner of {contact} and whoever runs the registry. When \
             the image turns out to be changed, build it anew from what is trusted. {fate}"
        );
        return Some(step("Respond", text, commands));
    }
    let accept = accept(scene.finding, image);
    let text = format!(
        "Weigh each action against what it interrupts. If the program belongs in the container, {accept}. Otherwise tell the owner of {contact}. {fate}"
    );
    Some(step("Respond", text, commands))
}

/// How a program that belongs in the container stops being a finding.
fn accept(finding: &AlertFinding, image: &str) -> String {
    if finding.origin == Origin::Unproven {
        return "it may be the image's: remove the reason why nothing is proven, which the finding gives".to_owned();
    }
    if finding.origin != Origin::Mounted {
        return format!("build it into image {image} and deploy that, so that containers stay as built");
    }
    let mount = finding.subject.as_ref().and_then(|subject| subject.mount.as_ref());
    let text = |text: &str| printable(text.as_bytes()).text;
    let place = mount.map_or_else(
        || "its mount".to_owned(),
        |Mount { point, fs_type, source, .. }| {
            let of = if source.is_empty() { String::new() } else { format!(" of {}", text(source)) };
            format!("the {} mount at {}{of}", text(fs_type), text(point))
        },
    );
    format!(
        "check who can write to {place}, mount it read-only, and expect the finding again: it is no part of the image"
    )
}

#[cfg(test)]
mod tests;
