//! The disk space of a store: its file, the merged images beside it, and the files that were set aside.
//!
//! Allocated blocks are counted, because the library makes its file longer than its content, with holes.
//!
//! At the bound the store takes no more bytes of chunks that may never be needed: it keeps their offsets, and the
//! chunks that an image in use needs are read from the topic. The store makes room for these; when that is not enough,
//! it leaves the disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::PoisonError;

use super::compacting::compact;
use super::file::{FILE, aside};
use super::{Row, Store, StoreError};

/// Unit of `st_blocks`, independent of the file system's block size.
const BLOCK_BYTES: u64 = 512;

impl Store {
    /// Bounds the bytes on its disk.
    #[must_use]
    pub fn bounded(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }

    /// Bytes of the disk that the store's directory uses.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        blocks_in(&self.directory)
            .map(|blocks| blocks.saturating_mul(BLOCK_BYTES))
            .map_err(|why| StoreError::Io { path: self.directory.clone(), why })
    }

    /// Whether this many more bytes stay within the bound.
    pub(super) fn has_room_for(&self, bytes: u64) -> Result<bool, StoreError> {
        Ok(self.disk_bytes()?.saturating_add(bytes) <= self.bytes_max)
    }

    /// Whether the bytes of new chunks are stored, or only their offsets.
    pub(super) fn takes(&self, rows: &[Row]) -> Result<bool, StoreError> {
        Ok(self.failure().is_none() && self.has_room_for(bytes_of(rows))?)
    }

    /// Makes room for bytes that an image in use needs.
    pub(super) fn make_room_for(&self, rows: &[Row]) -> Result<(), StoreError> {
        if self.failure().is_some() || self.takes(rows)? {
            return Ok(());
        }
        let io = |why| StoreError::Io { path: self.directory.clone(), why };
        aside(&self.directory).and_then(|files| files.iter().try_for_each(fs::remove_file)).map_err(io)?;
        compact(&mut self.database.write().unwrap_or_else(PoisonError::into_inner), &self.directory.join(FILE))?;
        if self.takes(rows)? { Ok(()) } else { Err(StoreError::Limit(self.bytes_max / 1_000_000)) }
    }
}

fn bytes_of(rows: &[Row]) -> u64 {
    rows.iter().map(|row| u64::try_from(row.value_bytes()).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// Sums the blocks of a directory's files. Files that are created or removed meanwhile may or may not be counted.
fn blocks_in(directory: &Path) -> std::io::Result<u64> {
    let mut blocks = 0_u64;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let more = match entry.metadata() {
            Ok(about) if about.is_dir() => blocks_in(&entry.path())?,
            Ok(about) => about.blocks(),
            Err(_) => 0,
        };
        blocks = blocks.saturating_add(more);
    }
    Ok(blocks)
}
