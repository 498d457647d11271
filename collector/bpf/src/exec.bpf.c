// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Sees every exec of a process that is in a container, or may be, and writes down what the kernel knows of it; and, asked
 * once, every program that runs so already.
 *
 * Why this hook: `sched_process_exec` fires once for each successful exec, in the process itself, after credentials,
 * memory and namespaces are the new program's. As `tp_btf` it needs neither kprobes nor fentry, which some kernels
 * refuse. It decides nothing but which ring a record goes to; what a file *is* gets decided in user space
 * (driftline-collector-core), from these facts.
 *
 * What is read of a structure depends on which fields the running kernel has, from 5.10 on; see kernel_types.h.
 */
#include "container.h"
#include "fds.h"
#include "file.h"
#include "known.h"
#include "path.h"
#include "process.h"
#include "scratch.h"
#include "self_test.h"
#include "uncontained.h"

#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Sizes are set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ordinary SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} suspicious SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline __u64 count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);
	return value ? ++*value : 0;
}

/* --- variable parts -------------------------------------------------------------------------------------------- */

static __always_inline void append_file_path(struct scratch *scratch, struct task_struct *task, struct file *file)
{
	struct exec_record *head = &scratch->head;
	__u32 begin = scratch->used;
	head->mnt_id = file->f_path.mnt == task->fs->root.mnt ? head->root_mnt_id : mount_id(file->f_path.mnt);
	int end = append_path(scratch, task, file->f_path.dentry, file->f_path.mnt);
	if (end == WALK_COMPLETE)
		head->flags |= FLAG_PATH_COMPLETE;
	else if (end == WALK_TRUNCATED)
		head->flags |= FLAG_PATH_TRUNCATED;
	else if (end == WALK_ANONYMOUS)
		head->flags |= FLAG_PATH_ANONYMOUS;
	head->path_bytes = scratch->used - begin;
	head->below_mount_bytes = scratch->below_mount;
}

/* Of an overlay: all other file systems are judged by their mount. A container's root mount shows the overlay's own root. */
static __always_inline void append_root_of_mount(struct scratch *scratch, struct file *file)
{
	struct exec_record *head = &scratch->head;
	struct vfsmount *mnt = file->f_path.mnt;
	__u32 begin = scratch->used;
	if (!(head->flags & FLAG_OVERLAY) || mnt->mnt_root == mnt->mnt_sb->s_root)
		return;
	if (append_mount_root(scratch, mnt) != WALK_COMPLETE)
		head->below_mount_bytes = BELOW_MOUNT_UNKNOWN;
	head->mount_root_bytes = scratch->used - begin;
}

static __always_inline void append_cwd(struct scratch *scratch, struct task_struct *task)
{
	__u32 begin = scratch->used;
	if (append_path(scratch, task, task->fs->pwd.dentry, task->fs->pwd.mnt) == WALK_COMPLETE)
		scratch->head.flags |= FLAG_CWD_COMPLETE;
	scratch->head.cwd_bytes = scratch->used - begin;
}

/* What reading a part of the program's own memory came to. */
enum user_end { USER_WHOLE, USER_TRUNCATED, USER_UNREADABLE };

/* Both parts have this limit, which the verifier has to see as a number. */
#define USER_BYTES_MAX 4096
_Static_assert(ARGS_BYTES_MAX == USER_BYTES_MAX && ENV_BYTES_MAX == USER_BYTES_MAX, "limits differ");

static __always_inline enum user_end append_user(struct scratch *scratch, unsigned long begin, unsigned long end)
{
	unsigned long length = end - begin;
	bool is_whole = length <= USER_BYTES_MAX;
	void *to = space(scratch, USER_BYTES_MAX);
	if (!to)
		return USER_UNREADABLE;
	/* In assembly, or the compiler would prove the bound and hide it from the verifier. */
	asm volatile("if %[length] <= %[max] goto +1; %[length] = %[max]"
		     : [length] "+r"(length)
		     : [max] "i"(USER_BYTES_MAX));
	if (bpf_probe_read_user(to, length, (void *)begin))
		return USER_UNREADABLE;
	scratch->used += length;
	return is_whole ? USER_WHOLE : USER_TRUNCATED;
}

static __always_inline void append_args(struct scratch *scratch, struct mm_struct *mm)
{
	__u32 begin = scratch->used;
	enum user_end end = append_user(scratch, mm->arg_start, mm->arg_end);
	scratch->head.args_bytes = scratch->used - begin;
	if (end != USER_WHOLE)
		scratch->head.flags |= end == USER_TRUNCATED ? FLAG_ARGS_TRUNCATED : FLAG_ARGS_UNREADABLE;
}

/* Whole, because looking for a few names in it costs more here than copying it; user space keeps the names only. */
static __always_inline void append_environment(struct scratch *scratch, struct mm_struct *mm)
{
	__u32 begin = scratch->used;
	enum user_end end = append_user(scratch, mm->env_start, mm->env_end);
	scratch->head.environment_bytes = scratch->used - begin;
	if (end != USER_WHOLE)
		scratch->head.flags |= end == USER_TRUNCATED ? FLAG_ENV_TRUNCATED : FLAG_ENV_UNREADABLE;
}

