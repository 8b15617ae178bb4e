/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a reader of transport local maps what its owner shares and nothing else, knows why where it
 * may not, and lets go when it is asked to; the owner knows who still holds what. Method: two
 * agents of a stub of core, in one process and in two; a double of the system fails single calls.
 */
#include "local_reader.h"

#include <sys/prctl.h>

#include <linux/magic.h>

/* What is offered */

static void test_what_is_shared_before_and_after_the_greeting_is_mapped(void **state)
{
    struct lend_shared_file early = make_file(7), late = make_file(9);

    (void)state;
    open_both();
    ops->share(server.opened, &early);
    connect_both();
    (void)expect_mapped(7);
    expect_untold(9);
    expect_absent(0, "no file");
    uint64_t stamp = ops->mapping_stamp(reader());
    assert_true(stamp != 0);
    uint32_t wakes = client.sessions[0].wakes;
    ops->share(server.opened, &late);
    stub_settle(&client, &server);
    assert_true(ops->mapping_stamp(reader()) != stamp);
    assert_true(client.sessions[0].wakes > wakes);
    (void)expect_mapped(7);
    (void)expect_mapped(9);
    assert_true(is_held(7) && is_held(9));
    assert_false(is_held(8));
    close_both();
    (void)close(early.fd);
    (void)close(late.fd);
}

static void test_the_words_are_the_owners_and_cannot_be_written(void **state)
{
    struct lend_error why = {0};
    uint32_t count = 0;

    (void)state;
    open_both();
    connect_both();
    const _Atomic uint64_t *words = ops->words(reader(), &count, &why);
    assert_non_null(words);
    assert_int_equal(count, WORDS_BYTES / sizeof(uint64_t));
    atomic_store(&owners_words[3], 0x1234567890);
    assert_int_equal(atomic_load(&words[3]), 0x1234567890);
    assert_int_equal(mprotect((void *)(uintptr_t)words, WORDS_BYTES, PROT_READ | PROT_WRITE), -1);
    assert_null(ops->words(server.sessions[0].channel, &count, &why)); /* it is no reader */
    close_both();
}

static void test_nothing_leaves_before_all_is_told(void **state)
{
    struct lend_shared_file file = make_file(1);
    struct lend_process process;
    struct lend_error why = {0};
    uint32_t count = 0, turns = 0;

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    stub_settle(&server, NULL);
    for (; ops->room(reader()) == 0; turns++) {
        assert_null(ops->words(reader(), &count, &why));
        assert_non_null(strstr(why.message, "set up"));
        expect_absent(1, "set up");
        assert_int_equal(ops->process(reader(), &process, &why), LEND_E_NO_PATH);
        assert_true(ops->sleep(reader(), true, 1)); /* who waits for room does not spin */
        uint32_t wakes = client.sessions[0].wakes;
        assert_true(stub_turn(&client, 0));
        assert_int_equal(client.sessions[0].wakes, wakes + 1);
    }
    assert_int_equal(turns, 5); /* answer, words, probe, file, ready */
    assert_non_null(ops->words(reader(), &count, &why));
    (void)expect_mapped(1);
    close_both();
    (void)close(file.fd);
}

static void test_a_file_that_may_not_be_mapped_is_told_with_the_reason(void **state)
{
    struct lend_shared_file unfit = make_file(1), open = make_file(2), consented = make_file(3),
                            of_another = make_file(4);

    (void)state;
    unfit.backing.is_fit_for_mapping = false;
    (void)snprintf(unfit.backing.why_not, sizeof unfit.backing.why_not, "could\nshrink");
    open.backing.is_closed_to_writers = false;
    consented.backing.is_closed_to_writers = false;
    consented.consents_to_owner = true;
    of_another.backing.is_closed_to_writers = false;
    of_another.backing.mode = 0666;
    of_another.backing.owner_uid = getuid() + 1;
    of_another.consents_to_owner = getuid() != 0; /* root is as good as the owner */
    open_both();
    ops->share(server.opened, &unfit);
    ops->share(server.opened, &open);
    ops->share(server.opened, &consented);
    connect_both();
    ops->share(server.opened, &of_another);
    stub_settle(&client, &server);
    expect_absent(1, "could?shrink");
    expect_absent(2, "could write to it: seal it with F_SEAL_FUTURE_WRITE");
    (void)expect_mapped(3);
    expect_absent(4, "a reader of user");
    assert_false(is_held(1) || is_held(2) || is_held(4));
    ops->unshare(server.opened, 1);
    stub_settle(&client, &server);
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    close_both();
    (void)close(unfit.fd);
    (void)close(open.fd);
    (void)close(consented.fd);
    (void)close(of_another.fd);
}

