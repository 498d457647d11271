//! Errors of the store, and the reasons for rebuilding it.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::failure::Failure;

/// Why a store was set aside and a new one is filled from the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// The file's content differs from what was written.
    Damaged,
    /// Another version of driftline wrote it.
    Format,
    /// The file belongs to another cluster, or to topics with another prefix.
    Origin,
    /// The topics lack the next records to read: they were recreated, or records were deleted.
    Position,
}

impl Rebuilt {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Damaged, Self::Format, Self::Origin, Self::Position];

    /// Value of the metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Format => "format",
            Self::Origin => "origin",
            Self::Position => "position",
        }
    }
}

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file cannot be read or written.
    #[error("{path}: {why}; DRIFTLINE_STORE_DIR has to name a directory that the enricher may write")]
    Io {
        /// Path of the directory or file.
        path: PathBuf,
        /// Error of the system.
        why: std::io::Error,
    },
    /// Another process has it open.
    #[error("{0} is open in another process; every instance needs a DRIFTLINE_STORE_DIR of its own")]
    Locked(PathBuf),
    /// The file's content is damaged or foreign.
    #[error("{why} ({})", .rebuilt.label())]
    Unusable {
        /// The reason under which it is counted.
        rebuilt: Rebuilt,
        /// Description of what is wrong.
        why: String,
    },
    /// The bytes that images in use need exceed the store's bound.
    #[error("images in use need more than the {0} MB of DRIFTLINE_STORE_MAX_MB")]
    Limit(u64),
    /// The writing thread has ended.
    #[error("the thread that wrote to the image store has ended")]
    Stopped(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Reading or writing failed.
    #[error("the image store: {0}")]
    Database(#[from] redb::Error),
}

impl StoreError {
    /// Whether the disk, or a quota on it, has no room for a write.
    pub(super) fn is_no_room(&self) -> bool {
        let why = match self {
            Self::Io { why, .. } | Self::Database(redb::Error::Io(why)) => why,
            _ => return false,
        };
        matches!(why.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    }

    /// The failure under which a store is counted that ends with this error.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            error if error.is_no_room() => Failure::NoRoom,
            Self::Limit(_) => Failure::Limit,
            Self::Unusable { .. } | Self::Database(redb::Error::Corrupted(_)) => Failure::Damaged,
            Self::Database(redb::Error::Io(why)) if is_of_content(why.kind()) => Failure::Damaged,
            _ => Failure::Unwritable,
        }
    }

    pub(super) fn unusable(rebuilt: Rebuilt, why: impl ToString) -> Self {
        Self::Unusable { rebuilt, why: why.to_string() }
    }
}

/// Whether an error kind of the library means that the file is not one of its own.
pub(super) fn is_of_content(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof)
}

macro_rules! from_part {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}

from_part!(TransactionError, TableError, StorageError, CommitError);
