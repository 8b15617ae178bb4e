/* SPDX-License-Identifier: Apache-2.0 */
#include "cmocka.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

enum { FAILED = 1, SKIPPED = 77 };

struct cmocka_count cmocka_count;

static const char *filter;
static char (*said)[160]; /* last, by the process of a test */

void cmocka_set_test_filter(const char *pattern)
{
    filter = pattern;
}

void print_message(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
}

void print_error(const char *format, ...)
{
    char text[sizeof *said];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    text[strcspn(text, "\n")] = '\0';
    print_message("%s\n", text);
    if (said != NULL)
        memcpy(said, text, sizeof text);
}

/* The process of the test ends as it is: what it has of a driver's, and the owner's process, end
 * with it. */
void cmocka_fail(const char *what, const char *file, int line)
{
    if (what[0] != '\0')
        print_error("%s:%d: %s", file, line, what);
    else
        print_message("%s:%d\n", file, line);
    _exit(FAILED);
}

void cmocka_skip(void)
{
    _exit(SKIPPED);
}

void cmocka_equal(int shall_be, uint64_t one, uint64_t other, const char *file, int line)
{
    if ((one == other) == (shall_be != 0))
        return;
    print_error("%s:%d: 0x%llx %s 0x%llx", file, line, (unsigned long long)one,
                shall_be ? "is not" : "is", (unsigned long long)other);
    cmocka_fail("", file, line);
}

void cmocka_same_text(int shall_be, const char *one, const char *other, const char *file, int line)
{
    if ((strcmp(one, other) == 0) == (shall_be != 0))
        return;
    print_error("%s:%d: \"%s\" %s \"%s\"", file, line, one, shall_be ? "is not" : "is", other);
    cmocka_fail("", file, line);
}

void cmocka_range(uint64_t value, uint64_t first, uint64_t last, const char *file, int line)
{
    if (value >= first && value <= last)
        return;
    print_error("%llu is not of %llu to %llu", (unsigned long long)value, (unsigned long long)first,
                (unsigned long long)last);
    cmocka_fail("out of range", file, line);
}

static void run_here(const struct CMUnitTest *test)
{
    void *state = NULL;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm(CMOCKA_SECONDS);
    if (test->up != NULL && test->up(&state) != 0)
        cmocka_fail("what it begins with", test->name, 0);
    test->test(&state);
    if (test->down != NULL && test->down(&state) != 0)
        cmocka_fail("what it ends with", test->name, 0);
    exit(0);
}

static void count(const char *title, const struct CMUnitTest *test, int ended)
{
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) {
        cmocka_count.passed++;
        return;
    }
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == SKIPPED) {
        cmocka_count.skipped++;
        return;
    }
    if ((*said)[0] == '\0')
        print_error("it ended with %s %d", WIFSIGNALED(ended) ? "signal" : "status",
                    WIFSIGNALED(ended) ? WTERMSIG(ended) : WEXITSTATUS(ended));
    print_message("%s: %s failed\n", title, test->name);
    if (cmocka_count.failed++ == 0)
        (void)snprintf(cmocka_count.first, sizeof cmocka_count.first, "%s: %s", test->name, *said);
}

int _cmocka_run_group_tests(const char *title, const struct CMUnitTest *tests, size_t test_count,
                            cmocka_stage *up, cmocka_stage *down)
{
    int failed_before = cmocka_count.failed;

    if (said == NULL)
        said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (said == MAP_FAILED || up != NULL || down != NULL)
        abort(); /* no battery has these */
    for (size_t i = 0; i < test_count; i++) {
        int ended = FAILED << 8;

        if (filter != NULL && fnmatch(filter, tests[i].name, 0) != 0)
            continue;
        (*said)[0] = '\0';
        (void)fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            run_here(&tests[i]);
        if (child > 0)
            (void)waitpid(child, &ended, 0);
        count(title, &tests[i], ended);
    }
    return cmocka_count.failed - failed_before;
}
