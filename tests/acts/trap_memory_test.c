/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever an owner's memory or file does, and whatever state a reader of it is in, harms
 * nobody else: a page that never comes holds up one transfer, a file that could shrink is not
 * mapped, no reader can write to what it was given, and who does not let go is named, or left with
 * zeros.
 * Method: an owner and a reader, two processes, take turns; the kernel's list of mappings tells
 * what the reader has. What this user or kernel cannot do is skipped, with the reason.
 */
#include "trap.h"
#include "sanitizer.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    REGION_BYTES = TRAP_BLOCK * TRAP_BLOCKS,
    HALF = TRAP_BLOCKS / 2,
    FOREVER = 1000000, /* a turn that trap_judge() alone takes */
};

static bool begin(struct trap_reader *reader, struct trap_scene *scene, uint32_t flags,
                  const char *paths)
{
    scene->reader_process = getpid();
    return acts_turn_await(&scene->owner, 1) && trap_reader_begin(reader, scene, flags) &&
           trap_meet(reader, scene, paths);
}

static int leave(struct trap_reader *reader, struct trap_scene *scene)
{
    trap_reader_end(reader);
    acts_turn_to(&scene->reader, FOREVER);
    return 0;
}

static void play(struct trap_how how, int (*own)(void *context), int (*read)(void *context))
{
    struct trap_scene *scene = trap_scene_make(how);

    assert_int_equal(chmod(scene->directory.path, how.local_mode != 0 ? 01777 : 0700), 0);
    pid_t owner = acts_spawn(own, scene);
    pid_t reader = acts_spawn(read, scene);
    trap_judge(scene, owner, reader);
}

/* --- a page that nobody serves --- */

struct fault_stage {
    struct trap_scene *stuck; /* its owner's second half is behind a userfaultfd */
    struct trap_scene *other;
};

static int guard(struct trap_scene *scene, uint8_t *memory)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)memory, .len = (uint64_t)HALF * TRAP_BLOCK},
        .mode = UFFDIO_REGISTER_MODE_MISSING};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &range) != 0) {
        (void)trap_refuse(scene, "userfaultfd");
        return -1;
    }
    return fd;
}

static bool serve_fault(int fd, uint8_t *memory)
{
    uint8_t *bytes = acts_shared((size_t)HALF * TRAP_BLOCK);
    struct uffdio_copy copy = {
        .dst = (uintptr_t)memory, .src = (uintptr_t)bytes, .len = (uint64_t)HALF * TRAP_BLOCK};

    memset(bytes, 0xEE, (size_t)HALF * TRAP_BLOCK);
    return trap_check(ioctl(fd, UFFDIO_COPY, &copy) == 0, "the fault is served at last");
}

static int own_behind_fault(void *context)
{
    struct trap_scene *scene = context;
    uint8_t *memory =
        mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct trap_owner owner = {.region.memory = memory};
    int fd = guard(scene, memory + (size_t)HALF * TRAP_BLOCK);

    if (fd < 0) {
        acts_turn_to(&scene->owner, 1);
        return TRAP_SKIPPED;
    }
    for (uint64_t block = 0; block < HALF; block++)
        acts_fill(memory + block * TRAP_BLOCK, TRAP_BLOCK, 1, block);
    if (!trap_own(&owner, scene, 1))
        return 1;
    acts_turn_to(&scene->owner, 1);
    if (!acts_turn_await(&scene->reader, 1) || !serve_fault(fd, memory + (size_t)HALF * TRAP_BLOCK))
        return 2;
    acts_turn_to(&scene->owner, 2);
    if (!acts_turn_await(&scene->reader, 2))
        return 3;
    trap_disown(&owner);
    return 0;
}

/* Another transfer of the same agent, into memory of its own. */
static bool join(struct trap_reader *joined, const struct trap_reader *reader)
{
    *joined = (struct trap_reader){.agent = reader->agent, .region = reader->region};
    joined->region.memory =
        mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return acts_register(joined->agent, &joined->region, 0);
}

static bool others_go_on(struct trap_reader *same, struct trap_reader *other)
{
    return acts_ok(trap_read(same, 0, HALF), &same->why, "of the same owner") &&
           trap_took(same, TRAP_CROSS) && trap_holds(same, 0, HALF, 1) &&
           trap_reads(other, TRAP_CROSS, 7);
}

