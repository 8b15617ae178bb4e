/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: between processes, a request that was released is quiet; memory that was taken back may be
 * unmapped whatever the other side is doing; who dies is noticed, and who comes back under its name
 * is known again; who does not know the key in the metadata is not let in. Method: a child for the
 * other side. It is stopped and continued by signals, so that a transfer is under way for as long
 * as the test needs it to be, and by no sleep. What landed where is seen in memory that both map.
 */
#include "stage.h"

#include "blob.h"
#include "sanitizer.h"

#include <dlfcn.h>
#include <lend/lend.h>
#include <signal.h>
#include <unistd.h>

enum { MIB = 1 << 20, LARGE = 256 * MIB };

static uint8_t *shared; /* LARGE of them */

static int set_up(void **state)
{
    (void)state;
    shared = stage_map(LARGE);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (shared != NULL)
        stage_unmap(shared, LARGE);
    return 0;
}

/* Parameters of create_backend(). */
struct setting {
    const char *key;
    const char *value;
};

static struct setting by_tcp = {"lend_transports", "tcp"};
static struct setting by_ucx = {"lend_ucx_devices", "lo"};

/* A target as a program of NIXL is: it registers, tells, and calls nothing more. */
static int act_as_target(int in, int out, void *context)
{
    const struct setting *setting = context;
    nixl_capi_agent_t agent = setting != NULL
                                  ? stage_agent_with("target", setting->key, setting->value)
                                  : stage_agent("target");
    uint8_t end;

    stage_register(agent, shared, LARGE);
    stage_tell(out, agent);
    return read(in, &end, 1) == 1 ? 1 : 0; /* until the other end is closed */
}

static nixl_capi_agent_t meet(const struct stage_child *child, const char *name, void *memory,
                              size_t bytes)
{
    nixl_capi_agent_t agent = stage_agent(name);

    if (bytes > 0)
        stage_register(agent, memory, bytes);
    stage_learn(child->in, agent, "target");
    return agent;
}

/* Once it has moved something, the two are connected. */
static void warm_up(nixl_capi_agent_t agent, const void *local)
{
    nixl_capi_xfer_req_t request =
        stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "target", local, shared, 4096);

    OK(stage_run(agent, request));
    stage_end(agent, request);
}

static void test_a_released_request_is_quiet(void **state)
{
    struct stage_child child = stage_fork(act_as_target, NULL);
    uint8_t *local = stage_map(LARGE), *copy = malloc(LARGE);
    nixl_capi_agent_t agent = meet(&child, "initiator", local, LARGE);

    (void)state;
    assert_non_null(copy);
    memset(local, 0xA5, LARGE);
    warm_up(agent, local);
    assert_int_equal(kill(child.pid, SIGSTOP), 0);
    stage_await_stop(&child);
    nixl_capi_xfer_req_t request =
        stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "target", local, shared, LARGE);
    assert_int_equal(nixl_capi_post_xfer_req(agent, request, NULL), NIXL_CAPI_IN_PROG);

    /* Nobody can say that it is quiet, so nobody does. NIXL does, and all of it lands later. */
    assert_int_equal(nixl_capi_release_xfer_req(agent, request), NIXL_CAPI_ERROR_BACKEND);
    assert_int_equal(nixl_capi_get_xfer_status(agent, request), NIXL_CAPI_IN_PROG);
    assert_int_equal(kill(child.pid, SIGCONT), 0);
    OK(nixl_capi_release_xfer_req(agent, request));
    memcpy(copy, shared, LARGE);
    OK(nixl_capi_destroy_xfer_req(request));

    /* What is asked for later is done later than anything that might still land. */
    for (int i = 0; i < 16; i++)
        warm_up(agent, local);
    assert_memory_equal(copy, shared, LARGE);
    assert_true(copy[LARGE - 1] == 0); /* it was given up before its end */
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
    free(copy);
    stage_unmap(local, LARGE);
}

static void test_our_memory_is_ours_again_with_a_request_under_way(void **state)
{
    struct stage_child child = stage_fork(act_as_target, NULL);
    uint8_t *local = stage_map(LARGE);
    nixl_capi_agent_t agent = meet(&child, "initiator", local, LARGE);

    (void)state;
    warm_up(agent, local);
    assert_int_equal(kill(child.pid, SIGSTOP), 0);
    stage_await_stop(&child);
    nixl_capi_xfer_req_t read =
        stage_request(agent, NIXL_CAPI_XFER_OP_READ, "target", local, shared, LARGE);
    nixl_capi_xfer_req_t write =
        stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "target", local, shared, LARGE);
    assert_int_equal(nixl_capi_post_xfer_req(agent, read, NULL), NIXL_CAPI_IN_PROG);
    assert_int_equal(nixl_capi_post_xfer_req(agent, write, NULL), NIXL_CAPI_IN_PROG);
    OK(stage_deregister(agent, local, LARGE));
    stage_unmap(local, LARGE); /* whoever touches it now dies of it */
    assert_int_equal(kill(child.pid, SIGCONT), 0);
    assert_int_equal(stage_wait(agent, read), NIXL_CAPI_ERROR_BACKEND);
    assert_int_equal(stage_wait(agent, write), NIXL_CAPI_ERROR_BACKEND);
    stage_end(agent, read);
    stage_end(agent, write);
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
}

