//! Records of the image topics and of the image requests. Fields are documented in the `.avsc` files.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, decode_datum, record, split, unknown};
use crate::ids::{DiffId, ImageId, Sha256};

/// One publisher's record of an image. See `image.avsc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub image_id: ImageId,
    #[serde(default)]
    pub config_digest: String,
    pub diff_ids: Vec<DiffId>,
    pub platform: Platform,
    pub references: Vec<String>,
    pub volumes: Vec<String>,
    pub source: String,
    pub indexed_ns: i64,
    pub failed: Option<String>,
    #[serde(default)]
    pub failure: ImageFailure,
    pub retry_ns: i64,
}

/// Whether this source reads images at their origin, as a registry indexer or a CI system does, and not on a node,
/// which an attacker may have taken over.
#[must_use]
pub fn is_verified_source(source: &str) -> bool {
    ["registry:", "ci:"].iter().any(|prefix| source.starts_with(prefix))
}

/// The node of the indexer that publishes under this source.
#[must_use]
pub fn node_of_source(source: &str) -> Option<&str> {
    source.strip_prefix("node:")
}

/// Kind of a failure. See `image.avsc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFailure {
    #[default]
    Unavailable,
    Unsupported,
    Mismatch,
}

impl Image {
    /// Key of the record: it contains the source, so the records of different publishers about an image do not replace
    /// each other.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.image_id, self.source)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: String,
}

/// Identifies a complete layer manifest. See `layer_head.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerHead {
    pub diff_id: DiffId,
    pub source: String,
    #[serde(default)]
    pub basis: LayerBasis,
    pub manifest_sha256: Sha256,
    pub chunk_count: i32,
    pub size_bytes: i64,
    pub entry_count: i64,
    pub indexed_ns: i64,
}

/// What a manifest was derived from. See `layer_head.avsc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerBasis {
    #[default]
    Blob,
    Snapshot,
}

/// One chunk of an encoded layer manifest. See `layer_chunk.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerChunk {
    pub manifest_sha256: Sha256,
    pub index: i32,
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// An image whose content is needed. See `image_request.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRequest {
    pub image_id: ImageId,
    pub reference: String,
    pub runtime: String,
    pub cluster: String,
    pub node: String,
    pub why: String,
    pub requested_ns: i64,
}

record!(Image, "Image", "image.avsc", "frozen/image.1.avsc");
record!(LayerHead, "LayerHead", "layer_head.avsc", "frozen/layer_head.1.avsc");
record!(LayerChunk, "LayerChunk", "layer_chunk.avsc");
record!(ImageRequest, "ImageRequest", "image_request.avsc");

/// Every record of the image-layers topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEvent {
    Head(LayerHead),
    Chunk(LayerChunk),
}

impl LayerEvent {
    /// Decodes a value of the image-layers topic.
    ///
    /// # Errors
    /// When the value is not exactly one of the two records.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let (fingerprint, datum) = split(value)?;
        decode_datum(fingerprint, datum)
            .map(|head| head.map(Self::Head))
            .or_else(|| decode_datum(fingerprint, datum).map(|chunk| chunk.map(Self::Chunk)))
            .unwrap_or_else(|| Err(unknown(fingerprint)))
    }
}

/// A value of one of the two image tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEvent {
    Image(Image),
    Layer(LayerEvent),
}
