//! Layer manifests: the content of one image layer, entry by entry, in one canonical encoding.
//!
//! Written by the indexer, read by the enricher. The encoding is the entries sorted by path, then kind, each as one
//! Avro datum, concatenated; the manifest's digest is the SHA-256 of that encoding. The manifest is published in chunks
//! cut at fixed boundaries, so that two indexers that read the same layer write the same records.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, EncodeError, read_current, record, write_current};
use crate::ids::{DiffId, Sha256};
use crate::images::{LayerBasis, LayerChunk, LayerHead};
use crate::limits::{CHUNK_BYTES, CHUNKS_MAX};

/// One entry of a layer. See `layer_entry.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerEntry {
    /// Absolute, normalised path; for a whiteout the path that it hides, for an opaque mark the directory.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Type of the entry.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Size of a regular file, else 0.
    pub size_bytes: u64,
    /// SHA-256 of a regular file.
    #[serde(with = "serde_bytes")]
    pub sha256: Option<[u8; 32]>,
    /// Target: of a symlink as written, of a hard link as an absolute path.
    #[serde(with = "serde_bytes")]
    pub target: Option<Vec<u8>>,
}

/// Type of a layer entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Hard link to another path, of this layer or a lower one.
    Hardlink,
    /// Device, fifo or socket: cannot be executed.
    Device,
    /// Hides `path` of all lower layers.
    Whiteout,
    /// Hides all children of `path` in lower layers.
    Opaque,
}

record!(LayerEntry, "LayerEntry", "layer_entry.avsc");

/// Why chunks do not form a manifest. The layer stays unknown until a complete manifest is published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More chunks than [`CHUNKS_MAX`], or none.
    #[error("{0} chunks, allowed are 1 to {CHUNKS_MAX}")]
    ChunkCount(i64),
    /// The digest of the bytes differs from the head's.
    #[error("chunks have digest {actual}, the head says {expected}")]
    Digest {
        /// Digest in the head.
        expected: Sha256,
        /// Digest of the chunks.
        actual: Sha256,
    },
    /// An entry cannot be read.
    #[error(transparent)]
    Entry(#[from] DecodeError),
    /// An entry cannot be written.
    #[error("{0}")]
    Encode(String),
    /// Entries are not in canonical order.
    #[error("entry {0} is out of order")]
    Order(usize),
}

impl From<EncodeError> for ManifestError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error.to_string())
    }
}

/// A layer's entries in canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerManifest {
    entries: Vec<LayerEntry>,
}

/// A manifest in the form in which it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedLayer {
    /// The head of the chunks; must be published after them.
    pub head: LayerHead,
    /// The chunks, in order.
    pub chunks: Vec<LayerChunk>,
}

impl LayerManifest {
    /// Sorts entries into canonical order. Of several entries with the same path and kind the last one counts, as when
    /// a tar archive holds a path twice.
    #[must_use]
    pub fn new(mut entries: Vec<LayerEntry>) -> Self {
        entries.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
        entries.reverse();
        entries.dedup_by(|a, b| a.path == b.path && a.kind == b.kind);
        entries.reverse();
        Self { entries }
    }

    /// The entries, sorted by path, then kind.
    #[must_use]
    pub fn entries(&self) -> &[LayerEntry] {
        &self.entries
    }

