//! Chunks whose bytes were dropped: their offsets on the topic are kept until the topic no longer has them.

use std::collections::BTreeSet;

use driftline_schemas::Sha256;
use redb::{ReadableDatabase as _, ReadableTable as _, Table};

use super::{CHUNKS, Kept, News, Row, Store, StoreError, chunk_key, chunk_of_key};

/// Offset of a chunk that the topic no longer has.
const NOWHERE: i64 = -1;

type Chunks<'a> = Table<'a, &'static [u8], Kept>;

impl Store {
    /// Drops the bytes of these manifests' chunks, all or nothing. Returns the number of bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn collect(&self, manifests: &[Sha256]) -> Result<u64, StoreError> {
        let transaction = self.database().begin_write()?;
        let mut bytes = 0_u64;
        {
            let mut chunks = transaction.open_table(CHUNKS)?;
            for manifest in manifests {
                for chunk in held(&chunks, manifest)? {
                    bytes = bytes.saturating_add(chunk.bytes);
                    if chunk.offset == NOWHERE {
                        chunks.remove(chunk.key.as_slice())?;
                    } else {
                        let place = (chunk.partition, chunk.offset, chunk.timestamp_ms, [].as_slice());
                        chunks.insert(chunk.key.as_slice(), place)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(bytes)
    }

    /// Partitions and offsets of the collected chunks of these manifests.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn collected(&self, manifests: &BTreeSet<Sha256>) -> Result<BTreeSet<(i32, i64)>, StoreError> {
        let chunks = self.database().begin_read()?.open_table(CHUNKS)?;
        let mut places = BTreeSet::new();
        for manifest in manifests {
            let collected = held(&chunks, manifest)?.into_iter().filter(|chunk| chunk.bytes == 0);
            places.extend(collected.map(|chunk| (chunk.partition, chunk.offset)));
        }
        Ok(places)
    }

    /// Stores chunks that were read again in place of the collected ones, and returns them. A chunk that arrived on the
    /// topic since is newer and stays. The positions of the topics do not change.
    ///
    /// # Errors
    /// When the file cannot be written, or there is no room for it within the bound.
    pub fn put_back(&self, mut rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
        self.make_room_for(&rows)?;
        let transaction = self.database().begin_write()?;
        {
            let mut chunks = transaction.open_table(CHUNKS)?;
            for row in &mut rows {
                let Some(value) = row.value.take() else { continue };
                let is_collected = match &row.news {
                    News::Chunk { manifest, index } => {
                        let key = chunk_key(manifest, *index);
                        let is_collected = chunks.get(key.as_slice())?.is_some_and(|old| old.value().3.is_empty());
                        if is_collected {
                            let place = (row.partition, row.offset, row.timestamp_ms, value.as_slice());
                            chunks.insert(key.as_slice(), place)?;
                        }
                        is_collected
                    }
                    _ => false,
                };
                if !is_collected {
                    row.news = News::Nothing;
                }
            }
        }
        transaction.commit()?;
        rows.retain(|row| matches!(row.news, News::Chunk { .. }));
        Ok(rows)
    }

    /// Removes the remaining collected chunks of these manifests after they were read again: the topic does not have
    /// them. Returns the manifests of removed chunks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget_collected(&self, manifests: &BTreeSet<Sha256>) -> Result<BTreeSet<Sha256>, StoreError> {
        let transaction = self.database().begin_write()?;
        let mut gone = BTreeSet::new();
        {
            let mut chunks = transaction.open_table(CHUNKS)?;
            for manifest in manifests {
                for chunk in held(&chunks, manifest)?.into_iter().filter(|chunk| chunk.bytes == 0) {
                    chunks.remove(chunk.key.as_slice())?;
                    gone.insert(*manifest);
                }
            }
        }
        transaction.commit()?;
        Ok(gone)
    }
}

/// Removes a chunk that the topic no longer has. Its bytes, if stored, stay while they are needed.
pub(super) fn leave(chunks: &mut Chunks<'_>, manifest: &Sha256, index: u32) -> Result<(), StoreError> {
    let key = chunk_key(manifest, index);
    let Some(old) = chunks.remove(key.as_slice())? else { return Ok(()) };
    let (partition, _, timestamp_ms, value) = old.value();
    let bytes = (!value.is_empty()).then(|| value.to_vec());
    drop(old);
    if let Some(value) = bytes {
        chunks.insert(key.as_slice(), (partition, NOWHERE, timestamp_ms, value.as_slice()))?;
    }
    Ok(())
}

/// The place and size of a chunk, without its bytes.
struct Held {
    key: Vec<u8>,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    /// Number of bytes; 0 for a collected chunk.
    bytes: u64,
}

fn held(chunks: &impl redb::ReadableTable<&'static [u8], Kept>, manifest: &Sha256) -> Result<Vec<Held>, StoreError> {
    let (first, last) = (chunk_key(manifest, 0), chunk_key(manifest, u32::MAX));
    let mut found = Vec::new();
    for row in chunks.range(first.as_slice()..=last.as_slice())? {
        let (key, value) = row?;
        let (partition, offset, timestamp_ms, value) = value.value();
        let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
        if chunk_of_key(key.value()).is_some() {
            found.push(Held { key: key.value().to_vec(), partition, offset, timestamp_ms, bytes });
        }
    }
    Ok(found)
}
