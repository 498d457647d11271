//! Where the bytes of layer chunks are: in memory here, in a file of the enricher's shell.
//!
//! [`crate::tables::ImageTables`] needs to know which chunks there are; their bytes are read when an image is loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX};
use driftline_schemas::{LayerChunk, Sha256};

/// Takes chunks, and knows which there are.
pub trait ChunkStore {
    /// Takes a chunk, in place of one that was there.
    fn put(&mut self, manifest: Sha256, index: u32, data: Vec<u8>);

    /// Whether there is such a chunk.
    fn has(&self, manifest: &Sha256, index: u32) -> bool;
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

    fn has(&self, manifest: &Sha256, index: u32) -> bool {
        self.0.contains_key(&(*manifest, index))
    }
}

impl ChunkSource for MemoryChunks {
    fn chunk(&self, manifest: &Sha256, index: u32) -> Result<Arc<[u8]>, String> {
        let found = self.0.get(&(*manifest, index)).cloned();
        found.ok_or_else(|| format!("chunk {index} of {manifest} is not there"))
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
