//! Image archives as written by `docker save`, `podman save`, skopeo and the engines' export, as file or stream.
//!
//! The archive is read once, forward. Layers usually precede the documents that name them, so every layer is read when
//! it is met and matched by its diff_id at the end. Member names are not relied on, except that a blob under
//! `blobs/sha256/` must have the digest of its name.

use std::collections::BTreeMap;
use std::io::Read;

use driftline_schemas::layer::{EntryKind, LayerManifest};
use driftline_schemas::{DiffId, LayerBasis, Sha256};

use crate::decode::{Format, StoredDigest, decoded, peek};
use crate::documents::{Candidate, Documents, Entry, Wanted, check_digest, choose, digest_in};
use crate::error::{IndexError, Limit};
use crate::layer::read_layer;
use crate::limits::{ARCHIVE_ENTRIES_MAX, BUFFER_BYTES, JSON_BYTES_MAX, JSON_TOTAL_BYTES_MAX, MEMBERS_MAX};
use crate::tar_stream::{Data, Member, TarStream};
use crate::{Indexed, IndexedLayer};

/// Indexes the wanted image of an archive. The archive may be compressed as a whole. The caller fills in source and
/// time of the [`Image`](driftline_schemas::Image).
///
/// # Errors
/// When the archive cannot be read, exceeds a limit, does not hold the image, or any content does not match its digest.
pub fn index_archive(reader: impl Read, wanted: &Wanted) -> Result<Indexed, IndexError> {
    let (contents, _) = decoded(peek(reader)?, StoredDigest::NotWanted, |plain| {
        let mut tar = TarStream::new(std::io::BufReader::with_capacity(BUFFER_BYTES, plain));
        let mut contents = Contents::default();
        while let Some(member) = tar.next_member()? {
            contents.members += 1;
            if contents.members > MEMBERS_MAX {
                return Err(Limit::Members.into());
            }
            if member.kind == EntryKind::File {
                contents.take(&member, tar.data(&member))?;
            }
        }
        Ok(contents)
    })?;
    contents.choose(wanted)
}

/// The contents of an archive found so far.
#[derive(Default)]
struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    document_bytes: u64,
    layers: BTreeMap<DiffId, LayerManifest>,
    /// Result of each member that looked like a layer. Layers of other images, and blobs that are not layers, may be
    /// malformed without harm.
    read: BTreeMap<String, Result<DiffId, IndexError>>,
    members: usize,
    entries: usize,
}

impl Contents {
    fn take<R: Read>(&mut self, member: &Member, data: Data<'_, R>) -> Result<(), IndexError> {
        let path = String::from_utf8_lossy(&member.path);
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        let peeked = peek(data)?;
        match peeked.format {
            Format::Json => {
                if member.size_bytes > JSON_BYTES_MAX {
                    // Attestations may be large; whether this document is needed is known only later.
                    self.read.insert(path, Err(Limit::JsonBytes.into()));
                    return Ok(());
                }
                self.document_bytes += member.size_bytes;
                if self.document_bytes > JSON_TOTAL_BYTES_MAX {
                    return Err(Limit::JsonTotalBytes.into());
                }
                let mut bytes = Vec::new();
                peeked.reader.take(JSON_BYTES_MAX).read_to_end(&mut bytes)?;
                check_digest(&path, Sha256::of(&bytes))?;
                self.documents.insert(path, bytes);
            }
            Format::Tar | Format::Gzip | Format::Zstd => {
                let stored = if digest_in(&path).is_some() { StoredDigest::Wanted } else { StoredDigest::NotWanted };
                let read = read_layer(peeked, stored, &path);
                let checked = read.and_then(|layer| check_digest(&path, layer.stored).map(|()| layer));
                let diff_id = checked.map(|layer| {
                    self.entries += layer.manifest.entries().len();
                    self.layers.insert(layer.diff_id.clone(), layer.manifest);
                    layer.diff_id
                });
                self.read.insert(path, diff_id);
                if self.entries > ARCHIVE_ENTRIES_MAX {
                    return Err(Limit::ArchiveEntries.into());
                }
            }
            Format::Other => {
                let unknown = IndexError::UnknownCompression(path.chars().take(200).collect());
                self.read.insert(path, Err(unknown));
            }
        }
        Ok(())
    }

    fn choose(mut self, wanted: &Wanted) -> Result<Indexed, IndexError> {
        let Candidate { image, layers: blobs, .. } = choose(&mut self, &Entry::Names, wanted)?;
        let mut layers: Vec<IndexedLayer> = Vec::new();
        for ((number, diff_id), blob) in image.diff_ids.iter().enumerate().zip(&blobs) {
            if layers.iter().any(|known| known.diff_id == *diff_id) {
                continue;
            }
            match (self.layers.remove(diff_id), self.read.remove(blob.path.as_str())) {
                (Some(manifest), _) => {
                    layers.push(IndexedLayer { diff_id: diff_id.clone(), basis: LayerBasis::Blob, manifest });
                }
                (None, Some(Err(error))) => return Err(error),
                (None, Some(Ok(actual))) => {
                    let (expected, actual) = (diff_id.as_str().to_owned(), actual.as_str().to_owned());
                    return Err(IndexError::DiffId { number, expected, actual });
                }
                (None, None) => return Err(IndexError::LayerMissing(diff_id.as_str().to_owned())),
            }
        }
        Ok(Indexed { image, layers })
    }
}

impl Documents for Contents {
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        match (self.documents.get(path), self.read.remove(path)) {
            (Some(bytes), _) => Ok(Some(bytes.clone())),
            (None, Some(Err(error))) => Err(error),
            _ => Ok(None),
        }
    }
}
