/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which processes in no container's cgroup may be a container's all the same: those in another mount namespace than the host's.
 * User space decides whether they are. Part of exec.bpf.c.
 */
#ifndef DRIFTLINE_UNCONTAINED_H
#define DRIFTLINE_UNCONTAINED_H

#include "process.h"
#include "scratch.h"

#define UNCONTAINED_MAX 1024

/* Mount namespaces of the node's own services, and until when (CLOCK_BOOTTIME) execs there are not recorded. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UNCONTAINED_MAX);
	__type(key, __u64); /* see mnt_ns_id */
	__type(value, __u64);
} uncontained SEC(".maps");

static __always_inline bool may_be_contained(struct task_struct *task)
{
	struct mnt_namespace *mnt_ns = task->nsproxy->mnt_ns;
	/* A process that is ending has none any more. */
	__u32 inum = mnt_ns->ns.inum;
	if (!inum || inum == host_mnt_ns)
		return false;
	__u64 id = mnt_ns_id(mnt_ns);
	__u64 *until_ns = bpf_map_lookup_elem(&uncontained, &id);
	return !until_ns || *until_ns < bpf_ktime_get_boot_ns();
}

#endif
