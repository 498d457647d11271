//! What can go wrong with the store, and why one is made anew.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::failure::Failure;

/// Why a store was set aside and a new one is filled from the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// The file does not hold what was written.
    Damaged,
    /// Another version of driftline wrote it.
    Format,
    /// It is of another cluster, or of topics with another prefix.
    Origin,
    /// The topics do not have what is to be read next: they were made anew, or records were deleted.
    Position,
}

impl Rebuilt {
    /// All of them.
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
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// Another process has it open.
    #[error("{0} is open in another process; every instance needs a DRIFTLINE_STORE_DIR of its own")]
    Locked(PathBuf),
    /// Not what was written, or not ours.
    #[error("{why} ({})", .rebuilt.label())]
    Unusable {
        /// As what it is counted.
        rebuilt: Rebuilt,
        /// What is wrong.
        why: String,
    },
    /// What images in use need is more than the store may have.
    #[error("images in use need more than the {0} MB of DRIFTLINE_STORE_MAX_MB")]
    Limit(u64),
    /// The thread that wrote has ended.
    #[error("the thread that wrote to the image store has ended")]
    Stopped(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Reading or writing failed.
    #[error("the image store: {0}")]
    Database(#[from] redb::Error),
}

impl StoreError {
    /// Whether the disk, or a quota on it, has no room for what was to be written.
    pub(super) fn is_no_room(&self) -> bool {
        let why = match self {
            Self::Io { why, .. } | Self::Database(redb::Error::Io(why)) => why,
            _ => return false,
        };
        matches!(why.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    }

    /// As what a store counts that fails with it.
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

/// Whether the library says by this that the file is not one of its own.
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