static void test_one_connection_shares_so_many_files_and_no_more(void **state)
{
    enum { FILES = LEND_LOCAL_FILES_MAX + LEND_LOCAL_ABSENT_MAX + 10 };
    static struct lend_shared_file files[FILES];

    (void)state;
    open_both();
    files[0] = make_file(1);
    for (uint32_t i = 0; i < FILES; i++) {
        files[i] = files[0];
        files[i].number = i + 1;
        ops->share(server.opened, &files[i]);
    }
    connect_both();
    for (uint32_t number = 1; number <= LEND_LOCAL_FILES_MAX; number++)
        (void)expect_mapped(number);
    expect_absent(LEND_LOCAL_FILES_MAX + 1, "more than 64 files");
    expect_untold(FILES);

    /* A place that is given back is for the next one. */
    ops->unshare(server.opened, 5);
    stub_settle(&client, &server);
    step_reader();
    stub_settle(&client, &server);
    struct lend_shared_file next = files[0];
    next.number = 1000;
    ops->share(server.opened, &next);
    stub_settle(&client, &server);
    (void)expect_mapped(1000);
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    close_both();
    (void)close(files[0].fd);
}

/* Letting go */

static void test_what_is_taken_back_is_unmapped_and_then_held_by_nobody(void **state)
{
    struct lend_shared_file file = make_file(1), other = make_file(2);
    char who[80], expected[80];

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    ops->share(server.opened, &other);
    connect_both();
    const uint8_t *memory = expect_mapped(1);
    uint64_t stamp = ops->mapping_stamp(reader());
    ops->unshare(server.opened, 1);
    assert_true(ops->is_held(server.opened, 1, who, sizeof who));
    (void)snprintf(expected, sizeof expected, "process %d of user %u", (int)getpid(),
                   (unsigned)getuid());
    assert_string_equal(who, expected);

    uint32_t wakes = client.sessions[0].wakes;
    stub_settle(&client, &server);
    assert_int_equal(client.sessions[0].wakes, wakes + 1);
    expect_absent(1, "taking file 1 back");
    assert_true(is_there(memory)); /* who looked it up may still use it, until the next step */
    assert_false(ops->sleep(reader(), false, 0));
    assert_true(is_held(1));

    step_reader();
    assert_false(is_there(memory));
    assert_true(ops->mapping_stamp(reader()) != stamp);
    assert_true(ops->sleep(reader(), false, 0));
    stub_settle(&client, &server);
    assert_false(is_held(1));
    expect_absent(1, "shares no file 1");
    (void)expect_mapped(2);
    assert_true(is_held(2));
    close_both();
    (void)close(file.fd);
    (void)close(other.fd);
}

static void test_a_look_at_the_stamp_lets_go_too(void **state)
{
    struct lend_shared_file file = make_file(1);

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    const uint8_t *memory = expect_mapped(1);
    uint64_t stamp = ops->mapping_stamp(reader());
    ops->unshare(server.opened, 1);
    stub_settle(&client, &server);
    assert_true(ops->mapping_stamp(reader()) != stamp);
    assert_false(is_there(memory));
    stub_settle(&client, &server);
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
}

static void test_a_late_reader_is_named_until_its_channel_is_gone(void **state)
{
    struct lend_shared_file file = make_file(1);

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    ops->unshare(server.opened, 1);
    for (int i = 0; i < 3; i++) {
        stub_settle(&server, NULL); /* the reader does nothing */
        assert_true(is_held(1));
    }
    ops->close_channel(server.sessions[0].channel, false);
    server.sessions[0].channel = NULL;
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
}

static void test_a_reader_unmaps_before_it_hangs_up(void **state)
{
    struct lend_shared_file file = make_file(1);
    uint32_t count;

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    const uint8_t *memory = expect_mapped(1);
    const void *words = (const void *)(uintptr_t)ops->words(reader(), &count, NULL);
    ops->close_channel(reader(), false);
    client.sessions[0].channel = NULL;
    assert_false(is_there(memory) || is_there(words));
    stub_await_end(&server, &server.sessions[0]);
    ops->close_channel(server.sessions[0].channel, false);
    server.sessions[0].channel = NULL;
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
}

/* Single calls that fail */

static struct lend_sys_ops failing;
static int send_failure;     /* errno of sendmsg(), negative; 0: none */
static bool fails_fds_alone; /* those messages alone that carry descriptors */

static ssize_t fail_send(int fd, const struct msghdr *message)
{
    if (send_failure != 0 && (!fails_fds_alone || message->msg_control != NULL))
        return send_failure;
    return lend_sys_real.sendmsg(fd, message);
}

