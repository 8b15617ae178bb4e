/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a reader that reads by itself never takes the bytes of another process for its owner's,
 * and is told that its owner is dead: not when another process has taken the owner's number, be it
 * a copy of the owner that a fork made, and not when the owner has become another program.
 * Method: each of many owners is replaced while its reader reads, or between two of its reads, by a
 * process of the same number that has other bytes at the addresses of the region, and something
 * readable wherever its forerunner had. A nursery, which has one thread, makes the processes. 100
 * owners a test; LEND_TIMES=10 makes them 1,000.
 */
#include "trap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANGES_MAX = 2048, PAGE = 4096, REGION_BYTES = TRAP_BLOCK * TRAP_BLOCKS };

/* Greater ones are the shadows of sanitizers, or arenas that nothing is in. */
#define RANGE_BYTES_MAX (UINT64_C(64) << 20)

enum replacement {
    BY_STRANGER, /* of the same number */
    BY_COPY,     /* of the same number: a fork of the owner, with all that it had */
    BY_EXEC,
};

struct range {
    uint64_t start;
    uint64_t end;
};

/* What the test, the nursery, and the owners and who replaces them all see; in a file, so that it
 * can be found again behind an exec. */
struct stage {
    struct trap_scene scene;
    int file;
    bool does_exec;
    uint32_t rounds;
    struct acts_turn order;  /* 2r + 1: owner r is wanted; 2r + 2: and now its replacement */
    struct acts_turn answer; /* 2r + 2: it is replaced */
    struct acts_turn grave;  /* r + 1: owner r is dead, and its number free */
    pid_t owner;
    uint64_t memory;
    uint32_t range_count;
    struct range ranges[RANGES_MAX];
    char trouble[200];
};

static enum replacement replacement_of(const struct stage *stage, uint32_t round)
{
    if (stage->does_exec)
        return BY_EXEC;
    return round % 2 == 0 ? BY_STRANGER : BY_COPY;
}

static void say_trouble(struct stage *stage, const char *what)
{
    (void)snprintf(stage->trouble, sizeof stage->trouble, "%s: %s", what, strerror(errno));
}

/* --- who takes the place --- */

static void occupy(uint64_t start, uint64_t end)
{
    (void)mmap((void *)(uintptr_t)start, end - start, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
}

/* Have other bytes where the region was, and zeros wherever else the owner had something. What is
 * taken here already, stays. */
static void pose(struct stage *stage)
{
    void *memory = (void *)(uintptr_t)stage->memory;

    occupy(stage->memory, stage->memory + REGION_BYTES);
    for (uint32_t i = 0; i < stage->range_count; i++) {
        const struct range *range = &stage->ranges[i];

        if (range->end - range->start > 64 * PAGE) {
            occupy(range->start, range->end);
            continue;
        }
        for (uint64_t at = range->start; at < range->end; at += PAGE)
            occupy(at, at + PAGE);
    }
    memset(memory, 0xEE, REGION_BYTES);
}

static void answer(struct stage *stage, uint32_t round)
{
    acts_turn_to(&stage->answer, 2 * round + 2);
    for (;;)
        (void)pause();
}

/* Fork a process of that number. */
static pid_t fork_as(pid_t number)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1};
    pid_t parent = getpid();
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);

    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(125);
    }
    return child;
}

static int pose_behind_exec(int file)
{
    struct stage *stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    if (stage == MAP_FAILED)
        return 1;
    uint32_t round = atomic_load(&stage->order.reached) / 2 - 1;
    pose(stage);
    answer(stage, round);
    return 0;
}

/* --- the owner --- */

static void list_ranges(struct stage *stage)
{
    struct trap_mapping mapping = {0};

    stage->range_count = 0;
    for (uint64_t from = 0; trap_find_mapping("", &mapping, from); from = mapping.end) {
        if (mapping.end - mapping.start > RANGE_BYTES_MAX || stage->range_count == RANGES_MAX ||
            strstr(mapping.name, "[v") != NULL)
            continue;
        stage->ranges[stage->range_count++] = (struct range){mapping.start, mapping.end};
    }
}

