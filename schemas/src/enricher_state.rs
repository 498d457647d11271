//! The enricher's state in its changelog. Fields are documented in the `.avsc` files of the same names. A parked exec
//! needs no separate record: its value is the Exec, and its key holds the rest.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};

use crate::codec::record;
use crate::ids::EventId;

/// One container. See `container_state.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub heard_ns: i64,
    #[serde(default, with = "serde_bytes")]
    pub seen: Option<Vec<u8>>,
    #[serde(default)]
    pub ended: bool,
    #[serde(default)]
    pub deadline_ns: Option<i64>,
    #[serde(default)]
    pub given_up: Option<String>,
    #[serde(default)]
    pub mismatched_paths: Vec<serde_bytes::ByteBuf>,
    #[serde(default)]
    pub image_flaws: Vec<String>,
    #[serde(default)]
    pub unproven: Vec<UnprovenFold>,
}

/// Unproven execs with one finding together. See `container_state.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnprovenFold {
    pub reason: String,
    pub first_ns: i64,
    pub event_id: EventId,
    pub revision: i32,
    pub execs: i64,
    pub reported: i64,
}

/// An exec with a published finding. See `reported_exec.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedExec {
    pub event_id: EventId,
    #[serde(default = "first")]
    pub revision: i32,
    #[serde(default)]
    pub amend_until_ns: i64,
}

/// A finding that may be amended. See `unresolved_finding.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnresolvedFinding {
    #[serde(with = "serde_bytes")]
    pub exec: Vec<u8>,
    pub amend_until_ns: i64,
    #[serde(default = "first")]
    pub revision: i32,
}

/// The number of a finding's first revision.
fn first() -> i32 {
    1
}

record!(
    ContainerState,
    "ContainerState",
    "container_state.avsc",
    "frozen/container_state.1.avsc",
    "frozen/container_state.2.avsc"
);
record!(ReportedExec, "ReportedExec", "reported_exec.avsc", "frozen/reported_exec.1.avsc");
record!(UnresolvedFinding, "UnresolvedFinding", "unresolved_finding.avsc");
