//! Reasons why an image cannot be indexed.

use std::io;

use driftline_schemas::layer::ManifestError;
use driftline_schemas::{ImageFailure, Sha256};

use crate::limits;
use crate::registry::RegistryError;

/// Why an image, or one of its layers, is refused. Nothing of a refused image is published.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The source could not be read, or ended early.
    #[error("cannot read the image: {0}")]
    Read(io::Error),
    /// A compressed stream is malformed, though it matches its digest.
    #[error("malformed compression: {0}")]
    Compression(io::Error),
    /// A tar stream is malformed.
    #[error("malformed tar stream: {0}")]
    Tar(&'static str),
    /// A path that a runtime would not unpack either.
    #[error("{why}: {path:?}")]
    Path {
        /// The problem with the path.
        why: &'static str,
        /// The path, escaped.
        path: String,
    },
    /// A limit of [`limits`] was exceeded.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// A document of the image cannot be used.
    #[error("{document}: {why}")]
    Document {
        /// Its path.
        document: String,
        /// The problem.
        why: String,
    },
    /// The source has no document that names an image.
    #[error("no image in it: neither manifest.json nor index.json")]
    NoImage,
    /// The requested image is not there.
    #[error("image {wanted} is not in it, but {}", list(.found))]
    NotFound {
        /// Config digest that was requested.
        wanted: String,
        /// Config digests that are there.
        found: Vec<String>,
    },
    /// No image was requested, and there are several.
    #[error("name the image that is meant: {}", list(.0))]
    Several(Vec<String>),
    /// A blob or config does not match its name.
    #[error("{what} has digest {actual}, its name says {expected}")]
    Digest {
        /// Blob or config.
        what: &'static str,
        /// Digest by name.
        expected: String,
        /// Digest of the content.
        actual: Sha256,
    },
    /// A layer's content does not match the diff_id in the config.
    #[error("layer {number} has diff_id {actual}, the config says {expected}")]
    DiffId {
        /// Number of the layer, 0 is the lowest.
        number: usize,
        /// From the config.
        expected: String,
        /// Of the content.
        actual: String,
    },
    /// The length of a blob differs from the one in its manifest.
    #[error("{what} has {actual_bytes} bytes, its manifest says {stated_bytes}")]
    Size {
        /// Which blob.
        what: &'static str,
        /// From the manifest.
        stated_bytes: u64,
        /// Of the content. For a blob that is too long, the number of bytes read.
        actual_bytes: u64,
    },
    /// A manifest of Docker's first schema, which has no digests of uncompressed layers.
    #[error("a schema 1 manifest: its layers cannot be verified; push the image again with any current tool")]
    Schema1,
    /// A layer of the image is not there.
    #[error("layer {0} is not in it")]
    LayerMissing(String),
    /// A layer that is neither plain tar nor gzip nor zstd.
    #[error("layer {0} is neither tar nor gzip nor zstd; encrypted layers and other compressions cannot be read")]
    UnknownCompression(String),
    /// The registry does not return the image.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A manifest does not fit its chunks.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Which limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// See [`limits::ENTRIES_MAX`].
    #[error("a layer has more than {} entries", limits::ENTRIES_MAX)]
    Entries,
    /// See [`limits::ARCHIVE_ENTRIES_MAX`].
    #[error("the layers of an archive have more than {} entries together", limits::ARCHIVE_ENTRIES_MAX)]
    ArchiveEntries,
    /// See [`limits::MANIFEST_BYTES_MAX`].
    #[error("the paths of a layer exceed {} bytes", limits::MANIFEST_BYTES_MAX)]
    ManifestBytes,
    /// See [`limits::LAYER_BYTES_MAX`].
    #[error("a layer is longer than {} bytes", limits::LAYER_BYTES_MAX)]
    LayerBytes,
    /// See [`limits::RATIO_MAX`].
    #[error("a layer grows more than {}-fold when decompressed", limits::RATIO_MAX)]
    Ratio,
    /// See [`limits::EXTENSION_BYTES_MAX`].
    #[error("a PAX header or long name exceeds {} bytes", limits::EXTENSION_BYTES_MAX)]
    ExtensionBytes,
    /// See [`limits::SPARSE_PARTS_MAX`].
    #[error("a sparse file has more than {} parts", limits::SPARSE_PARTS_MAX)]
    SparseParts,
    /// See [`limits::JSON_BYTES_MAX`].
    #[error("a document is longer than {} bytes", limits::JSON_BYTES_MAX)]
    JsonBytes,
    /// See [`limits::JSON_TOTAL_BYTES_MAX`].
    #[error("the documents together are longer than {} bytes", limits::JSON_TOTAL_BYTES_MAX)]
    JsonTotalBytes,
    /// See [`limits::MEMBERS_MAX`].
    #[error("the archive has more than {} members", limits::MEMBERS_MAX)]
    Members,
    /// See [`limits::MANIFESTS_MAX`].
    #[error("the index names more than {} images", limits::MANIFESTS_MAX)]
    Manifests,
    /// See [`limits::LAYER_TIME_MAX`].
    #[error("a layer took longer than {} s", limits::LAYER_TIME_MAX.as_secs())]
    LayerTime,
    /// See [`driftline_schemas::limits::LAYERS_MAX`].
    #[error("the image has more than {} layers", driftline_schemas::limits::LAYERS_MAX)]
    Layers,
    /// See [`driftline_schemas::limits::PATH_BYTES_MAX`].
    #[error("a path is longer than {} bytes", driftline_schemas::limits::PATH_BYTES_MAX)]
    PathBytes,
}

impl IndexError {
    /// The kind of failure: whether the same source may succeed later, and whether the content contradicts its digest.
    #[must_use]
    pub fn failure(&self) -> ImageFailure {
        match self {
            Self::Read(_) | Self::LayerMissing(_) | Self::NotFound { .. } | Self::Limit(Limit::LayerTime) => {
                ImageFailure::Unavailable
            }
            Self::Registry(error) => error.failure(),
            Self::Digest { .. } | Self::DiffId { .. } | Self::Size { .. } => ImageFailure::Mismatch,
            _ => ImageFailure::Unsupported,
        }
    }

    pub(crate) fn path(why: &'static str, path: &[u8]) -> Self {
        Self::Path { why, path: path.escape_ascii().take(200).map(char::from).collect() }
    }

    pub(crate) fn document(document: &str, why: impl std::fmt::Display) -> Self {
        let short = |text: &str| text.chars().take(300).collect();
        Self::Document { document: short(document), why: short(&why.to_string()) }
    }
}

/// Readers below the tar stream report limits and more as I/O errors; this unwraps them.
impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<Limit>() {
            Ok(limit) => return Self::Limit(limit),
            Err(error) => error,
        };
        error.downcast::<Self>().unwrap_or_else(Self::Read)
    }
}

fn list(ids: &[String]) -> String {
    if ids.is_empty() { "nothing".to_owned() } else { ids.join(", ") }
}