/* A copy of the owner's memory: it waits for the owner's end, and has a copy of its own take the
 * number. Not of its sockets: while somebody has the one that the owner listened at, who connects
 * there anew finds nobody that answers, and has to wait until the time for that is over. */
static void stand_by(struct stage *stage, uint32_t round)
{
    (void)close_range(3, ~0U, 0);
    if (!acts_turn_await(&stage->grave, round + 1))
        _exit(1);
    pid_t child = fork_as(stage->owner);
    if (child == 0) {
        memset((void *)(uintptr_t)stage->memory, 0xEE, REGION_BYTES);
        answer(stage, round);
    }
    if (child < 0) {
        say_trouble(stage, "clone3 with set_tid, by a copy");
        acts_turn_to(&stage->answer, 2 * round + 2);
    }
    (void)acts_turn_await(&stage->order, 2 * round + 3);
    if (child > 0)
        (void)kill(child, SIGKILL);
    _exit(0);
}

static int own(void *context)
{
    struct stage *stage = context;
    uint32_t round = atomic_load(&stage->order.reached) / 2;
    struct trap_owner owner = {0};

    stage->owner = getpid();
    if (!trap_own(&owner, &stage->scene, round + 1))
        return 1;
    stage->memory = (uintptr_t)owner.region.memory;
    list_ranges(stage);
    if (replacement_of(stage, round) == BY_COPY && fork() == 0)
        stand_by(stage, round);
    acts_turn_to(&stage->scene.owner, round + 1);
    if (!acts_turn_await(&stage->order, 2 * round + 2))
        return 2;
    if (replacement_of(stage, round) != BY_EXEC)
        for (;;)
            (void)pause(); /* to be killed */
    char number[16];
    (void)snprintf(number, sizeof number, "%d", stage->file);
    (void)execl("/proc/self/exe", "trap_identity_test", "--pose", number, (char *)NULL);
    return 3;
}

/* --- the nursery --- */

static void bury(pid_t *child)
{
    int status;

    if (*child <= 0)
        return;
    (void)kill(*child, SIGKILL);
    (void)waitpid(*child, &status, 0);
    *child = 0;
}

static int nurse(void *context)
{
    struct stage *stage = context;
    pid_t child = 0;

    for (uint32_t round = 0; round < stage->rounds; round++) {
        if (!acts_turn_await(&stage->order, 2 * round + 1))
            return 1;
        bury(&child);
        pid_t owner = child = acts_spawn(own, stage);
        if (!acts_turn_await(&stage->order, 2 * round + 2))
            return 2;
        if (stage->does_exec)
            continue;
        bury(&child);
        if (replacement_of(stage, round) == BY_STRANGER && (child = fork_as(owner)) == 0) {
            pose(stage);
            answer(stage, round);
        }
        if (child < 0) {
            say_trouble(stage, "clone3 with set_tid");
            acts_turn_to(&stage->answer, 2 * round + 2);
        }
        acts_turn_to(&stage->grave, round + 1);
    }
    if (!acts_turn_await(&stage->order, 2 * stage->rounds + 1))
        return 3;
    bury(&child);
    return 0;
}

/* --- the reader --- */

/* What is right: the owner's bytes, or that it is dead. */
static bool is_right(struct trap_reader *reader, enum lend_status status, uint32_t round)
{
    if (status == LEND_OK)
        return trap_holds(reader, 0, TRAP_BLOCKS, round + 1);
    if (status == LEND_E_PEER_DEAD)
        return true;
    (void)acts_ok(status, &reader->why, "a read while the owner is replaced");
    return false;
}

static bool replace(struct stage *stage, struct trap_reader *reader, uint32_t round, bool reads_on)
{
    uint64_t deadline = acts_now_ns() + ACTS_PATIENCE_NS;

    acts_turn_to(&stage->order, 2 * round + 2);
    while (reads_on && atomic_load(&stage->answer.reached) < 2 * round + 2) {
        if (acts_now_ns() > deadline || !is_right(reader, trap_read(reader, 0, TRAP_BLOCKS), round))
            return false;
    }
    return acts_turn_await(&stage->answer, 2 * round + 2);
}

