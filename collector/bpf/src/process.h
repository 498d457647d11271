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

/* The number of a mount namespace that no other one ever has; 0 where the kernel has none. */
static __always_inline __u64 mnt_ns_id(struct mnt_namespace *ns)
{
	struct mnt_namespace___seq *older = (void *)ns;
	struct ns_common___id *common = (void *)&ns->ns;
	if (bpf_core_field_exists(older->seq))
		return older->seq;
	if (bpf_core_field_exists(common->ns_id))
		return common->ns_id;
	return 0;
}

/* Process id in the task's own pid namespace, and that namespace. */
static __always_inline void read_upid(struct task_struct *task, struct upid *upid)
{
	void *numbers = (void *)task->thread_pid + OFFSET_OF(struct pid, numbers);
	__u32 level = task->thread_pid->level;
	upid->nr = 0;
	upid->ns = NULL;
	/* Both fields at once: they are the structure, in this order, since there are pid namespaces. */
	bpf_probe_read_kernel(upid, sizeof(*upid), numbers + level * sizeof(*upid));
}

/*
 * Whether a process is the first one of its pid namespace or descends from it, as far as a few ancestors tell. Its children's
 * namespace is its own when it is as deep: they can only be put into a deeper one.
 */
static __always_inline bool descends_from_init(struct task_struct *task)
{
	struct pid_namespace *ns = task->nsproxy->pid_ns_for_children;
	struct task_struct *ancestor = task;
	__s32 init = ns->child_reaper->tgid;

	if (ns->level != task->thread_pid->level || init == 0)
		return false;
	for (int step = 0; step < ANCESTORS && ancestor; step++) {
		if (ancestor->tgid == init)
			return true;
		ancestor = ancestor->real_parent;
	}
	return false;
}

