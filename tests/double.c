/* SPDX-License-Identifier: Apache-2.0 */
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SITES_MAX = 1024, DESCRIPTORS_MAX = 65536 };

/* Counters that any thread may move; nothing else hangs on their order. */
static atomic_int calls;
static atomic_int fault_at; /* the call, or the place, that fails; negative for none */
static atomic_bool counts_sites;
static atomic_bool fault_was_reached;
static atomic_int live_allocations;
static atomic_int live_descriptors;
static atomic_int live_maps;
static atomic_int live_threads;
static atomic_int live_libraries;
static atomic_int closed_twice;
static _Atomic uint64_t clock_ns; /* 0: the real one */
static _Atomic uint64_t clock_tick_ns;

static _Atomic(void *) sites[SITES_MAX];
static atomic_bool is_ours[DESCRIPTORS_MAX];

/* The number of that place if it is new, else -1. */
static int number_new_site(void *site)
{
    for (int i = 0; i < SITES_MAX; i++) {
        void *expected = NULL;

        if (atomic_compare_exchange_strong(&sites[i], &expected, site))
            return i;
        if (expected == site)
            return -1;
    }
    return -1;
}

static bool is_turn(void *site)
{
    int number = atomic_fetch_add(&calls, 1);

    if (atomic_load(&counts_sites))
        number = number_new_site(site);
    if (number < 0 || number != atomic_load(&fault_at))
        return false;
    atomic_store(&fault_was_reached, true);
    return true;
}

/* In a slot of the table: is it the turn of this call? */
#define FAILS() is_turn(__builtin_return_address(0))

bool double_should_fail(void)
{
    return is_turn(__builtin_return_address(0));
}

/* Count a descriptor that the kernel gave; passes results on. */
static int adopt(int fd)
{
    if (fd >= 0 && fd < DESCRIPTORS_MAX && !atomic_exchange(&is_ours[fd], true))
        atomic_fetch_add(&live_descriptors, 1);
    return fd;
}

static void *allocate(size_t bytes)
{
    void *memory = FAILS() ? NULL : lend_sys_real.allocate(bytes);

    if (memory != NULL)
        atomic_fetch_add(&live_allocations, 1);
    return memory;
}

/* What nobody filled is told by its pattern. */
static void *allocate_dirty(size_t bytes)
{
    void *memory = FAILS() ? NULL : lend_sys_real.allocate_dirty(bytes);

    if (memory != NULL) {
        memset(memory, 0xa5, bytes);
        atomic_fetch_add(&live_allocations, 1);
    }
    return memory;
}

static void release(void *memory)
{
    if (memory != NULL)
        atomic_fetch_sub(&live_allocations, 1);
    lend_sys_real.release(memory);
}

static uint64_t now_ns(void)
{
    if (atomic_load(&clock_ns) == 0)
        return lend_sys_real.now_ns();
    return atomic_fetch_add(&clock_ns, atomic_load(&clock_tick_ns));
}

static void sleep_ns(uint64_t duration_ns)
{
    if (atomic_load(&clock_ns) == 0)
        lend_sys_real.sleep_ns(duration_ns);
    else
        double_clock_advance(duration_ns);
}

static int random_bytes(void *bytes, size_t count)
{
    return FAILS() ? -EIO : lend_sys_real.random(bytes, count);
}

static int memfd(const char *name, size_t bytes)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.memfd(name, bytes));
}

static int memfd_check(int fd, size_t bytes)
{
    return FAILS() ? -EINVAL : lend_sys_real.memfd_check(fd, bytes);
}

static void *map_twice(int fd, uint64_t offset, size_t bytes)
{
    void *memory = FAILS() ? NULL : lend_sys_real.map_twice(fd, offset, bytes);

    if (memory != NULL)
        atomic_fetch_add(&live_maps, 1);
    return memory;
}

static void unmap_twice(void *memory, size_t bytes)
{
    if (memory != NULL)
        atomic_fetch_sub(&live_maps, 1);
    lend_sys_real.unmap_twice(memory, bytes);
}

/* Not counted as a map: base/fork.c keeps its page for good. */
static int map_wiped(size_t bytes, void **out)
{
    return FAILS() ? -ENOMEM : lend_sys_real.map_wiped(bytes, out);
}

