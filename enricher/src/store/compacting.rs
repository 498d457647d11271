//! Releases, at the start, the free space that collecting has left in the file, which never shrinks by itself.

use std::fs;
use std::path::Path;

use driftline_service::clock;
use redb::{CompactionError, Database};

use super::StoreError;

/// A shorter file is not compacted.
const FILE_BYTES_MIN: u64 = 8 << 20;

/// Most times that a file may be as long as its content. The free half is space that later images use again.
const LENGTH_MAX: u64 = 2;

/// Moves the file's content to its beginning and truncates the rest, when the rest is most of the file. Takes as long
/// as writing the content: a second for some 100 MB. A kill during the move leaves a file that is longer than
/// necessary.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn compact(database: &mut Database, path: &Path) -> Result<(), StoreError> {
    let length = || fs::metadata(path).map(|file| file.len()).map_err(|why| StoreError::Io { path: path.into(), why });
    let before = length()?;
    if before < FILE_BYTES_MIN || used_bytes(database)?.saturating_mul(LENGTH_MAX) > before {
        return Ok(());
    }
    let began = clock::monotonic();
    database.compact().map_err(|error| match error {
        CompactionError::Storage(error) => StoreError::from(error),
        other => StoreError::Database(other.into()),
    })?;
    tracing::info!(before, after = length()?, took = ?began.elapsed(), "the image store is shorter");
    Ok(())
}

/// Bytes of the pages in use.
fn used_bytes(database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_write()?;
    let stats = transaction.stats()?;
    transaction.abort()?;
    let page_bytes = u64::try_from(stats.page_size()).unwrap_or(u64::MAX);
    Ok(stats.allocated_pages().saturating_mul(page_bytes))
}
