//! The record of the kernel program, decoded.
//!
//! Written by `make generate` from the tables in `schemas/generate`; edit those.

use driftline_schemas::{Args, HeapBytes};
use std::net::SocketAddr;

use super::decode::{self, array_at, i64_at, ns_at, u16_at, u32_at, u64_at};
use super::values::{Comm, Dev, Moment, RawError};
use crate::layout;

/// One exec as the kernel wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawExec {
    /// When it happened, and on which processor.
    pub moment: Moment,
    /// Bits of `enum record_flag`; read through the methods.
    pub flags: u32,
    /// Names of the cgroups that look like containers, innermost first, with slashes between.
    pub cgroup: Vec<u8>,
    /// Process id (thread group id) in the host's pid namespace.
    pub pid: u32,
    /// Process id in the process's own pid namespace.
    pub ns_pid: u32,
    /// Process start, nanoseconds since boot.
    pub start_ns: u64,
    /// The kernel's self_exec_id of the process: how many times it has called exec.
    pub exec_count: u64,
    /// Absolute path of the executable inside the container, raw bytes, at most 4096; for a memfd its name.
    pub path: Vec<u8>,
    /// Of an overlay's file: how many bytes of its path, counted from the end, lie below the mount by which it was
    /// reached.
    pub below_mount_bytes: u32,
    /// Of an overlay's file: the directory of the overlay that is the root of that mount; empty for the overlay's own
    /// root.
    pub mount_root: Vec<u8>,
    /// What the caller passed to execve, raw bytes; for a script the script.
    pub typed_path: Vec<u8>,
    /// Argument vector, raw bytes, argv\[0] first.
    pub args: Args,
    /// Working directory inside the container, raw bytes; empty when it was not captured.
    pub cwd: Vec<u8>,
    /// Real user id on the host.
    pub uid: u32,
    /// Real group id on the host.
    pub gid: u32,
    /// Effective user id on the host after the exec.
    pub euid: u32,
    /// Effective group id on the host after the exec.
    pub egid: u32,
    /// Name of the controlling terminal, for example pts0.
    pub tty: Vec<u8>,
    /// Facts of the subject: the script, or what a loader was told to run, where there is one; else the executable.
    pub file: RawFile,
    /// Superblock of the process's root directory.
    pub root_dev: Dev,
    /// File system of the process's root directory.
    pub root_fs_magic: u64,
    /// Mount of the process's root directory.
    pub root_mnt_id: u32,
    /// Leader of the process's session, in the host's pid namespace; 0 when it is not known.
    pub session_id: u32,
    /// Inode number of the process's mount namespace.
    pub mnt_ns: u32,
    /// Number of the process's mount namespace that no other one has, before or after; 0 when the kernel has none.
    pub mnt_ns_id: u64,
    /// Mount namespace of the nearest ancestor that is in another one; 0 when there is none, or when the process is in
    /// neither the host's pid nor its mount namespace.
    pub outer_mnt_ns: u32,
    /// Inode number of the process's pid namespace.
    pub pid_ns: u32,
    /// Real user id in the process's own user namespace; null when that has none such.
    pub ns_uid: u32,
    /// Real group id in the process's own user namespace; null when that has none such.
    pub ns_gid: u32,
    /// Effective user id in the process's own user namespace; null when that has none such.
    pub ns_euid: u32,
    /// Effective group id in the process's own user namespace; null when that has none such.
    pub ns_egid: u32,
    /// Effective capabilities after the exec, bit n is capability n of linux/capability.h.
    pub capabilities: u64,
    /// Permitted capabilities when the exec itself gave rights (set-user-id, set-group-id, file capabilities: what the
    /// kernel tells the program as AT_SECURE), else 0.
    pub capabilities_gained: u64,
    /// Standard input, output and error, in this order; empty when they were not captured.
    pub fds: [RawFd; layout::FD_COUNT],
    /// Names, never values, of environment variables of interest: GCONV_PATH, LD_AUDIT, LD_PRELOAD, and *_proxy in
    /// either case.
    pub environment: Vec<String>,
    /// Its parent, the parent's parent and so on, at most five.
    pub ancestors: Vec<RawAncestor>,
}

/// What the kernel knows of the executed file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawFile {
    /// Device number of the file's superblock.
    pub dev: Dev,
    /// Inode number.
    pub ino: u64,
    /// Overlay: inode number of the upper file; else equal to ino.
    pub real_ino: u64,
    /// File size.
    pub size_bytes: i64,
    /// File mode with type bits.
    pub mode: u16,
    /// Number of links; 0 means the file was already unlinked.
    pub nlink: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Magic number of the file system, for example 0x794c7630 for overlay.
    pub fs_magic: u64,
    /// Overlay only: number of lower (image) parts.
    pub lower_count: u32,
    /// Overlay only: inode number of the topmost lower file; 0 when there is none.
    pub lower_ino: u64,
    /// Mount by which the file was reached, as in mountinfo; 0 when it is not known.
    pub mnt_id: u32,
}

