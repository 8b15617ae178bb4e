/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: metadata goes to a listener, is fetched from it, and is taken back there; who does not know
 * the secret of the listeners is told nothing, though he asks at the right port. Method: agents of
 * this process that listen on ports which were free a moment ago, and a folder of the test's own
 * for the secret.
 */
#include "stage.h"

#include <arpa/inet.h>
#include <lend/lend.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/lend-nixl-XXXXXX";

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

/* An agent that listens, with a backend. */
static nixl_capi_agent_t listener(const char *name, int port)
{
    const nixl_capi_agent_config_t config = {
        .enable_prog_thread = true, .enable_listen_thread = true, .listen_port = port};
    nixl_capi_agent_t agent = NULL;
    nixl_capi_params_t params = NULL;
    nixl_capi_backend_t backend = NULL;

    OK(nixl_capi_create_configured_agent(name, &config, &agent));
    OK(nixl_capi_create_params(&params));
    OK(nixl_capi_create_backend(agent, "UCX", params, &backend));
    OK(nixl_capi_destroy_backend(backend));
    OK(nixl_capi_destroy_params(params));
    return agent;
}

static nixl_capi_opt_args_t at_port(int port)
{
    nixl_capi_opt_args_t options = NULL;

    OK(nixl_capi_create_opt_args(&options));
    OK(nixl_capi_opt_args_set_ip_addr(options, "127.0.0.1"));
    OK(nixl_capi_opt_args_set_port(options, (uint16_t)port));
    return options;
}

static void await_known(nixl_capi_agent_t agent, const char *name, nixl_capi_status_t wanted)
{
    time_t until = time(NULL) + STAGE_PATIENCE_S;

    while (nixl_capi_check_remote_md(agent, name, NULL) != wanted) {
        assert_true(time(NULL) < until);
        (void)sched_yield();
    }
}

static bool has_plugin(void)
{
    const char *plugin = getenv("LEND_NIXL_SECRET_PLUGIN");

    if (plugin != NULL && plugin[0] != '\0')
        return true;
    print_message("skipped: this build has no plugin for the secret\n");
    return false;
}

static void test_metadata_is_sent_fetched_and_taken_back(void **state)
{
    const int port = free_port();
    uint8_t *memory = stage_map(1 << 16);

    (void)state;
    if (!has_plugin())
        skip();
    nixl_capi_agent_t agent = listener("listener", port), caller = stage_agent("caller");
    nixl_capi_opt_args_t options = at_port(port);

    stage_register(agent, memory, 4096);
    stage_register(caller, memory + 8192, 4096);
    OK(nixl_capi_fetch_remote_md(caller, "listener", options));
    OK(nixl_capi_send_local_md(caller, options));
    await_known(caller, "listener", NIXL_CAPI_SUCCESS);
    await_known(agent, "caller", NIXL_CAPI_SUCCESS);

    stage_fill(memory + 8192, 4096, 9);
    nixl_capi_xfer_req_t request =
        stage_request(caller, NIXL_CAPI_XFER_OP_WRITE, "listener", memory + 8192, memory, 4096);
    OK(stage_run(caller, request));
    assert_memory_equal(memory, memory + 8192, 4096);
    stage_end(caller, request);

    OK(nixl_capi_invalidate_local_md(caller, options));
    await_known(agent, "caller", NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_destroy_opt_args(options));
    OK(nixl_capi_destroy_agent(caller));
    OK(nixl_capi_destroy_agent(agent));
    stage_unmap(memory, 1 << 16);
}

static enum lend_status fetch_with(int port, const char *secret)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_found *found = NULL;
    char address[32];

    config.name = "stranger";
    config.transports = "tcp";
    config.secret = secret;
    config.secret_bytes = secret != NULL ? (uint32_t)strlen(secret) : 0;
    config.secret_plugin = getenv("LEND_NIXL_SECRET_PLUGIN");
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", port);
    enum lend_status status = lend_fetch(agent, address, UINT64_C(5000000000), &found, NULL);
    lend_found_release(found);
    lend_agent_destroy(agent);
    return status;
}

static void test_strangers_are_told_nothing(void **state)
{
    const int port = free_port();

    (void)state;
    if (!has_plugin())
        skip();
    (void)setenv("LEND_NIXL_SECRET", "the secret of this fleet", 1);
    nixl_capi_agent_t agent = listener("listener", port);
    (void)unsetenv("LEND_NIXL_SECRET");
    assert_int_not_equal(fetch_with(port, NULL), LEND_OK);
    assert_int_equal(fetch_with(port, "another secret, as long"), LEND_E_ACCESS);
    assert_int_equal(fetch_with(port, "the secret of this fleet"), LEND_OK);
    OK(nixl_capi_destroy_agent(agent));
}

static void test_a_taken_port_is_an_error(void **state)
{
    const int port = free_port();
    const nixl_capi_agent_config_t config = {.enable_listen_thread = true, .listen_port = port};
    nixl_capi_agent_t second = NULL;

    (void)state;
    if (!has_plugin())
        skip();
    nixl_capi_agent_t agent = listener("listener", port);
    assert_int_equal(nixl_capi_create_configured_agent("second", &config, &second),
                     NIXL_CAPI_ERROR_BACKEND);
    assert_null(second);
    OK(nixl_capi_destroy_agent(agent));
}

static void test_a_secret_that_others_can_read_is_none(void **state)
{
    const nixl_capi_agent_config_t config = {.enable_listen_thread = true,
                                             .listen_port = free_port()};
    char path[64];
    nixl_capi_agent_t agent = NULL;

    (void)state;
    if (!has_plugin())
        skip();
    (void)snprintf(path, sizeof path, "%s/nixl-secret", folder);
    OK(nixl_capi_create_configured_agent("first", &config, &agent)); /* makes it */
    OK(nixl_capi_destroy_agent(agent));
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(nixl_capi_create_configured_agent("second", &config, &agent),
                     NIXL_CAPI_ERROR_BACKEND);
    assert_int_equal(chmod(path, 0600), 0);
}

static void test_without_an_address_or_a_directory_nothing_is_sent(void **state)
{
    nixl_capi_agent_t agent = stage_agent("agent");
    nixl_capi_opt_args_t options = NULL;

    (void)state;
    (void)unsetenv("NIXL_ETCD_ENDPOINTS");
    assert_int_equal(nixl_capi_send_local_md(agent, NULL), NIXL_CAPI_ERROR_INVALID_PARAM);
    assert_int_equal(nixl_capi_fetch_remote_md(agent, "other", NULL),
                     NIXL_CAPI_ERROR_INVALID_PARAM);
    OK(nixl_capi_create_opt_args(&options));
    OK(nixl_capi_opt_args_set_ip_addr(options, "a name"));
    assert_int_equal(nixl_capi_send_local_md(agent, options), NIXL_CAPI_ERROR_INVALID_PARAM);
    OK(nixl_capi_destroy_opt_args(options));
    OK(nixl_capi_destroy_agent(agent));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata_is_sent_fetched_and_taken_back),
        cmocka_unit_test(test_strangers_are_told_nothing),
        cmocka_unit_test(test_a_taken_port_is_an_error),
        cmocka_unit_test(test_a_secret_that_others_can_read_is_none),
        cmocka_unit_test(test_without_an_address_or_a_directory_nothing_is_sent),
    };
    char path[64];

    if (mkdtemp(folder) == NULL)
        return 1;
    (void)setenv("XDG_RUNTIME_DIR", folder, 1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(path, sizeof path, "%s/nixl-secret", folder);
    (void)unlink(path);
    (void)rmdir(folder);
    return failed;
}
