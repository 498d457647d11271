/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What standard input, output and error are. Part of exec.bpf.c. */
#ifndef DRIFTLINE_FDS_H
#define DRIFTLINE_FDS_H

#include "scratch.h"

#define S_IFMT 00170000
#define S_IFSOCK 0140000
#define AF_INET 2
#define AF_INET6 10

/* The peer of a connected socket: of a shell whose input this is, who commands it. */
static __noinline int read_peer(struct fd_record *fd, struct socket *socket)
{
	struct sock *sock = BPF_CORE_READ(socket, sk);

	fd->family = BPF_CORE_READ(sock, __sk_common.skc_family);
	if (fd->family == AF_INET)
		BPF_CORE_READ_INTO((__u32 *)fd->address, sock, __sk_common.skc_daddr);
	else if (fd->family == AF_INET6)
		BPF_CORE_READ_INTO(&fd->address, sock, __sk_common.skc_v6_daddr);
	else
		return 0;
	fd->port = BPF_CORE_READ(sock, __sk_common.skc_dport);
	return 0;
}

static __always_inline void read_fd(struct fd_record *fd, struct file *file)
{
	struct inode *inode = file->f_inode;

	fd->ino = inode->i_ino;
	fd->mode = inode->i_mode;
	fd->rdev = inode->i_rdev;
	if ((fd->mode & S_IFMT) == S_IFSOCK)
		read_peer(fd, file->private_data);
}

/* A process that has had 64 files open at once keeps them in a table of its own, of which only the address is known. */
static __noinline int read_fd_table(struct exec_record *head, struct file **table)
{
	struct file *open[FDS] = {};

	bpf_probe_read_kernel(&open, sizeof(open), table);
	for (int each = 0; each < FDS; each++) {
		struct fd_record *fd = &head->fds[each];
		struct file *file = open[each];
		if (!file)
			continue;
		struct inode *inode = BPF_CORE_READ(file, f_inode);
		fd->ino = BPF_CORE_READ(inode, i_ino);
		fd->mode = BPF_CORE_READ(inode, i_mode);
		fd->rdev = BPF_CORE_READ(inode, i_rdev);
		if ((fd->mode & S_IFMT) == S_IFSOCK)
			read_peer(fd, BPF_CORE_READ(file, private_data));
	}
	return 0;
}

static __always_inline void read_fds(struct exec_record *head, struct task_struct *task)
{
	struct files_struct *files = task->files;

	if (files->fdt != &files->fdtab) {
		read_fd_table(head, files->fdt->fd);
		return;
	}
	if (files->fd_array[0])
		read_fd(&head->fds[0], files->fd_array[0]);
	if (files->fd_array[1])
		read_fd(&head->fds[1], files->fd_array[1]);
	if (files->fd_array[2])
		read_fd(&head->fds[2], files->fd_array[2]);
}

#endif
