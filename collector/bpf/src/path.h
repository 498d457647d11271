/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Paths, as the container sees them. Part of exec.bpf.c. */
#ifndef DRIFTLINE_PATH_H
#define DRIFTLINE_PATH_H

#include "scratch.h"

/* Deeper paths lose their beginning and are flagged; the verifier walks every step. */
#define PATH_COMPONENTS_MAX 128

/* No mount was reached. */
#define BELOW_MOUNT_UNKNOWN 0xffffffff

enum walk_end { WALK_COMPLETE, WALK_TRUNCATED, WALK_ANONYMOUS, WALK_UNREACHED };

/* Appends one component, at most to the limit of a path that begins there. */
static __always_inline enum walk_end append_component(struct scratch *scratch, __u32 begin, const void *name)
{
	void *to = space(scratch, COMPONENT_MAX);
	if (!to || *(volatile __u32 *)&scratch->used - begin > PATH_BYTES_MAX)
		return WALK_TRUNCATED;
	long length = bpf_probe_read_kernel_str(to, COMPONENT_MAX, name);
	if (length <= 0)
		return WALK_UNREACHED;
	scratch->used += length;
	return WALK_COMPLETE;
}

/* Where a mount is mounted. */
struct place {
	struct mount *mount;
	struct dentry *dentry;
};

static __always_inline struct place place_of(struct mount *mount)
{
	struct place place = {};
	/* Both at once: they stand side by side, unless somebody built the kernel with its structures shuffled. */
	if (OFFSET_OF(struct mount, mnt_mountpoint) == OFFSET_OF(struct mount, mnt_parent) + sizeof(place.mount)) {
		bpf_probe_read_kernel(&place, sizeof(place), (void *)mount + OFFSET_OF(struct mount, mnt_parent));
	} else {
		place.mount = BPF_CORE_READ(mount, mnt_parent);
		place.dentry = BPF_CORE_READ(mount, mnt_mountpoint);
	}
	return place;
}

/* The rest of a path, from a mount on: by addresses, as a mount is found by that of a member. */
static __noinline int append_above(struct scratch *scratch, __u32 begin, struct mount *mount, struct mount *top)
{
	struct dentry *dentry = NULL, *mnt_root = NULL;

	for (int step = 0; step < PATH_COMPONENTS_MAX; step++) {
		if (dentry == mnt_root) {
			if (mount == top)
				return WALK_COMPLETE;
			struct place place = place_of(mount);
			if (place.mount == mount)
				return WALK_UNREACHED;
			dentry = place.dentry;
			mount = place.mount;
			mnt_root = mount == top ? top->mnt.mnt_root : BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		enum walk_end end = append_component(scratch, begin, BPF_CORE_READ(dentry, d_name.name));
		if (end != WALK_COMPLETE)
			return end;
		if (parent == dentry)
			return WALK_ANONYMOUS;
		dentry = parent;
	}
	return WALK_TRUNCATED;
}

/*
 * Appends the components of a path, last one first. Goes on above a chroot, up to the root of the mount namespace: the
 * container's files are named by what they are in the container.
 */
static __noinline int append_path(struct scratch *scratch, struct task_struct *task, struct dentry *dentry,
				  struct vfsmount *mnt)
{
	struct dentry *mnt_root = mnt->mnt_root;
	struct mount *top = task->nsproxy->mnt_ns->root;
	__u32 begin = *(volatile __u32 *)&scratch->used;

	scratch->below_mount = BELOW_MOUNT_UNKNOWN;
	for (int step = 0; step < PATH_COMPONENTS_MAX; step++) {
		if (dentry == mnt_root) {
			scratch->below_mount = *(volatile __u32 *)&scratch->used - begin;
			if (mnt == &top->mnt)
				return WALK_COMPLETE;
			return append_above(scratch, begin, (void *)mnt - OFFSET_OF(struct mount, mnt), top);
		}
		struct dentry *parent = dentry->d_parent;
		enum walk_end end = append_component(scratch, begin, dentry->d_name.name);
		if (end != WALK_COMPLETE)
			return end;
		if (parent == dentry)
			return WALK_ANONYMOUS;
		dentry = parent;
	}
	return WALK_TRUNCATED;
}

/*
 * Appends the components of a mount's root within its file system, last one first. Inside a container anybody with the right to
 * mount can show a directory of its overlay elsewhere; the path within the overlay is that of the image.
 */
static __noinline int append_mount_root(struct scratch *scratch, struct vfsmount *mnt)
{
	struct dentry *dentry = mnt->mnt_root, *top = mnt->mnt_sb->s_root;
	__u32 begin = *(volatile __u32 *)&scratch->used;

	for (int step = 0; step < PATH_COMPONENTS_MAX; step++) {
		if (dentry == top)
			return WALK_COMPLETE;
		struct dentry *parent = dentry->d_parent;
		enum walk_end end = append_component(scratch, begin, dentry->d_name.name);
		if (end != WALK_COMPLETE)
			return end;
		if (parent == dentry)
			return WALK_UNREACHED;
		dentry = parent;
	}
	return WALK_TRUNCATED;
}

static __always_inline __u32 mount_id(struct vfsmount *vfsmount)
{
	struct mount *mount = (void *)vfsmount - OFFSET_OF(struct mount, mnt);
	return BPF_CORE_READ(mount, mnt_id);
}

#endif
