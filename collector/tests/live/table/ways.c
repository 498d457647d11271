/*
 * Ways to execute a file that no shell has:
 *   ways memfd FILE NAME ARGUMENTS...         a copy of FILE in a memfd of that NAME
 *   ways load LOADER FILE NAME                the same by a dynamic loader
 *   ways flash FILE PREFIX COUNT              copies FILE to PREFIX and a number, executes it, removes it
 *   ways as ID FILE ARGUMENTS...              FILE as another user and group
 *   ways restore FILE COUNT                   writes to FILE, executes it, writes back what was there
 *   ways turn LINK FILE                       executes LINK, and then makes it lead to FILE
 *   ways true                                 nothing
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int copy(const char *path, int to)
{
	char buffer[65536];
	ssize_t count;
	int from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -1;
	while ((count = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, count) != count)
			return -1;
	close(from);
	return count == 0 ? 0 : -1;
}

static int in_memory(const char *path, const char *name, unsigned int flags)
{
	int to = memfd_create(name, flags);
	return copy(path, to) ? -1 : to;
}

static int load(const char *loader, const char *path, const char *name)
{
	char descriptor[32];
	snprintf(descriptor, sizeof(descriptor), "/proc/self/fd/%d", in_memory(path, name, 0));
	execl(loader, loader, "--library-path", "/lib", descriptor, NULL);
	return 4;
}

static int flash(const char *from, const char *prefix, int count)
{
	char path[256];
	for (int number = 0; number < count; number++) {
		int status;
		snprintf(path, sizeof(path), "%s%d", prefix, number);
		int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
		if (to < 0 || copy(from, to))
			return 3;
		close(to);
		pid_t child = vfork();
		if (child == 0) {
			execl(path, path, "true", NULL);
			_exit(4);
		}
		if (waitpid(child, &status, 0) != child || status)
			return 5;
		unlink(path);
	}
	return 0;
}

static int write_at(const char *path, const char *bytes, size_t count, off_t at)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	int written = file >= 0 && pwrite(file, bytes, count, at) == (ssize_t)count;
	close(file);
	return written;
}

static int restore(const char *path, int count)
{
	char were[8];
	struct stat facts;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (fstat(file, &facts) || facts.st_size < (off_t)sizeof(were))
		return 3;
	off_t at = facts.st_size - sizeof(were);
	if (pread(file, were, sizeof(were), at) != sizeof(were))
		return 3;
	close(file);
	while (count-- > 0) {
		int status;
		if (!write_at(path, "foreign.", sizeof(were), at))
			return 3;
		pid_t child = vfork();
		if (child == 0) {
			execl(path, path, "true", NULL);
			_exit(4);
		}
		if (waitpid(child, &status, 0) != child || status)
			return 5;
		if (!write_at(path, were, sizeof(were), at))
			return 3;
		usleep(50000);
	}
	return 0;
}

static int turn(const char *link, const char *file)
{
	char other[256];
	int status;
	snprintf(other, sizeof(other), "%s-other", link);
	if (symlink(file, other))
		return 3;
	pid_t child = vfork();
	if (child == 0) {
		execl(link, link, NULL);
		_exit(4);
	}
	if (rename(other, link) || waitpid(child, &status, 0) != child || status)
		return 5;
	return 0;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";
	if (!strcmp(way, "true"))
		return 0;
	if (argc == 4 && !strcmp(way, "restore"))
		return restore(argv[2], atoi(argv[3]));
	if (argc == 4 && !strcmp(way, "turn"))
		return turn(argv[2], argv[3]);
	if (argc < 5)
		return 2;
	if (!strcmp(way, "memfd")) {
		syscall(SYS_execveat, in_memory(argv[2], argv[3], MFD_CLOEXEC), "", argv + 4, environ, AT_EMPTY_PATH);
		return 4;
	}
	if (!strcmp(way, "load"))
		return load(argv[2], argv[3], argv[4]);
	if (!strcmp(way, "flash"))
		return flash(argv[2], argv[3], atoi(argv[4]));
	if (!strcmp(way, "as")) {
		int id = atoi(argv[2]);
		if (setgroups(0, NULL) || setgid(id) || setuid(id))
			return 3;
		execv(argv[3], argv + 3);
		return 4;
	}
	return 2;
}