/* An initiator that stops with a request under way, and tells how it ended. */
static int act_as_initiator(int in, int out, void *context)
{
    const nixl_capi_xfer_op_t operation = *(const nixl_capi_xfer_op_t *)context;
    nixl_capi_agent_t agent = stage_agent("initiator");
    uint8_t *local = stage_map(LARGE);

    (void)out;
    stage_register(agent, local, LARGE);
    stage_learn(in, agent, "target");
    warm_up(agent, local);
    nixl_capi_xfer_req_t request = stage_request(agent, operation, "target", local, shared, LARGE);
    assert_int_equal(nixl_capi_post_xfer_req(agent, request, NULL), NIXL_CAPI_IN_PROG);
    (void)raise(SIGSTOP);
    nixl_capi_status_t status = stage_wait(agent, request);
    stage_end(agent, request);
    OK(nixl_capi_destroy_agent(agent));
    return status == NIXL_CAPI_ERROR_BACKEND ? 0 : 1;
}

static void take_back_under(nixl_capi_xfer_op_t operation)
{
    struct stage_child child = stage_fork(act_as_initiator, &operation);
    nixl_capi_agent_t agent = stage_agent("target");

    stage_register(agent, shared, LARGE);
    stage_tell(child.out, agent);
    stage_await_stop(&child);
    OK(stage_deregister(agent, shared, LARGE));
    stage_unmap(shared, LARGE); /* NIXL goes on with it */
    shared = NULL;
    assert_int_equal(kill(child.pid, SIGCONT), 0);
    assert_int_equal(stage_join(&child), 0);
    OK(nixl_capi_destroy_agent(agent));
}

static void test_memory_that_a_peer_reads_can_be_taken_back(void **state)
{
    (void)state;
    take_back_under(NIXL_CAPI_XFER_OP_READ);
}

static void test_memory_that_a_peer_writes_can_be_taken_back(void **state)
{
    (void)state;
    take_back_under(NIXL_CAPI_XFER_OP_WRITE);
}

static void test_who_dies_is_noticed_and_may_come_back(void **state)
{
    struct stage_child child = stage_fork(act_as_target, NULL);
    uint8_t *local = stage_map(LARGE);
    nixl_capi_agent_t agent = meet(&child, "initiator", local, LARGE);
    nixl_capi_agent_t other = stage_agent("other");

    (void)state;
    stage_register(other, local, LARGE);
    stage_load(agent, other);
    warm_up(agent, local);
    assert_int_equal(kill(child.pid, SIGSTOP), 0);
    stage_await_stop(&child);
    nixl_capi_xfer_req_t request =
        stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "target", local, shared, LARGE);
    assert_int_equal(nixl_capi_post_xfer_req(agent, request, NULL), NIXL_CAPI_IN_PROG);
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    assert_int_equal(stage_join(&child), -SIGKILL);
    assert_int_equal(stage_wait(agent, request), NIXL_CAPI_ERROR_BACKEND);
    assert_int_equal(nixl_capi_check_remote_md(agent, "target", NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    stage_end(agent, request);

    request = stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "other", local, local + MIB, MIB);
    OK(stage_run(agent, request)); /* others are none the worse for it */
    stage_end(agent, request);

    child = stage_fork(act_as_target, NULL);
    stage_learn(child.in, agent, "target"); /* and nobody had to forget the dead one */
    warm_up(agent, local);
    OK(nixl_capi_destroy_agent(agent));
    OK(nixl_capi_destroy_agent(other));
    assert_int_equal(stage_join(&child), 0);
    stage_unmap(local, LARGE);
}

static void test_who_restarts_idle_is_met_anew(void **state)
{
    struct stage_child child = stage_fork(act_as_target, NULL);
    uint8_t *local = stage_map(LARGE);
    nixl_capi_agent_t agent = meet(&child, "initiator", local, LARGE);

    (void)state;
    warm_up(agent, local);
    assert_int_equal(stage_join(&child), 0);
    child = stage_fork(act_as_target, NULL);
    stage_learn(child.in, agent, "target"); /* NIXL: not allowed */
    warm_up(agent, local);
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
    stage_unmap(local, LARGE);
}

/* --- by tcp, where the key is asked for --- */

static void *read_metadata(int fd, size_t *count)
{
    stage_read(fd, count, sizeof *count);
    void *bytes = malloc(*count);

    assert_non_null(bytes);
    stage_read(fd, bytes, *count);
    return bytes;
}