static void *fail_map_file(int fd, uint64_t offset, size_t bytes, bool writable, bool prefault)
{
    (void)fd, (void)offset, (void)bytes, (void)writable, (void)prefault;
    return NULL;
}

static int fail_keep(void *memory, size_t bytes)
{
    (void)memory, (void)bytes;
    return -ENOMEM;
}

static int fail_reopen(int fd)
{
    (void)fd;
    return -EMFILE;
}

static int fail_map_wiped(size_t bytes, void **out)
{
    (void)bytes, (void)out;
    return -ENOMEM;
}

static int fail_random(void *bytes, size_t count)
{
    (void)bytes, (void)count;
    return -EIO;
}

static int fail_pidfd(void)
{
    return -ENOSYS;
}

static void *fail_allocate(size_t bytes)
{
    (void)bytes;
    return NULL;
}

static int fail_peer(int fd, struct ucred *out)
{
    (void)fd, (void)out;
    return -ENOTCONN;
}

static int fail_file_stat(int fd, struct stat *out)
{
    (void)fd, (void)out;
    return -EIO;
}

/* As if it were of huge pages, of which most are not there. */
static int fake_huge(int fd, struct statfs *out)
{
    int result = lend_sys_real.file_system(fd, out);

    out->f_type = HUGETLBFS_MAGIC;
    return result;
}

static void start_failing(void)
{
    while (lend_local_closing_count() > 0) /* by threads that use the table */
        (void)sched_yield();
    failing = lend_sys_real;
    failing.sendmsg = fail_send;
    send_failure = 0;
    fails_fds_alone = false;
    lend_sys = &failing;
}

static void test_a_left_that_finds_no_room_is_sent_later(void **state)
{
    static const int failures[] = {-EAGAIN, -ENOBUFS};
    struct lend_shared_file file = make_file(1);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        start_failing();
        open_both();
        ops->share(server.opened, &file);
        connect_both();
        const uint8_t *memory = expect_mapped(1);
        ops->unshare(server.opened, 1);
        stub_settle(&client, &server);
        send_failure = failures[i];
        step_reader();
        assert_false(is_there(memory));
        assert_false(ops->sleep(reader(), false, 0)); /* it owes it */
        send_failure = 0;
        assert_true(is_held(1));
        step_reader();
        assert_true(ops->sleep(reader(), false, 0));
        stub_settle(&client, &server);
        assert_false(is_held(1));
        close_both();
    }
    (void)close(file.fd);
}

static void test_a_let_go_that_finds_no_room_is_sent_when_somebody_asks(void **state)
{
    struct lend_shared_file file = make_file(1);

    (void)state;
    start_failing();
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    send_failure = -EAGAIN;
    ops->unshare(server.opened, 1);
    assert_true(is_held(1));
    send_failure = 0;
    stub_settle(&client, &server);
    (void)expect_mapped(1); /* it was not told */
    assert_true(is_held(1));
    stub_settle(&client, &server);
    expect_absent(1, "back");
    step_reader();
    stub_settle(&client, &server);
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
}

static void test_a_descriptor_that_cannot_be_sent_costs_its_file_alone(void **state)
{
    struct lend_shared_file file = make_file(1), next = make_file(2);
    struct lend_error why = {0};
    uint32_t count;

    (void)state;
    start_failing();
    open_both();
    ops->share(server.opened, &file);
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    send_failure = -ETOOMANYREFS;
    fails_fds_alone = true;
    failing.pidfd_self = fail_pidfd;
    struct lend_local *local = server.opened;
    int pidfd = local->pidfd;
    local->pidfd = -1; /* the answer would fail first */
    stub_settle(&client, &server);
    local->pidfd = pidfd;
    send_failure = 0;
    expect_absent(1, "could not be sent (Too many references");
    assert_null(ops->words(reader(), &count, &why));
    assert_non_null(strstr(why.message, "did not come"));
    assert_false(is_held(1));
    ops->share(server.opened, &next);
    stub_settle(&client, &server);
    (void)expect_mapped(2);
    close_both();
    (void)close(file.fd);
    (void)close(next.fd);
}

static bool ready_fails;

static ssize_t fail_ready(int fd, const struct msghdr *message)
{
    if (ready_fails && message->msg_iov->iov_len == 8)
        return -EAGAIN;
    return lend_sys_real.sendmsg(fd, message);
}

