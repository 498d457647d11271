//! What else collectors put on the exec-events topic: containers, their ends, losses and throttling.

use super::exec::MOUNT;
use super::{CONTAINER_ID, ID, IMAGE_ID, PATH, TEXT};
use crate::table::Type::{Array, Boolean, Bytes, Int, Long, Map, Optional, String};
use crate::table::{Limit, Record, Type, field};

#[rustfmt::skip]
pub(crate) const NODE: Record = Record {
    name: "Node",
    doc: "where it happened",
    derives: "Debug, Clone, Default, PartialEq, Eq",
    label: "node.",
    fields: &[
        field("cluster").avro(String).limits(TEXT).doc("cluster name from settings"),
        field("name").avro(String).limits(TEXT).doc("node name"),
        field("provider_id").avro(String).limits(TEXT).doc("cloud provider's instance id; empty when unknown"),
        field("zone").avro(String).limits(TEXT).doc("zone of the node; empty when unknown"),
        field("project").avro(String).limits(TEXT).doc("cloud project from settings; empty outside a cloud"),
        field("location").avro(String).limits(TEXT).doc("location (region or zone) of the cluster from settings; empty outside a cloud"),
    ],
};

#[rustfmt::skip]
pub(crate) const POD: Record = Record {
    name: "Pod",
    doc: "Kubernetes pod",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "pod.",
    fields: &[
        field("namespace").avro(String).limits(TEXT).doc("pod namespace"),
        field("name").avro(String).limits(TEXT).doc("pod name"),
        field("uid").avro(String).limits(TEXT).doc("pod uid; empty when unknown"),
        field("labels").avro(Map(&String)).limits(&[Limit::Bytes("LABELS_BYTES_MAX")]).doc("pod labels"),
    ],
};

#[rustfmt::skip]
pub(crate) const OWNER: Record = Record {
    name: "Owner",
    doc: "workload that owns the pod",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "",
    fields: &[
        field("kind").avro(String).doc("Deployment, DaemonSet, Job, …"),
        field("name").avro(String).doc("name of the workload"),
    ],
};

#[rustfmt::skip]
pub(crate) const CONTAINER: Record = Record {
    name: "Container",
    doc: "a container, as its runtime describes it",
    derives: "Debug, Clone, Default, PartialEq, Eq",
    label: "container.",
    fields: &[
        field("id").avro(CONTAINER_ID).limits(ID).doc("container id, 64 hex digits"),
        field("name").avro(String).limits(TEXT).doc("container name"),
        field("runtime").avro(String).limits(TEXT).doc("podman, docker, containerd or crio; cri for another one that speaks CRI"),
        field("image_ref").avro(String).limits(TEXT).doc("image reference as deployed, for example registry/app:1.2"),
        field("image_id").avro(IMAGE_ID).limits(ID).doc("config digest, sha256:<64 hex>; empty when it could not be found out"),
        field("image_id_source").avro(String).limits(TEXT).doc("how the config digest was obtained, for example podman-inspect"),
        field("pod").avro(Optional(&Type::Record(&POD))).default("null").doc("pod, when the container is part of one"),
        field("owner").avro(Optional(&Type::Record(&OWNER))).default("null").limits(&[Limit::Bytes("TEXT_BYTES_MAX")]).doc("owner workload, when known"),
        field("service_account").avro(String).limits(TEXT).doc("Kubernetes service account; empty when unknown"),
        field("rootfs").avro(String).limits(TEXT).doc("storage driver of the root file system: overlay, vfs, …"),
        field("privileged").avro(Boolean).doc("runs privileged"),
        field("host_namespaces").avro(Array(&String)).limits(&[Limit::Items("ID_BYTES_MAX"), Limit::Bytes("TEXT_BYTES_MAX")]).doc("namespaces shared with the host: pid, network, ipc"),
        field("tty").avro(Boolean).doc("was started with a terminal"),
        field("started_ns").avro(Long).doc("start time, nanoseconds since 1970; 0 when unknown"),
    ],
};

