/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a puller brings the right bytes, in as few calls as there can be, from the process that is
 * meant and no other; it counts no byte that it has not proven, is quiet once canceled, and gives
 * everything back. Method: a second process owns the memory, and then dies, forks, is replaced by
 * exec, or loses its number to another. The door to the system counts the calls, holds them up and
 * lets each fail in turn.
 */
#include "puller_stub.h"

#include "double.h"

#include <linux/sched.h>
#include <stdio.h>
#include <sys/syscall.h>

static struct lend_sys_ops hooked;
static atomic_int call_count;

static void use_hook(ssize_t (*read_process)(int pid, const struct iovec *local,
                                             unsigned local_count, const struct iovec *remote,
                                             unsigned remote_count))
{
    hooked = lend_sys_real;
    hooked.read_process = read_process;
    atomic_store(&call_count, 0);
    lend_sys = &hooked;
}

static void use_system(void)
{
    lend_sys = &lend_sys_real;
}

static atomic_bool has_thread;

static int make_first_thread(pthread_t *out, void *(*body)(void *context), void *context,
                             const char *name)
{
    if (atomic_exchange(&has_thread, true))
        return -EAGAIN;
    return lend_sys_real.thread(out, body, context, name);
}

/* So that calls come one after another. */
static void allow_one_helper(void)
{
    atomic_store(&has_thread, false);
    hooked.thread = make_first_thread;
}

static ssize_t read_counted(int pid, const struct iovec *local, unsigned local_count,
                            const struct iovec *remote, unsigned remote_count)
{
    atomic_fetch_add(&call_count, 1);
    return lend_sys_real.read_process(pid, local, local_count, remote, remote_count);
}

static void test_bytes_are_right_for_pieces_of_every_size(void **state)
{
    static const uint64_t shapes[][3] = {
        {1, 1, 1},           {1, 4096, 4096},          {3, 1, 2},          {5000, 16, 48},
        {5000, 1, 3},        {100, 4096, 8192},        {60, 4097, 5000},   {100, 65536, 65537},
        {8, 300000, 300001}, {1, OWNER_BYTES - 64, 1}, {2000, 4096, 4096},
    };
    struct lend_puller puller;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    lend_puller_init(&puller);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int permuted = 0; permuted < 2; permuted++) {
            struct reading reading;

            make_reading(&reading, &owner, i, shapes[i]);
            if (permuted)
                permute(&reading);
            assert_int_equal(read_through(&puller, &reading), LEND_OK);
            assert_int_equal(reading.pull.proven_bytes, reading.pull.total_bytes);
            assert_landed(&reading, reading.pull.total_bytes);
            assert_false(lend_puller_cancel(&puller, &reading.pull)); /* too late */
            assert_int_equal(reading.times_done, 1);
            free_reading(&reading);
        }
    }
    lend_puller_fini(&puller, false);
    end_owner(&owner);
}

static void test_a_call_takes_as_many_pieces_as_the_kernel_allows(void **state)
{
    static const struct {
        uint64_t shape[3];
        int calls;
    } cases[] = {
        {{1, 1, 1}, 1},
        {{1023, 16, 48}, 1},
        {{1024, 16, 48}, 2},
        {{5000, 16, 48}, 5},
        {{5000, 16, 16}, 1}, /* they touch: one piece */
        {{16, CHUNK_BYTES, CHUNK_BYTES + 1}, 16},
        {{64, CHUNK_BYTES / 4, CHUNK_BYTES / 2}, 16},
    };
    struct lend_puller puller;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    use_hook(read_counted);
    lend_puller_init(&puller);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reading reading;

        make_reading(&reading, &owner, 0, cases[i].shape);
        atomic_store(&call_count, 0);
        assert_int_equal(read_through(&puller, &reading), LEND_OK);
        assert_int_equal(call_count, cases[i].calls);
        assert_landed(&reading, reading.pull.total_bytes);
        free_reading(&reading);
    }
    lend_puller_fini(&puller, false);
    use_system();
    end_owner(&owner);
}

static const uint64_t some_pieces[3] = {300, 4096, 8192};