static void test_a_client_that_cannot_be_told_that_it_is_ready_is_not_served(void **state)
{
    struct lend_shared_file file = make_file(1);

    (void)state;
    start_failing();
    failing.sendmsg = fail_ready;
    ready_fails = true;
    open_both();
    ops->share(server.opened, &file);
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    stub_settle(&client, &server);
    assert_int_equal(server.session_count, 0);
    assert_int_equal(client.sessions[0].hung, LEND_E_PEER_DEAD);
    assert_int_equal(ops->room(reader()), 0);
    assert_false(is_held(1));
    ready_fails = false;
    close_both();
    (void)close(file.fd);
}

static void test_a_reader_that_cannot_map_says_why_and_that_it_has_left(void **state)
{
    struct lend_shared_file file = make_file(1);
    static const char *const reasons[] = {"address space", "forked children", "does not say",
                                          "huge pages may be missing"};
    struct lend_error why;
    uint32_t count;

    (void)state;
    for (int i = 0; i < 4; i++) {
        start_failing();
        open_both();
        ops->share(server.opened, &file);
        if (i == 0)
            failing.map_file = fail_map_file;
        else if (i == 1)
            failing.keep_from_fork = fail_keep;
        else if (i == 2)
            failing.file_stat = fail_file_stat;
        else
            failing.file_system = fake_huge;
        connect_both();
        assert_true(is_held(1));
        step_reader();
        stub_settle(&client, &server);
        expect_absent(1, reasons[i]);
        assert_null(ops->words(reader(), &count, &why));
        assert_non_null(strstr(why.message, "cannot be mapped"));
        assert_false(is_held(1));
        assert_true(ops->sleep(reader(), false, 0));
        ops->unshare(server.opened, 1);
        stub_settle(&client, &server);
        assert_int_equal(client.sessions[0].hung, LEND_OK);
        assert_int_equal(server.sessions[0].hung, LEND_OK);
        close_both();
    }
    (void)close(file.fd);
}

static void test_an_answer_that_crosses_the_question_is_no_offence(void **state)
{
    struct lend_shared_file file = make_file(1);

    (void)state;
    for (int is_sent = 0; is_sent < 2; is_sent++) {
        start_failing();
        open_both();
        ops->share(server.opened, &file);
        failing.map_file = fail_map_file;
        connect_both();
        if (is_sent)
            step_reader();
        ops->unshare(server.opened, 1); /* it has not read that the file is left */
        stub_settle(&client, NULL);
        step_reader();
        stub_settle(&client, &server);
        assert_false(is_held(1));
        expect_absent(1, "shares no file");
        assert_int_equal(client.sessions[0].hung, LEND_OK);
        assert_int_equal(server.sessions[0].hung, LEND_OK);
        close_both();
    }
    (void)close(file.fd);
}

static void test_what_an_owner_lacks_costs_a_way_and_no_connection(void **state)
{
    struct lend_shared_file file = make_file(1), open = make_file(2);
    struct lend_process process;
    struct lend_error why;
    uint32_t count;

    (void)state;
    open.backing.is_closed_to_writers = false;
    for (int i = 0; i < 3; i++) {
        start_failing();
        failing.reopen_read = fail_reopen;
        if (i == 0)
            failing.map_wiped = fail_map_wiped;
        else if (i == 1)
            failing.random = fail_random;
        else
            failing.pidfd_self = fail_pidfd;
        failing.peer = fail_peer;
        open_both();
        ops->share(server.opened, &file);
        ops->share(server.opened, &open);
        connect_both();
        (void)expect_mapped(1);
        expect_absent(2, "cannot tell which user");
        assert_true(is_held(1));
        assert_null(ops->words(reader(), &count, &why));
        assert_non_null(strstr(why.message, "did not come"));
        assert_int_equal(ops->process(reader(), &process, &why), LEND_E_NO_PATH);
        assert_non_null(strstr(why.message, i < 2 ? "named no place" : "gave no pidfd"));
        assert_true(ops->is_alive(reader()));
        close_both();
    }
    (void)close(file.fd);
    (void)close(open.fd);
}

static void test_without_memory_a_file_is_not_shared(void **state)
{
    struct lend_shared_file file = make_file(1);
    struct lend_error error;

    (void)state;
    start_failing();
    open_both();
    failing.allocate = fail_allocate;
    ops->share(server.opened, &file);
    assert_int_equal(server.warnings, 1);
    assert_int_equal(stub_connect(&client, &server, &error), LEND_E_NO_MEMORY);
    failing.allocate = lend_sys_real.allocate;
    connect_both();
    expect_untold(1);
    ops->unshare(server.opened, 1);
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
}

/* Other processes */

