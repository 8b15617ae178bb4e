/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: lists, parameters, options and maps of NIXL's C ABI hold what was put into them, refuse
 * what is not there, and lose nothing when memory runs out. Method: fill, look, remove and compare,
 * by the ABI alone where it can; every allocation of a scenario fails once, by a malloc of the
 * test's.
 */
#include "lists.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MANY = 200000 };

#define OK(call)    assert_int_equal((call), NIXL_CAPI_SUCCESS)
#define WRONG(call) assert_int_equal((call), NIXL_CAPI_ERROR_INVALID_PARAM)

/* The memory of compat/nixl: the linker sends its calls here. */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);

static int until_failure = -1; /* calls that succeed before one fails; negative: all do */
static unsigned allocations;

static bool is_struck(void)
{
    allocations++;
    return until_failure >= 0 && until_failure-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return is_struck() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_struck() ? NULL : __real_calloc(count, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
    return is_struck() ? NULL : __real_reallocarray(old, count, size);
}

static size_t count_of(nixl_capi_xfer_dlist_t list)
{
    size_t count = 0, length = 0;

    OK(nixl_capi_xfer_dlist_desc_count(list, &count));
    OK(nixl_capi_xfer_dlist_len(list, &length));
    assert_int_equal(count, length);
    return count;
}

static void test_a_list_holds_its_descriptors_in_their_order(void **state)
{
    nixl_capi_xfer_dlist_t list = NULL;
    nixl_capi_mem_type_t type = NIXL_CAPI_MEM_UNKNOWN;
    bool is_empty = false;

    (void)state;
    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_VRAM, &list));
    OK(nixl_capi_xfer_dlist_get_type(list, &type));
    assert_int_equal(type, NIXL_CAPI_MEM_VRAM);
    OK(nixl_capi_xfer_dlist_is_empty(list, &is_empty));
    assert_true(is_empty);
    for (size_t i = 0; i < 5; i++)
        OK(nixl_capi_xfer_dlist_add_desc(list, 1000 * i, 10 * i, i));
    OK(nixl_capi_xfer_dlist_is_empty(list, &is_empty));
    assert_false(is_empty);

    WRONG(nixl_capi_xfer_dlist_rem_desc(list, -1));
    WRONG(nixl_capi_xfer_dlist_rem_desc(list, 5));
    OK(nixl_capi_xfer_dlist_rem_desc(list, 1));
    OK(nixl_capi_xfer_dlist_rem_desc(list, 3)); /* the last one */
    assert_int_equal(count_of(list), 3);
    OK(nixl_capi_xfer_dlist_trim(list));
    OK(nixl_capi_xfer_dlist_resize(list, 4));
    static const uintptr_t left[] = {0, 2000, 3000, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(list->descs.at[i].address, left[i]);
        assert_int_equal(list->descs.at[i].length_bytes, left[i] / 100);
        assert_int_equal(list->descs.at[i].device, left[i] / 1000);
    }
    OK(nixl_capi_xfer_dlist_resize(list, 1));
    assert_int_equal(count_of(list), 1);
    OK(nixl_capi_xfer_dlist_print(list));
    OK(nixl_capi_xfer_dlist_clear(list));
    assert_int_equal(count_of(list), 0);
    OK(nixl_capi_xfer_dlist_trim(list));
    WRONG(nixl_capi_xfer_dlist_rem_desc(list, 0));
    OK(nixl_capi_xfer_dlist_add_desc(list, UINTPTR_MAX, SIZE_MAX, UINT64_MAX));
    assert_int_equal(count_of(list), 1);
    OK(nixl_capi_destroy_xfer_dlist(list));
}

static void test_a_descriptor_is_24_bytes_and_costs_the_same_however_many_there_are(void **state)
{
    nixl_capi_xfer_dlist_t list = NULL;

    (void)state;
    assert_int_equal(sizeof(struct compat_desc), 24);
    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &list));
    allocations = 0;
    for (size_t i = 0; i < MANY; i++)
        OK(nixl_capi_xfer_dlist_add_desc(list, i, i, i));
    assert_true(allocations <= 18); /* it doubles */
    assert_true(list->descs.capacity <= 2 * (size_t)MANY);
    OK(nixl_capi_xfer_dlist_trim(list));
    assert_int_equal(list->descs.capacity, MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(list->descs.at[i].address, i);
    OK(nixl_capi_destroy_xfer_dlist(list));
}

