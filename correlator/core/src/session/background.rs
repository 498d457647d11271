//! The node, container and versions of a session. The first finding may be made before the container's record is known,
//! so the session keeps the record with the most facts.

use driftline_schemas::correlator_state::{SessionState, SubjectKind};
use driftline_schemas::{Container, Finding, Node, Sha256, decode, encode};
use driftline_service_core::BrokenInvariant;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Order of the records: the number of known facts; of equals, the earlier finding; of one finding's revisions, the
/// digest. The order is total, so the order of arrival does not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    facts: usize,
    order: Reverse<i64>,
    digest: Sha256,
}

impl Weight {
    /// The weight of a finding that is the `order`th of its session and whose record has this digest.
    pub(crate) fn of(finding: &Finding, order: i64, digest: Sha256) -> Self {
        Self::new(&finding.node, finding.container.as_ref(), order, digest)
    }

    /// The background from the node and container of the finding with this order and digest.
    pub(super) fn new(node: &Node, container: Option<&Container>, order: i64, digest: Sha256) -> Self {
        Self { facts: facts(node, container), order: Reverse(order), digest }
    }

    /// Order of the finding that provided node and container, and digest of its record.
    pub(super) fn source(&self) -> (i64, Sha256) {
        (self.order.0, self.digest)
    }
}

/// The part of a session that only an alert or the changelog needs.
#[derive(Debug, Default)]
pub(crate) struct Background {
    pub node: Node,
    pub container: Option<Container>,
    pub versions: BTreeMap<String, BTreeSet<String>>,
}

/// A [`Background`] encoded as a session head of the changelog whose other fields are blank, which takes a third of the
/// memory.
#[derive(Debug)]
pub(super) struct EncodedBackground(Box<[u8]>);

impl EncodedBackground {
    pub(super) fn of(background: Background) -> Result<Self, BrokenInvariant> {
        let Background { node, container, versions } = background;
        let blank = SessionState {
            cluster: String::new(),
            kind: SubjectKind::Container,
            subject_id: String::new(),
            opened: 0,
            first_event_ns: 0,
            last_event_ns: 0,
            heard_ns: 0,
            next_order: 0,
            node,
            container,
            place_order: 0,
            place_digest: Sha256([0; 32]),
            versions,
            flags: BTreeSet::new(),
            last_revision: None,
            final_since_ns: None,
            news_due_ns: None,
            forgotten_event_ns: None,
        };
        Ok(Self(encode(&blank)?.into_boxed_slice()))
    }

    pub(super) fn open(&self) -> Result<Background, BrokenInvariant> {
        let SessionState { node, container, versions, .. } = decode(&self.0)?;
        Ok(Background { node, container, versions })
    }

    /// Bytes in memory.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn facts(node: &Node, container: Option<&Container>) -> usize {
    let of_node = [&node.name, &node.provider_id, &node.zone, &node.project, &node.location];
    let of_container = container.map_or(0, |container| {
        let texts = [&container.name, &container.runtime, &container.image_ref, &container.service_account];
        let others = [
            container.image_id.is_known(),
            container.pod.is_some(),
            container.pod.as_ref().is_some_and(|pod| !pod.uid.is_empty()),
            container.owner.is_some(),
            container.started_ns != 0,
        ];
        1 + known(&texts) + others.into_iter().filter(|known| *known).count()
    });
    known(&of_node) + of_container
}

fn known(texts: &[&String]) -> usize {
    texts.iter().filter(|text| !text.is_empty()).count()
}
