//! The enricher's copy of the image topics on disk, so that a restart reads only newer records.
//!
//! Records are stored in one file, verbatim, and are written together with the position after them ([`Store::write`]):
//! however the process ends, the file contains exactly the records up to its positions. [`open`] rebuilds the tables
//! from the records; chunks are read when an image is loaded. Merged images are stored beside the file, each in a
//! separate one ([`blocks`]).
//!
//! The bytes of chunks that no image in use needs are dropped ([`Store::collect`]); their offsets on the topic are
//! kept, and the feed reads them again when an image needs them.
//!
//! The whole content can be read from the topics again. So a file that is damaged, of another format, of another
//! cluster or of other topics is set aside, and a new one is filled from the beginning; there is nothing to migrate or
//! to repair. A store whose file can no longer be written continues in memory ([`Store::leave_disk`]).

mod again;
mod background;
pub mod blocks;
mod collected;
mod compacting;
mod error;
mod failure;
mod feed;
mod file;
mod memory;
mod opening;
mod room;
mod row;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

use driftline_enricher_core::chunks::ChunkSource;
use driftline_enricher_core::tables::Publication;
use driftline_schemas::{Image, LayerEvent, LayerHead, Sha256, decode};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition};

pub use background::FeedEvent;
pub use error::{Rebuilt, StoreError};
pub use failure::Failure;
use failure::guarded;
pub use feed::{Feed, Order, TABLES};
pub use file::Origin;
pub use opening::{Opened, open};
pub use row::{News, Row};

/// Version of the tables below and their values; a store of another version is rebuilt.
const FORMAT_VERSION: &str = "2";

/// Partition and offset, which order the value among others of its kind; timestamp in milliseconds; value as on the
/// topic.
type Kept = (i32, i64, i64, &'static [u8]);

/// `image id/source` → image.
const IMAGES: TableDefinition<'_, &str, Kept> = TableDefinition::new("images");
/// `diff_id/source` → head.
const HEADS: TableDefinition<'_, &str, Kept> = TableDefinition::new("heads");
/// Manifest digest and big-endian number → chunk; an empty value for a collected chunk. No record of the topic is
/// empty.
const CHUNKS: TableDefinition<'_, &[u8], Kept> = TableDefinition::new("chunks");
/// Stem of the topic and partition → next offset.
const POSITIONS: TableDefinition<'_, (&str, i32), i64> = TableDefinition::new("positions");
/// The store's cluster and topics, see [`Origin`].
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// The open file, locked against other processes; or the database in memory that replaces it.
#[derive(Debug)]
pub struct Store {
    /// Shared by readers and writers; compaction and replacement hold it exclusively.
    database: RwLock<Database>,
    directory: PathBuf,
    origin: Origin,
    /// Most bytes on the disk.
    bytes_max: u64,
    /// Why the store is in memory.
    failure: OnceLock<Failure>,
    /// The error that a reader found in the file.
    suspicion: Mutex<Option<StoreError>>,
    suspected: Notify,
}

impl Store {
    fn of(database: Database, directory: &Path, origin: &Origin) -> Self {
        Self {
            database: RwLock::new(database),
            directory: directory.to_owned(),
            origin: origin.clone(),
            bytes_max: u64::MAX,
            failure: OnceLock::new(),
            suspicion: Mutex::new(None),
            suspected: Notify::new(),
        }
    }

    fn database(&self) -> RwLockReadGuard<'_, Database> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes records and the positions after them, all or nothing; durable when it returns. A chunk for which there is
    /// no room is written without its bytes, and its row is changed to [`News::CollectedChunk`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, rows: &mut [Row]) -> Result<(), StoreError> {
        let takes_chunks = self.takes(rows)?;
        let transaction = self.database().begin_write()?;
        {
            let mut images = transaction.open_table(IMAGES)?;
            let mut heads = transaction.open_table(HEADS)?;
            let mut chunks = transaction.open_table(CHUNKS)?;
            let mut positions = transaction.open_table(POSITIONS)?;
            for row in rows {
                match (&row.news, row.value.as_deref()) {
                    (News::Image(image), Some(value)) => {
                        put(&mut images, &image.key(), row, value, |old| decode::<Image>(old).ok(), image)?;
                    }
                    (News::Head(head), Some(value)) => {
                        put(&mut heads, &head_key(head), row, value, decoded_head, head)?;
                    }
                    (&News::Chunk { manifest, index } | &News::CollectedChunk { manifest, index }, Some(value)) => {
                        let key = chunk_key(&manifest, index);
                        // The bytes of a chunk that an image in use needs stay.
                        let is_kept = takes_chunks || is_here(&chunks, &key)?;
                        let value = if is_kept { value } else { &[] };
                        chunks.insert(key.as_slice(), (row.partition, row.offset, row.timestamp_ms, value))?;
                        if !is_kept {
                            row.news = News::CollectedChunk { manifest, index };
                        }
                    }
                    (News::ImageGone(key), _) => drop(images.remove(key.as_str())?),
                    (News::LayerGone(key), _) => match chunk_of_name(key) {
                        Some((manifest, index)) => collected::leave(&mut chunks, &manifest, index)?,
                        None => drop(heads.remove(key.as_str())?),
                    },
                    (News::Nothing | News::Refused(_), _) | (_, None) => {}
                }
                positions.insert((row.topic.spec().stem, row.partition), row.offset.saturating_add(1))?;
            }
        }
        Ok(transaction.commit()?)
    }
}

