/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: where the kernel does not let a reader read its owner's process, transfers fall to the
 * owner, say so in their records, and explain says why; and a fork of owner or reader disturbs no
 * transfer on any path, and leaves the child nothing of the peer's.
 * Method: owners that are not dumpable or live in another PID name space, with regions that prefer
 * cross-memory; Yama's refusal, where the kernel has no Yama, by a fake door to the system that
 * gives its errno; children that look at their copies while the transfers of their parents run.
 * What this user or kernel cannot do is skipped, with the reason.
 */
#include "trap.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct trap_how spared = {.flags = LEND_REGION_PREFER_CROSS_MEMORY};

static void play(struct trap_how how, int (*own)(void *context), int (*read)(void *context))
{
    struct trap_scene *scene = trap_scene_make(how);

    assert_int_equal(chmod(scene->directory.path, 01777), 0); /* some become another user */
    pid_t owner = acts_spawn(own, scene);
    pid_t reader = acts_spawn(read, scene);
    trap_judge(scene, owner, reader);
}

static bool become_nobody(struct trap_scene *scene, int is_dumpable)
{
    if (setresgid(TRAP_NOBODY, TRAP_NOBODY, TRAP_NOBODY) != 0 ||
        setresuid(TRAP_NOBODY, TRAP_NOBODY, TRAP_NOBODY) != 0) {
        (void)trap_refuse(scene, "becoming another user");
        return false;
    }
    (void)prctl(PR_SET_DUMPABLE, is_dumpable);
    return true;
}

/* Cross-memory would be the first choice, and is not to be had, for a reason with such words. */
static int fall_to_served(struct trap_scene *scene, const char *words)
{
    struct trap_reader reader;

    if (!acts_turn_await(&scene->owner, 1) || !trap_reader_begin(&reader, scene, 0) ||
        !trap_meet(&reader, scene, NULL) || !trap_reads(&reader, TRAP_SERVED, 1) ||
        !trap_explains(&reader, scene, TRAP_CROSS, LEND_E_NO_PATH, words))
        return 1;
    enum lend_status status = trap_prepare(&reader, scene, TRAP_CROSS);
    if (!trap_check(status == LEND_E_NO_PATH && strstr(reader.why.message, words) != NULL,
                    "a policy for cross-memory is refused, and told why") ||
        !trap_reads(&reader, TRAP_SERVED, 1))
        return 2;
    trap_reader_end(&reader);
    acts_turn_to(&scene->reader, 1);
    return 0;
}

/* --- what does not let it --- */

static int own_undumpable(void *context)
{
    return become_nobody(context, 0) ? trap_own_and_wait(context) : TRAP_SKIPPED;
}

static int read_undumpable(void *context)
{
    if (!become_nobody(context, 1))
        return TRAP_SKIPPED;
    return fall_to_served(context, "must be dumpable");
}

static void test_an_owner_that_is_not_dumpable_serves(void **state)
{
    (void)state;
    play(spared, own_undumpable, read_undumpable);
}

/* The same two users can, where the owner is dumpable: it is that which makes the difference. */
static int own_dumpable(void *context)
{
    return become_nobody(context, 1) ? trap_own_and_wait(context) : TRAP_SKIPPED;
}

static char yama_scope(void)
{
    FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    int scope = file != NULL ? getc(file) : '-';

    if (file != NULL)
        (void)fclose(file);
    return (char)scope;
}

static int read_dumpable(void *context)
{
    struct trap_scene *scene = context;
    struct trap_reader reader;

    if (yama_scope() != '-' && yama_scope() != '0') {
        (void)snprintf(scene->reason, sizeof scene->reason, "ptrace_scope is not 0");
        acts_turn_to(&scene->reader, 1);
        return TRAP_SKIPPED;
    }
    if (!become_nobody(context, 1))
        return TRAP_SKIPPED;
    if (!acts_turn_await(&scene->owner, 1) || !trap_reader_begin(&reader, scene, 0) ||
        !trap_meet(&reader, scene, NULL) || !trap_reads(&reader, TRAP_CROSS, 1))
        return 1;
    trap_reader_end(&reader);
    acts_turn_to(&scene->reader, 1);
    return 0;
}