static int memfd_storage(const char *name, size_t bytes, bool huge)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.memfd_storage(name, bytes, huge));
}

static int seal(int fd, int seals)
{
    return FAILS() ? -EPERM : lend_sys_real.seal(fd, seals);
}

static int get_seals(int fd)
{
    return FAILS() ? -EINVAL : lend_sys_real.seals(fd);
}

static int file_stat(int fd, struct stat *out)
{
    return FAILS() ? -EIO : lend_sys_real.file_stat(fd, out);
}

static int file_system(int fd, struct statfs *out)
{
    return FAILS() ? -EIO : lend_sys_real.file_system(fd, out);
}

static int duplicate(int fd)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.duplicate(fd));
}

static int reopen_read(int fd)
{
    return FAILS() ? -EACCES : adopt(lend_sys_real.reopen_read(fd));
}

static void *map_file(int fd, uint64_t offset, size_t bytes, bool writable, bool prefault)
{
    void *memory = FAILS() ? NULL : lend_sys_real.map_file(fd, offset, bytes, writable, prefault);

    if (memory != NULL)
        atomic_fetch_add(&live_maps, 1);
    return memory;
}

static void unmap(void *memory, size_t bytes)
{
    if (memory != NULL)
        atomic_fetch_sub(&live_maps, 1);
    lend_sys_real.unmap(memory, bytes);
}

static int keep_from_fork(void *memory, size_t bytes)
{
    return FAILS() ? -ENOMEM : lend_sys_real.keep_from_fork(memory, bytes);
}

static int bind_node(void *memory, size_t bytes, unsigned node)
{
    return FAILS() ? -EPERM : lend_sys_real.bind_node(memory, bytes, node);
}

static int populate(void *memory, size_t bytes)
{
    return FAILS() ? -ENOMEM : lend_sys_real.populate(memory, bytes);
}

static int punch(int fd, uint64_t offset, uint64_t bytes)
{
    return FAILS() ? -EPERM : lend_sys_real.punch(fd, offset, bytes);
}

static ssize_t read_process(int pid, const struct iovec *local, unsigned local_count,
                            const struct iovec *remote, unsigned remote_count)
{
    return FAILS() ? -EPERM
                   : lend_sys_real.read_process(pid, local, local_count, remote, remote_count);
}

static int allow_ptrace(void)
{
    return FAILS() ? -EINVAL : lend_sys_real.allow_ptrace();
}

static int open_read(const char *path)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.open_read(path));
}

/* As kernels before 6.11, which have the list read. */
static int ask_mapping(int fd, uint64_t address, struct lend_sys_mapping *out)
{
    (void)fd;
    (void)address;
    (void)out;
    return -ENOTTY;
}

static int make_file(const char *path, size_t bytes)
{
    return FAILS() ? -ENOSPC : adopt(lend_sys_real.make_file(path, bytes));
}

static ssize_t read_bytes(int fd, void *bytes, size_t count)
{
    return FAILS() ? -EIO : lend_sys_real.read(fd, bytes, count);
}

static ssize_t write_bytes(int fd, const void *bytes, size_t count)
{
    return FAILS() ? -EIO : lend_sys_real.write(fd, bytes, count);
}

static void close_descriptor(int fd)
{
    if (fcntl(fd, F_GETFD) == -1)
        atomic_fetch_add(&closed_twice, 1);
    if (fd >= 0 && fd < DESCRIPTORS_MAX && atomic_exchange(&is_ours[fd], false))
        atomic_fetch_sub(&live_descriptors, 1);
    lend_sys_real.close(fd);
}

static int make_directory(const char *path, unsigned mode)
{
    return FAILS() ? -EACCES : lend_sys_real.make_directory(path, mode);
}

static int stat_path(const char *path, struct stat *out)
{
    return FAILS() ? -EACCES : lend_sys_real.stat(path, out);
}

static int chmod_path(const char *path, unsigned mode)
{
    return FAILS() ? -EPERM : lend_sys_real.chmod(path, mode);
}

static int make_socket(void)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.socket());
}

static int bind_socket(int fd, const struct sockaddr *address, socklen_t bytes)
{
    return FAILS() ? -EACCES : lend_sys_real.bind(fd, address, bytes);
}

static int listen_socket(int fd, int backlog)
{
    return FAILS() ? -EADDRINUSE : lend_sys_real.listen(fd, backlog);
}

