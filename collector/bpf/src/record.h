/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The record that exec.bpf.c writes and driftline-collector-core reads. The Rust side (core's `layout` module) has the
 * same numbers. The compiler checks them here, and `lib.rs` against those that build.rs finds in this file.
 */
#ifndef DRIFTLINE_RECORD_H
#define DRIFTLINE_RECORD_H

#include <linux/types.h>

#define DRIFTLINE_RECORD_VERSION 1

/* Limits of the variable parts, in bytes. */
#define CGROUP_NAME_MAX 256 /* a kernfs name has at most 255 bytes (NAME_MAX), then NUL */
#define PATH_BYTES_MAX 4096 /* PATH_MAX */
#define ARGS_BYTES_MAX 4096 /* driftline_schemas::limits::ARGS_BYTES_MAX */
#define COMPONENT_MAX 256 /* NAME_MAX and NUL */
#define TTY_NAME_MAX 64 /* sizeof(tty_struct.name) */

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
	FLAG_SUSPICIOUS = 1 << 13, /* went to the ring that wakes the reader */
	FLAG_HOST_PID = 1 << 14, /* its pid namespace is the host's */
};

/*
 * Fixed part. Followed by, without gaps: cgroup name, path, filename, arguments, cwd, tty, of the lengths below.
 * Path and cwd are written component by component from the file upwards, each ended by NUL.
 */
struct exec_record {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 seq; /* container execs on this CPU, from 1 */
	__u64 start_ns; /* process start, CLOCK_BOOTTIME */
	__u64 exec_count; /* self_exec_id */
	__u64 parent_start_ns;
	__u64 ino;
	__u64 real_ino; /* overlay: inode number of the upper file; else equal to ino */
	__s64 size_bytes;
	__s64 mtime_sec;
	__s64 ctime_sec;
	__u64 fs_magic;
	__u64 root_fs_magic;
	__u32 mtime_nsec;
	__u32 ctime_nsec;
	__u32 version;
	__u32 flags;
	__u32 cpu;
	__u32 tgid;
	__u32 ns_pid;
	__u32 parent_tgid;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 ns_root_uid; /* host uid of user 0 of the user namespace; 0xffffffff: none */
	__u32 dev; /* kernel encoding: major << 20 | minor */
	__u32 root_dev;
	__u32 mnt_id;
	__u32 root_mnt_id;
	__u32 mnt_ns;
	__u32 outer_mnt_ns; /* see read_outer_mnt_ns; 0: none */
	__u32 pid_ns;
	__u32 nlink;
	__u32 lower_count;
	__u16 mode;
	__u16 cgroup_bytes;
	__u16 path_bytes;
	__u16 filename_bytes;
	__u16 args_bytes;
	__u16 cwd_bytes;
	__u16 tty_bytes;
	__u16 reserved;
	__u8 parent_comm[16];
};

#define AT(field, offset) _Static_assert(__builtin_offsetof(struct exec_record, field) == offset, #field " moved")
AT(time_ns, 0);
AT(seq, 8);
AT(start_ns, 16);
AT(exec_count, 24);
AT(parent_start_ns, 32);
AT(ino, 40);
AT(real_ino, 48);
AT(size_bytes, 56);
AT(mtime_sec, 64);
AT(ctime_sec, 72);
AT(fs_magic, 80);
AT(root_fs_magic, 88);
AT(mtime_nsec, 96);
AT(ctime_nsec, 100);
AT(version, 104);
AT(flags, 108);
AT(cpu, 112);
AT(tgid, 116);
AT(ns_pid, 120);
AT(parent_tgid, 124);
AT(uid, 128);
AT(gid, 132);
AT(euid, 136);
AT(egid, 140);
AT(ns_root_uid, 144);
AT(dev, 148);
AT(root_dev, 152);
AT(mnt_id, 156);
AT(root_mnt_id, 160);
AT(mnt_ns, 164);
AT(outer_mnt_ns, 168);
AT(pid_ns, 172);
AT(nlink, 176);
AT(lower_count, 180);
AT(mode, 184);
AT(cgroup_bytes, 186);
AT(path_bytes, 188);
AT(filename_bytes, 190);
AT(args_bytes, 192);
AT(cwd_bytes, 194);
AT(tty_bytes, 196);
AT(reserved, 198);
AT(parent_comm, 200);
_Static_assert(sizeof(struct exec_record) == 216, "size of struct exec_record changed");

/*
 * Room for the variable parts. Each part is written only where its own maximum still fits, so the sum of the maxima,
 * with one component of slack for each walk, is enough.
 */
#define DATA_BYTES \
	(CGROUP_NAME_MAX + 3 * (PATH_BYTES_MAX + COMPONENT_MAX) + ARGS_BYTES_MAX + TTY_NAME_MAX + COMPONENT_MAX)

/* Indices of the per-CPU counters. */
enum counter {
	COUNTER_SEEN, /* container execs */
	COUNTER_HOST, /* execs of host processes, dropped */
	COUNTER_ORDINARY, /* records in the ordinary ring */
	COUNTER_SUSPICIOUS, /* records in the suspicious ring */
	COUNTER_ORDINARY_LOST, /* ring was full */
	COUNTER_SUSPICIOUS_LOST,
	COUNTER_COUNT,
};

#endif
