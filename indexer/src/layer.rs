//! One layer: decompresses it, computes the diff_id and hashes every regular file, in one pass.

use std::io::Read;

use driftline_schemas::layer::{EntryKind, LayerManifest};
use driftline_schemas::{DiffId, Sha256};
use sha2::{Digest as _, Sha256 as Hasher};

use crate::decode::{Format, Peeked, StoredDigest, decoded};
use crate::error::{IndexError, Limit};
use crate::limits::{BUFFER_BYTES, LAYER_BYTES_MAX};
use crate::tar_stream::TarStream;
use crate::tree::Tree;

/// A layer that was read to its end.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) diff_id: DiffId,
    /// Digest of the blob as stored, if it was required.
    pub(crate) stored: Sha256,
    pub(crate) manifest: LayerManifest,
}

/// Reads a layer.
pub(crate) fn read_layer<R: Read>(peeked: Peeked<R>, stored: StoredDigest, name: &str) -> Result<Layer, IndexError> {
    if matches!(peeked.format, Format::Json | Format::Other) {
        return Err(IndexError::UnknownCompression(name.to_owned()));
    }
    let (manifest, digests) = decoded(peeked, stored, read_entries)?;
    let diff_id = DiffId::from(digests.content.to_digest().as_str());
    Ok(Layer { diff_id, stored: digests.stored, manifest })
}

fn read_entries(content: &mut dyn Read) -> Result<LayerManifest, IndexError> {
    let mut tar = TarStream::new(std::io::BufReader::with_capacity(BUFFER_BYTES, content));
    let mut tree = Tree::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes: u64 = 0;
    while let Some(member) = tar.next_member()? {
        // Holes take no bytes in the stream, but as long to hash.
        bytes = bytes.saturating_add(if member.kind == EntryKind::File { member.size_bytes } else { 0 });
        if bytes > LAYER_BYTES_MAX {
            return Err(Limit::LayerBytes.into());
        }
        let sha256 = match member.kind {
            EntryKind::File => Some(digest(tar.data(&member), &mut buffer)?),
            _ => None,
        };
        tree.add(&member, sha256)?;
    }
    // The bytes after the end mark belong to the diff_id too.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink())?;
    Ok(tree.finish())
}

/// Digest of all bytes of a reader.
pub(crate) fn digest(mut data: impl Read, buffer: &mut [u8]) -> Result<Sha256, IndexError> {
    let mut hash = Hasher::new();
    loop {
        match data.read(buffer)? {
            0 => return Ok(Sha256(hash.finalize().into())),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
