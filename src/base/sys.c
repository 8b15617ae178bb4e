/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/mempolicy.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Thread sanitizer does not know epoll_pwait2(), and would miss what it orders. */
#if defined(__SANITIZE_THREAD__) /* gcc */
#define SANITIZES_THREADS 1
#elif defined(__has_feature) /* clang */
#if __has_feature(thread_sanitizer)
#define SANITIZES_THREADS 1
#endif
#endif
#ifndef SANITIZES_THREADS
#define SANITIZES_THREADS 0
#endif

enum { STACK_BYTES = 256 * 1024, THREAD_NAME_BYTES = 16, PATH_BYTES = 32, NODES_MAX = 1024 };

#define NS_PER_S    UINT64_C(1000000000)
#define NS_PER_MS   UINT64_C(1000000)
/* A wait of 31 years: what longer ones are cut to, so that no conversion overflows. */
#define WAIT_NS_MAX (UINT64_C(1000000000) * NS_PER_S)

#define RETRY(call)                                                                                \
    __extension__({                                                                                \
        __typeof__(call) retry_result_;                                                            \
        do                                                                                         \
            retry_result_ = (call);                                                                \
        while (retry_result_ == -1 && errno == EINTR);                                             \
        retry_result_ == -1 ? -errno : retry_result_;                                              \
    })

static int or_errno(int result)
{
    return result == -1 ? -errno : result;
}

static struct timespec to_timespec(uint64_t ns)
{
    if (ns > WAIT_NS_MAX)
        ns = WAIT_NS_MAX;
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* Memory */

/* Small memory comes faster from a thread's own cache, which calloc() passes by until glibc 2.41;
 * of large memory, calloc() knows whether it is fresh, and so zero already. */
static void *real_allocate(size_t bytes)
{
    enum { CACHED_BYTES_MAX = 1032 }; /* mallopt(3): glibc.malloc.tcache_max, less a header */

    if (bytes > CACHED_BYTES_MAX)
        return calloc(1, bytes);
    void *made = malloc(bytes);
    return made != NULL ? memset(made, 0, bytes) : NULL;
}

static void *real_allocate_dirty(size_t bytes)
{
    return malloc(bytes);
}

/* Time and chance */

static uint64_t real_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now); /* a clock that every Linux since 2.6.39 has */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void real_sleep_ns(uint64_t duration_ns)
{
    struct timespec left = to_timespec(duration_ns);

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}

static int real_random(void *bytes, size_t count)
{
    uint8_t *next = bytes;

    while (count > 0) {
        ssize_t got = RETRY(getrandom(next, count, 0));

        if (got < 0)
            return (int)got;
        next += got;
        count -= (size_t)got;
    }
    return 0;
}

/* Memory maps and shared memory */

static int make_memfd(const char *name, unsigned flags)
{
    /* Hardened machines refuse a memfd that may be executed; kernels before 6.3 do not know the
     * flag. */
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

    if (fd == -1 && errno == EINVAL)
        fd = memfd_create(name, flags);
    return or_errno(fd);
}

static int make_sized_memfd(const char *name, size_t bytes, unsigned flags)
{
    int fd = make_memfd(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

    if (fd < 0)
        return fd;
    int result = RETRY(ftruncate(fd, (off_t)bytes));
    if (result < 0) {
        (void)close(fd); /* the first failure is the one to tell */
        return result;
    }
    return fd;
}

static int real_memfd(const char *name, size_t bytes)
{
    int fd = make_sized_memfd(name, bytes, 0);

    if (fd < 0)
        return fd;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1) {
        int result = -errno;

        (void)close(fd); /* the first failure is the one to tell */
        return result;
    }
    return fd;
}

static int real_memfd_check(int fd, size_t bytes)
{
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
    int seals = fcntl(fd, F_GET_SEALS);
    struct statfs file_system;
    struct stat file;

    if (seals == -1 || (seals & wanted) != wanted)
        return -EINVAL;
    if (fstat(fd, &file) != 0 || file.st_size < 0 || (uint64_t)file.st_size != bytes)
        return -EINVAL;
    /* Huge pages may be sealed too, but a hole punched in them may kill whoever touches it next. */
    if (RETRY(fstatfs(fd, &file_system)) != 0 || file_system.f_type != TMPFS_MAGIC)
        return -EINVAL;
    return 0;
}

