/* Between a program and its disk, by LD_PRELOAD: writes down what the program does to the files below
 * DISK_ROOT, in order, to DISK_TRACE, and lets calls fail as files in DISK_FAULTS say:
 *
 *   sync        every sync fails with EIO
 *   sync-once   the next sync fails with EIO, and the file goes
 *   sync-slow   every sync takes a tenth of a second
 *   sync-held   every sync waits until the file is gone
 *   write-slow  a write that the full disk refuses takes a tenth of a second
 *   write       the disk is full: the first write comes to its half, and none after it
 *   lookup      a look-up of a name, which is no disk's, takes until the file goes
 *
 * A file that holds a number lets so many calls succeed first.
 *
 * A record of the trace: what (1 byte), length of the path (4), path, offset or length (8), length of
 * the data (4), data; numbers as the machine has them. The path is relative to DISK_ROOT; the data of a
 * rename is the new one.
 *   C file made    M directory made    W written    T cut to a length    R renamed
 *   U file gone    D directory gone    S file synced    Y directory synced
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

/* What happened is in the trace in the order in which it happened. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void begin(void) { pthread_mutex_lock(&one_at_a_time); }

static void end(void) {
  int kept = errno;
  pthread_mutex_unlock(&one_at_a_time);
  errno = kept;
}

/* The part of a path below the root, which is empty for the root; NULL when it is not below. */
static const char *below_root(const char *path) {
  const char *root = getenv("DISK_ROOT");
  size_t length = root ? strlen(root) : 0;
  if (!length || strncmp(path, root, length)) return NULL;
  if (!path[length]) return path + length;
  return path[length] == '/' ? path + length + 1 : NULL;
}

static int path_of_fd(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return 1;
}

static const char *of_fd(int fd, char *path) {
  int kept = errno;
  const char *below = path_of_fd(fd, path) ? below_root(path) : NULL;
  errno = kept;
  return below;
}

static const char *of_path(int directory, const char *name, char *path) {
  if (name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    int found = directory == AT_FDCWD ? getcwd(path, PATH_MAX) != NULL
                                      : path_of_fd(directory, path);
    if (!found) return NULL;
    size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
  }
  return below_root(path);
}

static void put(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t written = REAL(write)(fd, at, length);
    if (written < 0) abort();
    at += written;
    length -= written;
  }
}

static void record(char what, const char *path, uint64_t number, const void *data, uint32_t length) {
  static int trace = -2;
  int kept = errno;
  if (trace == -2) {
    const char *name = getenv("DISK_TRACE");
    trace = name ? REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  }
  if (trace >= 0) {
    uint32_t path_length = strlen(path);
    put(trace, &what, 1);
    put(trace, &path_length, 4);
    put(trace, path, path_length);
    put(trace, &number, 8);
    put(trace, &length, 4);
    put(trace, data, length);
  }
  errno = kept;
}

struct fault {
  const char *name;
  /* How many calls succeed first; -1 where its file was not seen yet. */
  long left;
};

static struct fault sync_always = {"sync", -1}, sync_once = {"sync-once", -1},
                    sync_slow = {"sync-slow", -1}, sync_held = {"sync-held", -1},
                    write_slow = {"write-slow", -1}, full = {"write", -1},
                    lookup = {"lookup", -1};

/* Whether a call fails by this fault. */
static int is_due(struct fault *fault) {
  const char *faults = getenv("DISK_FAULTS");
  if (!faults) return 0;
  int kept = errno, due = 0;
  char path[PATH_MAX], number[32] = "";
  snprintf(path, sizeof path, "%s/%s", faults, fault->name);
  int file = REAL(open)(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    fault->left = -1;
  } else {
    if (fault->left < 0 && read(file, number, sizeof number - 1) >= 0) fault->left = atol(number);
    close(file);
    if (fault->left > 0) {
      fault->left--;
    } else {
      due = 1;
    }
  }
  if (due && strstr(fault->name, "-once")) {
    due = REAL(unlink)(path) == 0;
    fault->left = -1;
  }
  errno = kept;
  return due;
}

static int refuses_write(void) {
  if (!is_due(&full)) return 0;
  errno = ENOSPC;
  return 1;
}

/* How much of a write has room. */
static size_t room(size_t length) {
  static int was_full;
  int is_full = is_due(&full), is_first = is_full && !was_full;
  was_full = is_full;
  return is_full ? is_first ? length / 2 : 0 : length;
}

static int refuses_sync(void) {
  if (!is_due(&sync_always) && !is_due(&sync_once)) return 0;
  errno = EIO;
  return 1;
}

static void slow_down(struct fault *fault) {
  int kept = errno;
  begin();
  int slow = is_due(fault);
  end();
  if (slow) usleep(100000);
  errno = kept;
}

static void wait_while_held(void) {
  int kept = errno, held;
  do {
    begin();
    held = is_due(&sync_held);
    end();
    if (held) usleep(10000);
  } while (held);
  errno = kept;
}

