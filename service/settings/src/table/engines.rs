//! Addresses of container engines and the Kubernetes API, and the data copied from them.

use crate::kind::{List, Text};
use crate::{Described, Program, Setting};
use Program::{Collector, Indexer};

const BOTH: &[Program] = &[Collector, Indexer];

/// Docker's socket.
pub static DOCKER_SOCKET: Setting<Text> = Setting {
    name: "DRIFTLINE_DOCKER_SOCKET",
    programs: BOTH,
    kind: Text { default: "/run/docker.sock", form: "a path" },
    about: "Docker's API socket",
};

/// podman's socket.
pub static PODMAN_SOCKET: Setting<Text> = Setting {
    name: "DRIFTLINE_PODMAN_SOCKET",
    programs: BOTH,
    kind: Text { default: "/run/podman/podman.sock", form: "a path" },
    about: "socket of podman's API service, which is optional",
};

/// podman's command.
pub static PODMAN_COMMAND: Setting<Text> = Setting {
    name: "DRIFTLINE_PODMAN_COMMAND",
    programs: BOTH,
    kind: Text { default: "podman", form: "a command" },
    about: "podman's command, for when there is no service",
};

/// containerd's socket.
pub static CONTAINERD_SOCKET: Setting<Text> = Setting {
    name: "DRIFTLINE_CONTAINERD_SOCKET",
    programs: BOTH,
    kind: Text { default: "/run/containerd/containerd.sock", form: "a path" },
    about: "containerd's socket; for an indexer to read layers whose blobs containerd has discarded, containerd's root \
        directory must be visible at the same path, and CAP_SYS_ADMIN is needed",
};

/// CRI sockets: of containerd, of k3s and RKE2, of CRI-O.
pub static CRI_SOCKET: Setting<List> = Setting {
    name: "DRIFTLINE_CRI_SOCKET",
    programs: BOTH,
    kind: List {
        default: &["/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock"],
        separator: ',',
        form: "paths",
        fits: |_| true,
    },
    about: "CRI sockets; when it is not set, `DRIFTLINE_CONTAINERD_SOCKET` is one beside the defaults",
};

/// The process file system.
pub static PROC: Setting<Text> = Setting {
    name: "DRIFTLINE_PROC",
    programs: BOTH,
    kind: Text { default: "/proc", form: "a path" },
    about: "where the node's process file system is mounted",
};

/// Copied annotations.
pub static POD_ANNOTATIONS: Setting<List> = Setting {
    name: "DRIFTLINE_POD_ANNOTATIONS",
    programs: &[Collector],
    kind: List { default: &[], separator: ',', form: "names", fits: |_| true },
    about: "pod annotations to copy into container records; a trailing `*` matches a prefix",
};

/// The Kubernetes API.
pub static KUBERNETES: Setting<Text> = Setting {
    name: "DRIFTLINE_KUBERNETES",
    programs: &[Collector],
    kind: Text { default: "auto", form: "`auto`, `off` or a path" },
    about: "source of owners, service accounts, annotations, provider id and zone: `auto` (in a pod, the API of its \
        cluster), the path of a kubeconfig file, or `off`",
};

pub(super) static SETTINGS: &[&dyn Described] = &[
    &DOCKER_SOCKET,
    &PODMAN_SOCKET,
    &PODMAN_COMMAND,
    &CONTAINERD_SOCKET,
    &CRI_SOCKET,
    &PROC,
    &POD_ANNOTATIONS,
    &KUBERNETES,
];