static bool map_at(char *address, size_t bytes, int fd, uint64_t offset)
{
    return mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                (off_t)offset) == address;
}

static void *map_twice_of(int fd, uint64_t offset, size_t bytes)
{
    char *start = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (start == MAP_FAILED)
        return NULL;
    if (!map_at(start, bytes, fd, offset) || !map_at(start + bytes, bytes, fd, offset)) {
        (void)munmap(start, 2 * bytes); /* nothing to be done, and nothing to be told beside */
        return NULL;
    }
    return start;
}

static void *real_map_twice(int fd, uint64_t offset, size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX / 2 || offset > INT64_MAX)
        return NULL;
    if (fd >= 0)
        return map_twice_of(fd, offset, bytes);

    int own = real_memfd("lend-ring", bytes);
    if (own < 0)
        return NULL;
    void *memory = map_twice_of(own, 0, bytes);
    (void)close(own); /* the mapping keeps it */
    return memory;
}

static void real_unmap_twice(void *memory, size_t bytes)
{
    if (memory != NULL)
        (void)munmap(memory, 2 * bytes); /* fails only for what was never mapped */
}

static int real_map_wiped(size_t bytes, void **out)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    if (madvise(memory, bytes, MADV_WIPEONFORK) != 0) {
        int result = -errno;

        (void)munmap(memory, bytes); /* the first failure is the one to tell */
        return result;
    }
    *out = memory;
    return 0;
}

static void real_unmap_wiped(void *memory, size_t bytes)
{
    (void)munmap(memory, bytes); /* fails only for what was never mapped */
}

/* Files that are mapped */

static int real_memfd_storage(const char *name, size_t bytes, bool huge)
{
    return make_sized_memfd(name, bytes, huge ? MFD_HUGETLB : 0);
}

static int real_seal(int fd, int seals)
{
    return or_errno(fcntl(fd, F_ADD_SEALS, seals));
}

static int real_seals(int fd)
{
    return or_errno(fcntl(fd, F_GET_SEALS));
}

static int real_file_stat(int fd, struct stat *out)
{
    return or_errno(fstat(fd, out));
}

static int real_file_system(int fd, struct statfs *out)
{
    return RETRY(fstatfs(fd, out));
}

static size_t real_page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int real_duplicate(int fd)
{
    return or_errno(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

static int real_reopen_read(int fd)
{
    char path[PATH_BYTES];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* always fits */
    return RETRY(open(path, O_RDONLY | O_CLOEXEC));
}

static void *real_map_file(int fd, uint64_t offset, size_t bytes, bool writable, bool prefault)
{
    if (offset > INT64_MAX)
        return NULL;
    void *memory = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_SHARED | (prefault ? MAP_POPULATE : 0), fd, (off_t)offset);
    return memory == MAP_FAILED ? NULL : memory;
}

static void real_unmap(void *memory, size_t bytes)
{
    if (memory != NULL)
        (void)munmap(memory, bytes); /* fails only for what was never mapped */
}

static int real_keep_from_fork(void *memory, size_t bytes)
{
    return or_errno(madvise(memory, bytes, MADV_DONTFORK));
}

static int real_bind_node(void *memory, size_t bytes, unsigned node)
{
    enum { WORD_BITS = 8 * sizeof(unsigned long) };
    unsigned long mask[NODES_MAX / WORD_BITS] = {0};

    if (node >= NODES_MAX)
        return -EINVAL;
    mask[node / WORD_BITS] = 1UL << node % WORD_BITS;
    /* The kernel counts one bit less than it is told. */
    return or_errno((int)syscall(SYS_mbind, memory, bytes, MPOL_BIND, mask, NODES_MAX + 1, 0));
}

static int real_populate(void *memory, size_t bytes)
{
    return RETRY(madvise(memory, bytes, MADV_POPULATE_WRITE));
}

static int real_punch(int fd, uint64_t offset, uint64_t bytes)
{
    if (offset > INT64_MAX || bytes > INT64_MAX)
        return -EINVAL;
    return RETRY(
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes));
}

