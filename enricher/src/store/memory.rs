//! A store in memory, in place of one that cannot be written: equally consistent, but lost when the process ends.
//!
//! Memory is scarcer than the disk. So the store holds the publishers and their manifests, and of chunks only their
//! offsets on the topic, as for collected ones; the chunks that an image in use needs are read again.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;

use redb::Database;
use redb::backends::InMemoryBackend;

use super::failure::{Failure, guarded};
use super::file::{FILE, Origin, begin, refused, set_aside};
use super::{Store, StoreError};

/// Memory for pages in addition to those of the backend, which are in memory already.
const CACHE_BYTES: usize = 1024 * 1024;

/// An empty database in memory.
pub(super) fn database(directory: &Path, origin: &Origin) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(InMemoryBackend::new());
    let database = database.map_err(|error| refused(directory, error))?;
    begin(&database, origin)?;
    Ok(database)
}

impl Store {
    /// Why the store is in memory; `None` for a store on disk.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get().copied()
    }

    /// Continues in memory, empty: all records must be read from the topics again. The file is removed, or set aside if
    /// it is damaged, so that the next start fills a new one. Blocks.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn leave_disk(&self, error: &StoreError) -> Result<Failure, StoreError> {
        let failure = error.failure();
        let empty = database(&self.directory, &self.origin)?;
        // Readers and a compaction hold the lock until they finish.
        let old = std::mem::replace(&mut *self.database.write().unwrap_or_else(PoisonError::into_inner), empty);
        let failure = *self.failure.get_or_init(|| failure);
        failure.log(&self.directory, error);
        // The library writes when it closes a file, and this write fails.
        let closed = guarded(|| {
            drop(old);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "closing the image store's file");
        }
        let removed = match failure {
            Failure::Damaged => set_aside(&self.directory),
            Failure::NoRoom | Failure::Limit | Failure::Unwritable => fs::remove_file(self.directory.join(FILE)),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %self.directory.display(), %error, "the image store's file stays where it is");
        }
        Ok(failure)
    }

    /// Records that a reader found the file unreadable, and notifies the task that fills the store.
    pub(super) fn suspect(&self, error: StoreError) {
        if self.failure().is_none() {
            self.suspicion.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.suspected.notify_one();
        }
    }

    /// Whether the store is in memory, or about to be.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failure().is_some() || self.suspicion.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Resolves when a reader has found the file unreadable. Safe to drop and call again.
    pub(super) async fn suspected(&self) -> StoreError {
        loop {
            self.suspected.notified().await;
            if let Some(error) = self.suspicion.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return error;
            }
        }
    }
}
