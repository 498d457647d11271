//! Where the bytes of layer chunks are: in memory here, in a file of the enricher's shell.
//!
//! [`crate::tables::ImageTables`] needs to know which chunks there are; their bytes are read when an image is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX};
use driftline_schemas::{LayerChunk, Sha256};

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkLocation {
    /// Its bytes can be read.
    Here,
    /// Its bytes were here; the topic is asked for them when an image needs them.
    Collected,
    /// Nobody has published it.
    Nowhere,
}

/// Takes chunks, and knows which there are.
pub trait ChunkStore {
    /// Takes a chunk, in place of one that was there.
    fn put(&mut self, manifest: Sha256, index: u32, data: Vec<u8>);

    /// Where a chunk is.
    fn location(&self, manifest: &Sha256, index: u32) -> ChunkLocation;

    /// The topic does not have a chunk any more. Bytes that are here stay.
    fn forget(&mut self, manifest: &Sha256, index: u32);
}

/// Gives the bytes of chunks.
pub trait ChunkSource {
    /// The bytes of a chunk.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn chunk(&self, manifest: &Sha256, index: u32) -> Result<Arc<[u8]>, String>;
}

/// Chunks in memory, for commands and simulations: as much as they were given.
#[derive(Debug, Default)]
pub struct MemoryChunks(BTreeMap<(Sha256, u32), Arc<[u8]>>);

impl ChunkStore for MemoryChunks {
    fn put(&mut self, manifest: Sha256, index: u32, data: Vec<u8>) {
        self.0.insert((manifest, index), data.into());
    }

    fn location(&self, manifest: &Sha256, index: u32) -> ChunkLocation {
        if self.0.contains_key(&(*manifest, index)) { ChunkLocation::Here } else { ChunkLocation::Nowhere }
    }

    fn forget(&mut self, _: &Sha256, _: u32) {}
}

impl ChunkSource for MemoryChunks {
    fn chunk(&self, manifest: &Sha256, index: u32) -> Result<Arc<[u8]>, String> {
        let found = self.0.get(&(*manifest, index)).cloned();
        found.ok_or_else(|| format!("chunk {index} of {manifest} is not there"))
    }
}

/// Where each chunk is whose bytes are kept elsewhere, in a file: a few bytes for each, and [`CHUNK_BYTES`] there.
#[derive(Debug, Default)]
pub struct KnownChunks(BTreeMap<Sha256, ManifestChunks>);

#[derive(Debug, Default)]
struct ManifestChunks {
    here: BTreeSet<u32>,
    collected: BTreeSet<u32>,
}

impl ChunkStore for KnownChunks {
    fn put(&mut self, manifest: Sha256, index: u32, _: Vec<u8>) {
        let known = self.0.entry(manifest).or_default();
        known.collected.remove(&index);
        known.here.insert(index);
    }

    fn location(&self, manifest: &Sha256, index: u32) -> ChunkLocation {
        match self.0.get(manifest) {
            Some(known) if known.here.contains(&index) => ChunkLocation::Here,
            Some(known) if known.collected.contains(&index) => ChunkLocation::Collected,
            _ => ChunkLocation::Nowhere,
        }
    }

    fn forget(&mut self, manifest: &Sha256, index: u32) {
        if let Some(known) = self.0.get_mut(manifest) {
            known.collected.remove(&index);
        }
        self.drop_empty(manifest);
    }
}

impl KnownChunks {
    /// The bytes of a chunk were dropped, and its place on the topic is remembered.
    pub fn put_collected(&mut self, manifest: Sha256, index: u32) {
        let known = self.0.entry(manifest).or_default();
        known.here.remove(&index);
        known.collected.insert(index);
    }

    /// The bytes of a manifest's chunks were dropped.
    pub fn collect(&mut self, manifest: &Sha256) {
        if let Some(known) = self.0.get_mut(manifest) {
            known.collected.append(&mut known.here);
        }
    }

    /// What was collected of a manifest cannot be had again.
    pub fn forget_collected(&mut self, manifest: &Sha256) {
        if let Some(known) = self.0.get_mut(manifest) {
            known.collected.clear();
        }
        self.drop_empty(manifest);
    }

    /// The manifest that comes after this one, in order of their digests, and whether bytes of it are here.
    #[must_use]
    pub fn next(&self, after: Option<&Sha256>) -> Option<(Sha256, bool)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (manifest, known) = self.0.range((from, Bound::Unbounded)).next()?;
        Some((*manifest, !known.here.is_empty()))
    }

    fn drop_empty(&mut self, manifest: &Sha256) {
        if self.0.get(manifest).is_some_and(|known| known.here.is_empty() && known.collected.is_empty()) {
            self.0.remove(manifest);
        }
    }
}

/// The number of a chunk, when it may be kept.
///
/// # Errors
/// Why it is refused.
pub fn check_chunk(chunk: &LayerChunk) -> Result<u32, String> {
    let index = u32::try_from(chunk.index).ok().filter(|index| *index < CHUNKS_MAX);
    let index = index.ok_or_else(|| format!("chunk {} of at most {CHUNKS_MAX}", chunk.index))?;
    if chunk.data.len() > CHUNK_BYTES {
        return Err(format!("a chunk of {} bytes, allowed are {CHUNK_BYTES}", chunk.data.len()));
    }
    Ok(index)
}
