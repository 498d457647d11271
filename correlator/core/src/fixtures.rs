//! Findings for tests of this package and of the formats, which include this file.
#![allow(dead_code, reason = "each user needs a part")]

use driftline_schemas::limits::{ARGS_BYTES_MAX, PATH_BYTES_MAX};
use driftline_schemas::text;
use driftline_schemas::{
    AncestorProcess, CONTAINER_THROTTLED, Confidence, Container, ContainerId, Descriptor, EventId, FdKind, FileClass,
    Finding, FindingId, FindingState, HashState, IMAGE_CONFLICT, IMAGE_MISMATCH, ImageId, Mount, Node, Origin, Owner,
    Pod, Process, Severity, Sha256, Subject,
};
use std::collections::BTreeMap;

/// One second, in nanoseconds, the unit of every time.
pub(crate) const S: i64 = 1_000_000_000;

/// The start time of the tests: 2026-01-02T03:04:05Z.
pub(crate) const T0: i64 = 1_767_323_045 * S;

/// A program added to a podman container, by a service that runs as a plain user.
pub(crate) fn added(id: &str, time_ns: i64) -> Finding {
    Finding {
        finding_id: FindingId::from(id),
        event_id: EventId::from(format!("event of {id}").as_str()),
        detector: "drift".into(),
        revision: 1,
        state: FindingState::Active,
        category: "Added Binary Executed".into(),
        severity: Severity::Low,
        confidence: Confidence::High,
        origin: Origin::Added,
        unresolved: None,
        techniques: vec!["T1105".into(), "T1106".into()],
        event_time_ns: time_ns,
        node: node(),
        container: Some(container()),
        process: Some(process("/tmp/x")),
        subject: Some(subject("/tmp/x")),
        note: "the image has no file /tmp/x".into(),
        versions: BTreeMap::from([("rules".into(), "sha256:1111".into())]),
    }
}

/// Like [`added`], at another path and therefore not a repeat.
pub(crate) fn added_at(id: &str, time_ns: i64, path: &str) -> Finding {
    Finding { process: Some(process(path)), subject: Some(subject(path)), ..added(id, time_ns) }
}

/// A program that exists in memory only.
pub(crate) fn fileless(id: &str, time_ns: i64) -> Finding {
    Finding {
        category: "Execution: Fileless Execution in /memfd:".into(),
        severity: Severity::High,
        origin: Origin::Fileless,
        techniques: vec!["T1620".into()],
        process: Some(process("/memfd:x (deleted)")),
        subject: Some(Subject { class: FileClass::Memfd, deleted: true, ..subject("/memfd:x") }),
        note: String::new(),
        ..added(id, time_ns)
    }
}

/// Publishers contradict each other about the container's image.
pub(crate) fn conflict(id: &str, time_ns: i64) -> Finding {
    Finding {
        detector: "image".into(),
        category: IMAGE_CONFLICT.into(),
        severity: Severity::Medium,
        origin: Origin::None,
        techniques: Vec::new(),
        process: None,
        subject: None,
        note:
            "publishers contradict each other about the image, so one of them lies: layer sha256:aa: node:node-1 says \
               11, ci:build says 22"
                .into(),
        ..added(id, time_ns)
    }
}

/// A blob of the container's image does not match its digest.
pub(crate) fn mismatch(id: &str, time_ns: i64) -> Finding {
    Finding {
        category: IMAGE_MISMATCH.into(),
        severity: Severity::Low,
        confidence: Confidence::Medium,
        note:
            "content of the image is not what its digest says, so it is not used: layer 0 has diff_id sha256:22, the \
               config says sha256:11"
                .into(),
        ..conflict(id, time_ns)
    }
}

/// Execs of the container were left out.
pub(crate) fn throttled(id: &str, time_ns: i64) -> Finding {
    Finding {
        detector: "throttle".into(),
        category: CONTAINER_THROTTLED.into(),
        origin: Origin::None,
        techniques: Vec::new(),
        process: None,
        subject: None,
        note: "in 10 s the container executed more than a node tells: 500 execs of image files and 0 execs of 0 other \
               files that were told before were left out"
            .into(),
        ..added(id, time_ns)
    }
}

/// A collector could not see everything.
pub(crate) fn loss(id: &str, time_ns: i64) -> Finding {
    Finding {
        detector: "loss".into(),
        category: "Executions Not Seen".into(),
        origin: Origin::None,
        techniques: Vec::new(),
        container: None,
        process: None,
        subject: None,
        note: "17 executions between two times were lost: ring buffer full".into(),
        ..added(id, time_ns)
    }
}

pub(crate) fn node() -> Node {
    Node { cluster: "lab".into(), name: "node-1".into(), ..Node::default() }
}

pub(crate) fn container() -> Container {
    Container {
        id: ContainerId::from("c1c1"),
        name: "web".into(),
        runtime: "podman".into(),
        image_ref: "registry.test/app:1.2".into(),
        image_id: ImageId::from(Sha256::of(b"config").to_digest().as_str()),
        image_id_source: "podman-inspect".into(),
        rootfs: "overlay".into(),
        started_ns: T0 - 3_600 * S,
        ..Container::default()
    }
}

