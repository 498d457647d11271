//! Records of containers and of losses.
//!
//! Written by `make generate` from the tables in `schemas/generate`; edit those.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::bounds::{Bounded, Of};
use super::exec::Mount;
use crate::codec::{DecodeError, record};
use crate::ids::{ContainerId, ImageId};
use crate::limits;
use crate::memory::{self, HeapBytes};

/// A container as its runtime describes it; sent before its first exec when known in time, hourly, and at collector
/// start. Key: container id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSeen {
    /// When the collector read it, nanoseconds since 1970.
    pub seen_ns: i64,
    /// Node, cluster, project.
    pub node: Node,
    /// The container.
    pub container: Container,
    /// Mount table of the container, longest mount point first; at most 256.
    pub mounts: Vec<Mount>,
    /// How often the container was started anew in its pod, as the kubelet counts; 0 outside Kubernetes.
    #[serde(default)]
    pub attempt: i32,
    /// Annotations of the pod that the collector's settings allow.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Runtime class or program that runs the container, for example kata or io.containerd.runc.v2; empty when the
    /// runtime does not say.
    #[serde(default)]
    pub runtime_handler: String,
    /// Its programs run on a kernel of their own (gVisor, Kata), so none of its execs can be seen.
    #[serde(default)]
    pub unseen: bool,
}

/// Where it happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Cluster name from settings.
    pub cluster: String,
    /// Node name.
    pub name: String,
    /// Cloud provider's instance id; empty when unknown.
    pub provider_id: String,
    /// Zone of the node; empty when unknown.
    pub zone: String,
    /// Cloud project from settings; empty outside a cloud.
    pub project: String,
    /// Location (region or zone) of the cluster from settings; empty outside a cloud.
    pub location: String,
}

/// A container, as its runtime describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Container id, 64 hex digits.
    pub id: ContainerId,
    /// Container name.
    pub name: String,
    /// Podman, docker, containerd or crio; cri for another one that speaks CRI.
    pub runtime: String,
    /// Image reference as deployed, for example registry/app:1.2.
    pub image_ref: String,
    /// Config digest, sha256:<64 hex>; empty when it could not be found out.
    pub image_id: ImageId,
    /// How the config digest was obtained, for example podman-inspect.
    pub image_id_source: String,
    /// Pod, when the container is part of one.
    #[serde(default)]
    pub pod: Option<Pod>,
    /// Owner workload, when known.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// Kubernetes service account; empty when unknown.
    pub service_account: String,
    /// Storage driver of the root file system: overlay, vfs, ….
    pub rootfs: String,
    /// Runs privileged.
    pub privileged: bool,
    /// Namespaces shared with the host: pid, network, ipc.
    pub host_namespaces: Vec<String>,
    /// Was started with a terminal.
    pub tty: bool,
    /// Start time, nanoseconds since 1970; 0 when unknown.
    pub started_ns: i64,
}

/// Kubernetes pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod uid; empty when unknown.
    pub uid: String,
    /// Pod labels.
    pub labels: BTreeMap<String, String>,
}

/// Workload that owns the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Deployment, DaemonSet, Job, ….
    pub kind: String,
    /// Name of the workload.
    pub name: String,
}

/// A container is gone. Key: container id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEnded {
    /// Container id.
    pub container_id: ContainerId,
    /// Cluster name.
    pub cluster: String,
    /// Node name.
    pub node: String,
    /// When the collector noticed, nanoseconds since 1970.
    pub ended_ns: i64,
}

/// Execs that a collector could not see or could not send. Key: node name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorLoss {
    /// The node.
    pub node: Node,
    /// Id of the collector's run.
    pub collector_start: String,
    /// Begin of the interval, nanoseconds since 1970.
    pub from_ns: i64,
    /// End of the interval, nanoseconds since 1970.
    pub to_ns: i64,
    /// How many execs; null when it cannot be known.
    #[serde(default)]
    pub lost: Option<i64>,
    /// Why: ring_full (the kernel program had no room), undecodable (its record could not be read), cgroups_truncated
    /// (of no known container, and too deep in cgroups to look for one), spool_full or disk_full (the oldest records
    /// were given up), disk_failed, spool_damaged (not read back as written), refused (Kafka never takes the record),
    /// collector_restart (nobody watched, or what was in memory died with the process), or unseen container … run by …
    /// (its runtime class has a kernel of its own).
    pub reason: String,
}

/// A container executed programs faster than a node tells: how many execs were left out, and of which files. At most
/// one for each container and interval. Key: container id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerThrottled {
    /// Container id, 64 hex digits.
    pub container_id: ContainerId,
    /// The node.
    pub node: Node,
    /// Id of the collector's run.
    pub collector_start: String,
    /// When the first of these execs was left out, nanoseconds since 1970.
    pub from_ns: i64,
    /// End of the interval, nanoseconds since 1970.
    pub to_ns: i64,
    /// Execs of untouched image files that were left out.
    pub ordinary: i64,
    /// Other execs that were left out because an exec of the same file was told in the same interval; of files beyond
    /// the limit, an exec of any such file.
    pub folded: i64,
    /// How many files these folded execs were of, as far as they were told apart.
    pub files: i64,
    /// The files of which most execs were folded, at most 16, most first.
    pub examples: Vec<FoldedFile>,
}

/// A file of which execs were folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedFile {
    /// Absolute path inside the container, raw bytes, at most 4096; empty for files beyond the limit.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// How many execs of it were left out.
    pub execs: i64,
}

impl HeapBytes for ContainerSeen {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.node.heap_bytes();
        bytes += self.container.heap_bytes();
        bytes += memory::of_items(&self.mounts);
        bytes += self.annotations.heap_bytes();
        bytes += self.runtime_handler.heap_bytes();
        bytes
    }
}

