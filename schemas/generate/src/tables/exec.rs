//! The exec record: what the kernel program writes, what the collector decodes of it, and what goes to Kafka.
//!
//! A row is a field. The rows stand in the order of the Avro record; the kernel's record has the wide fields first.

use super::{CONTAINER_ID, EVENT_ID, ID, PATH, SHA256, TEXT, UID};
use crate::table::Kernel::{Address, Comm, Dev, S64, Time, U16, U32, U64};
use crate::table::Type::{Array, As, Boolean, Bytes, Int, Long, Optional, String};
use crate::table::{Enum, Limit, Record, Type, field};

/// Version of the kernel program's record: one more when a field of it comes, goes or moves.
pub(crate) const VERSION: u32 = 6;

#[rustfmt::skip]
pub(crate) const EXEC: Record = Record {
    name: "Exec",
    doc: "One successful execve in a container, as the kernel saw it, with the class decided on the node. Key: container id.",
    derives: "Debug, Clone, Default, PartialEq",
    label: "",
    fields: &[
        field("moment").decoded("Moment").doc("when it happened, and on which processor"),
        field("version").hidden(U32).doc("version of this layout"),
        field("flags").kernel(U32).doc("bits of `enum record_flag`; read through the methods"),
        field("cgroup").part(1).doc("names of the cgroups that look like containers, innermost first, with slashes between"),
        field("event_id").avro(EVENT_ID).limits(ID).doc("32 hex digits: hash of cluster, boot id, process id, process start and self_exec_id; the same exec always has the same id"),
        field("cluster").avro(String).limits(TEXT).doc("cluster name from the collector's settings"),
        field("node").avro(String).limits(TEXT).doc("node name from the collector's settings"),
        field("container_id").avro(CONTAINER_ID).limits(ID).doc("64 hex digits: of the containers in whose cgroups the process is, the innermost that a runtime of the node knows; the innermost of all while none is known"),
        field("boot_id").avro(String).limits(ID).doc("kernel boot id of the node, a UUID"),
        field("time_ns").hidden(U64).avro(Long).note("CLOCK_BOOTTIME").doc("event time: wall clock in nanoseconds since 1970, from the kernel's boot clock plus an offset"),
        field("pid").kernel(U32).avro(Int).doc("process id (thread group id) in the host's pid namespace"),
        field("ns_pid").kernel(U32).avro_as("container_pid", Int).doc("process id in the process's own pid namespace"),
        field("start_ns").kernel(U64).avro(Long).note("process start, CLOCK_BOOTTIME").doc("process start, nanoseconds since boot"),
        field("exec_count").kernel(U64).avro(Long).note("self_exec_id").doc("the kernel's self_exec_id of the process: how many times it has called exec"),
        field("parent_pid").avro(Int).doc("parent's process id in the host's pid namespace"),
        field("parent_start_ns").avro(Long).doc("parent's start, nanoseconds since boot"),
        field("parent_comm").avro(Bytes).limits(ID).doc("parent's command name as the kernel keeps it, at most 15 bytes"),
        field("path").part(2).decoded("Vec<u8>").avro(Bytes).limits(PATH).doc("absolute path of the executable inside the container, raw bytes, at most 4096; for a memfd its name"),
        field("path_truncated").avro(Boolean).doc("the path was longer than the limit and lost its beginning"),
        field("below_mount_bytes").kernel(U32).note("of an overlay's file: bytes of path below its mount; 0xffffffff: not known").doc("of an overlay's file: how many bytes of its path, counted from the end, lie below the mount by which it was reached"),
        field("mount_root").part(8).decoded("Vec<u8>").doc("of an overlay's file: the directory of the overlay that is the root of that mount; empty for the overlay's own root"),
        field("typed_path").part(3).avro(Bytes).limits(PATH).doc("what the caller passed to execve, raw bytes; for a script the script"),
        field("script").avro(Optional(&Bytes)).default("null").limits(PATH).doc("absolute path in the container of the #! or binfmt script, when one was executed; it is then what file, hash_state and sha256 describe"),
        field("args").part(6).decoded("Args").avro(As(&Array(&Bytes), "Args")).limits(&[Limit::Bytes("ARGS_ENDED_BYTES_MAX")]).doc("argument vector, raw bytes, argv[0] first"),
        field("args_truncated").avro(Boolean).doc("the argument vector was longer than the capture limit"),
        field("cwd").part(4).decoded("Vec<u8>").avro(Bytes).limits(PATH).doc("working directory inside the container, raw bytes; empty when it was not captured"),
        field("uid").kernel(U32).avro(UID).doc("real user id on the host"),
        field("gid").kernel(U32).avro(UID).doc("real group id on the host"),
        field("euid").kernel(U32).avro(UID).doc("effective user id on the host after the exec"),
        field("egid").kernel(U32).avro(UID).doc("effective group id on the host after the exec"),
        field("container_root_user").avro(Boolean).doc("the effective user is user 0 of the process's own user namespace"),
        field("tty").part(5).avro(Optional(&String)).default("null").limits(ID).doc("name of the controlling terminal, for example pts0"),
        field("entered_from_outside").avro(Boolean).doc("the process, or the ancestor it descends from in its pid namespace, was put there from outside (podman exec, kubectl exec, nsenter)"),
        field("chrooted").avro(Boolean).doc("the process's root directory is not the root of its mount"),
        field("namespace").avro(Type::Enum(&MOUNT_NAMESPACE)).doc("mount namespace at exec"),
        field("class").avro(Type::Enum(&FILE_CLASS)).doc("file class against the container's own root"),
        field("file").embedded(&FILE_FACTS).avro(Type::Record(&FILE_FACTS)).doc("facts of the subject: the script, or what a loader was told to run, where there is one; else the executable"),
        field("root_dev").kernel(Dev).doc("superblock of the process's root directory"),
        field("root_fs_magic").kernel(U64).doc("file system of the process's root directory"),
        field("root_mnt_id").kernel(U32).doc("mount of the process's root directory"),
        field("mount").avro(Optional(&Type::Record(&MOUNT))).default("null").doc("the mount the subject was on, when it is not the root"),
        field("hash_state").avro(Type::Enum(&HASH_STATE)).doc("state of the digest"),
        field("sha256").avro(Optional(&SHA256)).default("null").doc("SHA-256 of the subject, 64 hex digits; with hash_state hashed that of the file that ran, with changed what the file had when it was hashed, if it was; else null"),
        field("collector_start").avro(String).limits(ID).doc("id of the collector's run; seq counts within it"),
        field("cpu").hidden(U32).avro(Int).doc("processor the exec ran on"),
        field("seq").hidden(U64).avro(Long).doc("sequence number of container execs on that processor since the collector started, from 1; a gap is a loss"),
        field("session_id").kernel(U32).avro(Int).default("0").doc("leader of the process's session, in the host's pid namespace; 0 when it is not known"),
        field("mnt_ns").kernel(U32).avro_as("mount_ns", Long).default("0").doc("inode number of the process's mount namespace"),
        field("mnt_ns_id").kernel(U64).note("0: the kernel has none").doc("number of the process's mount namespace that no other one has, before or after; 0 when the kernel has none"),
        field("outer_mnt_ns").kernel(U32).note("see read_outer_mnt_ns; 0: none").doc("mount namespace of the nearest ancestor that is in another one; 0 when there is none, or when the process is in neither the host's pid nor its mount namespace"),
        field("pid_ns").kernel(U32).avro(Long).default("0").doc("inode number of the process's pid namespace"),
        field("ns_uid").kernel(U32).avro_as("container_uid", Optional(&UID)).default("null").note("0xffffffff: not mapped").doc("real user id in the process's own user namespace; null when that has none such"),
        field("ns_gid").kernel(U32).avro_as("container_gid", Optional(&UID)).default("null").note("0xffffffff: not mapped").doc("real group id in the process's own user namespace; null when that has none such"),
        field("ns_euid").kernel(U32).avro_as("container_euid", Optional(&UID)).default("null").note("0xffffffff: not mapped").doc("effective user id in the process's own user namespace; null when that has none such"),
        field("ns_egid").kernel(U32).avro_as("container_egid", Optional(&UID)).default("null").note("0xffffffff: not mapped").doc("effective group id in the process's own user namespace; null when that has none such"),
        field("capabilities").kernel(U64).avro(Long).default("0").note("effective, a bit each").doc("effective capabilities after the exec, bit n is capability n of linux/capability.h"),
        field("capabilities_gained").kernel(U64).avro(Long).default("0").note("permitted, when the exec itself gave some: AT_SECURE").doc("permitted capabilities when the exec itself gave rights (set-user-id, set-group-id, file capabilities: what the kernel tells the program as AT_SECURE), else 0"),
        field("fds").repeated(&FD, "FDS").decoded("[RawFd; layout::FD_COUNT]").avro(Array(&Type::Record(&FD))).default("[]").limits(&[Limit::Items("FDS_MAX")]).doc("standard input, output and error, in this order; empty when they were not captured"),
        field("environment").part(7).decoded("Vec<String>").avro(Array(&String)).default("[]").limits(&[Limit::Items("ENVIRONMENT_NAMES_MAX"), Limit::Each("ID_BYTES_MAX")]).doc("names, never values, of environment variables of interest: GCONV_PATH, LD_AUDIT, LD_PRELOAD, and *_proxy in either case"),
        field("environment_truncated").avro(Boolean).default("false").doc("the environment was longer than the capture limit or could not be read, so a name may be missing"),
        field("ancestor_count").hidden(U32).doc("how many of `ancestors` there are"),
        field("ancestors").repeated(&ANCESTOR, "ANCESTORS").decoded("Vec<RawAncestor>").avro(Array(&Type::Record(&ANCESTOR))).default("[]").limits(&[Limit::Items("ANCESTORS_MAX")]).note("parent first").doc("its parent, the parent's parent and so on, at most five"),
        field("loaded").avro(Optional(&Bytes)).default("null").limits(PATH).doc("absolute path in the container of the program that a dynamic loader was told to run (ld.so PATH), when one was; path is then the loader, and class, file, mount, hash_state and sha256 describe this"),
        field("running_at_start").avro(Boolean).default("false").doc("the program ran already when the collector started: time_ns is then the start of the process, cpu is -1, seq is 0, and a script is described as its interpreter"),
        field("loader").avro(Optional(&Type::Record(&LOADER))).default("null").doc("the executable, where another file is judged (script, loaded, interpreted) and the kernel does not show this one to be an untouched file of the image: its content has to; null otherwise"),
        field("inner_container_id").avro(Optional(&CONTAINER_ID)).default("null").limits(ID).doc("64 hex digits: the container inside this one in which it ran, of an engine that is no runtime of the node; null when it ran in this one itself"),
        field("interpreted").avro(Optional(&Bytes)).default("null").limits(PATH).doc("absolute path in the container of the file that an interpreter was given as its program (sh FILE), when one was; path is then the interpreter, and class, file, mount, hash_state and sha256 describe this"),
    ],
};

