/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an agent opens the kernel's list of mappings once, not for every registration; and neither
 * a program that closes descriptors which are not its own, nor a fork, keeps it from the truth.
 * Method: calls counted by a double, on top of the real kernel; descriptors closed and replaced
 * under it; a child that may not touch what its parent may. Where the kernel does not answer
 * for single addresses (before Linux 6.11) it is made up to.
 */
#include "memory/maps.h"
#include "base/sys.h"
#include "double.h"
#include "memory/verify.h"

#include <lend/lend.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { PAGE = 4096, TIMES = 100 };

static struct lend_sys_ops counting;
static int opens, closes, questions, stats;
static int last_fd = -1; /* that the list was opened as */
static bool is_old;      /* the kernel knows no such question */

static int open_counted(const char *path)
{
    int fd = lend_sys_real.open_read(path);

    if (strstr(path, "maps") != NULL) {
        opens++;
        last_fd = fd;
    }
    return fd;
}

static void close_counted(int fd)
{
    closes += fd == last_fd;
    lend_sys_real.close(fd);
}

static int stat_counted(int fd, struct stat *out)
{
    stats++;
    return lend_sys_real.file_stat(fd, out);
}

/* An answer from the list as text, where the kernel has none. */
static int answer_by_text(int fd, uint64_t address, struct lend_sys_mapping *out)
{
    char path[32], rights[5];
    unsigned long long start, end;
    int result = -ENOENT;
    char line[512];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(path, line, sizeof line - 1);
    if (bytes < 5 || strncmp(line + bytes - 5, "/maps", 5) != 0)
        return -ENOTTY;
    FILE *list = fopen(path, "r");
    if (list == NULL)
        return -ENOTTY;
    while (result == -ENOENT && fgets(line, sizeof line, list) != NULL) {
        if (sscanf(line, "%llx-%llx %4s", &start, &end, rights) != 3) {
            result = -ENOTTY;
        } else if (end > address) {
            *out = (struct lend_sys_mapping){.start = start, .end = end};
            memcpy(out->rights, rights, sizeof out->rights);
            result = 0;
        }
    }
    (void)fclose(list);
    return result;
}

static int ask_counted(int fd, uint64_t address, struct lend_sys_mapping *out)
{
    questions++;
    if (is_old)
        return -ENOTTY;
    int result = lend_sys_real.mapping(fd, address, out);
    return result == -ENOTTY ? answer_by_text(fd, address, out) : result;
}

static int begin(void **state)
{
    (void)state;
    opens = closes = questions = stats = 0;
    last_fd = -1;
    is_old = false;
    counting = lend_sys_real;
    counting.open_read = open_counted;
    counting.close = close_counted;
    counting.file_stat = stat_counted;
    counting.mapping = ask_counted;
    lend_sys = &counting;
    return 0;
}

static int end(void **state)
{
    (void)state;
    lend_sys = &lend_sys_real;
    return 0;
}

static void *map_page(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(page, MAP_FAILED);
    return page;
}

static enum lend_status verify(struct lend_maps *maps, const void *page)
{
    struct lend_verify item = {.needs_write = true};

    assert_int_equal(lend_memory_system(page, PAGE, &item.memory, NULL), LEND_OK);
    return lend_memory_verify(maps, &item, 1);
}

