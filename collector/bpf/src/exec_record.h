/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The record that exec.bpf.c writes. Written by `make generate` from the tables in `schemas/generate`; edit those. */
#ifndef DRIFTLINE_EXEC_RECORD_H
#define DRIFTLINE_EXEC_RECORD_H

#include <linux/types.h>

#define DRIFTLINE_RECORD_VERSION 6

#define FDS 3 /* standard input, output and error */
#define ANCESTORS 5 /* program, shell, entry point, runtime's shim, init: enough to see who let it in */

/* Bits of `flags`. */
enum record_flag {
	FLAG_SCRIPT = 1 << 0, /* a script or binfmt program was executed; the file is its interpreter */
	FLAG_OVERLAY = 1 << 1, /* the file is on an overlay */
	FLAG_UPPER = 1 << 2, /* its overlay inode has an upper part */
	FLAG_ROOT_OVERLAY = 1 << 3, /* the process's root directory is on an overlay */
	FLAG_CHROOTED = 1 << 4, /* its root directory is not the root of its mount */
	FLAG_OUTSIDE = 1 << 5, /* its topmost ancestor in its pid namespace is not pid 1 there */
	FLAG_PARENT_OUTSIDE = 1 << 6, /* the parent is in another pid namespace */
	FLAG_PATH_COMPLETE = 1 << 7, /* the walk reached the root of the mount namespace */
	FLAG_PATH_TRUNCATED = 1 << 8, /* the walk stopped at a limit: the path lost its beginning */
	FLAG_PATH_ANONYMOUS = 1 << 9, /* the file has no directory: memfd */
	FLAG_ARGS_TRUNCATED = 1 << 10, /* the arguments lost their end */
	FLAG_ARGS_UNREADABLE = 1 << 11, /* the arguments could not be read */
	FLAG_CWD_COMPLETE = 1 << 12, /* the walk from the working directory reached the root */
	FLAG_SUSPICIOUS = 1 << 13, /* it went to the ring that wakes the reader, unless it is known */
	FLAG_HOST_PID = 1 << 14, /* its pid namespace is the host's */
	FLAG_UPPER_DATA = 1 << 15, /* the upper part has the data, not only attributes (metacopy) */
	FLAG_ENV_TRUNCATED = 1 << 16, /* the environment lost its end */
	FLAG_ENV_UNREADABLE = 1 << 17, /* the environment could not be read */
	FLAG_SNAPSHOT = 1 << 18, /* it ran already when the program was attached; its time is the start of the process */
	FLAG_KNOWN = 1 << 19, /* its content is known: the reader was not woken */
	FLAG_NESTED_PID = 1 << 20, /* its pid namespace lies in another one than the host's */
	FLAG_CGROUPS_TRUNCATED = 1 << 21, /* up to a limit no cgroup above its process is a container's; there are more */
};

/* An open file of the process; all zero when there is none. */
struct fd_record {
	__u64 ino;
	__u8 address[16]; /* socket: peer; IPv4 in the first four bytes */
	__u32 rdev; /* device, of a device file */
	__u16 mode; /* mode with type bits; 0 when it is not open, or is none of a file system */
	__u16 family; /* socket: AF_INET, AF_INET6, AF_UNIX, … */
	__u16 port; /* socket: peer, network order */
	__u8 padding[6];
};
_Static_assert(__builtin_offsetof(struct fd_record, ino) == 0, "fd.ino moved");
_Static_assert(__builtin_offsetof(struct fd_record, address) == 8, "fd.address moved");
_Static_assert(__builtin_offsetof(struct fd_record, rdev) == 24, "fd.rdev moved");
_Static_assert(__builtin_offsetof(struct fd_record, mode) == 28, "fd.mode moved");
_Static_assert(__builtin_offsetof(struct fd_record, family) == 30, "fd.family moved");
_Static_assert(__builtin_offsetof(struct fd_record, port) == 32, "fd.port moved");
_Static_assert(__builtin_offsetof(struct fd_record, padding) == 34, "fd.padding moved");
_Static_assert(sizeof(struct fd_record) == 40, "size of struct fd_record changed");