/* Another process's memory */

static ssize_t real_read_process(int pid, const struct iovec *local, unsigned local_count,
                                 const struct iovec *remote, unsigned remote_count)
{
    return RETRY(process_vm_readv(pid, local, local_count, remote, remote_count, 0));
}

static int real_allow_ptrace(void)
{
    return or_errno(prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0));
}

/* Files */

static int real_open_read(const char *path)
{
    return RETRY(open(path, O_RDONLY | O_CLOEXEC));
}

/* Lock a new file and give it its size. */
static int prepare_file(int fd, size_t bytes)
{
    int result = RETRY(flock(fd, LOCK_EX | LOCK_NB));

    if (result < 0)
        return result;
    do
        result = posix_fallocate(fd, 0, (off_t)bytes);
    while (result == EINTR);
    return -result;
}

static int real_make_file(const char *path, size_t bytes)
{
    int fd = RETRY(open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));

    if (fd < 0)
        return fd;
    int result = prepare_file(fd, bytes);
    if (result < 0) {
        (void)unlink(path); /* the first failure is the one to tell */
        (void)close(fd);
        return result;
    }
    return fd;
}

static ssize_t real_read(int fd, void *bytes, size_t count)
{
    return RETRY(read(fd, bytes, count));
}

static ssize_t real_write(int fd, const void *bytes, size_t count)
{
    return RETRY(write(fd, bytes, count));
}

static void real_close(int fd)
{
    (void)close(fd); /* Linux has closed it whatever it says; EINTR must not be retried */
}

static int real_make_directory(const char *path, unsigned mode)
{
    return or_errno(mkdir(path, (mode_t)mode));
}

static int real_stat(const char *path, struct stat *out)
{
    return or_errno(lstat(path, out));
}

static int real_chmod(const char *path, unsigned mode)
{
    return or_errno(chmod(path, (mode_t)mode));
}

static void real_unlink(const char *path)
{
    (void)unlink(path); /* gone already is as good */
}

/* UNIX sockets */