static int look_from_child(const uint8_t *memory, const void *words)
{
    if (is_there(memory) || is_there(words))
        return 1;
    /* What the child has there by now is its own. */
    void *own = mmap((void *)(uintptr_t)memory, FILE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (own != memory)
        return 2;
    ops->close_channel(reader(), true);
    ops->close_channel(server.sessions[0].channel, true);
    ops->close_forked(client.opened);
    ops->close_forked(server.opened);
    return is_there(memory) ? 0 : 3;
}

static void test_a_forked_child_has_no_mappings_and_disturbs_none(void **state)
{
    struct lend_shared_file file = make_file(1);
    int result = -1;
    uint32_t count;

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    const uint8_t *memory = expect_mapped(1);
    const void *words = (const void *)(uintptr_t)ops->words(reader(), &count, NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int wrong = look_from_child(memory, words);

        /* All is well: an end in which no checker of memory asks what a fork leaves behind. */
        if (wrong == 0)
            (void)raise(SIGKILL);
        _exit(wrong);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    bool is_refused = WIFEXITED(result) && WEXITSTATUS(result) == 2;
    assert_true(is_refused || (WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL));
    stub_settle(&client, &server);
    assert_ptr_equal(expect_mapped(1), memory);
    assert_true(is_held(1));
    ops->unshare(server.opened, 1);
    stub_settle(&client, &server);
    step_reader();
    stub_settle(&client, &server);
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
    if (is_refused) {
        print_message("skipped: the child may map nothing where the file was, as under valgrind\n");
        skip();
    }
}

static void read_and_stop(int pipe_end)
{
    uint64_t bytes;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    stub_open(&client, 1, true);
    if (stub_connect(&client, &server, NULL) != LEND_OK)
        _exit(2);
    while (!stub_channel(&client)->is_ready)
        (void)stub_turn(&client, DEADLINE_NS);
    if (ops->mapped(reader(), 1, &bytes, NULL) == NULL)
        _exit(3);
    (void)!write(pipe_end, "m", 1);
    for (;;) /* mapped, until it is killed */
        (void)pause();
}

static void test_a_killed_reader_holds_nothing(void **state)
{
    struct lend_shared_file file = make_file(1);
    char who[80], expected[80], byte;
    int pipe_ends[2];

    (void)state;
    assert_int_equal(pipe(pipe_ends), 0);
    stub_open(&server, 9, false);
    ops->share(server.opened, &file);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        read_and_stop(pipe_ends[1]);
    (void)close(pipe_ends[1]);
    while (server.session_count == 0)
        assert_true(stub_turn(&server, DEADLINE_NS));
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    ops->unshare(server.opened, 1);
    assert_true(ops->is_held(server.opened, 1, who, sizeof who));
    (void)snprintf(expected, sizeof expected, "process %d of user %u", (int)child,
                   (unsigned)getuid());
    assert_string_equal(who, expected);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    stub_await_end(&server, &server.sessions[0]);
    ops->close_channel(server.sessions[0].channel, false);
    server.sessions[0].channel = NULL;
    assert_false(is_held(1));
    stub_close(&server);
    (void)close(pipe_ends[0]);
    (void)close(file.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_what_is_shared_before_and_after_the_greeting_is_mapped),
        STUB_TEST(test_the_words_are_the_owners_and_cannot_be_written),
        STUB_TEST(test_nothing_leaves_before_all_is_told),
        STUB_TEST(test_a_file_that_may_not_be_mapped_is_told_with_the_reason),
        STUB_TEST(test_one_connection_shares_so_many_files_and_no_more),
        STUB_TEST(test_what_is_taken_back_is_unmapped_and_then_held_by_nobody),
        STUB_TEST(test_a_look_at_the_stamp_lets_go_too),
        STUB_TEST(test_a_late_reader_is_named_until_its_channel_is_gone),
        STUB_TEST(test_a_reader_unmaps_before_it_hangs_up),
        STUB_TEST(test_a_left_that_finds_no_room_is_sent_later),
        STUB_TEST(test_a_let_go_that_finds_no_room_is_sent_when_somebody_asks),
        STUB_TEST(test_a_descriptor_that_cannot_be_sent_costs_its_file_alone),
        STUB_TEST(test_a_client_that_cannot_be_told_that_it_is_ready_is_not_served),
        STUB_TEST(test_a_reader_that_cannot_map_says_why_and_that_it_has_left),
        STUB_TEST(test_an_answer_that_crosses_the_question_is_no_offence),
        STUB_TEST(test_what_an_owner_lacks_costs_a_way_and_no_connection),
        STUB_TEST(test_without_memory_a_file_is_not_shared),
        STUB_TEST(test_a_forked_child_has_no_mappings_and_disturbs_none),
        STUB_TEST(test_a_killed_reader_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
