/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a process that puts whoever reads it to sleep harms the pulls of its own memory and no
 * others: those go on, a cancel returns at once, nothing lands when the sleep ends after all, and
 * the puller ends without waiting for it. Method: the owner hands the test a userfaultfd over a
 * part of its memory; the test sees each helper that goes to sleep there, and decides when, and
 * with what, it wakes.
 */
#include "puller_stub.h"

#include "double.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { TRAPS = 8 };

struct trap {
    struct owner owner;
    int fd; /* a userfaultfd; nobody serves what it reports but the test */
};

/* New pages in the place of the first ones, each of which is a trap. */
static int set_traps(struct owner *owner)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)owner->memory, .len = (uint64_t)TRAPS * PAGE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_MISSING};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (madvise(owner->memory, (size_t)TRAPS * PAGE_BYTES, MADV_DONTNEED) != 0 ||
        ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &range) != 0)
        return -errno;
    return fd;
}

/* Send the descriptor, or the errno. */
static void act_trap(struct owner *owner, char command)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    int fd = set_traps(owner);
    int result = fd < 0 ? -fd : 0;
    struct iovec bytes = {.iov_base = &result, .iov_len = sizeof result};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};

    (void)command;
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    (void)sendmsg(owner->socket, &message, 0);
}

static void start_trap(struct trap *trap)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    int result;
    struct iovec bytes = {.iov_base = &result, .iov_len = sizeof result};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};

    start_owner(&trap->owner, act_trap);
    tell_owner(&trap->owner, 't');
    assert_int_equal(recvmsg(trap->owner.socket, &message, MSG_CMSG_CLOEXEC), sizeof result);
    if (result != 0) {
        end_owner(&trap->owner);
        print_message("skipped: no userfaultfd for faults of the kernel here: %s\n",
                      strerror(result));
        skip();
    }
    memcpy(&trap->fd, CMSG_DATA(&control.header), sizeof trap->fd);
}

static void end_trap(struct trap *trap)
{
    (void)close(trap->fd);
    end_owner(&trap->owner);
}

/* Wait until a helper has gone to sleep in the memory. */
static void await_sleeper(const struct trap *trap)
{
    struct uffd_msg message;

    assert_int_equal(read(trap->fd, &message, sizeof message), sizeof message);
    assert_int_equal(message.event, UFFD_EVENT_PAGEFAULT);
}

/* Bring the pages that were missing; whoever sleeps there wakes. */
static void serve(const struct trap *trap)
{
    struct uffdio_copy copy = {.dst = (uintptr_t)trap->owner.memory,
                               .src = (uintptr_t)pattern,
                               .len = (uint64_t)TRAPS * PAGE_BYTES};

    assert_int_equal(ioctl(trap->fd, UFFDIO_COPY, &copy), 0);
}

/* One page that is a trap. */
static const uint64_t trap_shape[3] = {1, PAGE_BYTES, PAGE_BYTES};
static const uint64_t good_shape[3] = {300, 4096, 8192};

static void make_trapped(struct reading *reading, const struct trap *trap, uint64_t page)
{
    make_reading(reading, &trap->owner, page * PAGE_BYTES, trap_shape);
}

/* Pulls of memory without traps work. */
static void assert_works(struct lend_puller *puller, const struct owner *owner)
{
    struct reading reading;

    make_reading(&reading, owner, (uint64_t)TRAPS * PAGE_BYTES, good_shape);
    assert_int_equal(read_through(puller, &reading), LEND_OK);
    assert_landed(&reading, reading.pull.total_bytes);
    free_reading(&reading);
}

static uint32_t stuck_in(struct lend_puller *puller)
{
    (void)pthread_mutex_lock(&puller->lock);
    uint32_t count = puller->stuck_count;
    (void)pthread_mutex_unlock(&puller->lock);
    return count;
}

static void await_nobody_stuck(struct lend_puller *puller)
{
    while (stuck_in(puller) > 0)
        (void)sched_yield();
}

static void test_a_canceled_sleeper_is_left_behind_and_nothing_lands(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct trap trap;

    (void)state;
    start_trap(&trap);
    lend_puller_init(&puller);
    make_trapped(&reading, &trap, 0);
    assert_int_equal(submit(&puller, &reading), LEND_OK);
    await_sleeper(&trap);
    assert_true(lend_puller_cancel(&puller, &reading.pull));
    assert_int_equal(reading.pull.status, LEND_E_CANCELED);
    assert_int_equal(reading.pull.proven_bytes, 0);
    assert_int_equal(stuck_in(&puller), 1);
    assert_works(&puller, &trap.owner);

    serve(&trap);
    await_nobody_stuck(&puller);
    assert_untouched(&reading);
    assert_int_equal(reading.times_done, 0);

    /* The helper that came back works again, and the memory is as good as any. */
    assert_int_equal(read_through(&puller, &reading), LEND_OK);
    assert_landed(&reading, reading.pull.total_bytes);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
    end_trap(&trap);
}

