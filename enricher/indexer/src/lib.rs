//! Turns images into layer manifests: stream, decompress, verify, hash every file; nothing is unpacked.
//!
//! * [`index_archive`], [`index_layout`]: an image from where it is, to manifests. Pure but for reading.
//! * [`publish`]: manifests to the image topics, so that no reader ever uses half a layer.
//! * [`node`]: the service that does both for the images of one node.
//!
//! What an image shows us must be what it shows the runtime: a file that we see under another path or with other content
//! is a hole, so anything that runtimes would disagree about is refused. Every diff_id is recomputed, never believed.
//!
//! What is deliberately absent: registries and the decision what a file means.

mod archive;
mod decode;
mod documents;
mod error;
mod layer;
mod layout;
pub mod limits;
pub mod node;
pub mod publish;
mod tar_stream;
mod tree;

pub use archive::index_archive;
pub use error::{IndexError, Limit};
pub use layout::index_layout;

use driftline_schemas::layer::LayerManifest;
use driftline_schemas::{DiffId, Image};

/// An image whose every layer was read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// The image; who indexed it, and when, is filled in by [`publish::Publisher`].
    pub image: Image,
    /// Its layers, each once, lowest first.
    pub layers: Vec<(DiffId, LayerManifest)>,
}
