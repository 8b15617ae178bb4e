/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is loaded as NVIDIA's library is NVIDIA's, and never lend's own, a stub, or one that
 * lacks a function; and where nobody names it, it is found where it usually is.
 * Method: a door to the system behind which a test puts libraries of its own making.
 */
#include "base/sys.h"
#include "transport/nixl/door.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* A library that is there, and what it is. */
struct library {
    const char *path;
    bool is_stub;
    bool is_lends;  /* it needs liblend, */
    bool is_marked; /* or exports its mark */
    bool is_nvidias;
    const char *missing; /* a function that it has not */
    int loads;           /* less unloads */
};

static struct library libraries[4];
static const char *loaded_libnixl; /* the path of a libnixl.so that is in the process; NULL: none */
static struct lend_sys_ops door;

static bool say_yes(void)
{
    return true;
}

static bool say_no(void)
{
    return false;
}

static void *load(const char *path, char *why, size_t capacity)
{
    for (size_t i = 0; i < 4; i++)
        if (libraries[i].path != NULL && strcmp(libraries[i].path, path) == 0) {
            libraries[i].loads++;
            return &libraries[i];
        }
    (void)snprintf(why, capacity, "%s: there is none", path);
    return NULL;
}

static void unload(void *library)
{
    ((struct library *)library)->loads--;
}

static void *symbol(void *it, const char *name)
{
    const struct library *library = it;
    bool (*answer)(void) = library->is_stub ? say_yes : say_no;
    void *out;

    memcpy(&out, &answer, sizeof out);
    if (strcmp(name, "lend_nixl_capi") == 0)
        return library->is_marked ? out : NULL;
    if (strcmp(name, "lend_agent_create") == 0)
        return library->is_lends ? out : NULL;
    if (strcmp(name, "_ZN9nixlAgentD1Ev") == 0)
        return library->is_nvidias ? out : NULL;
    if (strcmp(name, "nixl_capi_prep_mem_view_local") == 0)
        return NULL;
    return library->missing != NULL && strcmp(name, library->missing) == 0 ? NULL : out;
}

static unsigned count_libraries(const char *name, const void *address, char *path, size_t capacity)
{
    bool is_there = strcmp(name, "libnixl.so") == 0 && loaded_libnixl != NULL;

    (void)address;
    (void)snprintf(path, capacity, "%s", is_there ? loaded_libnixl : "");
    return is_there;
}

static int set_up(void **state)
{
    (void)state;
    memset(libraries, 0, sizeof libraries);
    loaded_libnixl = NULL;
    door = lend_sys_real;
    door.load = load;
    door.unload = unload;
    door.symbol = symbol;
    door.libraries = count_libraries;
    lend_sys = &door;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lend_sys = &lend_sys_real;
    return 0;
}

static void expect(const char *library, enum lend_status status, uint32_t kind, const char *text)
{
    struct lend_nixl_library found;
    struct lend_nixl_ops ops;
    struct lend_error error = {0};

    assert_int_equal(lend_nixl_load(library, &ops, &found, &error), status);
    assert_int_equal(found.kind, kind);
    if (status == LEND_OK)
        assert_string_equal(found.path, text);
    else if (strstr(error.message, text) == NULL)
        fail_msg("\"%s\" in %s", text, error.message);
}

static void test_what_is_named_must_be_there(void **state)
{
    (void)state;
    expect("/somewhere/it.so", LEND_E_ABSENT, LEND_NIXL_UNKNOWN, "/somewhere/it.so: there is none");
}

static void test_what_is_named_is_loaded_if_it_is_nvidias(void **state)
{
    (void)state;
    libraries[0] = (struct library){.path = "/somewhere/it.so", .is_nvidias = true};
    expect("/somewhere/it.so", LEND_OK, LEND_NIXL_NVIDIAS, "/somewhere/it.so");
    assert_int_equal(libraries[0].loads, 1);
}

