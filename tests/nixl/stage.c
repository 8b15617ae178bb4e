/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- agents --- */

nixl_capi_agent_t stage_agent_with(const char *name, const char *key, const char *value)
{
    nixl_capi_agent_t agent = NULL;
    nixl_capi_params_t params = NULL;
    nixl_capi_backend_t backend = NULL;

    OK(nixl_capi_create_agent(name, &agent));
    OK(nixl_capi_create_params(&params));
    if (key != NULL)
        OK(nixl_capi_params_add(params, key, value));
    OK(nixl_capi_create_backend(agent, "UCX", params, &backend));
    OK(nixl_capi_destroy_backend(backend));
    OK(nixl_capi_destroy_params(params));
    return agent;
}

nixl_capi_agent_t stage_agent(const char *name)
{
    return stage_agent_with(name, NULL, NULL);
}

void stage_load(nixl_capi_agent_t agent, nixl_capi_agent_t other)
{
    void *bytes = NULL;
    size_t count = 0;
    char *name = NULL;

    OK(nixl_capi_get_local_md(other, &bytes, &count));
    OK(nixl_capi_load_remote_md(agent, bytes, count, &name));
    free(name);
    free(bytes);
}

/* --- memory --- */

uint8_t *stage_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

void stage_unmap(void *memory, size_t bytes)
{
    assert_int_equal(munmap(memory, bytes), 0);
}

static uint8_t pattern(size_t at, uint32_t seed)
{
    return (uint8_t)((at * UINT64_C(0x9E3779B97F4A7C15) + seed) >> 56 ^ at);
}

void stage_fill(uint8_t *memory, size_t bytes, uint32_t seed)
{
    for (size_t i = 0; i < bytes; i++)
        memory[i] = pattern(i, seed);
}

bool stage_is(const uint8_t *memory, size_t bytes, uint32_t seed)
{
    for (size_t i = 0; i < bytes; i++)
        if (memory[i] != pattern(i, seed))
            return false;
    return true;
}

nixl_capi_reg_dlist_t stage_reg(const void *memory, size_t bytes)
{
    nixl_capi_reg_dlist_t list = NULL;

    OK(nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_DRAM, &list));
    OK(nixl_capi_reg_dlist_add_desc(list, (uintptr_t)memory, bytes, 0, NULL, 0));
    return list;
}

nixl_capi_xfer_dlist_t stage_pieces(const void *memory, size_t piece_bytes, size_t count)
{
    nixl_capi_xfer_dlist_t list = NULL;

    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &list));
    for (size_t i = 0; i < count; i++)
        OK(nixl_capi_xfer_dlist_add_desc(list, (uintptr_t)memory + i * piece_bytes, piece_bytes,
                                         0));
    return list;
}

nixl_capi_xfer_dlist_t stage_xfer(const void *memory, size_t bytes)
{
    return stage_pieces(memory, bytes, 1);
}

void stage_register(nixl_capi_agent_t agent, const void *memory, size_t bytes)
{
    nixl_capi_reg_dlist_t list = stage_reg(memory, bytes);

    OK(nixl_capi_register_mem(agent, list, NULL));
    OK(nixl_capi_destroy_reg_dlist(list));
}

nixl_capi_status_t stage_deregister(nixl_capi_agent_t agent, const void *memory, size_t bytes)
{
    nixl_capi_reg_dlist_t list = stage_reg(memory, bytes);
    nixl_capi_status_t status = nixl_capi_deregister_mem(agent, list, NULL);

    OK(nixl_capi_destroy_reg_dlist(list));
    return status;
}

/* --- requests --- */

nixl_capi_xfer_req_t stage_request(nixl_capi_agent_t agent, nixl_capi_xfer_op_t operation,
                                   const char *peer, const void *local, const void *remote,
                                   size_t bytes)
{
    nixl_capi_xfer_dlist_t here = stage_xfer(local, bytes), there = stage_xfer(remote, bytes);
    nixl_capi_xfer_req_t request = NULL;

    OK(nixl_capi_create_xfer_req(agent, operation, here, there, peer, &request, NULL));
    OK(nixl_capi_destroy_xfer_dlist(here));
    OK(nixl_capi_destroy_xfer_dlist(there));
    return request;
}

static time_t now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

nixl_capi_status_t stage_wait(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request)
{
    time_t until = now_s() + STAGE_PATIENCE_S;
    nixl_capi_status_t status;

    while ((status = nixl_capi_get_xfer_status(agent, request)) == NIXL_CAPI_IN_PROG) {
        assert_true(now_s() < until);
        (void)sched_yield();
    }
    return status;
}

nixl_capi_status_t stage_run(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request)
{
    nixl_capi_status_t status = nixl_capi_post_xfer_req(agent, request, NULL);

    return status == NIXL_CAPI_IN_PROG ? stage_wait(agent, request) : status;
}

void stage_end(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request)
{
    OK(nixl_capi_release_xfer_req(agent, request));
    OK(nixl_capi_destroy_xfer_req(request));
}

void stage_await_notifications(nixl_capi_agent_t agent, nixl_capi_notif_map_t map, const char *from,
                               size_t count)
{
    time_t until = now_s() + STAGE_PATIENCE_S;

    for (size_t have = 0; have < count;) {
        assert_true(now_s() < until);
        OK(nixl_capi_get_notifs(agent, map, NULL));
        if (nixl_capi_notif_map_get_notifs_size(map, from, &have) != NIXL_CAPI_SUCCESS)
            have = 0;
        (void)sched_yield();
    }
}

/* --- processes --- */

struct stage_child stage_fork(int (*act)(int in, int out, void *context), void *context)
{
    int to[2], from[2];

    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(2 * STAGE_PATIENCE_S);
        (void)close(to[1]);
        (void)close(from[0]);
        _exit(act(to[0], from[1], context));
    }
    (void)close(to[0]);
    (void)close(from[1]);
    return (struct stage_child){.pid = pid, .in = from[0], .out = to[1]};
}

int stage_join(struct stage_child *child)
{
    int status = 0;

    (void)close(child->in);
    (void)close(child->out);
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void stage_await_stop(const struct stage_child *child)
{
    int status = 0;

    assert_int_equal(waitpid(child->pid, &status, WUNTRACED), child->pid);
    assert_true(WIFSTOPPED(status));
}

void stage_write(int fd, const void *bytes, size_t count)
{
    for (const uint8_t *at = bytes; count > 0;) {
        ssize_t done = write(fd, at, count);

        assert_true(done > 0);
        at += done;
        count -= (size_t)done;
    }
}

void stage_read(int fd, void *bytes, size_t count)
{
    for (uint8_t *at = bytes; count > 0;) {
        ssize_t done = read(fd, at, count);

        assert_true(done > 0);
        at += done;
        count -= (size_t)done;
    }
}

void stage_tell(int fd, nixl_capi_agent_t agent)
{
    void *bytes = NULL;
    size_t count = 0;

    OK(nixl_capi_get_local_md(agent, &bytes, &count));
    stage_write(fd, &count, sizeof count);
    stage_write(fd, bytes, count);
    free(bytes);
}

void stage_learn(int fd, nixl_capi_agent_t agent, const char *name)
{
    size_t count = 0;
    char *told = NULL;

    stage_read(fd, &count, sizeof count);
    uint8_t *bytes = malloc(count);
    assert_non_null(bytes);
    stage_read(fd, bytes, count);
    OK(nixl_capi_load_remote_md(agent, bytes, count, &told));
    assert_string_equal(told, name);
    free(told);
    free(bytes);
}
