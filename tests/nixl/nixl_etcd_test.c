/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: metadata goes by way of etcd to another process, which moves bytes with it; once it is
 * invalidated nobody knows the agent any more, and once it is sent again it is found again; what a
 * dead agent left goes by itself, and who had fetched it forgets it; an entry that is lost, while
 * its agent is well and connected, costs nothing; metadata of tens of thousands of descriptors fits
 * in one; and what is not sent is not there. Method: a real etcd-server of the test's own, and
 * children for the other side, which do what they are told by a letter. Whatever has to come is
 * waited for; how soon it comes decides nothing.
 */
#include "stage.h"

#include "etcd/server.h"

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 1 << 16 };

static struct etcd etcd;
static uint8_t *shared;
static char owner[] = "owner", mortal[] = "mortal", near_one[] = "near", far_one[] = "far";

static int set_up(void **state)
{
    char endpoints[80];

    (void)state;
    etcd_start(&etcd);
    (void)snprintf(endpoints, sizeof endpoints, "http://%s", etcd.client);
    assert_int_equal(setenv("NIXL_ETCD_ENDPOINTS", endpoints, 1), 0);
    assert_int_equal(setenv("NIXL_ETCD_NAMESPACE", "/test/of/nixl", 1), 0);
    shared = stage_map(BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    etcd_end(&etcd);
    stage_unmap(shared, BYTES);
    return 0;
}

/* An agent that does as it is told: 's'end, 'i'nvalidate; until nobody tells it any more. */
static int act_as_owner(int in, int out, void *context)
{
    nixl_capi_agent_t agent = stage_agent(context);
    char letter;

    stage_register(agent, shared, BYTES);
    while (read(in, &letter, 1) == 1) {
        nixl_capi_status_t status = letter == 's' ? nixl_capi_send_local_md(agent, NULL)
                                                  : nixl_capi_invalidate_local_md(agent, NULL);

        stage_write(out, &status, sizeof status);
    }
    OK(nixl_capi_destroy_agent(agent));
    return 0;
}

static void tell(const struct stage_child *child, char letter)
{
    nixl_capi_status_t status = NIXL_CAPI_ERROR_EXCEPTION;

    stage_write(child->out, &letter, 1);
    stage_read(child->in, &status, sizeof status);
    OK(status);
}

static void await_known(nixl_capi_agent_t agent, const char *name, nixl_capi_status_t wanted)
{
    time_t until = time(NULL) + STAGE_PATIENCE_S;

    while (nixl_capi_check_remote_md(agent, name, NULL) != wanted) {
        assert_true(time(NULL) < until);
        (void)sched_yield();
    }
}

static void fetch(nixl_capi_agent_t agent, const char *name)
{
    OK(nixl_capi_fetch_remote_md(agent, name, NULL)); /* which waits until it is there */
    await_known(agent, name, NIXL_CAPI_SUCCESS);
}

static void read_all(nixl_capi_agent_t agent, const char *name, uint8_t *local, uint32_t seed)
{
    stage_fill(shared, BYTES, seed);
    nixl_capi_xfer_req_t request =
        stage_request(agent, NIXL_CAPI_XFER_OP_READ, name, local, shared, BYTES);
    OK(stage_run(agent, request));
    assert_true(stage_is(local, BYTES, seed));
    stage_end(agent, request);
}

/* Nothing can be asked of it. */
static void expect_unknown(nixl_capi_agent_t agent, const char *name, const uint8_t *local)
{
    nixl_capi_xfer_dlist_t here = stage_xfer(local, BYTES), there = stage_xfer(shared, BYTES);
    nixl_capi_xfer_dlist_handle_t list = NULL;
    nixl_capi_xfer_req_t request = NULL;

    assert_int_equal(
        nixl_capi_create_xfer_req(agent, NIXL_CAPI_XFER_OP_READ, here, there, name, &request, NULL),
        NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_prep_xfer_dlist(agent, name, there, &list, NULL),
                     NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_agent_make_connection(agent, name, NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(nixl_capi_gen_notif(agent, name, "x", 1, NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_destroy_xfer_dlist(here));
    OK(nixl_capi_destroy_xfer_dlist(there));
}

/* What etcd has under that name, in bytes of text. */
static size_t key_bytes(const char *name)
{
    char key[64], path[80];

    (void)snprintf(key, sizeof key, "test/of/nixl/agents/%s", name);
    (void)snprintf(path, sizeof path, "%s/keys", etcd.folder);
    etcd_control(&etcd, NULL, "keys", (const char *const[]){"get", "--keys-only", key, NULL});
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long bytes = ftell(file);
    (void)fclose(file);
    return (size_t)bytes;
}

static void delete_key(const char *name)
{
    char key[64];

    (void)snprintf(key, sizeof key, "test/of/nixl/agents/%s", name);
    etcd_control(&etcd, NULL, NULL, (const char *const[]){"del", key, NULL});
}

/* --- tests --- */

static void test_metadata_is_sent_fetched_used_and_invalidated(void **state)
{
    struct stage_child child = stage_fork(act_as_owner, owner);
    nixl_capi_agent_t agent = stage_agent("reader");
    uint8_t *local = stage_map(BYTES);

    (void)state;
    stage_register(agent, local, BYTES);
    for (uint32_t round = 1; round <= 3; round++) {
        tell(&child, 's');
        fetch(agent, "owner");
        assert_true(key_bytes("owner") > 0);
        if (round < 3) /* and in the end there was no connection */
            read_all(agent, "owner", local, round);
        tell(&child, 'i');
        await_known(agent, "owner", NIXL_CAPI_ERROR_NOT_FOUND);
        expect_unknown(agent, "owner", local);
        if (round == 1) /* who gives it up himself, too, is not told that it was not there */
            OK(nixl_capi_invalidate_remote_md(agent, "owner"));
    }
    assert_int_equal(nixl_capi_invalidate_remote_md(agent, "owner"), NIXL_CAPI_SUCCESS);
    assert_int_equal(nixl_capi_invalidate_remote_md(agent, "owner"), NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
    assert_int_equal(key_bytes("owner"), 0);
    stage_unmap(local, BYTES);
}

static void test_who_invalidates_goes_on_to_be_told_of_others(void **state)
{
    struct stage_child child = stage_fork(act_as_owner, owner);
    nixl_capi_agent_t agent = stage_agent("reader");

    (void)state;
    OK(nixl_capi_invalidate_local_md(agent, NULL)); /* nothing is there, and no directory open */
    tell(&child, 's');
    fetch(agent, "owner");
    OK(nixl_capi_send_local_md(agent, NULL));
    OK(nixl_capi_invalidate_local_md(agent, NULL));
    OK(nixl_capi_invalidate_local_md(agent, NULL));
    tell(&child, 'i');
    await_known(agent, "owner", NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
}

static void test_what_a_dead_agent_left_goes(void **state)
{
    struct stage_child child = stage_fork(act_as_owner, mortal);
    nixl_capi_agent_t agent = stage_agent("reader");

    (void)state;
    tell(&child, 's');
    fetch(agent, "mortal");
    assert_true(key_bytes("mortal") > 0);
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    assert_int_equal(stage_join(&child), -SIGKILL);
    await_known(agent, "mortal", NIXL_CAPI_ERROR_NOT_FOUND);
    assert_int_equal(key_bytes("mortal"), 0);
    OK(nixl_capi_destroy_agent(agent));
}

static void test_a_lost_entry_costs_no_connection(void **state)
{
    struct stage_child near = stage_fork(act_as_owner, near_one),
                       far = stage_fork(act_as_owner, far_one);
    nixl_capi_agent_t agent = stage_agent("reader");
    uint8_t *local = stage_map(BYTES);

    (void)state;
    stage_register(agent, local, BYTES);
    tell(&near, 's');
    tell(&far, 's');
    fetch(agent, "near");
    fetch(agent, "far");
    read_all(agent, "near", local, 1);
    /* So that they do not see it, and publish themselves again. */
    assert_int_equal(kill(near.pid, SIGSTOP), 0);
    assert_int_equal(kill(far.pid, SIGSTOP), 0);
    stage_await_stop(&near);
    stage_await_stop(&far);
    delete_key("near");
    delete_key("far");
    await_known(agent, "far", NIXL_CAPI_ERROR_NOT_FOUND); /* that we are told after the other */
    OK(nixl_capi_check_remote_md(agent, "near", NULL));
    assert_int_equal(kill(near.pid, SIGCONT), 0);
    assert_int_equal(kill(far.pid, SIGCONT), 0);
    read_all(agent, "near", local, 2);
    fetch(agent, "far"); /* which is there again */
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&far), 0); /* first: it has the other's pipe, too */
    assert_int_equal(stage_join(&near), 0);
    stage_unmap(local, BYTES);
}

/* Pieces of the owner's memory that differ in where they begin, or in how long they are. */
static nixl_capi_reg_dlist_t pieces_of_shared(size_t count)
{
    nixl_capi_reg_dlist_t list = NULL;

    OK(nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_DRAM, &list));
    for (size_t i = 0; i < count; i++)
        OK(nixl_capi_reg_dlist_add_desc(list, (uintptr_t)shared + i, 1, 0, NULL, 0));
    return list;
}

static nixl_capi_status_t check_piece(nixl_capi_agent_t agent, const char *name, size_t at)
{
    nixl_capi_xfer_dlist_t list = stage_xfer(shared + at, 1);

    nixl_capi_status_t status = nixl_capi_check_remote_md(agent, name, list);
    OK(nixl_capi_destroy_xfer_dlist(list));
    return status;
}

static void test_metadata_of_many_descriptors_goes_in_one_entry(void **state)
{
    enum { MANY = 40000 };
    nixl_capi_agent_t agent = stage_agent("reader"), other = stage_agent("many");
    nixl_capi_reg_dlist_t list = pieces_of_shared(MANY);
    void *bytes = NULL;
    size_t count = 0;

    (void)state;
    OK(nixl_capi_register_mem(other, list, NULL));
    OK(nixl_capi_get_local_md(other, &bytes, &count));
    assert_in_range(count, 512 << 10, 1536 << 10); /* which is the most that etcd takes */
    free(bytes);
    OK(nixl_capi_send_local_md(other, NULL));
    fetch(agent, "many");
    OK(check_piece(agent, "many", 0));
    OK(check_piece(agent, "many", MANY - 1));
    OK(nixl_capi_destroy_reg_dlist(list));
    OK(nixl_capi_destroy_agent(agent));
    OK(nixl_capi_destroy_agent(other));
}

/* Does what etcd has of an agent hold those bytes? */
static bool entry_has(const char *name, const void *bytes, size_t count)
{
    static uint8_t entry[1 << 16];
    char key[64], path[80];

    (void)snprintf(key, sizeof key, "test/of/nixl/agents/%s", name);
    (void)snprintf(path, sizeof path, "%s/entry", etcd.folder);
    etcd_control(&etcd, NULL, "entry",
                 (const char *const[]){"get", "--print-value-only", key, NULL});
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t length = fread(entry, 1, sizeof entry, file);
    (void)fclose(file);
    assert_in_range(length, 1, sizeof entry - 1);
    return memmem(entry, length, bytes, count) != NULL;
}

static void test_etcd_is_told_nothing_of_what_is_not_sent(void **state)
{
    nixl_capi_agent_t agent = stage_agent("reader"), other = stage_agent("careful");
    nixl_capi_reg_dlist_t sent = pieces_of_shared(3);
    uintptr_t told = (uintptr_t)shared + 2, hidden = (uintptr_t)shared + 4097;

    (void)state;
    OK(nixl_capi_register_mem(other, sent, NULL));
    stage_register(other, shared + 4097, 1);
    OK(nixl_capi_send_local_partial_md(other, sent, NULL));
    fetch(agent, "careful");
    OK(check_piece(agent, "careful", 2));
    assert_int_equal(check_piece(agent, "careful", 4097), NIXL_CAPI_ERROR_NOT_FOUND);
    assert_true(entry_has("careful", &told, sizeof told));
    assert_false(entry_has("careful", &hidden, sizeof hidden));
    OK(nixl_capi_destroy_reg_dlist(sent));
    OK(nixl_capi_destroy_agent(agent));
    OK(nixl_capi_destroy_agent(other));
}

int main(void)
{
    const char *plugin = getenv("LEND_NIXL_ETCD_PLUGIN");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata_is_sent_fetched_used_and_invalidated),
        cmocka_unit_test(test_who_invalidates_goes_on_to_be_told_of_others),
        cmocka_unit_test(test_what_a_dead_agent_left_goes),
        cmocka_unit_test(test_a_lost_entry_costs_no_connection),
        cmocka_unit_test(test_metadata_of_many_descriptors_goes_in_one_entry),
        cmocka_unit_test(test_etcd_is_told_nothing_of_what_is_not_sent),
    };

    if (plugin == NULL || plugin[0] == '\0') {
        (void)puts(
            "SKIP: this build has no plugin for etcd (libcurl4-openssl-dev, libjansson-dev)");
        return 77;
    }
    if (!etcd_is_installed()) {
        (void)puts("SKIP: no etcd and etcdctl in PATH (etcd-server, etcd-client)");
        return 77;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