static void test_lends_own_is_never_taken_for_nvidias(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        /* Not even beside NVIDIA's, nor linked against both. */
        libraries[0] = (struct library){.path = "libnixl_capi.so",
                                        .is_lends = i != 1,
                                        .is_marked = i != 0,
                                        .is_nvidias = i == 3};
        loaded_libnixl = i == 2 ? "/elsewhere/libnixl.so" : NULL;
        expect("libnixl_capi.so", LEND_E_UNSUPPORTED, LEND_NIXL_LENDS_OWN, "lend's own");
        expect(NULL, LEND_E_ABSENT, LEND_NIXL_LENDS_OWN, "lend's own");
        assert_int_equal(libraries[0].loads, 0);
    }
}

static void test_stubs_and_others_are_refused(void **state)
{
    (void)state;
    libraries[0] = (struct library){.path = "stub.so", .is_stub = true};
    expect("stub.so", LEND_E_UNSUPPORTED, LEND_NIXL_STUB, "a stub");
    libraries[0] = (struct library){.path = "other.so"};
    expect("other.so", LEND_E_UNSUPPORTED, LEND_NIXL_UNKNOWN, "not NVIDIA's");
    libraries[0] = (struct library){.path = "other.so", .missing = "nixl_capi_is_stub"};
    expect("other.so", LEND_E_UNSUPPORTED, LEND_NIXL_UNKNOWN, "not NVIDIA's");
    assert_int_equal(libraries[0].loads, 0);
}

static void test_one_that_is_too_old_says_what_it_lacks(void **state)
{
    (void)state;
    libraries[0] = (struct library){
        .path = "old.so", .is_nvidias = true, .missing = "nixl_capi_check_remote_md"};
    expect("old.so", LEND_E_UNSUPPORTED, LEND_NIXL_NVIDIAS, "nixl_capi_check_remote_md");
    assert_int_equal(libraries[0].loads, 0);
}

static void test_the_search_begins_beside_what_is_loaded_already(void **state)
{
    (void)state;
    libraries[0] = (struct library){.path = "libnixl_capi.so", .is_nvidias = true};
    libraries[1] = (struct library){.path = "/python/libs/libnixl_capi.so", .is_nvidias = true};
    expect(NULL, LEND_OK, LEND_NIXL_NVIDIAS, "libnixl_capi.so");
    loaded_libnixl = "/python/libs/libnixl.so";
    expect(NULL, LEND_OK, LEND_NIXL_NVIDIAS, "/python/libs/libnixl_capi.so");
}

static void test_the_search_goes_on_past_lends_own(void **state)
{
    static const char *const places[] = {
        "/usr/local/lib/python3.11/dist-packages/.nixl_cu12.mesonpy.libs/libnixl_capi.so",
        "/opt/nvidia/nvda_nixl/lib64/libnixl_capi.so",
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        libraries[0] = (struct library){.path = "libnixl_capi.so", .is_lends = true};
        libraries[1] = (struct library){.path = places[i], .is_nvidias = true};
        expect(NULL, LEND_OK, LEND_NIXL_NVIDIAS, places[i]);
        assert_int_equal(libraries[0].loads, 0);
    }
}

static void test_where_there_is_none_the_remedy_is_told(void **state)
{
    (void)state;
    expect(NULL, LEND_E_ABSENT, LEND_NIXL_UNKNOWN, "pip install --no-deps nixl-cu12");
    expect("", LEND_E_ABSENT, LEND_NIXL_UNKNOWN, "nixl_library");
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_what_is_named_must_be_there),
        EACH(test_what_is_named_is_loaded_if_it_is_nvidias),
        EACH(test_lends_own_is_never_taken_for_nvidias),
        EACH(test_stubs_and_others_are_refused),
        EACH(test_one_that_is_too_old_says_what_it_lacks),
        EACH(test_the_search_begins_beside_what_is_loaded_already),
        EACH(test_the_search_goes_on_past_lends_own),
        EACH(test_where_there_is_none_the_remedy_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
