//! Which publishers of images count, and which of several counts first.
//!
//! A verified source fetched the content by its digest or built it: a central indexer (`registry:`) or a CI system
//! (`ci:`). Whoever has a node's credentials can publish as that node, so with [`Trust::SameNode`] a stolen credential
//! decides about the containers of its own node only.

use driftline_schemas::{ImageId, LayerBasis, is_verified_source, node_of_source};

/// Whose publications are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's; a verified source goes before a node.
    #[default]
    AnyNode,
    /// Those of verified sources, and of the node that the container runs on.
    SameNode,
    /// Those of verified sources only.
    VerifiedOnly,
}

/// An image as some containers see it: what counts of it for those of one node may not count for those of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageView {
    /// The image.
    pub image: ImageId,
    /// Node whose word counts; `None` where it does not depend on the node.
    pub node: Option<String>,
}

/// Place of a publisher among others, the lowest counts; among equals who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    is_of_node: bool,
    is_of_snapshot: bool,
}

/// Publishers of one image or layer that are remembered where any node's word will do: the first few agree, or somebody
/// lies.
const SOURCES_MAX: usize = 16;

/// The same where every node needs its own: the nodes of the largest cluster that Kubernetes supports.
const SOURCES_OF_NODES_MAX: usize = 5_000;

impl Trust {
    /// All values, as the setting `DRIFTLINE_TRUST` says them.
    pub const NAMES: [(&str, Self); 3] =
        [("any-node", Self::AnyNode), ("same-node", Self::SameNode), ("verified-only", Self::VerifiedOnly)];

    /// As the setting says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AnyNode => "any-node",
            Self::SameNode => "same-node",
            Self::VerifiedOnly => "verified-only",
        }
    }

    /// The image as a container on this node sees it.
    #[must_use]
    pub fn view(self, image: &ImageId, node: &str) -> ImageView {
        ImageView { image: image.clone(), node: (self == Self::SameNode).then(|| node.to_owned()) }
    }

    /// Whether what a source publishes counts for containers of this node, `None` being all nodes together.
    #[must_use]
    pub fn counts(self, source: &str, node: Option<&str>) -> bool {
        is_verified_source(source)
            || match self {
                Self::AnyNode => true,
                Self::SameNode => node.is_none_or(|node| node_of_source(source) == Some(node)),
                Self::VerifiedOnly => false,
            }
    }

    /// The place of a publication for containers of this node, `None` when it does not count.
    pub(crate) fn rank(self, source: &str, basis: LayerBasis, node: Option<&str>) -> Option<Rank> {
        self.counts(source, node).then(|| Rank::of(source, basis))
    }

    /// Most publishers of one image or layer that are remembered. One that counts more takes the place of one that counts
    /// less, so that nodes cannot keep a verified source out.
    pub(crate) fn sources_max(self) -> usize {
        if self == Self::SameNode { SOURCES_OF_NODES_MAX } else { SOURCES_MAX }
    }
}

impl Rank {
    pub(crate) fn of(source: &str, basis: LayerBasis) -> Self {
        Self { is_of_node: !is_verified_source(source), is_of_snapshot: basis == LayerBasis::Snapshot }
    }
}

impl ImageView {
    /// The image where every node's word counts as far as the setting goes.
    #[must_use]
    pub fn of_all(image: &ImageId) -> Self {
        Self { image: image.clone(), node: None }
    }
}
