/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what NIXL is known to do wrong within one process is right here: registrations that nest,
 * overlap, are listed twice or span others; handles that outlive what they were made for; metadata
 * that cannot be loaded; notifications that leave only while somebody polls.
 * Method: two agents of this process, by the C ABI alone. What is said on the standard error, where
 * a descriptor is named, goes to a file and is read there.
 */
#include "stage.h"

#include "blob.h"

#include <fcntl.h>
#include <lend/lend.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static nixl_capi_agent_t initiator;
static nixl_capi_agent_t target;
static uint8_t *here;
static uint8_t *there;

static int set_up(void **state)
{
    (void)state;
    initiator = stage_agent("initiator");
    target = stage_agent("target");
    here = stage_map(4 * MIB);
    there = stage_map(4 * MIB);
    stage_fill(here, 4 * MIB, 1);
    stage_register(initiator, here, 4 * MIB);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (initiator != NULL)
        OK(nixl_capi_destroy_agent(initiator));
    if (target != NULL)
        OK(nixl_capi_destroy_agent(target));
    stage_unmap(here, 4 * MIB);
    stage_unmap(there, 4 * MIB);
    return 0;
}

static nixl_capi_status_t make_for(const void *remote, size_t bytes)
{
    nixl_capi_xfer_dlist_t local = stage_xfer(here, bytes), other = stage_xfer(remote, bytes);
    nixl_capi_xfer_req_t request = NULL;

    nixl_capi_status_t status = nixl_capi_create_xfer_req(initiator, NIXL_CAPI_XFER_OP_WRITE, local,
                                                          other, "target", &request, NULL);
    if (status == NIXL_CAPI_SUCCESS)
        stage_end(initiator, request);
    OK(nixl_capi_destroy_xfer_dlist(local));
    OK(nixl_capi_destroy_xfer_dlist(other));
    return status;
}

/* --- registrations --- */

static void test_a_nested_registration_hides_nothing_of_the_one_around_it(void **state)
{
    (void)state;
    stage_register(target, there, MIB);
    stage_register(target, there + 4096, 4096);
    stage_load(initiator, target);
    OK(make_for(there + MIB / 2, 4096)); /* NIXL: not found */
    OK(make_for(there + 4096, 4096));
    OK(make_for(there + 6000, 4096)); /* begins in the inner one, and ends behind it */

    nixl_capi_xfer_req_t request =
        stage_request(initiator, NIXL_CAPI_XFER_OP_WRITE, "target", here, there + 6000, 4096);
    OK(stage_run(initiator, request));
    assert_memory_equal(here, there + 6000, 4096);
    stage_end(initiator, request);
}

static void test_what_is_left_of_overlapping_registrations_still_covers(void **state)
{
    (void)state;
    stage_register(target, there, MIB);
    stage_register(target, there + MIB / 2, MIB);
    OK(stage_deregister(target, there, MIB));
    stage_load(initiator, target);
    assert_int_equal(make_for(there, 4096), NIXL_CAPI_ERROR_NOT_FOUND);
    nixl_capi_xfer_req_t request =
        stage_request(initiator, NIXL_CAPI_XFER_OP_WRITE, "target", here, there + MIB / 2, MIB);
    OK(stage_run(initiator, request));
    assert_memory_equal(here, there + MIB / 2, MIB);
    stage_end(initiator, request);
}

