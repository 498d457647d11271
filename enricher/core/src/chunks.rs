//! Location of the bytes of layer chunks: in memory here, in a file of the enricher's shell.
//!
//! [`crate::tables::ImageTables`] needs to know only which chunks exist; their bytes are read when an image is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX};
use driftline_schemas::{LayerChunk, Sha256};

/// Location of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkLocation {
    /// Its bytes are stored and can be read.
    Here,
    /// Its bytes were collected; they are read from the topic again when an image needs them.
    Collected,
    /// The chunk is not published.
    Nowhere,
}

/// Stores chunks, and knows their locations.
pub trait ChunkStore {
    /// Stores a chunk; replaces an earlier one with the same manifest and index.
    fn put(&mut self, manifest: Sha256, index: u32, data: Vec<u8>);

    /// Location of a chunk.
    fn location(&self, manifest: &Sha256, index: u32) -> ChunkLocation;

    /// Notes that the topic no longer has a chunk. Bytes that are stored stay.
    fn forget(&mut self, manifest: &Sha256, index: u32);
}

/// Returns the bytes of chunks.
pub trait ChunkSource {
    /// The bytes of a chunk.
    ///
    /// # Errors
    /// `Err` holds the reason why the chunk cannot be read.
    fn chunk(&self, manifest: &Sha256, index: u32) -> Result<Arc<[u8]>, String>;
}

/// Chunks in memory, for commands and simulations, which bound them by their input.
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

/// The location of each chunk whose bytes are stored elsewhere, in a file: a few bytes for each, and up to
/// [`CHUNK_BYTES`] in the file.
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
    /// Notes that the bytes of a chunk were dropped, and that its offset on the topic is known.
    pub fn put_collected(&mut self, manifest: Sha256, index: u32) {
        let known = self.0.entry(manifest).or_default();
        known.here.remove(&index);
        known.collected.insert(index);
    }

    /// Notes that the bytes of a manifest's chunks were dropped.
    pub fn collect(&mut self, manifest: &Sha256) {
        if let Some(known) = self.0.get_mut(manifest) {
            known.collected.append(&mut known.here);
        }
    }

    /// Notes that the collected chunks of a manifest are no longer on the topic.
    pub fn forget_collected(&mut self, manifest: &Sha256) {
        if let Some(known) = self.0.get_mut(manifest) {
            known.collected.clear();
        }
        self.drop_empty(manifest);
    }

    /// The next manifest in order of digests, and whether any of its bytes are stored.
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

/// The index of a chunk, if the chunk is acceptable.
///
/// # Errors
/// `Err` holds the reason why the chunk is refused.
pub fn check_chunk(chunk: &LayerChunk) -> Result<u32, String> {
    let index = u32::try_from(chunk.index).ok().filter(|index| *index < CHUNKS_MAX);
    let index = index.ok_or_else(|| format!("chunk {} of at most {CHUNKS_MAX}", chunk.index))?;
    if chunk.data.len() > CHUNK_BYTES {
        return Err(format!("a chunk of {} bytes, allowed are {CHUNK_BYTES}", chunk.data.len()));
    }
    Ok(index)
}