#[rustfmt::skip]
pub(crate) const CONTAINER_SEEN: Record = Record {
    name: "ContainerSeen",
    doc: "A container as its runtime describes it; sent before its first exec when known in time, hourly, and at collector start. Key: container id.",
    derives: "Debug, Clone, Default, PartialEq",
    label: "",
    fields: &[
        field("seen_ns").avro(Long).doc("when the collector read it, nanoseconds since 1970"),
        field("node").avro(Type::Record(&NODE)).doc("node, cluster, project"),
        field("container").avro(Type::Record(&CONTAINER)).doc("the container"),
        field("mounts").avro(Array(&Type::Record(&MOUNT))).limits(&[Limit::Items("MOUNTS_MAX")]).doc("mount table of the container, longest mount point first; at most 256"),
        field("attempt").avro(Int).default("0").doc("how often the container was started anew in its pod, as the kubelet counts; 0 outside Kubernetes"),
        field("annotations").avro(Map(&String)).default("{}").limits(&[Limit::Bytes("LABELS_BYTES_MAX")]).doc("annotations of the pod that the collector's settings allow"),
        field("runtime_handler").avro(String).default("\"\"").limits(TEXT).doc("runtime class or program that runs the container, for example kata or io.containerd.runc.v2; empty when the runtime does not say"),
        field("unseen").avro(Boolean).default("false").doc("its programs run on a kernel of their own (gVisor, Kata), so none of its execs can be seen"),
    ],
};

#[rustfmt::skip]
pub(crate) const CONTAINER_ENDED: Record = Record {
    name: "ContainerEnded",
    doc: "A container is gone. Key: container id.",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "",
    fields: &[
        field("container_id").avro(CONTAINER_ID).limits(ID).doc("container id"),
        field("cluster").avro(String).doc("cluster name"),
        field("node").avro(String).doc("node name"),
        field("ended_ns").avro(Long).doc("when the collector noticed, nanoseconds since 1970"),
    ],
};

#[rustfmt::skip]
pub(crate) const COLLECTOR_LOSS: Record = Record {
    name: "CollectorLoss",
    doc: "Execs that a collector could not see or could not send. Key: node name.",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "",
    fields: &[
        field("node").avro(Type::Record(&NODE)).doc("the node"),
        field("collector_start").avro(String).limits(ID).doc("id of the collector's run"),
        field("from_ns").avro(Long).doc("begin of the interval, nanoseconds since 1970"),
        field("to_ns").avro(Long).doc("end of the interval, nanoseconds since 1970"),
        field("lost").avro(Optional(&Long)).default("null").doc("how many execs; null when it cannot be known"),
        field("reason").avro(String).limits(ID).doc("why: ring_full (the kernel program had no room), undecodable (its record could not be read), cgroups_truncated (of no known container, and too deep in cgroups to look for one), spool_full or disk_full (the oldest records were given up), disk_failed, spool_damaged (not read back as written), refused (Kafka never takes the record), collector_restart (nobody watched, or what was in memory died with the process), or unseen container … run by … (its runtime class has a kernel of its own)"),
    ],
};

#[rustfmt::skip]
pub(crate) const FOLDED_FILE: Record = Record {
    name: "FoldedFile",
    doc: "a file of which execs were folded",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "examples.",
    fields: &[
        field("path").avro(Bytes).limits(PATH).doc("absolute path inside the container, raw bytes, at most 4096; empty for files beyond the limit"),
        field("execs").avro(Long).doc("how many execs of it were left out"),
    ],
};

#[rustfmt::skip]
pub(crate) const CONTAINER_THROTTLED: Record = Record {
    name: "ContainerThrottled",
    doc: "A container executed programs faster than a node tells: how many execs were left out, and of which files. At most one for each container and interval. Key: container id.",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "",
    fields: &[
        field("container_id").avro(CONTAINER_ID).limits(ID).doc("container id, 64 hex digits"),
        field("node").avro(Type::Record(&NODE)).doc("the node"),
        field("collector_start").avro(String).limits(ID).doc("id of the collector's run"),
        field("from_ns").avro(Long).doc("when the first of these execs was left out, nanoseconds since 1970"),
        field("to_ns").avro(Long).doc("end of the interval, nanoseconds since 1970"),
        field("ordinary").avro(Long).doc("execs of untouched image files that were left out"),
        field("folded").avro(Long).doc("other execs that were left out because an exec of the same file was told in the same interval; of files beyond the limit, an exec of any such file"),
        field("files").avro(Long).doc("how many files these folded execs were of, as far as they were told apart"),
        field("examples").avro(Array(&Type::Record(&FOLDED_FILE))).limits(&[Limit::Items("FOLDED_EXAMPLES_MAX")]).doc("the files of which most execs were folded, at most 16, most first"),
    ],
};
