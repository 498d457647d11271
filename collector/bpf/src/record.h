/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What exec.bpf.c and user space have in common: the record (its fixed part is written from the table in
 * schemas/generate, as core's `layout` module is), the limits of its variable parts, and counters.
 */
#ifndef DRIFTLINE_RECORD_H
#define DRIFTLINE_RECORD_H

#include <linux/types.h>

#include "exec_record.h"

/* Limits of the variable parts, in bytes. */
#define CGROUP_NAME_MAX 256 /* a kernfs name has at most 255 bytes (NAME_MAX), then NUL */
#define CGROUP_BYTES_MAX (3 * CGROUP_NAME_MAX) /* three containers in one another: mostly six to nine, of 71 bytes each */
#define PATH_BYTES_MAX 4096 /* PATH_MAX */
#define ARGS_BYTES_MAX 4096 /* driftline_schemas::limits::ARGS_BYTES_MAX */
#define COMPONENT_MAX 256 /* NAME_MAX and NUL */
#define TTY_NAME_MAX 64 /* sizeof(tty_struct.name) */
#define ENV_BYTES_MAX 4096 /* the hundred variables of a pod with a few dozen services; user space keeps a few names only */

/* What a file's content is recognised by; user space says of which files it knows the digest. Five words, without padding. */
struct known_file {
	__u64 dev; /* kernel encoding: major << 20 | minor */
	__u64 ino;
	__u64 real_ino;
	__s64 ctime_ns;
	__s64 size_bytes;
};
_Static_assert(sizeof(struct known_file) == 40, "size of struct known_file changed");

/*
 * Cgroup names are those of containers, innermost first, with slashes between. Path, cwd and mount_root are written component
 * by component from the file upwards, each ended by NUL.
 *
 * Room for the variable parts. Each part is written only where its own maximum still fits, so the sum of the maxima,
 * with one component of slack for each walk, is enough.
 */
#define DATA_BYTES \
	(CGROUP_BYTES_MAX + 4 * (PATH_BYTES_MAX + COMPONENT_MAX) + ARGS_BYTES_MAX + TTY_NAME_MAX + COMPONENT_MAX + \
	 ENV_BYTES_MAX)

/* Indices of the per-CPU counters. */
enum counter {
	COUNTER_SEEN, /* execs of processes that are in a container or may be */
	COUNTER_HOST, /* execs of host processes, dropped */
	COUNTER_ORDINARY, /* records in the ordinary ring */
	COUNTER_SUSPICIOUS, /* records in the suspicious ring */
	COUNTER_ORDINARY_LOST, /* ring was full */
	COUNTER_SUSPICIOUS_LOST,
	COUNTER_KNOWN, /* suspicious execs of files whose content is known */
	COUNTER_COUNT,
};

#endif
