//! The exec record.
//!
//! Written by `make generate` from the tables in `schemas/generate`; edit those.

use serde::{Deserialize, Serialize};

use super::bounds::{Bounded, Of};
use crate::args::Args;
use crate::codec::{DecodeError, record};
use crate::ids::{ContainerId, EventId, Sha256};
use crate::limits;
use crate::memory::{self, HeapBytes};

/// One successful execve in a container, as the kernel saw it, with the class decided on the node. Key: container id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// 32 hex digits: hash of cluster, boot id, process id, process start and self_exec_id; the same exec always has
    /// the same id.
    pub event_id: EventId,
    /// Cluster name from the collector's settings.
    pub cluster: String,
    /// Node name from the collector's settings.
    pub node: String,
    /// 64 hex digits: of the containers in whose cgroups the process is, the innermost that a runtime of the node
    /// knows; the innermost of all while none is known.
    pub container_id: ContainerId,
    /// Kernel boot id of the node, a UUID.
    pub boot_id: String,
    /// Event time: wall clock in nanoseconds since 1970, from the kernel's boot clock plus an offset.
    pub time_ns: i64,
    /// Process id (thread group id) in the host's pid namespace.
    pub pid: i32,
    /// Process id in the process's own pid namespace.
    pub container_pid: i32,
    /// Process start, nanoseconds since boot.
    pub start_ns: i64,
    /// The kernel's self_exec_id of the process: how many times it has called exec.
    pub exec_count: i64,
    /// Parent's process id in the host's pid namespace.
    pub parent_pid: i32,
    /// Parent's start, nanoseconds since boot.
    pub parent_start_ns: i64,
    /// Parent's command name as the kernel keeps it, at most 15 bytes.
    #[serde(with = "serde_bytes")]
    pub parent_comm: Vec<u8>,
    /// Absolute path of the executable inside the container, raw bytes, at most 4096; for a memfd its name.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// The path was longer than the limit and lost its beginning.
    pub path_truncated: bool,
    /// What the caller passed to execve, raw bytes; for a script the script.
    #[serde(with = "serde_bytes")]
    pub typed_path: Vec<u8>,
    /// Absolute path in the container of the #! or binfmt script, when one was executed; it is then what file,
    /// hash_state and sha256 describe.
    #[serde(default, with = "serde_bytes")]
    pub script: Option<Vec<u8>>,
    /// Argument vector, raw bytes, argv\[0] first.
    pub args: Args,
    /// The argument vector was longer than the capture limit.
    pub args_truncated: bool,
    /// Working directory inside the container, raw bytes; empty when it was not captured.
    #[serde(with = "serde_bytes")]
    pub cwd: Vec<u8>,
    /// Real user id on the host.
    pub uid: u32,
    /// Real group id on the host.
    pub gid: u32,
    /// Effective user id on the host after the exec.
    pub euid: u32,
    /// Effective group id on the host after the exec.
    pub egid: u32,
    /// The effective user is user 0 of the process's own user namespace.
    pub container_root_user: bool,
    /// Name of the controlling terminal, for example pts0.
    #[serde(default)]
    pub tty: Option<String>,
    /// The process, or the ancestor it descends from in its pid namespace, was put there from outside (podman exec,
    /// kubectl exec, nsenter).
    pub entered_from_outside: bool,
    /// The process's root directory is not the root of its mount.
    pub chrooted: bool,
    /// Mount namespace at exec.
    pub namespace: MountNamespace,
    /// File class against the container's own root.
    pub class: FileClass,
    /// Facts of the subject: the script, or what a loader was told to run, where there is one; else the executable.
    pub file: FileFacts,
    /// The mount the subject was on, when it is not the root.
    #[serde(default)]
    pub mount: Option<Mount>,
    /// State of the digest.
    pub hash_state: HashState,
    /// SHA-256 of the subject, 64 hex digits; with hash_state hashed that of the file that ran, with changed what the
    /// file had when it was hashed, if it was; else null.
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// Id of the collector's run; seq counts within it.
    pub collector_start: String,
    /// Processor the exec ran on.
    pub cpu: i32,
    /// Sequence number of container execs on that processor since the collector started, from 1; a gap is a loss.
    pub seq: i64,
    /// Leader of the process's session, in the host's pid namespace; 0 when it is not known.
    #[serde(default)]
    pub session_id: i32,
    /// Inode number of the process's mount namespace.
    #[serde(default)]
    pub mount_ns: i64,
    /// Inode number of the process's pid namespace.
    #[serde(default)]
    pub pid_ns: i64,
    /// Real user id in the process's own user namespace; null when that has none such.
    #[serde(default)]
    pub container_uid: Option<u32>,
    /// Real group id in the process's own user namespace; null when that has none such.
    #[serde(default)]
    pub container_gid: Option<u32>,
    /// Effective user id in the process's own user namespace; null when that has none such.
    #[serde(default)]
    pub container_euid: Option<u32>,
    /// Effective group id in the process's own user namespace; null when that has none such.
    #[serde(default)]
    pub container_egid: Option<u32>,
    /// Effective capabilities after the exec, bit n is capability n of linux/capability.h.
    #[serde(default)]
    pub capabilities: i64,
    /// Permitted capabilities when the exec itself gave rights (set-user-id, set-group-id, file capabilities: what the
    /// kernel tells the program as AT_SECURE), else 0.
    #[serde(default)]
    pub capabilities_gained: i64,
    /// Standard input, output and error, in this order; empty when they were not captured.
    #[serde(default)]
    pub fds: Vec<Fd>,
    /// Names, never values, of environment variables of interest: GCONV_PATH, LD_AUDIT, LD_PRELOAD, and *_proxy in
    /// either case.
    #[serde(default)]
    pub environment: Vec<String>,
    /// The environment was longer than the capture limit or could not be read, so a name may be missing.
    #[serde(default)]
    pub environment_truncated: bool,
    /// Its parent, the parent's parent and so on, at most five.
    #[serde(default)]
    pub ancestors: Vec<Ancestor>,
    /// Absolute path in the container of the program that a dynamic loader was told to run (ld.so PATH), when one was;
    /// path is then the loader, and class, file, mount, hash_state and sha256 describe this.
    #[serde(default, with = "serde_bytes")]
    pub loaded: Option<Vec<u8>>,
    /// The program ran already when the collector started: time_ns is then the start of the process, cpu is -1, seq is
    /// 0, and a script is described as its interpreter.
    #[serde(default)]
    pub running_at_start: bool,
    /// The executable, where another file is judged (script, loaded, interpreted) and the kernel does not show this one
    /// to be an untouched file of the image: its content has to; null otherwise.
    #[serde(default)]
    pub loader: Option<Loader>,
    /// 64 hex digits: the container inside this one in which it ran, of an engine that is no runtime of the node; null
    /// when it ran in this one itself.
    #[serde(default)]
    pub inner_container_id: Option<ContainerId>,
    /// Absolute path in the container of the file that an interpreter was given as its program (sh FILE), when one was;
    /// path is then the interpreter, and class, file, mount, hash_state and sha256 describe this.
    #[serde(default, with = "serde_bytes")]
    pub interpreted: Option<Vec<u8>>,
}