/* Both lie behind one another, as the kernel puts them: short ones are copied at once, which costs half. */
static __always_inline void append_args_and_environment(struct scratch *scratch, struct mm_struct *mm)
{
	__u32 begin = scratch->used;
	unsigned long args = mm->arg_end - mm->arg_start, both = mm->env_end - mm->arg_start;
	if (mm->arg_end == mm->env_start && args <= both && both <= USER_BYTES_MAX &&
	    append_user(scratch, mm->arg_start, mm->env_end) == USER_WHOLE) {
		scratch->head.args_bytes = args;
		scratch->head.environment_bytes = scratch->used - begin - args;
		return;
	}
	append_args(scratch, mm);
	append_environment(scratch, mm);
}

static __always_inline void append_tty(struct scratch *scratch, struct task_struct *task)
{
	struct tty_struct *tty = task->signal->tty;
	if (tty)
		scratch->head.tty_bytes = append_string(scratch, &tty->name, TTY_NAME_MAX);
}

/* --- program --------------------------------------------------------------------------------------------------- */

/*
 * An untouched file of the overlay that is the process's root. A file of another overlay proves nothing (anybody may
 * mount one in a user namespace), and of a script the file is only the interpreter.
 */
static __always_inline bool is_ordinary(const struct exec_record *head)
{
	return head->flags & FLAG_OVERLAY && !(head->flags & (FLAG_UPPER | FLAG_SCRIPT)) &&
	       head->dev == head->root_dev && head->nlink > 0;
}

/*
 * A dynamic loader that is executed itself runs a file that nothing here tells of (`ld.so PATH`), so user space has to look
 * for that before it is gone. Loaders begin with "ld-", "ld." or "ld64.", musl's may be "libc."; core's `subject` module
 * looks at the whole name. It is the first component of the path that was written at `begin`.
 */
#define CGROUP_BYTES_MASK 1023 /* for the verifier, which has to see a bound */
_Static_assert(CGROUP_BYTES_MAX <= CGROUP_BYTES_MASK, "a path may begin beyond the mask");

static __always_inline bool may_be_loader(struct scratch *scratch, __u32 begin)
{
	const __u8 *name = &scratch->data[begin & CGROUP_BYTES_MASK];
	if (name[0] != 'l')
		return false;
	if (name[1] == 'd')
		return name[2] == '-' || name[2] == '.' || (name[2] >= '0' && name[2] <= '9');
	return name[1] == 'i' && name[2] == 'b' && name[3] == 'c' && name[4] == '.';
}

/* The first two letters of a name, as they lie in memory. */
#define LETTERS(first, second) ((__u16)(first) | (__u16)(second) << 8)

/*
 * An interpreter may be given a file by a name that counts from the working directory (`sh x`). core's `interpreter` module
 * looks at the whole name; here the first two letters of one are enough.
 */
static __always_inline bool may_be_interpreter(struct scratch *scratch, __u32 begin)
{
	const __u8 *name = &scratch->data[begin & CGROUP_BYTES_MASK];
	switch (LETTERS(name[0], name[1])) {
	case LETTERS('s', 'h'):
	case LETTERS('b', 'a'):
	case LETTERS('d', 'a'):
	case LETTERS('a', 's'):
	case LETTERS('r', 'b'):
	case LETTERS('k', 's'):
	case LETTERS('m', 'k'):
	case LETTERS('o', 'k'):
	case LETTERS('z', 's'):
	case LETTERS('h', 'u'):
	case LETTERS('p', 'y'):
	case LETTERS('p', 'e'):
	case LETTERS('n', 'o'):
	case LETTERS('r', 'u'):
	case LETTERS('j', 'r'):
	case LETTERS('p', 'h'):
	case LETTERS('l', 'u'):
	case LETTERS('b', 'u'):
	case LETTERS('t', 'o'):
		return true;
	}
	return false;
}

/*
 * A wake-up costs ten times the rest: only what may have to be hashed before it is gone gets one. And what is known, should
 * it come faster than the ring is looked at.
 */
