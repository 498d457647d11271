/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Paths, as the container sees them. Part of exec.bpf.c. */
#ifndef DRIFTLINE_PATH_H
#define DRIFTLINE_PATH_H

#include "scratch.h"

/* Deeper paths lose their beginning and are flagged; the verifier walks every step. */
#define PATH_COMPONENTS_MAX 128

struct walk {
	struct dentry *dentry;
	struct vfsmount *mnt;
	/* Root mount of the process's mount namespace. */
	struct mount *top;
};

enum walk_end { WALK_COMPLETE, WALK_TRUNCATED, WALK_ANONYMOUS, WALK_UNREACHED };

/*
 * Appends the components of a path, last one first. Goes on above a chroot, up to the root of the mount namespace: the
 * container's files are named by what they are in the container.
 */
static __noinline int append_path(struct scratch *scratch, struct walk *at)
{
	struct dentry *dentry = at->dentry;
	struct vfsmount *vfsmount = at->mnt;
	struct dentry *mnt_root = BPF_CORE_READ(vfsmount, mnt_root);
	__u32 begin = *(volatile __u32 *)&scratch->used;

	for (int step = 0; step < PATH_COMPONENTS_MAX; step++) {
		struct dentry *parent;
		if (dentry == mnt_root) {
			struct mount *mount = (void *)vfsmount - OFFSET_OF(struct mount, mnt);
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);
			if (mount == at->top)
				return WALK_COMPLETE;
			if (above == mount)
				return WALK_UNREACHED;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			vfsmount = (void *)above + OFFSET_OF(struct mount, mnt);
			mnt_root = BPF_CORE_READ(vfsmount, mnt_root);
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		void *to = space(scratch, COMPONENT_MAX);
		if (!to || *(volatile __u32 *)&scratch->used - begin > PATH_BYTES_MAX)
			return WALK_TRUNCATED;
		long length = bpf_probe_read_kernel_str(to, COMPONENT_MAX, BPF_CORE_READ(dentry, d_name.name));
		if (length <= 0)
			return WALK_UNREACHED;
		scratch->used += length;
		if (parent == dentry)
			return WALK_ANONYMOUS;
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
