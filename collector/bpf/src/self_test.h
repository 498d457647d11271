/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Lets the collector prove at its start that what is read here is true on this very kernel: execs of one process's
 * children are recorded, in a container or not, into a ring of their own. They are not counted, and no reader of the
 * other rings ever sees them. Part of exec.bpf.c.
 */
#ifndef DRIFTLINE_SELF_TEST_H
#define DRIFTLINE_SELF_TEST_H

#include "scratch.h"

/* A dozen records at the most, each of less than 20 KiB and usually of 500 bytes. One page where pages have 64 KiB. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 10);
} self_test SEC(".maps");

/* Process id of the parent; 0 when no test is going on. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} self_test_parent SEC(".maps");

static __always_inline bool is_self_test(struct task_struct *task)
{
	__u32 zero = 0;
	__u32 *parent = bpf_map_lookup_elem(&self_test_parent, &zero);
	return parent && *parent && (__u32)task->real_parent->tgid == *parent;
}

#endif