/// What the kernel said about the file at exec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Device number of the file's superblock.
    pub dev: i64,
    /// Inode number.
    pub ino: i64,
    /// File size.
    pub size_bytes: i64,
    /// File mode with type bits.
    pub mode: i32,
    /// Number of links; 0 means the file was already unlinked.
    pub nlink: i64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Magic number of the file system, for example 0x794c7630 for overlay.
    pub fs_magic: i64,
    /// Overlay only: the inode has an upper (container) part.
    pub upper: bool,
    /// Overlay only: number of lower (image) parts.
    pub lower_count: i32,
    /// Overlay only: the upper part has attributes only, the data is still that of the lower file.
    #[serde(default)]
    pub metacopy: bool,
    /// Overlay only: inode number of the topmost lower file; 0 when there is none.
    #[serde(default)]
    pub lower_ino: i64,
    /// Mount by which the file was reached, as in mountinfo; 0 when it is not known.
    #[serde(default)]
    pub mnt_id: i64,
}

/// A mount of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Mount point inside the container.
    pub point: String,
    /// File system or runtime mount type: bind, tmpfs, volume, ext4, ….
    pub fs_type: String,
    /// Source on the node or name of the volume; empty when unknown.
    pub source: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// An open file of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fd {
    /// What it is.
    pub kind: FdKind,
    /// Inode number; the two ends of a pipe have the same; 0 when closed.
    pub ino: i64,
    /// Address:port or \[address]:port of the peer of a connected IP socket.
    #[serde(default)]
    pub peer: Option<String>,
}