static int opened(int directory, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  const char *below = of_path(directory, name, path);
  if (!below || !(flags & (O_CREAT | O_TRUNC))) return REAL(openat)(directory, name, flags, mode);
  begin();
  int was_there = access(path, F_OK) == 0;
  int fd = !was_there && refuses_write() ? -1 : REAL(openat)(directory, name, flags, mode);
  if (fd >= 0 && !was_there) record('C', below, 0, NULL, 0);
  if (fd >= 0 && was_there && (flags & O_TRUNC)) record('T', below, 0, NULL, 0);
  end();
  return fd;
}

#define MODE(flags, last)                        \
  mode_t mode = 0;                               \
  if ((flags) & (O_CREAT | O_TMPFILE)) {         \
    va_list more;                                \
    va_start(more, last);                        \
    mode = va_arg(more, mode_t);                 \
    va_end(more);                                \
  }

int open(const char *name, int flags, ...) {
  MODE(flags, flags)
  return opened(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
  MODE(flags, flags)
  return opened(AT_FDCWD, name, flags, mode);
}

int openat(int directory, const char *name, int flags, ...) {
  MODE(flags, flags)
  return opened(directory, name, flags, mode);
}

int openat64(int directory, const char *name, int flags, ...) {
  MODE(flags, flags)
  return opened(directory, name, flags, mode);
}

ssize_t write(int fd, const void *data, size_t length) {
  char path[PATH_MAX];
  const char *below = of_fd(fd, path);
  if (!below) return REAL(write)(fd, data, length);
  begin();
  size_t fits = room(length);
  ssize_t written = fits || !length ? REAL(write)(fd, data, fits) : -1;
  if (!fits && length) errno = ENOSPC;
  if (written > 0) record('W', below, lseek(fd, 0, SEEK_CUR) - written, data, written);
  end();
  if (written < 0) slow_down(&write_slow);
  return written;
}

static ssize_t written_at(int fd, const void *data, size_t length, off64_t offset) {
  char path[PATH_MAX];
  const char *below = of_fd(fd, path);
  if (!below) return REAL(pwrite64)(fd, data, length, offset);
  begin();
  size_t fits = room(length);
  ssize_t written = fits || !length ? REAL(pwrite64)(fd, data, fits, offset) : -1;
  if (!fits && length) errno = ENOSPC;
  if (written > 0) record('W', below, offset, data, written);
  end();
  if (written < 0) slow_down(&write_slow);
  return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return written_at(fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  return written_at(fd, data, length, offset);
}

static int cut(int fd, off64_t length) {
  char path[PATH_MAX];
  const char *below = of_fd(fd, path);
  if (!below) return REAL(ftruncate64)(fd, length);
  begin();
  int done = refuses_write() ? -1 : REAL(ftruncate64)(fd, length);
  if (!done) record('T', below, length, NULL, 0);
  end();
  return done;
}

int ftruncate(int fd, off_t length) { return cut(fd, length); }

int ftruncate64(int fd, off64_t length) { return cut(fd, length); }

static int synced(int fd, int (*sync)(int)) {
  char path[PATH_MAX];
  struct stat found;
  const char *below = of_fd(fd, path);
  if (!below || fstat(fd, &found)) return sync(fd);
  wait_while_held();
  slow_down(&sync_slow);
  begin();
  int done = refuses_sync() ? -1 : sync(fd);
  if (!done) record(S_ISDIR(found.st_mode) ? 'Y' : 'S', below, 0, NULL, 0);
  end();
  return done;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }

int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

int mkdir(const char *name, mode_t mode) {
  char path[PATH_MAX];
  const char *below = of_path(AT_FDCWD, name, path);
  if (!below) return REAL(mkdir)(name, mode);
  begin();
  int done = refuses_write() ? -1 : REAL(mkdir)(name, mode);
  if (!done) record('M', below, 0, NULL, 0);
  end();
  return done;
}

int rename(const char *from, const char *to) {
  char path[PATH_MAX], other[PATH_MAX];
  const char *below = of_path(AT_FDCWD, from, path), *above = of_path(AT_FDCWD, to, other);
  if (!below || !above) return REAL(rename)(from, to);
  begin();
  int done = REAL(rename)(from, to);
  if (!done) record('R', below, 0, above, strlen(above));
  end();
  return done;
}

static int removed(int directory, const char *name, int flags) {
  char path[PATH_MAX];
  const char *below = of_path(directory, name, path);
  if (!below) return REAL(unlinkat)(directory, name, flags);
  begin();
  int done = REAL(unlinkat)(directory, name, flags);
  if (!done) record(flags & AT_REMOVEDIR ? 'D' : 'U', below, 0, NULL, 0);
  end();
  return done;
}

int unlink(const char *name) { return removed(AT_FDCWD, name, 0); }

int unlinkat(int directory, const char *name, int flags) { return removed(directory, name, flags); }

int rmdir(const char *name) { return removed(AT_FDCWD, name, AT_REMOVEDIR); }

/* What copies without write(2) is not there, so that it is copied with it. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned int flags) {
  (void)in, (void)from, (void)out, (void)to, (void)length, (void)flags;
  errno = ENOSYS;
  return -1;
}

static int looks_in_vain(void) {
  begin();
  int due = is_due(&lookup);
  end();
  return due;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  while (looks_in_vain()) usleep(10000);
  return REAL(getaddrinfo)(node, service, hints, found);
}
