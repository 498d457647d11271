//! One OCSF evidence for each finding kept in an alert: its process and its file.

use driftline_schemas::limits::ALERT_FINDINGS_MAX;
use driftline_schemas::{Alert, AlertFinding, AncestorProcess, Sha256, Subject};

use super::objects::{
    Ancestor, BinaryData, Container, ContainerRef, Evidence, EvidenceData, ExecData, File, Fingerprint, Image,
    ParentProcess, Process, Session, User,
};
use super::{confidence_of, known};
use driftline_correlator_core::text::shell;
use driftline_correlator_core::text::utc::milliseconds;

pub(super) fn evidences(alert: &Alert) -> Vec<Evidence<'_>> {
    let container = alert.container.as_ref().and_then(container);
    alert.findings.iter().take(ALERT_FINDINGS_MAX).map(|finding| evidence(finding, container)).collect()
}

fn evidence<'a>(finding: &'a AlertFinding, container: Option<Container<'a>>) -> Evidence<'a> {
    Evidence {
        uid: finding.finding_id.as_str(),
        name: &finding.category,
        verdict_id: 4,
        verdict: "Suspicious",
        process: process(finding, container.map(|container| container.reference)),
        file: finding.subject.as_ref().map(subject_file).filter(|file| !file.name.is_empty()),
        container,
        data: data(finding),
    }
}

fn process<'a>(finding: &'a AlertFinding, container: Option<ContainerRef<'a>>) -> Option<Process<'a>> {
    let process = finding.process.as_ref()?;
    let subject = finding.subject.as_ref();
    // The executable is the judged file. If a script is judged, the executable is its interpreter.
    let file = match subject {
        Some(subject) if !subject.script => subject_file(subject),
        _ => path_file(&process.executable, Executable::Program),
    };
    Some(Process {
        name: known(base_name(&process.executable)),
        pid: process.pid,
        namespace_pid: process.container_pid,
        path: known(&process.executable),
        cmd_line: shell::command_line(process),
        working_directory: known(&process.cwd),
        user: User { uid: process.uid.to_string() },
        file: (!file.name.is_empty()).then_some(file),
        parent_process: ParentProcess { pid: process.parent_pid, name: known(&process.parent_name) },
        ancestry: process.ancestors.iter().map(ancestor).collect(),
        session: (process.session_id != 0).then(|| Session { uid: process.session_id.to_string() }),
        container,
    })
}

fn ancestor(ancestor: &AncestorProcess) -> Ancestor<'_> {
    Ancestor { pid: ancestor.pid, name: known(&ancestor.name), path: ancestor.path.as_deref() }
}

fn subject_file(subject: &Subject) -> File<'_> {
    let kind = if subject.script { Executable::Script } else { Executable::Program };
    File {
        size: Some(subject.size_bytes),
        modified_time: known_time(subject.mtime_ns),
        is_deleted: subject.deleted.then_some(true),
        hashes: subject.sha256.map(|digest| [fingerprint(digest)]),
        ..path_file(&subject.path, kind)
    }
}

fn known_time(ns: i64) -> Option<i64> {
    (ns != 0).then(|| milliseconds(ns))
}

#[derive(Clone, Copy)]
enum Executable {
    Program,
    Script,
}

fn path_file(path: &str, kind: Executable) -> File<'_> {
    let (type_id, r#type) = match kind {
        Executable::Program => (8, "Executable File"),
        Executable::Script => (1, "Regular File"),
    };
    let folder = path.rsplit_once('/').map(|(folder, _)| if folder.is_empty() { "/" } else { folder });
    File {
        name: base_name(path),
        path: known(path),
        parent_folder: folder,
        type_id,
        r#type,
        size: None,
        modified_time: None,
        is_deleted: None,
        hashes: None,
    }
}

/// Last part of a path; the whole path when it ends in a slash, since a file's name must not be empty.
fn base_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

fn fingerprint(digest: Sha256) -> Fingerprint {
    Fingerprint { algorithm_id: 3, algorithm: "SHA-256", value: digest.to_string() }
}

/// OCSF requires an id or a name of a container, and a digest of its image; without them the object is left out.
fn container(container: &driftline_schemas::Container) -> Option<Container<'_>> {
    let reference = ContainerRef { uid: known(container.id.as_str()), name: known(&container.name) };
    let image = Image { uid: container.image_id.as_str(), name: known(&container.image_ref) };
    let pod = container.pod.as_ref();
    (reference.uid.is_some() || reference.name.is_some()).then(|| Container {
        reference,
        runtime: known(&container.runtime),
        image: container.image_id.is_known().then_some(image),
        orchestrator: pod.map(|_| "K8s"),
        pod_uuid: pod.map(|pod| pod.uid.as_str()).filter(|uid| is_uuid(uid)),
    })
}

/// Static pods have a hash as their uid, which OCSF refuses.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn data(finding: &AlertFinding) -> EvidenceData<'_> {
    EvidenceData {
        detector: &finding.detector,
        severity: finding.severity.title(),
        confidence: confidence_of(finding.confidence).1,
        binary_kind: finding.origin,
        unresolved: finding.unresolved.as_deref(),
        note: known(&finding.note),
        count: finding.count,
        first_time: milliseconds(finding.event_time_ns),
        last_time: milliseconds(finding.last_time_ns),
        exec: finding.process.as_ref().map(|process| ExecData {
            typed_path: known(&process.typed_path).filter(|typed| *typed != process.executable),
            args_base64: process.args_base64.as_deref(),
            args_truncated: process.args_truncated,
            tty: process.tty.as_deref(),
            entered_from_outside: process.entered_from_outside,
            container_root_user: process.container_root_user,
            chrooted: process.chrooted,
            gid: process.gid,
            euid: process.euid,
            container_uid: process.container_uid,
            container_gid: process.container_gid,
            container_euid: process.container_euid,
            start_ns: process.start_ns,
            descriptors: &process.descriptors,
            capabilities_gained: &process.capabilities_gained,
            environment: &process.environment,
            environment_truncated: process.environment_truncated,
            path_truncated: process.path_truncated,
        }),
        binary: finding.subject.as_ref().map(|subject| BinaryData {
            class: subject.class,
            hash_state: subject.hash_state,
            changed_time: known_time(subject.ctime_ns),
            script: subject.script,
            mode: format!("{:06o}", subject.mode),
            path_base64: subject.path_base64.as_deref(),
            mount: subject.mount.as_ref(),
            image_path: subject.image_path.as_deref(),
            image_sha256: subject.image_sha256.map(|digest| digest.to_string()),
        }),
    }
}