static __always_inline __u64 wake_up(const struct exec_record *head)
{
	bool must_wake = !(head->flags & FLAG_KNOWN) || bpf_ringbuf_query(&suspicious, BPF_RB_AVAIL_DATA) >
								 bpf_ringbuf_query(&suspicious, BPF_RB_RING_SIZE) / 2;
	return must_wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void submit(struct scratch *scratch, bool is_suspicious)
{
	__u64 size = sizeof(struct exec_record) + *(volatile __u32 *)&scratch->used;
	if (size > sizeof(struct exec_record) + DATA_BYTES)
		return;
	long failed = is_suspicious ? bpf_ringbuf_output(&suspicious, scratch, size, wake_up(&scratch->head))
				    : bpf_ringbuf_output(&ordinary, scratch, size, BPF_RB_NO_WAKEUP);
	if (scratch->head.flags & FLAG_KNOWN)
		count(COUNTER_KNOWN);
	if (is_suspicious)
		count(failed ? COUNTER_SUSPICIOUS_LOST : COUNTER_SUSPICIOUS);
	else
		count(failed ? COUNTER_ORDINARY_LOST : COUNTER_ORDINARY);
}

/* All that does not depend on whether the program starts or runs already. */
static __always_inline void read_facts(struct scratch *scratch, struct task_struct *task, struct file *file, __u32 flags)
{
	struct exec_record *head = &scratch->head;
	__builtin_memset(head, 0, sizeof(*head));
	head->cgroup_bytes = scratch->cgroup_bytes;
	head->version = DRIFTLINE_RECORD_VERSION;
	head->flags = flags;
	read_file(head, file);
	read_root(head, task);
	read_process(head, task);
	read_fds(head, task);
	/* Nothing but the names of cgroups stands before it. */
	__u32 begin = scratch->used;
	append_file_path(scratch, task, file);
	bool is_loader = may_be_loader(scratch, begin);
	if (!is_ordinary(head) || is_loader)
		head->flags |= FLAG_SUSPICIOUS;
	/* Of a script, and of what a loader runs, nobody here knows which file it is. */
	if (head->flags & FLAG_SUSPICIOUS && !(head->flags & FLAG_SCRIPT) && !is_loader && is_known(head))
		head->flags |= FLAG_KNOWN;
}

static __always_inline __u32 flags_of(enum cgroup_end end)
{
	return end == CGROUP_TRUNCATED ? FLAG_CGROUPS_TRUNCATED : 0;
}

static __always_inline void submit_self_test(struct scratch *scratch)
{
	__u64 size = sizeof(struct exec_record) + *(volatile __u32 *)&scratch->used;
	if (size <= sizeof(struct exec_record) + DATA_BYTES)
		bpf_ringbuf_output(&self_test, scratch, size, BPF_RB_NO_WAKEUP);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(driftline_exec, struct task_struct *task, __s32 old_pid, struct linux_binprm *bprm)
{
	__u32 zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!scratch)
		return 0;
	bool is_test = is_self_test(task);
	enum cgroup_end end = read_cgroups(scratch, task);
	if (end == CGROUP_OF_NONE && !is_test && !may_be_contained(task)) {
		count(COUNTER_HOST);
		return 0;
	}
	const char *filename = bprm->filename;
	/* Nothing but the names of cgroups stands before it. */
	__u32 path_begin = scratch->used;
	read_facts(scratch, task, bprm->file, flags_of(end) | (bprm->interp != filename ? FLAG_SCRIPT : 0));

	struct exec_record *head = &scratch->head;
	/* What the process could do before is forgotten by now; that it gained something is not. */
	if (BPF_CORE_READ_BITFIELD(bprm, secureexec))
		head->capabilities_gained = CAPABILITIES(task, cap_permitted);
	head->time_ns = bpf_ktime_get_boot_ns();
	head->cpu = bpf_get_smp_processor_id();
	head->seq = is_test ? 0 : count(COUNTER_SEEN);
	bool is_suspicious = head->flags & FLAG_SUSPICIOUS;
	bool needs_cwd = is_suspicious || may_be_interpreter(scratch, path_begin);
	head->typed_path_bytes = append_string(scratch, filename, PATH_BYTES_MAX);
	if (needs_cwd)
		append_cwd(scratch, task);
	append_tty(scratch, task);
	append_args_and_environment(scratch, task->mm);
	append_root_of_mount(scratch, bprm->file);
	if (is_test)
		submit_self_test(scratch);
	else
		submit(scratch, is_suspicious);
	return 0;
}

/*
 * Why this iterator: what ran before the program was attached was not seen starting, and the event id needs numbers that
 * /proc does not show. Arguments lie in another process's memory; user space reads them in /proc. Each record is preceded
 * by its length.
 */
SEC("iter/task")
int driftline_running(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	__u32 zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&snapshot_scratch, &zero);
	if (!scratch || !task || task->pid != task->tgid)
		return 0;
	struct mm_struct *mm = task->mm;
	if (!mm)
		return 0;
	struct file *file = mm->exe_file;
	if (!file)
		return 0;
	enum cgroup_end end = read_cgroups(scratch, task);
	if (end == CGROUP_OF_NONE && !may_be_contained(task))
		return 0;
	read_facts(scratch, task, file, flags_of(end) | FLAG_SNAPSHOT);
	struct exec_record *head = &scratch->head;
	head->time_ns = head->start_ns;
	head->cpu = -1;
	head->seq = head->pid;
	append_cwd(scratch, task);
	append_tty(scratch, task);
	append_root_of_mount(scratch, file);
	__u64 size = sizeof(struct exec_record) + *(volatile __u32 *)&scratch->used;
	if (size > sizeof(struct exec_record) + DATA_BYTES)
		return 0;
	__u32 length = size;
	bpf_seq_write(context->meta->seq, &length, sizeof(length));
	bpf_seq_write(context->meta->seq, scratch, size);
	return 0;
}
