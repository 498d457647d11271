//! Builds the records that analysts read from evidence and verdict. Whatever others chose in them is printable
//! ([`escaped`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use driftline_schemas::text::{base64, printable};
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    Ancestor, AncestorProcess, CONTAINER_THROTTLED, CollectorLoss, Confidence, Container, ContainerSeen,
    ContainerThrottled, Descriptor, EventId, Exec, Finding, FindingId, FindingState, HashState, Node, Origin, Process,
    Severity, Subject,
};
use driftline_service_core::Gap;

use crate::capability;
use crate::detector::Detector;
use crate::drift::{Category, UNPROVEN, Verdict};
use crate::escape::escaped;
use crate::evidence::{ExecutedFile, Role};
use crate::flaw::Flaw;
use crate::unproven::Unproven;

/// Category of a loss.
const LOSS_CATEGORY: &str = "Collector Lost Events";
/// Category of execs that reached the topic and expired before they were judged.
const GAP_CATEGORY: &str = "Topic Lost Events";
/// Number of files that the note about a throttled container names: as many as a sentence can carry. The record has
/// more.
const FOLDED_NAMED: usize = 3;
/// Node name of a gap, which is not caused by any collector.
pub const GAP_NODE: &str = "driftline-enricher";

/// Number and state of the revision of a finding to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// 1 for the first revision.
    pub number: i32,
    /// Whether the finding is active or retracted.
    pub state: FindingState,
}

/// The drift finding of an exec.
#[must_use]
pub fn drift(
    exec: &Exec,
    seen: Option<&ContainerSeen>,
    verdict: &Verdict,
    category: Category,
    revision: Revision,
    versions: &BTreeMap<String, String>,
) -> Finding {
    escaped(of_exec(exec, seen, verdict, category, revision, versions))
}

/// The fields that all findings about an exec have in common; not escaped yet.
fn of_exec(
    exec: &Exec,
    seen: Option<&ContainerSeen>,
    verdict: &Verdict,
    category: Category,
    revision: Revision,
    versions: &BTreeMap<String, String>,
) -> Finding {
    let known = seen.map(|seen| (seen.node.clone(), seen.container.clone()));
    let (node, container) = known.unwrap_or_else(|| unknown_container(exec));
    Finding {
        finding_id: FindingId::of(&exec.event_id, Detector::Drift.id()),
        event_id: exec.event_id.clone(),
        detector: Detector::Drift.id().to_owned(),
        revision: revision.number,
        state: revision.state,
        category: category.name.to_owned(),
        severity: category.severity,
        confidence: verdict.confidence,
        origin: verdict.origin,
        unresolved: verdict.unresolved.clone(),
        techniques: category.techniques.iter().map(|id| (*id).to_owned()).collect(),
        event_time_ns: exec.time_ns,
        node,
        container: Some(container),
        process: Some(process(exec)),
        subject: Some(subject(exec, verdict)),
        note: note(exec, verdict),
        versions: versions.clone(),
    }
}

/// The note of a verdict, with the files of the exec that it is not about.
fn note(exec: &Exec, verdict: &Verdict) -> String {
    let mut note = verdict.note.clone();
    if verdict.file == Role::Interpreter {
        let _ = write!(note, "; it ran {}", printable(exec.subject_path()).text);
    }
    if let Some((role, origin)) = verdict.other {
        let file = ExecutedFile::with_role(exec, role);
        let _ = write!(note, "; {} is {} as well", printable(file.path).text, origin.as_str());
    }
    note
}

/// Execs of a container that are unproven for one reason, and have one finding together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnprovenExecs {
    /// The reason.
    pub reason: Unproven,
    /// Event id of their finding.
    pub event_id: EventId,
    /// Event time of the first of them.
    pub first_ns: i64,
    /// How many are unproven now.
    pub execs: i64,
}