#[rustfmt::skip]
pub(crate) const LOADER: Record = Record {
    name: "Loader",
    doc: "what the interpreter or dynamic loader of the judged file is itself; the fields are those of the judged file",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "",
    fields: &[
        field("class").avro(Type::Enum(&FILE_CLASS)).doc("where it lives"),
        field("file").avro(Type::Record(&FILE_FACTS)).doc("what the kernel said about it at exec"),
        field("mount").avro(Optional(&Type::Record(&MOUNT))).default("null").doc("the mount it was on, when it is not the root"),
        field("hash_state").avro(Type::Enum(&HASH_STATE)).doc("why there is or is no digest"),
        field("sha256").avro(Optional(&SHA256)).default("null").doc("SHA-256 of it, 64 hex digits; as for the subject"),
    ],
};

#[rustfmt::skip]
pub(crate) const ANCESTOR: Record = Record {
    name: "Ancestor",
    doc: "an ancestor of the process",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "ancestors.",
    fields: &[
        field("pid").kernel(U32).avro(Int).doc("process id in the host's pid namespace"),
        field("start_ns").kernel(U64).avro(Long).doc("process start, nanoseconds since boot; with the process id it names the process"),
        field("comm").kernel(Comm).avro(Bytes).limits(ID).doc("command name as the kernel keeps it, at most 15 bytes"),
        field("dev").kernel(Dev).avro(Long).doc("device number of its executable's superblock"),
        field("ino").kernel(U64).avro(Long).doc("inode number of its executable; 0 when it has none any more"),
        field("path").avro(Optional(&Bytes)).default("null").limits(PATH).doc("path of its executable in its container, when the collector saw that executed"),
    ],
};

