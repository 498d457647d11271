//! The layers of a published image, and their merged index.

use std::sync::Arc;

use driftline_schemas::layer::{LayerManifest, ManifestError, check_chunk_count};
use driftline_schemas::{DiffId, ImageFailure, LayerHead, Sha256};

use crate::chunks::ChunkSource;
use crate::image::{FORMAT_VERSION, ImageIndex, MergeError, merge};

/// The heads of the layers of an image, lowest first; all their chunks are published.
#[derive(Debug)]
pub struct Stored(Vec<LayerHead>);

/// A published image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A layer's manifest does not match its head.
    #[error("layer {0}: {1}")]
    Layer(DiffId, ManifestError),
    /// Chunks that were stored cannot be read.
    #[error("layer {0}: {1}")]
    Unread(DiffId, String),
    /// The layers contradict each other.
    #[error("layers do not merge: {0}")]
    Merge(#[from] MergeError),
}

impl LoadError {
    /// Kind of the failure: content that does not match its digest, or content that cannot be used.
    #[must_use]
    pub fn failure(&self) -> ImageFailure {
        match self {
            Self::Layer(_, ManifestError::Digest { .. }) => ImageFailure::Mismatch,
            Self::Unread(..) => ImageFailure::Unavailable,
            Self::Layer(..) | Self::Merge(_) => ImageFailure::Unsupported,
        }
    }
}

impl Stored {
    pub(super) fn new(heads: Vec<LayerHead>) -> Self {
        Self(heads)
    }

    /// Name of the merged image, derived from everything that determines its content. Images with equal layers share
    /// it, whatever their publishers.
    #[must_use]
    pub fn name(&self) -> Sha256 {
        let mut content = FORMAT_VERSION.to_le_bytes().to_vec();
        self.manifests().for_each(|manifest| content.extend_from_slice(&manifest.0));
        Sha256::of(&content)
    }

    /// The digests of the layers' manifests, lowest layer first: they determine the result of [`Self::load`].
    pub fn manifests(&self) -> impl Iterator<Item = &Sha256> {
        self.0.iter().map(|head| &head.manifest_sha256)
    }

    /// Verifies, decodes and merges the layers. Takes milliseconds to seconds, so it must not run on the loop's task.
    ///
    /// # Errors
    /// When a manifest does not match its head, or the layers cannot be merged.
    pub fn load(&self, chunks: &impl ChunkSource) -> Result<ImageIndex, LoadError> {
        let layers: Vec<Arc<LayerManifest>> =
            self.0.iter().map(|head| assemble(head, chunks).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(merge(&layers)?)
    }
}

/// Loads the manifest that a head names.
///
/// # Errors
/// When chunks cannot be read, or do not match the head.
pub fn assemble(head: &LayerHead, chunks: &impl ChunkSource) -> Result<LayerManifest, LoadError> {
    let count = check_chunk_count(head.chunk_count).map_err(|error| LoadError::Layer(head.diff_id.clone(), error))?;
    let chunks: Vec<_> = (0..count)
        .map(|index| chunks.chunk(&head.manifest_sha256, index))
        .collect::<Result<_, _>>()
        .map_err(|why| LoadError::Unread(head.diff_id.clone(), why))?;
    LayerManifest::assemble(head, chunks.iter().map(AsRef::as_ref))
        .map_err(|error| LoadError::Layer(head.diff_id.clone(), error))
}
