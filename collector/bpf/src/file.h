/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the kernel knows of the executed file. Part of exec.bpf.c. */
#ifndef DRIFTLINE_FILE_H
#define DRIFTLINE_FILE_H

#include "scratch.h"

#define OVERLAYFS_SUPER_MAGIC 0x794c7630

/* Since 6.13 a ctime carries "somebody has read it" in this bit (I_CTIME_QUERIED). */
#define CTIME_QUERIED (1u << 31)

/* Set by the loader. Overlay keeps a file's layers in its inode (6.5 and later), not in its directory entry. */
const volatile __u32 overlay_layers_in_inode = 1;

/*
 * What a file's content is recognised by. Inlined for a pointer of which the verifier knows that it is an inode, which costs
 * nothing to read, and once more, through probes, for one that was computed.
 */
#define READ_STAT(head, inode, READ)                                                     \
	({                                                                               \
		struct inode___timespec *older = (void *)(inode);                        \
		struct inode___private *middle = (void *)(inode);                        \
		(head)->real_ino = READ(inode, i_ino);                                   \
		(head)->size_bytes = READ(inode, i_size);                                \
		(head)->nlink = READ(inode, i_nlink);                                    \
		if (bpf_core_field_exists((inode)->i_mtime_sec)) {                       \
			(head)->mtime_sec = READ(inode, i_mtime_sec);                    \
			(head)->mtime_nsec = READ(inode, i_mtime_nsec);                  \
		} else if (bpf_core_field_exists(middle->__i_mtime)) {                   \
			(head)->mtime_sec = READ(middle, __i_mtime.tv_sec);              \
			(head)->mtime_nsec = READ(middle, __i_mtime.tv_nsec);            \
		} else {                                                                 \
			(head)->mtime_sec = READ(older, i_mtime.tv_sec);                 \
			(head)->mtime_nsec = READ(older, i_mtime.tv_nsec);               \
		}                                                                        \
		if (bpf_core_field_exists((inode)->i_ctime_sec)) {                       \
			(head)->ctime_sec = READ(inode, i_ctime_sec);                    \
			(head)->ctime_nsec = READ(inode, i_ctime_nsec) & ~CTIME_QUERIED; \
		} else if (bpf_core_field_exists(middle->__i_ctime)) {                   \
			(head)->ctime_sec = READ(middle, __i_ctime.tv_sec);              \
			(head)->ctime_nsec = READ(middle, __i_ctime.tv_nsec);            \
		} else {                                                                 \
			(head)->ctime_sec = READ(older, i_ctime.tv_sec);                 \
			(head)->ctime_nsec = READ(older, i_ctime.tv_nsec);               \
		}                                                                        \
	})
#define DIRECTLY(from, field) ((from)->field)

/* Layers: their number, padding, then for each { struct ovl_layer *layer; struct dentry *dentry }. */
static __always_inline void read_lower(struct exec_record *head, void *layers)
{
	struct {
		__u64 count;
		void *layer;
		struct dentry *dentry;
	} topmost = {};

	bpf_probe_read_kernel(&topmost, sizeof(topmost), layers);
	struct dentry *lower = topmost.dentry;
	head->lower_count = (__u32)topmost.count;
	if (head->lower_count && lower)
		head->lower_ino = BPF_CORE_READ(lower, d_inode, i_ino);
}

/* Of `struct ovl_inode`'s flags: the upper file has the data too. The same number from 4.19 to 6.18. */
#define OVL_UPPERDATA_BIT 3

/*
 * Overlay's own inode is `struct ovl_inode`, whose members after the `struct inode` in it have been, since 4.13: the
 * upper directory entry, and since 6.5 the layers. Its type is in no BTF that a loader sees when overlay is a module,
 * so it is found by the size of `struct inode`. Returns the upper file's inode, which is the one that changes, or NULL.
 */
static __always_inline struct inode *read_overlay(struct exec_record *head, struct inode *inode, struct dentry *dentry)
{
	struct {
		struct dentry *upper;
		/* struct ovl_entry { unsigned int __numlower; … } */
		void *layers;
	} after = {};

	head->flags |= FLAG_OVERLAY;
	bpf_probe_read_kernel(&after, sizeof(after), (void *)inode + bpf_core_type_size(struct inode));
	if (!overlay_layers_in_inode) {
		/* struct ovl_entry { struct rcu_head rcu; unsigned int numlower; … } */
		after.layers = dentry->d_fsdata;
		if (after.layers)
			after.layers += 16;
	}
	if (after.layers)
		read_lower(head, after.layers);
	struct dentry *upper = after.upper;
	if (!upper)
		return NULL;
	head->flags |= FLAG_UPPER;
	/* The member before the inode. */
	unsigned long flags = 0;
	bpf_probe_read_kernel(&flags, sizeof(flags), (void *)inode - sizeof(flags));
	if (flags & 1ul << OVL_UPPERDATA_BIT)
		head->flags |= FLAG_UPPER_DATA;
	return BPF_CORE_READ(upper, d_inode);
}

static __always_inline void read_file(struct exec_record *head, struct file *file)
{
	struct inode *inode = file->f_inode, *upper = NULL;

	head->dev = inode->i_sb->s_dev;
	head->fs_magic = inode->i_sb->s_magic;
	if (head->fs_magic == OVERLAYFS_SUPER_MAGIC)
		upper = read_overlay(head, inode, file->f_path.dentry);
	head->ino = inode->i_ino;
	head->mode = inode->i_mode;
	if (upper)
		READ_STAT(head, upper, BPF_CORE_READ);
	else
		READ_STAT(head, inode, DIRECTLY);
}

#endif
