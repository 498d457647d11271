//! Where each field of a raw record stands.
//!
//! Written by `make generate` from the tables in `schemas/generate`; edit those.

/// Version of the layout that this code reads.
pub const VERSION_NOW: u32 = 6;
/// Length of a command name with its NUL.
pub const COMM_SIZE: usize = 16;
/// Most there are: standard input, output and error.
pub const FD_COUNT: usize = 3;
/// Most there are: program, shell, entry point, runtime's shim, init: enough to see who let it in.
pub const ANCESTOR_COUNT_MAX: usize = 5;

/// Length of `struct fd_record`.
pub const FD_SIZE: usize = 40;
/// Offset of `ino` in `struct fd_record`.
pub const FD_INO: usize = 0;
/// Offset of `address` in `struct fd_record`.
pub const FD_ADDRESS: usize = 8;
/// Offset of `rdev` in `struct fd_record`.
pub const FD_RDEV: usize = 24;
/// Offset of `mode` in `struct fd_record`.
pub const FD_MODE: usize = 28;
/// Offset of `family` in `struct fd_record`.
pub const FD_FAMILY: usize = 30;
/// Offset of `port` in `struct fd_record`.
pub const FD_PORT: usize = 32;

/// Length of `struct ancestor_record`.
pub const ANCESTOR_SIZE: usize = 40;
/// Offset of `start_ns` in `struct ancestor_record`.
pub const ANCESTOR_START_NS: usize = 0;
/// Offset of `comm` in `struct ancestor_record`.
pub const ANCESTOR_COMM: usize = 8;
/// Offset of `ino` in `struct ancestor_record`.
pub const ANCESTOR_INO: usize = 24;
/// Offset of `pid` in `struct ancestor_record`.
pub const ANCESTOR_PID: usize = 32;
/// Offset of `dev` in `struct ancestor_record`.
pub const ANCESTOR_DEV: usize = 36;

/// Length of `struct exec_record`.
pub const EXEC_SIZE: usize = 568;
/// Offset of `time_ns` in `struct exec_record`.
pub const TIME_NS: usize = 0;
/// Offset of `start_ns` in `struct exec_record`.
pub const START_NS: usize = 8;
/// Offset of `exec_count` in `struct exec_record`.
pub const EXEC_COUNT: usize = 16;
/// Offset of `ino` in `struct exec_record`.
pub const INO: usize = 24;
/// Offset of `real_ino` in `struct exec_record`.
pub const REAL_INO: usize = 32;
/// Offset of `size_bytes` in `struct exec_record`.
pub const SIZE_BYTES: usize = 40;
/// Offset of `mtime_sec` in `struct exec_record`.
pub const MTIME_SEC: usize = 48;
/// Offset of `ctime_sec` in `struct exec_record`.
pub const CTIME_SEC: usize = 56;
/// Offset of `fs_magic` in `struct exec_record`.
pub const FS_MAGIC: usize = 64;
/// Offset of `lower_ino` in `struct exec_record`.
pub const LOWER_INO: usize = 72;
/// Offset of `root_fs_magic` in `struct exec_record`.
pub const ROOT_FS_MAGIC: usize = 80;
/// Offset of `seq` in `struct exec_record`.
pub const SEQ: usize = 88;
/// Offset of `mnt_ns_id` in `struct exec_record`.
pub const MNT_NS_ID: usize = 96;
/// Offset of `capabilities` in `struct exec_record`.
pub const CAPABILITIES: usize = 104;
/// Offset of `capabilities_gained` in `struct exec_record`.
pub const CAPABILITIES_GAINED: usize = 112;
/// Offset of `version` in `struct exec_record`.
pub const VERSION: usize = 120;
/// Offset of `flags` in `struct exec_record`.
pub const FLAGS: usize = 124;
/// Offset of `pid` in `struct exec_record`.
pub const PID: usize = 128;
/// Offset of `ns_pid` in `struct exec_record`.
pub const NS_PID: usize = 132;
/// Offset of `below_mount_bytes` in `struct exec_record`.
pub const BELOW_MOUNT_BYTES: usize = 136;
/// Offset of `uid` in `struct exec_record`.
pub const UID: usize = 140;
/// Offset of `gid` in `struct exec_record`.
pub const GID: usize = 144;
/// Offset of `euid` in `struct exec_record`.
pub const EUID: usize = 148;
/// Offset of `egid` in `struct exec_record`.
pub const EGID: usize = 152;
/// Offset of `dev` in `struct exec_record`.
pub const DEV: usize = 156;
/// Offset of `nlink` in `struct exec_record`.
pub const NLINK: usize = 160;
/// Offset of `mtime_nsec` in `struct exec_record`.
pub const MTIME_NSEC: usize = 164;
/// Offset of `ctime_nsec` in `struct exec_record`.
pub const CTIME_NSEC: usize = 168;
/// Offset of `lower_count` in `struct exec_record`.
pub const LOWER_COUNT: usize = 172;
/// Offset of `mnt_id` in `struct exec_record`.
pub const MNT_ID: usize = 176;
/// Offset of `root_dev` in `struct exec_record`.
pub const ROOT_DEV: usize = 180;
/// Offset of `root_mnt_id` in `struct exec_record`.
pub const ROOT_MNT_ID: usize = 184;
/// Offset of `cpu` in `struct exec_record`.
pub const CPU: usize = 188;
/// Offset of `session_id` in `struct exec_record`.
pub const SESSION_ID: usize = 192;
/// Offset of `mnt_ns` in `struct exec_record`.
pub const MNT_NS: usize = 196;
/// Offset of `outer_mnt_ns` in `struct exec_record`.
pub const OUTER_MNT_NS: usize = 200;
/// Offset of `pid_ns` in `struct exec_record`.
pub const PID_NS: usize = 204;
/// Offset of `ns_uid` in `struct exec_record`.
pub const NS_UID: usize = 208;
/// Offset of `ns_gid` in `struct exec_record`.
pub const NS_GID: usize = 212;
/// Offset of `ns_euid` in `struct exec_record`.
pub const NS_EUID: usize = 216;
/// Offset of `ns_egid` in `struct exec_record`.
pub const NS_EGID: usize = 220;
/// Offset of `ancestor_count` in `struct exec_record`.
pub const ANCESTOR_COUNT: usize = 224;
/// Offset of `mode` in `struct exec_record`.
pub const MODE: usize = 228;
/// Offset of `cgroup_bytes` in `struct exec_record`.
pub const CGROUP_BYTES: usize = 230;
/// Offset of `path_bytes` in `struct exec_record`.
pub const PATH_BYTES: usize = 232;
/// Offset of `typed_path_bytes` in `struct exec_record`.
pub const TYPED_PATH_BYTES: usize = 234;
/// Offset of `cwd_bytes` in `struct exec_record`.
pub const CWD_BYTES: usize = 236;
/// Offset of `tty_bytes` in `struct exec_record`.
pub const TTY_BYTES: usize = 238;
/// Offset of `args_bytes` in `struct exec_record`.
pub const ARGS_BYTES: usize = 240;
/// Offset of `environment_bytes` in `struct exec_record`.
pub const ENVIRONMENT_BYTES: usize = 242;
/// Offset of `mount_root_bytes` in `struct exec_record`.
pub const MOUNT_ROOT_BYTES: usize = 244;
/// Offset of `fds` in `struct exec_record`.
pub const FDS: usize = 248;
/// Offset of `ancestors` in `struct exec_record`.
pub const ANCESTORS: usize = 368;

