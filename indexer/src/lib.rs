//! Turns images into layer manifests: stream, decompress, verify, hash every file; nothing is unpacked.
//!
//! * [`index_archive`], [`index_layout`]: an image from where it is, to manifests. Pure but for reading.
//! * [`publish`]: manifests to the image topics, so that no reader ever uses half a layer.
//! * [`node`]: the service that does both for the images of one node.
//! * [`registry`]: the same for images that registries have.
//!
//! What an image shows us must be what it shows the runtime: a file that we see under another path or with other content
//! is a hole, so anything that runtimes would disagree about is refused. Every diff_id is recomputed, never believed.
//!
//! What is deliberately absent: the decision what a file means.

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
    /// The image; who indexed it, and when, is filled in by [`publish::Publisher`].
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
    /// What is in it.
    pub manifest: LayerManifest,
}
