/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the door to the system keeps its own promises: sealed memory that nobody resizes, mapped
 * twice in a row; files that are mapped, bound to a node and punched; another process's memory;
 * close-on-exec descriptors; waits that end; threads without the application's signals. Method:
 * each promise against the kernel.
 */
#include "base/sys.h"
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BYTES = 8192 };

static void assert_closes_on_exec(int fd)
{
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void test_memory_is_zeroed(void **state)
{
    unsigned char *memory = lend_sys->allocate(1000);

    (void)state;
    assert_non_null(memory);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    lend_sys->release(memory);
    lend_sys->release(NULL);
}

static void test_clock_moves_forward_and_sleep_lasts(void **state)
{
    uint64_t before = lend_sys->now_ns();

    (void)state;
    lend_sys->sleep_ns(1000000);
    assert_true(lend_sys->now_ns() - before >= 1000000);
}

static void test_random_bytes_differ(void **state)
{
    uint8_t first[64] = {0}, second[64] = {0};

    (void)state;
    assert_int_equal(lend_sys->random(first, sizeof first), 0);
    assert_int_equal(lend_sys->random(second, sizeof second), 0);
    assert_memory_not_equal(first, second, sizeof first);
    assert_int_equal(lend_sys->random(NULL, 0), 0);
}

static void test_shared_memory_cannot_be_resized(void **state)
{
    int fd = lend_sys->memfd("lend-test", BYTES);

    (void)state;
    assert_closes_on_exec(fd);
    assert_int_equal(ftruncate(fd, BYTES / 2), -1);
    assert_int_equal(ftruncate(fd, BYTES * 2), -1);
    assert_int_equal(lend_sys->memfd_check(fd, BYTES), 0);
    assert_int_equal(lend_sys->memfd_check(fd, BYTES - 1), -EINVAL);
    assert_int_equal(lend_sys->memfd_check(fd, BYTES + 1), -EINVAL);
    lend_sys->close(fd);
}

static void test_memory_that_could_vanish_is_refused(void **state)
{
    int event = lend_sys->event();
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    (void)state;
    assert_true(unsealed >= 0);
    assert_int_equal(ftruncate(unsealed, BYTES), 0);
    assert_int_equal(lend_sys->memfd_check(unsealed, BYTES), -EINVAL);
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_GROW), 0);
    assert_int_equal(lend_sys->memfd_check(unsealed, BYTES), -EINVAL);
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(lend_sys->memfd_check(unsealed, BYTES), 0);
    assert_int_equal(lend_sys->memfd_check(event, BYTES), -EINVAL);
    assert_int_equal(lend_sys->memfd_check(-1, BYTES), -EINVAL);
    lend_sys->close(unsealed);
    lend_sys->close(event);
}