/// An ancestor of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process id in the host's pid namespace.
    pub pid: i32,
    /// Process start, nanoseconds since boot; with the process id it names the process.
    pub start_ns: i64,
    /// Command name as the kernel keeps it, at most 15 bytes.
    #[serde(with = "serde_bytes")]
    pub comm: Vec<u8>,
    /// Device number of its executable's superblock.
    pub dev: i64,
    /// Inode number of its executable; 0 when it has none any more.
    pub ino: i64,
    /// Path of its executable in its container, when the collector saw that executed.
    #[serde(default, with = "serde_bytes")]
    pub path: Option<Vec<u8>>,
}

/// What the interpreter or dynamic loader of the judged file is itself; the fields are those of the judged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loader {
    /// Where it lives.
    pub class: FileClass,
    /// What the kernel said about it at exec.
    pub file: FileFacts,
    /// The mount it was on, when it is not the root.
    #[serde(default)]
    pub mount: Option<Mount>,
    /// Why there is or is no digest.
    pub hash_state: HashState,
    /// SHA-256 of it, 64 hex digits; as for the subject.
    #[serde(default)]
    pub sha256: Option<Sha256>,
}

/// Whose mount namespace the process runs in: its container's, the host's, or another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountNamespace {
    #[default]
    Own,
    Host,
    Other,
}

/// Where the executed file lives: untouched image layer, written into the container, image file copied up, root that is
/// no overlay, mount of the container, another overlay, memfd, another file system, or not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileClass {
    Image,
    New,
    CopiedUp,
    RootfsPlain,
    Volume,
    Foreign,
    Memfd,
    OtherFs,
    #[default]
    Unknown,
}

/// Why there is or is no digest: hashed; not needed for an untouched image file; the file changed after the exec, or so
/// shortly before it that it may have been written after it; it was gone; it could not be read; larger than the limit;
/// on a file system that must not be read (FUSE, network); the hashing budget was used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashState {
    Hashed,
    #[default]
    NotNeeded,
    Changed,
    Gone,
    Unreadable,
    TooLarge,
    RefusedFs,
    OverBudget,
}

/// What it is: not open, a regular file or directory, a pipe or FIFO, a socket, a terminal, another device such as
/// /dev/null, or something without a file type (eventfd, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdKind {
    Closed,
    File,
    Pipe,
    Socket,
    Tty,
    Device,
    Other,
}

impl HeapBytes for Exec {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.event_id.heap_bytes();
        bytes += self.cluster.heap_bytes();
        bytes += self.node.heap_bytes();
        bytes += self.container_id.heap_bytes();
        bytes += self.boot_id.heap_bytes();
        bytes += self.parent_comm.heap_bytes();
        bytes += self.path.heap_bytes();
        bytes += self.typed_path.heap_bytes();
        bytes += self.script.heap_bytes();
        bytes += self.args.heap_bytes();
        bytes += self.cwd.heap_bytes();
        bytes += self.tty.heap_bytes();
        bytes += self.mount.heap_bytes();
        bytes += self.collector_start.heap_bytes();
        bytes += memory::of_items(&self.fds);
        bytes += self.environment.heap_bytes();
        bytes += memory::of_items(&self.ancestors);
        bytes += self.loaded.heap_bytes();
        bytes += self.loader.heap_bytes();
        bytes += self.inner_container_id.heap_bytes();
        bytes += self.interpreted.heap_bytes();
        bytes
    }
}