static void test_many_descriptors_are_added_at_once_behind_those_that_are_there(void **state)
{
    static const uint64_t rows[][3] = {{4096, 64, 0}, {UINTPTR_MAX, SIZE_MAX, UINT64_MAX}};
    nixl_capi_xfer_dlist_t list = NULL;

    (void)state;
    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &list));
    OK(nixl_capi_xfer_dlist_add_rows(list, NULL, 0));
    OK(nixl_capi_xfer_dlist_add_desc(list, 1, 2, 3));
    OK(nixl_capi_xfer_dlist_add_rows(list, rows[0], 2));
    OK(nixl_capi_xfer_dlist_add_rows(list, rows[1], 1));
    assert_int_equal(count_of(list), 4);
    for (size_t i = 1; i < 4; i++) {
        const uint64_t *row = rows[i > 1];

        assert_int_equal(list->descs.at[i].address, row[0]);
        assert_int_equal(list->descs.at[i].length_bytes, row[1]);
        assert_int_equal(list->descs.at[i].device, row[2]);
    }
    WRONG(nixl_capi_xfer_dlist_add_rows(list, NULL, 1));
    WRONG(nixl_capi_xfer_dlist_add_rows(NULL, rows[0], 1));
    assert_int_equal(nixl_capi_xfer_dlist_add_rows(list, rows[0], SIZE_MAX),
                     NIXL_CAPI_ERROR_BACKEND);
    assert_int_equal(nixl_capi_xfer_dlist_add_rows(list, rows[0], SIZE_MAX / 24),
                     NIXL_CAPI_ERROR_BACKEND);
    until_failure = 0;
    assert_int_equal(nixl_capi_xfer_dlist_add_rows(list, rows[0], 2 * (size_t)MANY),
                     NIXL_CAPI_ERROR_BACKEND);
    until_failure = -1;
    assert_int_equal(count_of(list), 4);
    OK(nixl_capi_destroy_xfer_dlist(list));
}

static void test_a_size_that_no_memory_has_is_refused_and_changes_nothing(void **state)
{
    nixl_capi_xfer_dlist_t moved = NULL;
    nixl_capi_reg_dlist_t registered = NULL;
    size_t count = 0;

    (void)state;
    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &moved));
    OK(nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_FILE, &registered));
    OK(nixl_capi_xfer_dlist_add_desc(moved, 1, 2, 3));
    OK(nixl_capi_reg_dlist_add_desc(registered, 1, 2, 3, "key", 3));
    for (size_t shift = 0; shift < 5; shift++) {
        assert_int_equal(nixl_capi_xfer_dlist_resize(moved, SIZE_MAX >> shift),
                         NIXL_CAPI_ERROR_BACKEND);
        assert_int_equal(nixl_capi_reg_dlist_resize(registered, SIZE_MAX >> shift),
                         NIXL_CAPI_ERROR_BACKEND);
    }
    assert_int_equal(count_of(moved), 1);
    OK(nixl_capi_reg_dlist_desc_count(registered, &count));
    assert_int_equal(count, 1);
    assert_int_equal(compat_reg_metadata(registered, 0).length_bytes, 3);
    OK(nixl_capi_destroy_xfer_dlist(moved));
    OK(nixl_capi_destroy_reg_dlist(registered));
}

/* Is it that text? NULL: none. */
static void check_metadata(nixl_capi_reg_dlist_t list, size_t index, const char *text)
{
    struct compat_bytes metadata = compat_reg_metadata(list, index);

    assert_int_equal(metadata.length_bytes, text != NULL ? strlen(text) : 0);
    if (text != NULL)
        assert_memory_equal(metadata.bytes, text, metadata.length_bytes);
    else
        assert_null(metadata.bytes);
}

