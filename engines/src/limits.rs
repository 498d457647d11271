//! Bounds of a runtime's answers. Names, labels and images are chosen by whoever starts a container.

use std::time::Duration;

/// How long a runtime may take to answer. podman needs 30 ms idle, seconds while it builds.
pub const ANSWER_MAX: Duration = Duration::from_secs(15);

/// How often and after how long a container is requested again that a CRI runtime calls created: its first program runs
/// while the runtime still notes the start and the first process. Together less than what the collector lets an exec
/// wait for its description.
pub const START_WAITS: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(40), Duration::from_millis(80)];

/// Within which time a runtime refuses a stream of events, if it does: it answers a request in milliseconds. One that
/// has not refused by then is relied on.
pub const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Pause before the next request for a stream of events to a runtime that refused one: a service that restarts takes some
/// seconds, and one that has no events is not asked often.
pub const LISTEN_AGAIN: Duration = Duration::from_secs(10);

/// Longest answer: [`INSPECT_AT_ONCE`] containers of 14 KiB each, with room for labels and environments.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Containers described by one call of podman; each call costs as much as ten more containers.
pub const INSPECT_AT_ONCE: usize = 64;

/// Most running containers listed of one runtime. Kubernetes allows 110 pods a node by default, large nodes 500.
pub const CONTAINERS_MAX: usize = 4_096;

/// Most labels of a container record, longest key and longest value. Kubernetes limits keys to 317 bytes and label
/// values to 63.
pub const LABELS_MAX: usize = 128;
/// See [`LABELS_MAX`].
pub const LABEL_BYTES_MAX: usize = 512;

/// Most pods of a node whose facts from the Kubernetes API are retained: twice what the largest nodes run.
pub const PODS_MAX: usize = 1_024;

/// Longest answer of the Kubernetes API, which is the list of a node's pods: 512 of 64 KiB, three times what pods of many
/// containers with managed fields have. Also what one watch may bring before it is begun again.
pub const API_BYTES_MAX: usize = 32 << 20;

/// Flow-control window of gRPC: eight pieces of the 1 MiB in which containerd sends content, so that it reads ahead.
pub const GRPC_WINDOW_BYTES: u32 = 8 << 20;

/// Most namespaces of containerd that are searched. A node has one for each program that runs containers: Kubernetes, Docker,
/// nerdctl, a builder.
pub const NAMESPACES_MAX: usize = 64;

/// Most images of a namespace whose names are read. The kubelet retains some hundred.
pub const IMAGES_MAX: usize = 4_096;

/// How long an image is held against removal at most when its reader dies. Three times what the largest layer may
/// take.
pub const LEASE_MAX: Duration = Duration::from_secs(3 * 1_800);

// Longest name, reference or mount path that is retained: what a container record may hold.
pub use driftline_schemas::limits::TEXT_BYTES_MAX;

/// Longest mount table read: four times as many lines as are used, each of twice the longest path.
pub const MOUNTINFO_BYTES_MAX: u64 = 4 * 256 * 2 * 4_096;

/// Longest error text.
pub const ERROR_BYTES_MAX: usize = 2_048;

// A record over its limits would be a dead letter, and its container would stay unknown.
const _: () = assert!(2 * LABELS_MAX * LABEL_BYTES_MAX <= driftline_schemas::limits::LABELS_BYTES_MAX);
const _: () = assert!(TEXT_BYTES_MAX <= driftline_schemas::limits::PATH_BYTES_MAX);
