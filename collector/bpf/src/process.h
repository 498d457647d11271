/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the kernel knows of the process and its ancestors. Part of exec.bpf.c. */
#ifndef DRIFTLINE_PROCESS_H
#define DRIFTLINE_PROCESS_H

#include "file.h"
#include "path.h"
#include "scratch.h"

/* How far up the ancestors are followed. */
#define ANCESTORS_MAX 32

/* Set by the loader: inode number of the host's mount namespace; 0: not known. */
const volatile __u32 host_mnt_ns = 0;

/* Process id in the task's own pid namespace, and that namespace. */
static __always_inline void read_upid(struct task_struct *task, struct upid *upid)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	void *numbers = (void *)pid + OFFSET_OF(struct pid, numbers);
	__u32 level = task->thread_pid->level;
	upid->nr = 0;
	upid->ns = NULL;
	/* Both fields at once: they are the structure, in this order, since there are pid namespaces. */
	bpf_probe_read_kernel(upid, sizeof(*upid), numbers + level * sizeof(*upid));
}

/* Follows the parents while they are in the task's pid namespace: does the first of them have process id 1 there? */
static __noinline int read_ancestors(struct exec_record *head, struct task_struct *task)
{
	struct upid own, next;
	struct task_struct *ancestor = task->real_parent;

	read_upid(task, &own);
	head->ns_pid = own.nr;
	head->pid_ns = BPF_CORE_READ(own.ns, ns.inum);
	if (task->thread_pid->level == 0)
		head->flags |= FLAG_HOST_PID;
	int topmost = own.nr;
	for (int step = 0; step < ANCESTORS_MAX && ancestor; step++) {
		read_upid(ancestor, &next);
		if (next.ns != own.ns) {
			if (topmost != 1)
				head->flags |= FLAG_OUTSIDE;
			if (step == 0)
				head->flags |= FLAG_PARENT_OUTSIDE;
			break;
		}
		topmost = next.nr;
		if (topmost == 1)
			break;
		ancestor = ancestor->real_parent;
	}
	return 0;
}

/*
 * The mount namespace of the nearest ancestor that is in another one. Asked of processes that see the host: a runtime's
 * helper on its way into a container never was in the container's, one that broke out was.
 */
static __noinline int read_outer_mnt_ns(struct exec_record *head, struct task_struct *task)
{
	struct task_struct *ancestor = task->real_parent;
	for (int step = 0; step < ANCESTORS_MAX && ancestor; step++) {
		/* A process that is ending has none any more. */
		__u32 inum = ancestor->nsproxy->mnt_ns->ns.inum;
		if (inum && inum != head->mnt_ns) {
			head->outer_mnt_ns = inum;
			return 0;
		}
		/* The first process of all is the child of the idle task, which is its own parent. */
		if (ancestor->tgid == 0)
			return 0;
		ancestor = ancestor->real_parent;
	}
	return 0;
}

/* Host user id of user 0 of the namespace: the extent that begins at 0, of a few in place or of many in an array. */
static __always_inline __u32 ns_root_uid(struct user_namespace *ns)
{
	struct uid_gid_extent extent = {};
	__u32 extents = BPF_CORE_READ(ns, uid_map.nr_extents);
	void *at = (void *)ns + OFFSET_OF(struct user_namespace, uid_map) + OFFSET_OF(struct uid_gid_map, extent);
	if (extents > 5) {
		/* Sorted by the id inside. */
		at = BPF_CORE_READ(ns, uid_map.forward);
		extents = 1;
	}
	for (__u32 each = 0; each < 5 && each < extents; each++) {
		/* first, lower_first, count: 32 bits each, since 3.5. */
		bpf_probe_read_kernel(&extent, sizeof(extent), at + each * sizeof(extent));
		if (extent.first == 0)
			return extent.lower_first;
	}
	return -1;
}

static __always_inline void read_process(struct exec_record *head, struct task_struct *task)
{
	struct task_struct *parent = task->real_parent->group_leader;

	head->tgid = task->tgid;
	head->start_ns = task->start_boottime;
	head->exec_count = task->self_exec_id;
	head->parent_tgid = parent->tgid;
	head->parent_start_ns = parent->start_boottime;
	BPF_CORE_READ_INTO(&head->parent_comm, parent, comm);
	head->uid = task->cred->uid.val;
	head->gid = task->cred->gid.val;
	head->euid = task->cred->euid.val;
	head->egid = task->cred->egid.val;
	head->ns_root_uid = ns_root_uid(BPF_CORE_READ(task, cred, user_ns));
	head->mnt_ns = task->nsproxy->mnt_ns->ns.inum;
	read_ancestors(head, task);
	if (head->flags & FLAG_HOST_PID || (host_mnt_ns && head->mnt_ns == host_mnt_ns))
		read_outer_mnt_ns(head, task);
}

static __always_inline void read_root(struct exec_record *head, struct task_struct *task)
{
	struct vfsmount *mnt = task->fs->root.mnt;

	head->root_dev = mnt->mnt_sb->s_dev;
	head->root_fs_magic = mnt->mnt_sb->s_magic;
	head->root_mnt_id = mount_id(BPF_CORE_READ(task, fs, root.mnt));
	if (head->root_fs_magic == OVERLAYFS_SUPER_MAGIC)
		head->flags |= FLAG_ROOT_OVERLAY;
	if (mnt->mnt_root != task->fs->root.dentry)
		head->flags |= FLAG_CHROOTED;
}

#endif