static void test_metadata_stays_with_its_descriptor(void **state)
{
    nixl_capi_reg_dlist_t list = NULL;
    nixl_capi_mem_type_t type = NIXL_CAPI_MEM_UNKNOWN;
    size_t count = 0;
    bool is_empty = true;

    (void)state;
    OK(nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_FILE, &list));
    OK(nixl_capi_reg_dlist_get_type(list, &type));
    assert_int_equal(type, NIXL_CAPI_MEM_FILE);
    OK(nixl_capi_reg_dlist_add_desc(list, 1, 1, 1, NULL, 0));
    WRONG(nixl_capi_reg_dlist_add_desc(list, 1, 1, 1, NULL, 1));
    assert_null(list->metadata); /* none has any, so no place is kept for it */
    OK(nixl_capi_reg_dlist_add_desc(list, 2, 1, 1, "two", 3));
    OK(nixl_capi_reg_dlist_add_desc(list, 3, 1, 1, "none", 0));
    OK(nixl_capi_reg_dlist_add_desc(list, 4, 1, 1, "four", 4));
    check_metadata(list, 0, NULL);
    check_metadata(list, 1, "two");
    check_metadata(list, 2, NULL);

    WRONG(nixl_capi_reg_dlist_rem_desc(list, 4));
    WRONG(nixl_capi_reg_dlist_rem_desc(list, -1));
    OK(nixl_capi_reg_dlist_rem_desc(list, 1));
    check_metadata(list, 1, NULL);
    check_metadata(list, 2, "four");
    OK(nixl_capi_reg_dlist_trim(list));
    OK(nixl_capi_reg_dlist_resize(list, 100));
    check_metadata(list, 2, "four");
    check_metadata(list, 99, NULL);
    assert_int_equal(list->descs.at[99].address, 0);
    OK(nixl_capi_reg_dlist_resize(list, 2));
    OK(nixl_capi_reg_dlist_add_desc(list, 5, 1, 1, NULL, 0));
    check_metadata(list, 2, NULL); /* not that of the dropped one */
    OK(nixl_capi_reg_dlist_print(list));
    OK(nixl_capi_reg_dlist_clear(list));
    OK(nixl_capi_reg_dlist_desc_count(list, &count));
    OK(nixl_capi_reg_dlist_is_empty(list, &is_empty));
    assert_int_equal(count, 0);
    assert_true(is_empty);
    OK(nixl_capi_destroy_reg_dlist(list));
}

static void test_a_list_of_peers_keeps_each_name_once(void **state)
{
    static const char *const names[] = {"a", "a", "b", "a", "b", ""};
    nixl_capi_remote_dlist_t list = NULL;

    (void)state;
    OK(nixl_capi_create_remote_dlist(NIXL_CAPI_MEM_DRAM, &list));
    for (size_t i = 0; i < 6; i++)
        OK(nixl_capi_remote_dlist_add_desc(list, i, 1, 2, names[i]));
    WRONG(nixl_capi_remote_dlist_add_desc(list, 7, 1, 2, NULL));
    assert_int_equal(list->descs.count, 6);
    assert_int_equal(list->agent_count, 3);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(list->agents[list->agent_of[i]], names[i]);
    OK(nixl_capi_destroy_remote_dlist(list));
}