static void test_an_owner_that_is_dumpable_is_read(void **state)
{
    (void)state;
    play(spared, own_dumpable, read_dumpable);
}

static int read_restricted(void *context)
{
    struct trap_scene *scene = context;

    if (yama_scope() != '1') {
        (void)snprintf(scene->reason, sizeof scene->reason, "%s",
                       yama_scope() == '-' ? "this kernel has no Yama" : "ptrace_scope is not 1");
        acts_turn_to(&scene->reader, 1);
        return TRAP_SKIPPED;
    }
    if (!become_nobody(context, 1))
        return TRAP_SKIPPED;
    return fall_to_served(context, "LEND_AGENT_ALLOW_CROSS_MEMORY");
}

static void test_an_owner_behind_ptrace_scope_1_serves(void **state)
{
    (void)state;
    play(spared, own_dumpable, read_restricted);
}

/* A fake of Yama's refusal. */
static ssize_t refuse_to_read(int pid, const struct iovec *local, unsigned local_count,
                              const struct iovec *remote, unsigned remote_count)
{
    (void)pid, (void)local, (void)local_count, (void)remote, (void)remote_count;
    return -EPERM;
}

static int read_behind_fake(void *context)
{
    static struct lend_sys_ops door;

    door = lend_sys_real;
    door.read_process = refuse_to_read;
    lend_sys = &door;
    return fall_to_served(context, "LEND_AGENT_ALLOW_CROSS_MEMORY");
}

static void test_an_owner_behind_a_fake_refusal_serves(void **state)
{
    (void)state;
    play(spared, trap_own_and_wait, read_behind_fake);
}

/* --- another PID name space --- */

static int in_namespace(struct trap_scene *scene, int (*body)(void *context))
{
    if (unshare(CLONE_NEWPID) != 0) {
        acts_turn_to(&scene->reader, 1);
        return trap_refuse(scene, "unshare of the PID name space");
    }
    return acts_reap(acts_spawn(body, scene));
}

/* /proc is of the name space outside, and tells its numbers. */
static int read_from_inside(void *context)
{
    return fall_to_served(context, "name space");
}

static int read_in_namespace(void *context)
{
    return in_namespace(context, read_from_inside);
}

static void test_an_owner_in_another_pid_namespace_serves(void **state)
{
    (void)state;
    play(spared, trap_own_and_wait, read_in_namespace);
}

static int read_with_own_proc(void *context)
{
    struct trap_scene *scene = context;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("proc", "/proc", "proc", 0, NULL) != 0) {
        acts_turn_to(&scene->reader, 1);
        return trap_refuse(scene, "mount of /proc");
    }
    return fall_to_served(context, "name space");
}

static int read_with_own_proc_in_namespace(void *context)
{
    return in_namespace(context, read_with_own_proc);
}

static void test_an_owner_whose_number_proc_does_not_know_serves(void **state)
{
    (void)state;
    play(spared, trap_own_and_wait, read_with_own_proc_in_namespace);
}

static int read_mapped(void *context)
{
    struct trap_scene *scene = context;
    struct trap_reader reader;

    if (!acts_turn_await(&scene->owner, 1) || !trap_reader_begin(&reader, scene, 0) ||
        !trap_meet(&reader, scene, TRAP_MAPPED) || !trap_reads(&reader, TRAP_MAPPED, 1))
        return 1;
    trap_reader_end(&reader);
    acts_turn_to(&scene->reader, 1);
    return 0;
}

static int read_mapped_in_namespace(void *context)
{
    return in_namespace(context, read_mapped);
}

static void test_mapping_knows_no_pid_namespaces(void **state)
{
    (void)state;
    play((struct trap_how){.backing = TRAP_STORAGE}, trap_own_and_wait, read_mapped_in_namespace);
}

/* --- forks --- */

struct fork_stage {
    struct trap_scene *scene;
    const char *path;
    struct trap_owner owner;
    struct trap_reader reader;
};

static int look_at_owner(void *context)
{
    struct fork_stage *stage = context;
    struct lend_error error;

    bool is_right = trap_check(lend_agent_progress(stage->owner.agent, 0, &error) == LEND_E_FORKED,
                               "the child's owner is FORKED") &&
                    trap_check(acts_is(stage->owner.region.memory, TRAP_BLOCK, 1, 0),
                               "the memory is as usable as before");
    lend_agent_destroy(stage->owner.agent);
    if (stage->owner.storage != NULL)
        lend_storage_destroy(stage->owner.storage);
    return is_right ? 0 : 1;
}