impl Bounded for Exec {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("event_id", &self.event_id, limits::ID_BYTES_MAX)?;
        of.bytes("cluster", &self.cluster, limits::TEXT_BYTES_MAX)?;
        of.bytes("node", &self.node, limits::TEXT_BYTES_MAX)?;
        of.bytes("container_id", &self.container_id, limits::ID_BYTES_MAX)?;
        of.bytes("boot_id", &self.boot_id, limits::ID_BYTES_MAX)?;
        of.bytes("parent_comm", &self.parent_comm, limits::ID_BYTES_MAX)?;
        of.bytes("path", &self.path, limits::PATH_BYTES_MAX)?;
        of.bytes("typed_path", &self.typed_path, limits::PATH_BYTES_MAX)?;
        of.bytes("script", &self.script, limits::PATH_BYTES_MAX)?;
        of.bytes("args", &self.args, limits::ARGS_ENDED_BYTES_MAX)?;
        of.bytes("cwd", &self.cwd, limits::PATH_BYTES_MAX)?;
        of.bytes("tty", &self.tty, limits::ID_BYTES_MAX)?;
        self.mount.check(of)?;
        of.bytes("collector_start", &self.collector_start, limits::ID_BYTES_MAX)?;
        of.items("fds", &self.fds, limits::FDS_MAX)?;
        self.fds.check(of)?;
        of.items("environment", &self.environment, limits::ENVIRONMENT_NAMES_MAX)?;
        of.each("environment", &self.environment, limits::ID_BYTES_MAX)?;
        of.items("ancestors", &self.ancestors, limits::ANCESTORS_MAX)?;
        self.ancestors.check(of)?;
        of.bytes("loaded", &self.loaded, limits::PATH_BYTES_MAX)?;
        self.loader.check(of)?;
        of.bytes("inner_container_id", &self.inner_container_id, limits::ID_BYTES_MAX)?;
        of.bytes("interpreted", &self.interpreted, limits::PATH_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for FileFacts {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl HeapBytes for Mount {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.point.heap_bytes();
        bytes += self.fs_type.heap_bytes();
        bytes += self.source.heap_bytes();
        bytes
    }
}

impl Bounded for Mount {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("mount.point", &self.point, limits::PATH_BYTES_MAX)?;
        of.bytes("mount.fs_type", &self.fs_type, limits::PATH_BYTES_MAX)?;
        of.bytes("mount.source", &self.source, limits::PATH_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Fd {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.peer.heap_bytes();
        bytes
    }
}

impl Bounded for Fd {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("fds.peer", &self.peer, limits::ID_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Ancestor {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.comm.heap_bytes();
        bytes += self.path.heap_bytes();
        bytes
    }
}

impl Bounded for Ancestor {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        of.bytes("ancestors.comm", &self.comm, limits::ID_BYTES_MAX)?;
        of.bytes("ancestors.path", &self.path, limits::PATH_BYTES_MAX)?;
        Ok(())
    }
}

impl HeapBytes for Loader {
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        bytes += self.mount.heap_bytes();
        bytes
    }
}

impl Bounded for Loader {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        self.mount.check(of)?;
        Ok(())
    }
}

record! {
    Exec, "Exec", "exec.avsc",
    "frozen/exec.1.avsc",
    "frozen/exec.2.avsc",
    "frozen/exec.3.avsc",
    "frozen/exec.4.avsc",
    "frozen/exec.5.avsc",
}
