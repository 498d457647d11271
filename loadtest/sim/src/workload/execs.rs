//! Execs of every class and origin, each made so that its verdict is known by construction.

use driftline_schemas::{
    ADDED_BINARY, ADDED_SCRIPT, CONTAINER_THROTTLED, ContainerId, Exec, ExecIdentity, FileClass, FileFacts, HashState,
    Mount, MountNamespace, Origin, Severity, Sha256,
};

use super::images::{FILE_BYTES, ImagePlan};
use super::{CLUSTER, Early, Expected, Label};
use crate::rng::Rng;

/// An exec and its expected result.
pub(super) struct Draft {
    pub(super) exec: Exec,
    pub(super) label: Label,
}

/// The executed file, as the collector reported it.
struct File {
    class: FileClass,
    path: String,
    sha256: Option<Sha256>,
    size_bytes: i64,
    mount: Option<&'static str>,
    /// The image's interpreter was given it.
    is_given: bool,
    namespace: MountNamespace,
    finding: Option<Expected>,
    /// The expected result without its digest, where the digest may arrive late.
    without_digest: Option<Early>,
}

const FILELESS: &str = "Execution: Fileless Execution in /memfd:";
const FILELESS_SHM: &str = "Privilege Escalation: Fileless Execution in /dev/shm";
const MISMATCH: &str = "Image Manifest Mismatch";

fn low(category: &'static str, origin: Origin) -> Option<Expected> {
    Some(Expected { category, severity: Severity::Low, origin, once_per_path: origin == Origin::Inconsistent })
}

fn high(category: &'static str, origin: Origin) -> Option<Expected> {
    Some(Expected { category, severity: Severity::High, origin, once_per_path: false })
}

pub(super) fn draw(
    rng: &mut Rng,
    seed: u64,
    number: u64,
    image: &ImagePlan,
    (container, node): (&str, &str),
    time_ns: i64,
) -> Draft {
    let file = file(rng, number, image);
    let start_ns = 1_000 + number;
    let identity = ExecIdentity { cluster: CLUSTER, boot_id: "boot", pid: 100, start_ns, exec_count: seed };
    // Without the image no verdict is possible about an exec that looks like one of its files.
    let suspicious =
        file.namespace == MountNamespace::Own && !matches!(file.class, FileClass::Image | FileClass::RootfsPlain);
    let early = file.without_digest.filter(|_| file.sha256.is_some() && rng.one_in(3));
    let label =
        Label { container: container.to_owned(), finding: file.finding, early, suspicious, path: file.path.clone() };
    let exec = Exec {
        event_id: identity.event_id(),
        cluster: CLUSTER.to_owned(),
        node: node.to_owned(),
        container_id: ContainerId::from(container),
        boot_id: "boot".to_owned(),
        time_ns,
        pid: 100,
        container_pid: 7,
        start_ns: i64::try_from(start_ns).unwrap_or(0),
        exec_count: 1,
        parent_pid: 99,
        parent_start_ns: 1,
        parent_comm: b"sh".to_vec(),
        path: if file.is_given { b"/bin/sh".to_vec() } else { file.path.clone().into_bytes() },
        interpreted: file.is_given.then(|| file.path.clone().into_bytes()),
        path_truncated: false,
        typed_path: file.path.clone().into_bytes(),
        script: None,
        args: [file.path].into_iter().collect(),
        args_truncated: false,
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        euid: 0,
        egid: 0,
        container_root_user: rng.one_in(2),
        tty: rng.one_in(6).then(|| "pts/0".to_owned()),
        entered_from_outside: rng.one_in(6),
        chrooted: false,
        namespace: file.namespace,
        class: file.class,
        file: FileFacts {
            size_bytes: file.size_bytes,
            nlink: i64::from(!rng.one_in(8)),
            mode: 0o100_755,
            ..FileFacts::default()
        },
        mount: file.mount.map(mount),
        hash_state: if file.sha256.is_some() { HashState::Hashed } else { HashState::OverBudget },
        sha256: file.sha256,
        collector_start: "start".to_owned(),
        cpu: 0,
        seq: i64::try_from(number).unwrap_or(0),
        ..Exec::default()
    };
    Draft { exec, label }
}