static void test_others_go_on_while_nobody_cancels(void **state)
{
    struct reading readings[LEND_PULLER_HELPERS];
    struct lend_puller puller;
    struct owner other;
    struct trap trap;

    (void)state;
    start_trap(&trap);
    start_owner(&other, NULL);
    lend_puller_init(&puller);
    for (unsigned i = 0; i < LEND_PULLER_HELPERS; i++) {
        make_trapped(&readings[i], &trap, i);
        assert_int_equal(submit(&puller, &readings[i]), LEND_OK);
        await_sleeper(&trap);
    }
    assert_works(&puller, &other);      /* of another process */
    assert_works(&puller, &trap.owner); /* of the same */
    assert_int_equal(stuck_in(&puller), 0);

    serve(&trap); /* late, but not too late */
    for (unsigned i = 0; i < LEND_PULLER_HELPERS; i++) {
        assert_int_equal(await(&readings[i]), LEND_OK);
        assert_landed(&readings[i], readings[i].pull.total_bytes);
        free_reading(&readings[i]);
    }
    lend_puller_fini(&puller, false);
    end_owner(&other);
    end_trap(&trap);
}

static void test_a_large_pull_waits_for_its_sleeper_and_counts_nothing_behind_it(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct trap trap;

    (void)state;
    start_trap(&trap);
    lend_puller_init(&puller);
    make_reading(&reading, &trap.owner, 0, (const uint64_t[3]){1, 8 * CHUNK_BYTES, 1});
    assert_int_equal(submit(&puller, &reading), LEND_OK);
    await_sleeper(&trap); /* the first chunk; the other seven go by */
    assert_works(&puller, &trap.owner);
    assert_true(lend_puller_cancel(&puller, &reading.pull));
    assert_int_equal(reading.pull.proven_bytes, 0);
    serve(&trap);
    await_nobody_stuck(&puller);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
    end_trap(&trap);
}

static struct lend_sys_ops timed;
static _Atomic uint64_t clock_ns;

static uint64_t now_by_hand(void)
{
    return atomic_load(&clock_ns);
}

static void keep_time(void)
{
    timed = lend_sys_real;
    timed.now_ns = now_by_hand;
    lend_sys = &timed;
}

/* So that helpers who sleep are late: in less than the time after which they are stuck. */
static void pass_time(void)
{
    atomic_fetch_add(&clock_ns, 3000000);
}

static void pass_long_time(void)
{
    atomic_fetch_add(&clock_ns, 200000000);
}

static void test_a_process_that_holds_too_many_is_refused_by_its_number(void **state)
{
    struct reading readings[LEND_PULLER_STUCK_IN_ONE_MAX + 1];
    struct lend_error error = {0};
    struct lend_puller puller;
    struct owner other;
    struct trap trap;
    char number[32];

    (void)state;
    start_trap(&trap);
    start_owner(&other, NULL);
    keep_time();
    lend_puller_init(&puller);
    for (unsigned i = 0; i < LEND_PULLER_STUCK_IN_ONE_MAX; i++) {
        make_trapped(&readings[i], &trap, i);
        assert_int_equal(submit(&puller, &readings[i]), LEND_OK);
        await_sleeper(&trap);
        pass_time();
    }
    /* One more is not refused at once, as they may only be slow; but it gets no helper. */
    struct reading *last = &readings[LEND_PULLER_STUCK_IN_ONE_MAX];
    make_reading(last, &trap.owner, (uint64_t)TRAPS * PAGE_BYTES, good_shape);
    assert_int_equal(submit(&puller, last), LEND_OK);
    assert_works(&puller, &other);
    assert_int_equal(last->times_done, 0);
    assert_true(lend_puller_cancel(&puller, &last->pull));
    assert_untouched(last);

    pass_long_time();
    assert_int_equal(lend_puller_submit(&puller, &last->pull, &error), LEND_E_LIMIT);
    (void)snprintf(number, sizeof number, "process %d", trap.owner.pid);
    assert_non_null(strstr(error.message, number));
    assert_null(strstr(error.message, "..."));
    assert_works(&puller, &other);

    /* Canceled, they are as stuck as before. */
    for (unsigned i = 0; i < LEND_PULLER_STUCK_IN_ONE_MAX; i++)
        assert_true(lend_puller_cancel(&puller, &readings[i].pull));
    assert_int_equal(stuck_in(&puller), LEND_PULLER_STUCK_IN_ONE_MAX);
    assert_int_equal(submit(&puller, last), LEND_E_LIMIT);
    assert_works(&puller, &other);

    serve(&trap);
    await_nobody_stuck(&puller);
    assert_int_equal(read_through(&puller, last), LEND_OK);
    assert_landed(last, last->pull.total_bytes);
    for (unsigned i = 0; i < LEND_PULLER_STUCK_IN_ONE_MAX; i++) {
        assert_untouched(&readings[i]);
        free_reading(&readings[i]);
    }
    free_reading(last);
    lend_puller_fini(&puller, false);
    lend_sys = &lend_sys_real;
    end_owner(&other);
    end_trap(&trap);
}