/// Whether the bytes of a chunk are in the store.
fn is_here(chunks: &Table<'_, &'static [u8], Kept>, key: &[u8]) -> Result<bool, StoreError> {
    Ok(chunks.get(key)?.is_some_and(|old| !old.value().3.is_empty()))
}

/// Stores a publication. One that repeats its publisher's last one keeps its position among the others.
fn put<T: Publication>(
    table: &mut Table<'_, &'static str, Kept>,
    key: &str,
    row: &Row,
    value: &[u8],
    read: impl Fn(&[u8]) -> Option<T>,
    new: &T,
) -> Result<(), StoreError> {
    let place = table.get(key)?.and_then(|old| {
        let (partition, offset, _, value) = old.value();
        read(value).filter(|old| old.agrees(new)).map(|_| (partition, offset))
    });
    let (partition, offset) = place.unwrap_or((row.partition, row.offset));
    table.insert(key, (partition, offset, row.timestamp_ms, value))?;
    Ok(())
}

impl ChunkSource for Store {
    fn chunk(&self, manifest: &Sha256, index: u32) -> Result<Arc<[u8]>, String> {
        let value = guarded(|| self.chunk_value(manifest, index)).map_err(|error| {
            let message = error.to_string();
            self.suspect(error);
            message
        })?;
        let value = value.ok_or_else(|| format!("chunk {index} of {manifest} is not in the store"))?;
        match LayerEvent::decode(&value) {
            Ok(LayerEvent::Chunk(chunk)) => Ok(chunk.data.into()),
            Ok(LayerEvent::Head(_)) => Err(format!("chunk {index} of {manifest} is a head in the store")),
            Err(error) => {
                let message = format!("chunk {index} of {manifest}: {error}");
                self.suspect(StoreError::unusable(Rebuilt::Damaged, &message));
                Err(message)
            }
        }
    }
}

impl Store {
    fn chunk_value(&self, manifest: &Sha256, index: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let database = self.database();
        let chunks = database.begin_read()?.open_table(CHUNKS)?;
        let found = chunks.get(chunk_key(manifest, index).as_slice())?;
        Ok(found.map(|row| row.value().3.to_vec()).filter(|value| !value.is_empty()))
    }
}

const CHUNK_KEY_BYTES: usize = 32 + 4;

fn chunk_key(manifest: &Sha256, index: u32) -> [u8; CHUNK_KEY_BYTES] {
    let mut key = [0; CHUNK_KEY_BYTES];
    let (digest, number) = key.split_at_mut(32);
    digest.copy_from_slice(&manifest.0);
    number.copy_from_slice(&index.to_be_bytes());
    key
}

fn chunk_of_key(key: &[u8]) -> Option<(Sha256, u32)> {
    let (digest, number) = key.split_first_chunk::<32>()?;
    Some((Sha256(*digest), u32::from_be_bytes(number.try_into().ok()?)))
}

/// The manifest and number of the chunk with this key on the topic, `manifest digest/number`.
fn chunk_of_name(key: &str) -> Option<(Sha256, u32)> {
    let (manifest, index) = key.split_once('/')?;
    Some((manifest.parse().ok()?, index.parse().ok()?))
}

fn head_key(head: &LayerHead) -> String {
    format!("{}/{}", head.diff_id, head.source)
}

fn decoded_head(value: &[u8]) -> Option<LayerHead> {
    match LayerEvent::decode(value) {
        Ok(LayerEvent::Head(head)) => Some(head),
        _ => None,
    }
}
