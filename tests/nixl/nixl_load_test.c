/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program that knows of us nothing but the name libnixl_capi.so and the names of NIXL's
 * functions gets all of them, and no NULL that it passes ends it. Method: dlopen() of the bare
 * name, and dlsym() of each name in the map; each function is called with nothing but zeros.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { FUNCTIONS_MIN = 102, INVALID_PARAM = -1 };

static const char *map_path;

/* More arguments than any of them has. Those that are not there are not looked at. */
typedef int any_function(void *, void *, void *, void *, void *, void *, void *, void *, void *,
                         void *, void *, void *);

static void test_every_function_is_found_by_its_bare_name_and_takes_null(void **state)
{
    char line[256], name[128];
    int functions = 0;

    (void)state;
    void *library = dlopen("libnixl_capi.so", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fail_msg("%s", dlerror());
    FILE *map = fopen(map_path, "r");
    assert_non_null(map);
    while (fgets(line, sizeof line, map) != NULL) {
        if (sscanf(line, " %127[a-z_];", name) != 1 || strncmp(name, "nixl_capi_", 10) != 0)
            continue;
        void *found = dlsym(library, name);
        if (found == NULL)
            fail_msg("%s", dlerror());
        functions++;
        if (strcmp(name, "nixl_capi_is_stub") == 0) {
            bool (*is_stub)(void) = NULL;
            memcpy(&is_stub, &found, sizeof found);
            assert_false(is_stub());
            continue;
        }
        any_function *function = NULL;
        memcpy(&function, &found, sizeof found);
        int status =
            function(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        if (status != INVALID_PARAM)
            fail_msg("%s with nothing is %d", name, status);
    }
    fclose(map);
    assert_true(functions >= FUNCTIONS_MIN);
    dlclose(library);
}

int main(int count, char **words)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_function_is_found_by_its_bare_name_and_takes_null),
    };

    if (count != 2) {
        fprintf(stderr, "use: nixl_load_test MAP\n");
        return 2;
    }
    map_path = words[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