static void test_lists_are_of_types_that_there_are(void **state)
{
    static const char *const names[] = {"DRAM", "VRAM", "BLOCK", "OBJECT", "FILE", "UNKNOWN"};
    nixl_capi_xfer_dlist_t moved = NULL;
    nixl_capi_reg_dlist_t registered = NULL;
    nixl_capi_remote_dlist_t remote = NULL;
    const char *name = NULL;

    (void)state;
    for (int type = 0; type <= NIXL_CAPI_MEM_UNKNOWN; type++) {
        OK(nixl_capi_mem_type_to_string((nixl_capi_mem_type_t)type, &name));
        assert_string_equal(name, names[type]);
        OK(nixl_capi_create_xfer_dlist((nixl_capi_mem_type_t)type, &moved));
        OK(nixl_capi_destroy_xfer_dlist(moved));
    }
    static volatile int strange[] = {-1, 6, 99};
    for (size_t i = 0; i < 3; i++) {
        nixl_capi_mem_type_t type = (nixl_capi_mem_type_t)strange[i];
        WRONG(nixl_capi_mem_type_to_string(type, &name));
        assert_null(name);
        WRONG(nixl_capi_create_xfer_dlist(type, &moved));
        WRONG(nixl_capi_create_reg_dlist(type, &registered));
        WRONG(nixl_capi_create_remote_dlist(type, &remote));
        assert_null(moved);
        assert_null(registered);
        assert_null(remote);
    }
}

static void test_lists_of_types_and_of_strings_end_where_they_end(void **state)
{
    static const nixl_capi_mem_type_t types[] = {NIXL_CAPI_MEM_VRAM, NIXL_CAPI_MEM_DRAM};
    nixl_capi_mem_list_t mems = compat_mem_list_create(types, 2);
    nixl_capi_mem_list_t none = compat_mem_list_create(NULL, 0);
    nixl_capi_string_list_t strings = compat_string_list_create();
    nixl_capi_mem_type_t type = NIXL_CAPI_MEM_UNKNOWN;
    const char *string = NULL;
    size_t size = 0;
    bool is_empty = false;

    (void)state;
    OK(nixl_capi_mem_list_size(mems, &size));
    assert_int_equal(size, 2);
    OK(nixl_capi_mem_list_get(mems, 1, &type));
    assert_int_equal(type, NIXL_CAPI_MEM_DRAM);
    WRONG(nixl_capi_mem_list_get(mems, 2, &type));
    OK(nixl_capi_mem_list_is_empty(none, &is_empty));
    assert_true(is_empty);
    OK(nixl_capi_mem_list_is_empty(mems, &is_empty));
    assert_false(is_empty);
    WRONG(nixl_capi_mem_list_get(none, 0, &type));

    WRONG(nixl_capi_string_list_get(strings, 0, &string));
    assert_true(compat_string_list_add(strings, "UCX"));
    assert_true(compat_string_list_add(strings, ""));
    OK(nixl_capi_string_list_size(strings, &size));
    assert_int_equal(size, 2);
    OK(nixl_capi_string_list_get(strings, 0, &string));
    assert_string_equal(string, "UCX");
    WRONG(nixl_capi_string_list_get(strings, 2, &string));
    assert_null(string);
    OK(nixl_capi_destroy_mem_list(mems));
    OK(nixl_capi_destroy_mem_list(none));
    OK(nixl_capi_destroy_string_list(strings));
}

static void test_the_last_value_of_a_key_counts(void **state)
{
    nixl_capi_params_t params = NULL;
    bool is_empty = false;

    (void)state;
    OK(nixl_capi_create_params(&params));
    OK(nixl_capi_params_is_empty(params, &is_empty));
    assert_true(is_empty);
    OK(nixl_capi_params_add(params, "device", "mlx5_0"));
    OK(nixl_capi_params_add(params, "", ""));
    OK(nixl_capi_params_add(params, "device", "mlx5_1"));
    OK(nixl_capi_params_is_empty(params, &is_empty));
    assert_false(is_empty);
    WRONG(nixl_capi_params_add(params, "key", NULL));
    WRONG(nixl_capi_params_add(params, NULL, "value"));

    nixl_capi_params_t copy = compat_params_copy(params);
    OK(nixl_capi_destroy_params(params));
    assert_string_equal(compat_params_find(copy, "device"), "mlx5_1");
    assert_string_equal(compat_params_find(copy, ""), "");
    assert_null(compat_params_find(copy, "key"));
    assert_null(compat_params_find(NULL, "key"));
    OK(nixl_capi_destroy_params(copy));
}

