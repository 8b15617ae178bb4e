/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an owner gets its memory back from readers that have its file mapped, or is told who has
 * it: one that is stopped is named, or left with zeros where the owner wants that; one that is
 * killed has let go; one that runs lets go, and maps the region's next life.
 * Method: an owner and a reader, two processes, take turns; the reader stops itself, and the owner
 * looks at the blocks of the file.
 */
#include "trap.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    REGION_BYTES = TRAP_BLOCK * TRAP_BLOCKS,
    STAT_BLOCK_BYTES = 512,
};

static const struct trap_how storage = {.backing = TRAP_STORAGE};
static const struct trap_how to_punch = {.backing = TRAP_FILE,
                                         .mode = 0600,
                                         .seals = F_SEAL_SHRINK | F_SEAL_GROW,
                                         .flags = LEND_REGION_PUNCH_OUT};

/* Wait until a process is stopped, as the kernel tells. */
static bool is_stopped(pid_t process)
{
    uint64_t deadline = acts_now_ns() + ACTS_PATIENCE_NS;
    char path[40], state = '?';

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    while (state != 'T' && acts_now_ns() < deadline) {
        FILE *file = fopen(path, "re");

        if (file == NULL || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
            state = '?';
        if (file != NULL)
            (void)fclose(file);
        (void)sched_yield();
    }
    return trap_check(state == 'T', "the reader is stopped");
}

static bool names(const struct lend_error *error, pid_t process)
{
    char words[40];

    (void)snprintf(words, sizeof words, "process %d", (int)process);
    if (strstr(error->message, words) != NULL)
        return true;
    (void)fprintf(stderr, "\"%s\" does not name %s\n", error->message, words);
    return false;
}

/* --- a reader that is stopped --- */

static bool own_until_stopped(struct trap_owner *owner, struct trap_scene *scene)
{
    if (!trap_own(owner, scene, 1))
        return false;
    acts_turn_to(&scene->owner, 1);
    return acts_turn_await(&scene->reader, 1) && is_stopped(scene->reader_process);
}

static bool is_busy(struct trap_owner *owner, const struct trap_scene *scene)
{
    struct lend_error error = {0};

    return trap_check(lend_region_withdraw(owner->region.region, LEND_WITHDRAW_FORCE, 50 * ACTS_MS,
                                           &error) == LEND_E_BUSY,
                      "a stopped reader has not let go") &&
           names(&error, scene->reader_process);
}

static bool withdraw(struct trap_owner *owner, uint64_t timeout_ns)
{
    struct lend_error error = {0};

    return acts_ok(
        lend_region_withdraw(owner->region.region, LEND_WITHDRAW_FORCE, timeout_ns, &error), &error,
        "withdraw");
}

static int own_storage(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};

    if (!own_until_stopped(&owner, scene) || !is_busy(&owner, scene) || !is_busy(&owner, scene))
        return 1;
    acts_turn_to(&scene->owner, 2);
    if (!scene->is_to_be_killed)
        (void)kill(scene->reader_process, SIGCONT);
    /* It lets go as it goes on; or it is killed. */
    if (!withdraw(&owner, ACTS_PATIENCE_NS))
        return 2;
    acts_turn_to(&scene->owner, 3);
    if (!acts_turn_await(&scene->reader, 2))
        return 3;
    trap_disown(&owner);
    return 0;
}

static uint64_t blocks_of(int file)
{
    struct stat found = {0};

    (void)fstat(file, &found);
    return (uint64_t)found.st_blocks;
}

static int own_and_punch(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};

    if (!own_until_stopped(&owner, scene) ||
        !trap_check(blocks_of(owner.file) >= REGION_BYTES / STAT_BLOCK_BYTES,
                    "the file takes its memory") ||
        !withdraw(&owner, 50 * ACTS_MS) ||
        !trap_check(blocks_of(owner.file) == 0, "the memory came back") ||
        !trap_check(acts_is_byte(owner.region.memory, REGION_BYTES, 0),
                    "the owner has lost it too"))
        return 1;
    acts_turn_to(&scene->owner, 3);
    (void)kill(scene->reader_process, SIGCONT);
    if (!acts_turn_await(&scene->reader, 2))
        return 2;
    trap_disown(&owner);
    return 0;
}

