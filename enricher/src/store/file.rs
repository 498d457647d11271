//! The store's file: the content of a new one, the reasons for refusing one, and the place of a damaged one.

use std::fs;
use std::path::{Path, PathBuf};

use driftline_service::clock;
use redb::{Database, DatabaseError, StorageError};

use super::error::is_of_content;
use super::{CHUNKS, FORMAT_VERSION, HEADS, IMAGES, META, POSITIONS, Rebuilt, StoreError};

pub(super) const FILE: &str = "images.redb";
/// Name of a file that is set aside: this prefix, followed by the seconds since 1970.
const ASIDE: &str = "images.redb.aside-";
/// Number of files that are set aside and kept: the last, and the one before it in case the last was only a failed
/// attempt.
const ASIDE_MAX: usize = 2;

/// The cluster and topics that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Id of the Kafka cluster.
    pub cluster: String,
    /// Prefix of the topics' names.
    pub prefix: String,
}

/// Creates the tables of a new file.
pub(super) fn begin(database: &Database, origin: &Origin) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        for (name, value) in origin.meta() {
            meta.insert(name, value)?;
        }
        transaction.open_table(IMAGES)?;
        transaction.open_table(HEADS)?;
        transaction.open_table(CHUNKS)?;
        transaction.open_table(POSITIONS)?;
    }
    Ok(transaction.commit()?)
}

impl Origin {
    pub(super) fn meta(&self) -> [(&'static str, &str); 3] {
        [("format", FORMAT_VERSION), ("cluster", &self.cluster), ("prefix", &self.prefix)]
    }
}

pub(super) fn refused(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::Locked(path.to_owned()),
        DatabaseError::UpgradeRequired(_) => StoreError::unusable(Rebuilt::Format, error),
        DatabaseError::Storage(StorageError::Io(why)) if !is_of_content(why.kind()) => {
            StoreError::Io { path: path.to_owned(), why }
        }
        _ => StoreError::unusable(Rebuilt::Damaged, error),
    }
}

/// Renames the file, so that its damage can be examined and a new file can take its place.
pub(super) fn set_aside(directory: &Path) -> std::io::Result<()> {
    let seconds = clock::now_ns() / 1_000_000_000;
    fs::rename(directory.join(FILE), directory.join(format!("{ASIDE}{seconds}")))?;
    aside(directory)?.iter().rev().skip(ASIDE_MAX).try_for_each(fs::remove_file)
}

/// The files that were set aside, oldest first.
pub(super) fn aside(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            aside.push(entry.path());
        }
    }
    aside.sort();
    Ok(aside)
}