impl Bounded for ContainerSeen {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        self.node.check(of)?;
        self.container.check(of)?;
        of.items("mounts", &self.mounts, limits::MOUNTS_MAX)?;
        self.mounts.check(of)?;
        of.bytes("annotations", &self.annotations, limits::LABELS_BYTES_MAX)?;
        of.bytes("runtime_handler", &self.runtime_handler, limits::TEXT_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Node {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.cluster.heap_bytes();
        bytes += self.name.heap_bytes();
        bytes += self.provider_id.heap_bytes();
        bytes += self.zone.heap_bytes();
        bytes += self.project.heap_bytes();
        bytes += self.location.heap_bytes();
        bytes
    }
}

impl Bounded for Node {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("node.cluster", &self.cluster, limits::TEXT_BYTES_MAX)?;
        of.bytes("node.name", &self.name, limits::TEXT_BYTES_MAX)?;
        of.bytes("node.provider_id", &self.provider_id, limits::TEXT_BYTES_MAX)?;
        of.bytes("node.zone", &self.zone, limits::TEXT_BYTES_MAX)?;
        of.bytes("node.project", &self.project, limits::TEXT_BYTES_MAX)?;
        of.bytes("node.location", &self.location, limits::TEXT_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Container {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.id.heap_bytes();
        bytes += self.name.heap_bytes();
        bytes += self.runtime.heap_bytes();
        bytes += self.image_ref.heap_bytes();
        bytes += self.image_id.heap_bytes();
        bytes += self.image_id_source.heap_bytes();
        bytes += self.pod.heap_bytes();
        bytes += self.owner.heap_bytes();
        bytes += self.service_account.heap_bytes();
        bytes += self.rootfs.heap_bytes();
        bytes += self.host_namespaces.heap_bytes();
        bytes
    }
}

impl Bounded for Container {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("container.id", &self.id, limits::ID_BYTES_MAX)?;
        of.bytes("container.name", &self.name, limits::TEXT_BYTES_MAX)?;
        of.bytes("container.runtime", &self.runtime, limits::TEXT_BYTES_MAX)?;
        of.bytes("container.image_ref", &self.image_ref, limits::TEXT_BYTES_MAX)?;
        of.bytes("container.image_id", &self.image_id, limits::ID_BYTES_MAX)?;
        of.bytes("container.image_id_source", &self.image_id_source, limits::TEXT_BYTES_MAX)?;
        self.pod.check(of)?;
        of.bytes("container.owner", &self.owner, limits::TEXT_BYTES_MAX)?;
        of.bytes("container.service_account", &self.service_account, limits::TEXT_BYTES_MAX)?;
        of.bytes("container.rootfs", &self.rootfs, limits::TEXT_BYTES_MAX)?;
        of.items("container.host_namespaces", &self.host_namespaces, limits::ID_BYTES_MAX)?;
        of.bytes("container.host_namespaces", &self.host_namespaces, limits::TEXT_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Pod {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.namespace.heap_bytes();
        bytes += self.name.heap_bytes();
        bytes += self.uid.heap_bytes();
        bytes += self.labels.heap_bytes();
        bytes
    }
}

impl Bounded for Pod {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("pod.namespace", &self.namespace, limits::TEXT_BYTES_MAX)?;
        of.bytes("pod.name", &self.name, limits::TEXT_BYTES_MAX)?;
        of.bytes("pod.uid", &self.uid, limits::TEXT_BYTES_MAX)?;
        of.bytes("pod.labels", &self.labels, limits::LABELS_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Owner {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.kind.heap_bytes();
        bytes += self.name.heap_bytes();
        bytes
    }
}

impl HeapBytes for ContainerEnded {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.container_id.heap_bytes();
        bytes += self.cluster.heap_bytes();
        bytes += self.node.heap_bytes();
        bytes
    }
}

impl Bounded for ContainerEnded {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("container_id", &self.container_id, limits::ID_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for CollectorLoss {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.node.heap_bytes();
        bytes += self.collector_start.heap_bytes();
        bytes += self.reason.heap_bytes();
        bytes
    }
}

impl Bounded for CollectorLoss {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        self.node.check(of)?;
        of.bytes("collector_start", &self.collector_start, limits::ID_BYTES_MAX)?;
        of.bytes("reason", &self.reason, limits::ID_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for ContainerThrottled {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.container_id.heap_bytes();
        bytes += self.node.heap_bytes();
        bytes += self.collector_start.heap_bytes();
        bytes += memory::of_items(&self.examples);
        bytes
    }
}

impl Bounded for ContainerThrottled {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("container_id", &self.container_id, limits::ID_BYTES_MAX)?;
        self.node.check(of)?;
        of.bytes("collector_start", &self.collector_start, limits::ID_BYTES_MAX)?;
        of.items("examples", &self.examples, limits::FOLDED_EXAMPLES_MAX)?;
        self.examples.check(of)?;
        Ok(())
    }
}

impl HeapBytes for FoldedFile {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.path.heap_bytes();
        bytes
    }
}

impl Bounded for FoldedFile {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("examples.path", &self.path, limits::PATH_BYTES_MAX)?;
        Ok(())
    }
}

record! {
    ContainerSeen, "ContainerSeen", "container_seen.avsc",
    "frozen/container_seen.1.avsc",
}

record! {
    ContainerEnded, "ContainerEnded", "container_ended.avsc",
}

record! {
    CollectorLoss, "CollectorLoss", "collector_loss.avsc",
    "frozen/collector_loss.1.avsc",
    "frozen/collector_loss.2.avsc",
}

record! {
    ContainerThrottled, "ContainerThrottled", "container_throttled.avsc",
}