static int accept_socket(int fd)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.accept(fd));
}

static int connect_socket(int fd, const struct sockaddr *address, socklen_t bytes)
{
    return FAILS() ? -ECONNREFUSED : lend_sys_real.connect(fd, address, bytes);
}

static ssize_t send_message(int fd, const struct msghdr *message)
{
    return FAILS() ? -ENOBUFS : lend_sys_real.sendmsg(fd, message);
}

static ssize_t receive_message(int fd, struct msghdr *message)
{
    if (FAILS())
        return -ENOMEM;
    ssize_t count = lend_sys_real.recvmsg(fd, message);
    if (count < 0 || message->msg_control == NULL)
        return count;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int received;

            memcpy(&received, CMSG_DATA(part) + at, sizeof received);
            (void)adopt(received); /* passed on in the message */
        }
    }
    return count;
}

static int make_tcp_socket(int family)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.tcp_socket(family));
}

static int set_option(int fd, int level, int name, int value)
{
    return FAILS() ? -ENOMEM : lend_sys_real.set_option(fd, level, name, value);
}

static int pending_error(int fd)
{
    return FAILS() ? -EHOSTUNREACH : lend_sys_real.pending_error(fd);
}

static int own_address(int fd, struct sockaddr_storage *out)
{
    return FAILS() ? -ENOBUFS : lend_sys_real.own_address(fd, out);
}

static int peer_address(int fd, struct sockaddr_storage *out)
{
    return FAILS() ? -ENOTCONN : lend_sys_real.peer_address(fd, out);
}

static int source_address(const struct sockaddr_storage *to, struct sockaddr_storage *out)
{
    return FAILS() ? -ENETUNREACH : lend_sys_real.source_address(to, out);
}

static int interfaces(struct sockaddr_storage *out, int capacity)
{
    return FAILS() ? -ENOMEM : lend_sys_real.interfaces(out, capacity);
}

static int make_epoll(void)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.epoll());
}

static int epoll_control(int epoll, int operation, int fd, struct epoll_event *event)
{
    return FAILS() ? -ENOMEM : lend_sys_real.epoll_control(epoll, operation, fd, event);
}

static int wait_epoll(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns)
{
    if (FAILS())
        return -EINTR;
    if (atomic_load(&clock_ns) == 0)
        return lend_sys_real.epoll_wait(epoll, events, count, timeout_ns);
    int result = lend_sys_real.epoll_wait(epoll, events, count, 0);
    if (result == 0)
        double_clock_advance(timeout_ns);
    return result;
}

static int make_event(void)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.event());
}

static int poll_descriptors(struct pollfd *fds, unsigned count, uint64_t timeout_ns)
{
    if (FAILS())
        return -EINTR;
    if (atomic_load(&clock_ns) == 0)
        return lend_sys_real.poll(fds, count, timeout_ns);
    int result = lend_sys_real.poll(fds, count, 0);
    if (result == 0)
        double_clock_advance(timeout_ns);
    return result;
}

static int pidfd_self(void)
{
    return FAILS() ? -EMFILE : adopt(lend_sys_real.pidfd_self());
}

struct thread_start {
    void *(*body)(void *context);
    void *context;
};

static void *run_counted(void *context)
{
    struct thread_start start = *(struct thread_start *)context;

    free(context);
    void *result = start.body(start.context);
    atomic_fetch_sub(&live_threads, 1);
    return result;
}

static void *load_library(const char *path, char *why, size_t capacity)
{
    if (FAILS()) {
        (void)snprintf(why, capacity, "%s: it is this call's turn to fail", path);
        return NULL;
    }
    void *library = lend_sys_real.load(path, why, capacity);
    if (library != NULL)
        atomic_fetch_add(&live_libraries, 1);
    return library;
}

static void *find_symbol(void *library, const char *name)
{
    return FAILS() ? NULL : lend_sys_real.symbol(library, name);
}

static void unload_library(void *library)
{
    if (library != NULL)
        atomic_fetch_sub(&live_libraries, 1);
    lend_sys_real.unload(library);
}

