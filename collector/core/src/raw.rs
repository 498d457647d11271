//! The bytes of one record from the kernel as a typed value. Every length in them is checked: a record that contradicts
//! itself is counted, never guessed at.

use serde_bytes::ByteBuf;
use std::net::SocketAddr;

use crate::layout;

mod decode;
mod packed;
pub use decode::split_args;
pub use packed::Packed;

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

/// What the kernel knows of the executed file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawFile {
    /// Superblock.
    pub dev: Dev,
    /// Inode number.
    pub ino: u64,
    /// Inode number of the upper file on an overlay, else `ino`.
    pub real_ino: u64,
    /// Size.
    pub size_bytes: i64,
    /// Mode with type bits.
    pub mode: u16,
    /// Links.
    pub nlink: u32,
    /// Modification time since 1970.
    pub mtime_ns: i64,
    /// Change time since 1970.
    pub ctime_ns: i64,
    /// File system.
    pub fs_magic: u64,
    /// Overlay: lower parts.
    pub lower_count: u32,
    /// Overlay: inode number of the topmost lower file; 0 when there is none.
    pub lower_ino: u64,
    /// Mount it was reached by.
    pub mnt_id: u32,
}

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

/// An open file of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawFd {
    /// Mode with type bits; 0 when it is not open, or is none of a file system.
    pub mode: u16,
    /// Inode number; 0 when it is not open.
    pub ino: u64,
    /// Device, of a device file.
    pub rdev: Dev,
    /// Peer of a socket that is connected over IP.
    pub peer: Option<SocketAddr>,
}

/// A command name, without memory of its own: each exec has one for each ancestor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Comm([u8; layout::COMM_SIZE]);

impl Comm {
    /// The name, up to the NUL that ends it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// An ancestor of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAncestor {
    /// Process id on the host.
    pub pid: u32,
    /// Process start, boot clock.
    pub start_ns: u64,
    /// Command name.
    pub comm: Comm,
    /// Superblock of its executable.
    pub dev: Dev,
    /// Inode number of its executable; 0 when it has none.
    pub ino: u64,
}

/// One exec as the kernel wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawExec {
    /// When and where.
    pub moment: Moment,
    /// Names of the cgroups that look like containers, innermost first, with slashes between.
    pub cgroup: Vec<u8>,
    /// Bits of `record.h`; read through the methods.
    pub flags: u32,
    /// Process start, boot clock.
    pub start_ns: u64,
    /// `self_exec_id`.
    pub exec_count: u64,
    /// Process id on the host.
    pub pid: u32,
    /// Process id in its own pid namespace.
    pub ns_pid: u32,
    /// Pid namespace.
    pub pid_ns: u32,
    /// Its parent first, at most [`layout::ANCESTOR_COUNT_MAX`].
    pub ancestors: Vec<RawAncestor>,
    /// Leader of its session, on the host.
    pub session_id: u32,
    /// Real user on the host.
    pub uid: u32,
    /// Real group on the host.
    pub gid: u32,
    /// Effective user on the host.
    pub euid: u32,
    /// Effective group on the host.
    pub egid: u32,
    /// Real user in its user namespace; `u32::MAX` when that has none such.
    pub ns_uid: u32,
    /// Real group there.
    pub ns_gid: u32,
    /// Effective user there.
    pub ns_euid: u32,
    /// Effective group there.
    pub ns_egid: u32,
    /// Effective capabilities, a bit each.
    pub capabilities: u64,
    /// Permitted capabilities when the exec itself gave some: set-user-id, set-group-id, file capabilities; else 0.
    pub capabilities_gained: u64,
    /// Standard input, output and error.
    pub fds: [RawFd; layout::FD_COUNT],
    /// The executed file; for a script the interpreter.
    pub file: RawFile,
    /// Superblock of the process's root directory.
    pub root_dev: Dev,
    /// File system of the process's root directory.
    pub root_fs_magic: u64,
    /// Mount of the process's root directory.
    pub root_mnt_id: u32,
    /// Mount namespace.
    pub mnt_ns: u32,
    /// Mount namespace of the nearest ancestor that is in another one; 0 when there is none, or when the process is in
    /// neither the host's pid nor its mount namespace.
    pub outer_mnt_ns: u32,
    /// Path of the file in its mount namespace; without a leading slash when the walk did not reach the root.
    pub path: Vec<u8>,
    /// What the caller passed.
    pub typed_path: Vec<u8>,
    /// Arguments.
    pub args: Vec<ByteBuf>,
    /// Working directory; empty when it was not read.
    pub cwd: Vec<u8>,
    /// Controlling terminal; empty when there is none.
    pub tty: Vec<u8>,
    /// Names of environment variables that are of interest; see [`crate::environment`].
    pub environment: Vec<String>,
}

macro_rules! flags {
    ($($(#[$doc:meta])* $method:ident = $($flag:ident)|+;)*) => {
        impl RawExec {
            $($(#[$doc])* #[must_use] pub fn $method(&self) -> bool { self.flags & ($(layout::$flag)|+) != 0 })*
        }
    };
}

flags! {
    /// A script or binfmt program was executed; the file is its interpreter.
    is_script = FLAG_SCRIPT;
    /// The file is on an overlay.
    is_overlay = FLAG_OVERLAY;
    /// Its overlay inode has an upper part.
    has_upper = FLAG_UPPER;
    /// The root directory is on an overlay.
    has_overlay_root = FLAG_ROOT_OVERLAY;
    /// The root directory is not the root of its mount.
    is_chrooted = FLAG_CHROOTED;
    /// Descends from a process that was put into the pid namespace.
    is_from_outside = FLAG_OUTSIDE;
    /// The parent is in another pid namespace.
    has_parent_outside = FLAG_PARENT_OUTSIDE;
    /// The path is whole.
    has_whole_path = FLAG_PATH_COMPLETE;
    /// The path lost its beginning.
    has_truncated_path = FLAG_PATH_TRUNCATED;
    /// The file is in no directory.
    is_anonymous = FLAG_PATH_ANONYMOUS;
    /// The arguments lost their end.
    has_truncated_args = FLAG_ARGS_TRUNCATED;
    /// The arguments could not be read.
    has_unreadable_args = FLAG_ARGS_UNREADABLE;
    /// It came by the ring that wakes the reader, unless it is known.
    is_suspicious = FLAG_SUSPICIOUS;
    /// Its pid namespace is the host's.
    is_in_host_pid_ns = FLAG_HOST_PID;
    /// The upper part of its overlay inode has the data too.
    has_upper_data = FLAG_UPPER_DATA;
    /// The environment lost its end, or could not be read.
    has_truncated_environment = FLAG_ENV_TRUNCATED | FLAG_ENV_UNREADABLE;
    /// It ran before the kernel program was attached.
    is_snapshot = FLAG_SNAPSHOT;
    /// Its content was known; see [`KnownFile`].
    is_known = FLAG_KNOWN;
}

impl RawExec {
    /// Its parent, when it had one.
    #[must_use]
    pub fn parent(&self) -> Option<&RawAncestor> {
        self.ancestors.first()
    }
}

#[cfg(test)]
pub(crate) mod tests;