static void test_an_iterator_tells_whether_another_one_follows(void **state)
{
    nixl_capi_params_t params = NULL;
    nixl_capi_param_iter_t iterator = NULL;
    const char *key = "x", *value = "x";
    bool has_next = true;

    (void)state;
    OK(nixl_capi_create_params(&params));
    OK(nixl_capi_params_create_iterator(params, &iterator));
    OK(nixl_capi_params_iterator_next(iterator, &key, &value, &has_next));
    assert_null(key);
    assert_null(value);
    assert_false(has_next);
    OK(nixl_capi_params_add(params, "a", "1"));
    OK(nixl_capi_params_add(params, "b", "2"));
    OK(nixl_capi_params_iterator_next(iterator, &key, &value, &has_next));
    assert_string_equal(key, "a");
    assert_string_equal(value, "1");
    assert_true(has_next);
    OK(nixl_capi_params_iterator_next(iterator, &key, &value, &has_next));
    assert_string_equal(key, "b");
    assert_false(has_next);
    for (int again = 0; again < 3; again++) {
        OK(nixl_capi_params_iterator_next(iterator, &key, &value, &has_next));
        assert_null(key);
        assert_null(value);
        assert_false(has_next);
    }
    OK(nixl_capi_params_destroy_iterator(iterator));
    OK(nixl_capi_destroy_params(params));
}

static void test_options_give_back_what_they_were_given(void **state)
{
    nixl_capi_opt_args_t args = NULL;
    void *data = &args;
    size_t length = 7;
    bool is = true;

    (void)state;
    OK(nixl_capi_create_opt_args(&args));
    OK(nixl_capi_opt_args_get_has_notif(args, &is));
    assert_false(is);
    OK(nixl_capi_opt_args_get_notif_msg(args, &data, &length));
    assert_null(data);
    assert_int_equal(length, 0);
    WRONG(nixl_capi_opt_args_set_notif_msg(args, NULL, 1));
    OK(nixl_capi_opt_args_set_notif_msg(args, "first", 5));
    OK(nixl_capi_opt_args_set_notif_msg(args, "a\0b", 3));
    OK(nixl_capi_opt_args_get_has_notif(args, &is));
    assert_false(is); /* a message alone is none that is sent */
    OK(nixl_capi_opt_args_set_has_notif(args, true));
    OK(nixl_capi_opt_args_get_has_notif(args, &is));
    assert_true(is);
    OK(nixl_capi_opt_args_get_notif_msg(args, &data, &length));
    assert_int_equal(length, 3);
    assert_memory_equal(data, "a\0b", 3);
    free(data);
    OK(nixl_capi_opt_args_set_notif_msg(args, NULL, 0));
    OK(nixl_capi_opt_args_get_notif_msg(args, &data, &length));
    assert_null(data);

    OK(nixl_capi_opt_args_set_custom_param(args, "worker_id=1", 11));
    OK(nixl_capi_opt_args_get_custom_param(args, &data, &length));
    assert_int_equal(length, 11);
    assert_memory_equal(data, "worker_id=1", 11);
    free(data);
    OK(nixl_capi_opt_args_set_skip_desc_merge(args, true));
    OK(nixl_capi_opt_args_get_skip_desc_merge(args, &is));
    assert_true(is);
    OK(nixl_capi_opt_args_set_ip_addr(args, "127.0.0.1"));
    OK(nixl_capi_opt_args_set_ip_addr(args, "::1"));
    WRONG(nixl_capi_opt_args_set_ip_addr(args, NULL));
    OK(nixl_capi_opt_args_set_port(args, 0));
    assert_string_equal(args->ip_address, "::1");
    assert_true(args->has_port);
    WRONG(nixl_capi_opt_args_add_backend(args, NULL));
    OK(nixl_capi_destroy_opt_args(args));
}

static void add(nixl_capi_notif_map_t map, const char *agent, const char *text)
{
    assert_true(compat_notif_map_add(map, agent, text, strlen(text)));
}

static void check_notification(nixl_capi_notif_map_t map, const char *agent, size_t index,
                               const char *text)
{
    const void *data = NULL;
    size_t length = 0;

    OK(nixl_capi_notif_map_get_notif(map, agent, index, &data, &length));
    assert_non_null(data);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(data, text, length);
}