static void test_the_registration_that_a_range_lies_in_is_told(void **state)
{
    struct nixl_capi_range_s range = {(uintptr_t)there + 5000, 100, 0};
    struct nixl_capi_range_s across = {(uintptr_t)there + MIB - 1, 2, 0};

    (void)state;
    stage_register(target, there, MIB);
    stage_register(target, there + MIB, MIB);
    stage_load(initiator, target);
    OK(nixl_capi_find_registration(initiator, "target", NIXL_CAPI_MEM_DRAM, &range));
    assert_int_equal(range.addr, (uintptr_t)there);
    assert_int_equal(range.len, MIB);
    assert_int_equal(nixl_capi_find_registration(initiator, "target", NIXL_CAPI_MEM_DRAM, &across),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(across.addr, (uintptr_t)there + MIB - 1);
    range = (struct nixl_capi_range_s){(uintptr_t)here + MIB, 1, 0};
    OK(nixl_capi_find_registration(initiator, "", NIXL_CAPI_MEM_DRAM, &range));
    assert_int_equal(range.len, 4 * MIB);
    range = (struct nixl_capi_range_s){UINTPTR_MAX, SIZE_MAX, 0};
    assert_int_equal(nixl_capi_find_registration(initiator, "", NIXL_CAPI_MEM_DRAM, &range),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_find_registration(initiator, "", NIXL_CAPI_MEM_VRAM, &range),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_find_registration(initiator, "other", NIXL_CAPI_MEM_DRAM, &range),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_find_registration(initiator, "", (nixl_capi_mem_type_t)9, &range),
                     NIXL_CAPI_ERROR_INVALID_PARAM);
}

static void test_a_descriptor_over_two_adjacent_registrations_is_not_found(void **state)
{
    (void)state;
    stage_register(target, there, MIB);
    stage_register(target, there + MIB, MIB);
    stage_load(initiator, target);
    assert_int_equal(make_for(there + MIB - 64, 128), NIXL_CAPI_ERROR_NOT_FOUND);
    OK(make_for(there + MIB - 64, 64));
}

static void test_neighbours_of_two_registrations_move_in_one_request(void **state)
{
    nixl_capi_xfer_dlist_t local = stage_pieces(here, MIB, 2), other = stage_pieces(there, MIB, 2);
    nixl_capi_xfer_req_t request = NULL;

    (void)state;
    stage_register(target, there, MIB);
    stage_register(target, there + MIB, MIB);
    stage_load(initiator, target);
    OK(nixl_capi_create_xfer_req(initiator, NIXL_CAPI_XFER_OP_WRITE, local, other, "target",
                                 &request, NULL));
    OK(stage_run(initiator, request));
    assert_memory_equal(here, there, 2 * MIB);
    stage_end(initiator, request);
    OK(nixl_capi_destroy_xfer_dlist(local));
    OK(nixl_capi_destroy_xfer_dlist(other));
}

static void test_a_descriptor_twice_in_one_deregistration_is_an_error(void **state)
{
    nixl_capi_reg_dlist_t twice = stage_reg(there, MIB);

    (void)state;
    OK(nixl_capi_reg_dlist_add_desc(twice, (uintptr_t)there, MIB, 0, NULL, 0));
    stage_register(target, there, MIB);
    assert_int_equal(nixl_capi_deregister_mem(target, twice, NULL),
                     NIXL_CAPI_ERROR_INVALID_PARAM); /* NIXL: SIGSEGV */
    stage_load(initiator, target);
    OK(make_for(there, MIB)); /* nothing was done */
    OK(stage_deregister(target, there, MIB));
    OK(nixl_capi_destroy_reg_dlist(twice));
}

static void test_registered_twice_is_deregistered_twice_and_not_thrice(void **state)
{
    (void)state;
    stage_register(target, there, MIB);
    stage_register(target, there, MIB);
    OK(stage_deregister(target, there, MIB));
    stage_load(initiator, target);
    OK(make_for(there, MIB));
    OK(stage_deregister(target, there, MIB));
    assert_int_equal(stage_deregister(target, there, MIB), NIXL_CAPI_ERROR_NOT_FOUND);
}

static void test_a_deregistration_that_fails_has_done_nothing(void **state)
{
    nixl_capi_reg_dlist_t list = stage_reg(there, MIB);

    (void)state;
    OK(nixl_capi_reg_dlist_add_desc(list, (uintptr_t)there + MIB, MIB, 0, NULL, 0));
    stage_register(target, there, MIB);
    assert_int_equal(nixl_capi_deregister_mem(target, list, NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    OK(stage_deregister(target, there, MIB));
    OK(nixl_capi_destroy_reg_dlist(list));
}

/* Orders of arrival: ascending, descending, and scattered by a step that is prime to the count. */
static void register_in_order(size_t count, size_t first, size_t step)
{
    const size_t piece = 4 * MIB / count;

    for (size_t i = 0, at = first; i < count; i++, at = (at + step) % count)
        stage_register(target, there + at * piece, piece);
    stage_load(initiator, target);
    for (size_t i = 0; i < count; i += count / 16)
        OK(make_for(there + i * piece, piece));
    for (size_t i = 0, at = first; i < count; i++, at = (at + step) % count)
        OK(stage_deregister(target, there + at * piece, piece));
    stage_load(initiator, target);
    assert_int_equal(make_for(there, piece), NIXL_CAPI_ERROR_NOT_FOUND);
}

static void test_registrations_come_and_go_in_any_order(void **state)
{
    (void)state;
    register_in_order(2048, 0, 1);
    register_in_order(2048, 2047, 2047);
    register_in_order(2048, 0, 797);
}

static void test_memory_that_is_not_there_is_refused_with_its_index(void **state)
{
    nixl_capi_reg_dlist_t list = stage_reg(there, MIB);
    uint8_t *gone = stage_map(MIB);

    (void)state;
    stage_unmap(gone, MIB);
    OK(nixl_capi_reg_dlist_add_desc(list, (uintptr_t)gone, MIB, 0, NULL, 0));
    assert_int_equal(nixl_capi_register_mem(target, list, NULL), NIXL_CAPI_ERROR_INVALID_PARAM);
    assert_int_equal(stage_deregister(target, there, MIB), NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_destroy_reg_dlist(list));
}

static void test_the_log_names_the_descriptor_that_is_not_covered(void **state)
{
    nixl_capi_xfer_dlist_t list = stage_pieces(there, 4096, 3);
    nixl_capi_xfer_dlist_handle_t handle = NULL;
    char text[4096] = "";
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);

    (void)state;
    assert_non_null(file);
    (void)setenv("NIXL_LOG_LEVEL", "ERROR", 1);
    stage_register(target, there, 2 * 4096);
    stage_load(initiator, target);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    nixl_capi_status_t status = nixl_capi_prep_xfer_dlist(initiator, "target", list, &handle, NULL);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    (void)close(before);
    assert_int_equal(status, NIXL_CAPI_ERROR_NOT_FOUND);
    rewind(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_non_null(strstr(text, "descriptor 2"));
    (void)fclose(file);
    OK(nixl_capi_destroy_xfer_dlist(list));
}

/* --- handles that outlive what they are of --- */

static nixl_capi_xfer_dlist_handle_t prepare(const char *name, const void *memory)
{
    nixl_capi_xfer_dlist_t list = stage_pieces(memory, 4096, 4);
    nixl_capi_xfer_dlist_handle_t handle = NULL;

    OK(nixl_capi_prep_xfer_dlist(initiator, name, list, &handle, NULL));
    OK(nixl_capi_destroy_xfer_dlist(list));
    return handle;
}

static nixl_capi_status_t make(nixl_capi_xfer_dlist_handle_t local,
                               nixl_capi_xfer_dlist_handle_t remote, nixl_capi_xfer_req_t *out)
{
    const int indices[] = {2, 0, 3};

    return nixl_capi_make_xfer_req(initiator, NIXL_CAPI_XFER_OP_WRITE, local, indices, 3, remote,
                                   indices, 3, out, NULL);
}

static void test_what_was_prepared_for_an_earlier_life_of_a_peer_is_refused(void **state)
{
    nixl_capi_xfer_req_t request = NULL, late = NULL;

    (void)state;
    stage_register(target, there, MIB);
    stage_load(initiator, target);
    nixl_capi_xfer_dlist_handle_t local = prepare("", here), remote = prepare("target", there);
    OK(make(local, remote, &request));
    OK(stage_run(initiator, request));

    OK(nixl_capi_destroy_agent(target));
    target = stage_agent("target");
    stage_register(target, there, MIB);
    stage_load(initiator, target); /* without having invalidated the old one */
    assert_int_equal(make(local, remote, &late), NIXL_CAPI_ERROR_NOT_FOUND);
    assert_null(late);
    assert_int_equal(nixl_capi_post_xfer_req(initiator, request, NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    stage_end(initiator, request);
    OK(nixl_capi_release_xfer_dlist_handle(initiator, remote));

    remote = prepare("target", there);
    OK(make(local, remote, &request));
    OK(stage_run(initiator, request));
    stage_end(initiator, request);
    OK(nixl_capi_release_xfer_dlist_handle(initiator, remote));
    OK(nixl_capi_release_xfer_dlist_handle(initiator, local));
}

static void test_an_invalidated_peer_leaves_handles_that_fail(void **state)
{
    nixl_capi_xfer_req_t request = NULL, late = NULL;

    (void)state;
    stage_register(target, there, MIB);
    stage_load(initiator, target);
    nixl_capi_xfer_dlist_handle_t local = prepare("", here), remote = prepare("target", there);
    OK(make(local, remote, &request));
    OK(nixl_capi_invalidate_remote_md(initiator, "target"));
    assert_int_equal(nixl_capi_invalidate_remote_md(initiator, "target"),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_check_remote_md(initiator, "target", NULL),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_post_xfer_req(initiator, request, NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    stage_load(initiator, target); /* the same life as before, and known anew */
    assert_int_equal(make(local, remote, &late), NIXL_CAPI_ERROR_NOT_FOUND);
    stage_end(initiator, request);
    OK(nixl_capi_release_xfer_dlist_handle(initiator, remote));
    OK(nixl_capi_release_xfer_dlist_handle(initiator, local));
}

static void test_handles_outlive_their_agent(void **state)
{
    nixl_capi_xfer_req_t request = NULL, posted = NULL;
    nixl_capi_backend_t backend = NULL;

    (void)state;
    stage_register(target, there, 4 * MIB);
    stage_load(initiator, target);
    nixl_capi_xfer_dlist_handle_t local = prepare("", here), remote = prepare("target", there);
    OK(make(local, remote, &request));
    OK(nixl_capi_query_xfer_backend(initiator, request, &backend));
    posted = stage_request(initiator, NIXL_CAPI_XFER_OP_WRITE, "target", here, there, 4 * MIB);
    assert_true(nixl_capi_post_xfer_req(initiator, posted, NULL) >= NIXL_CAPI_SUCCESS);
    OK(nixl_capi_destroy_agent(initiator));

    assert_int_equal(nixl_capi_get_xfer_status(initiator, posted), NIXL_CAPI_ERROR_INVALID_PARAM);
    assert_int_equal(nixl_capi_post_xfer_req(initiator, request, NULL),
                     NIXL_CAPI_ERROR_INVALID_PARAM);
    stage_end(initiator, posted);
    stage_end(initiator, request);
    OK(nixl_capi_release_xfer_dlist_handle(initiator, remote));
    OK(nixl_capi_release_xfer_dlist_handle(initiator, local));
    OK(nixl_capi_destroy_backend(backend)); /* the last that knew of the agent */
    initiator = NULL;
}

static void test_a_request_ends_in_two_steps_and_once(void **state)
{
    (void)state;
    stage_register(target, there, MIB);
    stage_load(initiator, target);
    nixl_capi_xfer_req_t request =
        stage_request(initiator, NIXL_CAPI_XFER_OP_WRITE, "target", here, there, MIB);
    assert_int_equal(nixl_capi_destroy_xfer_req(request), NIXL_CAPI_ERROR_INVALID_STATE);
    OK(stage_run(initiator, request));
    OK(stage_run(initiator, request)); /* again, as it is complete */
    OK(nixl_capi_release_xfer_req(initiator, request));
    assert_int_equal(nixl_capi_release_xfer_req(initiator, request), NIXL_CAPI_ERROR_INVALID_PARAM);
    assert_int_equal(nixl_capi_get_xfer_status(initiator, request), NIXL_CAPI_ERROR_INVALID_PARAM);
    assert_int_equal(nixl_capi_post_xfer_req(initiator, request, NULL),
                     NIXL_CAPI_ERROR_INVALID_PARAM);
    OK(nixl_capi_destroy_xfer_req(request));
}

static void test_memory_that_was_taken_back_is_not_moved(void **state)
{
    (void)state;
    stage_register(target, there, MIB);
    stage_load(initiator, target);
    nixl_capi_xfer_req_t request =
        stage_request(initiator, NIXL_CAPI_XFER_OP_WRITE, "target", here, there, MIB);
    OK(stage_deregister(target, there, MIB));
    memset(there, 0, MIB);
    assert_true(stage_run(initiator, request) < 0); /* the target says so */
    OK(stage_deregister(initiator, here, 4 * MIB));
    assert_true(stage_run(initiator, request) < 0); /* and so do we */
    for (size_t i = 0; i < MIB; i++)
        assert_int_equal(there[i], 0);
    stage_end(initiator, request);
}

static void test_sides_and_counts_are_checked(void **state)
{
    const int good[] = {0, 1}, bad[] = {0, 4}, negative[] = {-1, 0};
    nixl_capi_xfer_req_t request = NULL;

    (void)state;
    stage_register(target, there, MIB);
    stage_load(initiator, target);
    nixl_capi_xfer_dlist_handle_t local = prepare("", here), remote = prepare("target", there);
    const nixl_capi_status_t wanted = NIXL_CAPI_ERROR_INVALID_PARAM;
    const nixl_capi_xfer_op_t write = NIXL_CAPI_XFER_OP_WRITE;

    assert_int_equal(make(remote, local, &request), wanted);
    assert_int_equal(
        nixl_capi_make_xfer_req(initiator, write, local, good, 2, remote, good, 1, &request, NULL),
        wanted);
    assert_int_equal(
        nixl_capi_make_xfer_req(initiator, write, local, good, 0, remote, good, 0, &request, NULL),
        wanted);
    assert_int_equal(
        nixl_capi_make_xfer_req(initiator, write, local, bad, 2, remote, good, 2, &request, NULL),
        wanted);
    assert_int_equal(nixl_capi_make_xfer_req(initiator, write, local, good, 2, remote, negative, 2,
                                             &request, NULL),
                     wanted);
    assert_int_equal(
        nixl_capi_make_xfer_req(initiator, write, local, NULL, 2, remote, good, 2, &request, NULL),
        wanted); /* NIXL: SIGSEGV */
    assert_int_equal(nixl_capi_make_xfer_req(initiator, (nixl_capi_xfer_op_t)7, local, good, 2,
                                             remote, good, 2, &request, NULL),
                     wanted);
    assert_null(request);
    OK(nixl_capi_release_xfer_dlist_handle(initiator, remote));
    OK(nixl_capi_release_xfer_dlist_handle(initiator, local));
}

/* --- metadata --- */

static void test_a_failed_load_leaves_the_name_usable(void **state)
{
    void *bytes = NULL;
    size_t count = 0;
    char *name = NULL;

    (void)state;
    stage_register(target, there, MIB);
    OK(nixl_capi_get_local_md(target, &bytes, &count));
    for (size_t at = 0; at < count; at++) {
        ((uint8_t *)bytes)[at] ^= 1;
        assert_int_equal(nixl_capi_load_remote_md(initiator, bytes, count, &name),
                         NIXL_CAPI_ERROR_BACKEND);
        assert_null(name);
        ((uint8_t *)bytes)[at] ^= 1;
    }
    assert_int_equal(nixl_capi_check_remote_md(initiator, "target", NULL),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_load_remote_md(initiator, bytes, count, &name));
    assert_string_equal(name, "target");
    free(name);
    OK(make_for(there, MIB));
    OK(nixl_capi_load_remote_md(initiator, bytes, count, &name)); /* once more changes nothing */
    free(name);
    OK(make_for(there, MIB));
    assert_int_equal(nixl_capi_load_remote_md(target, bytes, count, &name),
                     NIXL_CAPI_ERROR_INVALID_PARAM); /* its own */
    free(bytes);
}

static void load_part(nixl_capi_reg_dlist_t list)
{
    void *bytes = NULL;
    size_t count = 0;
    char *name = NULL;

    OK(nixl_capi_get_local_partial_md(target, list, &bytes, &count, NULL));
    OK(nixl_capi_load_remote_md(initiator, bytes, count, &name));
    free(name);
    free(bytes);
}

static void test_parts_of_metadata_add_up(void **state)
{
    nixl_capi_reg_dlist_t first = stage_reg(there, MIB), second = stage_reg(there + MIB, MIB);
    nixl_capi_reg_dlist_t none = stage_reg(there, MIB), wrong = stage_reg(there, MIB - 1);
    void *bytes = NULL;
    size_t count = 0;

    (void)state;
    OK(nixl_capi_reg_dlist_clear(none));
    stage_register(target, there, MIB);
    stage_register(target, there + MIB, MIB);
    assert_int_equal(nixl_capi_get_local_partial_md(target, wrong, &bytes, &count, NULL),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    load_part(none); /* how it is reached */
    OK(nixl_capi_check_remote_md(initiator, "target", NULL));
    assert_int_equal(make_for(there, MIB), NIXL_CAPI_ERROR_NOT_FOUND);
    load_part(first);
    OK(make_for(there, MIB));
    assert_int_equal(make_for(there + MIB, MIB), NIXL_CAPI_ERROR_NOT_FOUND);
    load_part(second);
    OK(make_for(there, MIB));
    OK(make_for(there + MIB, MIB));
    OK(nixl_capi_destroy_reg_dlist(first));
    OK(nixl_capi_destroy_reg_dlist(second));
    OK(nixl_capi_destroy_reg_dlist(none));
    OK(nixl_capi_destroy_reg_dlist(wrong));
}

/* How many regions of lend's such metadata tells of, to an agent of lend's. */
static uint32_t regions_in(const void *bytes, size_t count)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_agent *agent = NULL;
    struct lend_peer *peer = NULL;
    struct compat_blob blob;

    config.name = "curious";
    config.transports = "loopback";
    config.flags = LEND_AGENT_NO_STATISTICS;
    assert_null(compat_blob_decode(bytes, count, &blob));
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    assert_int_equal(lend_peer_import(agent, blob.metadata.bytes, blob.metadata.count, &peer, NULL),
                     LEND_OK);
    assert_int_equal(lend_peer_describe(peer, &info, NULL), LEND_OK);
    lend_peer_forget(peer);
    lend_agent_destroy(agent);
    return info.region_count;
}

static uint32_t regions_in_part(nixl_capi_reg_dlist_t list)
{
    void *bytes = NULL;
    size_t count = 0;

    OK(nixl_capi_get_local_partial_md(target, list, &bytes, &count, NULL));
    uint32_t regions = regions_in(bytes, count);
    free(bytes);
    return regions;
}

static void test_a_part_of_metadata_tells_nothing_of_the_rest(void **state)
{
    enum { COUNT = 1000, BYTES = 1024 };
    nixl_capi_reg_dlist_t all = stage_reg(there, BYTES), some = stage_reg(there + 7 * BYTES, BYTES);
    void *whole = NULL;
    size_t count = 0;

    (void)state;
    for (uintptr_t i = 1; i < COUNT; i++)
        OK(nixl_capi_reg_dlist_add_desc(all, (uintptr_t)there + i * BYTES, BYTES, 0, NULL, 0));
    OK(nixl_capi_register_mem(target, all, NULL));
    OK(nixl_capi_get_local_md(target, &whole, &count));
    assert_int_equal(regions_in(whole, count), COUNT);
    free(whole);
    assert_int_equal(regions_in_part(all), COUNT);
    assert_int_equal(regions_in_part(some), 1);
    for (uintptr_t i = 3; i <= 7; i += 4) /* one more, and one that is listed twice then */
        OK(nixl_capi_reg_dlist_add_desc(some, (uintptr_t)there + i * BYTES, BYTES, 0, NULL, 0));
    assert_int_equal(regions_in_part(some), 2);
    OK(nixl_capi_reg_dlist_clear(some));
    assert_int_equal(regions_in_part(some), 0);
    OK(nixl_capi_destroy_reg_dlist(some));
    OK(nixl_capi_destroy_reg_dlist(all));
}

/* --- notifications --- */

static void test_a_notification_leaves_though_nobody_polls(void **state)
{
    nixl_capi_xfer_dlist_t local = stage_xfer(here, 4 * MIB), other = stage_xfer(there, 4 * MIB);
    nixl_capi_opt_args_t options = NULL;
    nixl_capi_notif_map_t map = NULL;
    nixl_capi_xfer_req_t request = NULL;
    const void *bytes = NULL;
    size_t count = 0;

    (void)state;
    stage_register(target, there, 4 * MIB);
    stage_load(initiator, target);
    OK(nixl_capi_create_opt_args(&options));
    OK(nixl_capi_opt_args_set_notif_msg(options, "done", 4));
    OK(nixl_capi_opt_args_set_has_notif(options, true));
    OK(nixl_capi_create_notif_map(&map));
    OK(nixl_capi_create_xfer_req(initiator, NIXL_CAPI_XFER_OP_WRITE, local, other, "target",
                                 &request, options));
    assert_true(nixl_capi_post_xfer_req(initiator, request, NULL) >= NIXL_CAPI_SUCCESS);
    stage_await_notifications(target, map, "initiator", 1); /* and the initiator does nothing */
    OK(nixl_capi_notif_map_get_notif(map, "initiator", 0, &bytes, &count));
    assert_int_equal(count, 4);
    assert_memory_equal(bytes, "done", 4);
    assert_memory_equal(here, there, 4 * MIB); /* after the data */
    OK(stage_wait(initiator, request));
    stage_end(initiator, request);
    OK(nixl_capi_destroy_notif_map(map));
    OK(nixl_capi_destroy_opt_args(options));
    OK(nixl_capi_destroy_xfer_dlist(local));
    OK(nixl_capi_destroy_xfer_dlist(other));
}

static void test_notifications_of_any_length_arrive_whole_and_in_order(void **state)
{
    static const size_t lengths[] = {0, 1, 16383, 16384, 65536, MIB};
    const size_t count = sizeof lengths / sizeof lengths[0];
    nixl_capi_notif_map_t map = NULL;

    (void)state;
    stage_load(initiator, target);
    OK(nixl_capi_create_notif_map(&map));
    for (size_t i = 0; i < count; i++)
        OK(nixl_capi_gen_notif(initiator, "target", here, lengths[i], NULL));
    stage_await_notifications(target, map, "initiator", count);
    for (size_t i = 0; i < count; i++) {
        const void *bytes = NULL;
        size_t length = 0;

        OK(nixl_capi_notif_map_get_notif(map, "initiator", i, &bytes, &length));
        assert_int_equal(length, lengths[i]);
        assert_memory_equal(bytes, here, length);
    }
    OK(nixl_capi_notif_map_clear(map));
    OK(nixl_capi_gen_notif(initiator, "initiator", NULL, 0, NULL)); /* to ourselves */
    stage_await_notifications(initiator, map, "initiator", 1);
    assert_int_equal(nixl_capi_gen_notif(initiator, "nobody", "", 0, NULL),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_destroy_notif_map(map));
}

static void test_our_own_memory_is_a_target_too(void **state)
{
    (void)state;
    nixl_capi_xfer_req_t request =
        stage_request(initiator, NIXL_CAPI_XFER_OP_WRITE, "initiator", here, here + 2 * MIB, MIB);
    OK(stage_run(initiator, request));
    assert_memory_equal(here, here + 2 * MIB, MIB);
    stage_end(initiator, request);
    stage_register(initiator, there, MIB); /* what comes later is reached, too */
    request = stage_request(initiator, NIXL_CAPI_XFER_OP_READ, "initiator", here, there, MIB);
    OK(stage_run(initiator, request));
    assert_memory_equal(here, there, MIB);
    stage_end(initiator, request);
}

/* --- without a backend --- */

static void test_without_a_backend_calls_fail_and_say_so(void **state)
{
    nixl_capi_agent_t bare = NULL;
    nixl_capi_reg_dlist_t list = stage_reg(there, MIB);
    nixl_capi_params_t params = NULL;
    nixl_capi_backend_t backend = NULL;
    void *bytes = NULL;
    size_t count = 0;

    (void)state;
    OK(nixl_capi_create_agent("bare", &bare));
    assert_int_equal(nixl_capi_register_mem(bare, list, NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_get_local_md(bare, &bytes, &count), NIXL_CAPI_ERROR_INVALID_PARAM);
    OK(nixl_capi_create_params(&params));
    assert_int_equal(nixl_capi_create_backend(bare, "POSIX", params, &backend),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_null(backend);
    OK(nixl_capi_create_backend(bare, "UCX", params, &backend));
    OK(nixl_capi_register_mem(bare, list, NULL));
    OK(nixl_capi_destroy_backend(backend));
    assert_int_equal(nixl_capi_create_backend(bare, "UCX", params, &backend),
                     NIXL_CAPI_ERROR_INVALID_PARAM);
    OK(nixl_capi_destroy_agent(bare));
    OK(nixl_capi_destroy_params(params));
    OK(nixl_capi_destroy_reg_dlist(list));
}

#define STAGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_a_nested_registration_hides_nothing_of_the_one_around_it),
        STAGED(test_what_is_left_of_overlapping_registrations_still_covers),
        STAGED(test_the_registration_that_a_range_lies_in_is_told),
        STAGED(test_a_descriptor_over_two_adjacent_registrations_is_not_found),
        STAGED(test_neighbours_of_two_registrations_move_in_one_request),
        STAGED(test_a_descriptor_twice_in_one_deregistration_is_an_error),
        STAGED(test_registered_twice_is_deregistered_twice_and_not_thrice),
        STAGED(test_a_deregistration_that_fails_has_done_nothing),
        STAGED(test_registrations_come_and_go_in_any_order),
        STAGED(test_memory_that_is_not_there_is_refused_with_its_index),
        STAGED(test_the_log_names_the_descriptor_that_is_not_covered),
        STAGED(test_what_was_prepared_for_an_earlier_life_of_a_peer_is_refused),
        STAGED(test_an_invalidated_peer_leaves_handles_that_fail),
        STAGED(test_handles_outlive_their_agent),
        STAGED(test_a_request_ends_in_two_steps_and_once),
        STAGED(test_memory_that_was_taken_back_is_not_moved),
        STAGED(test_sides_and_counts_are_checked),
        STAGED(test_a_failed_load_leaves_the_name_usable),
        STAGED(test_parts_of_metadata_add_up),
        STAGED(test_a_part_of_metadata_tells_nothing_of_the_rest),
        STAGED(test_a_notification_leaves_though_nobody_polls),
        STAGED(test_notifications_of_any_length_arrive_whole_and_in_order),
        STAGED(test_our_own_memory_is_a_target_too),
        STAGED(test_without_a_backend_calls_fail_and_say_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
