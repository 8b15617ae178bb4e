/* SPDX-License-Identifier: Apache-2.0 */
#include "nixl/agent.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Of NIXL's C ABI, as far as it is needed here. */

struct config {
    bool enable_prog_thread;
    bool enable_listen_thread;
    int listen_port;
    int thread_sync;
    unsigned num_workers;
    uint64_t pthr_delay_us;
    uint64_t lthr_delay_us;
    bool capture_telemetry;
};

static struct {
    int (*create_configured_agent)(const char *, const struct config *, void **);
    int (*create_params)(void **);
    int (*params_add)(void *, const char *, const char *);
    int (*create_backend)(void *, const char *, void *, void **);
    int (*create_reg_dlist)(int, void **);
    int (*reg_dlist_add_desc)(void *, uintptr_t, size_t, uint64_t, const void *, size_t);
    int (*register_mem)(void *, void *, void *);
    int (*get_local_md)(void *, void **, size_t *);
    int (*load_remote_md)(void *, const void *, size_t, char **);
    int (*invalidate_remote_md)(void *, const char *);
    int (*create_xfer_dlist)(int, void **);
    int (*destroy_xfer_dlist)(void *);
    int (*xfer_dlist_add_desc)(void *, uintptr_t, size_t, uint64_t);
    int (*create_xfer_req)(void *, int, void *, void *, const char *, void **, void *);
    int (*post_xfer_req)(void *, void *, void *);
    int (*get_xfer_status)(void *, void *);
    int (*release_xfer_req)(void *, void *);
    int (*destroy_xfer_req)(void *);
    int (*gen_notif)(void *, const char *, const void *, size_t, void *);
    int (*create_notif_map)(void **);
    int (*notif_map_clear)(void *);
    int (*get_notifs)(void *, void *, void *);
    int (*notif_map_size)(void *, size_t *);
    int (*notif_map_get_agent_at)(void *, size_t, const char **);
    int (*notif_map_get_notifs_size)(void *, const char *, size_t *);
    int (*notif_map_get_notif)(void *, const char *, size_t, const void **, size_t *);
} nixl;

#define ENTRY(name)                                                                                \
    {                                                                                              \
        "nixl_capi_" #name, &nixl.name                                                             \
    }
static const struct {
    const char *name;
    void *slot;
} entries[] = {
    ENTRY(create_configured_agent),
    ENTRY(create_params),
    ENTRY(params_add),
    ENTRY(create_backend),
    ENTRY(create_reg_dlist),
    ENTRY(reg_dlist_add_desc),
    ENTRY(register_mem),
    ENTRY(get_local_md),
    ENTRY(load_remote_md),
    ENTRY(invalidate_remote_md),
    ENTRY(create_xfer_dlist),
    ENTRY(destroy_xfer_dlist),
    ENTRY(xfer_dlist_add_desc),
    ENTRY(create_xfer_req),
    ENTRY(post_xfer_req),
    ENTRY(get_xfer_status),
    ENTRY(release_xfer_req),
    ENTRY(destroy_xfer_req),
    ENTRY(gen_notif),
    ENTRY(create_notif_map),
    ENTRY(notif_map_clear),
    ENTRY(get_notifs),
    ENTRY(notif_map_size),
    ENTRY(notif_map_get_agent_at),
    ENTRY(notif_map_get_notifs_size),
    ENTRY(notif_map_get_notif),
};

static struct {
    void *agent;
    void *map;
    uint8_t *memory;
    char loaded[256];
} self;

static bool open_library(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

    if (handle == NULL)
        (void)fprintf(stderr, "%s\n", dlerror());
    for (size_t i = 0; handle != NULL && i < sizeof entries / sizeof entries[0]; i++) {
        void *symbol = dlsym(handle, entries[i].name);

        if (symbol == NULL)
            return false;
        memcpy(entries[i].slot, &symbol, sizeof symbol);
    }
    return handle != NULL;
}