static void test_notifications_are_found_by_agent_in_the_order_of_their_coming(void **state)
{
    nixl_capi_notif_map_t map = NULL;
    const char *name = NULL;
    const void *data = &map;
    size_t size = 7, seen = 0;

    (void)state;
    OK(nixl_capi_create_notif_map(&map));
    WRONG(nixl_capi_notif_map_get_agent_at(map, 0, &name));
    add(map, "b", "1");
    add(map, "a", "2");
    add(map, "c", "");
    add(map, "b", "3");
    add(map, "b", "1");
    OK(nixl_capi_notif_map_size(map, &size));
    assert_int_equal(size, 3);
    for (size_t i = 0; i < size; i++) {
        OK(nixl_capi_notif_map_get_agent_at(map, i, &name));
        assert_int_equal(strlen(name), 1);
        seen |= (size_t)1 << (name[0] - 'a');
    }
    assert_int_equal(seen, 7);
    static const size_t beyond[] = {3, 4, SIZE_MAX};
    for (size_t i = 0; i < 3; i++) {
        WRONG(nixl_capi_notif_map_get_agent_at(map, beyond[i], &name));
        assert_null(name);
    }

    OK(nixl_capi_notif_map_get_notifs_size(map, "b", &size));
    assert_int_equal(size, 3);
    check_notification(map, "b", 0, "1");
    check_notification(map, "b", 1, "3");
    check_notification(map, "b", 2, "1");
    check_notification(map, "a", 0, "2");
    check_notification(map, "c", 0, "");
    WRONG(nixl_capi_notif_map_get_notif(map, "b", 3, &data, &size));
    assert_null(data);
    WRONG(nixl_capi_notif_map_get_notif(map, "d", 0, &data, &size));
    WRONG(nixl_capi_notif_map_get_notifs_size(map, "d", &size));

    OK(nixl_capi_notif_map_clear(map));
    OK(nixl_capi_notif_map_size(map, &size));
    assert_int_equal(size, 0);
    add(map, "b", "4");
    check_notification(map, "b", 0, "4");
    OK(nixl_capi_destroy_notif_map(map));
}

static void test_an_answer_is_there_or_it_is_not(void **state)
{
    nixl_capi_query_resp_list_t list = NULL;
    nixl_capi_params_t params = NULL;
    bool has_value = true;
    size_t size = 7;

    (void)state;
    OK(nixl_capi_create_query_resp_list(&list));
    OK(nixl_capi_create_params(&params));
    OK(nixl_capi_params_add(params, "size", "4096"));
    assert_true(compat_query_resp_add(list, NULL));
    assert_true(compat_query_resp_add(list, params));
    OK(nixl_capi_query_resp_list_size(list, &size));
    assert_int_equal(size, 2);
    OK(nixl_capi_query_resp_list_has_value(list, 0, &has_value));
    assert_false(has_value);
    WRONG(nixl_capi_query_resp_list_get_params(list, 0, &params));
    assert_null(params);
    OK(nixl_capi_query_resp_list_has_value(list, 1, &has_value));
    assert_true(has_value);
    WRONG(nixl_capi_query_resp_list_has_value(list, 2, &has_value));
    WRONG(nixl_capi_query_resp_list_get_params(list, 2, &params));
    OK(nixl_capi_query_resp_list_get_params(list, 1, &params));
    compat_query_resp_clear(list);
    OK(nixl_capi_query_resp_list_size(list, &size));
    assert_int_equal(size, 0);
    OK(nixl_capi_destroy_query_resp_list(list));
    assert_string_equal(compat_params_find(params, "size"), "4096"); /* the caller's own */
    OK(nixl_capi_destroy_params(params));
}

/* Fill one of each, going on after what fails; true if nothing did. What was refused is not there.
 */
