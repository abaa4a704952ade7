/* Counts the system calls by which a process changes something below a folder, and stops at one.

   Preload it (LD_PRELOAD). It counts from the start where CRASH_ROOT is set by
   then, else once crash_arm() is called. What it does comes from the environment:

     CRASH_ROOT   the folder, an absolute path without links; nothing outside of it counts
     CRASH_AT     at which call, counted from 1; 0: at none
     CRASH_MODE   kill     die by SIGKILL right before the call
                  after    die right after it
                  partial  write half of the bytes, then die (only at a write)
                  eio, enospc, ...  fail the call once with that error, and go on
     CRASH_LOG    a file to which each call is appended as "number name path [path]"
     CRASH_PLAIN  when set, renameat2 takes no flags, as on a file system that lacks them

   An open counts where it may create or empty a file. Left out are locks and leases, fchown (which
   SQLite calls as root only), and what is written through memory maps: SQLite's -shm, which it
   builds anew after a crash. All calls go straight to the kernel, so that nothing depends on what
   the libc makes of them. `strace -f -y` of the same command shows the same calls. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { NONE, KILL, AFTER, PARTIAL, FAIL };

static char root[PATH_MAX];
static size_t root_length;
static long stop_at, calls;
static enum mode mode;
static int failure, log_fd = -1, plain;

static const struct { const char *name; int number; } failures[] = {
    {"eio", EIO}, {"enospc", ENOSPC}, {"eacces", EACCES}, {"erofs", EROFS},
};

void crash_arm(void) {
    const char *folder = getenv("CRASH_ROOT"), *at = getenv("CRASH_AT");
    const char *how = getenv("CRASH_MODE"), *log = getenv("CRASH_LOG");
    calls = 0;
    stop_at = at ? atol(at) : 0;
    mode = NONE;
    if (how && !strcmp(how, "kill")) mode = KILL;
    if (how && !strcmp(how, "after")) mode = AFTER;
    if (how && !strcmp(how, "partial")) mode = PARTIAL;
    for (size_t i = 0; how && i < sizeof failures / sizeof *failures; i++)
        if (!strcmp(how, failures[i].name)) mode = FAIL, failure = failures[i].number;
    if (log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    snprintf(root, sizeof root, "%s/", folder ? folder : "");
    root_length = folder ? strlen(root) : 0;
}

__attribute__((constructor)) static void begin(void) {
    plain = getenv("CRASH_PLAIN") != NULL;
    if (getenv("CRASH_ROOT")) crash_arm();
}

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* Writes the path of a descriptor into `out`; an empty one where it has none. */
static void path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    out[length > 0 ? length : 0] = 0;
}

static void path_at(int dir, const char *name, char *out) {
    char folder[PATH_MAX];
    if (name[0] == '/') {
        snprintf(out, PATH_MAX, "%s", name);
        return;
    }
    if (dir == AT_FDCWD) {
        ssize_t length = syscall(SYS_getcwd, folder, sizeof folder);
        if (length <= 0) folder[0] = 0;
    } else {
        path_of(dir, folder);
    }
    /* Both together may be too long for a path: then it is none of ours. */
    if (strlen(folder) + strlen(name) + 2 > PATH_MAX) out[0] = 0;
    else strcat(strcat(strcpy(out, folder), "/"), name);
}

static int is_inside(const char *path) {
    return root_length && !strncmp(path, root, root_length);
}

/* Counts a call if a path of it is inside; tells what is to be done at this one. */
static enum mode count(const char *name, const char *path, const char *other) {
    if (!is_inside(path) && !(other && is_inside(other))) return NONE;
    long number = __sync_add_and_fetch(&calls, 1);
    if (log_fd >= 0) {
        char line[2 * PATH_MAX + 64];
        const char *first = is_inside(path) ? path + root_length : path;
        const char *second = !other ? "" : is_inside(other) ? other + root_length : other;
        int length = snprintf(line, sizeof line, "%ld %s %s%s%s\n", number, name, first,
                              other ? " " : "", second);
        syscall(SYS_write, log_fd, line, (size_t)length);
    }
    return number == stop_at ? mode : NONE;
}

static enum mode count_fd(const char *name, int fd) {
    char path[PATH_MAX];
    if (!root_length) return NONE;
    path_of(fd, path);
    return count(name, path, NULL);
}

static enum mode count_at(const char *name, int dir, const char *path) {
    char whole[PATH_MAX];
    if (!root_length) return NONE;
    path_at(dir, path, whole);
    return count(name, whole, NULL);
}

static enum mode count_two(const char *name, int dir, const char *path, int to_dir, const char *to) {
    char whole[PATH_MAX], other[PATH_MAX];
    if (!root_length) return NONE;
    path_at(dir, path, whole);
    path_at(to_dir, to, other);
    return count(name, whole, other);
}

/* What every call does: `how` says what is to happen at it, `call` is the call itself. */
#define STOP_OR(how, call)                                     \
    do {                                                       \
        enum mode what = (how);                                \
        if (what == KILL || what == PARTIAL) die();            \
        if (what == FAIL) { errno = failure; return -1; }      \
        long result = (call);                                  \
        if (what == AFTER) die();                              \
        return result;                                         \
    } while (0)