static int own_and_fork(void *context)
{
    struct fork_stage stage = *(struct fork_stage *)context;

    if (!trap_own(&stage.owner, stage.scene, 1))
        return 1;
    acts_turn_to(&stage.scene->owner, 1);
    while (atomic_load(&stage.scene->reader.reached) == 0)
        if (acts_reap(acts_spawn(look_at_owner, &stage)) != 0)
            return 2;
    trap_disown(&stage.owner);
    return 0;
}

static int look_at_reader(void *context)
{
    struct fork_stage *stage = context;
    struct trap_mapping mapping;
    struct lend_error error;

    bool is_right =
        trap_check(lend_agent_progress(stage->reader.agent, 0, &error) == LEND_E_FORKED,
                   "the child's reader is FORKED") &&
        trap_check(lend_transfer_test(stage->reader.transfer) == LEND_E_FORKED,
                   "the child's transfer is FORKED") &&
        trap_check(trap_post(&stage->reader, 0, 1, 0) == LEND_E_FORKED, "a post is FORKED") &&
        trap_check(!trap_find_mapping(TRAP_FILE_NAME, &mapping, 0),
                   "the child has no mapping of the peer's file");
    lend_agent_destroy(stage->reader.agent);
    return is_right ? 0 : 1;
}

static int read_and_fork(void *context)
{
    struct fork_stage stage = *(struct fork_stage *)context;
    struct trap_reader *reader = &stage.reader;

    if (!acts_turn_await(&stage.scene->owner, 1) || !trap_reader_begin(reader, stage.scene, 0) ||
        !trap_meet(reader, stage.scene, stage.path))
        return 1;
    for (uint32_t left = acts_count(40); left > 0; left--) {
        if (!acts_ok(trap_post(reader, 0, TRAP_BLOCKS, 0), &reader->why, "post"))
            return 2;
        pid_t child = acts_spawn(look_at_reader, &stage);
        enum lend_status status = lend_transfer_wait(reader->transfer, ACTS_PATIENCE_NS);

        if (!acts_ok(status, NULL, "a transfer while we fork") || !trap_took(reader, stage.path) ||
            !trap_holds(reader, 0, TRAP_BLOCKS, 1) || acts_reap(child) != 0 ||
            !trap_reads(reader, stage.path, 1))
            return 3;
    }
    trap_reader_end(reader);
    acts_turn_to(&stage.scene->reader, 1);
    return 0;
}

static void play_forks(enum trap_backing backing, const char *path)
{
    struct fork_stage stage = {.scene = trap_scene_make((struct trap_how){.backing = backing}),
                               .path = path};
    pid_t owner = acts_spawn(own_and_fork, &stage), reader = acts_spawn(read_and_fork, &stage);

    trap_judge(stage.scene, owner, reader);
}

static void test_forks_disturb_no_mapped_transfer(void **state)
{
    (void)state;
    play_forks(TRAP_STORAGE, TRAP_MAPPED);
}

static void test_forks_disturb_no_cross_memory_transfer(void **state)
{
    (void)state;
    play_forks(TRAP_PRIVATE, TRAP_CROSS);
}

static void test_forks_disturb_no_served_transfer(void **state)
{
    (void)state;
    play_forks(TRAP_STORAGE, TRAP_SERVED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_owner_that_is_not_dumpable_serves),
        cmocka_unit_test(test_an_owner_that_is_dumpable_is_read),
        cmocka_unit_test(test_an_owner_behind_ptrace_scope_1_serves),
        cmocka_unit_test(test_an_owner_behind_a_fake_refusal_serves),
        cmocka_unit_test(test_an_owner_in_another_pid_namespace_serves),
        cmocka_unit_test(test_an_owner_whose_number_proc_does_not_know_serves),
        cmocka_unit_test(test_mapping_knows_no_pid_namespaces),
        cmocka_unit_test(test_forks_disturb_no_mapped_transfer),
        cmocka_unit_test(test_forks_disturb_no_cross_memory_transfer),
        cmocka_unit_test(test_forks_disturb_no_served_transfer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