/// The finding about execs that are unproven for one reason; shows the newest of them.
#[must_use]
pub fn unproven(
    newest: &Exec,
    seen: Option<&ContainerSeen>,
    verdict: &Verdict,
    execs: &UnprovenExecs,
    revision: Revision,
    versions: &BTreeMap<String, String>,
) -> Finding {
    escaped(Finding {
        finding_id: FindingId::of(&execs.event_id, Detector::Drift.id()),
        event_id: execs.event_id.clone(),
        event_time_ns: execs.first_ns,
        confidence: Confidence::Low,
        origin: Origin::Unproven,
        note: unproven_in_words(verdict, execs),
        ..of_exec(newest, seen, verdict, UNPROVEN, revision, versions)
    })
}

fn unproven_in_words(verdict: &Verdict, execs: &UnprovenExecs) -> String {
    let UnprovenExecs { reason, execs, .. } = execs;
    let why = reason.in_words();
    match execs {
        ..=0 => format!("each exec that was unproven because {why} has a verdict of its own by now"),
        1 => format!("{} ({why})", verdict.note),
        _ => format!("{execs} execs are unproven because {why}; of the newest: {}", verdict.note),
    }
}

/// The finding about execs that a node could not report.
#[must_use]
pub fn loss(loss: &CollectorLoss, versions: &BTreeMap<String, String>) -> Finding {
    let event_id =
        EventId::of_loss(&loss.node.cluster, &loss.node.name, &loss.collector_start, &loss.reason, loss.from_ns);
    let count = loss.lost.map_or_else(|| "an unknown number of execs".to_owned(), |lost| format!("{lost} execs"));
    let note = format!("the collector could not report {count} ({})", loss.reason);
    escaped(Finding {
        event_time_ns: loss.to_ns,
        node: loss.node.clone(),
        note,
        versions: versions.clone(),
        ..of_no_exec(event_id, Detector::Loss, LOSS_CATEGORY)
    })
}

/// The finding about execs of a container that were left out. Severity low: an attacker who wants to hide a program
/// among others causes such a flood, and builds hardly do.
#[must_use]
pub fn throttle(
    throttled: &ContainerThrottled,
    seen: Option<&ContainerSeen>,
    versions: &BTreeMap<String, String>,
) -> Finding {
    let bare = || Container { id: throttled.container_id.clone(), ..Container::default() };
    escaped(Finding {
        event_time_ns: throttled.to_ns,
        node: throttled.node.clone(),
        container: Some(seen.map_or_else(bare, |seen| seen.container.clone())),
        note: throttled_in_words(throttled),
        versions: versions.clone(),
        ..of_no_exec(throttled.event_id(), Detector::Throttle, CONTAINER_THROTTLED)
    })
}

fn throttled_in_words(throttled: &ContainerThrottled) -> String {
    let ContainerThrottled { from_ns, to_ns, ordinary, folded, files, examples, .. } = throttled;
    let seconds = to_ns.saturating_sub(*from_ns) / 1_000_000_000;
    let mut words = format!(
        "in {seconds} s the container executed more than a node tells: {ordinary} execs of image files and {folded} execs \
         of {files} other files that were told before were left out"
    );
    let mut before = "; most often ";
    for file in examples.iter().take(FOLDED_NAMED).filter(|file| !file.path.is_empty()) {
        let _ = write!(words, "{before}{} ({})", printable(&file.path).text, file.execs);
        before = ", ";
    }
    words
}

/// The finding about records of exec-events that were never judged because the topic no longer has them.
#[must_use]
pub fn gap(now_ns: i64, gap: Gap, cluster: &str, versions: &BTreeMap<String, String>) -> Finding {
    let Gap { partition, from, to } = gap;
    let event_id = EventId::of_gap(cluster, GAP_NODE, partition, from, to);
    escaped(Finding {
        event_time_ns: now_ns,
        node: Node { cluster: cluster.to_owned(), name: GAP_NODE.to_owned(), ..Node::default() },
        note: gap.in_words(Topic::ExecEvents),
        versions: versions.clone(),
        ..of_no_exec(event_id, Detector::Loss, GAP_CATEGORY)
    })
}