/* Wait until there are no more than so many. */
static bool has_threads(uint32_t count)
{
    uint64_t deadline = acts_now_ns() + ACTS_PATIENCE_NS;

    while (acts_holdings_now().threads > count) {
        if (acts_now_ns() > deadline)
            return false;
        (void)sched_yield();
    }
    return true;
}

static int read_behind_fault(void *context)
{
    const struct fault_stage *stage = context;
    struct trap_scene *scene = stage->stuck;
    struct trap_reader reader, same, other;
    uint32_t threads = acts_holdings_now().threads;

    if (!acts_turn_await(&scene->owner, 1) || !acts_turn_await(&stage->other->owner, 1))
        return 1;
    if (scene->reason[0] != '\0')
        return TRAP_SKIPPED;
    if (!begin(&reader, scene, 0, TRAP_CROSS) || !join(&same, &reader) || !join(&other, &reader) ||
        !trap_meet(&same, scene, TRAP_CROSS) || !trap_meet(&other, stage->other, TRAP_CROSS))
        return 1;
    for (int round = 0; round < 3; round++) {
        uint64_t timeout_ns = round == 1 ? 50 * ACTS_MS : 0;

        if (!acts_ok(trap_post(&reader, HALF, 2, timeout_ns), &reader.why, "post") ||
            !others_go_on(&same, &other))
            return 2;
        if (round == 0 &&
            (!trap_check(lend_transfer_test(reader.transfer) == LEND_PENDING, "it is stuck") ||
             !trap_check(lend_transfer_cancel(reader.transfer, ACTS_PATIENCE_NS) == LEND_E_CANCELED,
                         "a stuck one can be canceled")))
            return 3;
        if (round == 1 &&
            !trap_check(lend_transfer_wait(reader.transfer, ACTS_PATIENCE_NS) == LEND_E_TIMEOUT,
                        "the deadline of a stuck one passes"))
            return 4;
    }
    lend_agent_destroy(reader.agent); /* the third is stuck still */
    acts_turn_to(&scene->reader, 1);
    /* Who was stuck wakes up, and ends. */
    if (!acts_turn_await(&scene->owner, 2) ||
        !trap_check(has_threads(threads), "who was stuck has ended"))
        return 5;
    if (!trap_check(acts_is_byte(reader.region.memory, REGION_BYTES, 0), "no byte lands late"))
        return 6;
    acts_turn_to(&scene->reader, FOREVER);
    acts_turn_to(&stage->other->reader, FOREVER);
    return 0;
}

static int own_the_other(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};

    if (!trap_own(&owner, scene, 7))
        return 1;
    acts_turn_to(&scene->owner, 1);
    return acts_turn_await(&scene->reader, 1) ? 0 : 2;
}

static void test_a_page_that_nobody_serves_holds_up_one_transfer(void **state)
{
    struct fault_stage stage = {trap_scene_make((struct trap_how){0}),
                                trap_scene_make((struct trap_how){.name = "another"})};

    (void)state;
    if (UNDER_TSAN) {
        print_message(
            "skipped: under the thread sanitizer deadlines pass before the others are done\n");
        skip();
    }
    pid_t other = acts_spawn(own_the_other, stage.other);
    pid_t owner = acts_spawn(own_behind_fault, stage.stuck);
    pid_t reader = acts_spawn(read_behind_fault, &stage);
    int reader_status = acts_reap(reader);
    acts_turn_to(&stage.stuck->reader, FOREVER);
    acts_turn_to(&stage.other->reader, FOREVER);
    int owner_status = acts_reap(owner), other_status = acts_reap(other);
    bool is_skipped = owner_status == TRAP_SKIPPED;
    if (is_skipped)
        print_message("skipped: %s\n", stage.stuck->reason);
    assert_true(trap_scene_end(stage.stuck));
    assert_true(trap_scene_end(stage.other));
    if (is_skipped)
        skip();
    assert_int_equal(reader_status, 0);
    assert_int_equal(owner_status, 0);
    assert_int_equal(other_status, 0);
}

/* --- files that could shrink, or try to --- */

