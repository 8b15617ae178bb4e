/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe.h"
#include "tool/probe_agents.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The door as it stands open to the machine. */

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* since Linux 6.3 */
#endif

static int or_errno(int result)
{
    return result < 0 ? -errno : result;
}

static ssize_t real_read(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;

    ssize_t count = read(fd, text, capacity - 1);
    int number = errno;
    (void)close(fd);
    if (count < 0)
        return -number;
    while (count > 0 && strchr(" \t\n", text[count - 1]) != NULL)
        count--;
    text[count] = '\0';
    return count;
}

static int real_lines(const char *path, probe_visitor *visit, void *context)
{
    FILE *stream = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t count;

    if (stream == NULL)
        return -errno;
    while ((count = getline(&line, &capacity, stream)) > 0) {
        if (line[count - 1] == '\n')
            line[count - 1] = '\0';
        if (!visit(context, line))
            break;
    }
    free(line);
    (void)fclose(stream);
    return 0;
}

static int real_names(const char *path, probe_visitor *visit, void *context)
{
    DIR *directory = opendir(path);

    if (directory == NULL)
        return -errno;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (!visit(context, entry->d_name))
            break;
    }
    (void)closedir(directory);
    return 0;
}

static int real_stat(const char *path, struct stat *out)
{
    return or_errno(lstat(path, out));
}

static int real_link(const char *path, char *out, size_t capacity)
{
    ssize_t count = readlink(path, out, capacity - 1);

    if (count < 0)
        return -errno;
    out[count] = '\0';
    return 0;
}

static int real_free_bytes(const char *path, uint64_t *out, bool *out_is_read_only)
{
    struct statvfs found;

    if (statvfs(path, &found) != 0)
        return -errno;
    *out = (uint64_t)found.f_bavail * found.f_frsize;
    *out_is_read_only = (found.f_flag & ST_RDONLY) != 0;
    return 0;
}

static int real_limit(int resource, struct rlimit *out)
{
    return or_errno(getrlimit((enum __rlimit_resource)resource, out));
}

/* A socket of that type, and the path as an address. */
static int make_socket(int type, const char *path, struct sockaddr_un *out)
{
    size_t length = strlen(path);

    if (length >= sizeof out->sun_path)
        return -ENAMETOOLONG;
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, path, length);
    return or_errno(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static int real_bind_socket(const char *path)
{
    struct sockaddr_un address;
    int fd = make_socket(SOCK_SEQPACKET, path, &address);
    if (fd < 0)
        return fd;

    int result = or_errno(bind(fd, (const struct sockaddr *)&address, sizeof address));
    if (result == 0)
        (void)unlink(path);
    (void)close(fd);
    return result;
}

static int real_write_file(const char *path, size_t bytes)
{
    static const char page[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;

    int result = 0;
    for (size_t done = 0; result == 0 && done < bytes; done += sizeof page) {
        ssize_t count = write(fd, page, sizeof page);

        if (count != (ssize_t)sizeof page)
            result = count < 0 ? -errno : -ENOSPC;
    }
    (void)close(fd);
    (void)unlink(path);
    return result;
}

/* Ask with a socket of another type than a listener has: it refuses without noticing. */
static int real_is_listening(const char *path)
{
    struct sockaddr_un address;
    int fd = make_socket(SOCK_DGRAM, path, &address);
    if (fd < 0)
        return fd;

    int result = or_errno(connect(fd, (const struct sockaddr *)&address, sizeof address));
    (void)close(fd);
    if (result == -ECONNREFUSED)
        return 0;
    return result == 0 || result == -EPROTOTYPE ? 1 : result;
}

static int real_is_locked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return -errno;

    int result = or_errno(flock(fd, LOCK_SH | LOCK_NB));
    (void)close(fd);
    return result == -EWOULDBLOCK ? 1 : result;
}

static int real_memfd(void)
{
    int fd = memfd_create("lend-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("lend-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;

    int result = or_errno(ftruncate(fd, 4096));
    if (result == 0)
        result = or_errno(fcntl(fd, F_ADD_SEALS,
                                F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL));
    (void)close(fd);
    return result;
}

static int real_pidfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0)
        return -errno;

    (void)close(fd);
    return 0;
}

