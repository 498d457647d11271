/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Is a process in a container, and in which? Part of exec.bpf.c. */
#ifndef DRIFTLINE_CONTAINER_H
#define DRIFTLINE_CONTAINER_H

#include "scratch.h"

/*
 * How far up cgroups are looked at: from a process to its container's, and from there to those of the containers it lies in.
 * systemd puts processes three levels below a container's cgroup, and a kubelet its containers five; but who may make
 * cgroups may make more.
 */
#define CGROUP_LEVELS_MAX 64
/* The shortest cgroup name with a container id: 64 hex digits. */
#define CONTAINER_ID_LENGTH 64

static __always_inline bool is_hex(__u8 byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

/*
 * Whether a cgroup name can hold a container id: 64 hex digits at its end, or before ".scope". Eight digits are looked
 * at, user space looks at all; what passes here by accident is counted there.
 */
static __always_inline bool may_be_container(const __u8 *name, long length)
{
	length -= 1; /* NUL */
	if (length < CONTAINER_ID_LENGTH || length >= CGROUP_NAME_MAX)
		return false;
	__u32 end = length;
	/* The last byte of ".scope" is a hex digit too, the one before is not. */
	if (length >= CONTAINER_ID_LENGTH + 6 && name[(end - 2) & 0xff] == 'p')
		end -= 6;
#pragma unroll
	for (int digit = 1; digit <= CONTAINER_ID_LENGTH; digit += 9)
		if (!is_hex(name[(end - digit) & 0xff]))
			return false;
	return true;
}

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	struct kernfs_node___private *newer = (void *)node;
	if (bpf_core_field_exists(newer->__parent))
		return newer->__parent;
	return node->parent;
}

/* Appends the names of the container cgroups above one, from it outwards, each after a slash. */
static __always_inline void append_outer(struct scratch *scratch, struct kernfs_node *node)
{
	for (int level = 0; level < CGROUP_LEVELS_MAX && node; level++) {
		__u32 used = *(volatile __u32 *)&scratch->used;
		if (used > CGROUP_BYTES_MAX - CGROUP_NAME_MAX)
			return;
		__u8 *name = &scratch->data[used];
		long length = bpf_probe_read_kernel_str(name + 1, CGROUP_NAME_MAX, node->name);
		if (may_be_container(name + 1, length)) {
			name[0] = '/';
			scratch->used = used + length;
		}
		node = parent_of(node);
	}
}

enum cgroup_end { CGROUP_OF_CONTAINER, CGROUP_OF_NONE, CGROUP_TRUNCATED };

/* Puts the name of the innermost container cgroup at the start of the data, and after it those it lies in. */
static __noinline int find_container(struct scratch *scratch, struct kernfs_node *node)
{
	for (int level = 0; level < CGROUP_LEVELS_MAX && node; level++) {
		long length = bpf_probe_read_kernel_str(scratch->data, CGROUP_NAME_MAX, node->name);
		if (may_be_container(scratch->data, length)) {
			scratch->used = length - 1;
			append_outer(scratch, parent_of(node));
			scratch->cgroup_bytes = scratch->used;
			return CGROUP_OF_CONTAINER;
		}
		node = parent_of(node);
	}
	return node ? CGROUP_TRUNCATED : CGROUP_OF_NONE;
}

/* The cgroup of the v1 hierarchy that every runtime sets; NULL where there is no v1. */
static __always_inline struct kernfs_node *v1_cgroup(struct task_struct *task)
{
	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		return NULL;
	/* A constant once loaded, so that the verifier still knows what lies there. */
	__u64 pids = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
	struct cgroup_subsys_state **state = (void *)task->cgroups + OFFSET_OF(struct css_set, subsys);
	return state[pids]->cgroup->kn;
}

/*
 * By the unified hierarchy where the runtime uses it, else by v1. A processor often sees one container's execs in a row: the
 * names of the last one are still there.
 */
static __always_inline enum cgroup_end read_cgroups(struct scratch *scratch, struct task_struct *task)
{
	struct kernfs_node *unified = task->cgroups->dfl_cgrp->kn, *v1 = v1_cgroup(task);
	__u64 id = unified->id, v1_id = v1 ? v1->id : 0;

	if (scratch->cgroup_id == id && (scratch->cgroup_v1_id == 0 || scratch->cgroup_v1_id == v1_id)) {
		scratch->used = scratch->cgroup_bytes;
		return CGROUP_OF_CONTAINER;
	}
	scratch->cgroup_id = 0;
	int end = find_container(scratch, unified), v1_end = CGROUP_OF_NONE;
	if (end == CGROUP_OF_CONTAINER)
		scratch->cgroup_v1_id = 0;
	else if (v1 && (v1_end = find_container(scratch, v1)) == CGROUP_OF_CONTAINER)
		scratch->cgroup_v1_id = v1_id;
	else {
		scratch->cgroup_bytes = scratch->used = 0;
		return end == CGROUP_TRUNCATED ? end : v1_end;
	}
	scratch->cgroup_id = id;
	return CGROUP_OF_CONTAINER;
}

#endif