static bool make_agent(const char *name)
{
    const struct config config = {.enable_prog_thread = true, .thread_sync = 1};
    void *params = NULL, *backend = NULL, *list = NULL;

    self.memory = calloc(1, NIXL_MEMORY_BYTES);
    return self.memory != NULL && nixl.create_configured_agent(name, &config, &self.agent) == 0 &&
           nixl.create_params(&params) == 0 &&
           nixl.params_add(params, "engine_config", "NET_DEVICES=lo") == 0 &&
           nixl.create_backend(self.agent, "UCX", params, &backend) == 0 &&
           nixl.create_reg_dlist(0, &list) == 0 &&
           nixl.reg_dlist_add_desc(list, (uintptr_t)self.memory, NIXL_MEMORY_BYTES, 0, NULL, 0) ==
               0 &&
           nixl.register_mem(self.agent, list, NULL) == 0 && nixl.create_notif_map(&self.map) == 0;
}

static int tell(struct nixl_answer *answer)
{
    void *bytes = NULL;
    size_t count = 0;
    int result = nixl.get_local_md(self.agent, &bytes, &count);

    if (result == 0 && count <= sizeof answer->bytes) {
        memcpy(answer->bytes, bytes, count);
        answer->byte_count = (uint32_t)count;
    }
    return result;
}

static int load(const struct nixl_order *order, struct nixl_answer *answer)
{
    char *name = NULL;
    int result = nixl.load_remote_md(self.agent, order->bytes, order->byte_count, &name);

    if (result == 0) {
        (void)snprintf(self.loaded, sizeof self.loaded, "%s", name);
        answer->byte_count = (uint32_t)strlen(name);
        memcpy(answer->bytes, name, answer->byte_count);
    }
    return result;
}

static int move(const struct nixl_order *order, int operation)
{
    void *local = NULL, *remote = NULL, *request = NULL;

    (void)nixl.create_xfer_dlist(0, &local);
    (void)nixl.create_xfer_dlist(0, &remote);
    (void)nixl.xfer_dlist_add_desc(local, (uintptr_t)self.memory + order->offset, order->length, 0);
    (void)nixl.xfer_dlist_add_desc(remote, (uintptr_t)order->address, order->length, 0);
    int result =
        nixl.create_xfer_req(self.agent, operation, local, remote, self.loaded, &request, NULL);
    if (result == 0) {
        result = nixl.post_xfer_req(self.agent, request, NULL);
        for (time_t until = time(NULL) + 20; result == 1 && time(NULL) < until;)
            result = nixl.get_xfer_status(self.agent, request);
        (void)nixl.release_xfer_req(self.agent, request);
        (void)nixl.destroy_xfer_req(request);
    }
    (void)nixl.destroy_xfer_dlist(local);
    (void)nixl.destroy_xfer_dlist(remote);
    return result;
}

static int await(struct nixl_answer *answer)
{
    size_t agents = 0, length = 0;
    const char *name = NULL;
    const void *bytes = NULL;

    for (time_t until = time(NULL) + 20; agents == 0 && time(NULL) < until;) {
        (void)nixl.get_notifs(self.agent, self.map, NULL);
        (void)nixl.notif_map_size(self.map, &agents);
    }
    if (agents == 0 || nixl.notif_map_get_agent_at(self.map, 0, &name) != 0 ||
        nixl.notif_map_get_notif(self.map, name, 0, &bytes, &length) != 0)
        return -1;
    int head = snprintf((char *)answer->bytes, sizeof answer->bytes, "%s", name);
    memcpy(answer->bytes + head + 1, bytes, length);
    answer->byte_count = (uint32_t)((size_t)head + 1 + length);
    return nixl.notif_map_clear(self.map);
}

static int storm(const struct nixl_order *order)
{
    int result = 0;

    for (time_t until = time(NULL) + 20; result == 0 && time(NULL) < until;)
        result = move(order, 1);
    return result;
}

