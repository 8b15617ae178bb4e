/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a process knows that it is the child of the one that took the number, however it was
 * forked. Method: fork, fork again, and a bare clone that runs no handlers; a fresh process for the
 * first call, as the page is made once.
 */
#include "base/fork.h"
#include "double.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const char *program; /* this one, to be run afresh */

/* Steps of a child that must hold, as bits of its exit status. */
enum { PARENTS_LIFE_IS_OVER = 1, LIFE_IS_NEW = 2, OWN_LIFE_IS_SAME = 4, ALL = 7 };

static int look_around(int64_t parents_life)
{
    int held = lend_fork_is_same(parents_life) ? 0 : PARENTS_LIFE_IS_OVER;
    int64_t life = lend_fork_life();

    held |= life > 0 && life != parents_life ? LIFE_IS_NEW : 0;
    held |= lend_fork_is_same(life) && !lend_fork_is_same(parents_life) ? OWN_LIFE_IS_SAME : 0;
    return held;
}

static int exit_status_of(pid_t child)
{
    int status = 0;

    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_life_is_one_number(void **state)
{
    int64_t life = lend_fork_life();

    (void)state;
    assert_true(life > 0);
    assert_true(lend_fork_life() == life);
    assert_true(lend_fork_is_same(life));
    assert_false(lend_fork_is_same(life + 1));
    assert_false(lend_fork_is_same(0));
}

static void test_forked_child_has_another_life(void **state)
{
    int64_t life = lend_fork_life();
    pid_t child = fork();

    (void)state;
    if (child == 0)
        _exit(look_around(life));
    assert_int_equal(exit_status_of(child), ALL);
    assert_true(lend_fork_is_same(life));
}

static void test_grandchild_shares_no_life_with_its_forebears(void **state)
{
    int64_t life = lend_fork_life();
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        int64_t childs_life = lend_fork_life();
        pid_t grandchild = fork();
        int status = 0;

        if (grandchild == 0)
            _exit(look_around(life) & look_around(childs_life));
        if (waitpid(grandchild, &status, 0) != grandchild || !WIFEXITED(status))
            _exit(0);
        _exit(WEXITSTATUS(status));
    }
    assert_int_equal(exit_status_of(child), ALL);
}

static void test_bare_clone_has_another_life(void **state)
{
    int64_t life = lend_fork_life();
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    (void)state;
    if (child == 0)
        _exit(look_around(life));
    assert_int_equal(exit_status_of(child), ALL);
}

/* As the fresh process: the first call finds no memory, the next one does. */
static int begin_afresh(void)
{
    bool is_right = !lend_fork_is_same(1);

    double_install(0);
    is_right = is_right && lend_fork_life() == -ENOMEM && lend_fork_life() == 1;
    is_right = is_right && double_remove() && lend_fork_is_same(1);
    return is_right ? ALL : 0;
}

static void test_no_page_is_an_answer_and_not_the_last(void **state)
{
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        (void)execl(program, program, "afresh", (char *)NULL);
        _exit(0);
    }
    assert_int_equal(exit_status_of(child), ALL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_is_one_number),
        cmocka_unit_test(test_forked_child_has_another_life),
        cmocka_unit_test(test_grandchild_shares_no_life_with_its_forebears),
        cmocka_unit_test(test_bare_clone_has_another_life),
        cmocka_unit_test(test_no_page_is_an_answer_and_not_the_last),
    };

    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "afresh") == 0)
        return begin_afresh();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