static bool fill_all(void)
{
    nixl_capi_reg_dlist_t registered = NULL;
    nixl_capi_remote_dlist_t remote = NULL;
    nixl_capi_params_t params = NULL, copy = NULL;
    nixl_capi_opt_args_t args = NULL;
    nixl_capi_notif_map_t map = NULL;
    nixl_capi_query_resp_list_t answers = NULL;
    unsigned failed = 0;

#define TRY(call) (failed += (call) != NIXL_CAPI_SUCCESS)
    TRY(nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_FILE, &registered));
    TRY(nixl_capi_create_remote_dlist(NIXL_CAPI_MEM_DRAM, &remote));
    TRY(nixl_capi_create_params(&params));
    TRY(nixl_capi_create_opt_args(&args));
    TRY(nixl_capi_create_notif_map(&map));
    TRY(nixl_capi_create_query_resp_list(&answers));
    for (uintptr_t i = 0; i < 10 && failed == 0; i++) {
        char name[2] = {(char)('a' + 7 * i % 10), 0};
        size_t before = map->count;
        TRY(nixl_capi_reg_dlist_add_desc(registered, i, 1, 1, "key", i % 4));
        assert_int_equal(registered->descs.count, i + (failed == 0));
        TRY(nixl_capi_remote_dlist_add_desc(remote, i, 1, 1, name));
        TRY(nixl_capi_params_add(params, name, "value"));
        TRY(nixl_capi_params_add(params, "a", name));
        TRY(nixl_capi_opt_args_set_notif_msg(args, name, 1));
        TRY(nixl_capi_opt_args_set_ip_addr(args, name));
        TRY(!compat_notif_map_add(map, name, "1", 1));
        assert_true(map->count == before + 1 || failed > 0);
        for (size_t agent = 0; agent < map->count; agent++)
            assert_int_equal(map->agents[agent].count, 1); /* an agent without messages is none */
    }
    if (params != NULL && failed == 0) {
        copy = compat_params_copy(params);
        TRY(copy == NULL);
        if (answers != NULL && copy != NULL && !compat_query_resp_add(answers, copy)) {
            failed++;
            OK(nixl_capi_destroy_params(copy));
        }
    }
#undef TRY
    (void)nixl_capi_destroy_reg_dlist(registered);
    (void)nixl_capi_destroy_remote_dlist(remote);
    (void)nixl_capi_destroy_params(params);
    (void)nixl_capi_destroy_opt_args(args);
    (void)nixl_capi_destroy_notif_map(map);
    (void)nixl_capi_destroy_query_resp_list(answers);
    return failed == 0;
}

static void test_no_allocation_that_fails_loses_anything(void **state)
{
    int nth = 0;

    (void)state;
    for (;; nth++) {
        until_failure = nth;
        bool is_whole = fill_all();
        bool is_over = until_failure >= 0;
        until_failure = -1;
        assert_int_equal(is_whole, is_over);
        if (is_over)
            break;
    }
    assert_true(nth > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_holds_its_descriptors_in_their_order),
        cmocka_unit_test(test_a_descriptor_is_24_bytes_and_costs_the_same_however_many_there_are),
        cmocka_unit_test(test_many_descriptors_are_added_at_once_behind_those_that_are_there),
        cmocka_unit_test(test_a_size_that_no_memory_has_is_refused_and_changes_nothing),
        cmocka_unit_test(test_metadata_stays_with_its_descriptor),
        cmocka_unit_test(test_a_list_of_peers_keeps_each_name_once),
        cmocka_unit_test(test_lists_are_of_types_that_there_are),
        cmocka_unit_test(test_lists_of_types_and_of_strings_end_where_they_end),
        cmocka_unit_test(test_the_last_value_of_a_key_counts),
        cmocka_unit_test(test_an_iterator_tells_whether_another_one_follows),
        cmocka_unit_test(test_options_give_back_what_they_were_given),
        cmocka_unit_test(test_notifications_are_found_by_agent_in_the_order_of_their_coming),
        cmocka_unit_test(test_an_answer_is_there_or_it_is_not),
        cmocka_unit_test(test_no_allocation_that_fails_loses_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
