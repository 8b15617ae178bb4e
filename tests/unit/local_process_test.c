/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a reader of transport local names its owner's process so that no other one can be taken for
 * it, sees in one look whether it is there, and touches what it maps. Method: two agents of a stub
 * of core in one process, which is then both; a double of the system lies about descriptors.
 */
#include "local_reader.h"

#include <sys/uio.h>

static struct lend_sys_ops lying;
static char fake_info[64]; /* what a pidfd's description says */

static ssize_t fake_read(int fd, void *bytes, size_t count)
{
    size_t length = strlen(fake_info);

    (void)fd;
    assert_true(length <= count);
    memcpy(bytes, fake_info, length);
    return (ssize_t)length;
}

static int fail_poll(struct pollfd *fds, unsigned count, uint64_t timeout_ns)
{
    (void)fds, (void)count, (void)timeout_ns;
    return -ENOMEM;
}

static void start_lying(void)
{
    lying = lend_sys_real;
    lend_sys = &lying;
}

static int say_another_user(int fd, struct ucred *out)
{
    int result = lend_sys_real.peer(fd, out);

    out->uid++;
    return result;
}

static int say_nothing(int fd, struct ucred *out)
{
    (void)fd, (void)out;
    return -ENOPROTOOPT;
}

static void test_a_connection_is_private_where_the_kernel_names_our_own_user(void **state)
{
    int (*const answers[])(int fd, struct ucred *out) = {lend_sys_real.peer, say_another_user,
                                                         say_nothing};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        start_lying();
        lying.peer = answers[i];
        open_both();
        connect_both();
        assert_int_equal(stub_channel(&client)->base.is_private, i == 0);
        assert_int_equal(stub_channel(&server)->base.is_private, i == 0);
        close_both();
        lend_sys = &lend_sys_real;
    }
}

static void test_the_process_is_named_with_a_nonce_that_stands_there(void **state)
{
    uint8_t found[LEND_NONCE_BYTES], zeros[LEND_NONCE_BYTES] = {0};
    struct lend_process process = {0};
    struct lend_error why = {0};
    int result = -1;

    (void)state;
    open_both();
    connect_both();
    if (stub_channel(&client)->death.fd < 0) {
        print_message("no pidfds here: skipped\n");
        close_both();
        skip();
    }
    assert_int_equal(ops->process(reader(), &process, &why), LEND_OK);
    assert_int_equal(process.pid, getpid());
    struct iovec to = {.iov_base = found, .iov_len = sizeof found};
    struct iovec from = {.iov_base = (void *)(uintptr_t)process.nonce_address,
                         .iov_len = sizeof found};
    assert_int_equal(process_vm_readv(process.pid, &to, 1, &from, 1, 0), sizeof found);
    assert_memory_equal(found, process.nonce, sizeof found);
    assert_memory_not_equal(found, zeros, sizeof found);

    /* A forked child is not the owner, and it shows. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(memcmp(from.iov_base, zeros, sizeof zeros) == 0 ? 0 : 1);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    close_both();
}

static void test_a_process_without_a_number_here_is_told_so(void **state)
{
    static const struct {
        const char *info;
        const char *text;
    } cases[] = {{"pos:\t0\nPid:\t0\n", "PID name space"},
                 {"pos:\t0\nPid:\t-1\n", "has ended"},
                 {"pos:\t0\n", "cannot be read"}};
    struct lend_process process;
    struct lend_error why;

    (void)state;
    start_lying();
    open_both();
    connect_both();
    if (stub_channel(&client)->death.fd < 0) {
        print_message("no pidfds here: skipped\n");
        close_both();
        skip();
    }
    lying.read = fake_read;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(fake_info, sizeof fake_info, "%s", cases[i].info);
        assert_int_equal(ops->process(reader(), &process, &why), LEND_E_NO_PATH);
        if (strstr(why.message, cases[i].text) == NULL)
            fail_msg("no '%s' in '%s'", cases[i].text, why.message);
    }
    close_both();
}

static void test_one_look_tells_whether_the_owner_is_there(void **state)
{
    (void)state;
    start_lying();
    open_both();
    connect_both();
    assert_true(ops->is_alive(reader()));
    lying.poll = fail_poll; /* who cannot look does not know */
    assert_false(ops->is_alive(reader()));
    lying.poll = lend_sys_real.poll;
    ops->close_channel(server.sessions[0].channel, false);
    server.sessions[0].channel = NULL;
    assert_false(ops->is_alive(reader())); /* though the poller has not seen it */
    stub_await_end(&client, &client.sessions[0]);
    assert_false(ops->is_alive(reader()));
    close_both();
}

static void test_pages_are_touched_once_each_and_to_the_end(void **state)
{
    enum { PAGES = 10 };
    int fd = lend_sys_real.memfd_storage("test", PAGES * PAGE, false);
    struct lend_shared_file file = {
        .number = 1,
        .fd = fd,
        .backing = {.file_bytes = PAGES * PAGE,
                    .is_fit_for_mapping = true,
                    .is_closed_to_writers = true},
    };
    struct stat found;

    (void)state;
    assert_int_equal(lend_sys_real.seal(fd, F_SEAL_SHRINK), 0);
    open_both();
    connect_both();
    assert_false(ops->prefault(reader(), PAGE)); /* there is nothing */
    assert_false(ops->prefault(server.sessions[0].channel, PAGE));
    ops->share(server.opened, &file);
    stub_settle(&client, &server);
    for (int left = PAGES - 3; left > 0; left -= 3)
        assert_true(ops->prefault(reader(), 3 * PAGE + 5));
    assert_false(ops->prefault(reader(), 1)); /* a page at least */
    assert_false(ops->prefault(reader(), PAGES * PAGE));
    assert_int_equal(fstat(fd, &found), 0);
    assert_true(found.st_blocks >= PAGES * PAGE / 512); /* a page that was read is there */
    close_both();
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_a_connection_is_private_where_the_kernel_names_our_own_user),
        STUB_TEST(test_the_process_is_named_with_a_nonce_that_stands_there),
        STUB_TEST(test_a_process_without_a_number_here_is_told_so),
        STUB_TEST(test_one_look_tells_whether_the_owner_is_there),
        STUB_TEST(test_pages_are_touched_once_each_and_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
