//! What single fields of a record are, and what can be wrong with a record.

use crate::layout;

/// Magic numbers of file systems, from the kernel's `magic.h`.
pub mod magic {
    /// overlay
    pub const OVERLAY: u64 = 0x794c_7630;
    /// tmpfs
    pub const TMPFS: u64 = 0x0102_1994;
    /// hugetlbfs
    pub const HUGETLBFS: u64 = 0x9584_58f6;
    /// Those whose reading may hang, or ask somebody outside the node: FUSE (virtiofs too), NFS, CIFS, SMB2, 9p, Ceph, AFS (two),
    /// Coda, NCP, GFS2, OCFS2, old SMB.
    pub const REFUSED: [u64; 13] = [
        0x6573_5546,
        0x6969,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
        0x6b41_4653,
        0x7375_7245,
        0x564c,
        0x0116_1970,
        0x7461_636f,
        0x517b,
    ];
}

/// Why a record could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// Shorter than its fixed part.
    #[error("record of {0} bytes is shorter than its fixed part")]
    Short(usize),
    /// Written by another version of the program.
    #[error("record of version {0}, this collector reads version {version}", version = layout::VERSION_NOW)]
    Version(u32),
    /// The variable parts are not as long as the record says.
    #[error("record of {length} bytes should have {expected}")]
    Length {
        /// Bytes in the record.
        length: usize,
        /// Fixed part and the lengths named in it.
        expected: usize,
    },
}

/// A device number, as everybody writes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dev {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Dev {
    /// From the kernel's inner encoding, 12 bits major and 20 bits minor.
    #[must_use]
    pub fn from_kernel(dev: u32) -> Self {
        Self { major: dev >> 20, minor: dev & 0x000f_ffff }
    }

    /// As the kernel writes it.
    #[must_use]
    pub fn to_kernel(self) -> u32 {
        self.major << 20 | (self.minor & 0x000f_ffff)
    }

    /// As `stat` shows it (glibc's `makedev`).
    #[must_use]
    pub fn to_st_dev(self) -> i64 {
        let (major, minor) = (i64::from(self.major), i64::from(self.minor));
        (major & 0xfff) << 8 | (minor & 0xff) | (minor & !0xff) << 12 | (major & !0xfff) << 32
    }
}

/// When an exec happened, unique on a node: boot clock, then processor and sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Nanoseconds of the boot clock.
    pub time_ns: u64,
    /// Processor.
    pub cpu: u32,
    /// Sequence number on that processor.
    pub seq: u64,
}

/// A command name, without memory of its own: each exec has one for each ancestor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Comm(pub(crate) [u8; layout::COMM_SIZE]);

impl Comm {
    /// The name, up to the NUL that ends it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}
