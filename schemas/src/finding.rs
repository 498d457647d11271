//! A detector's judgement of one exec. Fields are documented in `finding.avsc`.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::codec::record;
use crate::exec_events::{Container, FdKind, FileClass, HashState, Mount, Node};
use crate::ids::{EventId, FindingId, Sha256};

/// Category of a finding about publishers that contradict each other about a container's image.
pub const IMAGE_CONFLICT: &str = "Image Manifest Conflict";
/// Category of a finding about content of a container's image that does not match its digest.
pub const IMAGE_MISMATCH: &str = "Image Digest Mismatch";

/// Category of a finding about an executed program that the image does not contain.
pub const ADDED_BINARY: &str = "Added Binary Executed";

/// Category of a finding about such a program that an interpreter was given as a file.
pub const ADDED_SCRIPT: &str = "Added Script Executed";

/// Category of a finding about executed files that are neither proven the image's nor proven foreign.
pub const UNPROVEN_PROGRAM: &str = "Unproven Program Executed";

/// Category of a finding about a container that executed programs faster than a node reports.
pub const CONTAINER_THROTTLED: &str = "Container Throttled";

/// One revision of a finding. See `finding.avsc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub finding_id: FindingId,
    pub event_id: EventId,
    pub detector: String,
    pub revision: i32,
    pub state: FindingState,
    pub category: String,
    pub severity: Severity,
    pub confidence: Confidence,
    pub origin: Origin,
    pub unresolved: Option<String>,
    pub techniques: Vec<String>,
    pub event_time_ns: i64,
    pub node: Node,
    pub container: Option<Container>,
    pub process: Option<Process>,
    pub subject: Option<Subject>,
    pub note: String,
    pub versions: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    Active,
    Retracted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    Low,
    Medium,
    High,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Image,
    Touched,
    Added,
    Modified,
    Relocated,
    Mounted,
    Fileless,
    FilelessShm,
    Inconsistent,
    HostNamespace,
    Unresolved,
    None,
    Unproven,
}

impl Origin {
    /// The symbol in the schema, as shown to people and in SIEMs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Touched => "touched",
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Relocated => "relocated",
            Self::Mounted => "mounted",
            Self::Fileless => "fileless",
            Self::FilelessShm => "fileless_shm",
            Self::Inconsistent => "inconsistent",
            Self::HostNamespace => "host_namespace",
            Self::Unresolved => "unresolved",
            Self::None => "none",
            Self::Unproven => "unproven",
        }
    }
}

impl Severity {
    /// The capitalised form for text: `Low`.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// The executed process, printable. See `finding.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    pub container_pid: i32,
    pub start_ns: i64,
    pub executable: String,
    pub typed_path: String,
    pub args: Vec<String>,
    pub args_base64: Option<Vec<String>>,
    pub args_truncated: bool,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub container_root_user: bool,
    pub tty: Option<String>,
    pub entered_from_outside: bool,
    pub chrooted: bool,
    pub parent_pid: i32,
    pub parent_name: String,
    #[serde(default)]
    pub ancestors: Vec<AncestorProcess>,
    #[serde(default)]
    pub descriptors: Vec<Descriptor>,
    #[serde(default)]
    pub session_id: i32,
    #[serde(default)]
    pub container_uid: Option<u32>,
    #[serde(default)]
    pub container_gid: Option<u32>,
    #[serde(default)]
    pub container_euid: Option<u32>,
    #[serde(default)]
    pub capabilities_gained: Vec<String>,
    #[serde(default)]
    pub environment: Vec<String>,
    #[serde(default)]
    pub environment_truncated: bool,
    #[serde(default)]
    pub path_truncated: bool,
}

/// An ancestor of the executed process, printable. See `finding.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AncestorProcess {
    pub pid: i32,
    pub start_ns: i64,
    pub name: String,
    #[serde(default)]
    pub path: Option<String>,
}

/// An open file of the executed process. See `finding.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub kind: FdKind,
    #[serde(default)]
    pub peer: Option<String>,
}

/// The judged file, printable. See `finding.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub path: String,
    pub path_base64: Option<String>,
    pub class: FileClass,
    pub hash_state: HashState,
    pub sha256: Option<Sha256>,
    pub size_bytes: i64,
    pub mode: i32,
    pub deleted: bool,
    pub script: bool,
    pub mount: Option<Mount>,
    pub image_path: Option<String>,
    pub image_sha256: Option<Sha256>,
    #[serde(default)]
    pub mtime_ns: i64,
    #[serde(default)]
    pub ctime_ns: i64,
}

record!(Finding, "Finding", "finding.avsc", "frozen/finding.1.avsc");
