//! The correlator's session state in its changelog. Fields are documented in the `correlator_*.avsc` files; the types
//! here mirror them. A field that a later version adds gets a serde default, so that older state remains readable.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::alert::Activity;
use crate::codec::record;
use crate::exec_events::{Container, Node};
use crate::finding::{Confidence, FindingState, Origin, Process, Severity, Subject};
use crate::ids::Sha256;

/// A session without its findings. See `correlator_session.avsc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    pub cluster: String,
    pub kind: SubjectKind,
    pub subject_id: String,
    pub opened: i64,
    pub first_event_ns: i64,
    pub last_event_ns: i64,
    pub heard_ns: i64,
    pub next_order: i64,
    pub node: Node,
    pub container: Option<Container>,
    pub place_order: i64,
    pub place_digest: Sha256,
    #[serde(default)]
    pub versions: BTreeMap<String, BTreeSet<String>>,
    #[serde(default)]
    pub flags: BTreeSet<String>,
    #[serde(rename = "said")]
    pub last_revision: Option<LastRevision>,
    pub final_since_ns: Option<i64>,
    #[serde(default)]
    pub news_due_ns: Option<i64>,
    #[serde(default)]
    pub forgotten_event_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    Container,
    Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRevision {
    pub revision: i32,
    pub activity: Activity,
    pub severity: Severity,
    pub categories_digest: Sha256,
    pub count: i64,
    pub unresolved: i64,
    #[serde(default)]
    pub next_order: i64,
    #[serde(default)]
    pub emitted_ns: i64,
}

/// A finding of a session. See `correlator_finding.avsc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackedFinding {
    pub order: i64,
    pub digest: Sha256,
    pub resolved: bool,
    pub revision: i32,
    pub state: FindingState,
    pub category: String,
    pub severity: Severity,
    #[serde(default)]
    pub techniques: Vec<String>,
    pub detector: String,
    pub fold: Sha256,
    pub confidence: Confidence,
    pub origin: Origin,
    pub event_time_ns: i64,
    pub facts: ExecFacts,
    #[serde(default)]
    pub on_read_only_mount: bool,
    pub detail: Option<FindingDetail>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFacts {
    pub deleted: bool,
    pub entered: bool,
    pub interactive: bool,
    pub container_root: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingDetail {
    pub unresolved: Option<String>,
    pub process: Option<Process>,
    pub subject: Option<Subject>,
    pub note: String,
}

/// Findings of a session that are counted but not kept. See `correlator_beyond.avsc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountedFindings {
    pub count: i64,
    pub first_event_ns: i64,
    pub last_event_ns: i64,
    pub facts: ExecFacts,
    #[serde(default)]
    pub labels: Vec<CountedLabel>,
    #[serde(default)]
    pub repeats: Vec<CountedRepeats>,
    #[serde(default)]
    pub proven_foreign: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedLabel {
    pub severity: Severity,
    pub category: String,
    pub techniques: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedRepeats {
    pub fold: Sha256,
    pub count: i64,
    pub first_event_ns: i64,
    pub last_event_ns: i64,
}

/// State of a partition that belongs to no session. See `correlator_partition.avsc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrelatorPartition {
    pub forgotten_until_ns: Option<i64>,
    #[serde(default)]
    pub forgotten_event_ns: Option<i64>,
    #[serde(default)]
    pub reopened: i64,
}

record!(
    SessionState,
    "SessionState",
    "correlator_session.avsc",
    "frozen/correlator_session.1.avsc",
    "frozen/correlator_session.2.avsc"
);
record!(TrackedFinding, "TrackedFinding", "correlator_finding.avsc", "frozen/correlator_finding.1.avsc");
record!(CountedFindings, "CountedFindings", "correlator_beyond.avsc", "frozen/correlator_beyond.1.avsc");
record!(CorrelatorPartition, "CorrelatorPartition", "correlator_partition.avsc", "frozen/correlator_partition.1.avsc");
