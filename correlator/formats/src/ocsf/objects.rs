//! The objects of an OCSF Detection Finding that driftline fills, as the standard names them.
//!
//! Field order is the order on the wire. Whatever is unknown is left out: OCSF has no empty values.

use driftline_schemas::{Contribution, Descriptor, FileClass, HashState, Mount, Origin};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Serialize)]
pub(super) struct DetectionFinding<'a> {
    pub activity_id: u32,
    pub activity_name: &'static str,
    pub category_uid: u32,
    pub category_name: &'static str,
    pub class_uid: u32,
    pub class_name: &'static str,
    pub type_uid: u32,
    pub type_name: String,
    pub time: i64,
    pub start_time: i64,
    pub end_time: i64,
    pub count: i64,
    pub severity_id: u32,
    pub severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<&'static str>,
    pub risk_score: i32,
    pub risk_level_id: u32,
    pub risk_level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    pub is_alert: bool,
    pub message: &'a str,
    pub metadata: Metadata<'a>,
    pub finding_info: FindingInfo<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidences: Vec<Evidence<'a>>,
    pub resources: Vec<Resource<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observables: Vec<Observable<'a>>,
    pub remediation: Remediation<'a>,
    pub unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    pub version: &'static str,
    pub product: Product,
    pub profiles: [&'static str; 2],
    pub uid: String,
    pub correlation_uid: &'a str,
    pub sequence: i32,
    pub log_name: &'static str,
    pub is_truncated: bool,
}

#[derive(Serialize)]
pub(super) struct Product {
    pub name: &'static str,
    pub vendor_name: &'static str,
    pub version: &'static str,
}

#[derive(Serialize)]
pub(super) struct FindingInfo<'a> {
    pub uid: &'a str,
    pub title: &'a str,
    pub desc: &'a str,
    pub types: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    pub modified_time: i64,
    pub first_seen_time: i64,
    pub last_seen_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analytic: Option<Analytic<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attacks: Vec<Attack<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related_events: Vec<RelatedEvent<'a>>,
    pub related_events_count: i64,
}

#[derive(Serialize)]
pub(super) struct Analytic<'a> {
    pub type_id: u32,
    pub r#type: &'static str,
    pub uid: &'a str,
    pub name: &'a str,
}

#[derive(Serialize)]
pub(super) struct Attack<'a> {
    pub version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tactic: Option<Named<'a>>,
    pub technique: Named<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_technique: Option<Named<'a>>,
}

#[derive(Serialize)]
pub(super) struct Named<'a> {
    pub uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_url: Option<String>,
}

#[derive(Serialize)]
pub(super) struct RelatedEvent<'a> {
    pub uid: &'a str,
    pub title: &'a str,
    pub severity_id: u32,
    pub count: i64,
    pub first_seen_time: i64,
}

#[derive(Serialize)]
pub(super) struct Evidence<'a> {
    pub uid: &'a str,
    pub name: &'a str,
    pub verdict_id: u32,
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container<'a>>,
    pub data: EvidenceData<'a>,
}

#[derive(Serialize)]
pub(super) struct Process<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub pid: i32,
    pub namespace_pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    pub cmd_line: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<&'a str>,
    pub user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File<'a>>,
    pub parent_process: ParentProcess<'a>,
    /// Parent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestry: Vec<Ancestor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRef<'a>>,
}

#[derive(Serialize)]
pub(super) struct ParentProcess<'a> {
    pub pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Ancestor<'a> {
    pub pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Session {
    pub uid: String,
}

#[derive(Serialize)]
pub(super) struct User {
    pub uid: String,
}

#[derive(Serialize)]
pub(super) struct File<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_folder: Option<&'a str>,
    pub type_id: u32,
    pub r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The container can set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashes: Option<[Fingerprint; 1]>,
}

#[derive(Clone, Serialize)]
pub(super) struct Fingerprint {
    pub algorithm_id: u32,
    pub algorithm: &'static str,
    pub value: String,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct ContainerRef<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Container<'a> {
    #[serde(flatten)]
    pub reference: ContainerRef<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uuid: Option<&'a str>,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Image<'a> {
    pub uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

/// The values of a finding for which OCSF has no attribute.
#[derive(Serialize)]
pub(super) struct EvidenceData<'a> {
    pub detector: &'a str,
    pub severity: &'static str,
    pub confidence: &'static str,
    pub binary_kind: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'a str>,
    pub count: i64,
    pub first_time: i64,
    pub last_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<BinaryData<'a>>,
}

#[derive(Serialize)]
pub(super) struct ExecData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typed_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_base64: Option<&'a [String]>,
    pub args_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<&'a str>,
    pub entered_from_outside: bool,
    pub container_root_user: bool,
    pub chrooted: bool,
    pub gid: u32,
    pub euid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_euid: Option<u32>,
    pub start_ns: i64,
    /// Standard input, output and error.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub descriptors: &'a [Descriptor],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub capabilities_gained: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub environment: &'a [String],
    pub environment_truncated: bool,
    pub path_truncated: bool,
}

#[derive(Serialize)]
pub(super) struct BinaryData<'a> {
    pub class: FileClass,
    pub hash_state: HashState,
    /// When content or attributes last changed, by the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_time: Option<i64>,
    pub script: bool,
    pub mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<&'a Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_sha256: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Resource<'a> {
    pub r#type: String,
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Device<'a> {
    pub type_id: u32,
    pub r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Observable<'a> {
    pub name: String,
    pub type_id: u32,
    pub r#type: &'static str,
    pub value: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct Remediation<'a> {
    pub desc: String,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub references: BTreeSet<std::borrow::Cow<'a, str>>,
}

/// The values of an alert for which OCSF has no attribute.
#[derive(Serialize)]
pub(super) struct Unmapped<'a> {
    pub r#final: bool,
    pub score: Score<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_kind: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_reason: Option<String>,
    pub fingerprint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virustotal: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub flags: &'a [String],
    pub cluster: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'a driftline_schemas::Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerData<'a>>,
    pub versions: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct Score<'a> {
    pub total: i32,
    pub contributions: &'a [Contribution],
}

#[derive(Serialize)]
pub(super) struct ContainerData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id_source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<&'a str>,
    pub privileged: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub host_namespaces: &'a [String],
    pub tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_time: Option<i64>,
}
