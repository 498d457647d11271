/*
 * Starts a program many times, one after the other, and says how long that took: `spawn COUNT PAUSE_MS PROGRAM [COPY [touch]]`.
 * With COPY the program is copied there first, and runs from there once it has lain untouched for a while; with `touch` it is
 * touched before each time. Part of bench-collector.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void copy(const char *from, const char *to)
{
	static char buffer[1 << 16];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t length;

	while ((length = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, length) != length)
			exit(3);
	if (length < 0 || close(out))
		exit(3);
	sleep(3);
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	char *program = argv[argc > 4 ? 4 : 3];
	char *const arguments[] = { program, NULL }, *const environment[] = { "PATH=/bin", NULL };
	int count = atoi(argv[1]), pause_us = 1000 * atoi(argv[2]);

	if (argc > 4)
		copy(argv[3], program);
	long long begin = now_ns();
	for (int made = 0; made < count; made++) {
		pid_t pid;
		int status;
		if (argc > 5 && utimensat(AT_FDCWD, program, NULL, 0))
			return 6;
		if (posix_spawn(&pid, program, NULL, NULL, arguments, environment))
			return 4;
		if (waitpid(pid, &status, 0) != pid || status)
			return 5;
		if (pause_us)
			usleep(pause_us);
	}
	printf("%lld\n", now_ns() - begin);
	return 0;
}
