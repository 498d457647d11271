//! Records of the image topics and of the requests for them. Fields are documented in the `.avsc` files.
#![expect(missing_docs, reason = "every field is documented in the schema, which a test checks")]

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, decode_datum, record, split, unknown};
use crate::ids::{DiffId, ImageId, Sha256};

/// What is known of an image. See `image.avsc`.
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

/// Whether what this source publishes was read where the image comes from, by a registry indexer or a CI system, and not
/// on a node that somebody may have broken into.
#[must_use]
pub fn is_verified_source(source: &str) -> bool {
    ["registry:", "ci:"].iter().any(|prefix| source.starts_with(prefix))
}

/// The node whose indexer publishes under this source.
#[must_use]
pub fn node_of_source(source: &str) -> Option<&str> {
    source.strip_prefix("node:")
}

/// What kind of failure it was. See `image.avsc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFailure {
    #[default]
    Unavailable,
    Unsupported,
    Mismatch,
}

impl Image {
    /// Key of its record: what every publisher says of an image stands beside what others say.
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

/// Names a complete layer manifest. See `layer_head.avsc`.
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

/// What a manifest was made of. See `layer_head.avsc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerBasis {
    #[default]
    Blob,
    Snapshot,
}

/// A piece of an encoded layer manifest. See `layer_chunk.avsc`.
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

/// Everything that may stand on the image-layers topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEvent {
    Head(LayerHead),
    Chunk(LayerChunk),
}

impl LayerEvent {
    /// Decodes a value of the image-layers topic.
    ///
    /// # Errors
    /// When it is neither record, whole and alone.
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