/* Nothing of that process lands. */
static void assert_refused(const struct owner *owner, enum lend_status status, int sys_errno)
{
    struct lend_puller puller;
    struct reading reading;

    lend_puller_init(&puller);
    make_reading(&reading, owner, 0, some_pieces);
    assert_int_equal(read_through(&puller, &reading), status);
    assert_int_equal(reading.pull.sys_errno, sys_errno);
    assert_int_equal(reading.pull.proven_bytes, 0);
    assert_untouched(&reading);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
}

static enum lend_status probe(const struct owner *owner, struct lend_error *error)
{
    return lend_process_probe(&owner->process, error);
}

static void test_another_nonce_is_another_process(void **state)
{
    struct lend_error error;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    assert_int_equal(probe(&owner, NULL), LEND_OK);
    owner.process.nonce[LEND_NONCE_BYTES - 1] ^= 1;
    assert_refused(&owner, LEND_E_PEER_DEAD, 0);
    assert_int_equal(probe(&owner, &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "separate PID name spaces"));

    owner.process.nonce_address = 4096; /* nothing is mapped there */
    assert_refused(&owner, LEND_E_PEER_DEAD, 0);
    assert_int_equal(probe(&owner, NULL), LEND_E_NO_PATH);
    owner.process.pid = 0; /* what the kernel says of a process that we cannot see */
    assert_refused(&owner, LEND_E_PEER_DEAD, ESRCH);
    assert_int_equal(probe(&owner, NULL), LEND_E_NO_PATH);
    end_owner(&owner);
}

static void test_the_dead_are_told_apart(void **state)
{
    struct lend_error error;
    struct owner owner;
    siginfo_t info;

    (void)state;
    start_owner(&owner, NULL);
    assert_int_equal(kill(owner.pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)owner.pid, &info, WEXITED | WNOWAIT), 0);
    assert_refused(&owner, LEND_E_PEER_DEAD, ESRCH); /* a zombie */
    assert_int_equal(waitpid(owner.pid, NULL, 0), owner.pid);
    assert_refused(&owner, LEND_E_PEER_DEAD, ESRCH);
    assert_int_equal(probe(&owner, &error), LEND_E_PEER_DEAD);
    free_owner(&owner);
}

static void act_exec(struct owner *owner, char command)
{
    (void)command;
    (void)dup2(owner->socket, STDIN_FILENO); /* which stays open over exec, and keeps cat there */
    (void)execlp("cat", "cat", (char *)NULL);
    _exit(1);
}

static void test_a_program_that_replaced_the_owner_is_told_apart(void **state)
{
    struct owner owner;
    char name[16] = "";

    (void)state;
    start_owner(&owner, act_exec);
    tell_owner(&owner, 'x');
    while (strcmp(name, "cat\n") != 0) {
        char path[32];

        (void)snprintf(path, sizeof path, "/proc/%d/comm", owner.pid);
        int fd = lend_sys_real.open_read(path);
        assert_true(fd >= 0);
        memset(name, 0, sizeof name);
        assert_true(lend_sys_real.read(fd, name, sizeof name - 1) > 0);
        lend_sys_real.close(fd);
        (void)sched_yield();
    }
    assert_refused(&owner, LEND_E_PEER_DEAD, 0);
    assert_int_equal(probe(&owner, NULL), LEND_E_NO_PATH);
    end_owner(&owner);
}

static void act_fork(struct owner *owner, char command)
{
    (void)command;
    if (fork() != 0)
        return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int pid = getpid(); /* told by the child, as nobody ends it before it has asked to be ended */
    (void)!write(owner->socket, &pid, sizeof pid);
    for (;;)
        (void)pause();
}

static void test_a_forked_child_of_the_owner_is_told_apart(void **state)
{
    struct owner owner;
    struct owner child;
    int pid;

    (void)state;
    start_owner(&owner, act_fork);
    tell_owner(&owner, 'f');
    assert_int_equal(read(owner.socket, &pid, sizeof pid), sizeof pid);
    child = owner;
    child.process.pid = pid; /* all is there as in its parent, but for the nonce */
    assert_refused(&child, LEND_E_PEER_DEAD, 0);
    assert_int_equal(probe(&child, NULL), LEND_E_NO_PATH);
    assert_int_equal(probe(&owner, NULL), LEND_OK);
    end_owner(&owner);
}