/// The exec as reported before its digest is known.
pub(super) fn without_digest(exec: &Exec) -> Exec {
    Exec { hash_state: HashState::OverBudget, sha256: None, ..exec.clone() }
}

pub(super) fn throttle_label(container: &str) -> Label {
    let finding = low(CONTAINER_THROTTLED, Origin::None);
    Label { container: container.to_owned(), finding, early: None, suspicious: true, path: String::new() }
}

fn mount(point: &'static str) -> Mount {
    Mount { point: point.to_owned(), fs_type: "tmpfs".to_owned(), source: String::new(), read_only: false }
}

fn file(rng: &mut Rng, number: u64, image: &ImagePlan) -> File {
    let (known, digest) = rng.pick(&image.files).unwrap_or_else(|| ("/bin/sh".to_owned(), Sha256::of(b"")));
    // Few enough paths that some repeat.
    let strange = format!("/tmp/x{}", rng.below(4));
    let other = Sha256::of(strange.as_bytes());
    let size_bytes = i64::try_from(FILE_BYTES).unwrap_or(0);
    let plain = |class, path: &str, sha256, finding| File {
        class,
        path: path.to_owned(),
        sha256,
        size_bytes,
        mount: None,
        is_given: false,
        namespace: MountNamespace::Own,
        finding,
        // Every exec except an untouched file of the image; a root that is not an overlay is a case of its own.
        without_digest: match class {
            FileClass::Image => None,
            FileClass::RootfsPlain => Some(Early::Unproven),
            _ => Some(Early::Finding),
        },
    };
    // By a property that is drawn anyway, so that a seed stays what it is.
    let is_given = number.is_multiple_of(3);
    let added = if is_given { ADDED_SCRIPT } else { ADDED_BINARY };
    match rng.below(19) {
        0..=1 => plain(FileClass::Image, &known, None, None),
        2 => plain(FileClass::Image, "/bin/gone", None, low(MISMATCH, Origin::Inconsistent)),
        3..=4 => plain(FileClass::New, &strange, Some(other), low(ADDED_BINARY, Origin::Added)),
        5 => plain(FileClass::New, &strange, Some(digest), low(ADDED_BINARY, Origin::Relocated)),
        6 => plain(FileClass::New, &known, Some(digest), None),
        7 => plain(FileClass::CopiedUp, &known, Some(other), low(ADDED_BINARY, Origin::Modified)),
        8 => plain(FileClass::CopiedUp, &known, Some(digest), None),
        9 => plain(FileClass::New, &strange, None, low(ADDED_BINARY, Origin::Added)),
        10 => File { size_bytes: 7, ..plain(FileClass::CopiedUp, &known, None, low(ADDED_BINARY, Origin::Modified)) },
        11 => File {
            mount: Some("/data"),
            is_given,
            ..plain(FileClass::Volume, &format!("/data/{number}"), Some(other), low(added, Origin::Mounted))
        },
        12 => plain(FileClass::Foreign, &strange, Some(other), low(ADDED_BINARY, Origin::Mounted)),
        13 => plain(FileClass::Memfd, "/memfd:x", None, high(FILELESS, Origin::Fileless)),
        14 => File {
            mount: Some("/dev/shm"),
            ..plain(FileClass::Volume, "/dev/shm/x", Some(other), high(FILELESS_SHM, Origin::FilelessShm))
        },
        15 => File { is_given, ..plain(FileClass::RootfsPlain, &known, Some(other), low(added, Origin::Modified)) },
        16 => File { is_given, ..plain(FileClass::RootfsPlain, &known, Some(digest), None) },
        17 => plain(FileClass::OtherFs, &strange, None, low(ADDED_BINARY, Origin::Mounted)),
        _ => File {
            namespace: MountNamespace::Host,
            without_digest: None,
            ..plain(FileClass::New, &strange, None, None)
        },
    }
}