    /// Encodes the manifest and cuts it into chunks.
    ///
    /// # Errors
    /// When it is longer than [`CHUNKS_MAX`] chunks, or an entry cannot be encoded.
    pub fn publish(&self, diff_id: &DiffId, source: &str, indexed_ns: i64) -> Result<PublishedLayer, ManifestError> {
        let mut bytes = Vec::new();
        for entry in &self.entries {
            write_current(entry, &mut bytes)?;
        }
        let manifest_sha256 = Sha256::of(&bytes);
        let pieces = bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec);
        let mut chunks: Vec<_> =
            (0..).zip(pieces).map(|(index, data)| LayerChunk { manifest_sha256, index, data }).collect();
        if chunks.is_empty() {
            chunks.push(LayerChunk { manifest_sha256, index: 0, data: Vec::new() });
        }
        let chunk_count = chunks.len();
        let head = LayerHead {
            diff_id: diff_id.clone(),
            source: source.to_owned(),
            basis: LayerBasis::Blob,
            manifest_sha256,
            chunk_count: i32::try_from(chunk_count)
                .ok()
                .filter(|count| check_chunk_count(*count).is_ok())
                .ok_or(ManifestError::ChunkCount(as_long(chunk_count)))?,
            size_bytes: as_long(bytes.len()),
            entry_count: as_long(self.entries.len()),
            indexed_ns,
        };
        Ok(PublishedLayer { head, chunks })
    }

    /// Joins and verifies chunks, which must be all of `head`'s, in order.
    ///
    /// # Errors
    /// When the digest differs, an entry is malformed, or the order is not canonical.
    pub fn assemble<'a>(head: &LayerHead, chunks: impl Iterator<Item = &'a [u8]>) -> Result<Self, ManifestError> {
        check_chunk_count(head.chunk_count)?;
        let bytes = chunks.fold(Vec::new(), |mut bytes, chunk| {
            bytes.extend_from_slice(chunk);
            bytes
        });
        let actual = Sha256::of(&bytes);
        if actual != head.manifest_sha256 {
            return Err(ManifestError::Digest { expected: head.manifest_sha256, actual });
        }
        let mut entries: Vec<LayerEntry> = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (entry, after): (LayerEntry, _) = read_current(rest)?;
            if entries.last().is_some_and(|last| (&last.path, last.kind) >= (&entry.path, entry.kind)) {
                return Err(ManifestError::Order(entries.len()));
            }
            entries.push(entry);
            rest = after;
        }
        Ok(Self { entries })
    }
}

/// Checks a head's number of chunks.
///
/// # Errors
/// When it is 0, negative or above [`CHUNKS_MAX`].
pub fn check_chunk_count(count: i32) -> Result<u32, ManifestError> {
    u32::try_from(count)
        .ok()
        .filter(|count| (1..=CHUNKS_MAX).contains(count))
        .ok_or(ManifestError::ChunkCount(i64::from(count)))
}

fn as_long(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, digest: u8) -> LayerEntry {
        LayerEntry {
            path: path.into(),
            kind: EntryKind::File,
            mode: 0o755,
            size_bytes: 3,
            sha256: Some([digest; 32]),
            target: None,
        }
    }

    fn published(manifest: &LayerManifest) -> PublishedLayer {
        manifest.publish(&DiffId::from("sha256:00"), "node:a", 1).unwrap()
    }

    #[test]
    fn a_manifest_survives_publishing_and_the_last_of_a_repeated_path_counts() {
        let manifest = LayerManifest::new(vec![file("/b", 1), file("/a", 2), file("/b", 3)]);
        assert_eq!(manifest.entries(), [file("/a", 2), file("/b", 3)]);
        let layer = published(&manifest);
        let back = LayerManifest::assemble(&layer.head, layer.chunks.iter().map(|chunk| chunk.data.as_slice()));
        assert_eq!(back, Ok(manifest));
    }

    #[test]
    fn an_empty_layer_is_one_empty_chunk() {
        let layer = published(&LayerManifest::default());
        assert_eq!((layer.head.chunk_count, layer.chunks.len()), (1, 1));
    }

    #[test]
    fn long_manifests_are_cut_at_fixed_boundaries_and_a_changed_chunk_is_noticed() {
        let entries: Vec<_> = (0..20_000).map(|n| file(&format!("/usr/share/doc/package/{n}"), 7)).collect();
        let mut layer = published(&LayerManifest::new(entries));
        assert!(layer.chunks.len() > 1);
        assert!(layer.chunks.iter().rev().skip(1).all(|chunk| chunk.data.len() == CHUNK_BYTES));
        layer.chunks[1].data[9] ^= 1;
        let back = LayerManifest::assemble(&layer.head, layer.chunks.iter().map(|chunk| chunk.data.as_slice()));
        assert!(matches!(back, Err(ManifestError::Digest { .. })));
    }

    #[test]
    fn an_order_that_is_not_canonical_is_refused() {
        let layer = published(&LayerManifest { entries: vec![file("/b", 1), file("/a", 1)] });
        let back = LayerManifest::assemble(&layer.head, layer.chunks.iter().map(|chunk| chunk.data.as_slice()));
        assert_eq!(back, Err(ManifestError::Order(1)));
    }
}