pub(crate) fn process(path: &str) -> Process {
    Process {
        pid: 4_242,
        container_pid: 17,
        start_ns: 99,
        executable: path.into(),
        typed_path: path.into(),
        args: vec![path.into(), "-o".into(), "pool one".into()],
        args_base64: None,
        args_truncated: false,
        cwd: "/srv".into(),
        uid: 1_000,
        gid: 1_000,
        euid: 1_000,
        container_root_user: false,
        tty: None,
        entered_from_outside: false,
        chrooted: false,
        parent_pid: 4_000,
        parent_name: "nginx".into(),
        ancestors: vec![
            AncestorProcess { pid: 4_000, start_ns: 90, name: "nginx".into(), path: Some("/usr/sbin/nginx".into()) },
            AncestorProcess { pid: 3_900, start_ns: 80, name: "containerd-shim".into(), path: None },
        ],
        descriptors: vec![
            Descriptor { kind: FdKind::Socket, peer: Some("198.51.100.7:4444".into()) },
            Descriptor { kind: FdKind::Pipe, peer: None },
            Descriptor { kind: FdKind::Pipe, peer: None },
        ],
        session_id: 3_950,
        container_uid: Some(1_000),
        container_gid: Some(1_000),
        container_euid: Some(1_000),
        capabilities_gained: Vec::new(),
        environment: Vec::new(),
        environment_truncated: false,
        path_truncated: false,
    }
}

pub(crate) fn subject(path: &str) -> Subject {
    Subject {
        path: path.into(),
        path_base64: None,
        class: FileClass::New,
        hash_state: HashState::Hashed,
        sha256: Some(Sha256::of(path.as_bytes())),
        size_bytes: 1_234,
        mode: 0o100_755,
        deleted: false,
        script: false,
        mount: None,
        image_path: None,
        image_sha256: None,
        mtime_ns: 0,
        ctime_ns: 0,
    }
}

/// The same finding in a pod of a Google cluster, with every fact known.
pub(crate) fn in_google_pod(finding: Finding) -> Finding {
    Finding {
        node: Node {
            cluster: "prod-eu".into(),
            name: "gke-prod-eu-pool-1-abcd".into(),
            provider_id: "1234567890123456789".into(),
            zone: "europe-west1-b".into(),
            project: "shop-prod".into(),
            location: "europe-west1".into(),
        },
        container: Some(Container {
            runtime: "containerd".into(),
            image_id_source: "cri-image-status".into(),
            pod: Some(Pod {
                namespace: "shop".into(),
                name: "cart-7d9f-x2x4".into(),
                uid: "3fa85f64-5717-4562-b3fc-2c963f66afa6".into(),
                labels: BTreeMap::from([("app".into(), "cart".into())]),
            }),
            owner: Some(Owner { kind: "Deployment".into(), name: "cart".into() }),
            service_account: "cart".into(),
            ..container()
        }),
        ..finding
    }
}

/// A copy of an image program on a writable volume, run as root from a terminal, and deleted since.
pub(crate) fn suspicious(id: &str, time_ns: i64) -> Finding {
    let path = "/data/.cache/ls";
    Finding {
        origin: Origin::Mounted,
        process: Some(Process {
            uid: 0,
            gid: 0,
            euid: 0,
            container_root_user: true,
            tty: Some("pts0".into()),
            entered_from_outside: true,
            ..process(path)
        }),
        subject: Some(Subject {
            class: FileClass::Volume,
            mount: Some(Mount {
                point: "/data".into(),
                fs_type: "ext4".into(),
                source: "data".into(),
                read_only: false,
            }),
            image_path: Some("/usr/bin/ls".into()),
            ..subject(path)
        }),
        note: "run from a volume; same content as /usr/bin/ls of the image".into(),
        ..added(id, time_ns)
    }
}

/// A path of the greatest length, every byte of which is escaped twice on its way into JSON.
fn nasty_path(at: usize) -> Vec<u8> {
    let mut path = format!("/{at:04}").into_bytes();
    path.resize(PATH_BYTES_MAX, 1);
    path
}

/// The longest paths and arguments that a collector reports, none of them printable.
pub(crate) fn longest_finding(at: usize) -> Finding {
    let mut finding = in_google_pod(added_at(&format!("f{at:031}"), T0 + S, "/x"));
    let path = text::printable(&nasty_path(at));
    let process = finding.process.as_mut().expect("a process");
    process.executable.clone_from(&path.text);
    process.typed_path.clone_from(&path.text);
    process.cwd.clone_from(&path.text);
    process.args = vec!["\\x01".into(); ARGS_BYTES_MAX / 2];
    process.args_base64 = Some(vec![text::base64(b"\x01"); ARGS_BYTES_MAX / 2]);
    let subject = finding.subject.as_mut().expect("a subject");
    (subject.path, subject.path_base64) = (path.text.clone(), path.base64);
    subject.image_path = Some(path.text);
    finding.category = format!("Added Binary Executed {at}");
    finding
}

/// Sets facts that no runtime would report, but that an attacker with a stolen credential might.
pub(crate) fn with_absurd_facts(finding: &mut Finding) {
    let fact = |prefix: &str| format!("{prefix}{}", "\"\\".repeat(400));
    let container = finding.container.as_mut().expect("a container");
    (container.name, container.image_ref, container.service_account) = (fact("n"), fact("i"), fact("s"));
    container.owner = Some(Owner { kind: fact("k"), name: fact("o") });
    container.pod = Some(Pod {
        namespace: fact("ns"),
        name: fact("p"),
        uid: fact("u"),
        labels: (0..500).map(|at| (format!("{at:03}{}", fact("l")), fact("v"))).collect(),
    });
    finding.node.name = fact("node");
    finding.note = fact("note");
}