static int read_unmapped(void *context)
{
    struct trap_scene *scene = context;
    struct trap_reader reader;

    if (!begin(&reader, scene, 0, NULL))
        return 1;
    if (!trap_explains(&reader, scene, TRAP_MAPPED, LEND_E_NO_PATH, "F_SEAL_SHRINK") ||
        !trap_reads(&reader, TRAP_SERVED, 1))
        return 2;
    enum lend_status status = trap_prepare(&reader, scene, TRAP_MAPPED);
    if (!trap_check(status == LEND_E_NO_PATH && strstr(reader.why.message, "F_SEAL_SHRINK") != NULL,
                    "a policy for the mapped path is refused, and told why"))
        return 3;
    struct trap_mapping mapping;
    if (!trap_check(!trap_find_mapping(TRAP_FILE_NAME, &mapping, 0), "it is not mapped"))
        return 4;
    return leave(&reader, scene);
}

static void test_a_file_that_could_shrink_is_not_mapped_and_explain_says_why(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_FILE, .mode = 0600}, trap_own_and_wait, read_unmapped);
}

/* Try for as long as the reader reads. */
static int own_and_cut(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};

    if (!trap_own(&owner, scene, 1))
        return 1;
    acts_turn_to(&scene->owner, 1);
    int file = lend_storage_fd(owner.storage);
    for (bool goes_on = true; goes_on; goes_on = atomic_load(&scene->reader.reached) == 0) {
        bool is_refused =
            ftruncate(file, 0) != 0 && errno == EPERM &&
            fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, REGION_BYTES) != 0;

        if (!trap_check(is_refused, "sealed storage is neither cut nor punched"))
            return 2;
        (void)sched_yield();
    }
    trap_disown(&owner);
    return 0;
}

static int read_on(void *context)
{
    struct trap_scene *scene = context;
    struct trap_reader reader;

    if (!begin(&reader, scene, 0, TRAP_MAPPED))
        return 1;
    for (uint32_t left = acts_count(100); left > 0; left--)
        if (!trap_reads(&reader, TRAP_MAPPED, 1))
            return 2;
    return leave(&reader, scene);
}

static void test_sealed_storage_cannot_be_cut_under_a_reader(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_STORAGE}, own_and_cut, read_on);
}

static int own_what_is_cut(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};

    if (!trap_own(&owner, scene, 1))
        return 1;
    acts_turn_to(&scene->owner, 1);
    if (!acts_turn_await(&scene->reader, 1) ||
        !trap_check(ftruncate(owner.file, REGION_BYTES / 2) == 0, "an unsealed file can be cut"))
        return 2;
    acts_turn_to(&scene->owner, 2);
    if (!acts_turn_await(&scene->reader, 2))
        return 3;
    trap_disown(&owner);
    return 0;
}

static int read_what_is_cut(void *context)
{
    struct trap_scene *scene = context;
    struct trap_reader reader;

    if (!begin(&reader, scene, 0, TRAP_CROSS) || !trap_reads(&reader, TRAP_CROSS, 1))
        return 1;
    acts_turn_to(&scene->reader, 1);
    if (!acts_turn_await(&scene->owner, 2))
        return 2;
    /* Of the cut half no byte is believed; this process is not killed; and it goes on. */
    if (!trap_check(trap_read(&reader, HALF, HALF) == LEND_E_SYSTEM, "there is no such memory") ||
        !acts_ok(trap_read(&reader, 0, HALF), &reader.why, "what is not cut") ||
        !trap_holds(&reader, 0, HALF, 1))
        return 3;
    return leave(&reader, scene);
}

static void test_a_file_that_is_cut_fails_the_reads_of_it_alone(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_FILE, .mode = 0600}, own_what_is_cut, read_what_is_cut);
}

/* --- a reader of another user --- */

static bool has_no_descriptor_of(const char *words)
{
    DIR *descriptors = opendir("/proc/self/fd");
    struct dirent *entry;
    bool has_none = descriptors != NULL;
    char target[200];

    while (descriptors != NULL && (entry = readdir(descriptors)) != NULL) {
        ssize_t count = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof target - 1);

        target[count > 0 ? count : 0] = '\0';
        has_none &= strstr(target, words) == NULL;
    }
    if (descriptors != NULL)
        (void)closedir(descriptors);
    return trap_check(has_none, "the reader keeps no descriptor of the file");
}