#[rustfmt::skip]
pub(crate) const FD: Record = Record {
    name: "Fd",
    doc: "an open file of the process",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "fds.",
    fields: &[
        field("kind").avro(Type::Enum(&FD_KIND)).doc("what it is"),
        field("ino").kernel(U64).avro(Long).doc("inode number; the two ends of a pipe have the same; 0 when closed"),
        field("mode").kernel(U16).doc("mode with type bits; 0 when it is not open, or is none of a file system"),
        field("rdev").kernel(Dev).doc("device, of a device file"),
        field("address").hidden(Address).doc("socket: peer; IPv4 in the first four bytes"),
        field("family").hidden(U16).doc("socket: AF_INET, AF_INET6, AF_UNIX, …"),
        field("port").hidden(U16).doc("socket: peer, network order"),
        field("peer").decoded("Option<SocketAddr>").avro(Optional(&String)).default("null").limits(ID).doc("address:port or [address]:port of the peer of a connected IP socket"),
    ],
};

pub(crate) const FD_KIND: Enum = Enum {
    name: "FdKind",
    symbols: &["closed", "file", "pipe", "socket", "tty", "device", "other"],
    default: None,
    derives: "Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord",
    doc: "what it is: not open, a regular file or directory, a pipe or FIFO, a socket, a terminal, another device such as /dev/null, or something without a file type (eventfd, …)",
};

