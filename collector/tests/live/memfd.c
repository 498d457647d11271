// memfd FILE NAME ARGUMENTS...: executes a copy of FILE in a memfd of that NAME.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
	char buffer[65536];
	ssize_t count;
	if (argc < 4)
		return 2;
	int from = open(argv[1], O_RDONLY);
	int to = memfd_create(argv[2], MFD_CLOEXEC);
	while ((count = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, count) != count)
			return 3;
	syscall(SYS_execveat, to, "", argv + 3, environ, AT_EMPTY_PATH);
	return 4;
}