static void test_sealed_huge_pages_are_refused(void **state)
{
    const size_t huge = (size_t)2 << 20;
    int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

    (void)state;
    if (fd < 0) {
        print_message("skipped: this kernel has no huge pages for a memfd\n");
        skip();
    }
    assert_int_equal(ftruncate(fd, (off_t)huge), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
    assert_int_equal(lend_sys->memfd_check(fd, huge), -EINVAL);
    lend_sys->close(fd);
}

/* Volatile: that two addresses are one is what the compiler cannot know. */
static void check_twice(volatile char *memory)
{
    assert_true(memory != NULL);
    memory[0] = 'a';
    memory[BYTES - 1] = 'z';
    assert_int_equal(memory[BYTES], 'a');
    assert_int_equal(memory[2 * BYTES - 1], 'z');
    memory[BYTES + 5] = 'm';
    assert_int_equal(memory[5], 'm');
}

static void test_memory_is_mapped_twice_in_a_row(void **state)
{
    int fd = lend_sys->memfd("lend-test", 3 * BYTES);
    char *whole = mmap(NULL, 3 * BYTES, PROT_READ, MAP_SHARED, fd, 0);
    char *own = lend_sys->map_twice(-1, 0, BYTES);
    char *shared = lend_sys->map_twice(fd, BYTES, BYTES);

    (void)state;
    assert_ptr_not_equal(whole, MAP_FAILED);
    check_twice(own);
    check_twice(shared);
    assert_int_equal(whole[BYTES], 'a');
    assert_int_equal(whole[0], 0);
    assert_int_equal(whole[2 * BYTES], 0);
    lend_sys->unmap_twice(own, BYTES);
    lend_sys->unmap_twice(shared, BYTES);
    lend_sys->unmap_twice(NULL, BYTES);
    assert_int_equal(munmap(whole, 3 * BYTES), 0);
    lend_sys->close(fd);
}

static void test_mappings_that_cannot_be_are_null(void **state)
{
    int event = lend_sys->event();

    (void)state;
    assert_null(lend_sys->map_twice(event, 0, BYTES));
    assert_null(lend_sys->map_twice(-1, 0, 0));
    assert_null(lend_sys->map_twice(-1, 0, SIZE_MAX));
    assert_null(lend_sys->map_twice(event, UINT64_MAX, BYTES));
    lend_sys->close(event);
}

static void test_storage_is_sealed_as_it_is_told(void **state)
{
    int fd = lend_sys->memfd_storage("lend-test", BYTES, false);
    struct statfs file_system;
    struct stat file;

    (void)state;
    assert_closes_on_exec(fd);
    assert_int_equal(lend_sys->page_bytes(), sysconf(_SC_PAGESIZE));
    assert_int_equal(lend_sys->file_system(fd, &file_system), 0);
    assert_int_equal(file_system.f_type, TMPFS_MAGIC);
    assert_int_equal(lend_sys->file_stat(fd, &file), 0);
    assert_int_equal(file.st_size, BYTES);
    int before = lend_sys->seals(fd); /* that against execution, where the kernel has it */
    assert_int_equal(before & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL), 0);
    assert_int_equal(lend_sys->seal(fd, F_SEAL_SHRINK), 0);
    assert_int_equal(lend_sys->seals(fd), before | F_SEAL_SHRINK);
    assert_int_equal(ftruncate(fd, BYTES / 2), -1);
    assert_int_equal(ftruncate(fd, BYTES * 2), 0);
    assert_int_equal(lend_sys->seal(fd, F_SEAL_SEAL), 0);
    assert_int_equal(lend_sys->seal(fd, F_SEAL_GROW), -EPERM);
    lend_sys->close(fd);
    assert_int_equal(lend_sys->seals(fd), -EBADF);
    assert_int_equal(lend_sys->file_stat(fd, &file), -EBADF);
    assert_int_equal(lend_sys->file_system(fd, &file_system), -EBADF);
    assert_int_equal(lend_sys->memfd_storage("lend-test", SIZE_MAX, false), -EINVAL);
}

static void test_storage_of_huge_pages_is_of_their_size(void **state)
{
    const size_t huge = (size_t)2 << 20;
    int fd = lend_sys->memfd_storage("lend-test", huge, true);
    struct stat file;

    (void)state;
    if (fd < 0) {
        print_message("skipped: no huge pages of 2 MiB for a memfd here: %s\n", strerror(-fd));
        skip();
    }
    assert_closes_on_exec(fd);
    assert_int_equal(lend_sys->file_stat(fd, &file), 0);
    assert_true((size_t)file.st_blksize >= huge);
    assert_int_equal(lend_sys->seal(fd, F_SEAL_SHRINK), 0);
    lend_sys->close(fd);
}

static void test_files_are_mapped_for_all_to_see(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = lend_sys->memfd_storage("lend-test", 4 * page, false);
    unsigned char resident[2] = {0};
    volatile char *all = lend_sys->map_file(fd, 0, 4 * page, true, false);
    char *part = lend_sys->map_file(fd, page, 2 * page, false, true);

    (void)state;
    assert_true(all != NULL);
    assert_non_null(part);
    assert_int_equal(mincore(part, 2 * page, resident), 0);
    assert_int_equal(resident[0] & resident[1] & 1, 1); /* there before it was touched */
    all[page] = 'x';
    assert_int_equal(((volatile char *)part)[0], 'x');
    assert_null(lend_sys->map_file(fd, 1, page, false, false));
    assert_null(lend_sys->map_file(fd, UINT64_MAX - page + 1, page, false, false));
    assert_null(lend_sys->map_file(fd, 0, 0, false, false));
    assert_null(lend_sys->map_file(-1, 0, page, false, false));
    lend_sys->unmap(part, 2 * page);
    lend_sys->unmap((void *)(uintptr_t)all, 4 * page);
    lend_sys->unmap(NULL, page);
    lend_sys->close(fd);
}

