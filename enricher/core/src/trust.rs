//! Which publishers of images count, and which of several counts first.
//!
//! A verified source fetched the content by its digest or built it: a central indexer (`registry:`) or a CI system
//! (`ci:`). Whoever has a node's credentials can publish as that node.

use driftline_schemas::{LayerBasis, is_verified_source};

/// Whose publications are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's; a verified source goes before a node.
    #[default]
    AnyNode,
    /// Those of verified sources only.
    VerifiedOnly,
}

/// Place of a publisher among others, the lowest counts; among equals who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    is_of_node: bool,
    is_of_snapshot: bool,
}

impl Trust {
    /// The place of a publication, `None` when it does not count.
    pub(crate) fn rank(self, source: &str, basis: LayerBasis) -> Option<Rank> {
        let is_of_node = !is_verified_source(source);
        let is_refused = self == Self::VerifiedOnly && is_of_node;
        (!is_refused).then_some(Rank { is_of_node, is_of_snapshot: basis == LayerBasis::Snapshot })
    }
}
