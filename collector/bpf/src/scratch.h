/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where a record is put together, and how things are appended to it. Part of exec.bpf.c. */
#ifndef DRIFTLINE_SCRATCH_H
#define DRIFTLINE_SCRATCH_H

#include <linux/bpf.h>

#include "kernel_types.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "record.h"

/*
 * How fields are read. `task`, `bprm` and what hangs off them by plain pointers are read like any structure: the verifier
 * knows their types, and such a load costs nothing. Where a pointer had to be computed (a structure around another, an
 * array by a variable index, overlay's inode) it does not, and BPF_CORE_READ asks a helper, at about 15 ns each.
 */

/* Byte offset of a field in the running kernel; libbpf has a macro for it only since 0.8. */
#define OFFSET_OF(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_BYTE_OFFSET)

struct scratch {
	struct exec_record head;
	__u8 data[DATA_BYTES];
	/* Bytes of `data` in use. Kept here, not in a register: the verifier then need not tell loop rounds apart. */
	__u32 used;
	/* Of the path written last: its bytes below the mount by which its file was reached. */
	__u32 below_mount;
	/* Whose names still stand at the start of `data`: cgroups are asked by number, which is none's twice in a boot. */
	__u32 cgroup_bytes;
	__u64 cgroup_id;
	__u64 cgroup_v1_id; /* 0: the first one was enough */
};

/* A record is put together here, and copied to a ring in its true length: most have 500 bytes, not 22 KiB. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* The iterator's own: unlike the hook it can be interrupted, and then by the hook. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} snapshot_scratch SEC(".maps");

/* Where the next `room` bytes go, or NULL when they do not fit. */
static __always_inline void *space(struct scratch *scratch, __u32 room)
{
	__u32 used = *(volatile __u32 *)&scratch->used;
	if (used > DATA_BYTES - room)
		return NULL;
	return &scratch->data[used];
}

/* Appends a NUL-terminated kernel string without its NUL; returns its length. */
static __always_inline __u16 append_string(struct scratch *scratch, const void *from, __u32 room)
{
	void *to = space(scratch, room);
	if (!to)
		return 0;
	long length = bpf_probe_read_kernel_str(to, room, from);
	if (length <= 1)
		return 0;
	scratch->used += length - 1;
	return length - 1;
}

#endif