/* One cannot write through it, make it writable, or open it anew for writing. */
static bool is_for_reading_alone(const struct trap_mapping *mapping)
{
    void *start = (void *)(uintptr_t)mapping->start;
    char path[80];

    (void)snprintf(path, sizeof path, "/proc/self/map_files/%llx-%llx",
                   (unsigned long long)mapping->start, (unsigned long long)mapping->end);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file >= 0)
        (void)close(file);
    return trap_check(strcmp(mapping->rights, "r--s") == 0, "it is mapped for reading") &&
           trap_check(mprotect(start, mapping->end - mapping->start, PROT_READ | PROT_WRITE) != 0,
                      "it cannot be made writable") &&
           trap_check(file < 0, "it cannot be opened anew for writing");
}

static bool become_nobody(struct trap_scene *scene)
{
    if (setresgid(TRAP_NOBODY, TRAP_NOBODY, TRAP_NOBODY) != 0 ||
        setresuid(TRAP_NOBODY, TRAP_NOBODY, TRAP_NOBODY) != 0) {
        (void)trap_refuse(scene, "becoming another user");
        return false;
    }
    (void)prctl(PR_SET_DUMPABLE, 1);
    return true;
}

static int read_as_nobody(void *context)
{
    struct trap_scene *scene = context;
    struct trap_mapping mapping;
    struct trap_reader reader;
    uint32_t count = 0;

    if (!become_nobody(scene))
        return TRAP_SKIPPED;
    if (!begin(&reader, scene, 0, TRAP_MAPPED) || !trap_reads(&reader, TRAP_MAPPED, 1))
        return 1;
    for (uint64_t from = 0; trap_find_mapping(TRAP_FILE_NAME, &mapping, from); from = mapping.end)
        count += is_for_reading_alone(&mapping) ? 1 : 1000;
    if (!trap_check(count == 1, "it is mapped once") || !has_no_descriptor_of(TRAP_FILE_NAME) ||
        !trap_reads(&reader, TRAP_MAPPED, 1))
        return 2;
    return leave(&reader, scene);
}

static void test_a_reader_of_another_user_cannot_write_to_storage(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_STORAGE, .local_mode = 0666}, trap_own_and_wait,
         read_as_nobody);
}

static void test_a_reader_of_another_user_cannot_write_to_a_file_of_its_owner_alone(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_FILE,
                           .mode = 0600,
                           .seals = F_SEAL_SHRINK | F_SEAL_GROW,
                           .local_mode = 0666},
         trap_own_and_wait, read_as_nobody);
}

static int refuse_nobody(void *context)
{
    struct trap_scene *scene = context;
    struct trap_mapping mapping;
    struct trap_reader reader;

    if (!become_nobody(scene))
        return TRAP_SKIPPED;
    if (!begin(&reader, scene, 0, NULL) || !trap_reads(&reader, TRAP_SERVED, 1) ||
        !trap_explains(&reader, scene, TRAP_MAPPED, LEND_E_NO_PATH, "F_SEAL_FUTURE_WRITE") ||
        !trap_check(!trap_find_mapping(TRAP_FILE_NAME, &mapping, 0), "it is not mapped"))
        return 1;
    return leave(&reader, scene);
}

static void test_a_file_that_another_user_could_write_to_is_not_given_to_it(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_FILE,
                           .mode = 0666,
                           .seals = F_SEAL_SHRINK | F_SEAL_GROW,
                           .local_mode = 0666},
         trap_own_and_wait, refuse_nobody);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_page_that_nobody_serves_holds_up_one_transfer),
        cmocka_unit_test(test_a_file_that_could_shrink_is_not_mapped_and_explain_says_why),
        cmocka_unit_test(test_sealed_storage_cannot_be_cut_under_a_reader),
        cmocka_unit_test(test_a_file_that_is_cut_fails_the_reads_of_it_alone),
        cmocka_unit_test(test_a_reader_of_another_user_cannot_write_to_storage),
        cmocka_unit_test(test_a_reader_of_another_user_cannot_write_to_a_file_of_its_owner_alone),
        cmocka_unit_test(test_a_file_that_another_user_could_write_to_is_not_given_to_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