/* A process of that number; -1 if the kernel does not let us choose. */
static int fork_as(int pid)
{
    struct clone_args arguments = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
    int result = (int)syscall(SYS_clone3, &arguments, sizeof arguments);

    if (result == 0)
        for (;;)
            (void)pause();
    return result;
}

static void test_a_process_that_took_the_owners_number_is_told_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct owner owner;

        start_owner(&owner, NULL);
        bury_owner(&owner);
        fill_owner(&owner); /* so that the next one has all of it, nonce too, until it is wiped */
        int pid = fork_as(owner.pid);
        if (pid == -1) {
            free_owner(&owner);
            print_message("skipped: no choice of a process id here: %s\n", strerror(errno));
            skip();
        }
        assert_int_equal(pid, owner.pid);
        assert_refused(&owner, LEND_E_PEER_DEAD, 0);
        end_owner(&owner);
    }
}

static int pretended_errno;

static ssize_t read_or_refuse(int pid, const struct iovec *local, unsigned local_count,
                              const struct iovec *remote, unsigned remote_count)
{
    if (pretended_errno != 0)
        return -pretended_errno;
    return read_counted(pid, local, local_count, remote, remote_count);
}

static void test_a_probe_says_what_to_do(void **state)
{
    static const struct {
        int sys_errno;
        enum lend_status status;
        const char *says;
    } cases[] = {
        {EPERM, LEND_E_ACCESS, "LEND_AGENT_ALLOW_CROSS_MEMORY"},
        {EPERM, LEND_E_ACCESS, "seccomp"},
        {ENOSYS, LEND_E_UNSUPPORTED, "process_vm_readv"},
        {ESRCH, LEND_E_PEER_DEAD, "no process"},
        {ENOMEM, LEND_E_SYSTEM, "process"},
    };
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    use_hook(read_or_refuse);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lend_error error = {0};

        pretended_errno = cases[i].sys_errno;
        assert_int_equal(probe(&owner, &error), cases[i].status);
        assert_non_null(strstr(error.message, cases[i].says));
        assert_null(strstr(error.message, "..."));
    }
    use_system();
    end_owner(&owner);
}

static void test_a_pull_of_no_bytes_is_a_probe(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    use_hook(read_or_refuse);
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, some_pieces);
    reading.pull.total_bytes = 0;
    reading.pull.word = NULL;
    pretended_errno = 0;
    assert_int_equal(read_through(&puller, &reading), LEND_OK);
    assert_int_equal(call_count, 1);
    pretended_errno = EPERM;
    assert_int_equal(read_through(&puller, &reading), LEND_E_SYSTEM);
    assert_int_equal(reading.pull.sys_errno, EPERM);
    pretended_errno = 0;
    reading.pull.process.nonce[0] ^= 1;
    assert_int_equal(read_through(&puller, &reading), LEND_E_PEER_DEAD);
    assert_int_equal(lend_process_explain(&reading.pull.process, reading.pull.sys_errno, NULL),
                     LEND_E_NO_PATH);
    lend_puller_fini(&puller, false);
    use_system();
    free_reading(&reading);
    end_owner(&owner);
}

static void act_unmap(struct owner *owner, char command)
{
    (void)munmap(owner->memory + OWNER_BYTES / 2, OWNER_BYTES / 2);
    (void)!write(owner->socket, &command, 1);
}

static void test_memory_that_is_gone_is_not_a_death(void **state)
{
    static const uint64_t all[3] = {OWNER_BYTES / 65536, 65536, 65536};
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;
    char answer;

    (void)state;
    start_owner(&owner, act_unmap);
    tell_owner(&owner, 'u');
    assert_int_equal(read(owner.socket, &answer, 1), 1);
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, all);
    assert_int_equal(read_through(&puller, &reading), LEND_E_SYSTEM);
    assert_int_equal(reading.pull.sys_errno, EFAULT);
    assert_true(reading.pull.proven_bytes <= OWNER_BYTES / 2);
    assert_landed(&reading, reading.pull.proven_bytes);
    assert_int_equal(lend_process_explain(&reading.pull.process, EFAULT, NULL), LEND_E_SYSTEM);

    /* It was taken back before it went away: that is the cause. */
    atomic_store(&reading.word, lend_slot_word(GENERATION, LEND_SLOT_REVOKED));
    assert_int_equal(read_through(&puller, &reading), LEND_E_REVOKED);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
    end_owner(&owner);
}

