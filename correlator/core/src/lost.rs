//! The finding that reports which findings the correlator could not read.

use driftline_schemas::topics::Topic;
use driftline_schemas::{Confidence, EventId, Finding, FindingId, FindingState, Node, Origin, Severity};
use driftline_service_core::Gap;
use std::collections::BTreeMap;

/// Detector of losses, as in the findings about collectors.
const LOSS: &str = "loss";
/// Category of a loss of findings.
const CATEGORY: &str = "Findings Lost";
/// Node name of these findings: the service itself. A topic carries findings of many clusters, so no single node
/// applies.
const NODE: &str = "driftline-correlator";
const CLUSTER: &str = "driftline";

/// A finding about the service itself. Transactions leave markers in a topic, so there may be fewer records than offsets.
pub(crate) fn lost(gap: Gap, now_ns: i64) -> Finding {
    let Gap { partition, from, to } = gap;
    let topic = Topic::Findings.spec().stem;
    let range = format!("{topic}/{partition}/{from}-{to}");
    let event_id = EventId::of_loss(CLUSTER, NODE, &range, "gone", from);
    Finding {
        finding_id: FindingId::of(&event_id, LOSS),
        event_id,
        detector: LOSS.to_owned(),
        revision: 1,
        state: FindingState::Active,
        category: CATEGORY.to_owned(),
        severity: Severity::Low,
        confidence: Confidence::High,
        origin: Origin::None,
        unresolved: None,
        techniques: Vec::new(),
        event_time_ns: now_ns,
        node: Node { cluster: CLUSTER.to_owned(), name: NODE.to_owned(), ..Node::default() },
        container: None,
        process: None,
        subject: None,
        note: gap.in_words(Topic::Findings),
        versions: BTreeMap::new(),
    }
}