/* As above for a write; `half` writes the first half of the bytes. */
#define STOP_OR_WRITE(how, half, call)                         \
    do {                                                       \
        enum mode write_what = (how);                          \
        if (write_what == PARTIAL) { half; die(); }            \
        STOP_OR(write_what, call);                             \
    } while (0)

/* Writing */

ssize_t write(int fd, const void *data, size_t size) {
    STOP_OR_WRITE(count_fd("write", fd), syscall(SYS_write, fd, data, size / 2),
                  syscall(SYS_write, fd, data, size));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    STOP_OR_WRITE(count_fd("pwrite", fd), syscall(SYS_pwrite64, fd, data, size / 2, at),
                  syscall(SYS_pwrite64, fd, data, size, at));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return pwrite64(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    STOP_OR(count_fd("writev", fd), syscall(SYS_writev, fd, parts, number));
}

int ftruncate64(int fd, off64_t size) {
    STOP_OR(count_fd("ftruncate", fd), syscall(SYS_ftruncate, fd, size));
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int how, off64_t at, off64_t size) {
    STOP_OR(count_fd("fallocate", fd), syscall(SYS_fallocate, fd, how, at, size));
}

int fallocate(int fd, int how, off_t at, off_t size) { return fallocate64(fd, how, at, size); }

int posix_fallocate64(int fd, off64_t at, off64_t size) {
    return fallocate64(fd, 0, at, size) == 0 ? 0 : errno;
}

int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }

int fsync(int fd) { STOP_OR(count_fd("fsync", fd), syscall(SYS_fsync, fd)); }

int syncfs(int fd) { STOP_OR(count_fd("syncfs", fd), syscall(SYS_syncfs, fd)); }

int fdatasync(int fd) { STOP_OR(count_fd("fdatasync", fd), syscall(SYS_fdatasync, fd)); }

int fchmod(int fd, mode_t bits) {
    STOP_OR(count_fd("fchmod", fd), syscall(SYS_fchmod, fd, bits));
}

/* Opening */

static int may_create(int flags) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

static int open_at(int dir, const char *path, int flags, mode_t bits) {
    int changes = may_create(flags) || (flags & O_TRUNC);
    STOP_OR(changes ? count_at("open", dir, path) : NONE,
            syscall(SYS_openat, dir, path, flags, bits));
}

#define BITS_OF(flags, bits)                                   \
    mode_t bits = 0;                                           \
    if (may_create(flags)) {                                   \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        bits = va_arg(rest, mode_t);                           \
        va_end(rest);                                          \
    }

int open(const char *path, int flags, ...) {
    BITS_OF(flags, bits)
    return open_at(AT_FDCWD, path, flags, bits);
}

int open64(const char *path, int flags, ...) {
    BITS_OF(flags, bits)
    return open_at(AT_FDCWD, path, flags, bits);
}

int openat(int dir, const char *path, int flags, ...) {
    BITS_OF(flags, bits)
    return open_at(dir, path, flags, bits);
}

int openat64(int dir, const char *path, int flags, ...) {
    BITS_OF(flags, bits)
    return open_at(dir, path, flags, bits);
}

int creat(const char *path, mode_t bits) {
    return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, bits);
}

int creat64(const char *path, mode_t bits) { return creat(path, bits); }

/* Names */

int renameat2(int dir, const char *path, int to_dir, const char *to, unsigned flags) {
    if (plain && flags) {
        errno = EINVAL;
        return -1;
    }
    STOP_OR(count_two(flags == 2 ? "exchange" : "rename", dir, path, to_dir, to),
            syscall(SYS_renameat2, dir, path, to_dir, to, flags));
}

int renameat(int dir, const char *path, int to_dir, const char *to) {
    return renameat2(dir, path, to_dir, to, 0);
}

int rename(const char *path, const char *to) {
    return renameat2(AT_FDCWD, path, AT_FDCWD, to, 0);
}

int linkat(int dir, const char *path, int to_dir, const char *to, int flags) {
    STOP_OR(count_two("link", dir, path, to_dir, to),
            syscall(SYS_linkat, dir, path, to_dir, to, flags));
}

int link(const char *path, const char *to) { return linkat(AT_FDCWD, path, AT_FDCWD, to, 0); }

int symlinkat(const char *target, int dir, const char *path) {
    STOP_OR(count_at("symlink", dir, path), syscall(SYS_symlinkat, target, dir, path));
}

int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

int unlinkat(int dir, const char *path, int flags) {
    STOP_OR(count_at(flags & AT_REMOVEDIR ? "rmdir" : "unlink", dir, path),
            syscall(SYS_unlinkat, dir, path, flags));
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t bits) {
    STOP_OR(count_at("mkdir", dir, path), syscall(SYS_mkdirat, dir, path, bits));
}

int mkdir(const char *path, mode_t bits) { return mkdirat(AT_FDCWD, path, bits); }
