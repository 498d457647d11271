//! The bytes of one record from the kernel as a typed value. Every length in them is checked: a record that contradicts
//! itself is counted, never guessed at.
//!
//! The fields, their order in the bytes and the decoder are written from the table in `schemas/generate`: module `record`.
//! What a field needs beyond reading a number is in `decode`.

use crate::layout;

mod decode;
mod packed;
mod record;
mod values;
pub use packed::Packed;
pub use record::{RawAncestor, RawExec, RawFd, RawFile};
pub use values::{Comm, Dev, Moment, RawError, magic};

/// What a file's content is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownFile {
    dev: Dev,
    ino: u64,
    real_ino: u64,
    ctime_ns: i64,
    size_bytes: i64,
}

impl KnownFile {
    /// Its inode number, by which the kernel program finds it.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// As `struct known_file` of `record.h`.
    #[must_use]
    pub fn to_kernel(self) -> [u64; 5] {
        let Self { dev, ino, real_ino, ctime_ns, size_bytes } = self;
        [u64::from(dev.to_kernel()), ino, real_ino, ctime_ns.cast_unsigned(), size_bytes.cast_unsigned()]
    }
}

impl From<&RawFile> for KnownFile {
    fn from(file: &RawFile) -> Self {
        let RawFile { dev, ino, real_ino, ctime_ns, size_bytes, .. } = *file;
        Self { dev, ino, real_ino, ctime_ns, size_bytes }
    }
}

impl RawExec {
    /// Its parent, when it had one.
    #[must_use]
    pub fn parent(&self) -> Option<&RawAncestor> {
        self.ancestors.first()
    }

    /// The environment lost its end, or could not be read.
    #[must_use]
    pub fn has_truncated_environment(&self) -> bool {
        self.flags & (layout::FLAG_ENV_TRUNCATED | layout::FLAG_ENV_UNREADABLE) != 0
    }

    /// Whether the file of this record may have to be hashed before it is gone.
    #[must_use]
    pub fn is_urgent(record: &[u8]) -> bool {
        let flags = decode::u32_at(record, layout::FLAGS) & (layout::FLAG_SUSPICIOUS | layout::FLAG_KNOWN);
        flags == layout::FLAG_SUSPICIOUS
    }

    /// Whether the process of this record is in a cgroup with a container's name.
    #[must_use]
    pub fn is_in_container_cgroup(record: &[u8]) -> bool {
        decode::u16_at(record, layout::CGROUP_BYTES) > 0
    }
}

#[cfg(test)]
pub(crate) mod tests;