/// The finding about a flaw of a container's image. Its event time is the time at which the flaw became known: a
/// container may run for days before a publication contradicts another one of its image.
#[must_use]
pub fn image(
    now_ns: i64,
    seen: &ContainerSeen,
    flaw: Flaw,
    note: String,
    versions: &BTreeMap<String, String>,
) -> Finding {
    let event_id = EventId::of_image(&seen.node.cluster, &seen.container.id, flaw.name());
    escaped(Finding {
        severity: flaw.severity(),
        confidence: flaw.confidence(),
        event_time_ns: now_ns,
        node: seen.node.clone(),
        container: Some(seen.container.clone()),
        note,
        versions: versions.clone(),
        ..of_no_exec(event_id, Detector::Image, flaw.category())
    })
}

/// The fields that all findings without an exec have in common.
fn of_no_exec(event_id: EventId, detector: Detector, category: &str) -> Finding {
    Finding {
        finding_id: FindingId::of(&event_id, detector.id()),
        event_id,
        detector: detector.id().to_owned(),
        revision: 1,
        state: FindingState::Active,
        category: category.to_owned(),
        severity: Severity::Low,
        confidence: Confidence::High,
        origin: Origin::None,
        unresolved: None,
        techniques: Vec::new(),
        event_time_ns: 0,
        node: Node::default(),
        container: None,
        process: None,
        subject: None,
        note: String::new(),
        versions: BTreeMap::new(),
    }
}

fn unknown_container(exec: &Exec) -> (Node, Container) {
    let node = Node { cluster: exec.cluster.clone(), name: exec.node.clone(), ..Node::default() };
    let container = Container { id: exec.container_id.clone(), ..Default::default() };
    (node, container)
}

fn process(exec: &Exec) -> Process {
    let shown: Vec<_> = exec.args.iter().map(printable).collect();
    let odd = shown.iter().any(|arg| arg.base64.is_some());
    Process {
        pid: exec.pid,
        container_pid: exec.container_pid,
        start_ns: exec.start_ns,
        executable: printable(&exec.path).text,
        typed_path: printable(&exec.typed_path).text,
        args: shown.into_iter().map(|arg| arg.text).collect(),
        args_base64: odd.then(|| exec.args.iter().map(base64).collect()),
        args_truncated: exec.args_truncated,
        cwd: printable(&exec.cwd).text,
        uid: exec.uid,
        gid: exec.gid,
        euid: exec.euid,
        container_root_user: exec.container_root_user,
        tty: exec.tty.clone(),
        entered_from_outside: exec.entered_from_outside,
        chrooted: exec.chrooted,
        parent_pid: exec.parent_pid,
        parent_name: printable(&exec.parent_comm).text,
        ancestors: exec.ancestors.iter().map(ancestor).collect(),
        descriptors: exec.fds.iter().map(|fd| Descriptor { kind: fd.kind, peer: fd.peer.clone() }).collect(),
        session_id: exec.session_id,
        container_uid: exec.container_uid,
        container_gid: exec.container_gid,
        container_euid: exec.container_euid,
        capabilities_gained: capability::names(exec.capabilities_gained),
        environment: exec.environment.clone(),
        environment_truncated: exec.environment_truncated,
        path_truncated: exec.path_truncated,
    }
}

fn ancestor(ancestor: &Ancestor) -> AncestorProcess {
    AncestorProcess {
        pid: ancestor.pid,
        start_ns: ancestor.start_ns,
        name: printable(&ancestor.comm).text,
        path: ancestor.path.as_deref().map(|path| printable(path).text),
    }
}