static int make_thread(pthread_t *out, void *(*body)(void *context), void *context,
                       const char *name)
{
    if (FAILS())
        return -EAGAIN;
    struct thread_start *start = malloc(sizeof *start);
    if (start == NULL)
        return -EAGAIN;
    *start = (struct thread_start){.body = body, .context = context};
    atomic_fetch_add(&live_threads, 1);
    int result = lend_sys_real.thread(out, run_counted, start, name);
    if (result < 0) {
        atomic_fetch_sub(&live_threads, 1);
        free(start);
    }
    return result;
}

static void install(int nth, bool by_site)
{
    static struct lend_sys_ops faulty;

    faulty = lend_sys_real;
    faulty.allocate = allocate, faulty.allocate_dirty = allocate_dirty, faulty.release = release;
    faulty.now_ns = now_ns, faulty.sleep_ns = sleep_ns, faulty.random = random_bytes;
    faulty.memfd = memfd, faulty.memfd_check = memfd_check;
    faulty.map_twice = map_twice, faulty.unmap_twice = unmap_twice, faulty.map_wiped = map_wiped;
    faulty.memfd_storage = memfd_storage, faulty.seal = seal, faulty.seals = get_seals;
    faulty.file_stat = file_stat, faulty.duplicate = duplicate, faulty.reopen_read = reopen_read;
    faulty.map_file = map_file, faulty.unmap = unmap, faulty.bind_node = bind_node;
    faulty.keep_from_fork = keep_from_fork;
    faulty.populate = populate, faulty.punch = punch, faulty.file_system = file_system;
    faulty.read_process = read_process, faulty.allow_ptrace = allow_ptrace;
    faulty.open_read = open_read, faulty.read = read_bytes, faulty.write = write_bytes;
    faulty.mapping = ask_mapping, faulty.make_file = make_file;
    faulty.close = close_descriptor, faulty.make_directory = make_directory;
    faulty.stat = stat_path, faulty.chmod = chmod_path;
    faulty.socket = make_socket, faulty.bind = bind_socket, faulty.listen = listen_socket;
    faulty.accept = accept_socket, faulty.connect = connect_socket;
    faulty.sendmsg = send_message, faulty.recvmsg = receive_message;
    faulty.tcp_socket = make_tcp_socket, faulty.set_option = set_option;
    faulty.pending_error = pending_error, faulty.own_address = own_address;
    faulty.peer_address = peer_address, faulty.interfaces = interfaces;
    faulty.source_address = source_address;
    faulty.load = load_library, faulty.symbol = find_symbol, faulty.unload = unload_library;
    faulty.epoll = make_epoll, faulty.epoll_control = epoll_control;
    faulty.epoll_wait = wait_epoll, faulty.event = make_event, faulty.poll = poll_descriptors;
    faulty.pidfd_self = pidfd_self, faulty.thread = make_thread;

    live_libraries = 0;
    calls = live_allocations = live_descriptors = live_maps = live_threads = closed_twice = 0;
    fault_was_reached = false;
    clock_ns = clock_tick_ns = 0;
    fault_at = nth;
    counts_sites = by_site;
    for (size_t i = 0; i < SITES_MAX; i++)
        sites[i] = NULL;
    for (size_t i = 0; i < DESCRIPTORS_MAX; i++)
        is_ours[i] = false;
    lend_sys = &faulty;
}

void double_install(int nth)
{
    install(nth, false);
}

void double_install_site(int nth)
{
    install(nth, true);
}

bool double_remove(void)
{
    lend_sys = &lend_sys_real;
    assert_int_equal(live_threads, 0);
    assert_int_equal(live_libraries, 0);
    assert_int_equal(live_allocations, 0);
    assert_int_equal(live_descriptors, 0);
    assert_int_equal(live_maps, 0);
    assert_int_equal(closed_twice, 0);
    return fault_was_reached;
}

int double_calls(void)
{
    return calls;
}

int double_live_allocations(void)
{
    return live_allocations;
}

int double_live_descriptors(void)
{
    return live_descriptors;
}

int double_live_maps(void)
{
    return live_maps;
}

int double_live_threads(void)
{
    return live_threads;
}

void double_clock_set(uint64_t at_ns, uint64_t tick_ns)
{
    assert_true(at_ns != 0);
    atomic_store(&clock_tick_ns, tick_ns);
    atomic_store(&clock_ns, at_ns);
}

void double_clock_advance(uint64_t duration_ns)
{
    atomic_fetch_add(&clock_ns, duration_ns);
}
