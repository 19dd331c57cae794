/*
 * Calls of the disk that fail on purpose, by LD_PRELOAD. The file named by HEADWATER_FAULT has, while there is a fault, a
 * line "NUMBER CALL ERRNO COUNT PART": the next COUNT calls of CALL on a path that contains PART fail with ERRNO. A new
 * NUMBER begins anew.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int number = -1;
static atomic_int left = 0;

static int fails(const char *call, const char *path) {
  const char *file = getenv("HEADWATER_FAULT");
  if (file == NULL || path == NULL) return 0;
  int saved = errno;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    errno = saved;
    return 0;
  }
  char text[512];
  ssize_t size = (ssize_t)syscall(SYS_read, fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  errno = saved;
  if (size <= 0) return 0;
  text[size] = 0;
  int id, error, count;
  char what[32], part[256];
  if (sscanf(text, "%d %31s %d %d %255s", &id, what, &error, &count, part) != 5) return 0;
  if (atomic_exchange(&number, id) != id) atomic_store(&left, count);
  if (strcmp(what, call) != 0 || strstr(path, part) == NULL) return 0;
  if (atomic_fetch_sub(&left, 1) <= 0) return 0;
  errno = error;
  return 1;
}

static int fails_at(const char *call, int fd) {
  char link[64], path[1024];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int saved = errno;
  ssize_t size = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (size <= 0) return 0;
  path[size] = 0;
  return fails(call, path);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                        \
  int name(const char *path, int flags, ...) {            \
    mode_t mode = 0;                                      \
    va_list more;                                         \
    va_start(more, flags);                                \
    if (flags & O_CREAT) mode = va_arg(more, mode_t);     \
    va_end(more);                                         \
    REAL(name);                                           \
    return fails("open", path) ? -1 : real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define AT_FD(name, kind, type, parameters, ...)          \
  type name parameters {                                  \
    REAL(name);                                           \
    return fails_at(kind, fd) ? -1 : real(__VA_ARGS__);   \
  }
AT_FD(fsync, "fsync", int, (int fd), fd)
AT_FD(fdatasync, "fsync", int, (int fd), fd)
AT_FD(read, "read", ssize_t, (int fd, void *to, size_t size), fd, to, size)
AT_FD(pread, "read", ssize_t, (int fd, void *to, size_t size, off_t at), fd, to, size, at)
AT_FD(pread64, "read", ssize_t, (int fd, void *to, size_t size, off64_t at), fd, to, size, at)
AT_FD(write, "write", ssize_t, (int fd, const void *from, size_t size), fd, from, size)
AT_FD(pwrite, "write", ssize_t, (int fd, const void *from, size_t size, off_t at), fd, from, size, at)
AT_FD(pwrite64, "write", ssize_t, (int fd, const void *from, size_t size, off64_t at), fd, from, size, at)

int rename(const char *from, const char *to) {
  REAL(rename);
  return fails("rename", from) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  return fails("mkdir", path) ? -1 : real(path, mode);
}

int scandir64(const char *path, struct dirent64 ***list, int (*filter)(const struct dirent64 *),
              int (*compare)(const struct dirent64 **, const struct dirent64 **)) {
  int (*real)(const char *, struct dirent64 ***, int (*)(const struct dirent64 *),
              int (*)(const struct dirent64 **, const struct dirent64 **)) =
      dlsym(RTLD_NEXT, "scandir64");
  return fails("readdir", path) ? -1 : real(path, list, filter, compare);
}