/* In the child: it is no parent of the process that it reads, as a peer is none. */
static int read_parent(pid_t parent, uint64_t *nonce, uint64_t expected)
{
    uint64_t seen = 0;
    struct iovec to = {.iov_base = &seen, .iov_len = sizeof seen};
    struct iovec from = {.iov_base = nonce, .iov_len = sizeof *nonce};
    ssize_t count = process_vm_readv(parent, &to, 1, &from, 1, 0);

    if (count < 0)
        return -errno;
    return count == (ssize_t)sizeof seen && seen == expected ? 0 : -EIO;
}

static int real_cross_memory(void)
{
    static uint64_t nonce;
    uint64_t expected = (uint64_t)getpid() << 32 | 0x1e4d;
    pid_t parent = getpid();
    int result = -EIO;
    int ends[2];

    nonce = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    pid_t child = fork();
    if (child == 0) { /* wait until the parent's word differs from the child's copy of it */
        (void)close(ends[1]);
        char byte;
        result = read(ends[0], &byte, 1) == 1 ? read_parent(parent, &nonce, expected) : -EIO;
        _exit(-result);
    }
    if (child < 0)
        result = -errno;
    nonce = expected;
    if (child > 0) {
        int how = 0;

        if (write(ends[1], "", 1) == 1 && waitpid(child, &how, 0) == child && WIFEXITED(how))
            result = -WEXITSTATUS(how);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
    return result;
}

static int real_is_dumpable(void)
{
    int result = or_errno(prctl(PR_GET_DUMPABLE));

    return result < 0 ? result : result == 1;
}

static int real_cuda(char *why, size_t capacity)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*init)(unsigned) = NULL;
    int (*count_devices)(int *) = NULL;
    int (*name_device)(char *, int, int) = NULL;
    char name[100] = "";
    int count = 0;

    if (library == NULL) {
        (void)snprintf(why, capacity, "%s", dlerror());
        return -ENOENT;
    }
    *(void **)&init = dlsym(library, "cuInit");
    *(void **)&count_devices = dlsym(library, "cuDeviceGetCount");
    int result = init == NULL || count_devices == NULL ? -1 : init(0);
    if (result == 0)
        result = count_devices(&count);
    if (result != 0) {
        (void)snprintf(why, capacity, "the driver's library is there; cuInit says %d", result);
        return -ENODEV;
    }
    *(void **)&name_device = dlsym(library, "cuDeviceGetName");
    if (name_device == NULL || count == 0 || name_device(name, sizeof name, 0) != 0)
        name[0] = '\0';
    (void)snprintf(why, capacity, "%d GPUs%s%.64s", count, name[0] != '\0' ? ", the first: " : "",
                   name);
    return count > 0 ? 0 : -ENODEV;
}

static uint64_t real_boot_ns(void)
{
    struct timespec time = {0};

    (void)clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

const struct probe probe_real = {
    .user = geteuid,
    .pid = getpid,
    .read = real_read,
    .lines = real_lines,
    .names = real_names,
    .stat = real_stat,
    .link = real_link,
    .free_bytes = real_free_bytes,
    .limit = real_limit,
    .bind_socket = real_bind_socket,
    .write_file = real_write_file,
    .is_listening = real_is_listening,
    .is_locked = real_is_locked,
    .memfd = real_memfd,
    .pidfd = real_pidfd,
    .cross_memory = real_cross_memory,
    .is_dumpable = real_is_dumpable,
    .cuda = real_cuda,
    .boot_ns = real_boot_ns,
    .library_version = lend_version,
    .open_transport = probe_open_transport,
    .round_trip = probe_round_trip,
    .listens = probe_listens,
    .secret = probe_secret,
    .reach = probe_reach,
    .ucx = probe_ucx_look,
    .rdma = probe_rdma_look,
    .nixl = probe_nixl_find,
};
