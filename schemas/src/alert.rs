//! Alerts: the findings of one container that belong together. Fields are documented in `alert.avsc`.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::codec::record;
use crate::exec_events::{Container, Node};
use crate::finding::{Confidence, Origin, Process, Severity, Subject};
use crate::ids::{AlertId, FindingId, Fingerprint};

/// One revision of an alert. See `alert.avsc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub alert_id: AlertId,
    pub revision: i32,
    pub activity: Activity,
    pub r#final: bool,
    pub title: String,
    pub message: String,
    pub severity: Severity,
    pub score: i32,
    pub contributions: Vec<Contribution>,
    pub categories: Vec<String>,
    pub techniques: Vec<String>,
    pub first_seen_ns: i64,
    pub last_seen_ns: i64,
    pub emitted_ns: i64,
    pub finding_count: i64,
    pub findings: Vec<AlertFinding>,
    pub node: Node,
    pub resource: String,
    pub container: Option<Container>,
    pub fingerprint: Fingerprint,
    pub response: Vec<Step>,
    pub virustotal: String,
    pub flags: Vec<String>,
    pub versions: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    Create,
    Update,
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    pub name: String,
    pub points: i32,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertFinding {
    pub finding_id: FindingId,
    pub detector: String,
    pub category: String,
    pub severity: Severity,
    pub confidence: Confidence,
    pub origin: Origin,
    pub unresolved: Option<String>,
    pub techniques: Vec<String>,
    pub event_time_ns: i64,
    pub last_time_ns: i64,
    pub count: i64,
    pub process: Option<Process>,
    pub subject: Option<Subject>,
    pub note: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub title: String,
    pub text: String,
    pub commands: Vec<String>,
}

record!(Alert, "Alert", "alert.avsc", "frozen/alert.1.avsc");