/* Map and read; under manual progress, so that nothing is let go of unless we say so. */
static bool read_and_stop(struct trap_reader *reader, struct trap_scene *scene,
                          struct trap_mapping *out)
{
    scene->reader_process = getpid();
    if (!acts_turn_await(&scene->owner, 1) ||
        !trap_reader_begin(reader, scene, LEND_AGENT_MANUAL_PROGRESS) ||
        !trap_meet(reader, scene, TRAP_MAPPED) || !trap_reads(reader, TRAP_MAPPED, 1) ||
        !trap_check(trap_find_mapping(TRAP_FILE_NAME, out, 0), "it is mapped"))
        return false;
    acts_turn_to(&scene->reader, 1);
    (void)raise(SIGSTOP);
    return true;
}

static bool is_revoked(struct trap_reader *reader)
{
    enum lend_status status = trap_read(reader, 0, TRAP_BLOCKS);

    if (status == LEND_E_REVOKED)
        return true;
    (void)fprintf(stderr, "after the withdrawal: %s: %s\n", lend_status_name(status),
                  reader->why.message);
    return false;
}

/* It takes no more than progress. */
static bool lets_go(struct trap_reader *reader)
{
    uint64_t deadline = acts_now_ns() + ACTS_PATIENCE_NS;
    struct trap_mapping mapping;

    while (trap_find_mapping(TRAP_FILE_NAME, &mapping, 0)) {
        (void)lend_agent_progress(reader->agent, ACTS_MS, NULL);
        if (!trap_check(acts_now_ns() < deadline, "it has let go"))
            return false;
    }
    return true;
}

static int read_storage(void *context)
{
    struct trap_scene *scene = context;
    struct trap_mapping mapping;
    struct trap_reader reader;

    if (!read_and_stop(&reader, scene, &mapping) || !is_revoked(&reader) || !lets_go(&reader) ||
        !acts_turn_await(&scene->owner, 3))
        return 1;
    trap_reader_end(&reader);
    acts_turn_to(&scene->reader, 2);
    return 0;
}

static int read_zeros(void *context)
{
    struct trap_scene *scene = context;
    struct trap_mapping mapping;
    struct trap_reader reader;

    if (!read_and_stop(&reader, scene, &mapping) || !acts_turn_await(&scene->owner, 3) ||
        !trap_check(acts_is_byte((const void *)(uintptr_t)mapping.start, REGION_BYTES, 0),
                    "zeros are where the memory was") ||
        !is_revoked(&reader) || !lets_go(&reader))
        return 1;
    trap_reader_end(&reader);
    acts_turn_to(&scene->reader, 2);
    return 0;
}

static void play(struct trap_how how, int (*own)(void *context), int (*read)(void *context))
{
    struct trap_scene *scene = trap_scene_make(how);
    pid_t owner = acts_spawn(own, scene);
    pid_t reader = acts_spawn(read, scene);

    trap_judge(scene, owner, reader);
}

static void test_a_stopped_reader_is_named_and_lets_go_as_it_goes_on(void **state)
{
    (void)state;
    play(storage, own_storage, read_storage);
}

static void test_memory_is_punched_out_under_a_stopped_reader(void **state)
{
    (void)state;
    play(to_punch, own_and_punch, read_zeros);
}

static void test_a_killed_reader_has_let_go(void **state)
{
    struct trap_scene *scene = trap_scene_make(storage);

    (void)state;
    scene->is_to_be_killed = true;
    pid_t owner = acts_spawn(own_storage, scene), reader = acts_spawn(read_storage, scene);
    bool was_named = acts_turn_await(&scene->owner, 2);
    (void)kill(reader, SIGKILL);
    (void)acts_reap(reader);
    acts_turn_to(&scene->reader, 2);
    int owner_status = acts_reap(owner);
    assert_true(trap_scene_end(scene));
    assert_true(was_named);
    assert_int_equal(owner_status, 0);
}

/* --- suspended, and lent again --- */

