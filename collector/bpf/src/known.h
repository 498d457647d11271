/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which files need not be hashed any more: nobody has to be woken for them. Part of exec.bpf.c. */
#ifndef DRIFTLINE_KNOWN_H
#define DRIFTLINE_KNOWN_H

#include "record.h"

#define KNOWN_FILES 1024

/*
 * Each file has one place, by its inode number; whoever comes last has it. While user space writes one it may be seen half
 * written, and then is no file's: that costs a wake-up.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KNOWN_FILES);
	__type(key, __u32);
	__type(value, struct known_file);
} known_files SEC(".maps");

static __always_inline bool is_known(const struct exec_record *head)
{
	__u32 place = head->ino % KNOWN_FILES;
	const struct known_file *known = bpf_map_lookup_elem(&known_files, &place);
	return known && known->ino == head->ino && known->real_ino == head->real_ino && known->dev == head->dev &&
	       known->size_bytes == head->size_bytes &&
	       known->ctime_ns == head->ctime_sec * 1000000000 + head->ctime_nsec;
}

#endif