fn subject(exec: &Exec, verdict: &Verdict) -> Subject {
    let file = ExecutedFile::with_role(exec, verdict.file);
    let path = printable(file.path);
    let nlink = file.facts.is_known().then_some(file.facts.nlink);
    Subject {
        path: path.text,
        path_base64: path.base64,
        class: file.class,
        hash_state: file.hash_state,
        sha256: file.sha256,
        size_bytes: file.facts.size_bytes,
        mode: file.facts.mode,
        deleted: nlink.map_or(file.hash_state == HashState::Gone, |nlink| nlink == 0),
        script: file.role == Role::Subject && (exec.script.is_some() || exec.interpreted.is_some()),
        // Policies go by the mounts that a runtime made. Who is inside the container chooses the place of the others.
        mount: file.mount.filter(|_| file.inner_mount().is_none()).cloned(),
        image_path: verdict.image_path.as_deref().map(|path| printable(path).text),
        image_sha256: verdict.image_sha256,
        mtime_ns: file.facts.mtime_ns,
        ctime_ns: file.facts.ctime_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_schemas::{Fd, FdKind, FileClass, Mount, Owner, Pod};

    /// Clears the terminal, and turns the direction of what follows.
    const HOSTILE: &str = "\u{1b}[2J\u{202e}";

    fn exec() -> Exec {
        let bytes = HOSTILE.as_bytes().to_vec();
        let mount = Mount {
            point: HOSTILE.to_owned(),
            fs_type: HOSTILE.to_owned(),
            source: HOSTILE.to_owned(),
            read_only: false,
        };
        let ancestor = Ancestor { pid: 1, start_ns: 1, comm: bytes.clone(), dev: 1, ino: 1, path: Some(bytes.clone()) };
        Exec {
            cluster: HOSTILE.to_owned(),
            node: HOSTILE.to_owned(),
            class: FileClass::Volume,
            path: bytes.clone(),
            typed_path: bytes.clone(),
            script: Some(bytes.clone()),
            args: [HOSTILE].into_iter().collect(),
            cwd: bytes.clone(),
            parent_comm: bytes.clone(),
            tty: Some(HOSTILE.to_owned()),
            mount: Some(mount),
            environment: vec![HOSTILE.to_owned()],
            ancestors: vec![ancestor],
            fds: vec![Fd { kind: FdKind::Socket, ino: 1, peer: Some(HOSTILE.to_owned()) }],
            ..Exec::default()
        }
    }

    fn seen() -> ContainerSeen {
        let text = || HOSTILE.to_owned();
        let pod = Pod { namespace: text(), name: text(), uid: text(), labels: BTreeMap::from([(text(), text())]) };
        let container = Container {
            name: text(),
            runtime: text(),
            image_ref: text(),
            image_id_source: text(),
            pod: Some(pod),
            owner: Some(Owner { kind: text(), name: text() }),
            service_account: text(),
            rootfs: text(),
            host_namespaces: vec![text()],
            ..Container::default()
        };
        let node = Node {
            cluster: text(),
            name: text(),
            provider_id: text(),
            zone: text(),
            project: text(),
            location: text(),
        };
        ContainerSeen { node, container, ..ContainerSeen::default() }
    }

    #[test]
    fn nothing_that_others_chose_is_in_a_finding_raw() {
        let (exec, seen) = (exec(), seen());
        let verdict = crate::judge(&crate::Evidence::of(&exec, Err::<&Nothing, _>(HOSTILE)));
        let versions = BTreeMap::from([(HOSTILE.to_owned(), HOSTILE.to_owned())]);
        let revision = Revision { number: 1, state: FindingState::Active };
        let finding = drift(&exec, Some(&seen), &verdict, verdict.category.unwrap(), revision, &versions);
        // `Debug` of a text escapes it, so a raw one appears as its escape, with one backslash less than an escaped one.
        let shown = format!("{finding:?}");
        let raw = [r"\u{1b}", r"\u{202e}"].map(|escape| shown.replace(r"\\", "").contains(escape));
        assert_eq!(raw, [false, false], "{shown}");
        assert!(shown.matches(r"\\x1b[2J").count() > 30, "each text is there: {shown}");
    }

    struct Nothing;

    impl crate::ImageLookup for Nothing {
        fn file(&self, _: &[u8]) -> Option<crate::FileContent> {
            None
        }

        fn path_of(&self, _: &driftline_schemas::Sha256) -> Option<&[u8]> {
            None
        }
    }
}
