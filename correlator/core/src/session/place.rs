//! Where a session's findings happened. The first may be made before the container's record is known, so of all the
//! records seen the one that says the most is kept.

use driftline_schemas::{Container, Finding, Node, Sha256};
use std::cmp::Reverse;

/// A node, and the container on it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    weight: Weight,
    pub node: Node,
    pub container: Option<Container>,
}

/// How many facts are known; of equals, the earlier finding; of one finding's revisions, the digest decides. A total
/// order, so that the order of arrival does not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    facts: usize,
    order: Reverse<i64>,
    digest: Sha256,
}

impl Place {
    /// The place of a finding that is the `order`th of its session and whose record has this digest.
    pub(crate) fn of(finding: &Finding, order: i64, digest: Sha256) -> Self {
        Self::new(finding.node.clone(), finding.container.clone(), order, digest)
    }

    /// Node and container as the finding with this order and digest names them.
    pub(super) fn new(node: Node, container: Option<Container>, order: i64, digest: Sha256) -> Self {
        let weight = Weight { facts: facts(&node, container.as_ref()), order: Reverse(order), digest };
        Self { weight, node, container }
    }

    /// Order of the finding that the place is from, and digest of its record.
    pub(super) fn source(&self) -> (i64, Sha256) {
        (self.weight.order.0, self.weight.digest)
    }

    /// Takes the better of both.
    pub(crate) fn join(&mut self, other: Self) -> bool {
        let better = other.weight > self.weight;
        if better {
            *self = other;
        }
        better
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
