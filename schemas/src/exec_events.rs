//! What collectors put on the exec-events topic: execs, container records, losses. Fields are documented in the
//! `.avsc` files of the same names; the types here mirror them.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::codec::{DecodeError, decode_datum, record, split, unknown};
use crate::ids::{ContainerId, EventId, ImageId, Sha256};

mod bounds;

/// One exec. See `exec.avsc`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    pub event_id: EventId,
    pub cluster: String,
    pub node: String,
    pub container_id: ContainerId,
    pub boot_id: String,
    pub time_ns: i64,
    pub pid: i32,
    pub container_pid: i32,
    pub start_ns: i64,
    pub exec_count: i64,
    pub parent_pid: i32,
    pub parent_start_ns: i64,
    #[serde(with = "serde_bytes")]
    pub parent_comm: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    pub path_truncated: bool,
    #[serde(with = "serde_bytes")]
    pub typed_path: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub script: Option<Vec<u8>>,
    pub args: Vec<serde_bytes::ByteBuf>,
    pub args_truncated: bool,
    #[serde(with = "serde_bytes")]
    pub cwd: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub container_root_user: bool,
    pub tty: Option<String>,
    pub entered_from_outside: bool,
    pub chrooted: bool,
    pub namespace: MountNamespace,
    pub class: FileClass,
    pub file: FileFacts,
    pub mount: Option<Mount>,
    pub hash_state: HashState,
    pub sha256: Option<Sha256>,
    pub collector_start: String,
    pub cpu: i32,
    pub seq: i64,
    #[serde(default)]
    pub session_id: i32,
    #[serde(default)]
    pub mount_ns: i64,
    #[serde(default)]
    pub pid_ns: i64,
    #[serde(default)]
    pub container_uid: Option<u32>,
    #[serde(default)]
    pub container_gid: Option<u32>,
    #[serde(default)]
    pub container_euid: Option<u32>,
    #[serde(default)]
    pub container_egid: Option<u32>,
    #[serde(default)]
    pub capabilities: i64,
    #[serde(default)]
    pub capabilities_gained: i64,
    #[serde(default)]
    pub fds: Vec<Fd>,
    #[serde(default)]
    pub environment: Vec<String>,
    #[serde(default)]
    pub environment_truncated: bool,
    #[serde(default)]
    pub ancestors: Vec<Ancestor>,
    #[serde(default, with = "serde_bytes")]
    pub loaded: Option<Vec<u8>>,
    #[serde(default)]
    pub running_at_start: bool,
    #[serde(default)]
    pub loader: Option<Loader>,
    #[serde(default)]
    pub inner_container_id: Option<ContainerId>,
}