static struct reading *revoked;

/* The lease ends while the tenth chunk is read. */
static ssize_t read_and_revoke(int pid, const struct iovec *local, unsigned local_count,
                               const struct iovec *remote, unsigned remote_count)
{
    ssize_t count = lend_sys_real.read_process(pid, local, local_count, remote, remote_count);

    if (atomic_fetch_add(&call_count, 1) == 9)
        atomic_store(&revoked->word, lend_slot_word(GENERATION, LEND_SLOT_REVOKED));
    return count;
}

static void test_what_is_revoked_midway_counts_what_was_proven(void **state)
{
    static const uint64_t all[3] = {OWNER_BYTES / 65536, 65536, 65536};
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    use_hook(read_and_revoke);
    allow_one_helper();
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, all);
    revoked = &reading;
    assert_int_equal(read_through(&puller, &reading), LEND_E_REVOKED);
    assert_int_equal(reading.pull.proven_bytes, 9 * CHUNK_BYTES);
    assert_landed(&reading, reading.pull.proven_bytes);
    assert_int_equal(reading.times_done, 1);
    lend_puller_fini(&puller, false);
    use_system();
    free_reading(&reading);
    end_owner(&owner);
}

static sem_t others_were_read;
static const void *held_up;
static int others_count;

/* The chunk at held_up fails, after those before it, and three others, have been read. */
static ssize_t read_first_last(int pid, const struct iovec *local, unsigned local_count,
                               const struct iovec *remote, unsigned remote_count)
{
    if (remote[0].iov_base == held_up) {
        for (int i = 0; i < others_count; i++)
            assert_int_equal(sem_wait(&others_were_read), 0);
        return -EIO;
    }
    ssize_t count = lend_sys_real.read_process(pid, local, local_count, remote, remote_count);
    (void)sem_post(&others_were_read);
    return count;
}

static void test_only_leading_bytes_are_proven(void **state)
{
    static const uint64_t all[3] = {OWNER_BYTES / 65536, 65536, 65536};
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    for (uint64_t chunk = 0; chunk < 5; chunk++) {
        struct lend_puller puller;
        struct reading reading;

        make_reading(&reading, &owner, 0, all);
        assert_int_equal(sem_init(&others_were_read, 0, 0), 0);
        held_up = owner.memory + chunk * CHUNK_BYTES;
        others_count = (int)chunk + 3;
        use_hook(read_first_last);
        lend_puller_init(&puller);
        assert_int_equal(read_through(&puller, &reading), LEND_E_SYSTEM);
        assert_int_equal(reading.pull.sys_errno, EIO);
        assert_int_equal(reading.pull.proven_bytes, chunk * CHUNK_BYTES);
        assert_landed(&reading, reading.pull.proven_bytes);
        lend_puller_fini(&puller, false);
        use_system();
        free_reading(&reading);
    }
    end_owner(&owner);
}

