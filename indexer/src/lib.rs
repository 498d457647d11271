//! Turns images into layer manifests: streams, decompresses and verifies them, and hashes every file. Nothing is
//! unpacked.
//!
//! * [`index_archive`], [`index_layout`]: read an image into manifests. Pure apart from the reading.
//! * [`publish`]: writes manifests to the image topics, so that no reader ever uses half a layer.
//! * [`node`]: the service that does both for the images of one node.
//! * [`registry`]: the same for images in registries.
//!
//! The indexer must see an image as the runtime sees it: a file that the indexer sees under another path or with other
//! content is a hole in the detection. So everything about which runtimes would disagree is refused. Every diff_id is
//! recomputed; the config is never trusted for it.
//!
//! What is deliberately absent: any decision about the meaning of a file.

mod archive;
mod blobs;
mod decode;
mod documents;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod layer;
mod layout;
pub mod limits;
pub mod node;
pub mod publish;
pub mod registry;
mod service;
mod snapshot;
mod tar_stream;
mod tree;

pub use archive::index_archive;
pub use documents::{Wanted, own_platform};
pub use error::{IndexError, Limit};
pub use layout::index_layout;
pub use service::ServiceSettings;

use driftline_schemas::layer::LayerManifest;
use driftline_schemas::{DiffId, Image, LayerBasis};

/// An image whose every layer was read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// The image; [`publish::Publisher`] fills in source and time.
    pub image: Image,
    /// Its layers, each once, lowest first; without those that were known already.
    pub layers: Vec<IndexedLayer>,
}

/// A layer that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedLayer {
    /// Digest of its uncompressed content.
    pub diff_id: DiffId,
    /// Whether that digest was recomputed.
    pub basis: LayerBasis,
    /// The entries of the layer.
    pub manifest: LayerManifest,
}