impl Exec {
    /// Path of the file that is judged: the script, or what a dynamic loader was told to run, where there is one; else the
    /// executable.
    #[must_use]
    pub fn subject_path(&self) -> &[u8] {
        self.script.as_deref().or(self.loaded.as_deref()).unwrap_or(&self.path)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountNamespace {
    #[default]
    Own,
    Host,
    Other,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileClass {
    Image,
    New,
    CopiedUp,
    RootfsPlain,
    Volume,
    Foreign,
    Memfd,
    OtherFs,
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashState {
    Hashed,
    #[default]
    NotNeeded,
    Changed,
    Gone,
    Unreadable,
    TooLarge,
    RefusedFs,
    OverBudget,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    pub dev: i64,
    pub ino: i64,
    pub size_bytes: i64,
    pub mode: i32,
    pub nlink: i64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub fs_magic: i64,
    pub upper: bool,
    pub lower_count: i32,
    #[serde(default)]
    pub metacopy: bool,
    #[serde(default)]
    pub lower_ino: i64,
    #[serde(default)]
    pub mnt_id: i64,
}

impl FileFacts {
    /// Whether anything was said about the file.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loader {
    pub class: FileClass,
    pub file: FileFacts,
    pub mount: Option<Mount>,
    pub hash_state: HashState,
    pub sha256: Option<Sha256>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fd {
    pub kind: FdKind,
    pub ino: i64,
    pub peer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdKind {
    Closed,
    File,
    Pipe,
    Socket,
    Tty,
    Device,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    pub pid: i32,
    pub start_ns: i64,
    #[serde(with = "serde_bytes")]
    pub comm: Vec<u8>,
    pub dev: i64,
    pub ino: i64,
    #[serde(default, with = "serde_bytes")]
    pub path: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub point: String,
    pub fs_type: String,
    pub source: String,
    pub read_only: bool,
}

/// A container as its runtime describes it. See `container_seen.avsc`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSeen {
    pub seen_ns: i64,
    pub node: Node,
    pub container: Container,
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub attempt: i32,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub runtime_handler: String,
    #[serde(default)]
    pub unseen: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub cluster: String,
    pub name: String,
    pub provider_id: String,
    pub zone: String,
    pub project: String,
    pub location: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    pub name: String,
    pub runtime: String,
    pub image_ref: String,
    pub image_id: ImageId,
    pub image_id_source: String,
    pub pod: Option<Pod>,
    pub owner: Option<Owner>,
    pub service_account: String,
    pub rootfs: String,
    pub privileged: bool,
    pub host_namespaces: Vec<String>,
    pub tty: bool,
    pub started_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub kind: String,
    pub name: String,
}

/// A container is gone. See `container_ended.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEnded {
    pub container_id: ContainerId,
    pub cluster: String,
    pub node: String,
    pub ended_ns: i64,
}

/// Execs that were not seen or not sent. See `collector_loss.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorLoss {
    pub node: Node,
    pub collector_start: String,
    pub from_ns: i64,
    pub to_ns: i64,
    pub lost: Option<i64>,
    pub reason: String,
}

/// Execs of a container that were left out. See `container_throttled.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerThrottled {
    pub container_id: ContainerId,
    pub node: Node,
    pub collector_start: String,
    pub from_ns: i64,
    pub to_ns: i64,
    pub ordinary: i64,
    pub folded: i64,
    pub files: i64,
    pub examples: Vec<FoldedFile>,
}

impl ContainerThrottled {
    /// Names the interval: the same record always has the same id.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        EventId::of_throttle(&self.node.cluster, &self.container_id, &self.collector_start, self.from_ns)
    }
}

/// A file of which execs were folded. See `container_throttled.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedFile {
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    pub execs: i64,
}

record!(Exec, "Exec", "exec.avsc", "frozen/exec.1.avsc", "frozen/exec.2.avsc", "frozen/exec.3.avsc");
record!(ContainerSeen, "ContainerSeen", "container_seen.avsc", "frozen/container_seen.1.avsc");
record!(ContainerEnded, "ContainerEnded", "container_ended.avsc");
record!(CollectorLoss, "CollectorLoss", "collector_loss.avsc", "frozen/collector_loss.1.avsc");
record!(ContainerThrottled, "ContainerThrottled", "container_throttled.avsc");

/// Everything that may stand on the exec-events topic.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecEvent {
    Exec(Box<Exec>),
    Seen(Box<ContainerSeen>),
    Ended(ContainerEnded),
    Loss(CollectorLoss),
    Throttled(Box<ContainerThrottled>),
}

impl ExecEvent {
    /// Decodes a value of the exec-events topic. A record that keeps the schema but not the limits of a collector is
    /// refused here, so that nothing made of it later can be too long for a topic.
    ///
    /// # Errors
    /// When it is none of the five records, whole and alone and within its limits.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let (fingerprint, datum) = split(value)?;
        let event = decode_datum(fingerprint, datum)
            .map(|exec| exec.map(|exec| Self::Exec(Box::new(exec))))
            .or_else(|| decode_datum(fingerprint, datum).map(|seen| seen.map(|seen| Self::Seen(Box::new(seen)))))
            .or_else(|| decode_datum(fingerprint, datum).map(|ended| ended.map(Self::Ended)))
            .or_else(|| decode_datum(fingerprint, datum).map(|loss| loss.map(Self::Loss)))
            .or_else(|| decode_datum(fingerprint, datum).map(|it| it.map(|it| Self::Throttled(Box::new(it)))))
            .unwrap_or_else(|| Err(unknown(fingerprint)))?;
        bounds::check(&event)?;
        Ok(event)
    }

    /// The key under which it must stand: the container id, for a loss the node's name.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Exec(exec) => exec.container_id.as_str(),
            Self::Seen(seen) => seen.container.id.as_str(),
            Self::Ended(ended) => ended.container_id.as_str(),
            Self::Loss(loss) => &loss.node.name,
            Self::Throttled(throttled) => throttled.container_id.as_str(),
        }
    }
}