static void test_a_canceled_pull_is_quiet(void **state)
{
    static const uint64_t shape[3] = {64, 16384, 32768};
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;
    int canceled = 0;

    (void)state;
    start_owner(&owner, NULL);
    use_hook(read_counted);
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, shape);
    for (int i = 0; i < 300; i++) {
        int wanted = i % 5; /* calls to wait for before */

        atomic_store(&call_count, 0);
        memset(reading.destination, UNTOUCHED, reading.pull.total_bytes);
        assert_int_equal(submit(&puller, &reading), LEND_OK);
        while (atomic_load(&call_count) < wanted && atomic_load(&reading.times_done) == 0)
            (void)sched_yield();
        if (lend_puller_cancel(&puller, &reading.pull)) {
            canceled++;
            assert_int_equal(reading.times_done, 0);
            assert_int_equal(reading.pull.status, LEND_E_CANCELED);
            assert_landed(&reading, reading.pull.proven_bytes);
        } else {
            assert_int_equal(await(&reading), LEND_OK);
            assert_int_equal(atomic_exchange(&reading.times_done, 0), 1);
        }
        /* Another pull's time later, nothing has changed. */
        memset(reading.destination, UNTOUCHED, reading.pull.total_bytes);
        struct reading other;
        make_reading(&other, &owner, 0, some_pieces);
        assert_int_equal(read_through(&puller, &other), LEND_OK);
        free_reading(&other);
        assert_untouched(&reading);
    }
    assert_true(canceled > 0);
    lend_puller_fini(&puller, false);
    use_system();
    free_reading(&reading);
    end_owner(&owner);
}

static sem_t telling;
static sem_t may_end;
static atomic_bool has_told;

static void tell_slowly(struct lend_pull *pull)
{
    (void)pull;
    (void)sem_post(&telling);
    (void)sem_wait(&may_end);
    for (int i = 0; i < 100; i++)
        (void)sched_yield();
    atomic_store(&has_told, true);
}

static void test_cancel_waits_for_done_to_return(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, some_pieces);
    reading.pull.done = tell_slowly;
    assert_int_equal(sem_init(&telling, 0, 0), 0);
    assert_int_equal(sem_init(&may_end, 0, 0), 0);
    assert_int_equal(submit(&puller, &reading), LEND_OK);
    assert_int_equal(sem_wait(&telling), 0);
    assert_int_equal(sem_post(&may_end), 0);
    assert_false(lend_puller_cancel(&puller, &reading.pull));
    assert_true(has_told);
    assert_int_equal(reading.pull.status, LEND_OK);
    lend_puller_fini(&puller, false);
    free_reading(&reading);
    end_owner(&owner);
}

static sem_t first_was_read;
static sem_t small_is_there;

static ssize_t read_then_wait(int pid, const struct iovec *local, unsigned local_count,
                              const struct iovec *remote, unsigned remote_count)
{
    if (atomic_fetch_add(&call_count, 1) == 0) {
        (void)sem_post(&first_was_read);
        (void)sem_wait(&small_is_there);
    }
    return lend_sys_real.read_process(pid, local, local_count, remote, remote_count);
}

static atomic_int calls_when_done;

static void count_when_done(struct lend_pull *pull)
{
    atomic_store(&calls_when_done, atomic_load(&call_count));
    reading_done(pull);
}

static void test_a_small_pull_does_not_wait_for_a_large_one(void **state)
{
    static const uint64_t large_shape[3] = {400, 65536, 0}; /* one block, time and again */
    struct lend_puller puller;
    struct reading large;
    struct reading small;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    use_hook(read_then_wait);
    allow_one_helper();
    lend_puller_init(&puller);
    make_reading(&large, &owner, 0, large_shape);
    make_reading(&small, &owner, 0, some_pieces);
    small.pull.done = count_when_done;
    assert_int_equal(sem_init(&first_was_read, 0, 0), 0);
    assert_int_equal(sem_init(&small_is_there, 0, 0), 0);
    assert_int_equal(submit(&puller, &large), LEND_OK);
    assert_int_equal(sem_wait(&first_was_read), 0);
    assert_int_equal(submit(&puller, &small), LEND_OK);
    assert_int_equal(sem_post(&small_is_there), 0);
    assert_int_equal(await(&small), LEND_OK);
    assert_landed(&small, small.pull.total_bytes);
    assert_int_equal(await(&large), LEND_OK);
    assert_int_equal(call_count, 100 + 5);
    assert_int_equal(calls_when_done, 2 * 5); /* turn by turn */
    lend_puller_fini(&puller, false);
    use_system();
    free_reading(&large);
    free_reading(&small);
    end_owner(&owner);
}

static void wait_shortly(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t duration_ns)
{
    lend_sys_real.wait(condition, mutex, duration_ns < 1000000 ? duration_ns : 1000000);
    double_clock_advance(duration_ns);
}