static int own_two_lives(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};
    struct lend_error error = {0};

    if (!trap_own(&owner, scene, 1))
        return 1;
    acts_turn_to(&scene->owner, 1);
    for (uint32_t life = 2; life < 5; life++) {
        if (!acts_turn_await(&scene->reader, 2 * life - 3) ||
            !acts_ok(lend_region_suspend(owner.region.region, LEND_WITHDRAW_FORCE, ACTS_PATIENCE_NS,
                                         &error),
                     &error, "suspend"))
            return 2;
        acts_turn_to(&scene->owner, 2 * life - 2);
        trap_fill(&owner, life);
        if (!acts_turn_await(&scene->reader, 2 * life - 2) ||
            !acts_ok(lend_region_resume(owner.region.region, NULL, lend_storage_fd(owner.storage),
                                        0, &error),
                     &error, "resume") ||
            !trap_lend_again(&owner, scene))
            return 3;
        acts_turn_to(&scene->owner, 2 * life - 1);
    }
    if (!acts_turn_await(&scene->reader, 100))
        return 4;
    trap_disown(&owner);
    return 0;
}

/* Whatever way it is read, the bytes are right; soon it is by the mapped one again. */
static bool is_mapped_again(struct trap_reader *reader, uint64_t generation)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    uint64_t deadline = acts_now_ns() + ACTS_PATIENCE_NS;

    do {
        if (!acts_ok(trap_read(reader, 0, TRAP_BLOCKS), &reader->why, "a read of the next life") ||
            !trap_holds(reader, 0, TRAP_BLOCKS, generation))
            return false;
        (void)lend_transfer_describe(reader->transfer, &record, NULL);
    } while (strcmp(record.path, TRAP_MAPPED) != 0 && acts_now_ns() < deadline);
    return trap_took(reader, TRAP_MAPPED);
}

static bool ends_as(struct trap_reader *reader, enum lend_status wanted, const char *when)
{
    enum lend_status status = trap_read(reader, 0, TRAP_BLOCKS);

    if (status == wanted)
        return true;
    (void)fprintf(stderr, "%s: %s: %s\n", when, lend_status_name(status), reader->why.message);
    return false;
}

static int read_two_lives(void *context)
{
    struct trap_scene *scene = context;
    struct lend_error error = {0};
    struct trap_mapping mapping;
    struct trap_reader reader;

    if (!acts_turn_await(&scene->owner, 1) || !trap_reader_begin(&reader, scene, 0) ||
        !trap_meet(&reader, scene, NULL) || !trap_reads(&reader, TRAP_MAPPED, 1))
        return 1;
    for (uint32_t life = 2; life < 5; life++) {
        acts_turn_to(&scene->reader, 2 * life - 3);
        if (!acts_turn_await(&scene->owner, 2 * life - 2) ||
            !trap_check(!trap_find_mapping(TRAP_FILE_NAME, &mapping, 0), "it has let go") ||
            !ends_as(&reader, LEND_E_REVOKED, "an old ticket while it is suspended"))
            return 2;
        acts_turn_to(&scene->reader, 2 * life - 2);
        if (!acts_turn_await(&scene->owner, 2 * life - 1) ||
            !ends_as(&reader, LEND_E_STALE, "an old ticket in the next life") ||
            !acts_ok(lend_peer_refresh(reader.peer, scene->metadata.bytes, scene->metadata.count,
                                       &error),
                     &error, "refresh") ||
            !ends_as(&reader, LEND_E_STALE, "an old ticket after a refresh") ||
            !trap_take_ticket(&reader, scene) || !is_mapped_again(&reader, life))
            return 3;
    }
    trap_reader_end(&reader);
    acts_turn_to(&scene->reader, 100);
    return 0;
}

static void test_a_resumed_region_is_mapped_again_and_old_tickets_are_stale(void **state)
{
    (void)state;
    play(storage, own_two_lives, read_two_lives);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stopped_reader_is_named_and_lets_go_as_it_goes_on),
        cmocka_unit_test(test_memory_is_punched_out_under_a_stopped_reader),
        cmocka_unit_test(test_a_killed_reader_has_let_go),
        cmocka_unit_test(test_a_resumed_region_is_mapped_again_and_old_tickets_are_stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