static void test_too_many_in_all_are_refused(void **state)
{
    enum { PROCESSES = LEND_PULLER_STUCK_MAX / LEND_PULLER_STUCK_IN_ONE_MAX };
    struct reading readings[LEND_PULLER_STUCK_MAX];
    struct trap traps[PROCESSES];
    struct lend_error error = {0};
    struct lend_puller puller;
    struct owner other;

    (void)state;
    start_owner(&other, NULL);
    keep_time();
    lend_puller_init(&puller);
    for (unsigned i = 0; i < PROCESSES; i++)
        start_trap(&traps[i]);
    for (unsigned i = 0; i < LEND_PULLER_STUCK_MAX; i++) {
        const struct trap *trap = &traps[i % PROCESSES];

        make_trapped(&readings[i], trap, i / PROCESSES);
        assert_int_equal(submit(&puller, &readings[i]), LEND_OK);
        await_sleeper(trap);
        pass_time();
    }
    assert_works(&puller, &other); /* the last one that there may be */
    pass_long_time();
    struct reading more;
    make_reading(&more, &other, 0, good_shape);
    assert_int_equal(lend_puller_submit(&puller, &more.pull, &error), LEND_E_LIMIT);
    assert_non_null(strstr(error.message, "look at process"));
    assert_null(strstr(error.message, "..."));

    for (unsigned i = 0; i < LEND_PULLER_STUCK_MAX; i++) {
        assert_true(lend_puller_cancel(&puller, &readings[i].pull));
        free_reading(&readings[i]);
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        end_trap(&traps[i]); /* and with the last who could have served it, the sleep */
    await_nobody_stuck(&puller);
    assert_int_equal(read_through(&puller, &more), LEND_OK);
    free_reading(&more);
    lend_puller_fini(&puller, false);
    lend_sys = &lend_sys_real;
    end_owner(&other);
}

static void test_a_puller_ends_without_its_sleepers(void **state)
{
    struct reading readings[3];
    struct trap trap;

    (void)state;
    start_trap(&trap);
    double_install(-1);
    struct lend_puller *puller = malloc(sizeof *puller); /* a late look at it is an error */
    assert_non_null(puller);
    lend_puller_init(puller);
    for (unsigned i = 0; i < 3; i++) {
        make_trapped(&readings[i], &trap, i);
        assert_int_equal(submit(puller, &readings[i]), LEND_OK);
        await_sleeper(&trap);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_true(lend_puller_cancel(puller, &readings[i].pull));
    lend_puller_fini(puller, false);
    free(puller);
    assert_int_equal(double_live_threads(), 3);

    serve(&trap);
    while (double_live_threads() > 0)
        (void)sched_yield();
    assert_false(double_remove()); /* they have freed what was theirs */
    for (unsigned i = 0; i < 3; i++) {
        assert_untouched(&readings[i]);
        free_reading(&readings[i]);
    }
    end_trap(&trap);
}

static void test_a_sleeper_wakes_when_the_owner_dies(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct trap trap;

    (void)state;
    start_trap(&trap);
    lend_puller_init(&puller);
    make_trapped(&reading, &trap, 0);
    assert_int_equal(submit(&puller, &reading), LEND_OK);
    await_sleeper(&trap);
    (void)close(trap.fd);
    bury_owner(&trap.owner);
    enum lend_status status = await(&reading);
    assert_int_equal(reading.times_done, 1);
    /* Its memory outlives it for the rest of the call, and is as it was then. */
    if (status != LEND_OK)
        assert_int_equal(status, LEND_E_PEER_DEAD);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
    free_owner(&trap.owner);
}

static void test_a_sleeper_is_told_of_when_another_helper_sees_the_end(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct trap trap;

    (void)state;
    start_trap(&trap);
    lend_puller_init(&puller);
    make_reading(&reading, &trap.owner, 0, (const uint64_t[3]){1, 8 * CHUNK_BYTES, 1});
    atomic_store(&reading.word, lend_slot_word(GENERATION, LEND_SLOT_REVOKED));
    assert_int_equal(submit(&puller, &reading), LEND_OK);
    await_sleeper(&trap);
    assert_int_equal(await(&reading), LEND_E_REVOKED); /* by the second helper */
    assert_int_equal(reading.pull.proven_bytes, 0);
    assert_int_equal(stuck_in(&puller), 1);
    memset(reading.destination, UNTOUCHED, reading.pull.total_bytes);
    serve(&trap);
    await_nobody_stuck(&puller);
    assert_untouched(&reading);
    assert_int_equal(reading.times_done, 1);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
    end_trap(&trap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_canceled_sleeper_is_left_behind_and_nothing_lands),
        cmocka_unit_test(test_others_go_on_while_nobody_cancels),
        cmocka_unit_test(test_a_large_pull_waits_for_its_sleeper_and_counts_nothing_behind_it),
        cmocka_unit_test(test_a_process_that_holds_too_many_is_refused_by_its_number),
        cmocka_unit_test(test_too_many_in_all_are_refused),
        cmocka_unit_test(test_a_puller_ends_without_its_sleepers),
        cmocka_unit_test(test_a_sleeper_wakes_when_the_owner_dies),
        cmocka_unit_test(test_a_sleeper_is_told_of_when_another_helper_sees_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