static uint32_t helpers_of(struct lend_puller *puller)
{
    (void)pthread_mutex_lock(&puller->lock);
    uint32_t count = puller->helper_count;
    (void)pthread_mutex_unlock(&puller->lock);
    return count;
}

static void test_helpers_end_when_they_have_nothing_to_do(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;

    (void)state;
    start_owner(&owner, NULL);
    double_install(-1);
    double_clock_set(1, 0);
    hooked = *lend_sys;
    hooked.wait = wait_shortly;
    lend_sys = &hooked;
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, some_pieces);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(read_through(&puller, &reading), LEND_OK);
        while (helpers_of(&puller) > 0)
            (void)sched_yield();
    }
    lend_puller_fini(&puller, false);
    assert_false(double_remove());
    free_reading(&reading);
    end_owner(&owner);
}

static void test_a_forked_child_frees_the_memory(void **state)
{
    struct lend_puller puller;
    struct reading reading;
    struct owner owner;
    int result;

    (void)state;
    start_owner(&owner, NULL);
    double_install(-1);
    lend_puller_init(&puller);
    make_reading(&reading, &owner, 0, some_pieces);
    assert_int_equal(read_through(&puller, &reading), LEND_OK);
    (void)pthread_mutex_lock(&puller.lock); /* no helper is in the midst of something */
    int pid = fork();
    (void)pthread_mutex_unlock(&puller.lock);
    if (pid == 0) {
        lend_puller_fini(&puller, true);
        _exit(double_live_allocations());
    }
    assert_int_equal(waitpid(pid, &result, 0), pid);
    assert_int_equal(result, 0);
    lend_puller_fini(&puller, false);
    assert_false(double_remove());
    free_reading(&reading);
    end_owner(&owner);
}

static void test_every_call_may_fail(void **state)
{
    struct owner owner;
    bool was_reached = true;

    (void)state;
    start_owner(&owner, NULL);
    for (int nth = 0; was_reached; nth++) {
        struct lend_puller puller;
        struct reading reading;

        make_reading(&reading, &owner, 0, some_pieces);
        double_install(nth);
        lend_puller_init(&puller);
        enum lend_status status = submit(&puller, &reading);
        if (status == LEND_OK) {
            status = await(&reading);
            assert_true(status == LEND_OK ||
                        (status == LEND_E_SYSTEM && reading.pull.sys_errno == EPERM));
            assert_landed(&reading, reading.pull.proven_bytes);
        } else {
            assert_true(status == LEND_E_NO_MEMORY || status == LEND_E_SYSTEM);
            assert_untouched(&reading);
        }
        lend_puller_fini(&puller, false);
        was_reached = double_remove();
        assert_true(was_reached || status == LEND_OK);
        free_reading(&reading);
    }
    end_owner(&owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_right_for_pieces_of_every_size),
        cmocka_unit_test(test_a_call_takes_as_many_pieces_as_the_kernel_allows),
        cmocka_unit_test(test_another_nonce_is_another_process),
        cmocka_unit_test(test_the_dead_are_told_apart),
        cmocka_unit_test(test_a_program_that_replaced_the_owner_is_told_apart),
        cmocka_unit_test(test_a_forked_child_of_the_owner_is_told_apart),
        cmocka_unit_test(test_a_process_that_took_the_owners_number_is_told_apart),
        cmocka_unit_test(test_a_probe_says_what_to_do),
        cmocka_unit_test(test_a_pull_of_no_bytes_is_a_probe),
        cmocka_unit_test(test_memory_that_is_gone_is_not_a_death),
        cmocka_unit_test(test_what_is_revoked_midway_counts_what_was_proven),
        cmocka_unit_test(test_only_leading_bytes_are_proven),
        cmocka_unit_test(test_a_canceled_pull_is_quiet),
        cmocka_unit_test(test_cancel_waits_for_done_to_return),
        cmocka_unit_test(test_a_small_pull_does_not_wait_for_a_large_one),
        cmocka_unit_test(test_helpers_end_when_they_have_nothing_to_do),
        cmocka_unit_test(test_a_forked_child_frees_the_memory),
        cmocka_unit_test(test_every_call_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