static void test_a_list_is_opened_once_and_closed_at_the_end(void **state)
{
    struct lend_maps maps;
    void *page = map_page();

    (void)state;
    lend_maps_init(&maps);
    assert_int_equal(opens, 0);
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(verify(&maps, page), LEND_OK);
    assert_int_equal(opens, 1);
    assert_int_equal(closes, 0);
    assert_int_equal(questions, TIMES);
    assert_int_equal(stats, 1); /* to know it again when it is to be closed */
    assert_true((fcntl(last_fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(munmap(page, PAGE), 0);
    assert_int_equal(verify(&maps, page), LEND_E_MEMORY); /* it is no copy of what was */
    lend_maps_fini(&maps, false);
    assert_int_equal(closes, 1);
    assert_int_equal(fcntl(last_fd, F_GETFD), -1);
}

static void test_nothing_is_kept_that_does_not_answer(void **state)
{
    struct lend_maps maps;
    void *page = map_page();

    (void)state;
    is_old = true;
    lend_maps_init(&maps);
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(&maps, page), LEND_OK);
    assert_int_equal(opens, 3);
    assert_int_equal(closes, 3);
    lend_maps_fini(&maps, false);
    assert_int_equal(closes, 3);
    assert_int_equal(munmap(page, PAGE), 0);
}

static void test_without_a_keeper_each_look_opens_and_closes(void **state)
{
    void *page = map_page();

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(NULL, page), LEND_OK);
    assert_int_equal(opens, 3);
    assert_int_equal(closes, 3);
    assert_int_equal(munmap(page, PAGE), 0);
}

static void test_a_list_that_was_closed_under_us_is_opened_anew(void **state)
{
    struct lend_maps maps;
    void *page = map_page();

    (void)state;
    lend_maps_init(&maps);
    assert_int_equal(verify(&maps, page), LEND_OK);
    assert_int_equal(close(last_fd), 0);
    assert_int_equal(verify(&maps, page), LEND_OK);
    assert_int_equal(opens, 2);

    /* The number is another file's, which has no answer, and is not closed. */
    int other = memfd_create("another", 0), taken = last_fd;
    assert_true(other >= 0);
    assert_int_equal(dup2(other, taken), taken);
    int asked = questions;
    assert_int_equal(verify(&maps, page), LEND_OK);
    assert_int_equal(opens, 3);
    assert_int_equal(questions, asked + 2); /* the other file has no answer */
    assert_true(fcntl(taken, F_GETFD) >= 0);

    /* The same at the end. */
    assert_int_equal(dup2(other, last_fd), last_fd);
    lend_maps_fini(&maps, false);
    assert_int_equal(closes, 0);
    assert_true(fcntl(last_fd, F_GETFD) >= 0);
    assert_int_equal(close(last_fd) + close(taken) + close(other), 0);
    assert_int_equal(munmap(page, PAGE), 0);
}

/* --- an agent's --- */

static struct lend_agent *make_agent(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = name;
    config.transports = "loopback";
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    if (lend_agent_create(&config, &agent, &error) != LEND_OK)
        (void)fprintf(stderr, "%s\n", error.message);
    return agent;
}

static enum lend_status lend_page(struct lend_agent *agent, const void *page,
                                  struct lend_region **out)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    if (lend_memory_system(page, PAGE, &desc.memory, NULL) != LEND_OK)
        return LEND_E_INVALID;
    return lend_region_register(agent, &desc, 1, out, NULL, NULL);
}

static void test_an_agent_opens_the_list_once_for_many_registrations(void **state)
{
    struct lend_agent *agent = make_agent("many");
    struct lend_region *region = NULL;
    void *page = map_page();

    (void)state;
    assert_non_null(agent);
    for (int i = 0; i < TIMES; i++) {
        assert_int_equal(lend_page(agent, page, &region), LEND_OK);
        assert_int_equal(lend_region_deregister(region, NULL), LEND_OK);
    }
    assert_int_equal(opens, 1);
    assert_int_equal(questions, TIMES);
    lend_agent_destroy(agent);
    assert_int_equal(closes, 1);
    assert_int_equal(munmap(page, PAGE), 0);
}

/* What a child sees that has an agent of its own, and its parent's; 0: all is well. */
static int look_in_child(struct lend_agent *parents, void *gone)
{
    struct lend_region *region = NULL;

    void *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    /* Not unmapped, or something else might take its place. */
    if (mprotect(gone, PAGE, PROT_NONE) != 0)
        return 1;
    struct lend_agent *agent = make_agent("child");
    if (own == MAP_FAILED || agent == NULL)
        return 2;
    if (lend_page(parents, own, &region) != LEND_E_FORKED)
        return 3;
    if (lend_page(agent, own, &region) != LEND_OK)
        return 4;
    /* The parent has it still. */
    if (lend_page(agent, gone, &region) != LEND_E_MEMORY)
        return 5;
    lend_agent_destroy(parents);
    if (lend_page(agent, gone, &region) != LEND_E_MEMORY)
        return 6;
    lend_agent_destroy(agent);
    return 0;
}

static void test_a_forked_child_verifies_its_own_memory(void **state)
{
    struct lend_agent *agent = make_agent("parent");
    struct lend_region *region = NULL;
    void *page = map_page();
    int result;

    (void)state;
    assert_non_null(agent);
    assert_int_equal(lend_page(agent, page, &region), LEND_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(look_in_child(agent, page));
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    int opened = opens;
    assert_int_equal(lend_region_deregister(region, NULL), LEND_OK);
    assert_int_equal(lend_page(agent, page, &region), LEND_OK); /* the parent's list is as it was */
    assert_int_equal(opens, opened);
    lend_agent_destroy(agent);
    assert_int_equal(munmap(page, PAGE), 0);
}

#define COUNTED(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        COUNTED(test_a_list_is_opened_once_and_closed_at_the_end),
        COUNTED(test_nothing_is_kept_that_does_not_answer),
        COUNTED(test_without_a_keeper_each_look_opens_and_closes),
        COUNTED(test_a_list_that_was_closed_under_us_is_opened_anew),
        COUNTED(test_an_agent_opens_the_list_once_for_many_registrations),
        COUNTED(test_a_forked_child_verifies_its_own_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
