//! Opens the store: as it was left, or a new one in place of one that cannot be used.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use driftline_enricher_core::Trust;
use driftline_enricher_core::chunks::{ChunkStore as _, KnownChunks};
use driftline_enricher_core::tables::ImageTables;
use driftline_kafka::OffsetRange;
use driftline_schemas::{Image, LayerEvent, decode};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::compacting::compact;
use super::failure::{Failure, guarded};
use super::file::{FILE, Origin, begin, refused, set_aside};
use super::{CHUNKS, HEADS, IMAGES, Kept, META, POSITIONS, Rebuilt, Store, StoreError};
use super::{chunk_of_key, decoded_head, memory};

/// Memory for pages of the file. Chunks are read once per merged image, so more memory would not help.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The tables rebuilt from its records.
    pub tables: ImageTables<KnownChunks>,
    /// Offsets to read, and to follow from then on.
    pub ranges: Vec<OffsetRange>,
    /// Why a new store replaced an old one.
    pub rebuilt: Option<Rebuilt>,
}

/// Opens the store of this directory, or creates one. `extent` is the range of offsets on the topics. Blocks, up to
/// seconds.
///
/// # Errors
/// When the directory cannot be used, or another process uses it. Unusable content is not an error.
pub fn open(directory: &Path, origin: &Origin, trust: Trust, extent: &[OffsetRange]) -> Result<Opened, StoreError> {
    let io = |why| StoreError::Io { path: directory.to_owned(), why };
    fs::create_dir_all(directory).map_err(io)?;
    // A file of random bytes may lead the library into a state that it considers impossible.
    match guarded(|| existing(directory, origin, trust, extent)) {
        Err(StoreError::Unusable { rebuilt, why }) => {
            tracing::warn!(why, reason = rebuilt.label(), "the image store is set aside and filled anew");
            set_aside(directory).map_err(io)?;
            let opened = existing(directory, origin, trust, extent);
            let opened = opened.or_else(|error| without_room(error, directory, origin, trust, extent))?;
            Ok(Opened { rebuilt: Some(rebuilt), ..opened })
        }
        Err(error) => without_room(error, directory, origin, trust, extent),
        opened => opened,
    }
}

/// Opens a store in memory in place of one for which the disk has no room. Any other error is returned.
fn without_room(
    error: StoreError,
    directory: &Path,
    origin: &Origin,
    trust: Trust,
    extent: &[OffsetRange],
) -> Result<Opened, StoreError> {
    if !error.is_no_room() {
        return Err(error);
    }
    Failure::NoRoom.log(directory, &error);
    let store = Store::of(memory::database(directory, origin)?, directory, origin);
    let _ = store.failure.set(Failure::NoRoom);
    let tables = store.tables(trust)?;
    Ok(Opened { store, tables, ranges: extent.to_vec(), rebuilt: None })
}

fn existing(directory: &Path, origin: &Origin, trust: Trust, extent: &[OffsetRange]) -> Result<Opened, StoreError> {
    let path = directory.join(FILE);
    let is_new = !path.exists();
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
    if is_new && database.is_err() {
        let _ = fs::remove_file(&path);
    }
    let mut database = database.map_err(|error| refused(&path, error))?;
    if is_new {
        // A partial file would count as damaged at the next start.
        begin(&database, origin).inspect_err(|_| drop(fs::remove_file(&path)))?;
    } else if !database.check_integrity().map_err(|error| refused(&path, error))? {
        return Err(StoreError::unusable(Rebuilt::Damaged, "it does not pass its own check"));
    }
    // Every read error here means damage: the same call on a good file does not fail.
    let damaged = |error: StoreError| match error {
        StoreError::Database(_) if !error.is_no_room() => StoreError::unusable(Rebuilt::Damaged, error),
        other => other,
    };
    compact(&mut database, &path).map_err(damaged)?;
    let store = Store::of(database, directory, origin);
    store.check_origin(origin).map_err(damaged)?;
    let ranges = store.unread(extent).map_err(damaged)?;
    let tables = store.tables(trust).map_err(damaged)?;
    Ok(Opened { store, tables, ranges, rebuilt: None })
}

impl Store {
    fn check_origin(&self, origin: &Origin) -> Result<(), StoreError> {
        let meta = self.database().begin_read()?.open_table(META)?;
        for (name, expected) in origin.meta() {
            let found = meta.get(name)?.map(|value| value.value().to_owned()).unwrap_or_default();
            if found != expected {
                let rebuilt = if name == "format" { Rebuilt::Format } else { Rebuilt::Origin };
                return Err(StoreError::unusable(rebuilt, format!("its {name} is '{found}', not '{expected}'")));
            }
        }
        Ok(())
    }

    /// The offsets of the topics that are not in the store yet.
    fn unread(&self, extent: &[OffsetRange]) -> Result<Vec<OffsetRange>, StoreError> {
        let positions = self.database().begin_read()?.open_table(POSITIONS)?;
        let mut ranges = extent.to_vec();
        for range in &mut ranges {
            let stem = range.topic.spec().stem;
            let Some(position) = positions.get((stem, range.partition))?.map(|position| position.value()) else {
                continue;
            };
            if !(range.begin..=range.end).contains(&position) {
                let partition = range.partition;
                let why =
                    format!("{stem} {partition} was read up to {position}, it has {} to {}", range.begin, range.end);
                return Err(StoreError::unusable(Rebuilt::Position, why));
            }
            range.begin = position;
        }
        Ok(ranges)
    }

    /// Rebuilds the tables from the records.
    fn tables(&self, trust: Trust) -> Result<ImageTables<KnownChunks>, StoreError> {
        let mut tables = ImageTables::with_chunks(trust, KnownChunks::default());
        // A record that is refused here was refused when it arrived, too.
        for image in self.in_order(IMAGES, |value| decode::<Image>(value).ok())? {
            let _ = tables.image(image);
        }
        for head in self.in_order(HEADS, decoded_head)? {
            let _ = tables.layer(LayerEvent::Head(head));
        }
        let chunks = self.database().begin_read()?.open_table(CHUNKS)?;
        for row in chunks.iter()? {
            let (key, value) = row?;
            let (manifest, index) = chunk_of_key(key.value())
                .ok_or_else(|| StoreError::unusable(Rebuilt::Damaged, "it has a chunk without a number"))?;
            if value.value().3.is_empty() {
                tables.chunks_mut().put_collected(manifest, index);
            } else {
                tables.chunks_mut().put(manifest, index, Vec::new());
            }
        }
        Ok(tables)
    }

    fn in_order<T>(
        &self,
        table: TableDefinition<'_, &'static str, Kept>,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let table = self.database().begin_read()?.open_table(table)?;
        let mut found = BTreeMap::new();
        for row in table.iter()? {
            let row = row?;
            let (partition, offset, _, value) = row.1.value();
            let key = row.0.value();
            let value = read(value)
                .ok_or_else(|| StoreError::unusable(Rebuilt::Damaged, format!("{key} cannot be decoded")))?;
            found.insert((partition, offset), value);
        }
        Ok(found.into_values().collect())
    }
}