static int real_socket(void)
{
    return or_errno(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static int real_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
    return or_errno(bind(fd, address, bytes));
}

static int real_listen(int fd, int backlog)
{
    return or_errno(listen(fd, backlog));
}

static int real_accept(int fd)
{
    return RETRY(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static int real_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    return RETRY(connect(fd, address, bytes));
}

static int real_peer(int fd, struct ucred *out)
{
    return or_errno(
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &(socklen_t){sizeof(struct ucred)}));
}

static void real_shutdown_write(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

static void real_shutdown(int fd)
{
    (void)shutdown(fd, SHUT_RDWR); /* the other end may have been quicker */
}

static ssize_t real_sendmsg(int fd, const struct msghdr *message)
{
    return RETRY(sendmsg(fd, message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

static ssize_t real_recvmsg(int fd, struct msghdr *message)
{
    return RETRY(recvmsg(fd, message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));
}

/* TCP sockets */

static int real_tcp_socket(int family)
{
    return or_errno(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

static int real_set_option(int fd, int level, int name, int value)
{
    return or_errno(setsockopt(fd, level, name, &value, sizeof value));
}

static int real_pending_error(int fd)
{
    int error = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error}) != 0)
        return -errno;
    return -error;
}

static int real_own_address(int fd, struct sockaddr_storage *out)
{
    return or_errno(getsockname(fd, (struct sockaddr *)out, &(socklen_t){sizeof *out}));
}

static int real_peer_address(int fd, struct sockaddr_storage *out)
{
    return or_errno(getpeername(fd, (struct sockaddr *)out, &(socklen_t){sizeof *out}));
}

static int real_interfaces(struct sockaddr_storage *out, int capacity)
{
    struct ifaddrs *first;
    int count = 0;

    if (getifaddrs(&first) != 0)
        return -errno;
    for (const struct ifaddrs *next = first; next != NULL && count < capacity;
         next = next->ifa_next) {
        if (next->ifa_addr == NULL || (next->ifa_flags & IFF_UP) == 0)
            continue;
        if (next->ifa_addr->sa_family == AF_INET)
            memcpy(&out[count++], next->ifa_addr, sizeof(struct sockaddr_in));
        else if (next->ifa_addr->sa_family == AF_INET6)
            memcpy(&out[count++], next->ifa_addr, sizeof(struct sockaddr_in6));
    }
    freeifaddrs(first);
    return count;
}

static int real_source_address(const struct sockaddr_storage *to, struct sockaddr_storage *out)
{
    struct sockaddr_storage target = *to;
    int fd = or_errno(socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));

    if (fd < 0)
        return fd;
    /* A datagram's connection sends nothing, but wants a port; its place is the same for both. */
    ((struct sockaddr_in *)&target)->sin_port = htons(1);
    int result = or_errno(connect(fd, (struct sockaddr *)&target, sizeof target));
    if (result == 0)
        result = real_own_address(fd, out);
    (void)close(fd);
    return result;
}

/* Waiting */

static int real_epoll(void)
{
    return or_errno(epoll_create1(EPOLL_CLOEXEC));
}

static int real_epoll_control(int epoll, int operation, int fd, struct epoll_event *event)
{
    return or_errno(epoll_ctl(epoll, operation, fd, event));
}

/* Before Linux 5.11: milliseconds, rounded up so that a wait is never too short. */
static int epoll_wait_ms(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns)
{
    uint64_t ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);

    return or_errno(epoll_wait(epoll, events, count, ms > INT32_MAX ? INT32_MAX : (int)ms));
}

static int real_epoll_wait(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns)
{
#if defined(__GLIBC_PREREQ) && __GLIBC_PREREQ(2, 35) && !SANITIZES_THREADS
    static atomic_bool
        is_missing; /* relaxed: a thread that learns it late asks in vain once more */

    if (!atomic_load_explicit(&is_missing, memory_order_relaxed)) {
        const struct timespec timeout = to_timespec(timeout_ns);
        int result = epoll_pwait2(epoll, events, count, &timeout, NULL);

        if (result != -1 || errno != ENOSYS)
            return or_errno(result);
        atomic_store_explicit(&is_missing, true, memory_order_relaxed);
    }
#endif
    return epoll_wait_ms(epoll, events, count, timeout_ns);
}

static int real_event(void)
{
    return or_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static int real_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return or_errno(flags == -1 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

static int real_timer(void)
{
    return or_errno(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

static int real_set_timer(int fd, uint64_t in_ns)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(in_ns / 1000000000), .tv_nsec = (long)(in_ns % 1000000000)},
    };

    return or_errno(timerfd_settime(fd, 0, &when, NULL));
}

static int real_poll(struct pollfd *fds, unsigned count, uint64_t timeout_ns)
{
    const struct timespec timeout = to_timespec(timeout_ns);

    return or_errno(ppoll(fds, count, &timeout, NULL));
}

static int real_pidfd_self(void)
{
    return or_errno((int)syscall(SYS_pidfd_open, getpid(), 0));
}

static void real_self(struct ucred *out)
{
    *out = (struct ucred){.pid = getpid(), .uid = geteuid(), .gid = getegid()};
}

/* Threads */

static int create_thread(pthread_t *out, size_t stack_bytes, void *(*body)(void *), void *context)
{
    pthread_attr_t attributes;
    int result = pthread_attr_init(&attributes);

    if (result != 0)
        return result;
    if (stack_bytes > 0)
        result = pthread_attr_setstacksize(&attributes, stack_bytes);
    if (result == 0)
        result = pthread_create(out, &attributes, body, context);
    (void)pthread_attr_destroy(&attributes); /* cannot fail on Linux */
    return result;
}

static int real_thread(pthread_t *out, void *(*body)(void *context), void *context,
                       const char *name)
{
    char short_name[THREAD_NAME_BYTES] = {0};
    sigset_t all, before;

    (void)sigfillset(&all);
    /* The application's signals are for its own threads; a new thread inherits the mask. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = create_thread(out, STACK_BYTES, body, context);
    /* A program with much thread-local storage needs more, and the system's default has room for
     * it. */
    if (result == EINVAL)
        result = create_thread(out, 0, body, context);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0)
        return -result;
    memcpy(short_name, name, strnlen(name, sizeof short_name - 1));
    (void)pthread_setname_np(*out, short_name); /* a name is a courtesy */
    return 0;
}

static void *real_load(const char *path, char *why, size_t capacity)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        const char *words = dlerror();

        (void)snprintf(why, capacity, "%s", words != NULL ? words : "the loader does not say why");
    }
    return library;
}

