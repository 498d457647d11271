//! Execs, containers and images for the tests of this package.

use std::sync::Arc;

use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::{
    Container, ContainerId, ContainerSeen, ContainerThrottled, EventId, Exec, FileClass, FileFacts, FoldedFile,
    HashState, ImageId, Mount, MountNamespace, Node, Sha256,
};

use crate::image::{ImageIndex, merge};
use crate::trust::ImageView;

pub(crate) const IMAGE: &str = "sha256:1111";

/// [`IMAGE`] as seen when every node's publications count.
pub(crate) fn view() -> ImageView {
    ImageView::of_all(&ImageId::from(IMAGE))
}

/// An image with `/bin/ls` and `/bin/cp`, each file's content being its name.
pub(crate) fn image() -> Arc<ImageIndex> {
    let entries = ["/bin/ls", "/bin/cp"].map(|path| LayerEntry {
        path: path.into(),
        kind: EntryKind::File,
        mode: 0o755,
        size_bytes: path.len() as u64,
        sha256: Some(content(path).0),
        target: None,
    });
    Arc::new(merge(&[Arc::new(LayerManifest::new(entries.to_vec()))]).unwrap())
}

pub(crate) fn content(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

pub(crate) fn mount(point: &str) -> Mount {
    Mount { point: point.into(), fs_type: "tmpfs".into(), source: String::new(), read_only: false }
}

/// An exec of `path`, whose file has the content of the file named `file`.
pub(crate) fn exec(number: i64, class: FileClass, path: &str, file: &str) -> Exec {
    Exec {
        event_id: EventId::from(format!("event-{number}").as_str()),
        cluster: "c".into(),
        node: "n".into(),
        container_id: ContainerId::from("box"),
        boot_id: "b".into(),
        time_ns: number,
        pid: 100,
        container_pid: 7,
        start_ns: 1,
        exec_count: number,
        parent_pid: 99,
        parent_start_ns: 1,
        parent_comm: b"sh".to_vec(),
        path: path.into(),
        path_truncated: false,
        typed_path: path.into(),
        script: None,
        args: [path].into_iter().collect(),
        args_truncated: false,
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        euid: 0,
        egid: 0,
        container_root_user: true,
        tty: None,
        entered_from_outside: false,
        chrooted: false,
        namespace: MountNamespace::Own,
        class,
        file: FileFacts { size_bytes: i64::try_from(file.len()).unwrap(), nlink: 1, ..FileFacts::default() },
        mount: None,
        hash_state: HashState::Hashed,
        sha256: (class != FileClass::Image).then(|| content(file)),
        collector_start: "s".into(),
        cpu: 0,
        seq: number,
        ..Exec::default()
    }
}

/// The same exec as it is sent when there was no time or budget for its digest.
pub(crate) fn undigested(exec: Exec) -> Exec {
    Exec { hash_state: HashState::OverBudget, sha256: None, ..exec }
}

pub(crate) fn throttled(container: &str, from_ns: i64) -> ContainerThrottled {
    ContainerThrottled {
        container_id: ContainerId::from(container),
        node: Node { cluster: "c".into(), name: "n".into(), ..Node::default() },
        collector_start: "s".into(),
        from_ns,
        to_ns: from_ns + 10_000_000_000,
        ordinary: 500,
        folded: 70,
        files: 2,
        examples: vec![FoldedFile { path: b"/tmp/\x1b".to_vec(), execs: 69 }],
    }
}

pub(crate) fn seen(container: &str) -> ContainerSeen {
    ContainerSeen {
        node: Node { cluster: "c".into(), name: "n".into(), ..Node::default() },
        container: Container {
            id: ContainerId::from(container),
            name: "web".into(),
            image_ref: "registry/web:1".into(),
            image_id: ImageId::from(IMAGE),
            runtime: "podman".into(),
            ..Container::default()
        },
        ..ContainerSeen::default()
    }
}
