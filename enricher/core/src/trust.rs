//! The publishers of images that count, and their order of precedence.
//!
//! A verified source fetched the content by its digest or built it: a central indexer (`registry:`) or a CI system
//! (`ci:`). An attacker with a node's credentials can publish as that node, so with [`Trust::SameNode`] a stolen
//! credential decides about the containers of its own node only.

use driftline_schemas::{ImageId, LayerBasis, is_verified_source, node_of_source};

/// The publishers whose records are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// All publishers; a verified source takes precedence over a node.
    #[default]
    AnyNode,
    /// Verified sources, and the node that the container runs on.
    SameNode,
    /// Verified sources only.
    VerifiedOnly,
}

/// An image as containers of one node see it: a publication that counts for them may not count for those of another
/// node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageView {
    /// The image.
    pub image: ImageId,
    /// Node whose publications count; `None` where they do not depend on the node.
    pub node: Option<String>,
}

/// Rank of a publisher: the lowest wins; among equals the first on the topic wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    is_of_node: bool,
    is_of_snapshot: bool,
}

/// Publishers of one image or layer that are retained where the publications of any node count: if the first few do not
/// agree, one of them lies.
const SOURCES_MAX: usize = 16;

/// Publishers that are retained where every node needs its own: the nodes of the largest cluster that Kubernetes
/// supports.
const SOURCES_OF_NODES_MAX: usize = 5_000;

impl Trust {
    /// All values, with their names in the setting `DRIFTLINE_TRUST`.
    pub const NAMES: [(&str, Self); 3] =
        [("any-node", Self::AnyNode), ("same-node", Self::SameNode), ("verified-only", Self::VerifiedOnly)];

    /// The name in the setting.
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

    /// Whether a source's publications count for containers of this node; `None` means all nodes together.
    #[must_use]
    pub fn counts(self, source: &str, node: Option<&str>) -> bool {
        is_verified_source(source)
            || match self {
                Self::AnyNode => true,
                Self::SameNode => node.is_none_or(|node| node_of_source(source) == Some(node)),
                Self::VerifiedOnly => false,
            }
    }

    /// The rank of a publication for containers of this node; `None` when it does not count.
    pub(crate) fn rank(self, source: &str, basis: LayerBasis, node: Option<&str>) -> Option<Rank> {
        self.counts(source, node).then(|| Rank::of(source, basis))
    }

    /// Most publishers of one image or layer that are retained. A publication of higher rank replaces one of lower
    /// rank, so that nodes cannot displace a verified source.
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
    /// The image with the publications of every node, as far as the setting allows.
    #[must_use]
    pub fn of_all(image: &ImageId) -> Self {
        Self { image: image.clone(), node: None }
    }
}
