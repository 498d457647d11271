//! The subject of a session.

use driftline_schemas::Finding;
use driftline_schemas::correlator_state::SubjectKind;

/// A container, or the node of a loss, which cannot be attributed to one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub cluster: String,
    pub kind: SubjectKind,
    /// Container id or node name: the key of its records.
    pub id: String,
}

impl Subject {
    pub(crate) fn of(finding: &Finding) -> Self {
        let cluster = finding.node.cluster.clone();
        match &finding.container {
            Some(container) => Self { cluster, kind: SubjectKind::Container, id: container.id.to_string() },
            None => Self { cluster, kind: SubjectKind::Node, id: finding.node.name.clone() },
        }
    }
}