/* Connect with another key than that of the metadata, or with none. */
static enum lend_status connect_with(const struct compat_blob *blob, const void *key)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;
    struct lend_agent *agent = NULL;
    struct lend_peer *peer = NULL;

    config.name = "stranger";
    config.transports = "tcp";
    config.secret_plugin = getenv("LEND_NIXL_SECRET_PLUGIN");
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    desc.secret = key;
    desc.secret_bytes = key != NULL ? COMPAT_KEY_BYTES : 0;
    assert_int_equal(lend_peer_import_with(agent, blob->metadata.bytes, blob->metadata.count, &desc,
                                           &peer, NULL),
                     LEND_OK);
    enum lend_status status = lend_peer_connect(peer, UINT64_C(5000000000), NULL);
    lend_agent_destroy(agent);
    return status;
}

static void test_by_a_network_the_key_opens_and_nothing_else(void **state)
{
    const char *plugin = getenv("LEND_NIXL_SECRET_PLUGIN");

    (void)state;
    if (plugin == NULL || plugin[0] == '\0') {
        print_message("skipped: this build has no plugin for the secret\n");
        skip();
    }
    struct stage_child child = stage_fork(act_as_target, &by_tcp);
    uint8_t wrong[COMPAT_KEY_BYTES] = {1};
    uint8_t *local = stage_map(LARGE);
    struct compat_blob blob;
    size_t count = 0;
    char *name = NULL;
    void *bytes = read_metadata(child.in, &count);

    assert_null(compat_blob_decode(bytes, count, &blob));
    assert_int_equal(blob.key.count, COMPAT_KEY_BYTES);
    assert_int_not_equal(connect_with(&blob, NULL), LEND_OK);
    assert_int_equal(connect_with(&blob, wrong), LEND_E_ACCESS);
    assert_int_equal(connect_with(&blob, blob.key.bytes), LEND_OK);

    nixl_capi_agent_t agent = stage_agent_with("initiator", by_tcp.key, by_tcp.value);
    stage_register(agent, local, LARGE);
    stage_fill(local, MIB, 5);
    OK(nixl_capi_load_remote_md(agent, bytes, count, &name));
    nixl_capi_xfer_req_t request =
        stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "target", local, shared, MIB);
    OK(stage_run(agent, request));
    assert_true(stage_is(shared, MIB, 5));
    stage_end(agent, request);
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
    free(name);
    free(bytes);
    stage_unmap(local, LARGE);
}

/* --- by devices that are named --- */

static void test_devices_that_cannot_be_used_are_an_error(void **state)
{
    nixl_capi_agent_t agent = NULL;
    nixl_capi_params_t params = NULL;
    nixl_capi_backend_t backend = NULL;

    (void)state;
    OK(nixl_capi_create_agent("asker", &agent));
    OK(nixl_capi_create_params(&params));
    OK(nixl_capi_params_add(params, "lend_ucx_devices", "no_such_device"));
    assert_int_equal(nixl_capi_create_backend(agent, "UCX", params, &backend),
                     NIXL_CAPI_ERROR_BACKEND);
    assert_null(backend);
    OK(nixl_capi_destroy_params(params));
    OK(nixl_capi_destroy_agent(agent));
}

/* Why it cannot be used; NULL: it can. */
static const char *find_fault_of_ucx(void)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;

    if (UNDER_TSAN)
        return UCX_TSAN_REASON;
    config.name = "asker";
    config.transports = "ucx";
    if (lend_agent_create(&config, &agent, NULL) == LEND_E_INVALID)
        return "this build has no transport ucx";
    return dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL) == NULL ? dlerror() : NULL;
}

static void test_peers_meet_by_ucx_where_its_devices_are_named(void **state)
{
    const char *fault = find_fault_of_ucx();

    (void)state;
    if (fault != NULL) {
        print_message("skipped: %s\n", fault);
        skip();
    }
    (void)setenv("LEND_NIXL_TRANSPORTS", "ucx", 1);
    struct stage_child child = stage_fork(act_as_target, &by_ucx);
    uint8_t *local = stage_map(LARGE);
    nixl_capi_agent_t agent = stage_agent_with("initiator", by_ucx.key, by_ucx.value);

    stage_register(agent, local, LARGE);
    stage_fill(local, MIB, 6);
    stage_learn(child.in, agent, "target");
    nixl_capi_xfer_req_t request =
        stage_request(agent, NIXL_CAPI_XFER_OP_WRITE, "target", local, shared, MIB);
    OK(stage_run(agent, request));
    assert_true(stage_is(shared, MIB, 6));
    stage_end(agent, request);
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(stage_join(&child), 0);
    stage_unmap(local, LARGE);
    (void)unsetenv("LEND_NIXL_TRANSPORTS");
}

#define STAGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_a_released_request_is_quiet),
        STAGED(test_our_memory_is_ours_again_with_a_request_under_way),
        STAGED(test_memory_that_a_peer_reads_can_be_taken_back),
        STAGED(test_memory_that_a_peer_writes_can_be_taken_back),
        STAGED(test_who_dies_is_noticed_and_may_come_back),
        STAGED(test_who_restarts_idle_is_met_anew),
        STAGED(test_by_a_network_the_key_opens_and_nothing_else),
        STAGED(test_peers_meet_by_ucx_where_its_devices_are_named),
        STAGED(test_devices_that_cannot_be_used_are_an_error),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