/// An open file of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawFd {
    /// Inode number; the two ends of a pipe have the same; 0 when closed.
    pub ino: u64,
    /// Mode with type bits; 0 when it is not open, or is none of a file system.
    pub mode: u16,
    /// Device, of a device file.
    pub rdev: Dev,
    /// Address:port or \[address]:port of the peer of a connected IP socket.
    pub peer: Option<SocketAddr>,
}

/// An ancestor of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAncestor {
    /// Process id in the host's pid namespace.
    pub pid: u32,
    /// Process start, nanoseconds since boot; with the process id it names the process.
    pub start_ns: u64,
    /// Command name as the kernel keeps it, at most 15 bytes.
    pub comm: Comm,
    /// Device number of its executable's superblock.
    pub dev: Dev,
    /// Inode number of its executable; 0 when it has none any more.
    pub ino: u64,
}

impl RawExec {
    /// Reads one record. In a box, because it has some 600 bytes and is sorted, kept and handed on.
    ///
    /// # Errors
    /// When the bytes are not one whole record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Box<Self>, RawError> {
        let parts = Parts::of(bytes)?;
        let head = parts.head;
        Ok(Box::new(Self {
            moment: decode::moment(head),
            flags: u32_at(head, layout::FLAGS),
            cgroup: parts.cgroup.to_vec(),
            pid: u32_at(head, layout::PID),
            ns_pid: u32_at(head, layout::NS_PID),
            start_ns: u64_at(head, layout::START_NS),
            exec_count: u64_at(head, layout::EXEC_COUNT),
            path: decode::path(head, parts.path),
            below_mount_bytes: u32_at(head, layout::BELOW_MOUNT_BYTES),
            mount_root: decode::mount_root(head, parts.mount_root),
            typed_path: parts.typed_path.to_vec(),
            args: decode::args(head, parts.args),
            cwd: decode::cwd(head, parts.cwd),
            uid: u32_at(head, layout::UID),
            gid: u32_at(head, layout::GID),
            euid: u32_at(head, layout::EUID),
            egid: u32_at(head, layout::EGID),
            tty: parts.tty.to_vec(),
            file: RawFile::decode(head),
            root_dev: Dev::from_kernel(u32_at(head, layout::ROOT_DEV)),
            root_fs_magic: u64_at(head, layout::ROOT_FS_MAGIC),
            root_mnt_id: u32_at(head, layout::ROOT_MNT_ID),
            session_id: u32_at(head, layout::SESSION_ID),
            mnt_ns: u32_at(head, layout::MNT_NS),
            mnt_ns_id: u64_at(head, layout::MNT_NS_ID),
            outer_mnt_ns: u32_at(head, layout::OUTER_MNT_NS),
            pid_ns: u32_at(head, layout::PID_NS),
            ns_uid: u32_at(head, layout::NS_UID),
            ns_gid: u32_at(head, layout::NS_GID),
            ns_euid: u32_at(head, layout::NS_EUID),
            ns_egid: u32_at(head, layout::NS_EGID),
            capabilities: u64_at(head, layout::CAPABILITIES),
            capabilities_gained: u64_at(head, layout::CAPABILITIES_GAINED),
            fds: decode::fds(head, RawFd::decode),
            environment: decode::environment(head, parts.environment),
            ancestors: decode::ancestors(head, RawAncestor::decode),
        }))
    }
}

impl HeapBytes for RawExec {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.cgroup.heap_bytes();
        bytes += self.path.heap_bytes();
        bytes += self.mount_root.heap_bytes();
        bytes += self.typed_path.heap_bytes();
        bytes += self.args.heap_bytes();
        bytes += self.cwd.heap_bytes();
        bytes += self.tty.heap_bytes();
        bytes += self.environment.heap_bytes();
        bytes += size_of_val(self.ancestors.as_slice());
        bytes
    }
}

impl RawFile {
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            dev: Dev::from_kernel(u32_at(bytes, layout::DEV)),
            ino: u64_at(bytes, layout::INO),
            real_ino: u64_at(bytes, layout::REAL_INO),
            size_bytes: i64_at(bytes, layout::SIZE_BYTES),
            mode: u16_at(bytes, layout::MODE),
            nlink: u32_at(bytes, layout::NLINK),
            mtime_ns: ns_at(bytes, layout::MTIME_SEC, layout::MTIME_NSEC),
            ctime_ns: ns_at(bytes, layout::CTIME_SEC, layout::CTIME_NSEC),
            fs_magic: u64_at(bytes, layout::FS_MAGIC),
            lower_count: u32_at(bytes, layout::LOWER_COUNT),
            lower_ino: u64_at(bytes, layout::LOWER_INO),
            mnt_id: u32_at(bytes, layout::MNT_ID),
        }
    }
}

impl RawFd {
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            ino: u64_at(bytes, layout::FD_INO),
            mode: u16_at(bytes, layout::FD_MODE),
            rdev: Dev::from_kernel(u32_at(bytes, layout::FD_RDEV)),
            peer: decode::peer(bytes),
        }
    }
}

