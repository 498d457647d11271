/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The record that exec.bpf.c writes and driftline-collector-core reads. The Rust side (core's `layout` module) has the
 * same numbers. The compiler checks them here, and `lib.rs` against those that build.rs finds in this file.
 */
#ifndef DRIFTLINE_RECORD_H
#define DRIFTLINE_RECORD_H

#include <linux/types.h>

#define DRIFTLINE_RECORD_VERSION 3

/* Limits of the variable parts, in bytes. */
#define CGROUP_NAME_MAX 256 /* a kernfs name has at most 255 bytes (NAME_MAX), then NUL */
#define CGROUP_BYTES_MAX (3 * CGROUP_NAME_MAX) /* three containers in one another: mostly six to nine, of 71 bytes each */
#define PATH_BYTES_MAX 4096 /* PATH_MAX */
#define ARGS_BYTES_MAX 4096 /* driftline_schemas::limits::ARGS_BYTES_MAX */
#define COMPONENT_MAX 256 /* NAME_MAX and NUL */
#define TTY_NAME_MAX 64 /* sizeof(tty_struct.name) */
#define ENV_BYTES_MAX 4096 /* the hundred variables of a pod with a few dozen services; user space keeps a few names only */

#define FDS 3 /* standard input, output and error */
#define ANCESTORS 5 /* program, shell, entry point, runtime's shim, init: enough to see who let it in */

/* Bits of `flags`. */
enum record_flag {
	FLAG_SCRIPT = 1 << 0, /* #! or binfmt: the file is the interpreter */
	FLAG_OVERLAY = 1 << 1, /* the file is on an overlay */
	FLAG_UPPER = 1 << 2, /* its overlay inode has an upper part */
	FLAG_ROOT_OVERLAY = 1 << 3, /* the process's root directory is on an overlay */
	FLAG_CHROOTED = 1 << 4, /* its root directory is not the root of its mount */
	FLAG_OUTSIDE = 1 << 5, /* topmost ancestor in its pid namespace is not pid 1 there */
	FLAG_PARENT_OUTSIDE = 1 << 6, /* the parent is in another pid namespace */
	FLAG_PATH_COMPLETE = 1 << 7, /* the walk reached the root of the mount namespace */
	FLAG_PATH_TRUNCATED = 1 << 8, /* the walk stopped at a limit */
	FLAG_PATH_ANONYMOUS = 1 << 9, /* the file has no directory: memfd */
	FLAG_ARGS_TRUNCATED = 1 << 10,
	FLAG_ARGS_UNREADABLE = 1 << 11,
	FLAG_CWD_COMPLETE = 1 << 12,
	FLAG_SUSPICIOUS = 1 << 13, /* went to the ring that wakes the reader, unless it is known */
	FLAG_HOST_PID = 1 << 14, /* its pid namespace is the host's */
	FLAG_UPPER_DATA = 1 << 15, /* the upper part has the data, not only attributes (metacopy) */
	FLAG_ENV_TRUNCATED = 1 << 16,
	FLAG_ENV_UNREADABLE = 1 << 17,
	FLAG_SNAPSHOT = 1 << 18, /* ran already when the program was attached; time is the start of the process */
	FLAG_KNOWN = 1 << 19, /* its content is known: the reader was not woken */
};

/* What a file's content is recognised by; user space says of which files it knows the digest. Five words, without padding. */
struct known_file {
	__u64 dev; /* kernel encoding, as below */
	__u64 ino;
	__u64 real_ino;
	__s64 ctime_ns;
	__s64 size_bytes;
};
_Static_assert(sizeof(struct known_file) == 40, "size of struct known_file changed");

/* An open file; all zero when there is none. */
struct fd_record {
	__u64 ino;
	__u8 address[16]; /* socket: peer; IPv4 in the first four bytes */
	__u32 rdev; /* device: kernel encoding */
	__u16 mode;
	__u16 family; /* socket: AF_INET, AF_INET6, AF_UNIX, … */
	__u16 port; /* socket: peer, network order */
	__u16 reserved[3];
};

#define IN(part, field, offset) \
	_Static_assert(__builtin_offsetof(struct part##_record, field) == offset, #part "." #field " moved")
IN(fd, ino, 0);
IN(fd, address, 8);
IN(fd, rdev, 24);
IN(fd, mode, 28);
IN(fd, family, 30);
IN(fd, port, 32);
_Static_assert(sizeof(struct fd_record) == 40, "size of struct fd_record changed");

struct ancestor_record {
	__u64 start_ns;
	__u64 ino; /* of its executable */
	__u32 dev;
	__u32 tgid;
	__u8 comm[16];
};

IN(ancestor, start_ns, 0);
IN(ancestor, ino, 8);
IN(ancestor, dev, 16);
IN(ancestor, tgid, 20);
IN(ancestor, comm, 24);
_Static_assert(sizeof(struct ancestor_record) == 40, "size of struct ancestor_record changed");

/*
 * Fixed part. Followed by, without gaps: cgroup names, path, filename, cwd, tty, arguments, environment, of the lengths
 * below. Cgroup names are those of containers, innermost first, with slashes between. Path and cwd are written component
 * by component from the file upwards, each ended by NUL.
 */
struct exec_record {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 seq; /* container execs on this CPU, from 1 */
	__u64 start_ns; /* process start, CLOCK_BOOTTIME */
	__u64 exec_count; /* self_exec_id */
	__u64 ino;
	__u64 real_ino; /* overlay: inode number of the upper file; else equal to ino */
	__u64 lower_ino; /* overlay: inode number of the topmost lower file; 0: none */
	__s64 size_bytes;
	__s64 mtime_sec;
	__s64 ctime_sec;
	__u64 fs_magic;
	__u64 root_fs_magic;
	__u64 capabilities; /* effective, a bit each */
	__u64 capabilities_gained; /* permitted, when the exec itself gave some: AT_SECURE */
	__u32 mtime_nsec;
	__u32 ctime_nsec;
	__u32 version;
	__u32 flags;
	__u32 cpu;
	__u32 tgid;
	__u32 ns_pid;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 ns_uid; /* the four in its own user namespace; 0xffffffff: not mapped */
	__u32 ns_gid;
	__u32 ns_euid;
	__u32 ns_egid;
	__u32 dev; /* kernel encoding: major << 20 | minor */
	__u32 root_dev;
	__u32 mnt_id;
	__u32 root_mnt_id;
	__u32 mnt_ns;
	__u32 outer_mnt_ns; /* see read_outer_mnt_ns; 0: none */
	__u32 pid_ns;
	__u32 session_id; /* leader of its session, in the host's pid namespace */
	__u32 nlink;
	__u32 lower_count;
	__u32 ancestor_count;
	__u16 mode;
	__u16 cgroup_bytes;
	__u16 path_bytes;
	__u16 filename_bytes;
	__u16 args_bytes;
	__u16 cwd_bytes;
	__u16 tty_bytes;
	__u16 env_bytes;
	struct fd_record fds[FDS];
	struct ancestor_record ancestors[ANCESTORS]; /* parent first */
};

#define AT(field, offset) _Static_assert(__builtin_offsetof(struct exec_record, field) == offset, #field " moved")
AT(time_ns, 0);
AT(seq, 8);
AT(start_ns, 16);
AT(exec_count, 24);
AT(ino, 32);
AT(real_ino, 40);
AT(lower_ino, 48);
AT(size_bytes, 56);
AT(mtime_sec, 64);
AT(ctime_sec, 72);
AT(fs_magic, 80);
AT(root_fs_magic, 88);
AT(capabilities, 96);
AT(capabilities_gained, 104);
AT(mtime_nsec, 112);
AT(ctime_nsec, 116);
AT(version, 120);
AT(flags, 124);
AT(cpu, 128);
AT(tgid, 132);
AT(ns_pid, 136);
AT(uid, 140);
AT(gid, 144);
AT(euid, 148);
AT(egid, 152);
AT(ns_uid, 156);
AT(ns_gid, 160);
AT(ns_euid, 164);
AT(ns_egid, 168);
AT(dev, 172);
AT(root_dev, 176);
AT(mnt_id, 180);
AT(root_mnt_id, 184);
AT(mnt_ns, 188);
AT(outer_mnt_ns, 192);
AT(pid_ns, 196);
AT(session_id, 200);
AT(nlink, 204);
AT(lower_count, 208);
AT(ancestor_count, 212);
AT(mode, 216);
AT(cgroup_bytes, 218);
AT(path_bytes, 220);
AT(filename_bytes, 222);
AT(args_bytes, 224);
AT(cwd_bytes, 226);
AT(tty_bytes, 228);
AT(env_bytes, 230);
AT(fds, 232);
AT(ancestors, 352);
_Static_assert(sizeof(struct exec_record) == 552, "size of struct exec_record changed");

/*
 * Room for the variable parts. Each part is written only where its own maximum still fits, so the sum of the maxima,
 * with one component of slack for each walk, is enough.
 */
#define DATA_BYTES \
	(CGROUP_BYTES_MAX + 3 * (PATH_BYTES_MAX + COMPONENT_MAX) + ARGS_BYTES_MAX + TTY_NAME_MAX + COMPONENT_MAX + \
	 ENV_BYTES_MAX)

/* Indices of the per-CPU counters. */
enum counter {
	COUNTER_SEEN, /* container execs */
	COUNTER_HOST, /* execs of host processes, dropped */
	COUNTER_ORDINARY, /* records in the ordinary ring */
	COUNTER_SUSPICIOUS, /* records in the suspicious ring */
	COUNTER_ORDINARY_LOST, /* ring was full */
	COUNTER_SUSPICIOUS_LOST,
	COUNTER_KNOWN, /* suspicious execs of files whose content is known */
	COUNTER_COUNT,
};

#endif
