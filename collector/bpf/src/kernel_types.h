/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel structures that exec.bpf.c reads, cut down to the fields it reads.
 *
 * Offsets here mean nothing: every access is relocated against the running kernel's BTF (CO-RE), by type and field
 * name. What a kernel names differently has a second type with a ___suffix, which relocation ignores; the program asks
 * which one exists. Sources: Linux 5.10, 6.1, 6.6, 6.12 and 6.18.
 */
#ifndef DRIFTLINE_KERNEL_TYPES_H
#define DRIFTLINE_KERNEL_TYPES_H

#include <linux/types.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { __u32 val; } kuid_t;
typedef struct { __u32 val; } kgid_t;

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct dentry *s_root;
};

/* 6.11 and later. */
struct inode {
	__u16 i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	__u32 i_rdev;
	__s64 i_size;
	__s64 i_mtime_sec;
	__s64 i_ctime_sec;
	__u32 i_mtime_nsec;
	__u32 i_ctime_nsec;
};

/* Before 6.6 (ctime) and 6.7 (mtime). */
struct inode___timespec {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
};

/* From there until 6.10. */
struct inode___private {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	void *d_fsdata;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	int mnt_id;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct inode *f_inode;
	struct path f_path;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
	struct fdtable fdtab;
	struct file *fd_array[64];
};

struct in6_addr {
	__u8 s6_addr[16];
};

struct sock_common {
	__u32 skc_daddr;
	__u16 skc_dport;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
};

struct sock {
	struct sock_common __sk_common;
};

struct socket {
	struct sock *sk;
};

struct linux_binprm {
	unsigned int secureexec : 1;
	struct file *file;
	const char *filename;
	const char *interp;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
	struct mount *root;
};

/* Until 6.17: numbers that are given once. */
struct mnt_namespace___seq {
	__u64 seq;
};

/* 6.18 and later. */
struct ns_common___id {
	__u64 ns_id;
};

struct pid_namespace {
	struct ns_common ns;
	struct task_struct *child_reaper;
	unsigned int level;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct uid_gid_extent {
	__u32 first;
	__u32 lower_first;
	__u32 count;
};

/* The kernel has these in unions; relocation looks through them. */
struct uid_gid_map {
	__u32 nr_extents;
	union {
		struct uid_gid_extent extent[5];
		struct uid_gid_extent *forward;
	};
};

struct user_namespace {
	struct uid_gid_map uid_map;
	struct uid_gid_map gid_map;
	int level;
};

/* 6.3 and later; see CAPABILITIES. */
typedef struct {
	__u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

/* Until 6.14. */
struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	__u64 id;
};

/* 6.15 and later. */
struct kernfs_node___private {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

/* The number differs between kernels; its relocation is by name. */
enum cgroup_subsys_id {
	pids_cgrp_id = 11,
};

struct tty_struct {
	char name[64];
};

/* Number 3 since 4.19, which has one more than before; relocated by name. */
enum pid_type {
	PIDTYPE_SID = 3,
};

struct signal_struct {
	struct tty_struct *tty;
	struct pid *pids[4];
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
};

struct task_struct {
	struct mm_struct *mm;
	__s32 pid;
	__s32 tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	__u64 self_exec_id;
	struct css_set *cgroups;
};

#pragma clang attribute pop

/* Contexts of iterators: their layout is fixed, and not relocated. */
struct bpf_iter_meta {
	void *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#endif