/* Follows the parents while they are in the task's pid namespace: does the first of them have process id 1 there? */
static __noinline int read_ancestors(struct exec_record *head, struct task_struct *task)
{
	struct upid own, next;
	struct task_struct *ancestor = task->real_parent;

	read_upid(task, &own);
	head->ns_pid = own.nr;
	if (task->thread_pid->level == 0)
		head->flags |= FLAG_HOST_PID;
	else if (task->thread_pid->level > 1)
		head->flags |= FLAG_NESTED_PID;
	/* Mostly so, and all of it is read like any member. */
	if (descends_from_init(task)) {
		head->pid_ns = task->nsproxy->pid_ns_for_children->ns.inum;
		if (own.nr == 1)
			head->flags |= FLAG_PARENT_OUTSIDE;
		return 0;
	}
	head->pid_ns = BPF_CORE_READ(own.ns, ns.inum);
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

/*
 * What two host ids are in a user namespace; unmapped is -1. Of a map with more than five extents, which the kernel keeps
 * in an array sorted by the id inside, the first five are read: nobody's first ids lie further on.
 */
static __noinline int ids_inside(struct uid_gid_map *map, const __u32 *host, __u32 *inside)
{
	/* first, lower_first, count: 32 bits each, since 3.5. */
	struct uid_gid_extent extents[5] = {};
	__u32 count = BPF_CORE_READ(map, nr_extents);
	void *at = (void *)map + OFFSET_OF(struct uid_gid_map, extent);

	if (count > 5)
		at = BPF_CORE_READ(map, forward);
	bpf_probe_read_kernel(extents, sizeof(extents), at);
	inside[0] = inside[1] = -1;
	for (__u32 each = 0; each < 5 && each < count; each++) {
		struct uid_gid_extent *extent = &extents[each];
#pragma unroll
		for (int which = 0; which < 2; which++)
			if (host[which] - extent->lower_first < extent->count)
				inside[which] = extent->first + (host[which] - extent->lower_first);
	}
	return 0;
}

static __always_inline void read_ids(struct exec_record *head, struct task_struct *task)
{
	head->uid = task->cred->uid.val;
	head->gid = task->cred->gid.val;
	head->euid = task->cred->euid.val;
	head->egid = task->cred->egid.val;
	__u32 users[2] = { head->uid, head->euid }, groups[2] = { head->gid, head->egid };
	if (task->cred->user_ns->level > 0) {
		struct user_namespace *ns = BPF_CORE_READ(task, cred, user_ns);
		__u32 users_inside[2], groups_inside[2];
		ids_inside((void *)ns + OFFSET_OF(struct user_namespace, uid_map), users, users_inside);
		ids_inside((void *)ns + OFFSET_OF(struct user_namespace, gid_map), groups, groups_inside);
		users[0] = users_inside[0];
		users[1] = users_inside[1];
		groups[0] = groups_inside[0];
		groups[1] = groups_inside[1];
	}
	head->ns_uid = users[0];
	head->ns_euid = users[1];
	head->ns_gid = groups[0];
	head->ns_egid = groups[1];
}

/* Who started it, and who started that. Comes to its end at the first process. */
static __noinline int read_parents(struct exec_record *head, struct task_struct *task)
{
	struct task_struct *parent = task->real_parent->group_leader;
	for (__u32 level = 0; level < ANCESTORS && parent; level++) {
		struct ancestor_record *ancestor = &head->ancestors[level];
		if (parent->tgid == 0)
			break;
		ancestor->start_ns = parent->start_boottime;
		ancestor->pid = parent->tgid;
		/* Kernel threads, and processes that are ending, have no program: zero. */
		ancestor->ino = parent->mm->exe_file->f_inode->i_ino;
		ancestor->dev = parent->mm->exe_file->f_inode->i_sb->s_dev;
		/* Two words, which may be read directly like any member; a helper would cost as much as all the rest. */
		__u64 *comm = (__u64 *)ancestor->comm, *name = (__u64 *)parent->comm;
		comm[0] = name[0];
		comm[1] = name[1];
		head->ancestor_count = level + 1;
		if (parent->tgid == 1)
			break;
		parent = parent->real_parent->group_leader;
	}
	return 0;
}

/* A set of 64 bits: two words until 6.2, one since. */
#define CAPABILITIES(task, set)                                                             \
	({                                                                                  \
		__u64 capabilities = 0;                                                     \
		if (bpf_core_field_exists((task)->cred->set.val))                           \
			capabilities = (task)->cred->set.val;                               \
		else                                                                        \
			bpf_probe_read_kernel(&capabilities, sizeof(capabilities), &(task)->cred->set); \
		capabilities;                                                               \
	})

static __always_inline void read_process(struct exec_record *head, struct task_struct *task)
{
	head->pid = task->tgid;
	head->start_ns = task->start_boottime;
	head->exec_count = task->self_exec_id;
	/* The first number is that in the host's pid namespace. */
	head->session_id = task->signal->pids[PIDTYPE_SID]->numbers[0].nr;
	read_ids(head, task);
	head->capabilities = CAPABILITIES(task, cap_effective);
	head->mnt_ns = task->nsproxy->mnt_ns->ns.inum;
	head->mnt_ns_id = mnt_ns_id(task->nsproxy->mnt_ns);
	read_ancestors(head, task);
	read_parents(head, task);
	if (head->flags & FLAG_HOST_PID || (host_mnt_ns && head->mnt_ns == host_mnt_ns))
		read_outer_mnt_ns(head, task);
}

static __always_inline void read_root(struct exec_record *head, struct task_struct *task)
{
	struct vfsmount *mnt = task->fs->root.mnt;

	head->root_dev = mnt->mnt_sb->s_dev;
	head->root_fs_magic = mnt->mnt_sb->s_magic;
	head->root_mnt_id = mount_id(mnt);
	if (head->root_fs_magic == OVERLAYFS_SUPER_MAGIC)
		head->flags |= FLAG_ROOT_OVERLAY;
	if (mnt->mnt_root != task->fs->root.dentry)
		head->flags |= FLAG_CHROOTED;
}

#endif