static int obey(const struct nixl_order *order, struct nixl_answer *answer)
{
    switch ((enum nixl_verb)order->verb) {
    case NIXL_TELL: return tell(answer);
    case NIXL_LOAD: return load(order, answer);
    case NIXL_READ: return move(order, 0);
    case NIXL_WRITE: return move(order, 1);
    case NIXL_NOTIFY:
        return nixl.gen_notif(self.agent, self.loaded, order->bytes, order->byte_count, NULL);
    case NIXL_AWAIT: return await(answer);
    case NIXL_FILL:
        for (uint64_t i = 0; i < NIXL_MEMORY_BYTES; i++)
            self.memory[i] = nixl_pattern(order->address, i);
        return 0;
    case NIXL_SHOW:
        memcpy(answer->bytes, self.memory + order->offset, order->length);
        answer->byte_count = (uint32_t)order->length;
        return 0;
    case NIXL_ADDRESS: answer->address = (uintptr_t)self.memory; return 0;
    case NIXL_STORM: return storm(order);
    case NIXL_FORGET: return nixl.invalidate_remote_md(self.agent, self.loaded);
    }
    return -100;
}

static bool get(int from, void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t more = read(from, (char *)bytes + done, count - done);

        if (more <= 0)
            return false;
        done += (size_t)more;
    }
    return true;
}

static bool put(int to, const void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t more = write(to, (const char *)bytes + done, count - done);

        if (more <= 0)
            return false;
        done += (size_t)more;
    }
    return true;
}

void nixl_agent_serve(const char *library, const char *name)
{
    static struct nixl_order order;
    static struct nixl_answer answer;
    int from = STDIN_FILENO, to = dup(STDOUT_FILENO);

    (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* whatever prints shall not answer */
    answer = (struct nixl_answer){0};
    answer.result = open_library(library) && make_agent(name) ? 0 : -1;
    if (!put(to, &answer, sizeof answer) || answer.result != 0)
        return;
    while (get(from, &order, sizeof order)) {
        answer = (struct nixl_answer){0};
        answer.result = obey(&order, &answer);
        if (!put(to, &answer, sizeof answer))
            return;
    }
}

int nixl_agent_begin(struct nixl_agent *agent, const char *library, const char *name)
{
    static struct nixl_answer answer;
    int down[2], up[2];

    (void)signal(SIGPIPE, SIG_IGN); /* a dead one is told as that */
    if (pipe(down) != 0 || pipe(up) != 0)
        return -1;
    agent->pid = fork();
    if (agent->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(down[1]);
        (void)close(up[0]);
        if (dup2(down[0], STDIN_FILENO) >= 0 && dup2(up[1], STDOUT_FILENO) >= 0)
            (void)execl("/proc/self/exe", "nixl-agent", NIXL_AGENT_WORD, library, name, NULL);
        _exit(1);
    }
    (void)close(down[0]);
    (void)close(up[1]);
    agent->to = down[1];
    agent->from = up[0];
    return get(agent->from, &answer, sizeof answer) && answer.result == 0 ? 0 : -1;
}

int nixl_agent_order(const struct nixl_agent *agent, const struct nixl_order *order)
{
    return put(agent->to, order, sizeof *order) ? 0 : -1;
}

int nixl_agent_answer(const struct nixl_agent *agent, struct nixl_answer *answer)
{
    return get(agent->from, answer, sizeof *answer) ? 0 : -1;
}

int nixl_agent_tell(const struct nixl_agent *agent, const struct nixl_order *order,
                    struct nixl_answer *answer)
{
    return nixl_agent_order(agent, order) == 0 ? nixl_agent_answer(agent, answer) : -1;
}

void nixl_agent_end(struct nixl_agent *agent, int signal)
{
    if (agent->pid <= 0)
        return;
    if (signal != 0)
        (void)kill(agent->pid, signal);
    (void)close(agent->to);
    (void)close(agent->from);
    (void)waitpid(agent->pid, NULL, 0);
    agent->pid = 0;
}