static void *real_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

static void real_unload(void *library)
{
    if (library != NULL)
        (void)dlclose(library); /* what it says is no help to anybody */
}

static unsigned real_processors(void)
{
    cpu_set_t set;

    /* It fails where there are more than the set has room for. */
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : CPU_SETSIZE;
}

static void real_yield(void)
{
    (void)sched_yield(); /* never fails on Linux */
}

static void real_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t duration_ns)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t nanoseconds = (uint64_t)at.tv_nsec + duration_ns % NS_PER_S;
    at.tv_sec += (time_t)(duration_ns / NS_PER_S + nanoseconds / NS_PER_S);
    at.tv_nsec = (long)(nanoseconds % NS_PER_S);
    (void)pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &at);
}

const struct lend_sys_ops lend_sys_real = {
    .allocate = real_allocate,
    .allocate_dirty = real_allocate_dirty,
    .release = free,
    .now_ns = real_now_ns,
    .sleep_ns = real_sleep_ns,
    .random = real_random,
    .memfd = real_memfd,
    .memfd_check = real_memfd_check,
    .map_twice = real_map_twice,
    .unmap_twice = real_unmap_twice,
    .map_wiped = real_map_wiped,
    .unmap_wiped = real_unmap_wiped,
    .memfd_storage = real_memfd_storage,
    .seal = real_seal,
    .seals = real_seals,
    .file_stat = real_file_stat,
    .file_system = real_file_system,
    .page_bytes = real_page_bytes,
    .duplicate = real_duplicate,
    .reopen_read = real_reopen_read,
    .map_file = real_map_file,
    .unmap = real_unmap,
    .keep_from_fork = real_keep_from_fork,
    .bind_node = real_bind_node,
    .populate = real_populate,
    .punch = real_punch,
    .read_process = real_read_process,
    .allow_ptrace = real_allow_ptrace,
    .open_read = real_open_read,
    .mapping = lend_sys_mapping_real,
    .make_file = real_make_file,
    .read = real_read,
    .write = real_write,
    .close = real_close,
    .make_directory = real_make_directory,
    .stat = real_stat,
    .chmod = real_chmod,
    .unlink = real_unlink,
    .socket = real_socket,
    .bind = real_bind,
    .listen = real_listen,
    .accept = real_accept,
    .connect = real_connect,
    .peer = real_peer,
    .shutdown = real_shutdown,
    .shutdown_write = real_shutdown_write,
    .sendmsg = real_sendmsg,
    .recvmsg = real_recvmsg,
    .tcp_socket = real_tcp_socket,
    .set_option = real_set_option,
    .pending_error = real_pending_error,
    .own_address = real_own_address,
    .peer_address = real_peer_address,
    .interfaces = real_interfaces,
    .source_address = real_source_address,
    .load = real_load,
    .symbol = real_symbol,
    .unload = real_unload,
    .libraries = lend_sys_libraries_real,
    .epoll = real_epoll,
    .epoll_control = real_epoll_control,
    .epoll_wait = real_epoll_wait,
    .event = real_event,
    .timer = real_timer,
    .set_timer = real_set_timer,
    .poll = real_poll,
    .set_nonblocking = real_set_nonblocking,
    .pidfd_self = real_pidfd_self,
    .self = real_self,
    .processors = real_processors,
    .yield = real_yield,
    .thread = real_thread,
    .wait = real_wait,
};
const struct lend_sys_ops *lend_sys = &lend_sys_real;