/// A script or binfmt program was executed; the file is its interpreter.
pub const FLAG_SCRIPT: u32 = 1 << 0;
/// The file is on an overlay.
pub const FLAG_OVERLAY: u32 = 1 << 1;
/// Its overlay inode has an upper part.
pub const FLAG_UPPER: u32 = 1 << 2;
/// The process's root directory is on an overlay.
pub const FLAG_ROOT_OVERLAY: u32 = 1 << 3;
/// Its root directory is not the root of its mount.
pub const FLAG_CHROOTED: u32 = 1 << 4;
/// Its topmost ancestor in its pid namespace is not pid 1 there.
pub const FLAG_OUTSIDE: u32 = 1 << 5;
/// The parent is in another pid namespace.
pub const FLAG_PARENT_OUTSIDE: u32 = 1 << 6;
/// The walk reached the root of the mount namespace.
pub const FLAG_PATH_COMPLETE: u32 = 1 << 7;
/// The walk stopped at a limit: the path lost its beginning.
pub const FLAG_PATH_TRUNCATED: u32 = 1 << 8;
/// The file has no directory: memfd.
pub const FLAG_PATH_ANONYMOUS: u32 = 1 << 9;
/// The arguments lost their end.
pub const FLAG_ARGS_TRUNCATED: u32 = 1 << 10;
/// The arguments could not be read.
pub const FLAG_ARGS_UNREADABLE: u32 = 1 << 11;
/// The walk from the working directory reached the root.
pub const FLAG_CWD_COMPLETE: u32 = 1 << 12;
/// It went to the ring that wakes the reader, unless it is known.
pub const FLAG_SUSPICIOUS: u32 = 1 << 13;
/// Its pid namespace is the host's.
pub const FLAG_HOST_PID: u32 = 1 << 14;
/// The upper part has the data, not only attributes (metacopy).
pub const FLAG_UPPER_DATA: u32 = 1 << 15;
/// The environment lost its end.
pub const FLAG_ENV_TRUNCATED: u32 = 1 << 16;
/// The environment could not be read.
pub const FLAG_ENV_UNREADABLE: u32 = 1 << 17;
/// It ran already when the program was attached; its time is the start of the process.
pub const FLAG_SNAPSHOT: u32 = 1 << 18;
/// Its content is known: the reader was not woken.
pub const FLAG_KNOWN: u32 = 1 << 19;
/// Its pid namespace lies in another one than the host's.
pub const FLAG_NESTED_PID: u32 = 1 << 20;
/// Up to a limit no cgroup above its process is a container's; there are more.
pub const FLAG_CGROUPS_TRUNCATED: u32 = 1 << 21;