pub(crate) const HASH_STATE: Enum = Enum {
    name: "HashState",
    symbols: &["hashed", "not_needed", "changed", "gone", "unreadable", "too_large", "refused_fs", "over_budget"],
    default: Some("not_needed"),
    derives: "Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord",
    doc: "why there is or is no digest: hashed; not needed for an untouched image file; the file changed after the exec, or so shortly before it that it may have been written after it; it was gone; it could not be read; larger than the limit; on a file system that must not be read (FUSE, network); the hashing budget was used up",
};

#[rustfmt::skip]
pub(crate) const MOUNT: Record = Record {
    name: "Mount",
    doc: "a mount of the container",
    derives: "Debug, Clone, PartialEq, Eq",
    label: "mount.",
    fields: &[
        field("point").avro(String).limits(PATH).doc("mount point inside the container"),
        field("fs_type").avro(String).limits(PATH).doc("file system or runtime mount type: bind, tmpfs, volume, ext4, …"),
        field("source").avro(String).limits(PATH).doc("source on the node or name of the volume; empty when unknown"),
        field("read_only").avro(Boolean).doc("mounted read-only"),
    ],
};

#[rustfmt::skip]
pub(crate) const FILE_FACTS: Record = Record {
    name: "FileFacts",
    doc: "what the kernel said about the file at exec",
    derives: "Debug, Clone, Copy, Default, PartialEq, Eq",
    label: "",
    fields: &[
        field("dev").kernel(Dev).avro(Long).note("kernel encoding: major << 20 | minor").doc("device number of the file's superblock"),
        field("ino").kernel(U64).avro(Long).doc("inode number"),
        field("real_ino").kernel(U64).doc("overlay: inode number of the upper file; else equal to ino"),
        field("size_bytes").kernel(S64).avro(Long).doc("file size"),
        field("mode").kernel(U16).avro(Int).doc("file mode with type bits"),
        field("nlink").kernel(U32).avro(Long).doc("number of links; 0 means the file was already unlinked"),
        field("mtime_ns").kernel(Time).avro(Long).doc("modification time, nanoseconds since 1970"),
        field("ctime_ns").kernel(Time).avro(Long).doc("change time, nanoseconds since 1970"),
        field("fs_magic").kernel(U64).avro(Long).doc("magic number of the file system, for example 0x794c7630 for overlay"),
        field("upper").avro(Boolean).doc("overlay only: the inode has an upper (container) part"),
        field("lower_count").kernel(U32).avro(Int).doc("overlay only: number of lower (image) parts"),
        field("metacopy").avro(Boolean).default("false").doc("overlay only: the upper part has attributes only, the data is still that of the lower file"),
        field("lower_ino").kernel(U64).avro(Long).default("0").doc("overlay only: inode number of the topmost lower file; 0 when there is none"),
        field("mnt_id").kernel(U32).avro(Long).default("0").doc("mount by which the file was reached, as in mountinfo; 0 when it is not known"),
    ],
};

pub(crate) const FILE_CLASS: Enum = Enum {
    name: "FileClass",
    symbols: &["image", "new", "copied_up", "rootfs_plain", "volume", "foreign", "memfd", "other_fs", "unknown"],
    default: Some("unknown"),
    derives: "Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord",
    doc: "where the executed file lives: untouched image layer, written into the container, image file copied up, root that is no overlay, mount of the container, another overlay, memfd, another file system, or not known",
};

pub(crate) const MOUNT_NAMESPACE: Enum = Enum {
    name: "MountNamespace",
    symbols: &["own", "host", "other"],
    default: Some("own"),
    derives: "Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord",
    doc: "whose mount namespace the process runs in: its container's, the host's, or another",
};