impl RawAncestor {
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            pid: u32_at(bytes, layout::ANCESTOR_PID),
            start_ns: u64_at(bytes, layout::ANCESTOR_START_NS),
            comm: Comm(array_at(bytes, layout::ANCESTOR_COMM)),
            dev: Dev::from_kernel(u32_at(bytes, layout::ANCESTOR_DEV)),
            ino: u64_at(bytes, layout::ANCESTOR_INO),
        }
    }
}

/// A whole record, in its parts.
pub(super) struct Parts<'a> {
    pub(super) head: &'a [u8],
    pub(super) cgroup: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) typed_path: &'a [u8],
    pub(super) cwd: &'a [u8],
    pub(super) tty: &'a [u8],
    pub(super) args: &'a [u8],
    pub(super) environment: &'a [u8],
    pub(super) mount_root: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, RawError> {
        let mut rest = decode::Rest::of(bytes)?;
        let parts = Self {
            head: rest.head,
            cgroup: rest.next(layout::CGROUP_BYTES),
            path: rest.next(layout::PATH_BYTES),
            typed_path: rest.next(layout::TYPED_PATH_BYTES),
            cwd: rest.next(layout::CWD_BYTES),
            tty: rest.next(layout::TTY_BYTES),
            args: rest.next(layout::ARGS_BYTES),
            environment: rest.next(layout::ENVIRONMENT_BYTES),
            mount_root: rest.next(layout::MOUNT_ROOT_BYTES),
        };
        rest.end(bytes.len())?;
        Ok(parts)
    }
}

impl RawExec {
    /// A script or binfmt program was executed; the file is its interpreter.
    #[must_use]
    pub fn is_script(&self) -> bool {
        self.flags & layout::FLAG_SCRIPT != 0
    }

    /// The file is on an overlay.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        self.flags & layout::FLAG_OVERLAY != 0
    }

    /// Its overlay inode has an upper part.
    #[must_use]
    pub fn has_upper(&self) -> bool {
        self.flags & layout::FLAG_UPPER != 0
    }

    /// The process's root directory is on an overlay.
    #[must_use]
    pub fn has_overlay_root(&self) -> bool {
        self.flags & layout::FLAG_ROOT_OVERLAY != 0
    }

    /// Its root directory is not the root of its mount.
    #[must_use]
    pub fn is_chrooted(&self) -> bool {
        self.flags & layout::FLAG_CHROOTED != 0
    }

    /// Its topmost ancestor in its pid namespace is not pid 1 there.
    #[must_use]
    pub fn is_from_outside(&self) -> bool {
        self.flags & layout::FLAG_OUTSIDE != 0
    }

    /// The parent is in another pid namespace.
    #[must_use]
    pub fn has_parent_outside(&self) -> bool {
        self.flags & layout::FLAG_PARENT_OUTSIDE != 0
    }

    /// The walk reached the root of the mount namespace.
    #[must_use]
    pub fn has_whole_path(&self) -> bool {
        self.flags & layout::FLAG_PATH_COMPLETE != 0
    }

    /// The walk stopped at a limit: the path lost its beginning.
    #[must_use]
    pub fn has_truncated_path(&self) -> bool {
        self.flags & layout::FLAG_PATH_TRUNCATED != 0
    }

    /// The file has no directory: memfd.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.flags & layout::FLAG_PATH_ANONYMOUS != 0
    }

    /// The arguments lost their end.
    #[must_use]
    pub fn has_truncated_args(&self) -> bool {
        self.flags & layout::FLAG_ARGS_TRUNCATED != 0
    }

    /// The arguments could not be read.
    #[must_use]
    pub fn has_unreadable_args(&self) -> bool {
        self.flags & layout::FLAG_ARGS_UNREADABLE != 0
    }

    /// It went to the ring that wakes the reader, unless it is known.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.flags & layout::FLAG_SUSPICIOUS != 0
    }

    /// Its pid namespace is the host's.
    #[must_use]
    pub fn is_in_host_pid_ns(&self) -> bool {
        self.flags & layout::FLAG_HOST_PID != 0
    }

    /// The upper part has the data, not only attributes (metacopy).
    #[must_use]
    pub fn has_upper_data(&self) -> bool {
        self.flags & layout::FLAG_UPPER_DATA != 0
    }

    /// It ran already when the program was attached; its time is the start of the process.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.flags & layout::FLAG_SNAPSHOT != 0
    }

    /// Its content is known: the reader was not woken.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.flags & layout::FLAG_KNOWN != 0
    }

    /// Its pid namespace lies in another one than the host's.
    #[must_use]
    pub fn is_in_nested_pid_ns(&self) -> bool {
        self.flags & layout::FLAG_NESTED_PID != 0
    }

    /// Up to a limit no cgroup above its process is a container's; there are more.
    #[must_use]
    pub fn has_truncated_cgroups(&self) -> bool {
        self.flags & layout::FLAG_CGROUPS_TRUNCATED != 0
    }
}