static void test_file_opened_anew_is_the_same_and_read_only(void **state)
{
    int fd = lend_sys->memfd_storage("lend-test", BYTES, false);
    int twin = lend_sys->duplicate(fd), anew = lend_sys->reopen_read(fd);
    struct stat first, second, third;

    (void)state;
    assert_closes_on_exec(twin);
    assert_closes_on_exec(anew);
    assert_int_equal(lend_sys->file_stat(fd, &first), 0);
    assert_int_equal(lend_sys->file_stat(twin, &second), 0);
    assert_int_equal(lend_sys->file_stat(anew, &third), 0);
    assert_true(first.st_ino == second.st_ino && first.st_ino == third.st_ino);
    assert_true(first.st_dev == second.st_dev && first.st_dev == third.st_dev);
    assert_int_equal(fcntl(twin, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(fcntl(anew, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_null(lend_sys->map_file(anew, 0, BYTES, true, false));
    lend_sys->close(anew), lend_sys->close(twin), lend_sys->close(fd);
    assert_int_equal(lend_sys->duplicate(fd), -EBADF);
    assert_int_equal(lend_sys->reopen_read(fd), -ENOENT);
}

static void test_punched_pages_are_zeros_unless_sealed_against_writers(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = lend_sys->memfd_storage("lend-test", 2 * page, false);
    volatile char *memory = lend_sys->map_file(fd, 0, 2 * page, true, false);
    struct stat file;

    (void)state;
    assert_true(memory != NULL);
    memory[0] = 'a', memory[page] = 'b';
    assert_int_equal(lend_sys->seal(fd, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(lend_sys->punch(fd, page, page), 0);
    assert_int_equal(memory[0], 'a');
    assert_int_equal(memory[page], 0);
    assert_int_equal(lend_sys->file_stat(fd, &file), 0);
    assert_int_equal(file.st_size, 2 * page);
    assert_int_equal(lend_sys->punch(fd, UINT64_MAX, page), -EINVAL);
    assert_int_equal(lend_sys->punch(fd, 0, UINT64_MAX), -EINVAL);
    assert_int_equal(lend_sys->seal(fd, F_SEAL_FUTURE_WRITE), 0);
    assert_int_equal(lend_sys->punch(fd, 0, page), -EPERM);
    assert_int_equal(memory[0], 'a');
    lend_sys->unmap((void *)(uintptr_t)memory, 2 * page);
    lend_sys->close(fd);
}

static void test_memory_is_bound_to_a_node_that_is_there(void **state)
{
    int fd = lend_sys->memfd_storage("lend-test", BYTES, false);
    void *memory = lend_sys->map_file(fd, 0, BYTES, true, false);
    int result = lend_sys->bind_node(memory, BYTES, 0);

    (void)state;
    assert_non_null(memory);
    assert_int_equal(lend_sys->bind_node(memory, BYTES, UINT32_MAX), -EINVAL);
    if (result == -ENOSYS || result == -EPERM) {
        lend_sys->unmap(memory, BYTES), lend_sys->close(fd);
        print_message("skipped: no mbind() here: %s\n", strerror(-result));
        skip();
    }
    assert_int_equal(result, 0);
    assert_int_equal(lend_sys->bind_node(memory, BYTES, 1023), -EINVAL);
    lend_sys->unmap(memory, BYTES);
    lend_sys->close(fd);
}

static void test_populated_memory_is_there_before_it_is_touched(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = lend_sys->memfd_storage("lend-test", page, false);
    void *memory = lend_sys->map_file(fd, 0, page, true, false);
    unsigned char resident = 0;
    int result = lend_sys->populate(memory, page);

    (void)state;
    assert_non_null(memory);
    if (result == 0) {
        assert_int_equal(mincore(memory, page, &resident), 0);
        assert_int_equal(resident & 1, 1);
    }
    lend_sys->unmap(memory, page);
    lend_sys->close(fd);
    if (result == -EINVAL) {
        print_message("skipped: no MADV_POPULATE_WRITE before Linux 5.14\n");
        skip();
    }
    assert_int_equal(result, 0);
}

static void test_memory_of_a_process_is_read_in_pieces(void **state)
{
    char from[] = "read by its number", to[8] = {0};
    struct iovec local[] = {{.iov_base = to, .iov_len = 2}, {.iov_base = to + 2, .iov_len = 4}};
    struct iovec remote[] = {{.iov_base = from + 5, .iov_len = 3},
                             {.iov_base = from + 12, .iov_len = 3}};

    (void)state;
    ssize_t count = lend_sys->read_process(getpid(), local, 2, remote, 2);
    if (count == -ENOSYS || count == -EPERM) {
        print_message("skipped: no process_vm_readv() here: %s\n", strerror((int)-count));
        skip();
    }
    assert_int_equal(count, 6);
    assert_string_equal(to, "by num");
    remote[0].iov_base = NULL;
    assert_int_equal(lend_sys->read_process(getpid(), local, 2, remote, 2), -EFAULT);
    assert_int_equal(lend_sys->read_process(INT32_MAX, local, 2, remote, 2), -ESRCH);
}

static void test_ptrace_is_allowed_where_yama_asks(void **state)
{
    struct stat knob;
    bool has_yama = lend_sys->stat("/proc/sys/kernel/yama", &knob) == 0;

    (void)state;
    assert_int_equal(lend_sys->allow_ptrace(), has_yama ? 0 : -EINVAL);
}

static void test_a_file_is_made_where_there_was_nothing(void **state)
{
    char folder[] = "/tmp/lend-sys-test-XXXXXX", path[64];
    struct stat info;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/page", folder);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(lend_sys->make_file(path, BYTES), -EEXIST);
    lend_sys->unlink(path);
    int fd = lend_sys->make_file(path, BYTES);
    assert_closes_on_exec(fd);
    assert_int_equal(lend_sys->stat(path, &info), 0);
    assert_int_equal(info.st_mode, S_IFREG | 0600);
    assert_int_equal(info.st_size, BYTES);
    assert_int_equal(lend_sys->make_file(path, BYTES), -EEXIST);
    char *memory = lend_sys->map_file(fd, 0, BYTES, true, false);
    assert_non_null(memory);
    memory[0] = 'm';
    char byte;
    assert_int_equal(lend_sys->read(fd, &byte, 1), 1);
    assert_int_equal(byte, 'm');
    lend_sys->unmap(memory, BYTES);
    lend_sys->close(fd);
    lend_sys->unlink(path);

    /* What does not work leaves nothing behind. */
    assert_int_equal(lend_sys->make_file(path, SIZE_MAX / 2), -EFBIG);
    assert_int_equal(lend_sys->stat(path, &info), -ENOENT);
    assert_int_equal(rmdir(folder), 0);
}

static void test_files_are_read_and_stated(void **state)
{
    char folder[] = "/tmp/lend-sys-test-XXXXXX", path[64], bytes[8] = {0};
    struct stat info;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/inner", folder);
    assert_int_equal(lend_sys->make_directory(path, 0700), 0);
    assert_int_equal(lend_sys->make_directory(path, 0700), -EEXIST);
    assert_int_equal(lend_sys->chmod(path, 0500), 0);
    assert_int_equal(lend_sys->stat(path, &info), 0);
    assert_int_equal(info.st_mode, S_IFDIR | 0500);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/", path), 0);
    assert_int_equal(lend_sys->stat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode)); /* itself, not where it leads */
    lend_sys->unlink(path);
    assert_int_equal(lend_sys->stat(path, &info), -ENOENT);
    assert_int_equal(lend_sys->open_read(path), -ENOENT);
    assert_int_equal(rmdir(folder), 0);

    int fd = lend_sys->open_read("/proc/self/comm");
    assert_closes_on_exec(fd);
    assert_true(lend_sys->read(fd, bytes, sizeof bytes) > 0);
    lend_sys->close(fd);
    assert_int_equal(lend_sys->read(fd, bytes, sizeof bytes), -EBADF);
}

static void test_descriptors_close_on_exec_and_do_not_block(void **state)
{
    int fds[] = {lend_sys->event(), lend_sys->socket(), lend_sys->epoll()};
    uint64_t count;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_closes_on_exec(fds[i]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fcntl(fds[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(lend_sys->read(fds[0], &count, sizeof count), -EAGAIN);
    for (int i = 0; i < 3; i++)
        lend_sys->close(fds[i]);
}

static void test_own_pidfd_says_that_we_live(void **state)
{
    struct pollfd fd = {.fd = lend_sys->pidfd_self(), .events = POLLIN};

    (void)state;
    if (fd.fd == -ENOSYS) {
        print_message("skipped: no pidfds, as under valgrind and before Linux 5.3\n");
        skip();
    }
    assert_closes_on_exec(fd.fd);
    assert_int_equal(lend_sys->poll(&fd, 1, 0), 0);
    lend_sys->close(fd.fd);
}

static void test_waits_end_at_their_time_and_not_before(void **state)
{
    const uint64_t wait = 300000; /* under a millisecond: none is lost in rounding */
    int epoll = lend_sys->epoll();
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
    struct pollfd none = {.fd = -1};
    uint64_t before = lend_sys->now_ns();

    (void)state;
    assert_int_equal(lend_sys->epoll_wait(epoll, &event, 1, wait), 0);
    assert_true(lend_sys->now_ns() - before >= wait);
    before = lend_sys->now_ns();
    assert_int_equal(lend_sys->poll(&none, 1, wait), 0);
    assert_true(lend_sys->now_ns() - before >= wait);

    /* With something to tell, the longest wait is none. */
    int bell = lend_sys->event();
    const uint64_t one = 1;
    assert_int_equal(lend_sys->epoll_control(epoll, EPOLL_CTL_ADD, bell, &event), 0);
    assert_int_equal(lend_sys->write(bell, &one, sizeof one), sizeof one);
    event.data.u64 = 0;
    assert_int_equal(lend_sys->epoll_wait(epoll, &event, 1, UINT64_MAX), 1);
    assert_true(event.data.u64 == 77);
    assert_int_equal(lend_sys->epoll_control(epoll, EPOLL_CTL_DEL, bell + 100, &event), -EBADF);
    lend_sys->close(bell);
    lend_sys->close(epoll);
}

static void test_messages_and_descriptors_cross_a_socket(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + 20);
    char text[20] = "hello", control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = text, .iov_len = 5};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    int listener, client, server, passed, received;

    (void)state;
    double_install(-1);
    listener = lend_sys->socket(), client = lend_sys->socket(), passed = lend_sys->event();
    (void)snprintf(address.sun_path + 1, 21, "lend-sys-test-%06u", (unsigned)getpid() % 1000000u);
    assert_int_equal(lend_sys->connect(client, (struct sockaddr *)&address, bytes), -ECONNREFUSED);
    assert_int_equal(lend_sys->bind(listener, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(lend_sys->listen(listener, 4), 0);
    assert_int_equal(lend_sys->accept(listener), -EAGAIN);
    assert_int_equal(lend_sys->connect(client, (struct sockaddr *)&address, bytes), 0);
    server = lend_sys->accept(listener);
    assert_closes_on_exec(server);
    assert_int_equal(lend_sys->recvmsg(server, &message), -EAGAIN);

    message.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &passed, sizeof passed);
    assert_int_equal(lend_sys->sendmsg(client, &message), 5);
    memset(text, 0, sizeof text);
    part.iov_len = sizeof text;
    assert_int_equal(lend_sys->recvmsg(server, &message), 5);
    assert_string_equal(text, "hello");
    memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
    assert_closes_on_exec(received);
    assert_int_equal(double_live_descriptors(), 5); /* it counts the one that came */

    lend_sys->close(client);
    message.msg_controllen = 0;
    assert_int_equal(lend_sys->recvmsg(server, &message), 0);
    assert_int_equal(lend_sys->sendmsg(server, &message), -EPIPE); /* and no signal */
    lend_sys->close(server), lend_sys->close(listener);
    lend_sys->close(passed), lend_sys->close(received);
    assert_false(double_remove());
}

static void *report_thread(void *context)
{
    sigset_t blocked;

    if (pthread_sigmask(SIG_SETMASK, NULL, &blocked) != 0 || !sigismember(&blocked, SIGINT) ||
        !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGUSR1))
        return NULL;
    return context;
}

static void test_tcp_connections_know_both_ends_and_their_errors(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage listens, from, seen;
    int listener = lend_sys->tcp_socket(AF_INET), client = lend_sys->tcp_socket(AF_INET);

    (void)state;
    assert_closes_on_exec(listener);
    assert_int_equal(fcntl(client, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(lend_sys->bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(lend_sys->own_address(listener, &listens), 0);
    assert_int_equal(lend_sys->listen(listener, 1), 0);
    assert_int_equal(lend_sys->set_option(client, IPPROTO_TCP, TCP_NODELAY, 1), 0);
    assert_int_equal(lend_sys->set_option(client, IPPROTO_TCP, -1, 1), -ENOPROTOOPT);
    int result = lend_sys->connect(client, (struct sockaddr *)&listens, sizeof at);
    assert_true(result == 0 || result == -EINPROGRESS);
    struct pollfd look = {.fd = listener, .events = POLLIN};
    assert_int_equal(lend_sys->poll(&look, 1, UINT64_C(20000000000)), 1);
    int server = lend_sys->accept(listener);
    assert_closes_on_exec(server);
    assert_int_equal(lend_sys->pending_error(client), 0);
    assert_int_equal(lend_sys->own_address(client, &from), 0);
    assert_int_equal(lend_sys->peer_address(server, &seen), 0);
    assert_memory_equal(&from, &seen, sizeof at);
    assert_int_equal(lend_sys->peer_address(listener, &seen), -ENOTCONN);

    /* A connection that is cut tells so once. */
    const struct linger cut = {.l_onoff = 1};
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &cut, sizeof cut), 0);
    lend_sys->close(server);
    look = (struct pollfd){.fd = client, .events = POLLIN};
    assert_int_equal(lend_sys->poll(&look, 1, UINT64_C(20000000000)), 1);
    assert_int_equal(lend_sys->pending_error(client), -ECONNRESET);
    assert_int_equal(lend_sys->pending_error(client), 0);
    assert_int_equal(lend_sys->pending_error(-1), -EBADF);
    lend_sys->close(client);
    lend_sys->close(listener);
}

static void test_interfaces_are_numeric_and_no_more_than_asked_for(void **state)
{
    struct sockaddr_storage found[64];
    bool has_loopback = false;

    (void)state;
    int count = lend_sys->interfaces(found, 64);
    assert_true(count >= 0 && count <= 64);
    for (int i = 0; i < count; i++) {
        struct sockaddr_in v4;

        assert_true(found[i].ss_family == AF_INET || found[i].ss_family == AF_INET6);
        memcpy(&v4, &found[i], sizeof v4);
        has_loopback |= v4.sin_family == AF_INET && v4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    }
    assert_true(has_loopback || count == 0); /* a name space whose loopback is down has none */
    assert_int_equal(lend_sys->interfaces(found, 0), 0);
}

static void test_threads_leave_signals_to_the_application(void **state)
{
    pthread_t thread;
    sigset_t before, after;
    void *result = NULL;

    (void)state;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    assert_int_equal(lend_sys->thread(&thread, report_thread, state,
                                      "a name that is longer than the kernel takes"),
                     0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, state);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    assert_int_equal(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
}

static void test_stopped_clock_moves_as_it_is_told(void **state)
{
    struct pollfd none = {.fd = -1};
    struct epoll_event event;

    (void)state;
    double_install(-1);
    int epoll = lend_sys->epoll();
    double_clock_set(1000, 1);
    assert_int_equal(lend_sys->now_ns(), 1000);
    assert_int_equal(lend_sys->now_ns(), 1001);
    double_clock_set(1000, 0);
    lend_sys->sleep_ns(UINT64_C(1) << 50);
    assert_true(lend_sys->now_ns() == 1000 + (UINT64_C(1) << 50));
    assert_int_equal(lend_sys->poll(&none, 1, 10), 0);
    assert_int_equal(lend_sys->epoll_wait(epoll, &event, 1, 20), 0);
    double_clock_advance(30);
    assert_true(lend_sys->now_ns() == 1060 + (UINT64_C(1) << 50));
    lend_sys->close(epoll);
    assert_false(double_remove());
    assert_true(lend_sys->now_ns() != 1060 + (UINT64_C(1) << 50));
}

static void test_double_fails_the_nth_call_and_no_other(void **state)
{
    (void)state;
    for (int nth = 0; nth < 5; nth++) {
        int failed = 0;

        double_install(nth);
        for (int i = 0; i < 4; i++) {
            int fd = lend_sys->event();

            failed += fd < 0;
            assert_int_equal(fd < 0, i == nth);
            if (fd >= 0)
                lend_sys->close(fd);
        }
        assert_int_equal(double_calls(), 4);
        assert_int_equal(double_remove(), nth < 4);
        assert_int_equal(failed, nth < 4);
    }
}

static void test_double_fails_the_nth_place_once(void **state)
{
    (void)state;
    for (int nth = 0; nth < 3; nth++) {
        int failed[2] = {0};

        double_install_site(nth);
        for (int i = 0; i < 10; i++) {
            uint8_t byte;

            failed[0] += lend_sys->random(&byte, 1) != 0;
            failed[1] += lend_sys->random(&byte, 1) != 0;
        }
        assert_int_equal(double_remove(), nth < 2);
        assert_int_equal(failed[0], nth == 0);
        assert_int_equal(failed[1], nth == 1);
    }
}

static void test_a_descriptor_of_a_library_can_be_made_not_to_wait(void **state)
{
    int ends[2];
    char byte;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(lend_sys->set_nonblocking(ends[0]), 0);
    assert_int_equal(lend_sys->read(ends[0], &byte, 1), -EAGAIN);
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(lend_sys->set_nonblocking(ends[0]), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed),
        cmocka_unit_test(test_clock_moves_forward_and_sleep_lasts),
        cmocka_unit_test(test_random_bytes_differ),
        cmocka_unit_test(test_shared_memory_cannot_be_resized),
        cmocka_unit_test(test_memory_that_could_vanish_is_refused),
        cmocka_unit_test(test_sealed_huge_pages_are_refused),
        cmocka_unit_test(test_memory_is_mapped_twice_in_a_row),
        cmocka_unit_test(test_mappings_that_cannot_be_are_null),
        cmocka_unit_test(test_storage_is_sealed_as_it_is_told),
        cmocka_unit_test(test_storage_of_huge_pages_is_of_their_size),
        cmocka_unit_test(test_files_are_mapped_for_all_to_see),
        cmocka_unit_test(test_file_opened_anew_is_the_same_and_read_only),
        cmocka_unit_test(test_punched_pages_are_zeros_unless_sealed_against_writers),
        cmocka_unit_test(test_memory_is_bound_to_a_node_that_is_there),
        cmocka_unit_test(test_populated_memory_is_there_before_it_is_touched),
        cmocka_unit_test(test_memory_of_a_process_is_read_in_pieces),
        cmocka_unit_test(test_ptrace_is_allowed_where_yama_asks),
        cmocka_unit_test(test_a_file_is_made_where_there_was_nothing),
        cmocka_unit_test(test_files_are_read_and_stated),
        cmocka_unit_test(test_descriptors_close_on_exec_and_do_not_block),
        cmocka_unit_test(test_own_pidfd_says_that_we_live),
        cmocka_unit_test(test_waits_end_at_their_time_and_not_before),
        cmocka_unit_test(test_messages_and_descriptors_cross_a_socket),
        cmocka_unit_test(test_tcp_connections_know_both_ends_and_their_errors),
        cmocka_unit_test(test_interfaces_are_numeric_and_no_more_than_asked_for),
        cmocka_unit_test(test_threads_leave_signals_to_the_application),
        cmocka_unit_test(test_stopped_clock_moves_as_it_is_told),
        cmocka_unit_test(test_double_fails_the_nth_call_and_no_other),
        cmocka_unit_test(test_double_fails_the_nth_place_once),
        cmocka_unit_test(test_a_descriptor_of_a_library_can_be_made_not_to_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