/* Whether the reader has a thread of its own, and may know of the death before it reads again; and
 * whether it reads on. All four of these, with either replacement. */
static bool play_round(struct stage *stage, uint32_t round, const char *path)
{
    uint32_t flags = round / 2 % 2 == 0 ? LEND_AGENT_MANUAL_PROGRESS : 0;
    bool reads_on = round / 4 % 2 == 1;
    struct trap_reader reader;

    acts_turn_to(&stage->order, 2 * round + 1);
    if (!acts_turn_await(&stage->scene.owner, round + 1) ||
        !trap_reader_begin(&reader, &stage->scene, flags) ||
        !trap_meet(&reader, &stage->scene, path) || !trap_reads(&reader, path, round + 1) ||
        !replace(stage, &reader, round, reads_on))
        return false;
    bool is_told = true;
    for (int i = 0; stage->trouble[0] == '\0' && is_told && i < 2; i++) {
        enum lend_status status = trap_read(&reader, 0, TRAP_BLOCKS);

        is_told = status == LEND_E_PEER_DEAD;
        if (!is_told)
            (void)fprintf(stderr, "round %u, read %d after the end: %s: %s\n", round, i,
                          lend_status_name(status), reader.why.message);
    }
    trap_reader_end(&reader);
    acts_directory_empty(&stage->scene.directory);
    return is_told;
}

static void play(bool does_exec, enum trap_backing backing, const char *path)
{
    int file = memfd_create("stage", 0); /* to be found behind an exec */

    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, sizeof(struct stage)), 0);
    struct stage *stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    assert_ptr_not_equal(stage, MAP_FAILED);
    *stage =
        (struct stage){.scene = {.directory = acts_directory_make(), .how = {.backing = backing}},
                       .file = file,
                       .does_exec = does_exec,
                       .rounds = acts_count(100)};

    pid_t nursery = acts_spawn(nurse, stage);
    bool is_well = true;
    for (uint32_t round = 0; is_well && stage->trouble[0] == '\0' && round < stage->rounds; round++)
        is_well = play_round(stage, round, path);
    bool is_through = is_well && stage->trouble[0] == '\0';
    if (is_through)
        acts_turn_to(&stage->order, 2 * stage->rounds + 1);
    else
        (void)kill(nursery, SIGKILL);
    int nursed = acts_reap(nursery);

    acts_directory_empty(&stage->scene.directory);
    bool is_clean = acts_directory_remove(&stage->scene.directory);
    if (stage->trouble[0] != '\0')
        print_message("skipped: %s\n", stage->trouble);
    bool is_skipped = stage->trouble[0] != '\0' && is_well;
    (void)munmap(stage, sizeof *stage);
    (void)close(file);
    assert_true(is_clean);
    if (is_skipped)
        skip();
    assert_true(is_well);
    assert_int_equal(nursed, 0);
}

static void test_a_process_of_the_owners_number_is_not_read(void **state)
{
    (void)state;
    play(false, TRAP_PRIVATE, TRAP_CROSS);
}

static void test_a_mapping_does_not_outlive_the_owners_number(void **state)
{
    (void)state;
    play(false, TRAP_STORAGE, TRAP_MAPPED);
}

static void test_a_program_that_replaced_the_owner_is_not_read(void **state)
{
    (void)state;
    play(true, TRAP_PRIVATE, TRAP_CROSS);
}

static void test_a_mapping_does_not_outlive_the_owners_program(void **state)
{
    (void)state;
    play(true, TRAP_STORAGE, TRAP_MAPPED);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_process_of_the_owners_number_is_not_read),
        cmocka_unit_test(test_a_mapping_does_not_outlive_the_owners_number),
        cmocka_unit_test(test_a_program_that_replaced_the_owner_is_not_read),
        cmocka_unit_test(test_a_mapping_does_not_outlive_the_owners_program),
    };

#if defined(__SANITIZE_THREAD__)
    (void)printf("SKIP: the thread sanitizer lives where the replacement maps its memory\n");
    return 77; /* what Meson takes for a skip */
#endif
    if (argc == 3 && strcmp(argv[1], "--pose") == 0)
        return pose_behind_exec((int)strtol(argv[2], NULL, 10));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