/* An ancestor of the process; all zero when there is none. */
struct ancestor_record {
	__u64 start_ns;
	__u8 comm[16];
	__u64 ino;
	__u32 pid;
	__u32 dev;
};
_Static_assert(__builtin_offsetof(struct ancestor_record, start_ns) == 0, "ancestor.start_ns moved");
_Static_assert(__builtin_offsetof(struct ancestor_record, comm) == 8, "ancestor.comm moved");
_Static_assert(__builtin_offsetof(struct ancestor_record, ino) == 24, "ancestor.ino moved");
_Static_assert(__builtin_offsetof(struct ancestor_record, pid) == 32, "ancestor.pid moved");
_Static_assert(__builtin_offsetof(struct ancestor_record, dev) == 36, "ancestor.dev moved");
_Static_assert(sizeof(struct ancestor_record) == 40, "size of struct ancestor_record changed");

/* The fixed part. Behind it, without gaps: cgroup, path, typed_path, cwd, tty, args, environment, mount_root. */
struct exec_record {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 start_ns; /* process start, CLOCK_BOOTTIME */
	__u64 exec_count; /* self_exec_id */
	__u64 ino;
	__u64 real_ino; /* overlay: inode number of the upper file; else equal to ino */
	__s64 size_bytes;
	__s64 mtime_sec;
	__s64 ctime_sec;
	__u64 fs_magic;
	__u64 lower_ino;
	__u64 root_fs_magic; /* file system of the process's root directory */
	__u64 seq;
	__u64 mnt_ns_id; /* 0: the kernel has none */
	__u64 capabilities; /* effective, a bit each */
	__u64 capabilities_gained; /* permitted, when the exec itself gave some: AT_SECURE */
	__u32 version; /* version of this layout */
	__u32 flags; /* bits of `enum record_flag`; read through the methods */
	__u32 pid;
	__u32 ns_pid;
	__u32 below_mount_bytes; /* of an overlay's file: bytes of path below its mount; 0xffffffff: not known */
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 dev; /* kernel encoding: major << 20 | minor */
	__u32 nlink;
	__u32 mtime_nsec;
	__u32 ctime_nsec;
	__u32 lower_count;
	__u32 mnt_id;
	__u32 root_dev; /* superblock of the process's root directory */
	__u32 root_mnt_id; /* mount of the process's root directory */
	__u32 cpu;
	__u32 session_id;
	__u32 mnt_ns;
	__u32 outer_mnt_ns; /* see read_outer_mnt_ns; 0: none */
	__u32 pid_ns;
	__u32 ns_uid; /* 0xffffffff: not mapped */
	__u32 ns_gid; /* 0xffffffff: not mapped */
	__u32 ns_euid; /* 0xffffffff: not mapped */
	__u32 ns_egid; /* 0xffffffff: not mapped */
	__u32 ancestor_count; /* how many of `ancestors` there are */
	__u16 mode;
	__u16 cgroup_bytes; /* length of cgroup */
	__u16 path_bytes; /* length of path */
	__u16 typed_path_bytes; /* length of typed_path */
	__u16 cwd_bytes; /* length of cwd */
	__u16 tty_bytes; /* length of tty */
	__u16 args_bytes; /* length of args */
	__u16 environment_bytes; /* length of environment */
	__u16 mount_root_bytes; /* length of mount_root */
	__u8 padding[2];
	struct fd_record fds[FDS];
	struct ancestor_record ancestors[ANCESTORS]; /* parent first */
};
_Static_assert(__builtin_offsetof(struct exec_record, time_ns) == 0, "exec.time_ns moved");
_Static_assert(__builtin_offsetof(struct exec_record, start_ns) == 8, "exec.start_ns moved");
_Static_assert(__builtin_offsetof(struct exec_record, exec_count) == 16, "exec.exec_count moved");
_Static_assert(__builtin_offsetof(struct exec_record, ino) == 24, "exec.ino moved");
_Static_assert(__builtin_offsetof(struct exec_record, real_ino) == 32, "exec.real_ino moved");
_Static_assert(__builtin_offsetof(struct exec_record, size_bytes) == 40, "exec.size_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, mtime_sec) == 48, "exec.mtime_sec moved");
_Static_assert(__builtin_offsetof(struct exec_record, ctime_sec) == 56, "exec.ctime_sec moved");
_Static_assert(__builtin_offsetof(struct exec_record, fs_magic) == 64, "exec.fs_magic moved");
_Static_assert(__builtin_offsetof(struct exec_record, lower_ino) == 72, "exec.lower_ino moved");
_Static_assert(__builtin_offsetof(struct exec_record, root_fs_magic) == 80, "exec.root_fs_magic moved");
_Static_assert(__builtin_offsetof(struct exec_record, seq) == 88, "exec.seq moved");
_Static_assert(__builtin_offsetof(struct exec_record, mnt_ns_id) == 96, "exec.mnt_ns_id moved");
_Static_assert(__builtin_offsetof(struct exec_record, capabilities) == 104, "exec.capabilities moved");
_Static_assert(__builtin_offsetof(struct exec_record, capabilities_gained) == 112, "exec.capabilities_gained moved");
_Static_assert(__builtin_offsetof(struct exec_record, version) == 120, "exec.version moved");
_Static_assert(__builtin_offsetof(struct exec_record, flags) == 124, "exec.flags moved");
_Static_assert(__builtin_offsetof(struct exec_record, pid) == 128, "exec.pid moved");
_Static_assert(__builtin_offsetof(struct exec_record, ns_pid) == 132, "exec.ns_pid moved");
_Static_assert(__builtin_offsetof(struct exec_record, below_mount_bytes) == 136, "exec.below_mount_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, uid) == 140, "exec.uid moved");
_Static_assert(__builtin_offsetof(struct exec_record, gid) == 144, "exec.gid moved");
_Static_assert(__builtin_offsetof(struct exec_record, euid) == 148, "exec.euid moved");
_Static_assert(__builtin_offsetof(struct exec_record, egid) == 152, "exec.egid moved");
_Static_assert(__builtin_offsetof(struct exec_record, dev) == 156, "exec.dev moved");
_Static_assert(__builtin_offsetof(struct exec_record, nlink) == 160, "exec.nlink moved");
_Static_assert(__builtin_offsetof(struct exec_record, mtime_nsec) == 164, "exec.mtime_nsec moved");
_Static_assert(__builtin_offsetof(struct exec_record, ctime_nsec) == 168, "exec.ctime_nsec moved");
_Static_assert(__builtin_offsetof(struct exec_record, lower_count) == 172, "exec.lower_count moved");
_Static_assert(__builtin_offsetof(struct exec_record, mnt_id) == 176, "exec.mnt_id moved");
_Static_assert(__builtin_offsetof(struct exec_record, root_dev) == 180, "exec.root_dev moved");
_Static_assert(__builtin_offsetof(struct exec_record, root_mnt_id) == 184, "exec.root_mnt_id moved");
_Static_assert(__builtin_offsetof(struct exec_record, cpu) == 188, "exec.cpu moved");
_Static_assert(__builtin_offsetof(struct exec_record, session_id) == 192, "exec.session_id moved");
_Static_assert(__builtin_offsetof(struct exec_record, mnt_ns) == 196, "exec.mnt_ns moved");
_Static_assert(__builtin_offsetof(struct exec_record, outer_mnt_ns) == 200, "exec.outer_mnt_ns moved");
_Static_assert(__builtin_offsetof(struct exec_record, pid_ns) == 204, "exec.pid_ns moved");
_Static_assert(__builtin_offsetof(struct exec_record, ns_uid) == 208, "exec.ns_uid moved");
_Static_assert(__builtin_offsetof(struct exec_record, ns_gid) == 212, "exec.ns_gid moved");
_Static_assert(__builtin_offsetof(struct exec_record, ns_euid) == 216, "exec.ns_euid moved");
_Static_assert(__builtin_offsetof(struct exec_record, ns_egid) == 220, "exec.ns_egid moved");
_Static_assert(__builtin_offsetof(struct exec_record, ancestor_count) == 224, "exec.ancestor_count moved");
_Static_assert(__builtin_offsetof(struct exec_record, mode) == 228, "exec.mode moved");
_Static_assert(__builtin_offsetof(struct exec_record, cgroup_bytes) == 230, "exec.cgroup_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, path_bytes) == 232, "exec.path_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, typed_path_bytes) == 234, "exec.typed_path_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, cwd_bytes) == 236, "exec.cwd_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, tty_bytes) == 238, "exec.tty_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, args_bytes) == 240, "exec.args_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, environment_bytes) == 242, "exec.environment_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, mount_root_bytes) == 244, "exec.mount_root_bytes moved");
_Static_assert(__builtin_offsetof(struct exec_record, padding) == 246, "exec.padding moved");
_Static_assert(__builtin_offsetof(struct exec_record, fds) == 248, "exec.fds moved");
_Static_assert(__builtin_offsetof(struct exec_record, ancestors) == 368, "exec.ancestors moved");
_Static_assert(sizeof(struct exec_record) == 568, "size of struct exec_record changed");

#endif
